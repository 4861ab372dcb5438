/**
 * A coordinator in a process of its own, to be killed: `node coordinator.mjs` with the settings as JSON in CLUSTER.
 *
 * It is the shipped one, or, where `shipped` is false, one that decides as study.mjs says, over rungs.
 */
import { randomBytes } from "node:crypto";
import { runStudy } from "../../dist/runtime/search/coordinator.js";
import { openQueue } from "../../dist/runtime/search/queue/queue.js";
import { reconcile } from "../../dist/runtime/search/queue/reconcile.js";
import { openStore } from "../../dist/runtime/search/store/open.js";
import { NETC, nextOf, studyOf } from "./study.mjs";

const {
  store: storeAddress,
  queue: queueAddress,
  trials,
  seed,
  open,
  shipped,
  lostSeconds,
  queueTiming,
} = JSON.parse(process.env.CLUSTER);
const say = (kind, text) => console.log(JSON.stringify({ at: Date.now(), kind, text }));
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const who = `coordinator-${process.pid}-${randomBytes(4).toString("hex")}`;

let store;
let queue;
let study;
let quiet = 0;
for (;;) {
  try {
    store ??= await openStore(storeAddress);
    queue ??= await openQueue(queueAddress, { prepare: true, patienceSeconds: 5, timing: queueTiming });
    study ??= await store.createStudy(studyOf(trials, seed));
    if (shipped) {
      const end = await runStudy({
        study,
        store,
        trained: { by: "queue", queue },
        open,
        netc: NETC,
        signal: new AbortController().signal,
        onNote: (text) => say("note", text),
        timing: { lookSeconds: 0.2, leadSeconds: 3, lostSeconds },
      });
      if (end !== "complete") throw new Error(`the study is ${end}`);
      break;
    }
    if (await store.lead(study.id, who, 3)) {
      // After an outage workers get the time to say that they are alive.
      if (performance.now() >= quiet)
        for (const id of await store.reclaim(study.id, lostSeconds)) say("reclaimed", id.slice(0, 8));
      const rows = await store.trials(study.id);
      const decisions = await store.decisions(study.id);
      const observations = await store.observations(study.id);
      const next = nextOf(study, rows, decisions.length, observations.length, open);
      if (next === "finished") break;
      if (next !== undefined) say("decided", String(await store.decide(study.id, next.decision, next.trials)));
      const told = await reconcile(store, queue, study.id);
      if (told > 0) say("told", String(told));
    }
    await sleep(0.2);
  } catch (error) {
    say("error", `${error.name} ${error.kind}: ${error.message}`);
    if (error.kind !== "unreachable" && error.kind !== "busy") throw error;
    quiet = performance.now() + 1000 * lostSeconds;
    await sleep(0.5);
  }
}
if (!shipped) await store.setStudyState(study.id, "complete");
say("finished", "every trial is complete");
process.exit(0);
