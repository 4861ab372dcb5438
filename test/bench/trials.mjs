/**
 * What a trial costs beside its training: candidates of examples/placement.net, one after the other, each for one epoch of
 * a few updates, in a store on this disk. `node test/bench/trials.mjs`, after `npm run build`.
 *
 * Seconds of the clock and of the processor, worker and trial's process together; the training's own seconds are taken
 * away from the clock's only, so the processor's include a few updates.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const at = mkdtempSync(join(tmpdir(), "netc-trials-"));
process.env.NETC_CACHE = join(at, "cache");
const { elaborateSearch } = await import("../../dist/compiler/search/elaborate.js");
const { openEntry } = await import("../../dist/runtime/cli/sources.js");
const { recipeOf, studyOf } = await import("../../dist/runtime/search/begin.js");
const { trialRowsOf } = await import("../../dist/runtime/search/methods/ledger.js");
const { openStore } = await import("../../dist/runtime/search/store/open.js");
const { openTrainer } = await import("../../dist/runtime/search/trial/trial.js");
const { openDataSet } = await import("../../dist/runtime/train/experiment.js");

const set = join(at, "set");
const main = join(root, "dist/runtime/cli/main.js");
execFileSync(process.execPath, [
  main,
  "data",
  "make",
  set,
  "--layout",
  "association",
  "--subjects",
  "5",
  "--clips",
  "8",
  "--size",
  "48x48",
]);
const { source, resolve } = openEntry(join(root, "examples/placement.net"));
const args = new Map([["epochs", "2"]]);
const { search, sources } = elaborateSearch(source, resolve, { folder: set, args });
const asked = { ...search, arguments: { epochs: "2" } };
const { recipe } = recipeOf(asked, { entry: source, resolve }, set);
const row = studyOf(asked, { recipe, sources, set: openDataSet(set), data: set, netc: "bench" });
const store = await openStore(join(at, "studies"));
const study = await store.createStudy(row);
const proposals = [0, 1].flatMap((replicate) =>
  search.space.candidates.map(({ index }) => ({
    kind: "begin",
    candidate: index,
    phase: "search",
    replicate,
    epochs: 2,
  })),
);
const decision = { sequence: 1, method: "bench", seen: 0, pending: [], proposals, reason: "" };
const known = { study: study.id, trials: [], observations: [], decisions: [] };
await store.decide(study.id, decision, trialRowsOf(asked, known, decision));
const trainer = openTrainer({ device: "wasm", threads: 1 });

/** Seconds of the processor that a process has used. */
function used(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
const all = () => used(process.pid) + trainer.processes().reduce((sum, pid) => sum + used(pid), 0);

for (
  let claim = await store.claim(study.id, "bench");
  claim !== undefined;
  claim = await store.claim(study.id, "bench")
) {
  const before = all();
  const end = await trainer.train({ study, claim, store, stop: new AbortController().signal, device: 0 });
  const processor = all() - before;
  const result = (await store.results(study.id)).get(claim.trial.id);
  const label = search.space.candidates.find(({ hash }) => hash === claim.trial.candidate).label;
  const figure = (value) => value.toFixed(2).padStart(6);
  console.log(
    `${String(claim.trial.number).padStart(3)} ${label.padEnd(28)} ${end}: beside the training ${figure(result.overheadSeconds)} s, training ${figure(result.seconds)} s; processor ${figure(processor)} s; kernels ${result.kernels.hits} ready, ${result.kernels.misses} made`,
  );
}
trainer.close();
await store.close();
rmSync(at, { recursive: true, force: true });
