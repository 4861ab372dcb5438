/**
 * State between a device and its caller: parameters that runs replace.
 *
 * Callers see row-major tensors; a program may keep them in another order, and in several parts.
 */
import type { Program, Upload } from "../../compiler/program.ts";
import { EngineError } from "./runner.ts";

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** Numbers that an upload fills. */
export function uploadLength({ shape, rows }: Upload): number {
  const [first = 1, ...others] = shape;
  return (rows === undefined ? first : rows.end - rows.start) * count(others);
}

/** Row-major `values` in the order in which an upload lies in memory. */
export function toMemory({ shape, order }: Upload, values: Float32Array): Float32Array {
  return order === undefined ? values : permuted(values, shape, order);
}

/** What lies in memory, row-major. */
function fromMemory({ shape, order }: Upload, values: Float32Array): Float32Array {
  if (order === undefined) return values;
  const lying = order.map((d) => shape[d] ?? 1);
  return permuted(
    values,
    lying,
    shape.map((_, d) => order.indexOf(d)),
  );
}

/** Row-major `values` of `shape` with the dimensions in another order, outermost first. */
function permuted(values: Float32Array, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, d) => count(shape.slice(d + 1)));
  const sizes = order.map((d) => shape[d] ?? 1);
  const steps = order.map((d) => strides[d] ?? 1);
  const out = new Float32Array(values.length);
  const inner = sizes.at(-1) ?? 1;
  const step = steps.at(-1) ?? 1;
  const point = sizes.map(() => 0);
  for (let to = 0, from = 0; to < out.length; ) {
    for (let i = 0; i < inner; i++) out[to++] = values[from + i * step] ?? 0;
    for (let d = sizes.length - 2; d >= 0; d--) {
      from += steps[d] ?? 0;
      point[d] = (point[d] ?? 0) + 1;
      if ((point[d] ?? 0) < (sizes[d] ?? 1)) break;
      from -= (steps[d] ?? 0) * (sizes[d] ?? 1);
      point[d] = 0;
    }
  }
  return out;
}

/**
 * The state at `path`, whole and row-major.
 * @param read the first `length` numbers of an allocation
 * @throws EngineError `usage` if the program has no such state
 */
export async function readState(
  program: Program,
  path: string,
  read: (allocation: number, length: number) => Float32Array | Promise<Float32Array>,
): Promise<Float32Array> {
  const parts = program.state.filter((part) => part.path === path);
  const [first] = parts;
  if (first === undefined) throw new EngineError({ kind: "usage", what: `the program has no state \`${path}\`` });
  const whole = new Float32Array(count(first.shape));
  const row = whole.length / (first.shape[0] ?? 1);
  for (const part of parts) {
    whole.set(fromMemory(part, await read(part.allocation, uploadLength(part))), (part.rows?.start ?? 0) * row);
  }
  return whole;
}

/**
 * Allocations that hold nothing from one run to the next: a run writes them before it reads them. What a run left there
 * is no part of the following one, and is cleared where every number is looked at.
 */
export function scratchOf(program: Program): ReadonlySet<number> {
  const kept = new Set([
    ...[...program.state, ...program.inputs].map(({ allocation }) => allocation),
    ...program.load.flatMap((item) =>
      item.kind === "upload"
        ? [item.upload.allocation]
        : item.step.writes.map(({ binding }) => item.step.bindings[binding] ?? -1),
    ),
  ]);
  const written = program.run.flatMap(({ bindings, writes }) => writes.map(({ binding }) => bindings[binding] ?? -1));
  return new Set(written.filter((allocation) => !kept.has(allocation)));
}
