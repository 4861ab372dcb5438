/**
 * What a study does next: a pure function of its search and its journal.
 *
 * The phases, each of which waits for what it needs of the one before and for nothing else:
 *
 *   prior      where it was asked for: the super-network, beside the next two
 *   baseline   `none`, `all` and the starts
 *   screen     candidates drawn uniformly, which are also the beginning of random search
 *   search     what the method proposes, one trial to a decision; partial trainings while they can be trusted
 *   confirm    the leaders again, on other seeds
 *   random     where it was asked for: random search to the end of an equal budget, whenever there is nothing else to do
 *   final      `none`, `all`, the leaders and the best of random search, on seeds that nothing was chosen by
 *
 * A small space is trained whole instead of the first three. Whoever calls this asks once for each worker that has nothing
 * to do; it answers with a decision, with "wait" (something must end first) or with "finished".
 */
import type { Search } from "../../../compiler/search/search.ts";
import type { Knowledge, Observation } from "../propose.ts";
import type { Decision, Phase, Proposal } from "../study.ts";
import { pickOf } from "./acquire.ts";
import { fitGaussian, posteriorAt } from "./gaussian.ts";
import { groupOf, type LedgerTrial, ledgerOf, pendingOf, type StudyKnown } from "./ledger.ts";
import { planOf, type StudyPlan, type View, viewOf } from "./plan.ts";
import { calibrationOf, judgePrior, type PriorTrust, priorText, trustedPrior } from "./prior.ts";
import { proposeOf } from "./propose.ts";
import { promotion, type RungTrust, rungTrust, trustText } from "./rungs.ts";

export type { StudyKnown } from "./ledger.ts";

/** What is decided, before it is numbered. */
interface Step {
  readonly method: string;
  readonly proposals: readonly Proposal[];
  readonly reason: string;
}

type Next = Step | "wait" | "finished";

interface State {
  readonly search: Search;
  readonly plan: StudyPlan;
  readonly view: View;
  readonly trials: readonly LedgerTrial[];
  readonly trust: readonly RungTrust[];
  /** The super-network's scores, once it has ended; by `Candidate.index`, larger is better. */
  readonly scores: ReadonlyMap<number, number> | undefined;
  /** How many decisions there were: the step of the method's generator. */
  readonly step: number;
}

const SLACK = 1e-9;
/** Candidates are closed after a failure, or after a second one if another training went well. */
const MOST_FAILURES = 2;

/**
 * The next decision of a study. The same search and journal give the same decision, on every machine.
 *
 * @param known see there; observations of a study in the order of its log
 */
export function nextDecision(search: Search, known: StudyKnown): Decision | "wait" | "finished" {
  const plan = planOf(search);
  const trials = ledgerOf(search, known);
  const state: State = {
    search,
    plan,
    view: viewOf(search),
    trials,
    trust: rungTrust(plan.rungs, trials),
    scores: scoresOf(search, trials, known),
    step: known.decisions.length,
  };
  const next = mainLine(state);
  const step = next === "wait" ? (randomStep(state) ?? next) : next;
  if (step === "wait" || step === "finished") return step;
  return {
    sequence: known.decisions.length + 1,
    method: step.method,
    seen: known.observations.length,
    pending: [...pendingOf(known)].sort((a, b) => (a < b ? -1 : 1)),
    proposals: step.proposals,
    reason: step.reason,
  };
}

/**
 * Makes a decision of a journal again, from what was known when it was made.
 * @param known the whole journal, as it is now
 * @param sequence of the decision, from 1
 */
export function decideAgain(search: Search, known: StudyKnown, sequence: number): Decision | "wait" | "finished" {
  const written = known.decisions[sequence - 1];
  return nextDecision(search, {
    study: known.study,
    trials: (written?.pending ?? []).map((id) => ({ id, state: "running" })),
    observations: known.observations.slice(0, written?.seen ?? 0),
    decisions: known.decisions.slice(0, sequence - 1),
    scores: known.scores,
  });
}

function scoresOf(search: Search, trials: readonly LedgerTrial[], { scores }: StudyKnown): State["scores"] {
  const ended = trials.some(({ phase, state }) => phase === "prior" && state === "complete");
  const sign = signOf(search);
  return ended && scores !== undefined
    ? new Map([...scores].map(([index, score]) => [index, sign * score]))
    : undefined;
}

function mainLine(state: State): Next {
  const { plan } = state;
  const phases =
    plan.method.kind === "factorial"
      ? [factorialStep, confirmStep, finalStep]
      : [priorStep, baselineStep, screenStep, carryOnStep, searchStep, endStep, confirmStep, finalStep];
  for (const phase of phases) {
    const next = phase(state);
    if (next !== undefined) return next;
  }
  return "finished";
}

// ------------------------------------------------------------------------------------------------------------ accounting

const inPhase = ({ trials }: State, ...phases: readonly Phase[]): readonly LedgerTrial[] =>
  trials.filter(({ phase }) => phases.includes(phase));

const anyPending = (trials: readonly LedgerTrial[]): boolean => trials.some(({ state }) => state === "pending");

/** Full trainings that baseline, screen and search have cost, those under way with what they go to; failed ones count. */
function spent(state: State): number {
  const { epochs } = state.search;
  const cost = ({ phase, state, goal }: LedgerTrial): number =>
    phase === "search" || state === "failed" ? goal : epochs; // the others go on to the end in any case
  return inPhase(state, "baseline", "screen", "search").reduce((sum, trial) => sum + cost(trial), 0) / epochs;
}

/** Candidates that are not to be trained any more, because that failed or somebody stopped it. */
function closedOf({ trials, view }: State): ReadonlySet<number> {
  const failures = new Map<number, number>();
  const good = new Set<number>();
  for (const { candidate, phase, state, values } of trials) {
    if (phase === "prior") continue;
    if (state === "failed") failures.set(candidate, (failures.get(candidate) ?? 0) + 1);
    else if (values.size > 0) good.add(candidate);
  }
  const closed = [...failures].filter(([candidate, times]) => times >= MOST_FAILURES || !good.has(candidate));
  return new Set(closed.flatMap(([candidate]) => view.local.get(candidate) ?? []));
}

function begin(
  state: State,
  candidates: readonly number[],
  phase: Phase,
  times: number,
  epochs: number,
): readonly Proposal[] {
  const group = groupOf(phase);
  const taken = new Map<number, number>();
  for (const trial of state.trials)
    if (groupOf(trial.phase) === group && trial.phase !== "prior")
      taken.set(trial.candidate, (taken.get(trial.candidate) ?? 0) + 1);
  // By replicate first: where only some can run, they are a comparison of all candidates on the same seeds.
  return Array.from({ length: times }, (_, each) =>
    candidates.map((candidate) => ({
      kind: "begin" as const,
      candidate,
      phase,
      replicate: (taken.get(candidate) ?? 0) + each,
      epochs,
    })),
  ).flat();
}

/** 1 if larger values of the metric are better, else −1. */
function signOf({ objectives }: Search): 1 | -1 {
  return objectives.find(({ kind }) => kind === "metric")?.goal === "minimize" ? -1 : 1;
}

const APART_FROM_SEARCH: ReadonlySet<Phase> = new Set(["random", "final", "prior"]);

/** Replicates of different phases are different trials; their numbers are kept apart for the model. */
const REPLICATES_APART = 1_000_000;

/**
 * What a method may know. Trials of the equal random search are left out, or the method would have a budget that it is not
 * charged for; final ones because nothing may be chosen by them; rungs that are not trusted because they do not tell.
 */
function knowledgeOf(state: State): Knowledge {
  const { search, plan, view, trials, trust } = state;
  const sign = signOf(search);
  const trusted = new Set([...trust.filter((rung) => rung.trusted).map(({ epochs }) => epochs), search.epochs]);
  const observations: Observation[] = [];
  const pending: { candidate: number; rung: number }[] = [];
  for (const trial of trials) {
    const candidate = view.local.get(trial.candidate);
    if (candidate === undefined || APART_FROM_SEARCH.has(trial.phase)) continue;
    const replicate = trial.replicate + (trial.phase === "confirm" ? REPLICATES_APART : 0);
    for (const [epochs, value] of trial.values)
      if (trusted.has(epochs))
        observations.push({ candidate, value: sign * value, rung: plan.rungs.indexOf(epochs), replicate });
    if (trial.state === "pending") pending.push({ candidate, rung: plan.rungs.indexOf(trial.goal) });
  }
  return {
    candidates: view.candidates,
    observations,
    pending,
    prior: state.scores === undefined ? undefined : trustedPrior(search, trials, state.scores),
    closed: closedOf(state),
    seed: search.seed,
    step: state.step,
  };
}

/** How well the super-network ranks what was trained in full without a look at its scores; undefined before it has ended. */
function trustInPrior(state: State): PriorTrust | undefined {
  const { scores } = state;
  if (scores === undefined) return undefined;
  return judgePrior(calibrationOf(state.search, state.trials, scores));
}

// ---------------------------------------------------------------------------------------------------------------- phases

function priorStep(state: State): Next | undefined {
  const { plan } = state;
  if (plan.prior === undefined || inPhase(state, "prior").length > 0) return undefined;
  const { candidate, epochs, scored } = plan.prior;
  return {
    method: "prior",
    proposals: [{ kind: "begin", candidate, phase: "prior", replicate: 0, epochs }],
    reason: `the super-network, trained for ${epochs} epochs, is to score ${scored.length} candidates`,
  };
}

function factorialStep(state: State): Next | undefined {
  const { search, plan, view } = state;
  const trials = inPhase(state, "search");
  const left = Math.floor(plan.searchBudget + SLACK) - trials.length;
  const closed = closedOf(state);
  const propose = proposeOf(plan.method);
  const known = knowledgeOf(state);
  const open = view.candidates.count - closed.size;
  // A whole pass at a time; a part of one only if there is no whole one, so that all have equally many seeds.
  const size = left >= open ? open : trials.length === 0 ? left : 0;
  // A candidate whose training failed leaves its place in later passes empty.
  const passes = trials.reduce((most, { replicate }) => Math.max(most, replicate + 1), 0);
  const enough = passes >= Math.floor((plan.searchBudget + SLACK) / view.candidates.count);
  if (size > 0 && (!enough || trials.length === 0)) {
    const chosen = propose({ ...known, observations: observedOrBegun(state, known), pending: [] }, size);
    const candidates = chosen.map((local) => view.indices[local] ?? 0);
    return {
      method: "factorial",
      proposals: begin(state, candidates, "search", 1, search.epochs),
      reason:
        size < open
          ? `${plan.why}; the budget is enough for ${size} of ${open} candidates, drawn uniformly`
          : `${plan.why}; pass ${passes + 1} over ${open} candidates`,
    };
  }
  return anyPending(trials) ? "wait" : undefined;
}

/** For the factorial, a trial begun is as good as one that has ended: it does not look at values. */
function observedOrBegun({ trials, view }: State, known: Knowledge): readonly Observation[] {
  const begun = trials
    .filter(({ phase }) => phase === "search")
    .flatMap(({ candidate, replicate }) => {
      const local = view.local.get(candidate);
      return local === undefined ? [] : [{ candidate: local, replicate, value: 0, rung: 0 }];
    });
  return begun.length === 0 ? known.observations : begun;
}

function baselineStep(state: State): Next | undefined {
  const { search, plan } = state;
  if (plan.baseline.length === 0 || inPhase(state, "baseline").length > 0) return undefined;
  return {
    method: "baseline",
    proposals: begin(
      state,
      plan.baseline,
      "baseline",
      Math.max(1, search.replicates.search),
      plan.rungs[0] ?? search.epochs,
    ),
    reason: "without attention, with all of it, and the starts: trained whatever the method says",
  };
}

function screenStep(state: State): Next | undefined {
  const { search, plan } = state;
  if (plan.screen.length === 0 || inPhase(state, "screen").length > 0) return undefined;
  return {
    method: "random",
    proposals: begin(
      state,
      plan.screen,
      "screen",
      Math.max(1, search.replicates.search),
      plan.rungs[0] ?? search.epochs,
    ),
    reason: `${plan.screen.length} candidates drawn uniformly: what random search would find is estimated from them`,
  };
}

/** Baseline and screen go through all rungs to the end, so that every rung is measured on trials that it did not choose. */
function carryOnStep(state: State): Next | undefined {
  const paused = inPhase(state, "baseline", "screen").filter((trial) => trial.state === "paused");
  if (paused.length === 0) return undefined;
  return {
    method: "baseline",
    proposals: paused.map(({ id, goal }) => ({
      kind: "promote",
      trial: id,
      epochs: state.plan.rungs[state.plan.rungs.indexOf(goal) + 1] ?? state.search.epochs,
    })),
    reason: "trials of baseline and screen are trained in full: they measure what partial trainings tell",
  };
}

function searchStep(state: State): Next | undefined {
  const { plan, search, trials, view } = state;
  const early = inPhase(state, "baseline", "screen");
  const ended = early.filter((trial) => trial.state !== "pending").length;
  const informed = plan.method.kind !== "random" && plan.method.kind !== "halving";
  const budget = plan.searchBudget - spent(state) + SLACK;
  const usable = [...state.trust.filter(({ trusted }) => trusted).map(({ epochs }) => epochs), search.epochs];
  const least = (usable[0] ?? search.epochs) / search.epochs;
  const paused = trials.filter((trial) => trial.phase === "search" && trial.state === "paused");
  if (budget < least && paused.length === 0) return undefined;
  if (informed && 2 * ended < early.length) return "wait";
  const known = knowledgeOf(state);
  const trust = trustText(state.trust);
  const believed = trustInPrior(state);
  const notes = [
    ...(trust === "" ? [] : [`; partial trainings: ${trust}`]),
    ...(believed === undefined ? [] : [`; super-network: ${priorText(believed)}`]),
  ].join("");
  const merit = meritOf(state, known);
  const searched = inPhase(state, "search");
  const carried = promotion(plan.rungs, usable, searched, plan.eta, merit);
  const onward = carried === undefined ? undefined : promote(state, carried, usable, budget);
  if (onward !== undefined) return { ...onward, reason: `among the best 1/${plan.eta} of its rung${notes}` };
  if (budget >= least) {
    // Those behind a rung are carried on by their rank and by nothing else, or the rung would cost and choose nothing.
    const closed = new Set(known.closed);
    for (const { candidate } of paused) closed.add(view.local.get(candidate) ?? 0);
    const [proposed] = proposeOf(plan.method)({ ...known, closed }, 1);
    const step = proposed === undefined || closed.has(proposed) ? undefined : beginOne(state, proposed, usable, budget);
    if (step !== undefined) return { ...step, reason: `${step.reason}${notes}` };
  }
  // What is left of the budget goes to the best that wait behind a rung.
  const order = [...paused].sort((a, b) => b.goal - a.goal || merit(b, b.goal) - merit(a, a.goal));
  for (const trial of order) {
    const last = promote(state, trial, usable, budget);
    if (last !== undefined)
      return { ...last, reason: `the best behind a rung, for what is left of the budget${notes}` };
  }
  return undefined;
}

/** With the Gaussian process a trial at a rung is as good as the model says of its candidate; else as its value there. */
function meritOf(state: State, known: Knowledge): (trial: LedgerTrial, rung: number) => number {
  const { plan, search, view } = state;
  const sign = signOf(search);
  if (plan.rungs.length < 2) return () => 0;
  const fit = plan.method.kind === "gp" ? fitGaussian(known) : undefined;
  const { prior } = known;
  if (fit === undefined) return (trial, rung) => sign * (trial.values.get(rung) ?? -sign * Infinity);
  const width = view.candidates.factors.length;
  const means = new Map<number, number>();
  return ({ candidate }) => {
    const local = view.local.get(candidate) ?? 0;
    const levels = view.candidates.levels.subarray(local * width, (local + 1) * width);
    const mean = means.get(local) ?? posteriorAt(fit, levels, prior?.subarray(local, local + 1)).mean[0];
    means.set(local, mean ?? -Infinity);
    return mean ?? -Infinity;
  };
}

function promote(
  state: State,
  trial: LedgerTrial,
  usable: readonly number[],
  budget: number,
): Omit<Step, "reason"> | undefined {
  const epochs = usable.find((rung) => rung > trial.goal) ?? state.search.epochs;
  if ((epochs - trial.goal) / state.search.epochs > budget) return undefined;
  return { method: state.plan.method.kind, proposals: [{ kind: "promote", trial: trial.id, epochs }] };
}

/** Begins a proposed candidate: at the lowest rung, or in full if it has been trained in full before. */
function beginOne(state: State, local: number, usable: readonly number[], budget: number): Step | undefined {
  const { plan, search, view } = state;
  const candidate = view.indices[local] ?? 0;
  const label = search.space.candidates[candidate]?.label ?? "";
  const method = plan.method.kind;
  const own = inPhase(state, "baseline", "screen", "search").filter((trial) => trial.candidate === candidate);
  const again = own.some((trial) => trial.state === "complete");
  const epochs = again ? search.epochs : (usable[0] ?? search.epochs);
  const times = again ? 1 : Math.max(1, search.replicates.search);
  const affordable = Math.min(times, Math.floor((budget * search.epochs) / epochs));
  if (affordable < 1) return undefined;
  return {
    method,
    proposals: begin(state, [candidate], "search", affordable, epochs),
    reason: again ? `${method} proposes ${label} once more, on another seed` : `${method} proposes ${label}`,
  };
}

/** Waits for the search to end, then ends what is left behind rungs. */
function endStep(state: State): Next | undefined {
  const trials = inPhase(state, "baseline", "screen", "search");
  // The leaders are chosen with all that is known.
  if (anyPending(trials) || anyPending(inPhase(state, "prior"))) return "wait";
  const paused = trials.filter((trial) => trial.state === "paused");
  if (paused.length === 0) return undefined;
  return {
    method: state.plan.method.kind,
    proposals: paused.map(({ id }) => ({ kind: "stop", trial: id })),
    reason: "the budget of the search is spent",
  };
}

function confirmStep(state: State): Next | undefined {
  const { plan, search, view } = state;
  const trials = inPhase(state, "confirm");
  if (trials.length > 0) return anyPending(trials) ? "wait" : undefined;
  if (plan.confirm.leaders === 0) return undefined;
  const leaders = pickOf(knowledgeOf(state), plan.confirm.leaders).map(({ candidate }) => view.indices[candidate] ?? 0);
  if (leaders.length === 0) return undefined;
  return {
    method: "confirm",
    proposals: begin(state, leaders, "confirm", plan.confirm.replicates, search.epochs),
    reason: `the ${leaders.length} that lead by the model's mean, on ${plan.confirm.replicates} other ${plan.confirm.replicates === 1 ? "seed" : "seeds"}`,
  };
}

/** Random search at equal budget, one trial at a time and only while nothing else can be done. */
function randomStep(state: State): Step | undefined {
  const { plan, search } = state;
  const next = plan.random[inPhase(state, "random").length];
  if (next === undefined) return undefined;
  return {
    method: "random",
    proposals: begin(state, [next], "random", 1, search.epochs),
    reason: "random search at equal budget",
  };
}

function finalStep(state: State): Next | undefined {
  const { plan, search } = state;
  const random = inPhase(state, "random");
  if (random.length < plan.random.length) return randomStep(state) ?? "wait";
  if (anyPending(random)) return "wait";
  const trials = inPhase(state, "final");
  if (trials.length > 0) return anyPending(trials) ? "wait" : undefined;
  if (search.replicates.final < 1) return undefined;
  const finalists = finalistsOf(state);
  if (finalists.length === 0) return undefined;
  return {
    method: "final",
    proposals: begin(state, finalists, "final", search.replicates.final, search.epochs),
    reason:
      "without attention, with all of it, the leaders, and the best of random search, on seeds that nothing was chosen by",
  };
}

/** `none`, `all`, the leaders (of those confirmed, if any were) and the best of random search; each once. */
function finalistsOf(state: State): readonly number[] {
  const { search, plan, view } = state;
  const known = knowledgeOf(state);
  const confirmed = new Set(
    inPhase(state, "confirm")
      .filter((trial) => trial.state === "complete")
      .map(({ candidate }) => candidate),
  );
  const leaders = pickOf(known, view.candidates.count)
    .map(({ candidate }) => view.indices[candidate] ?? 0)
    .filter((candidate) => confirmed.size === 0 || confirmed.has(candidate))
    .slice(0, plan.finalists);
  const { none, all } = search.space;
  const wanted = [none, all, ...leaders, bestRandom(state)];
  const closed = known.closed ?? new Set<number>();
  return [...new Set(wanted)].flatMap((candidate) => {
    const local = candidate === undefined ? undefined : view.local.get(candidate);
    return candidate === undefined || local === undefined || closed.has(local) ? [] : [candidate];
  });
}

/** What random search would hand over: of what it drew, the candidate of the best single value. */
function bestRandom(state: State): number | undefined {
  const { search, plan, trials } = state;
  const sign = signOf(search);
  const drawn = new Set(plan.screen);
  const seen = new Set<number>();
  let [best, highest]: [number | undefined, number] = [undefined, -Infinity];
  for (const { candidate, phase, values } of trials) {
    const value = values.get(search.epochs);
    const random = phase === "random" || phase === "screen" || (plan.method.kind === "factorial" && phase === "search");
    // One training each: of a factorial, those that random search would have drawn, and their first seed.
    if (!random || value === undefined || seen.has(candidate)) continue;
    if (phase === "search" && !drawn.has(candidate)) continue;
    seen.add(candidate);
    if (sign * value > highest) [best, highest] = [candidate, sign * value];
  }
  return best;
}
