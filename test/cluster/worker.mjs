/** A worker in a process of its own, to be killed: `node worker.mjs` with the settings as JSON in CLUSTER. */
import { openQueue } from "../../dist/runtime/search/queue/queue.js";
import { openStore } from "../../dist/runtime/search/store/open.js";
import { runWorker } from "../../dist/runtime/search/worker.js";
import { NETC, studyOf } from "./study.mjs";
import { trainingOf } from "./training.mjs";

const settings = JSON.parse(process.env.CLUSTER);
const say = (kind, text, trial) => console.log(JSON.stringify({ at: Date.now(), kind, text, trial }));
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

/** A worker may be there before the servers, and before the study. */
async function patiently(ask) {
  while (!stop.signal.aborted) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      say("error", `${error.name} ${error.kind}: ${error.message}`);
      if (error.kind !== "unreachable" && error.kind !== "busy" && error.kind !== "unprepared") throw error;
    }
    await sleep(0.3);
  }
  process.exit(0);
}

const store = await patiently(() => openStore(settings.store));
say("ready", "may be told to stop");
const queue = await patiently(() => openQueue(settings.queue, { patienceSeconds: 5, timing: settings.queueTiming }));
const study = await patiently(() => store.study(studyOf(settings.trials, settings.seed).id));
// Some trials take three times as long as others.
const secondsOf = ({ seed }) => settings.seconds * (0.5 + ((seed * 7919) % 101) / 101);
const summary = await runWorker({
  store,
  study,
  source: queue.source,
  train: trainingOf({ secondsOf }),
  netc: NETC,
  device: 0,
  signal: stop.signal,
  timing: settings.workerTiming,
  log: ({ kind, text, trial }) => say(kind, text, trial),
});
say("left", JSON.stringify(summary));
process.exit(0);
