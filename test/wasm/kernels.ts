/**
 * L2 kernels written by hand for tests of CPU schedules, and their evaluation by the oracle and by WASM.
 */
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { roundToHalf } from "../../compiler/half.ts";
import { verifyKernel } from "../../compiler/kernel/verify.ts";
import { renderWasm, wasmScratchBytes } from "../../compiler/kernel/wasm.ts";
import { add, axis, constant, scale } from "../../compiler/loop/affine.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { elementCount } from "../../compiler/loop/layout.ts";
import type { Affine, Buffer, Guard, Kernel, Layout, Load, ReducerName, Store } from "../../compiler/loop/loops.ts";
import type { Scalar } from "../../compiler/scalar.ts";
import { binary, num } from "../../compiler/scalar.ts";
import { scheduleCpu, type TilePlan } from "../../compiler/schedule/cpu.ts";
import { fromHalves } from "../../runtime/engine/half.ts";
import { type Errors, errorsOf } from "../tools/compare.ts";
import { toHalves } from "../tools/half.ts";
import { instantiate } from "./module.ts";

/** A kernel and its buffers; `ins` are filled with noise, `outs` compared. */
export interface Case {
  readonly name: string;
  readonly kernel: Kernel;
  readonly buffers: readonly Buffer[];
  readonly ins: readonly number[];
  readonly outs: readonly number[];
}

export const rows = (rank: number): Layout => ({ kind: "rows", order: Array.from({ length: rank }, (_, d) => d) });
export const PANELS: Layout = { kind: "panels", width: 8 };
export const CHANNELS_LAST: Layout = { kind: "rows", order: [0, 2, 3, 1] };

export function buffer(id: number, shape: readonly number[], layout: Layout = rows(shape.length)): Buffer {
  return { id, name: `b${id}`, shape, dtype: "f32", layout, role: "activation" };
}

export const load = (of: number, index: readonly Affine[], guards: readonly Guard[] = [], otherwise = 0): Load => ({
  buffer: of,
  index,
  guards,
  otherwise,
});
export const value = (index: number): Scalar => ({ kind: "load", index });
export const state = (index = 0): Scalar => ({ kind: "state", index });
export const relu = (x: Scalar): Scalar => binary("max", x, num(0));

export function kernel(
  name: string,
  axes: readonly (readonly [string, number])[],
  parts: {
    readonly loads: readonly Load[];
    readonly body?: readonly Scalar[];
    readonly reduce?: ReducerName;
    readonly stores: readonly Pick<Store, "buffer" | "index" | "value">[];
  },
): Kernel {
  return {
    name,
    axes: axes.map(([axisName, size]) => ({ name: axisName, size })),
    loads: parts.loads,
    body: parts.body ?? [],
    reduce: parts.reduce,
    stores: parts.stores.map((store) => ({ guards: [], ...store })),
    layers: [name],
    macs: 0,
  };
}

/** Kernels have no axis of size 1: drops them, and writes 0 for them. */
export function withoutUnitAxes(k: Kernel): Kernel {
  const kept = k.axes.flatMap(({ size }, i) => (size === 1 ? [] : [i]));
  const fix = (e: Affine): Affine =>
    e.terms.reduce<Affine>((sum, { coefficient, atom }) => {
      if (atom.kind !== "axis") throw new Error("only linear indices here");
      const at = kept.indexOf(atom.axis);
      return at < 0 ? sum : add(sum, axis(at, coefficient));
    }, constant(e.constant));
  const guards = (all: readonly Guard[]): readonly Guard[] => all.map((g) => ({ ...g, index: fix(g.index) }));
  return {
    ...k,
    axes: k.axes.filter(({ size }) => size !== 1),
    loads: k.loads.map((l) => ({ ...l, index: l.index.map(fix), guards: guards(l.guards) })),
    stores: k.stores.map((s) => ({ ...s, index: s.index.map(fix), guards: guards(s.guards) })),
  };
}

export interface ConvShape {
  readonly n: number;
  readonly c: number;
  readonly h: number;
  readonly w: number;
  readonly o: number;
  readonly k: number;
  readonly stride: number;
  readonly pad: number;
  readonly dilation: number;
  readonly groups: number;
}

/** Convolution over [N,H,W,C] with packed weights, bias and ReLU. */
export function conv(s: ConvShape, packed = true): Case {
  const span = s.dilation * (s.k - 1) + 1;
  const oh = Math.floor((s.h + 2 * s.pad - span) / s.stride) + 1;
  const ow = Math.floor((s.w + 2 * s.pad - span) / s.stride) + 1;
  const cg = s.c / s.groups;
  const og = s.o / s.groups;
  const buffers = [
    buffer(0, [s.n, s.c, s.h, s.w], CHANNELS_LAST),
    buffer(1, [s.groups, og, s.k * s.k * cg], packed ? PANELS : rows(3)),
    buffer(2, [s.o]),
    buffer(3, [s.n, s.o, oh, ow], CHANNELS_LAST),
  ];
  const [n, y, x, g, o, kh, kw, ci] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => axis(i)) as [
    Affine,
    Affine,
    Affine,
    Affine,
    Affine,
    Affine,
    Affine,
    Affine,
  ];
  const iy = add(scale(y, s.stride), scale(kh, s.dilation), constant(-s.pad));
  const ix = add(scale(x, s.stride), scale(kw, s.dilation), constant(-s.pad));
  const channel = add(scale(g, og), o);
  return {
    name: `conv ${Object.values(s).join(" ")}${packed ? "" : " unpacked"}`,
    kernel: withoutUnitAxes(
      kernel(
        "conv",
        [
          ["n", s.n],
          ["y", oh],
          ["x", ow],
          ["g", s.groups],
          ["o", og],
          ["kh", s.k],
          ["kw", s.k],
          ["ci", cg],
        ],
        {
          loads: [
            load(
              0,
              [n, add(scale(g, cg), ci), iy, ix],
              [
                { index: iy, size: s.h },
                { index: ix, size: s.w },
              ],
            ),
            load(1, [g, o, add(scale(kh, s.k * cg), scale(kw, cg), ci)]),
            load(2, [channel]),
          ],
          body: [binary("mul", value(0), value(1))],
          reduce: "sum",
          stores: [{ buffer: 3, index: [n, channel, y, x], value: relu(binary("add", state(), value(2))) }],
        },
      ),
    ),
    buffers,
    ins: [0, 1, 2],
    outs: [3],
  };
}

/** left [B,M,K] · right, with either operand transposed or the right one packed. */
export function matmul(b: number, m: number, n: number, k: number, form: "nn" | "nt" | "tn" | "packed"): Case {
  const [ib, im, inn, ik] = [axis(0), axis(1), axis(2), axis(3)];
  const left = form === "tn" ? [b, k, m] : [b, m, k];
  const right = form === "nn" || form === "tn" ? [b, k, n] : [b, n, k];
  return {
    name: `matmul ${b} ${m} ${n} ${k} ${form}`,
    kernel: withoutUnitAxes(
      kernel(
        "matmul",
        [
          ["b", b],
          ["m", m],
          ["n", n],
          ["k", k],
        ],
        {
          loads: [
            load(0, form === "tn" ? [ib, ik, im] : [ib, im, ik]),
            load(1, form === "nn" || form === "tn" ? [ib, ik, inn] : [ib, inn, ik]),
          ],
          body: [binary("mul", value(0), value(1))],
          reduce: "sum",
          stores: [{ buffer: 2, index: [ib, im, inn], value: state() }],
        },
      ),
    ),
    buffers: [buffer(0, left), buffer(1, right, form === "packed" ? PANELS : rows(3)), buffer(2, [b, m, n])],
    ins: [0, 1],
    outs: [2],
  };
}

/** Deterministic noise in (-1, 1). */
export function noise(length: number, seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  let x = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    values[i] = x / 2147483648 - 1;
  }
  return values;
}

const bufferOf = (c: Case, id: number): Buffer => {
  const found = c.buffers[id];
  if (found === undefined) throw new Error(`no buffer ${id}`);
  return found;
};

/**
 * Runs a case on one thread after another, `threads` in all, in memory from `start` on, with a plan of the caller's or the
 * compiler's own; outputs by buffer.
 */
export function runWasm(
  c: Case,
  values: ReadonlyMap<number, Float32Array>,
  threads: number,
  start = 64,
  plan?: TilePlan,
): Map<number, Float32Array> {
  const capability = { ...WASM_DEFAULT, threads };
  const { program, buffers } = scheduleCpu(c.kernel, c.buffers, capability, plan);
  const faults = verifyKernel(program, capability);
  if (faults.length > 0) throw new Error(`${c.name}: ${faults.join("; ")}`);
  const scratch = wasmScratchBytes(program);
  let at = start + scratch;
  const addresses = buffers.map((id) => {
    const here = at;
    at += Math.ceil((elementCount(bufferOf(c, id)) * 4) / 64) * 64;
    return here;
  });
  const { memory, run } = instantiate(renderWasm(program, false), at);
  const put = (id: number, data: Float32Array): void => {
    const address = addresses[buffers.indexOf(id)] ?? 0;
    if (isHalf(c, id)) new Uint16Array(memory.buffer, address, data.length).set(toHalves(data));
    else new Float32Array(memory.buffer, address, data.length).set(data);
  };
  const take = (id: number): Float32Array => {
    const address = addresses[buffers.indexOf(id)] ?? 0;
    const length = elementCount(bufferOf(c, id));
    if (isHalf(c, id)) return fromHalves(new Uint16Array(memory.buffer, address, length));
    return new Float32Array(memory.buffer, address, length).slice();
  };
  for (const id of c.outs) put(id, new Float32Array(elementCount(bufferOf(c, id))).fill(Number.NaN));
  for (const [id, data] of values) if (buffers.includes(id)) put(id, data);
  for (let thread = 0; thread < threads; thread++) run(thread, threads, start, ...addresses);
  return new Map(c.outs.map((id) => [id, take(id)]));
}

const isHalf = (c: Case, id: number): boolean => bufferOf(c, id).dtype === "f16";

/** The case with some of its buffers in half precision. */
export function inHalves(c: Case, which: (id: number) => boolean): Case {
  const buffers = c.buffers.map((b): Buffer => (which(b.id) ? { ...b, dtype: "f16" } : b));
  const ids = buffers.filter(({ dtype }) => dtype === "f16").map(({ id }) => id);
  return { ...c, buffers, name: `${c.name}, halves in ${ids.join(" ")}` };
}

/** Noise for the inputs of a case, of numbers that its buffers hold. */
export function inputsOf(c: Case): Map<number, Float32Array> {
  return new Map(
    c.ins.map((id) => {
      const values = noise(elementCount(bufferOf(c, id)), id + 1);
      return [id, isHalf(c, id) ? values.map(roundToHalf) : values];
    }),
  );
}

/** Outputs by the oracle. */
export function runOracle(c: Case, values: ReadonlyMap<number, Float32Array>): Map<number, Float64Array> {
  const named = (ids: readonly number[]): { name: string; buffer: number }[] =>
    ids.map((id) => ({ name: `${id}`, buffer: id }));
  const inputs = new Map(c.ins.map((id) => [`${id}`, Float64Array.from(values.get(id) ?? [])]));
  const got = interpret(
    { name: c.name, buffers: c.buffers, load: [], run: [c.kernel], inputs: named(c.ins), outputs: named(c.outs) },
    inputs,
    new Map(),
  );
  return new Map(c.outs.map((id) => [id, got.get(`${id}`) ?? new Float64Array()]));
}

/** Greatest error of a case over its outputs, against the oracle. */
export function check(c: Case, threads: number): Errors {
  const values = inputsOf(c);
  const want = runOracle(c, values);
  return against(c, runWasm(c, values, threads), want);
}

/** Greatest error of a case's outputs. */
export function against(
  c: Case,
  got: ReadonlyMap<number, Float32Array>,
  want: ReadonlyMap<number, Float64Array>,
): Errors {
  const all = c.outs.map((id) => {
    // What the oracle has not written (tails of panels) is nobody's business.
    const [y, r] = [got.get(id) ?? new Float32Array(), want.get(id) ?? new Float64Array()];
    return errorsOf(
      y.filter((_, i) => !Number.isNaN(r[i])),
      r.filter((x) => !Number.isNaN(x)),
    );
  });
  return { relL2: Math.max(...all.map((e) => e.relL2)), max: Math.max(...all.map((e) => e.max)) };
}
