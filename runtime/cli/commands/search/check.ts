/**
 * `netc search replay|verify|gc`: whether a study is what it says, and what of its store is not needed any more.
 */
import { replay, scoresOf } from "../../../search/coordinator.ts";
import { EXIT, type ExitCode } from "../../exit.ts";
import { printJson } from "../../json.ts";
import { bytes, count, print } from "../../terminal.ts";
import type { StudyOptions } from "./control.ts";
import { findStudy, withStore } from "./shared.ts";

/** Decisions that are shown where they come out otherwise. */
const SHOWN = 5;

/** Makes every decision of a study again from what was known then, and compares. */
export function searchReplay(wanted: string | undefined, options: StudyOptions): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const study = await findStudy(store, wanted);
    const [trials, observations, decisions, scores] = await Promise.all([
      store.trials(study.id),
      store.observations(study.id),
      store.decisions(study.id),
      scoresOf(store, study),
    ]);
    const others = replay(study, { trials, observations, decisions, scores });
    if (json) printJson({ study: study.id, decisions: decisions.length, others });
    else if (others.length === 0)
      print(`all ${count(decisions.length, "decision")} of \`${study.name}\` come out the same`);
    else {
      print(`${others.length} of ${count(decisions.length, "decision")} of \`${study.name}\` come out otherwise:`);
      for (const { decision, made } of others.slice(0, SHOWN)) {
        print(`  ${decision.sequence} (${decision.method}): ${JSON.stringify(decision.proposals)}`);
        print(`    again: ${typeof made === "string" ? made : JSON.stringify(made.proposals)}`);
      }
      print("the journal was changed, or this netc decides otherwise than the one that made it");
    }
    return others.length === 0 ? EXIT.ok : EXIT.wrong;
  });
}

/** Reads every object again. */
export function searchVerify(options: StudyOptions): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const problems = await store.verify();
    if (json) printJson({ store: store.address, problems });
    else if (problems.length === 0) print(`everything in ${store.address} is as it was stored`);
    else for (const { hash, problem } of problems) print(`${hash.slice(0, 12)}: ${problem}`);
    return problems.length === 0 ? EXIT.ok : EXIT.wrong;
  });
}

/** Removes what no trial refers to. */
export function searchGc(options: StudyOptions): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const removed = await store.collectGarbage();
    if (json) printJson({ store: store.address, ...removed });
    else print(`removed ${count(removed.objects, "object")}, ${bytes(removed.bytes)}`);
    return EXIT.ok;
  });
}
