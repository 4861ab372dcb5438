/**
 * A study as a journal of Optuna, which its dashboard and its analyses open: JSON lines, an event each.
 *
 * One way only. Optuna has no replicates, rungs or fences, so every training is a trial of its own, whose replicate, phase
 * and candidate are user attributes; what waits is not written. Written as events (begin, choose, report, end) and not as
 * finished trials, because readers of several values look for them in the event that ends a trial. Format: operations 0 to
 * 9 of `optuna.storages.JournalStorage`, the same from version 3.1 to 5.
 */
import type { Candidate, Factor } from "../../../compiler/search/search.ts";
import { stoppedTrials } from "./report.ts";
import { scoresOf } from "./scores.ts";
import type { StudyData } from "./study-data.ts";
import { costsOf } from "./table.ts";

const CREATE_STUDY = 0;
const SET_STUDY_USER_ATTR = 2;
const SET_STUDY_SYSTEM_ATTR = 3;
const CREATE_TRIAL = 4;
const SET_TRIAL_PARAM = 5;
const SET_TRIAL_STATE_VALUES = 6;
const SET_TRIAL_INTERMEDIATE_VALUE = 7;
const SET_TRIAL_USER_ATTR = 8;

const MINIMIZE = 1;
const MAXIMIZE = 2;

const COMPLETE = 1;
const PRUNED = 2;
const FAIL = 3;

/** A moment as Optuna writes it: without a zone. */
function moment(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace("Z", "000");
}

/** A factor as a categorical distribution: the levels as written. Optuna has no values that come with a condition. */
function distributionOf({ kind, levels }: Factor): string {
  const choices = kind === "member" ? [false, true] : levels.map((level) => (level === "" ? null : level));
  return JSON.stringify({ name: "CategoricalDistribution", attributes: { choices } });
}

/** The lines of the journal. */
export function exportOptuna(data: StudyData): string {
  const { study, trials, results, metrics } = data;
  const { search } = study;
  const scores = scoresOf(data);
  const candidates = new Map<string, Candidate>(search.space.candidates.map((one) => [one.hash, one]));
  const costs = costsOf(search).filter(() => search.objectives.some(({ kind }) => kind === "cost"));
  const curve = `val.${scores.target.name}`;
  const worker = `netc-${study.id}`;
  const lines: string[] = [];
  const write = (operation: number, fields: Readonly<Record<string, unknown>>): void => {
    lines.push(JSON.stringify({ op_code: operation, worker_id: worker, ...fields }));
  };
  write(CREATE_STUDY, {
    study_name: study.name,
    directions: [
      scores.target.sign > 0 ? MAXIMIZE : MINIMIZE,
      ...costs.map(({ goal }) => (goal === "maximize" ? MAXIMIZE : MINIMIZE)),
    ],
  });
  const about: Readonly<Record<string, unknown>> = {
    netc: study.netc,
    study: study.id,
    search_hash: study.searchHash,
    data_hash: study.dataHash,
    data_note: data.note,
  };
  // Where Optuna from 3.2 on keeps the names of its axes.
  const names = [curve, ...costs.map(({ cost }) => cost)];
  write(SET_STUDY_SYSTEM_ATTR, { study_id: 0, system_attr: { "study:metric_names": names } });
  for (const [key, value] of Object.entries(about))
    write(SET_STUDY_USER_ATTR, { study_id: 0, user_attr: { [key]: value } });
  const left = stoppedTrials(data.decisions);
  let number = 0;
  for (const trial of trials) {
    const candidate = candidates.get(trial.candidate);
    // Optuna would hand out a waiting trial by itself. A super-network is no trial of a candidate.
    if (candidate === undefined || trial.started === undefined || trial.phase === "prior") continue;
    const trial_id = number++;
    write(CREATE_TRIAL, { study_id: 0, datetime_start: moment(trial.started) });
    for (const [index, factor] of search.space.factors.entries())
      write(SET_TRIAL_PARAM, {
        trial_id,
        param_name: factor.name,
        param_value_internal: candidate.levels[index] ?? 0,
        distribution: distributionOf(factor),
      });
    const result = results[trial.id];
    const attributes: Readonly<Record<string, unknown>> = {
      number: trial.number,
      candidate: candidate.label,
      config_hash: trial.candidate,
      phase: trial.phase,
      replicate: trial.replicate,
      seed: trial.seed,
      ...candidate.costs,
      ...result?.metrics,
      ...(result?.latency === undefined ? {} : { latency_ms: result.latency }),
      ...(trial.error === undefined ? {} : { error: trial.error }),
    };
    for (const [key, value] of Object.entries(attributes))
      write(SET_TRIAL_USER_ATTR, { trial_id, user_attr: { [key]: value } });
    for (const { name, epoch, value } of metrics[trial.id] ?? [])
      if (name === curve && Number.isFinite(value))
        write(SET_TRIAL_INTERMEDIATE_VALUE, { trial_id, step: epoch, intermediate_value: value });
    const value = result?.metrics[curve] ?? scores.progress.get(trial.id)?.value;
    const latency = result?.latency ?? candidate.latency?.milliseconds;
    const values = [value, ...costs.map(({ cost }) => (cost === "latency" ? latency : candidate.costs[cost]))];
    const whole = values.every((one) => one !== undefined && Number.isFinite(one));
    const state =
      trial.state === "complete" && whole
        ? COMPLETE
        : left.has(trial.id)
          ? PRUNED
          : trial.state === "running" || trial.state === "waiting" || trial.state === "paused"
            ? undefined
            : FAIL;
    // One that is under way stays so: the journal is as of now.
    if (state !== undefined)
      write(SET_TRIAL_STATE_VALUES, {
        trial_id,
        state,
        // Optuna takes the newest intermediate value of a pruned trial by itself.
        values: state === COMPLETE ? values : null,
        datetime_complete: moment(trial.ended ?? trial.heartbeat ?? trial.started),
      });
  }
  return lines.map((line) => `${line}\n`).join("");
}
