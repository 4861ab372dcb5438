/** What the tests of stores share: small studies, trials and decisions, and what a store holds, all of it. */
import { spawnSync } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { studyIdOf, trialIdOf } from "../../runtime/search/store/ids.ts";
import type { StoreOptions } from "../../runtime/search/store/open.ts";
import type { Decision, Proposal, StudyRow, StudyStore, TrialResult, TrialRow } from "../../runtime/search/study.ts";

/** An empty store that can be opened as often as one likes. */
export interface Backend {
  readonly address: string;
  open(options?: StoreOptions): Promise<StudyStore>;
}

export function studyWith(name: string, candidates = 4): Omit<StudyRow, "created"> {
  const facts = { name, searchHash: "s".repeat(64), dataHash: "d".repeat(64) };
  return {
    ...facts,
    id: studyIdOf(facts),
    search: {
      name,
      space: {
        factors: [
          {
            name: "place",
            kind: "category",
            optional: false,
            levels: Array.from({ length: candidates }, (_, level) => String(level)),
            values: undefined,
          },
        ],
        candidates: Array.from({ length: candidates }, (_, index) => ({
          index,
          levels: [index],
          label: `place=${index} "ünï"`,
          hash: candidateHash(index),
          costs: { params: 1000 + index, flops: 2, memory: 3 },
          refused: index === 3 ? "params <= 1002; it has 1003" : undefined,
        })),
        points: candidates,
        none: undefined,
        all: 0,
      },
      objectives: [{ kind: "metric", goal: "maximize", metric: "val.uar" }],
      requirements: [],
      latencyLimit: undefined,
      method: { kind: "gp" },
      spend: 20,
      replicates: { search: 1, confirm: 3, final: 5 },
      rungs: [3],
      epochs: 9,
      seed: 2 ** 53 - 1,
      starts: [],
      randomBaseline: true,
    },
    sources: [{ path: "a.net", text: "search a {\n}\n" }],
    data: "data/faces",
    netc: "0.1.0",
    state: "running",
  };
}

function candidateHash(index: number): string {
  return String(index).padStart(64, "0");
}

export function trialWith(study: string, number: number, changes: Partial<TrialRow> = {}): TrialRow {
  return {
    id: trialIdOf(study, candidateHash(number), "search", 0),
    number,
    candidate: candidateHash(number),
    phase: "search",
    replicate: 0,
    seed: 2 ** 40 + number,
    epochs: 3,
    state: "waiting",
    attempt: 0,
    fruitless: 0,
    worker: undefined,
    heartbeat: undefined,
    error: undefined,
    started: undefined,
    ended: undefined,
    ...changes,
  };
}

export function decisionWith(sequence: number, proposals: readonly Proposal[] = []): Decision {
  return { sequence, method: "gp", seen: sequence - 1, pending: ["x"], proposals, reason: `because of "${sequence}"` };
}

export function resultWith(changes: Partial<TrialResult> = {}): TrialResult {
  return {
    metrics: { "val.uar": 0.75, "val.loss": Number.NaN, "test.uar": 1 / 3 },
    seconds: 12.5,
    overheadSeconds: 0.25,
    latency: undefined,
    weights: undefined,
    predictions: {},
    kernels: { hits: 3, misses: 1 },
    device: "WASM",
    ...changes,
  };
}

/** A study with trials 1 to `count`, all waiting. */
export async function studyIn(store: StudyStore, count: number, name = "one"): Promise<readonly [string, TrialRow[]]> {
  const { id } = await store.createStudy(studyWith(name));
  const trials = Array.from({ length: count }, (_, index) => trialWith(id, index + 1));
  const decided = await store.decide(id, decisionWith(1), trials);
  if (!decided) throw new Error("the first decision was not written");
  return [id, trials];
}

/** Everything that can be read of a study. */
export async function allOf(store: StudyStore, study: string): Promise<unknown> {
  const trials = await store.trials(study);
  return {
    study: await store.study(study),
    trials,
    metrics: await Promise.all(trials.map(({ id }) => store.metrics(id))),
    rungs: await store.rungs(study),
    results: [...(await store.results(study))],
    observations: await store.observations(study),
    decisions: await store.decisions(study),
  };
}

/** What a promise gives, or the kind of the error that it is rejected with. */
export async function outcomeOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && "kind" in error) return `StoreError ${String(error.kind)}`;
    throw error;
  }
}

export async function failureOf(work: () => Promise<unknown>): Promise<Error & { readonly kind: string }> {
  try {
    await work();
  } catch (error) {
    if (error instanceof Error && "kind" in error) return error as Error & { readonly kind: string };
    throw error;
  }
  throw new Error("nothing was thrown");
}

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Node 20 runs no TypeScript: builds the child that is to be killed, with what it imports. Returns its path. */
export function buildChild(folder: string): string {
  const config = join(folder, "tsconfig.json");
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        noEmit: false,
        outDir: folder,
        rootDir: root,
        allowImportingTsExtensions: false,
        typeRoots: [join(root, "node_modules/@types")],
        types: ["node"],
      },
      include: [],
      files: [join(root, "test/search/store-child.ts")],
    }),
  );
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", config], { encoding: "utf8" });
  if (status !== 0) throw new Error(stdout);
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return join(folder, "test/search/store-child.js");
}
