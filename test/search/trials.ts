/** Small studies that can be trained: a network of two streams on a few drawn clips, in processes as users have them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { elaborateSearch } from "../../compiler/search/elaborate.ts";
import { diskResolve } from "../../runtime/cli/sources.ts";
import { recipeOf, studyOf } from "../../runtime/search/begin.ts";
import { trialIdOf } from "../../runtime/search/store/ids.ts";
import type { Decision, Phase, StudyRow, TrialRow } from "../../runtime/search/study.ts";
import { openTrainer, type TrainerOptions, type TrialTrainer } from "../../runtime/search/trial/trial.ts";
import { openDataSet } from "../../runtime/train/experiment.ts";
import { makeSet } from "../data/set.ts";

/** The command, as it was built. */
export const MAIN: string = fileURLToPath(new URL("../../dist/runtime/cli/main.js", import.meta.url));
const CHILD: string = fileURLToPath(new URL("../../dist/runtime/search/trial/child.js", import.meta.url));
/** Where what is decoded and compiled stays, for all tests of a file. */
const CACHE = mkdtempSync(join(tmpdir(), "netc-cache-"));
process.env["NETC_CACHE"] = CACHE;

/** Three placements of attention in a small network; `settings` are the search's own. */
export function searchText(settings = "", epochs = 3): string {
  return `
const CLASSES = ["agree", "differ"]
const L = 2
block ConvBN(c: int, stride: int = 1) = Conv(c, stride=stride, use_bias=false) @conv -> BatchNorm @bn -> ReLU
block Eyes(classes: int = 2)(x: [N, C, H, W]) -> [N, classes]
default over x: f32[N, 3, 16, 16]
  = ConvBN(4, stride=2) @conv1 -> ConvBN(6, stride=2) @conv2
  -> GlobalAvgPool @avgpool -> Dropout(0.3) @drop -> Linear(classes) @fc

recipe Learn(lr: float = 0.01) {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = 4
    stream "spatial" {
      sample = random_frame
      train = [Resize(18), RandomCrop(16), HorizontalFlip(0.5)]
      eval = [Resize(18), CenterCrop(16)]
    }
    stream "temporal" {
      sample = flow(window=random_frame)
      train = [Resize(18), RandomCrop(16), FlowFlip(0.5)]
      eval = [Resize(18), CenterCrop(16)]
    }
  }
  optimizer = AdamW(lr=lr, weight_decay=1e-3)
  schedule = Cosine(to=0.05)
  epochs = ${epochs}
  metrics = [accuracy]
  keep = best(val.accuracy)
}

search Tiny {
  choose spots in subsets(@conv1..@conv2)
  model = Eyes(classes=2) ×2 over spatial: f32[N, 3, 16, 16], temporal: f32[N, 2 * L, 16, 16] with STIA at spots fuse Average
  recipe = Learn
  maximize val.uar
  ${settings}
}
`;
}

/** A folder for a test file, with a drawn set in `set/`; removed afterwards. */
export async function searchGround(): Promise<{ readonly at: string; readonly set: string }> {
  const at = mkdtempSync(join(tmpdir(), "netc-search-"));
  afterAll(() => {
    rmSync(at, { recursive: true, force: true });
    rmSync(CACHE, { recursive: true, force: true });
  });
  const set = join(at, "set");
  await makeSet(set, { subjects: 3, clips: 8, width: 32, height: 24 });
  return { at, set };
}

/** The study of a text on a set, as `netc search run` makes it. */
export function studyFrom(text: string, at: string, set: string): StudyRow {
  mkdirSync(at, { recursive: true });
  const path = join(at, "search.net");
  writeFileSync(path, text);
  const source = { path, text };
  const resolve = diskResolve(source, at);
  const { search, diagnostics, sources } = elaborateSearch(source, resolve, { folder: set });
  if (search === undefined) throw new Error(diagnostics.map(({ message }) => message).join("\n"));
  const { recipe } = recipeOf(search, { entry: source, resolve }, set);
  if (recipe === undefined) throw new Error("no recipe");
  return { ...studyOf(search, { recipe, sources, set: openDataSet(set), data: set, netc: "test" }), created: 0 };
}

/** A trial of the candidate with this label. */
export function trialOf(
  study: StudyRow,
  label: string,
  given: { readonly phase?: Phase; readonly epochs?: number; readonly seed?: number; readonly number?: number } = {},
): TrialRow {
  const { phase = "search", epochs = study.search.epochs, seed = 5, number = 1 } = given;
  const candidate = study.search.space.candidates.find((each) => each.label === label);
  if (candidate === undefined) throw new Error(`there is no candidate ${label}`);
  return {
    id: trialIdOf(study.id, candidate.hash, phase, 0),
    number,
    candidate: candidate.hash,
    phase,
    replicate: 0,
    seed,
    epochs,
    state: "waiting",
    attempt: 0,
    fruitless: 0,
    worker: undefined,
    heartbeat: undefined,
    error: undefined,
    started: undefined,
    ended: undefined,
  };
}

export function decisionOf(sequence: number, proposals: Decision["proposals"]): Decision {
  return { sequence, method: "test", seen: 0, pending: [], proposals, reason: "a test" };
}

/** A trainer whose processes end with the test file. */
export function testTrainer(options: TrainerOptions = {}): TrialTrainer {
  const trainer = openTrainer({ device: "wasm", threads: 1, program: CHILD, ...options });
  afterAll(() => trainer.close());
  return trainer;
}
