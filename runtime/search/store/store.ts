/**
 * The store of studies, on whichever database it was opened: every method one transaction, in which the newest attempt is
 * asked for before anything is changed.
 *
 * The log of observations is counted in the study's row: it stays locked until the row of the log is written, so numbers
 * have no gaps, and whoever sees one sees all before it.
 */
import type {
  Claim,
  Decision,
  MetricPoint,
  ObservationRow,
  Orders,
  RungResult,
  StudyRow,
  StudyStore,
  TrialResult,
  TrialRow,
  TrialState,
} from "../study.ts";
import { MOST_FRUITLESS } from "../study.ts";
import {
  type Database,
  number,
  optionalNumber,
  optionalText,
  type Row,
  type Session,
  text,
  type Value,
} from "./database.ts";
import { StoreError } from "./error.ts";
import { beat, forget, isHeld, locked, lockedWithStudy, refer } from "./held.ts";
import { collectGarbage, getObject, putObject, verifyObjects } from "./objects.ts";
import type { ObjectPlace } from "./places.ts";
import {
  decisionOf,
  encodeJson,
  joinSearch,
  metricOf,
  observationOf,
  resultOf,
  rungOf,
  STUDY,
  type StudyText,
  splitSearch,
  storedPhase,
  studyOf,
  TRIAL,
  trialOf,
} from "./rows.ts";

/** Rows of one statement; SQLite takes 32,766 parameters. */
const ROWS = 500;

/** Writes many rows. `head` ends before VALUES; `tail` comes behind them. */
async function insertAll(
  session: Session,
  head: string,
  rows: readonly (readonly Value[])[],
  tail = "",
): Promise<void> {
  for (let at = 0; at < rows.length; at += ROWS) {
    const some = rows.slice(at, at + ROWS);
    let next = 1;
    const places = some.map((row) => `(${row.map(() => `$${next++}`).join(", ")})`);
    await session.query(`${head} VALUES ${places.join(", ")} ${tail}`, some.flat());
  }
}

/** What a database's kind adds to what all have. */
export interface StoreExtras {
  /** Looks for damage in the database itself. @throws StoreError (damaged) */
  readonly check: () => Promise<void>;
  readonly tidy: () => Promise<void>;
}

export class SqlStore implements StudyStore {
  readonly address: string;
  readonly #database: Database;
  readonly #objects: ObjectPlace;
  readonly #extras: StoreExtras;
  readonly #texts = new Map<string, StudyText>();

  constructor(database: Database, objects: ObjectPlace, extras: StoreExtras) {
    this.address = database.address;
    this.#database = database;
    this.#objects = objects;
    this.#extras = extras;
  }

  // ------------------------------------------------------------------------------------------------------------ studies

  async createStudy(study: Omit<StudyRow, "created">): Promise<StudyRow> {
    const { rest, candidates } = splitSearch(study.search);
    await this.#write(`add the study \`${study.name}\``, async (session) => {
      const added = await session.query(
        `INSERT INTO study (id, name, search_hash, data_hash, data, netc, state, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7, {now}) ON CONFLICT (id) DO NOTHING RETURNING id`,
        [study.id, study.name, study.searchHash, study.dataHash, study.data, study.netc, study.state],
      );
      if (added.length === 0) return;
      await session.query("INSERT INTO study_text (study, search, sources) VALUES ($1, $2, $3)", [
        study.id,
        rest,
        encodeJson(study.sources),
      ]);
      await insertAll(
        session,
        "INSERT INTO candidate (study, place, hash, label, record)",
        candidates.map((one, place) => [study.id, place, one.hash, one.label, encodeJson(one)]),
      );
    });
    const row = await this.study(study.id);
    if (row === undefined) throw new Error(`internal: study ${study.id} was not written`);
    return row;
  }

  studies(): Promise<readonly StudyRow[]> {
    return this.#read("list the studies", async (session) => {
      const studies: StudyRow[] = [];
      for (const row of await session.query(`SELECT ${STUDY} FROM study ORDER BY created, id`))
        studies.push(studyOf(row, await this.#textOf(session, text(row, "id"))));
      return studies;
    });
  }

  study(id: string): Promise<StudyRow | undefined> {
    return this.#read("read a study", async (session) => {
      const [row] = await session.query(`SELECT ${STUDY} FROM study WHERE id = $1`, [id]);
      return row === undefined ? undefined : studyOf(row, await this.#textOf(session, id));
    });
  }

  studyState(id: string): Promise<StudyRow["state"] | undefined> {
    return this.#read("read a study's state", async (session) => {
      const [row] = await session.query("SELECT state FROM study WHERE id = $1", [id]);
      return row === undefined ? undefined : (text(row, "state") as StudyRow["state"]);
    });
  }

  setStudyState(id: string, state: StudyRow["state"]): Promise<void> {
    return this.#write("change a study's state", async (session) => {
      const rows = await session.query("UPDATE study SET state = $2 WHERE id = $1 RETURNING id", [id, state]);
      if (rows.length === 0) throw this.#noStudy(id);
    });
  }

  /** The long part of a study, which never changes: read once. */
  async #textOf(session: Session, study: string): Promise<StudyText> {
    let known = this.#texts.get(study);
    if (known === undefined) {
      const [rest] = await session.query("SELECT search, sources FROM study_text WHERE study = $1", [study]);
      if (rest === undefined)
        throw new StoreError("damaged", `study ${study} in \`${this.address}\` has lost its search: restore a backup`);
      const sql = "SELECT record FROM candidate WHERE study = $1 ORDER BY place";
      known = joinSearch(rest, await session.query(sql, [study]), this.address);
      this.#texts.set(study, known);
    }
    return known;
  }

  // ---------------------------------------------------------------------------------------------------------- decisions

  lead(study: string, who: string, seconds: number): Promise<boolean> {
    return this.#write("take the lead of a study", async (session) => {
      const rows = await session.query(
        `INSERT INTO leader (study, who, until) VALUES ($1, $2, {now} + $3)
         ON CONFLICT (study) DO UPDATE SET who = excluded.who, until = excluded.until
         WHERE leader.who = excluded.who OR leader.until <= {now} RETURNING who`,
        [study, who, Math.round(1000 * seconds)],
      );
      return rows.length > 0;
    });
  }

  async decide(study: string, decision: Decision, trials: readonly TrialRow[]): Promise<boolean> {
    const { sequence, method, seen, proposals } = decision;
    const written = await this.#write(`write decision ${sequence}`, async (session) => {
      const next = await session.query(
        "UPDATE study SET decided = $2 WHERE id = $1 AND decided = $2 - 1 RETURNING decided",
        [study, sequence],
      );
      if (next.length === 0) {
        if ((await session.query("SELECT id FROM study WHERE id = $1", [study])).length === 0)
          throw this.#noStudy(study);
        return false;
      }
      await session.query("INSERT INTO decision (study, sequence, method, seen, record) VALUES ($1, $2, $3, $4, $5)", [
        study,
        sequence,
        method,
        seen,
        encodeJson(decision),
      ]);
      await insertAll(
        session,
        "INSERT INTO trial (id, study, number, candidate, phase, replicate, seed, epochs, state)",
        trials.map((one) => [
          one.id,
          study,
          one.number,
          one.candidate,
          ...storedPhase(one),
          one.seed,
          one.epochs,
          "waiting",
        ]),
      );
      // Those that somebody cancelled meanwhile stay cancelled.
      for (const proposal of proposals) {
        if (proposal.kind === "promote")
          await session.query(
            `UPDATE trial SET state = 'waiting', epochs = $3
             WHERE id = $1 AND study = $2 AND state = 'paused' AND ended IS NULL`,
            [proposal.trial, study, proposal.epochs],
          );
        if (proposal.kind === "stop") {
          const stopped = await session.query(
            `UPDATE trial SET ended = {now}, checkpoint = NULL
             WHERE id = $1 AND study = $2 AND state = 'paused' AND ended IS NULL RETURNING id`,
            [proposal.trial, study],
          );
          if (stopped.length > 0) await forget(session, proposal.trial);
        }
      }
      return true;
    });
    if (written) await this.#extras.tidy();
    return written;
  }

  decisions(study: string): Promise<readonly Decision[]> {
    const sql = "SELECT sequence, record FROM decision WHERE study = $1 ORDER BY sequence";
    return this.#list("read the decisions", sql, study, (row) => decisionOf(row, this.address));
  }

  // ------------------------------------------------------------------------------------------------------------- trials

  trials(study: string): Promise<readonly TrialRow[]> {
    return this.#list("list the trials", `SELECT ${TRIAL} FROM trial WHERE study = $1 ORDER BY number`, study, trialOf);
  }

  async trial(id: string): Promise<TrialRow | undefined> {
    return (await this.#list("read a trial", `SELECT ${TRIAL} FROM trial WHERE id = $1`, id, trialOf))[0];
  }

  claim(study: string, worker: string, trial?: string): Promise<Claim | undefined> {
    return this.#write("take a trial", async (session) => {
      // Of any trial: pass over those that others are just taking. Of one trial: wait for what is done with it.
      const [row] = await session.query(
        `UPDATE trial SET state = 'running', attempt = attempt + 1, worker = $2, heartbeat = {now},
           started = coalesce(started, {now})
         WHERE id = (
           SELECT id FROM trial WHERE study = $1 AND state = 'waiting' ${trial === undefined ? "" : "AND id = $3"}
             AND EXISTS (SELECT 1 FROM study WHERE id = $1 AND state = 'running')
           ORDER BY number LIMIT 1 {lock} ${trial === undefined ? "{skip}" : ""})
         RETURNING ${TRIAL}, checkpoint`,
        trial === undefined ? [study, worker] : [study, worker, trial],
      );
      if (row === undefined) return undefined;
      const taken = trialOf(row);
      return { trial: taken, attempt: taken.attempt, checkpoint: optionalText(row, "checkpoint") };
    });
  }

  heartbeat(trial: string, attempt: number): Promise<Orders> {
    const work = async (session: Session): Promise<Orders> => {
      const [held] = await session.query(
        `UPDATE trial SET heartbeat = {now} WHERE id = $1 AND attempt = $2 AND state = 'running'
         RETURNING (SELECT state FROM study WHERE study.id = trial.study) AS orders`,
        [trial, attempt],
      );
      if (held === undefined) {
        const cancelled = await session.query(
          "SELECT id FROM trial WHERE id = $1 AND attempt = $2 AND state = 'cancelled'",
          [trial, attempt],
        );
        return cancelled.length > 0 ? "cancel" : "lost";
      }
      const state = text(held, "orders") as StudyRow["state"];
      return state === "paused" ? "pause" : state === "cancelled" ? "cancel" : "go on";
    };
    return this.#database.write("say that a trial is being trained", work, false);
  }

  reclaim(study: string, seconds: number): Promise<readonly string[]> {
    return this.#write("take trials back", async (session) => {
      const rows = await session.query(
        `UPDATE trial SET state = 'waiting', worker = NULL, heartbeat = NULL
         WHERE study = $1 AND state = 'running' AND heartbeat < {now} - $2 RETURNING id, number`,
        [study, Math.round(1000 * seconds)],
      );
      return rows.toSorted((a, b) => number(a, "number") - number(b, "number")).map((row) => text(row, "id"));
    });
  }

  addMetrics(trial: string, attempt: number, points: readonly MetricPoint[]): Promise<boolean> {
    return this.#write("write metrics", async (session) => {
      if (!(await beat(session, trial, attempt))) return false;
      const last = new Map(points.map((point) => [`${point.epoch} ${point.name}`, point]));
      const first = new Map<string, number>();
      for (const { name, epoch } of points) first.set(name, Math.min(epoch, first.get(name) ?? epoch));
      // An attempt that goes on from an earlier epoch makes what came behind it anew.
      for (const [name, epoch] of first)
        await session.query("DELETE FROM metric WHERE trial = $1 AND name = $2 AND epoch >= $3 AND attempt < $4", [
          trial,
          name,
          epoch,
          attempt,
        ]);
      await insertAll(
        session,
        "INSERT INTO metric (trial, name, epoch, value, attempt)",
        [...last.values()].map(({ name, epoch, value }) => [
          trial,
          name,
          epoch,
          Number.isNaN(value) ? null : value,
          attempt,
        ]),
        "ON CONFLICT (trial, name, epoch) DO UPDATE SET value = excluded.value, attempt = excluded.attempt",
      );
      return true;
    });
  }

  async metrics(trial: string): Promise<readonly MetricPoint[]> {
    const sql = "SELECT name, epoch, value FROM metric WHERE trial = $1 ORDER BY epoch";
    const points = await this.#list("read metrics", sql, trial, metricOf);
    // Databases order texts by rules of their own.
    return points.toSorted((a, b) => a.epoch - b.epoch || (a.name < b.name ? -1 : 1));
  }

  saveProgress(trial: string, attempt: number, epochs: number, checkpoint: string): Promise<boolean> {
    return this.#write("write a checkpoint's place", async (session) => {
      const row = await locked(session, trial);
      if (row === undefined || !isHeld(row, attempt)) return false;
      const furthest = optionalNumber(row, "furthest");
      const known = optionalText(row, "checkpoint");
      // One that had to begin anew is not further until it has come past where another was.
      const further = furthest === undefined || epochs > furthest || (epochs === furthest && checkpoint !== known);
      await session.query(
        `UPDATE trial SET checkpoint = $2, furthest = $3, progressed = $4, fruitless = $5, heartbeat = {now}
         WHERE id = $1`,
        [
          trial,
          checkpoint,
          Math.max(epochs, furthest ?? epochs),
          further ? attempt : number(row, "progressed"),
          further ? 0 : number(row, "fruitless"),
        ],
      );
      await refer(session, trial, "checkpoint", checkpoint);
      return true;
    });
  }

  async endRung(result: RungResult, attempt: number): Promise<boolean> {
    const { trial, epochs, value, checkpoint } = result;
    this.#finite(`the value of trial ${trial} after ${epochs} epochs`, value);
    return this.#write("write the end of a rung", async (session) => {
      const row = await lockedWithStudy(session, trial);
      if (row === undefined || number(row, "attempt") !== attempt) return false;
      if (text(row, "state") === "paused") {
        // Said again, by who did not hear the answer.
        const sql = "SELECT trial FROM rung WHERE trial = $1 AND epochs = $2 AND attempt = $3";
        return (await session.query(sql, [trial, epochs, attempt])).length > 0;
      }
      if (!isHeld(row, attempt)) return false;
      await session.query(
        `INSERT INTO rung (trial, epochs, value, checkpoint, attempt) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (trial, epochs) DO UPDATE
         SET value = excluded.value, checkpoint = excluded.checkpoint, attempt = excluded.attempt`,
        [trial, epochs, value, checkpoint ?? null, attempt],
      );
      const furthest = Math.max(epochs, optionalNumber(row, "furthest") ?? epochs);
      await session.query(
        `UPDATE trial SET state = 'paused', checkpoint = coalesce($2, checkpoint), furthest = $3, progressed = $4,
           fruitless = 0, worker = NULL, heartbeat = NULL, error = NULL WHERE id = $1`,
        [trial, checkpoint ?? null, furthest, attempt],
      );
      if (checkpoint !== undefined) {
        await refer(session, trial, "checkpoint", checkpoint);
        await refer(session, trial, `rung ${epochs}`, checkpoint);
      }
      await this.#observe(session, row, epochs, value);
      return true;
    });
  }

  rungs(study: string): Promise<readonly RungResult[]> {
    return this.#list(
      "read the rungs",
      `SELECT r.trial, r.epochs, r.value, r.checkpoint FROM rung r JOIN trial t ON t.id = r.trial
       WHERE t.study = $1 ORDER BY t.number, r.epochs`,
      study,
      rungOf,
    );
  }

  async commit(trial: string, attempt: number, value: number, result: TrialResult): Promise<boolean> {
    this.#finite(`the value of trial ${trial}`, value);
    return this.#write("write the end of a trial", async (session) => {
      const row = await lockedWithStudy(session, trial);
      if (row === undefined || number(row, "attempt") !== attempt) return false;
      // Said again, by who did not hear the answer: an attempt has one holder.
      if (text(row, "state") === "complete") return true;
      if (!isHeld(row, attempt)) return false;
      await session.query("INSERT INTO result (trial, value, attempt, record) VALUES ($1, $2, $3, $4)", [
        trial,
        value,
        attempt,
        encodeJson(result),
      ]);
      await session.query(
        `UPDATE trial SET state = 'complete', ended = {now}, fruitless = 0, error = NULL, checkpoint = NULL
         WHERE id = $1`,
        [trial],
      );
      // Its checkpoints have served.
      await forget(session, trial);
      for (const [side, hash] of Object.entries(result.predictions))
        await refer(session, trial, `predictions ${side}`, hash);
      if (result.weights !== undefined) await refer(session, trial, "weights", result.weights);
      await this.#observe(session, row, number(row, "epochs"), value);
      return true;
    });
  }

  async results(study: string): Promise<ReadonlyMap<string, TrialResult>> {
    const pairs = await this.#list(
      "read the results",
      `SELECT r.trial, r.record FROM result r JOIN trial t ON t.id = r.trial WHERE t.study = $1 ORDER BY t.number`,
      study,
      (row) => [text(row, "trial"), resultOf(row, this.address)] as const,
    );
    return new Map(pairs);
  }

  fail(trial: string, attempt: number, error: string): Promise<TrialState | "lost"> {
    return this.#write("write that a trial failed", async (session) => {
      const row = await lockedWithStudy(session, trial);
      if (row === undefined || !isHeld(row, attempt)) return "lost";
      const fruitless = number(row, "progressed") === attempt ? 0 : number(row, "fruitless") + 1;
      const state = fruitless > MOST_FRUITLESS ? "failed" : "waiting";
      await session.query(
        `UPDATE trial SET state = $2, fruitless = $3, error = $4, heartbeat = NULL,
           ended = CASE WHEN $2 = 'failed' THEN {now} END, worker = CASE WHEN $2 = 'failed' THEN worker END
         WHERE id = $1`,
        [trial, state, fruitless, error],
      );
      if (state === "failed") await this.#observe(session, row, number(row, "epochs"), undefined);
      return state;
    });
  }

  release(trial: string, attempt: number): Promise<boolean> {
    return this.#change(
      "hand a trial back",
      "SET state = 'waiting', worker = NULL, heartbeat = NULL WHERE id = $1 AND attempt = $2 AND state = 'running'",
      [trial, attempt],
    );
  }

  cancel(trial: string): Promise<boolean> {
    return this.#change(
      "cancel a trial",
      `SET state = 'cancelled', error = 'cancelled by a person', ended = {now}, heartbeat = NULL
       WHERE id = $1 AND state IN ('waiting', 'running', 'paused') AND ended IS NULL`,
      [trial],
    );
  }

  retry(trial: string): Promise<boolean> {
    return this.#change(
      "try a trial again",
      `SET state = 'waiting', error = NULL, ended = NULL, worker = NULL, fruitless = 0
       WHERE id = $1 AND state IN ('failed', 'cancelled')`,
      [trial],
    );
  }

  observations(study: string): Promise<readonly ObservationRow[]> {
    return this.#list(
      "read the observations",
      `SELECT o.sequence, o.trial, t.candidate, t.phase, t.replicate, o.epochs, o.value
       FROM observation o JOIN trial t ON t.id = o.trial WHERE o.study = $1 ORDER BY o.sequence`,
      study,
      observationOf,
    );
  }

  // ------------------------------------------------------------------------------------------------------------ objects

  putObject(bytes: Uint8Array): Promise<string> {
    return putObject(this.#database, this.#objects, bytes);
  }

  getObject(hash: string): Promise<Uint8Array | undefined> {
    return getObject(this.#database, this.#objects, hash);
  }

  async collectGarbage(): Promise<{ readonly objects: number; readonly bytes: number }> {
    await this.#extras.tidy();
    return collectGarbage(this.#database, this.#objects);
  }

  async verify(): Promise<readonly { readonly hash: string; readonly problem: string }[]> {
    await this.#extras.check();
    return verifyObjects(this.#database, this.#objects);
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  // ------------------------------------------------------------------------------------------------------------- common

  #read<T>(doing: string, work: (session: Session) => Promise<T>): Promise<T> {
    return this.#database.read(doing, work);
  }

  #write<T>(doing: string, work: (session: Session) => Promise<T>): Promise<T> {
    return this.#database.write(doing, work);
  }

  /** All rows of one statement that has one parameter. */
  #list<T>(doing: string, sql: string, parameter: string, record: (row: Row) => T): Promise<readonly T[]> {
    return this.#read(doing, async (session) => (await session.query(sql, [parameter])).map(record));
  }

  /** One update of one trial, and whether it applied. */
  #change(doing: string, update: string, parameters: readonly Value[]): Promise<boolean> {
    return this.#write(doing, async (session) => {
      const rows = await session.query(`UPDATE trial ${update} RETURNING id`, parameters);
      return rows.length > 0;
    });
  }

  /** The next row of the study's log. The study's row is locked already. */
  async #observe(session: Session, trial: Row, epochs: number, value: number | undefined): Promise<void> {
    const study = text(trial, "study");
    const [next] = await session.query("UPDATE study SET observed = observed + 1 WHERE id = $1 RETURNING observed", [
      study,
    ]);
    if (next === undefined) throw this.#noStudy(study);
    await session.query("INSERT INTO observation (study, sequence, trial, epochs, value) VALUES ($1, $2, $3, $4, $5)", [
      study,
      number(next, "observed"),
      text(trial, "id"),
      epochs,
      value ?? null,
    ]);
  }

  #noStudy(id: string): StoreError {
    return new StoreError(
      "refused",
      `there is no study ${id} in \`${this.address}\`: \`netc search status\` lists those that there are`,
    );
  }

  #finite(what: string, value: number): void {
    if (!Number.isFinite(value))
      throw new StoreError(
        "refused",
        `${what} is ${value} and cannot be stored in \`${this.address}\`: a trial without a number has failed`,
      );
  }
}
