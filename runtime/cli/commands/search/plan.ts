/**
 * `netc search plan`: what a search would do, without a training: its space, what the points cost, how it is searched and
 * why, what that takes, and how many seeds a difference needs.
 */

import { existsSync } from "node:fs";
import type { Candidate, Search } from "../../../../compiler/search/search.ts";
import { findDevice } from "../../../engine/devices.ts";
import { duration, magnitude } from "../../../report/text.ts";
import { measureSearch } from "../../../search/latency/device.ts";
import { surveyOf } from "../../../search/latency/survey.ts";
import { latencyLines, surveyText } from "../../../search/latency/words.ts";
import { type StudyPlan, planOf as studyPlanOf } from "../../../search/methods/plan.ts";
import { methodText } from "../../../search/report/report.ts";
import { POWER_METHOD, powerTable } from "../../../search/statistics/power.ts";
import { openStore } from "../../../search/store/open.ts";
import type { StudyStore } from "../../../search/study.ts";
import { EXIT, type ExitCode } from "../../exit.ts";
import { printJson } from "../../json.ts";
import { count, grouped, print, table } from "../../terminal.ts";
import { asSearchError } from "./shared.ts";
import { type OpenedSearch, openSearch, type SearchOptions } from "./source.ts";

export interface PlanOptions extends SearchOptions {
  readonly store: string;
  readonly refused?: boolean;
  readonly measure?: boolean;
  readonly device: "auto" | "webgpu" | "wasm";
  readonly json?: boolean;
}

const COSTS = ["params", "flops", "memory"] as const;
/** Points that are listed without being asked for. */
const LISTED = 12;

/** Runs the command. */
export async function searchPlan(file: string, options: PlanOptions): Promise<ExitCode> {
  const json = options.json === true;
  const opened = openSearch(file, options, json, true);
  if (opened === undefined) return EXIT.wrong;
  const search = options.measure === true ? await measured(opened, options.device, json) : opened.search;
  const plan = planOf(search);
  const survey = surveyOf(search);
  const seconds = await timeOf(search, options.store).catch((error: unknown) => {
    throw asSearchError(error, json);
  });
  if (json) {
    const { space, ...settings } = search;
    const { candidates, factors, points } = space;
    const refused =
      options.refused === true ? { refusedPoints: candidates.filter((one) => one.refused !== undefined) } : {};
    printJson({
      ...settings,
      points,
      factors,
      candidates: candidates.length,
      ...plan,
      secondsPerTraining: seconds,
      ...(survey === undefined
        ? {}
        : { survey: { models: survey.models.length, measured: survey.fit.length + survey.check.length } }),
      powers: powerTable(),
      ...refused,
    });
    return EXIT.ok;
  }
  for (const line of planLines(search, plan, seconds, options.refused === true)) print(line);
  return EXIT.ok;
}

async function measured({ search, entry }: OpenedSearch, name: PlanOptions["device"], json: boolean): Promise<Search> {
  try {
    return await measureSearch(search, { entry: entry.source, resolve: entry.resolve }, await findDevice(name));
  } catch (error) {
    throw asSearchError(error, json);
  }
}

interface Range {
  readonly least: number;
  readonly most: number;
}

interface Plan extends StudyPlan {
  readonly ranges: Readonly<Record<(typeof COSTS)[number], Range>>;
}

/** The plan's figures; `--json` prints what else the search says beside them. */
function planOf(search: Search): Plan {
  const feasible = search.space.candidates.filter(({ refused }) => refused === undefined);
  const range = (cost: (typeof COSTS)[number]): Range => ({
    least: feasible.reduce((least, { costs }) => Math.min(least, costs[cost]), Number.POSITIVE_INFINITY),
    most: feasible.reduce((most, { costs }) => Math.max(most, costs[cost]), 0),
  });
  return {
    ...studyPlanOf(search),
    ranges: { params: range("params"), flops: range("flops"), memory: range("memory") },
  };
}

/** Median seconds of a full training of this search, where the store has seen some. */
async function timeOf({ name, epochs }: Search, address: string): Promise<number | undefined> {
  // A plan makes nothing, so it does not make a store either.
  if (!/^postgres/i.test(address) && !existsSync(address.replace(/^sqlite:/, ""))) return undefined;
  const store = await openStore(address);
  try {
    const times = await timesOf(store, name, epochs);
    return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  } finally {
    await store.close();
  }
}

async function timesOf(store: StudyStore, name: string, epochs: number): Promise<number[]> {
  const times: number[] = [];
  for (const study of await store.studies()) {
    if (study.name !== name) continue;
    const results = await store.results(study.id);
    for (const { seconds, overheadSeconds, scores } of results.values())
      if (scores === undefined) times.push(((seconds + overheadSeconds) * epochs) / study.search.epochs);
  }
  return times;
}

function planLines(
  search: Search,
  plan: ReturnType<typeof planOf>,
  seconds: number | undefined,
  refused: boolean,
): readonly string[] {
  const { space, replicates, spend, epochs } = search;
  const { ranges, method, why, prior, noPrior, rungs, baseline, screen, confirm, random, most } = plan;
  const span = ({ least, most }: Range, unit: string): string =>
    least === most ? `${magnitude(least)}${unit}` : `${magnitude(least)} to ${magnitude(most)}${unit}`;
  const wrong = space.candidates.filter((one) => one.refused !== undefined);
  const cost = seconds === undefined ? "" : `, about ${duration(most * seconds)} one after the other`;
  const partial = rungs.slice(0, -1);
  const again =
    confirm.leaders === 0
      ? "no part of it confirms"
      : `of them ${confirm.leaders * confirm.replicates} confirm (${count(confirm.leaders, "leader")}, ${count(confirm.replicates, "seed")} each)`;
  return [
    `${search.name}: ${count(space.points, "point")} as written, ${count(space.candidates.length, "different model")}, ${grouped(plan.feasible)} to search`,
    `  costs      params ${span(ranges.params, "")}; flops ${span(ranges.flops, "")}; activations ${span(ranges.memory, " B")}`,
    `  without    ${labelAt(search, space.none)}; with all: ${labelAt(search, space.all)}`,
    ...measuringLines(search),
    ...(search.requirements.length > 0 ? [`  requires   ${search.requirements.join("; ")}`] : []),
    `  method     ${methodText(method)}: ${why}`,
    ...(prior === undefined
      ? noPrior === undefined
        ? []
        : [`  prior      no super-network: ${noPrior}`]
      : [
          `  prior      a super-network for ${count(prior.epochs, "epoch")}, which scores ${grouped(prior.scored.length)} of them: ${prior.cost.toFixed(1)} trainings; used if it ranks those that it begins with`,
        ]),
    ...(method.kind === "factorial"
      ? []
      : [`  begins     with ${count(baseline.length, "candidate")} in any case and ${screen.length} drawn uniformly`]),
    `  trainings  ${grouped(spend)} of ${count(epochs, "epoch")}${partial.length > 0 ? `, behind rungs at ${partial.join(", ")}` : ""}; ${again}`,
    ...(random.length > 0
      ? [`  random     ${count(random.length, "training")} more, of search at random to an equal budget`]
      : []),
    `  table      ${count(replicates.final, "fresh seed")} for each row; ${grouped(most)} trainings in all at most${cost}`,
    "",
    ...powerLines(),
    ...(refused
      ? refusedLines(wrong)
      : wrong.length > 0
        ? ["", `${count(wrong.length, "model")} refused; \`--refused\` says why`]
        : []),
    ...(space.candidates.length <= LISTED ? ["", ...candidateTable(space.candidates)] : []),
  ];
}

/** What is known of latencies, or what a run would measure before it trains anything. */
function measuringLines(search: Search): readonly string[] {
  const survey = surveyOf(search);
  if (survey === undefined) return [];
  if (search.latency === undefined)
    return [
      `  latency    a run first measures ${surveyText(survey)}${search.latencyLimit === undefined ? "" : `, and refuses what is above ${search.latencyLimit} ms`}; \`--measure\` does so now`,
    ];
  return latencyLines(search).map(
    (line, k) => `  ${k === 0 ? "latency    " : "           "}${line.replace(/^latency /, "")}`,
  );
}

function labelAt({ space }: Search, index: number | undefined): string {
  return index === undefined ? "–" : `\`${space.candidates[index]?.label ?? ""}\``;
}

function candidateTable(candidates: readonly Candidate[]): readonly string[] {
  const timed = candidates.some(({ latency }) => latency !== undefined);
  const rows = candidates.map(({ label, costs, latency, refused }) => [
    label,
    grouped(costs.params),
    magnitude(costs.flops),
    magnitude(costs.memory),
    ...(timed
      ? [latency === undefined ? "" : `${latency.measured ? "" : "≈ "}${latency.milliseconds.toPrecision(3)} ms`]
      : []),
    refused ?? "",
  ]);
  const columns = ["candidate", "params", "flops", "activations", ...(timed ? ["latency"] : []), ""];
  return table(columns, rows, new Set([1, 2, 3, 4].slice(0, timed ? 4 : 3))).split("\n");
}

function refusedLines(refused: readonly Candidate[]): readonly string[] {
  if (refused.length === 0) return ["", "no model is refused"];
  return ["", ...refused.map(({ label, refused: why }) => `refused: \`${label}\`: ${why ?? ""}`)];
}

/** How many seeds a difference takes to be seen, by its size. */
function powerLines(): readonly string[] {
  const rows = powerTable().map(({ difference, unpaired, paired }) => [
    `${difference} sd`,
    String(unpaired),
    String(paired),
  ]);
  return [
    `seeds that show a difference, by its size in standard deviations between seeds (${POWER_METHOD}):`,
    ...table(["difference", "seeds each", "paired"], rows, new Set([0, 1, 2]))
      .split("\n")
      .map((line) => `  ${line}`),
    "  paired: one seed for both, whose scores correlate by a half",
  ];
}
