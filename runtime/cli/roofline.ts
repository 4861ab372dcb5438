/**
 * How fast a device can be at best: its roofline (Williams, Waterman and Patterson, "Roofline: an insightful visual
 * performance model", CACM 2009), measured, and the clock that measures kernels.
 *
 * In: a device. Out: the rate of multiply-adds that need no memory, and the rates at which blocks of four sizes are read
 * and written: a middling block is faster, for it lies in a cache, and a small one slower, for starting a step takes time
 * too. Both come from hand-written programs that the engine
 * runs like any other. A kernel's roof is the longer of the times that its multiply-adds and its bytes need at least.
 */
import type { Capability, WasmCapability } from "../../compiler/capability.ts";
import {
  type Code,
  encodeModule,
  i32Const,
  indexed,
  memory,
  open,
  plain,
  type ValueType,
  v128Const,
} from "../../compiler/kernel/wasm-encoder.ts";
import type { Program } from "../../compiler/program.ts";
import type { Runner } from "../engine/runner.ts";

/** Bytes that a block holds, read and written, and the rate: GB/s, 10^9 bytes a second. */
export interface Bandwidth {
  readonly bytes: number;
  readonly gbs: number;
}

export interface Roofline {
  /** GFLOP/s; a multiply-add counts two. */
  readonly gflops: number;
  /** From the smallest block to the largest. */
  readonly bandwidth: readonly Bandwidth[];
}

/** What a step does at least, in numbers. */
export interface Work {
  readonly macs: number;
  readonly bytes: number;
}

/** The shortest time for `work` on a device with `roof`, in ms, and what sets it. */
export function roofOf(work: Work, roof: Roofline): { readonly ms: number; readonly bound: "arithmetic" | "memory" } {
  const rate = roof.bandwidth.find(({ bytes }) => bytes >= work.bytes) ?? roof.bandwidth.at(-1);
  const arithmetic = (2 * work.macs) / roof.gflops / 1e6;
  const moved = work.bytes / (rate?.gbs ?? Number.POSITIVE_INFINITY) / 1e6;
  return arithmetic >= moved ? { ms: arithmetic, bound: "arithmetic" } : { ms: moved, bound: "memory" };
}

// -------------------------------------------------------------------------------------------------------------- clock

/** A measurement repeats a step until it takes so long, in ms: short ones would measure the clock. */
const MEASURED_MS = 3;
const MOST_REPEATS = 4096;

/** Time that each step of `runner` takes, in ms: the least of `rounds`, for whatever else runs only ever adds. */
export async function timeSteps(runner: Runner, steps: readonly number[], rounds: number): Promise<number[]> {
  const elapsed = async (step: number, times: number): Promise<number> => {
    const start = performance.now();
    await runner.repeat(step, times);
    return performance.now() - start;
  };
  const repeats: number[] = [];
  for (const step of steps) {
    // The first time may still compile something.
    await elapsed(step, 1);
    let times = 1;
    for (
      let took = await elapsed(step, 1);
      took < MEASURED_MS && times < MOST_REPEATS;
      took = await elapsed(step, times)
    )
      times = Math.min(MOST_REPEATS, Math.ceil(times * Math.min(16, Math.max(2, (1.2 * MEASURED_MS) / took))));
    repeats.push(times);
  }
  // In turns, so that a busy moment of the machine meets every step's round and not all rounds of one step.
  const least = steps.map(() => Number.POSITIVE_INFINITY);
  let empty = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    for (const [i, step] of steps.entries()) {
      if (i % 16 === 0) empty = Math.min(empty, await elapsed(step, 0));
      least[i] = Math.min(least[i] ?? 0, await elapsed(step, repeats[i] ?? 1));
    }
  }
  // On a busy machine the empty call can seem longer than one with work: some time is left for the work in any case.
  return least.map((ms, i) => Math.max(0.1 * ms, ms - empty) / (repeats[i] ?? 1));
}

/** Measures the roofline of `capability`'s device, on which `open` opens programs. */
export async function measureRoofline(
  capability: Capability,
  open: (program: Program) => Promise<Runner>,
): Promise<Roofline> {
  const time = async (program: Program): Promise<number> => {
    const runner = await open(program);
    try {
      await runner.load(() => undefined);
      const [ms = 0] = await timeSteps(runner, [0], 7);
      return ms;
    } finally {
      runner.dispose();
    }
  };
  const arithmetic = arithmeticProgram(capability);
  const [{ macs } = { macs: 0 }] = arithmetic.run;
  const gflops = (2 * macs) / (await time(arithmetic)) / 1e6;
  const bandwidth: Bandwidth[] = [];
  for (const size of BLOCKS)
    bandwidth.push({ bytes: size, gbs: size / (await time(copyProgram(capability, size))) / 1e6 });
  return { gflops, bandwidth };
}

// ----------------------------------------------------------------------------------------------------------- programs

/** Bytes read and written by one copy: within a core's cache, within the processor's, and beyond both. */
const BLOCKS = [2 ** 17, 2 ** 20, 2 ** 23, 2 ** 26] as const;

/** Sums that one core or invocation keeps going: enough for the latency of a multiply-add on two units. */
const SUMS = 8;
const LANES = 4;
const WASM_TURNS = 8192;
const GPU_TURNS = 256;
/** Workgroups: many for a GPU, few for an adapter that runs on the CPU. */
const GPU_GROUPS = { hardware: 1024, software: 64 } as const;
const GPU_GROUP = 64;

/** Shares that the engine cuts a step's work into (engine/wasm/worker.ts). */
const sharesOf = ({ threads }: WasmCapability): number => (threads === 1 ? 1 : 8 * threads);

function programOf(
  target: Capability,
  {
    name,
    code,
    sizes,
    workgroups,
    macs,
    bytes,
  }: {
    readonly name: string;
    readonly code: string | Uint8Array;
    readonly sizes: readonly number[];
    readonly workgroups: number;
    readonly macs: number;
    readonly bytes: number;
  },
): Program {
  return {
    format: "netc-program",
    version: 1,
    name,
    graphHash: "",
    target,
    seed: 0,
    allocations: sizes.map((size, i) => ({ bytes: size, label: `${name} ${i}`, lifetime: "run" })),
    kernels: [{ name, code, workgroupSize: [GPU_GROUP, 1, 1], scratchBytes: 0 }],
    load: [],
    run: [
      {
        kernel: 0,
        bindings: sizes.map((_, i) => i),
        workgroups: [workgroups, 1, 1],
        writes: [],
        layers: [],
        macs,
        bytes,
      },
    ],
    state: [],
    inputs: [],
    outputs: [],
    weights: undefined,
  };
}

/** Multiply-adds on registers: sums that depend on themselves alone. */
function arithmeticProgram(target: Capability): Program {
  if (target.kind === "wasm") {
    const shares = sharesOf(target);
    return programOf(target, {
      name: "arithmetic",
      code: wasmArithmetic(target),
      sizes: [shares * 16],
      workgroups: 1,
      macs: shares * WASM_TURNS * SUMS * LANES,
      bytes: 0,
    });
  }
  const groups = GPU_GROUPS[target.software ? "software" : "hardware"];
  const invocations = groups * GPU_GROUP;
  const sums = Array.from({ length: SUMS }, (_, i) => `a${i}`);
  return programOf(target, {
    name: "arithmetic",
    code: `@group(0) @binding(0) var<storage, read_write> result: array<vec4<f32>>;
@compute @workgroup_size(${GPU_GROUP}) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let factor = vec4<f32>(0.999);
  let more = vec4<f32>(f32(id.x) * 1e-6);
${sums.map((sum, i) => `  var ${sum} = vec4<f32>(${i}.5);`).join("\n")}
  for (var turn = 0u; turn < ${GPU_TURNS}u; turn++) {
${sums.map((sum) => `    ${sum} = fma(${sum}, factor, more);`).join("\n")}
  }
  result[id.x] = ${sums.join(" + ")};
}
`,
    sizes: [invocations * 16],
    workgroups: groups,
    macs: invocations * GPU_TURNS * SUMS * LANES,
    bytes: 0,
  });
}

/** One block read, another written; `bytes` for both. */
function copyProgram(target: Capability, bytes: number): Program {
  const size = bytes / 2;
  return programOf(target, {
    name: "copy",
    code:
      target.kind === "wasm"
        ? wasmCopy(size)
        : `@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
@compute @workgroup_size(${GPU_GROUP}) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  result[id.x] = source[id.x] + vec4<f32>(1.0);
}
`,
    sizes: [size, size],
    workgroups: size / 16 / GPU_GROUP,
    macs: 0,
    bytes,
  });
}

/** `run(share, shares, scratch, …addresses)` with names for its parameters and locals. */
function kernel(
  parameters: readonly string[],
  locals: readonly (readonly [string, ValueType])[],
  code: (local: (op: "local.get" | "local.set" | "local.tee", name: string) => Code) => Code,
): Uint8Array {
  const names = ["share", "shares", "scratch", ...parameters, ...locals.map(([name]) => name)];
  return encodeModule([
    {
      parameters: ["i32", "i32", "i32", ...parameters.map(() => "i32" as const)],
      results: [],
      locals: locals.map(([, type]) => type),
      code: code((op, name) => indexed(op, names.indexOf(name))),
    },
  ]);
}

const splat = (value: number): Code => v128Const(new Float32Array(LANES).fill(value));

function wasmArithmetic({ relaxedSimd }: WasmCapability): Uint8Array {
  const sums = Array.from({ length: SUMS }, (_, i) => `sum${i}`);
  return kernel(
    ["out"],
    [["turn", "i32"], ...["factor", "more", ...sums].map((name) => [name, "v128"] as const)],
    (local) => [
      ...splat(0.999),
      ...local("local.set", "factor"),
      ...splat(0.5),
      ...local("local.set", "more"),
      ...i32Const(WASM_TURNS),
      ...local("local.set", "turn"),
      ...open("loop"),
      ...sums.flatMap((sum) => [
        ...local("local.get", sum),
        ...local("local.get", "factor"),
        ...(relaxedSimd
          ? [...local("local.get", "more"), ...plain("f32x4.relaxed_madd")]
          : [...plain("f32x4.mul"), ...local("local.get", "more"), ...plain("f32x4.add")]),
        ...local("local.set", sum),
      ]),
      ...local("local.get", "turn"),
      ...i32Const(1),
      ...plain("i32.sub"),
      ...local("local.tee", "turn"),
      ...indexed("br_if", 0),
      ...plain("end"),
      ...local("local.get", "out"),
      ...local("local.get", "share"),
      ...i32Const(16),
      ...plain("i32.mul"),
      ...plain("i32.add"),
      ...local("local.get", "sum0"),
      ...sums.slice(1).flatMap((sum) => [...local("local.get", sum), ...plain("f32x4.add")]),
      ...memory("v128.store", 0),
    ],
  );
}

/** Bytes copied in one turn of the loop: a cache line. */
const LINE = 64;

function wasmCopy(size: number): Uint8Array {
  return kernel(
    ["source", "result"],
    [
      ["at", "i32"],
      ["end", "i32"],
    ],
    (local) => {
      // The share's first line, and that of the next: lines · share / shares.
      const bound = (name: string, next: number): Code => [
        ...i32Const(size / LINE),
        ...local("local.get", "share"),
        ...i32Const(next),
        ...plain("i32.add"),
        ...plain("i32.mul"),
        ...local("local.get", "shares"),
        ...plain("i32.div_u"),
        ...i32Const(LINE),
        ...plain("i32.mul"),
        ...local("local.set", name),
      ];
      const address = (of: string): Code => [
        ...local("local.get", of),
        ...local("local.get", "at"),
        ...plain("i32.add"),
      ];
      return [
        ...bound("at", 0),
        ...bound("end", 1),
        ...open("loop"),
        ...[0, 16, 32, 48].flatMap((offset) => [
          ...address("result"),
          ...address("source"),
          ...memory("v128.load", offset),
          ...splat(1),
          ...plain("f32x4.add"),
          ...memory("v128.store", offset),
        ]),
        ...local("local.get", "at"),
        ...i32Const(LINE),
        ...plain("i32.add"),
        ...local("local.tee", "at"),
        ...local("local.get", "end"),
        ...plain("i32.lt_u"),
        ...indexed("br_if", 0),
        ...plain("end"),
      ];
    },
  );
}
