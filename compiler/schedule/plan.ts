/**
 * Plans: how a kernel runs, as data.
 *
 * A plan says which invocation computes what; the generators (map.ts, reduce.ts, contract.ts) turn kernel and plan into
 * a program and decide nothing themselves. A plan gives right results or is refused, on any kernel of its schedule; plans
 * differ in speed only, which is what makes them safe to search. `choosePlan` picks one by a closed formula; a tuner may time others.
 */
import type { WebGPUCapability } from "../capability.ts";
import { outputAxes, reductionAxes } from "../loop/access.ts";
import type { Attention } from "../loop/attention.ts";
import { type Contraction, kernelClass } from "../loop/contraction.ts";
import { product } from "../loop/layout.ts";
import { REDUCERS } from "../loop/reducers.ts";
import { storesVectors } from "./emit.ts";
import { extentsOf, type Flat, laneAccess } from "./flat.ts";
import { type MatrixUse, matrixBytes, matrixUses } from "./matrix-use.ts";
import { sideOf } from "./sides.ts";

/** One invocation computes `vec` neighbours along the last axis, which 4 needs to be stored as vectors. */
export interface MapPlan {
  readonly schedule: "map";
  readonly vec: 1 | 4;
  /** Invocations of a workgroup. */
  readonly workgroup: number;
}

/** A workgroup reduces `outputs` points (times `vec`) with `slices` invocations each; `slices` is a power of two. */
export interface ReducePlan {
  readonly schedule: "reduce";
  readonly vec: 1 | 4;
  readonly outputs: number;
  readonly slices: number;
  /** Whether a driver is kept from unrolling the loops, to compile sooner; absent for no. */
  readonly rolled?: boolean;
}

/** out[b,m,n] = Σ_k left[b,m,k] · right[b,k,n] in tiles. Sizes need not divide anything: edges are masked. */
export interface ContractPlan {
  readonly schedule: "contract";
  /** BM, BN, BK: what a workgroup computes, and how much of K it takes at a time. */
  readonly tile: readonly [number, number, number];
  /**
   * TM, TN: what an invocation computes. They divide BM and BN; TN, BK (but for a subgroup's 1) and, with stage, TM are
   * multiples of 4.
   */
  readonly thread: readonly [number, number];
  /**
   * Whether tiles of both factors pass through workgroup memory, or each invocation reads for itself; or the workgroup is
   * one subgroup (BN/TN invocations) whose invocations read columns for themselves and rows for each other (TM = BM,
   * a multiple of the subgroup).
   */
  readonly stage: "workgroup" | "registers" | "subgroup";
  /** Workgroups that share one output tile, each with its part of K; a second kernel adds their results. */
  readonly splitK: number;
  /**
   * With stage `workgroup`: subgroups multiply tiles as matrices of the device's hardware. TM and TN are then what a
   * subgroup computes, multiples of the matrices' M and N, and BK is one of their K.
   */
  readonly matrix?: MatrixUse;
}

/** Invocations of a workgroup. */
export function invocationsOf({
  tile: [bm, bn],
  thread: [tm, tn],
  matrix,
}: Pick<ContractPlan, "tile" | "thread" | "matrix">): number {
  return (bm / tm) * (bn / tn) * (matrix?.subgroup ?? 1);
}

/**
 * Attention in tiles of rows by keys. Sizes need not divide anything. A workgroup gathers `features[0]` features of its rows;
 * where there are more, several make the same scores.
 */
export interface AttendPlan {
  readonly schedule: "attend";
  /** BM rows by BN keys of scores at a time, BK of their depth at a time; and BK keys of the values at a time. */
  readonly tile: readonly [number, number, number];
  /** TM, TN: scores of an invocation, multiples of 4 with stage; TN is 4 without. */
  readonly thread: readonly [number, number];
  /** BD, TD: features that a workgroup and an invocation gather, BN/TN = BD/TD; multiples of 4. */
  readonly features: readonly [number, number];
  /** Whether tiles pass through workgroup memory, or each invocation has rows of its own and reads for itself. */
  readonly stage: "workgroup" | "registers";
}

export type Plan = MapPlan | ReducePlan | ContractPlan | AttendPlan;

/** A plan in one line, for headers and reports. */
export function describePlan(plan: Plan): string {
  switch (plan.schedule) {
    case "map":
      return `map, ${plan.vec} elements an invocation, workgroup ${plan.workgroup}`;
    case "reduce":
      return `reduce, ${plan.outputs} outputs of ${plan.vec} by ${plan.slices} slices a workgroup`;
    case "contract": {
      const split = plan.splitK === 1 ? "" : `, K split in ${plan.splitK}`;
      const { config } = plan.matrix ?? {};
      const part = config === undefined ? "thread" : "subgroup";
      const way = config === undefined ? "" : `, matrices ${config.m}x${config.n}x${config.k} of ${config.input}`;
      return `contract, tile ${plan.tile.join("x")}, ${part} ${plan.thread.join("x")}, through ${plan.stage}${way}${split}`;
    }
    case "attend": {
      const [bd, td] = plan.features;
      return `attend, tile ${plan.tile.join("x")}, thread ${plan.thread.join("x")}, features ${bd} by ${td}, through ${plan.stage}`;
    }
    default:
      return plan satisfies never;
  }
}

/** The plan for a flat kernel on a device: the same for the same kernel and record, always. */
export function choosePlan(flat: Flat, capability: WebGPUCapability): Plan {
  const found = kernelClass(flat.kernel, flat.buffers);
  switch (found.kind) {
    case "map":
      return chooseMap(flat, capability);
    case "reduce":
      return chooseReduce(flat, capability);
    case "attend":
      return chooseAttend(found.attention, capability);
    case "contract":
      return bestContract(flat, found.contraction, capability);
    default:
      return found satisfies never;
  }
}

/** Whether four neighbours along the last output axis can be stored as one, and how many loads profit. */
function vectorises(flat: Flat, axis: number | undefined): boolean {
  if (axis === undefined || !storesVectors(flat, axis)) return false;
  const loads = new Set(flat.kernel.loads.map((l) => laneAccess(flat, l, axis)));
  return !loads.has("gather") || loads.has("vector");
}

function chooseMap(flat: Flat, { software, limits }: WebGPUCapability): MapPlan {
  const vec = vectorises(flat, outputAxes(flat.kernel).at(-1)) ? 4 : 1;
  return { schedule: "map", vec, workgroup: Math.min(software ? 64 : 256, limits.maxComputeInvocationsPerWorkgroup) };
}

/** Invocations that keep a GPU busy: a hundred multiprocessors or so with some hundred each. */
const BUSY = 32768;

/** The plan of a flat kernel with a reduction. */
export function chooseReduce(flat: Flat, { software, limits }: WebGPUCapability): ReducePlan {
  const { kernel } = flat;
  const kept = outputAxes(kernel);
  const outputs = product(extentsOf(kernel, kept));
  const reduced = product(extentsOf(kernel, reductionAxes(kernel)));
  const vec = vectorises(flat, kept.at(-1)) ? 4 : 1;
  const units = outputs / vec;
  // Few outputs with much to reduce: several invocations share one, until the device is full or the shares get small. On
  // a CPU sharing costs more than it brings, once there is an output for every lane of a vector.
  const states = kernel.reduce === undefined ? 1 : REDUCERS[kernel.reduce].init.length;
  const most = Math.min(256, limits.maxComputeInvocationsPerWorkgroup);
  let slices = 1;
  while (units * slices < (software ? 8 : BUSY) && reduced / slices > 16 && slices < most) slices *= 2;
  let width = slices === 1 ? (software ? 8 : 64) : Math.max(1, most / slices);
  width = Math.max(1, Math.min(width, 2 ** Math.ceil(Math.log2(units))));
  while (width * slices * vec * states * 4 > limits.maxComputeWorkgroupStorageSize && width > 1) width /= 2;
  return { schedule: "reduce", vec, outputs: width, slices, ...(software ? { rolled: true } : {}) };
}

// -------------------------------------------------------------------------------------------------------- contractions

/** [BM, BN, BK, TM, TN, TD], the best first; what a device's workgroup memory does not hold is passed over. */
const ATTEND_STAGED = [
  [64, 64, 16, 4, 4, 4],
  [32, 64, 16, 4, 4, 4],
  [32, 32, 16, 4, 4, 8],
  [16, 32, 16, 4, 4, 4],
  [16, 16, 16, 4, 4, 4],
] as const;

/** Plans for attention that fit a device: staged ones for GPUs, and the one through registers, which always does. */
export function attendPlans(attention: Attention, { limits, software }: WebGPUCapability): readonly AttendPlan[] {
  const { sizes, gathered, scores } = attention;
  const tiles = Math.max(scores.length, gathered.length);
  const width = Math.max(4, Math.ceil(sizes.features / 4) * 4);
  const staged = ATTEND_STAGED.flatMap(([bm, bn, bk, tm, tn, least]): AttendPlan[] => {
    // Twice as many features an invocation, before others make the same scores again.
    const across = bn / tn;
    const td = across * least < width ? 8 : least;
    const bd = across * td;
    const bytes = 4 * (bm * bk + Math.max(bn * (bk + PAD), bd * (bk + PAD)) + tiles * bm * bn);
    const invocations = (bm / tm) * across;
    const fits =
      invocations <= limits.maxComputeInvocationsPerWorkgroup && bytes <= limits.maxComputeWorkgroupStorageSize;
    return fits
      ? [{ schedule: "attend", tile: [bm, bn, bk], thread: [tm, tn], features: [bd, td], stage: "workgroup" }]
      : [];
  });
  // All of a row's features, up to what registers hold.
  const own = Math.min(width, gathered.length > 1 ? 32 : 64);
  const rows = own <= 16 ? 2 : 1;
  const workgroup = Math.min(64, limits.maxComputeInvocationsPerWorkgroup);
  const alone: AttendPlan = {
    schedule: "attend",
    tile: [workgroup * rows, 4, 64],
    thread: [rows, 4],
    features: [own, own],
    stage: "registers",
  };
  return software ? [alone, ...staged] : [...staged, alone];
}

function chooseAttend(attention: Attention, capability: WebGPUCapability): AttendPlan {
  const plans = attendPlans(attention, capability);
  // Tiles much longer than there are rows only waste.
  const sensible = plans.find(
    ({ tile: [bm], stage }) => stage === "registers" || bm <= Math.max(16, attention.sizes.rows),
  );
  const plan = sensible ?? plans.at(-1);
  if (plan === undefined) throw new Error("internal: attention without a plan");
  return plan;
}

/** Floats between the rows of a right tile that lies along K, so that columns fall on different memory banks. */
export const PAD = 4;

type Shape = Omit<ContractPlan, "schedule" | "splitK">;

/** Tiles worth considering on GPUs with workgroup memory; the first are for large products. */
const STAGED: readonly Shape[] = (
  [
    [128, 128, 16, 8, 8],
    [128, 64, 16, 8, 4],
    [64, 128, 16, 4, 8],
    [64, 64, 16, 8, 4],
    [64, 64, 16, 4, 4],
    [64, 32, 16, 4, 4],
    [32, 64, 16, 4, 4],
    [32, 32, 32, 4, 4],
  ] as const
).map(([bm, bn, bk, tm, tn]) => ({ tile: [bm, bn, bk], thread: [tm, tn], stage: "workgroup" }));

/** Products with few rows are limited by reading the right factor once: no tile, four columns an invocation. */
const DIRECT: readonly Shape[] = ([1, 2, 4, 8] as const).map((tm) => ({
  tile: [tm, 256, 32],
  thread: [tm, 4],
  stage: "registers",
}));

/** CPUs behind WebGPU run invocations as SIMD lanes: workgroup memory and barriers only cost. */
const SOFTWARE: readonly Shape[] = ([1, 2, 4] as const).flatMap((tm) =>
  ([16, 64] as const).map((bn): Shape => ({ tile: [tm * (64 / bn), bn, 64], thread: [tm, 4], stage: "registers" })),
);

/** The same within a subgroup, where all subgroups of a device are of one size; more than 16 accumulators spill too much. */
function withinSubgroup(subgroups: WebGPUCapability["subgroups"]): readonly Shape[] {
  if (subgroups === undefined || subgroups.min !== subgroups.max) return [];
  const size = subgroups.min;
  return [8, 16]
    .filter((tm) => tm % size === 0)
    .flatMap((tm) =>
      ([1, 4] as const).map((bk): Shape => ({ tile: [tm, 4 * size, bk], thread: [tm, 4], stage: "subgroup" })),
    );
}

/**
 * Tiles for the hardware that multiplies matrices, in parts of which each subgroup has one: four subgroups a workgroup.
 */
const WITH_MATRICES = [
  [128, 128, 32, 64, 64],
  [128, 64, 32, 64, 32],
  [64, 128, 32, 32, 64],
  [64, 64, 32, 32, 32],
  [64, 32, 32, 32, 16],
  [32, 64, 32, 16, 32],
  [32, 32, 32, 16, 16],
] as const;

function matrixShapes(flat: Flat, c: Contraction, capability: WebGPUCapability): readonly Shape[] {
  return matrixUses(flat, c, capability).flatMap((matrix) =>
    WITH_MATRICES.filter(
      ([, , bk, tm, tn]) => bk % matrix.config.k === 0 && tm % matrix.config.m === 0 && tn % matrix.config.n === 0,
    ).map(([bm, bn, bk, tm, tn]): Shape => ({ tile: [bm, bn, bk], thread: [tm, tn], stage: "workgroup", matrix })),
  );
}

const SPLITS = [1, 2, 4, 8, 16, 32, 64, 128] as const;

/** Plans that `choosePlan` weighs against each other, at most eighty, in a fixed order. */
export function contractPlans(flat: Flat, c: Contraction, capability: WebGPUCapability): readonly ContractPlan[] {
  const pad = sideOf(flat, c, "n").along === "k" ? PAD : 0;
  const { limits, software, subgroups } = capability;
  const shapes = software
    ? [...withinSubgroup(subgroups), ...SOFTWARE]
    : [...(c.sizes.m <= 16 ? DIRECT : []), ...matrixShapes(flat, c, capability), ...STAGED];
  const fits = shapes.filter((shape) => {
    const { stage, matrix } = shape;
    const [bm, bn, bk] = shape.tile;
    const invocations = invocationsOf(shape);
    const plainBytes = stage === "workgroup" ? 4 * (bm * bk + bn * (bk + pad)) : 0;
    const bytes = matrix === undefined ? plainBytes : matrixBytes(shape, matrix);
    // A tile more than twice as long as the matrix only wastes.
    const sensible = stage !== "workgroup" || (bm <= Math.max(32, 2 * c.sizes.m) && bn <= Math.max(32, 2 * c.sizes.n));
    const possible =
      invocations <= limits.maxComputeInvocationsPerWorkgroup && bytes <= limits.maxComputeWorkgroupStorageSize;
    return sensible && possible;
  });
  const plans = fits.flatMap((shape) => {
    const [bm, bn, bk] = shape.tile;
    const tiles = c.sizes.batch * Math.ceil(c.sizes.m / bm) * Math.ceil(c.sizes.n / bn);
    const steps = Math.ceil(c.sizes.k / bk);
    // Splitting pays while tiles alone do not fill the device and every part keeps a few steps.
    const most = (shape.stage === "workgroup" ? 4 : 8) * CORES;
    const splits = SPLITS.filter((s) => s === 1 || (!software && tiles * s <= most && steps / s >= 4));
    const some = splits.length > 4 ? [...splits.slice(-4), 1] : splits;
    return some.map((splitK): ContractPlan => ({ schedule: "contract", ...shape, splitK }));
  });
  return plans.slice(0, 80);
}

/** A middle-sized GPU: multiprocessors, f32 multiply-adds a clock in each, bytes of memory traffic a clock in all. */
const CORES = 96;
const LANES = 128;
const BYTES = 1024;
/** Invocations that a multiprocessor needs to hide arithmetic latency, and to keep its share of the memory busy. */
const HIDING = 256;
const STREAMING = 384;
/** How many times as fast the hardware for matrices multiplies, as far as it can be fed. */
const MATRICES = { f16: 6, f32: 1.3 };
/** Clocks between two dependent dispatches. */
const DISPATCH = 6000;

/**
 * Estimated clocks of a plan on that GPU: multiply-adds, the reads that feed them and the loading of tiles, against the
 * memory traffic of the whole; and a second kernel where K is split.
 */
function gpuCost(c: Contraction, plan: ContractPlan): number {
  const { m, n, k, batch } = c.sizes;
  const [bm, bn, bk] = plan.tile;
  const [tm, tn] = plan.thread;
  const rows = Math.ceil(m / bm);
  const columns = Math.ceil(n / bn);
  const groups = batch * rows * columns * plan.splitK;
  const depth = Math.ceil(k / bk / plan.splitK) * bk;
  const invocations = invocationsOf(plan);
  // Workgroup memory delivers 32 floats a clock: a quad of the right tile takes two clocks a subgroup of 32, one of the
  // left tile, which neighbours share, one. Caches deliver less. A subgroup reads its matrices once for all their sums.
  const input = plan.matrix?.config.input;
  const reads = input === undefined ? (2 / tm + 1 / tn) * (plan.stage === "workgroup" ? 0.7 : 1.5) : 16 / tm + 16 / tn;
  const rate = LANES * (input === undefined ? 1 : MATRICES[input]);
  // Loading: 48 bytes a clock from the cache and the arithmetic of addresses, half of it behind other workgroups' work.
  const fetch = plan.stage === "workgroup" ? 0.07 * (bm + bn) * depth : 0;
  const resident = Math.min(Math.ceil(groups / CORES), Math.max(1, Math.floor(1024 / invocations))) * invocations;
  const compute = ((bm * bn * depth * (1 + reads)) / rate) * Math.max(1, HIDING / resident) + fetch;
  // The last round is half full on average.
  const rounds = groups <= CORES ? 1 : groups / CORES + 0.5;
  const again = 0.1 * 4 * batch * (m * k * (columns - 1) + k * n * (rows - 1));
  const partial = plan.splitK === 1 ? 0 : 2 * plan.splitK * batch * m * n * 4;
  // Without stage an invocation has four quads under way, with it about two.
  const streams = groups * invocations * (plan.stage === "workgroup" ? 0.5 : 1);
  const busy = Math.min(1, streams / (CORES * STREAMING));
  const traffic = (4 * batch * (m * k + k * n + m * n) + again) / (BYTES * busy) + partial / BYTES;
  const overlapped = Math.max(rounds * compute, traffic) + 0.1 * Math.min(rounds * compute, traffic);
  return overlapped + (plan.splitK === 1 ? 0 : DISPATCH);
}

function bestContract(flat: Flat, c: Contraction, capability: WebGPUCapability): ContractPlan {
  const plans = contractPlans(flat, c, capability);
  let best: { readonly plan: ContractPlan; readonly cost: number } | undefined;
  for (const plan of plans) {
    const estimate = contractCost(c, plan, capability);
    if (best === undefined || estimate < best.cost) best = { plan, cost: estimate };
  }
  if (best === undefined) throw new Error(`internal: no plan for ${flat.kernel.name} fits ${capability.name}`);
  return best.plan;
}

/** What `choosePlan` takes a plan to cost on such a device: comparable between plans of one contraction. */
export function contractCost(c: Contraction, plan: ContractPlan, capability: WebGPUCapability): number {
  return capability.software ? softwareCost(c, plan) : gpuCost(c, plan);
}

/** Instructions of a CPU for each lane's part of a load of four and of one, which tests bounds, and for a multiply-add. */
const LANE_LOAD = { four: 22, one: 8 };
const MULTIPLY_ADD = 2.5;
/** Instructions that compiling takes: a kernel, a place where it loads or stores, and four multiply-adds. */
const COMPILE = { kernel: 25e7, four: 10e7, one: 4e7, multiplyAdd: 15e5 };
/** Runs that the time to compile is weighed against. */
const RUNS = 2;

/**
 * On a CPU only the work counts: multiply-adds with their padding, and loads, one lane after the other; and that the code
 * has to be compiled first, which takes as long as many a product.
 */
function softwareCost(c: Contraction, { tile: [bm, bn, bk], thread: [tm, tn], stage }: ContractPlan): number {
  const { batch, m, n, k } = c.sizes;
  const invocations = (batch * Math.ceil(m / bm) * bm * Math.ceil(n / bn) * bn) / (tm * tn);
  // Four positions along K of one invocation; a vector instruction serves eight.
  const own = (tm * tn) / bn;
  const rows = stage !== "subgroup" ? LANE_LOAD.four * tm : tm + (bk < 4 ? 4 * LANE_LOAD.one : LANE_LOAD.four) * own;
  const turns = stage === "subgroup" && bk < 4 ? 1.5 : 1;
  const step = rows + LANE_LOAD.four * tn + 0.5 * MULTIPLY_ADD * tm * tn * turns;
  const loads =
    stage !== "subgroup"
      ? COMPILE.four * (2 * tm + tn)
      : bk < 4
        ? COMPILE.one * own + 2 * COMPILE.four
        : COMPILE.four * (own + tn + 1);
  const compile = COMPILE.kernel + loads + COMPILE.multiplyAdd * tm * tn * (bk < 4 ? 0.25 : 1);
  return RUNS * invocations * Math.ceil(k / 4) * step + compile;
}
