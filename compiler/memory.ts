/**
 * Memory: which buffers may share a piece of device memory.
 *
 * WebGPU forbids one buffer bound both for reading and for writing in one dispatch, even at disjoint ranges, so there is
 * no arena with offsets: whole buffers are coloured. Two buffers get one allocation if the steps between their first and
 * last uses do not overlap; a step that reads one and writes the other counts as overlap.
 */
import type { BufferRole } from "./loop/loops.ts";
import type { Allocation, Program, Step } from "./program.ts";

/** A buffer as memory sees it. */
export interface Demand {
  readonly bytes: number;
  readonly label: string;
  readonly role: BufferRole;
}

export interface MemoryPlan {
  readonly allocations: readonly Allocation[];
  /** Allocation of each demand; -1 for demands that no step uses. */
  readonly of: readonly number[];
}

/** First and last step (inclusive) at which a buffer is used. */
interface Interval {
  readonly first: number;
  readonly last: number;
}

/** Uses of each buffer in a sequence of steps, each given by the buffers it touches. */
function intervals(steps: readonly (readonly number[])[], count: number): (Interval | undefined)[] {
  const result: (Interval | undefined)[] = Array.from({ length: count }, () => undefined);
  for (const [step, buffers] of steps.entries()) {
    for (const buffer of buffers) result[buffer] = { first: result[buffer]?.first ?? step, last: step };
  }
  return result;
}

/**
 * Colours buffers greedily, largest first: each goes to the first allocation none of whose tenants it overlaps.
 *
 * @param load steps of the load program, each as the buffers it touches (an upload touches its buffer)
 * @param run steps of the run program
 */
export function planMemory(
  demands: readonly Demand[],
  load: readonly (readonly number[])[],
  run: readonly (readonly number[])[],
): MemoryPlan {
  const inLoad = intervals(load, demands.length);
  const inRun = intervals(run, demands.length);
  const allocations: { bytes: number; labels: string[]; lifetime: Allocation["lifetime"]; tenants: Interval[] }[] = [];
  const of: number[] = demands.map(() => -1);

  const place = (
    buffer: number,
    demand: Demand,
    lifetime: Allocation["lifetime"],
    interval: Interval | undefined,
  ): void => {
    const free =
      interval === undefined
        ? -1
        : allocations.findIndex(
            (candidate) =>
              candidate.lifetime === lifetime &&
              candidate.tenants.length > 0 &&
              candidate.tenants.every((tenant) => tenant.last < interval.first || interval.last < tenant.first),
          );
    const shared = allocations[free];
    if (shared !== undefined && interval !== undefined) {
      shared.bytes = Math.max(shared.bytes, demand.bytes);
      shared.labels.push(demand.label);
      shared.tenants.push(interval);
      of[buffer] = free;
    } else {
      of[buffer] = allocations.length;
      allocations.push({
        bytes: demand.bytes,
        labels: [demand.label],
        lifetime,
        tenants: interval === undefined ? [] : [interval],
      });
    }
  };

  const order = demands.map((demand, buffer) => ({ demand, buffer })).sort((a, b) => b.demand.bytes - a.demand.bytes);
  for (const { demand, buffer } of order) {
    const loading = inLoad[buffer];
    const running = inRun[buffer];
    if (demand.role === "input" || demand.role === "output") place(buffer, demand, "run", undefined);
    else if (running === undefined && loading !== undefined) place(buffer, demand, "load", loading);
    else if (running !== undefined && demand.role === "activation" && loading === undefined)
      place(buffer, demand, "run", running);
    else if (running !== undefined) place(buffer, demand, "run", undefined);
  }
  return {
    allocations: allocations.map(({ bytes, labels, lifetime }) => ({
      bytes,
      label: labels.length > 3 ? `${labels.slice(0, 3).join(", ")}, … ${labels.length - 3} more` : labels.join(", "),
      lifetime,
    })),
    of,
  };
}

/** Bytes that a program holds while it runs, by what they are for. Memory that only loading needs is not counted. */
export interface MemoryUse {
  /** As kernels read them: folded and packed. In training with the running statistics. */
  readonly parameters: number;
  /** Momentum, moments, moving averages, gradients that are summed over batches. */
  readonly optimizer: number;
  /** Everything that is made anew in each run, gradients among it, and inputs and outputs. */
  readonly activations: number;
}

/** What the allocations of a program add up to. */
export function memoryUse({ allocations, load, state }: Program): MemoryUse {
  // Paths of what belongs to the optimizer have a `/` (graph/step.ts).
  const optimizer = new Set(state.filter(({ path }) => path.includes("/")).map(({ allocation }) => allocation));
  const loaded = new Set([
    ...state.map(({ allocation }) => allocation),
    ...load.flatMap((item) => (item.kind === "upload" ? [item.upload.allocation] : written(item.step))),
  ]);
  const sum = (belongs: (allocation: number) => boolean): number =>
    allocations.reduce((total, { bytes, lifetime }, i) => total + (lifetime === "run" && belongs(i) ? bytes : 0), 0);
  return {
    parameters: sum((i) => loaded.has(i) && !optimizer.has(i)),
    optimizer: sum((i) => optimizer.has(i)),
    activations: sum((i) => !loaded.has(i)),
  };
}

function written({ bindings, writes }: Step): readonly number[] {
  return writes.flatMap(({ binding }) => bindings[binding] ?? []);
}
