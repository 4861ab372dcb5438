/**
 * A worker that only writes: `node store-child.js ADDRESS STUDY NAME TRANSACTIONS`. Says each thing that the store has
 * acknowledged, one a line, so that it can be looked for after this process was killed.
 */
import { writeSync } from "node:fs";
import { openStore } from "../../runtime/search/store/open.ts";
import { decisionWith, resultWith, trialWith } from "./store-tools.ts";

const [, , address = "", study = "", name = "", transactions = "0"] = process.argv;
const say = (fact: readonly unknown[]): void => void writeSync(1, `${JSON.stringify(fact)}\n`);

const store = await openStore(address);
let left = Number(transactions);
const more = (): boolean => left-- > 0;

for (;;) {
  if (left <= 0) break;
  // All of them decide, and one of them each time.
  const decisions = await store.decisions(study);
  const trials = await store.trials(study);
  const next = trialWith(study, 1 + Math.max(0, ...trials.map(({ number }) => number)));
  if (more() && (await store.decide(study, decisionWith(decisions.length + 1), [next]))) say(["begun", next.id]);
  const claim = more() ? await store.claim(study, name) : undefined;
  if (claim === undefined) continue;
  const { attempt, trial } = claim;
  say(["claimed", trial.id, attempt]);
  for (let epoch = 1; epoch <= 4 && more(); epoch++) {
    const value = attempt + epoch / 8;
    if (await store.addMetrics(trial.id, attempt, [{ name: "val.uar", epoch, value }]))
      say(["metric", trial.id, epoch, value]);
  }
  const bytes = new TextEncoder().encode(`${trial.id} ${attempt}`.repeat(100));
  const hash = more() ? await store.putObject(bytes) : "";
  if (more() && (await store.saveProgress(trial.id, attempt, 4, hash))) say(["object", hash]);
  const result = resultWith({ predictions: { val: hash } });
  if (more() && (await store.commit(trial.id, attempt, trial.number, result))) say(["done", trial.id, trial.number]);
}
await store.close();
say(["ended"]);
