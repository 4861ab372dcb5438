/**
 * A study store in memory: what the real ones must do, in the plainest way. The oracle of their tests, and a double for
 * tests that need a store and no disk. Nothing in it is safe from anything.
 */
import { createHash } from "node:crypto";
import { StoreError } from "../../runtime/search/store/error.ts";
import {
  type Claim,
  type Decision,
  type MetricPoint,
  MOST_FRUITLESS,
  type ObservationRow,
  type Orders,
  type RungResult,
  type StudyRow,
  type StudyStore,
  type TrialResult,
  type TrialRow,
  type TrialState,
} from "../../runtime/search/study.ts";

interface Trial {
  row: TrialRow;
  readonly study: string;
  checkpoint: string | undefined;
  furthest: number | undefined;
  /** The attempt that came further last. */
  progressed: number;
  readonly points: Map<string, MetricPoint & { readonly attempt: number }>;
  readonly rungs: Map<number, RungResult & { readonly attempt: number }>;
  result: TrialResult | undefined;
  /** Objects it refers to, by what they are of it. */
  readonly objects: Map<string, string>;
}

const GRACE_MS = 3_600_000;

export class MemoryStore implements StudyStore {
  readonly address = "memory:";
  readonly #clock: () => number;
  readonly #studies = new Map<string, StudyRow>();
  readonly #trials = new Map<string, Trial>();
  readonly #decisions = new Map<string, Decision[]>();
  readonly #observations = new Map<string, ObservationRow[]>();
  readonly #leaders = new Map<string, { readonly who: string; readonly until: number }>();
  readonly #objects = new Map<string, { readonly bytes: Uint8Array; readonly stored: number }>();

  constructor(clock: () => number = Date.now) {
    this.#clock = clock;
  }

  async createStudy(study: Omit<StudyRow, "created">): Promise<StudyRow> {
    const row = this.#studies.get(study.id) ?? { ...study, created: this.#clock() };
    this.#studies.set(study.id, row);
    return row;
  }

  async studies(): Promise<readonly StudyRow[]> {
    return [...this.#studies.values()];
  }

  async study(id: string): Promise<StudyRow | undefined> {
    return this.#studies.get(id);
  }

  async studyState(id: string): Promise<StudyRow["state"] | undefined> {
    return this.#studies.get(id)?.state;
  }

  async setStudyState(id: string, state: StudyRow["state"]): Promise<void> {
    this.#studies.set(id, { ...this.#known(id), state });
  }

  async lead(study: string, who: string, seconds: number): Promise<boolean> {
    this.#known(study);
    const leader = this.#leaders.get(study);
    if (leader !== undefined && leader.who !== who && leader.until > this.#clock()) return false;
    this.#leaders.set(study, { who, until: this.#clock() + 1000 * seconds });
    return true;
  }

  async decide(study: string, decision: Decision, trials: readonly TrialRow[]): Promise<boolean> {
    this.#known(study);
    const decisions = this.#decisions.get(study) ?? [];
    if (decision.sequence !== decisions.length + 1) return false;
    const old = this.#of(study);
    trials.forEach((one, index) => {
      const same = (other: TrialRow): boolean =>
        one.id === other.id ||
        one.number === other.number ||
        (one.candidate === other.candidate && one.phase === other.phase && one.replicate === other.replicate);
      if (this.#trials.has(one.id) || old.some(({ row }) => same(row)) || trials.slice(0, index).some(same))
        throw new StoreError("refused", `trial ${one.number} is there already`);
    });
    this.#decisions.set(study, [...decisions, decision]);
    for (const row of trials)
      this.#trials.set(row.id, {
        row: { ...row, state: "waiting" },
        study,
        checkpoint: undefined,
        furthest: undefined,
        progressed: 0,
        points: new Map(),
        rungs: new Map(),
        result: undefined,
        objects: new Map(),
      });
    for (const proposal of decision.proposals) {
      if (proposal.kind === "begin") continue;
      const trial = this.#trials.get(proposal.trial);
      if (trial?.study !== study || trial.row.state !== "paused" || trial.row.ended !== undefined) continue;
      if (proposal.kind === "promote") trial.row = { ...trial.row, state: "waiting", epochs: proposal.epochs };
      else {
        trial.row = { ...trial.row, ended: this.#clock() };
        trial.checkpoint = undefined;
        trial.objects.clear();
      }
    }
    return true;
  }

  async decisions(study: string): Promise<readonly Decision[]> {
    return this.#decisions.get(study) ?? [];
  }

  async trials(study: string): Promise<readonly TrialRow[]> {
    return this.#of(study).map(({ row }) => row);
  }

  async trial(id: string): Promise<TrialRow | undefined> {
    return this.#trials.get(id)?.row;
  }

  async claim(study: string, worker: string, id?: string): Promise<Claim | undefined> {
    if (this.#studies.get(study)?.state !== "running") return undefined;
    const trial = this.#of(study).find(({ row }) => row.state === "waiting" && (id === undefined || row.id === id));
    if (trial === undefined) return undefined;
    const now = this.#clock();
    const attempt = trial.row.attempt + 1;
    trial.row = {
      ...trial.row,
      state: "running",
      attempt,
      worker,
      heartbeat: now,
      started: trial.row.started ?? now,
    };
    return { trial: trial.row, attempt, checkpoint: trial.checkpoint };
  }

  async heartbeat(id: string, attempt: number): Promise<Orders> {
    const trial = this.#held(id, attempt);
    if (trial === undefined) {
      const row = this.#trials.get(id)?.row;
      return row?.attempt === attempt && row.state === "cancelled" ? "cancel" : "lost";
    }
    trial.row = { ...trial.row, heartbeat: this.#clock() };
    const state = this.#studies.get(trial.study)?.state;
    return state === "paused" ? "pause" : state === "cancelled" ? "cancel" : "go on";
  }

  async reclaim(study: string, seconds: number): Promise<readonly string[]> {
    const before = this.#clock() - 1000 * seconds;
    const lost = this.#of(study).filter(({ row }) => row.state === "running" && (row.heartbeat ?? 0) < before);
    for (const trial of lost) trial.row = { ...trial.row, state: "waiting", worker: undefined, heartbeat: undefined };
    return lost.map(({ row }) => row.id);
  }

  async addMetrics(id: string, attempt: number, points: readonly MetricPoint[]): Promise<boolean> {
    const trial = this.#held(id, attempt);
    if (trial === undefined) return false;
    trial.row = { ...trial.row, heartbeat: this.#clock() };
    for (const point of points)
      for (const [key, old] of trial.points)
        if (old.name === point.name && old.epoch >= point.epoch && old.attempt < attempt) trial.points.delete(key);
    for (const point of points) trial.points.set(`${point.epoch} ${point.name}`, { ...point, attempt });
    return true;
  }

  async metrics(id: string): Promise<readonly MetricPoint[]> {
    const points = [...(this.#trials.get(id)?.points.values() ?? [])];
    return points
      .map(({ name, epoch, value }) => ({ name, epoch, value }))
      .toSorted((a, b) => a.epoch - b.epoch || (a.name < b.name ? -1 : 1));
  }

  async saveProgress(id: string, attempt: number, epochs: number, checkpoint: string): Promise<boolean> {
    const trial = this.#held(id, attempt);
    if (trial === undefined) return false;
    const { furthest = Number.NEGATIVE_INFINITY } = trial;
    const further = epochs > furthest || (epochs === furthest && checkpoint !== trial.checkpoint);
    trial.row = { ...trial.row, heartbeat: this.#clock(), fruitless: further ? 0 : trial.row.fruitless };
    if (further) trial.progressed = attempt;
    trial.furthest = Math.max(epochs, furthest);
    trial.checkpoint = checkpoint;
    trial.objects.set("checkpoint", checkpoint);
    return true;
  }

  async endRung(result: RungResult, attempt: number): Promise<boolean> {
    finite(result.value);
    const trial = this.#trials.get(result.trial);
    if (trial?.row.attempt !== attempt) return false;
    if (trial.row.state === "paused") return trial.rungs.get(result.epochs)?.attempt === attempt;
    if (trial.row.state !== "running") return false;
    const { epochs, value, checkpoint } = result;
    trial.rungs.set(epochs, { ...result, attempt });
    trial.row = {
      ...trial.row,
      state: "paused",
      fruitless: 0,
      worker: undefined,
      heartbeat: undefined,
      error: undefined,
    };
    trial.furthest = Math.max(epochs, trial.furthest ?? epochs);
    trial.progressed = attempt;
    if (checkpoint !== undefined) {
      trial.checkpoint = checkpoint;
      trial.objects.set("checkpoint", checkpoint).set(`rung ${epochs}`, checkpoint);
    }
    this.#observe(trial, epochs, value);
    return true;
  }

  async rungs(study: string): Promise<readonly RungResult[]> {
    return this.#of(study).flatMap(({ rungs }) =>
      [...rungs.values()]
        .map(({ trial, epochs, value, checkpoint }) => ({ trial, epochs, value, checkpoint }))
        .toSorted((a, b) => a.epochs - b.epochs),
    );
  }

  async commit(id: string, attempt: number, value: number, result: TrialResult): Promise<boolean> {
    finite(value);
    const trial = this.#trials.get(id);
    if (trial?.row.attempt !== attempt) return false;
    if (trial.row.state === "complete") return true;
    if (trial.row.state !== "running") return false;
    trial.row = { ...trial.row, state: "complete", ended: this.#clock(), fruitless: 0, error: undefined };
    trial.result = result;
    trial.checkpoint = undefined;
    trial.objects.clear();
    for (const [side, hash] of Object.entries(result.predictions)) trial.objects.set(`predictions ${side}`, hash);
    if (result.weights !== undefined) trial.objects.set("weights", result.weights);
    this.#observe(trial, trial.row.epochs, value);
    return true;
  }

  async results(study: string): Promise<ReadonlyMap<string, TrialResult>> {
    return new Map(this.#of(study).flatMap(({ row, result }) => (result === undefined ? [] : [[row.id, result]])));
  }

  async fail(id: string, attempt: number, error: string): Promise<TrialState | "lost"> {
    const trial = this.#held(id, attempt);
    if (trial === undefined) return "lost";
    const fruitless = trial.progressed === attempt ? 0 : trial.row.fruitless + 1;
    const failed = fruitless > MOST_FRUITLESS;
    trial.row = {
      ...trial.row,
      state: failed ? "failed" : "waiting",
      fruitless,
      error,
      heartbeat: undefined,
      ...(failed ? { ended: this.#clock() } : { worker: undefined }),
    };
    if (failed) this.#observe(trial, trial.row.epochs, undefined);
    return trial.row.state;
  }

  async release(id: string, attempt: number): Promise<boolean> {
    const trial = this.#held(id, attempt);
    if (trial === undefined) return false;
    trial.row = { ...trial.row, state: "waiting", worker: undefined, heartbeat: undefined };
    return true;
  }

  async cancel(id: string): Promise<boolean> {
    const trial = this.#trials.get(id);
    if (trial === undefined || trial.row.ended !== undefined) return false;
    trial.row = {
      ...trial.row,
      state: "cancelled",
      error: "cancelled by a person",
      ended: this.#clock(),
      heartbeat: undefined,
    };
    return true;
  }

  async retry(id: string): Promise<boolean> {
    const trial = this.#trials.get(id);
    if (trial?.row.state !== "failed" && trial?.row.state !== "cancelled") return false;
    trial.row = {
      ...trial.row,
      state: "waiting",
      error: undefined,
      ended: undefined,
      worker: undefined,
      fruitless: 0,
    };
    return true;
  }

  async observations(study: string): Promise<readonly ObservationRow[]> {
    return this.#observations.get(study) ?? [];
  }

  async putObject(bytes: Uint8Array): Promise<string> {
    const hash = createHash("sha256").update(bytes).digest("hex");
    this.#objects.set(hash, { bytes: bytes.slice(), stored: this.#clock() });
    return hash;
  }

  async getObject(hash: string): Promise<Uint8Array | undefined> {
    return this.#objects.get(hash)?.bytes;
  }

  async collectGarbage(): Promise<{ readonly objects: number; readonly bytes: number }> {
    const all = [...this.#trials.values()];
    const before = this.#clock() - (all.some(({ row }) => row.state === "running") ? GRACE_MS : 0);
    const needed = new Set(all.flatMap(({ objects }) => [...objects.values()]));
    const gone = [...this.#objects].filter(([hash, { stored }]) => stored < before && !needed.has(hash));
    for (const [hash] of gone) this.#objects.delete(hash);
    return { objects: gone.length, bytes: gone.reduce((sum, [, { bytes }]) => sum + bytes.byteLength, 0) };
  }

  async verify(): Promise<readonly { readonly hash: string; readonly problem: string }[]> {
    const needed = [...this.#trials.values()].flatMap(({ objects }) =>
      [...objects].flatMap(([role, hash]) => (role === "weights" || this.#objects.has(hash) ? [] : [hash])),
    );
    return [...new Set(needed)].map((hash) => ({ hash, problem: "it is missing" }));
  }

  async close(): Promise<void> {}

  #known(study: string): StudyRow {
    const row = this.#studies.get(study);
    if (row === undefined) throw new StoreError("refused", `there is no study ${study}`);
    return row;
  }

  #of(study: string): readonly Trial[] {
    return [...this.#trials.values()]
      .filter((trial) => trial.study === study)
      .toSorted((a, b) => a.row.number - b.row.number);
  }

  #held(id: string, attempt: number): Trial | undefined {
    const trial = this.#trials.get(id);
    return trial?.row.state === "running" && trial.row.attempt === attempt ? trial : undefined;
  }

  #observe({ study, row }: Trial, epochs: number, value: number | undefined): void {
    const log = this.#observations.get(study) ?? [];
    const { id: trial, candidate, phase, replicate } = row;
    const next = { sequence: log.length + 1, trial, candidate, phase, replicate, epochs, value };
    this.#observations.set(study, [...log, next]);
  }
}

function finite(value: number): void {
  if (!Number.isFinite(value)) throw new StoreError("refused", `the value is ${value}`);
}
