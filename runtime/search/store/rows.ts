/** Rows of the tables as the records of a study, and the other way round. */
import type { Candidate, Search } from "../../../compiler/search/search.ts";
import type { Decision, MetricPoint, ObservationRow, RungResult, StudyRow, TrialResult, TrialRow } from "../study.ts";
import { number, optionalNumber, optionalText, type Row, text } from "./database.ts";
import { StoreError } from "./error.ts";

/** JSON has no NaN and no infinities; a result may have them. A record of netc's own never has this one key. */
const NOT_FINITE = "not finite";

export function encodeJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "number" && !Number.isFinite(inner) ? { [NOT_FINITE]: String(inner) } : inner,
  );
}

function reviveNumber(_: string, inner: unknown): unknown {
  return typeof inner === "object" && inner !== null && NOT_FINITE in inner ? Number(inner[NOT_FINITE]) : inner;
}

/** @throws StoreError (damaged) that names what it is of */
function decodeJson(json: string, what: string, address: string): unknown {
  try {
    // A reviver is slow, and nearly nothing needs it.
    return json.includes(NOT_FINITE) ? JSON.parse(json, reviveNumber) : JSON.parse(json);
  } catch {
    throw new StoreError(
      "damaged",
      `${what} in \`${address}\` cannot be read: some of it was changed by another program`,
    );
  }
}

/**
 * Phase and replicate as the tables have them, whose check knows no `prior`: it is a baseline of the replicate −1, which no
 * other trial has.
 */
export function storedPhase({ phase, replicate }: Pick<TrialRow, "phase" | "replicate">): readonly [string, number] {
  return phase === "prior" ? ["baseline", -1 - replicate] : [phase, replicate];
}

function phaseOf(row: Row): Pick<TrialRow, "phase" | "replicate"> {
  const replicate = number(row, "replicate");
  return replicate < 0
    ? { phase: "prior", replicate: -1 - replicate }
    : { phase: text(row, "phase") as TrialRow["phase"], replicate };
}

export const TRIAL =
  "id, number, candidate, phase, replicate, seed, epochs, state, attempt, fruitless, worker, heartbeat, error, started, ended";

export function trialOf(row: Row): TrialRow {
  return {
    id: text(row, "id"),
    number: number(row, "number"),
    candidate: text(row, "candidate"),
    ...phaseOf(row),
    seed: number(row, "seed"),
    epochs: number(row, "epochs"),
    state: text(row, "state") as TrialRow["state"],
    attempt: number(row, "attempt"),
    fruitless: number(row, "fruitless"),
    worker: optionalText(row, "worker"),
    heartbeat: optionalNumber(row, "heartbeat"),
    error: optionalText(row, "error"),
    started: optionalNumber(row, "started"),
    ended: optionalNumber(row, "ended"),
  };
}

export const STUDY = "id, name, search_hash, data_hash, data, netc, state, created";

/** What never changes once a study is there, and is long. */
export type StudyText = Pick<StudyRow, "search" | "sources">;

export function studyOf(row: Row, long: StudyText): StudyRow {
  return {
    id: text(row, "id"),
    name: text(row, "name"),
    ...long,
    searchHash: text(row, "search_hash"),
    dataHash: text(row, "data_hash"),
    data: text(row, "data"),
    netc: text(row, "netc"),
    state: text(row, "state") as StudyRow["state"],
    created: number(row, "created"),
  };
}

/** A search apart from its candidates, which have rows of their own. */
export function splitSearch(search: Search): { readonly rest: string; readonly candidates: readonly Candidate[] } {
  const { candidates } = search.space;
  return { rest: encodeJson({ ...search, space: { ...search.space, candidates: [] } }), candidates };
}

export function joinSearch(rest: Row, candidates: readonly Row[], address: string): StudyText {
  const search = decodeJson(text(rest, "search"), "a study's search", address) as Search;
  // All at once: one text for the parser.
  const records = `[${candidates.map((row) => text(row, "record")).join(",")}]`;
  return {
    search: {
      ...search,
      space: { ...search.space, candidates: decodeJson(records, "a study's candidates", address) as Candidate[] },
    },
    sources: decodeJson(text(rest, "sources"), "a study's sources", address) as StudyRow["sources"],
  };
}

export function rungOf(row: Row): RungResult {
  return {
    trial: text(row, "trial"),
    epochs: number(row, "epochs"),
    value: number(row, "value"),
    checkpoint: optionalText(row, "checkpoint"),
  };
}

export function metricOf(row: Row): MetricPoint {
  return { name: text(row, "name"), epoch: number(row, "epoch"), value: optionalNumber(row, "value") ?? Number.NaN };
}

export function observationOf(row: Row): ObservationRow {
  return {
    sequence: number(row, "sequence"),
    trial: text(row, "trial"),
    candidate: text(row, "candidate"),
    ...phaseOf(row),
    epochs: number(row, "epochs"),
    value: optionalNumber(row, "value"),
  };
}

export function decisionOf(row: Row, address: string): Decision {
  return decodeJson(text(row, "record"), `decision ${number(row, "sequence")}`, address) as Decision;
}

export function resultOf(row: Row, address: string): TrialResult {
  const result = decodeJson(text(row, "record"), `the result of trial ${text(row, "trial")}`, address) as TrialResult;
  // JSON leaves out what is undefined.
  return { ...result, latency: result.latency, weights: result.weights };
}
