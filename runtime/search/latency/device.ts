/**
 * Models of a search timed on this machine: each is compiled for one example, loaded with fresh parameters, and run while
 * nothing else of netc's works here.
 *
 * In: a search with its sources, a device. Out: what `withLatencies` asks for.
 */
import type { Model, Resolve } from "../../../compiler/model.ts";
import { candidateOf } from "../../../compiler/search/elaborate.ts";
import type { Candidate, Search } from "../../../compiler/search/search.ts";
import { hasErrors } from "../../../grammar/diagnostic.ts";
import type { Source } from "../../../grammar/source.ts";
import { type Device, deviceName, openOn } from "../../engine/devices.ts";
import { loadValues } from "../../train/evaluate.ts";
import { RunError } from "../../train/fault.ts";
import { SourceError } from "../../train/trainer.ts";
import { freshValues } from "../trial/fresh.ts";
import { KernelCache } from "../trial/kernels.ts";
import { type Timing, timeForward } from "./forward.ts";
import { isShared, type QuietOptions, quietly, watchOthers } from "./quiet.ts";
import { nearestToLimit, surveyOf, withLatencies } from "./survey.ts";

/** Times that others have disturbed are taken again, so often at most; the shortest counts. */
const ATTEMPTS = 3;
/** Of the quartiles from each other, as a share of the median: more is not the model's own doing. */
const MOST_SPREAD = 0.2;

interface Parts {
  readonly entry: Source;
  readonly resolve: Resolve;
}

function modelOf(search: Search, { entry, resolve }: Parts, { levels, label }: Candidate): Model {
  const { model, diagnostics } = candidateOf(entry, resolve, {
    search: search.name,
    args: new Map(Object.entries(search.arguments ?? {})),
    levels,
    folder: ".",
    complete: false,
  });
  if (model === undefined || hasErrors(diagnostics))
    throw new RunError(
      "wrong",
      `\`${label}\` does not compile: ${diagnostics.find(({ severity }) => severity === "error")?.message ?? "it has no model"}`,
    );
  return model;
}

/**
 * Times what a search asks to know of the latencies of its models: the search itself where it asks for none.
 * @throws RunError where every model is above the limit; EngineError where the device fails
 */
export async function measureSearch(
  search: Search,
  parts: Parts,
  device: Device,
  options: {
    readonly told?: (done: number, of: number) => void;
    readonly quiet?: QuietOptions;
  } = {},
): Promise<Search> {
  const survey = surveyOf(search);
  if (survey === undefined) return search;
  const kernels = new KernelCache();
  const shares: number[] = [];
  const time = async (candidate: Candidate): Promise<Timing> => {
    const model = modelOf(search, parts, candidate);
    const compiled = await kernels.compile(model, {
      target: device.capability,
      sizes: new Map([["N", 1]]),
      seed: 0,
    });
    if ("diagnostics" in compiled) throw new SourceError(compiled.diagnostics);
    const runner = await openOn(compiled.ok, device, { moduleOf: kernels.moduleOf });
    try {
      await loadValues(runner, freshValues(model, 0));
      let best: Timing | undefined;
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const { timing, share } = await quietly(async () => {
          const others = watchOthers();
          const timing = await timeForward(runner);
          return { timing, share: others() };
        }, options.quiet);
        shares.push(share);
        if (best === undefined || timing.median < best.median) best = timing;
        if (!isShared(share) && timing.high - timing.low < MOST_SPREAD * timing.median) break;
      }
      if (best === undefined) throw new RangeError("nothing was timed");
      return best;
    } finally {
      runner.dispose();
    }
  };
  const busy = (): number => shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length);
  const measured = await withLatencies(search, survey, { name: deviceName(device), time, busy }, options.told);
  const nearest = nearestToLimit(measured);
  if (nearest !== undefined)
    throw new RunError(
      "wrong",
      `no model of \`${search.name}\` is within its limits on ${deviceName(device)}: the nearest is \`${nearest.label}\`, whose ${nearest.refused ?? ""}`,
      ["raise the latency in `limit`, or search on another device (`--device`)"],
    );
  return measured;
}
