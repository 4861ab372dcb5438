/**
 * What has happened between two looks at a study: the lines of a log.
 *
 * In: the study as it was and as it is. Out: events in the order of their trials. They are found by comparing, so whoever
 * watches needs no channel to those who train, and misses nothing but what came and went between two looks.
 */
import type { Search } from "../../../compiler/search/search.ts";
import { count } from "../../report/text.ts";
import { duration, plain } from "../../train/progress-line.ts";
import type { StudyRow, TrialRow } from "../study.ts";
import { scoreText } from "./format.ts";
import { notationOf, SUPER_NETWORK, shortLabel } from "./notation.ts";
import { targetOf } from "./scores.ts";
import type { StudyData } from "./study-data.ts";

interface OfTrial {
  readonly trial: number;
  /** In words, as in a table: `○○●●○ STIA(4)`. */
  readonly candidate: string;
}

export type StudyEvent =
  | { readonly event: "state"; readonly state: StudyRow["state"] }
  | {
      readonly event: "decision";
      readonly sequence: number;
      readonly method: string;
      readonly begins: number;
      readonly promotes: number;
      readonly stops: number;
      readonly reason: string;
    }
  | (OfTrial & {
      readonly event: "taken";
      readonly phase: TrialRow["phase"];
      readonly worker: string;
      readonly attempt: number;
    })
  /** Waiting again: its worker has gone, or has given it back. */
  | (OfTrial & { readonly event: "lost"; readonly worker: string })
  | (OfTrial & { readonly event: "rung"; readonly epochs: number; readonly value: number })
  | (OfTrial & { readonly event: "promoted"; readonly epochs: number })
  | (OfTrial & { readonly event: "left"; readonly epochs: number })
  | (OfTrial & { readonly event: "complete"; readonly value: number | undefined; readonly seconds: number })
  | (OfTrial & { readonly event: "failed"; readonly error: string })
  | (OfTrial & { readonly event: "cancelled" });

/** The events from `before` to `after`. */
export function eventsBetween(before: StudyData, after: StudyData): readonly StudyEvent[] {
  const { search } = after.study;
  const { space } = search;
  const notation = notationOf(space.factors);
  const candidates = new Map(space.candidates.map((one) => [one.hash, one]));
  const old = new Map(before.trials.map((trial) => [trial.id, trial]));
  const byId = new Map(after.trials.map((trial) => [trial.id, trial]));
  const of = ({ number, phase, candidate }: TrialRow): OfTrial => {
    const known = candidates.get(candidate);
    if (phase === "prior") return { trial: number, candidate: SUPER_NETWORK };
    return { trial: number, candidate: known === undefined ? "?" : shortLabel(notation, space, known) };
  };
  const events: StudyEvent[] = [];
  for (const { sequence, method, proposals, reason } of after.decisions.slice(before.decisions.length)) {
    const kinds = (kind: "begin" | "promote" | "stop"): number => proposals.filter((one) => one.kind === kind).length;
    const [begins, promotes, stops] = [kinds("begin"), kinds("promote"), kinds("stop")];
    events.push({ event: "decision", sequence, method, begins, promotes, stops, reason });
    for (const proposal of proposals) {
      const trial = proposal.kind === "begin" ? undefined : byId.get(proposal.trial);
      if (trial === undefined) continue;
      if (proposal.kind === "promote") events.push({ event: "promoted", ...of(trial), epochs: proposal.epochs });
      else {
        const reached = after.observations.filter((one) => one.trial === trial.id).map(({ epochs }) => epochs);
        events.push({ event: "left", ...of(trial), epochs: Math.max(0, ...reached) });
      }
    }
  }
  for (const { trial: id, epochs, value } of after.observations.slice(before.observations.length)) {
    const trial = byId.get(id);
    if (trial !== undefined && trial.phase !== "prior" && value !== undefined && epochs < search.epochs)
      events.push({ event: "rung", ...of(trial), epochs, value });
  }
  for (const trial of after.trials) {
    const was = old.get(trial.id);
    const { id, state, attempt, worker = "?", phase, error = "no reason is given" } = trial;
    if (state === "running" && attempt > (was?.attempt ?? 0))
      events.push({ event: "taken", ...of(trial), phase, worker, attempt });
    if (state === was?.state) continue;
    if (state === "waiting" && was?.state === "running")
      events.push({ event: "lost", ...of(trial), worker: was.worker ?? "?" });
    else if (state === "failed") events.push({ event: "failed", ...of(trial), error });
    else if (state === "cancelled") events.push({ event: "cancelled", ...of(trial) });
    else if (state === "complete") {
      const result = after.results[id];
      const value = result?.metrics[`val.${targetOf(search.objectives).name}`];
      events.push({ event: "complete", ...of(trial), value, seconds: result?.seconds ?? 0 });
    }
  }
  if (after.study.state !== before.study.state) events.push({ event: "state", state: after.study.state });
  return events;
}

/** An event as a line without control characters. */
export function eventText(event: StudyEvent, search: Search): string {
  const target = targetOf(search.objectives);
  const score = (value: number | undefined): string =>
    value === undefined ? "" : `: val.${target.name} ${scoreText(value, target.text)}`;
  const who = "trial" in event ? `#${event.trial} ${event.candidate}` : "";
  const line = (): string => {
    switch (event.event) {
      case "state":
        return `the study is ${event.state}`;
      case "decision": {
        const what = [
          ...(event.begins > 0 ? [`begins ${count(event.begins, "trial")}`] : []),
          ...(event.promotes > 0 ? [`carries on ${event.promotes}`] : []),
          ...(event.stops > 0 ? [`leaves ${event.stops}`] : []),
        ].join(", ");
        return `decision ${event.sequence} (${event.method}) ${what}: ${event.reason}`;
      }
      case "taken":
        return `${who} taken by ${event.worker}, ${event.phase}${event.attempt > 1 ? `, attempt ${event.attempt}` : ""}`;
      case "lost":
        return `${who} waits again: ${event.worker} has gone or given it back`;
      case "rung":
        return `${who} at epoch ${event.epochs}${score(event.value)}`;
      case "promoted":
        return `${who} goes on to epoch ${event.epochs}`;
      case "left":
        return `${who} left after epoch ${event.epochs}`;
      case "complete":
        return `${who} done${score(event.value)}, ${duration(event.seconds)}`;
      case "failed":
        return `${who} failed: ${event.error}`;
      case "cancelled":
        return `${who} cancelled`;
      default:
        return event satisfies never;
    }
  };
  return plain(line());
}
