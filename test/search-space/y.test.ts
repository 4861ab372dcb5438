import { test } from "vitest";
import { renderDiagnostics } from "../../grammar/render.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { elaborateSearch, candidateOf, winnerSource } from "../../compiler/search/elaborate.ts";
import { NET, tiny, searchText, sourceOf } from "./programs.ts";
import { resolveWith } from "../elaborate/programs.ts";
test("x", () => {
  const { source, resolve } = openEntry("examples/search.net");
  for (const search of ["Ablation", "Placement", "Stages"]) {
    const t = performance.now();
    const r = elaborateSearch(source, resolve, { search });
    console.log(search, (performance.now() - t).toFixed(0), r.search?.space.points, r.search?.space.candidates.length, r.search?.space.candidates.filter(c => c.refused === undefined).length, renderDiagnostics(r.diagnostics));
    const u = performance.now();
    const c = candidateOf(source, resolve, { search, levels: r.search?.space.candidates.at(-1)?.levels ?? [], complete: false });
    console.log("candidateOf", performance.now() - u, c.model?.name, renderDiagnostics(c.diagnostics));
    const w = winnerSource(source, resolve, { search, levels: r.search?.space.candidates.at(-1)?.levels ?? [], complete: false });
    console.log(w.text, renderDiagnostics(w.diagnostics));
  }
  for (const text of [
    `recipe R {}\nsearch A { choose s in subsets({@conv1_1, @conv1_2, @conv2_1, @conv2_2, @conv3_1, @conv3_2, @conv3_3, @conv4_1, @conv4_2, @conv4_3, @conv5_1, @conv5_2, @conv5_3})\n model = VGG16(classes=4) ×2 over spatial: RGB, temporal: Flow with STIA at s\n recipe = R }`,
    `recipe R {}\nsearch A { choose s in subsets({@"layer1[0]", @"layer1[1]"})\n model = ResNet50(classes=4) ×2 over spatial: RGB, temporal: Flow with STIA at s\n recipe = R }`,
    `recipe R {}\nsearch A { choose s in subsets({@layer1[0], @layer1[1], @layer1[2], @layer2[0], @layer2[1], @layer2[2], @layer2[3], @layer3[0], @layer3[1], @layer3[2], @layer3[3], @layer3[4], @layer3[5], @layer4[0], @layer4[1], @layer4[2]})\n model = ResNet50(classes=4) ×2 over spatial: RGB, temporal: Flow with STIA at s\n recipe = R }`,
  ]) {
    const t = performance.now();
    const r = elaborateSearch(sourceOf(text), resolveWith({}), {});
    console.log((performance.now() - t).toFixed(0), r.search?.space.points, r.search?.space.candidates.length, renderDiagnostics(r.diagnostics));
  }
}, 1000000);
