/**
 * Splitting parameters that no buffer can hold.
 *
 * A parameter or constant longer than the target's largest buffer is cut along axis 0 into equal parts, each a buffer of
 * its own, and every kernel that reads or writes it into one kernel for each part, which writes its slice of the result.
 * That takes an output axis that runs over the rows; where a kernel has none (rows that are summed over), the buffer
 * stays whole and `oversizedBuffers` reports it.
 */
import { outputAxes } from "./access.ts";
import { add, asAxis, axis, constant, equal } from "./affine.ts";
import { canonical, reindex } from "./build.ts";
import { type Draft, isFilled } from "./draft.ts";
import { byteSize } from "./layout.ts";
import type { Affine, Buffer, Kernel } from "./loops.ts";

/** Rows of a part are a multiple of this where that fits, so that parts of packed weights have no ragged tails. */
const ALIGNMENT = 16;

/** The draft with every parameter and constant above `maxBytes` cut into parts, as far as its kernels allow. */
export function splitRows(draft: Draft, maxBytes: number): Draft {
  let current = draft;
  for (const buffer of draft.buffers) {
    if ((isFilled(buffer) || buffer.role === "constant") && byteSize(buffer) > maxBytes) {
      current = splitBuffer(current, buffer, maxBytes) ?? current;
    }
  }
  return current;
}

interface Part {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

function splitBuffer(draft: Draft, buffer: Buffer, maxBytes: number): Draft | undefined {
  const parts = partsOf(buffer, maxBytes, draft.buffers.length);
  if (parts === undefined) return undefined;
  const buffers = [...draft.buffers, ...parts.map((part) => part.buffer)];
  const divide = (kernels: readonly Kernel[]): readonly Kernel[] | undefined => {
    const divided = kernels.map((kernel) => splitKernel(kernel, buffer, parts, buffers));
    return divided.every((list) => list !== undefined) ? divided.flat() : undefined;
  };
  const [load, run] = [divide(draft.load), divide(draft.run)];
  return load === undefined || run === undefined ? undefined : { ...draft, buffers, load, run };
}

function partsOf(buffer: Buffer, maxBytes: number, firstId: number): readonly Part[] | undefined {
  const rows = buffer.shape[0] ?? 0;
  const most = Math.floor(maxBytes / (byteSize(buffer) / rows));
  if (rows < 2 || most < 1 || buffer.layout.kind !== "rows" || buffer.layout.order[0] !== 0) return undefined;
  const even = Math.ceil(rows / Math.ceil(rows / most));
  const aligned = Math.ceil(even / ALIGNMENT) * ALIGNMENT;
  const step = aligned <= most ? aligned : even;
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    const [start, end] = [i * step, Math.min(rows, (i + 1) * step)];
    const whole = buffer.param;
    return {
      start,
      end,
      buffer: {
        ...buffer,
        id: firstId + i,
        name: `${buffer.name}[${start}:${end}]`,
        shape: [end - start, ...buffer.shape.slice(1)],
        ...(whole === undefined ? {} : { param: { ...whole, rows: { start, end } } }),
      },
    };
  });
}

/** The kernel once for each part of the rows that it touches; undefined if it cannot be cut. */
function splitKernel(
  kernel: Kernel,
  buffer: Buffer,
  parts: readonly Part[],
  buffers: readonly Buffer[],
): readonly Kernel[] | undefined {
  const touching = [...kernel.loads, ...kernel.stores].filter((access) => access.buffer === buffer.id);
  const [row] = touching.map((access) => access.index[0] ?? constant(0));
  if (row === undefined) return [kernel];
  if (touching.some((access) => !equal(access.index[0] ?? constant(0), row))) return undefined;
  const along = row.terms.length === 0 ? undefined : asAxis({ ...row, constant: 0 });
  if (row.terms.length > 0 && (along === undefined || !outputAxes(kernel).includes(along))) return undefined;
  const size = along === undefined ? 1 : (kernel.axes[along]?.size ?? 1);

  return parts.flatMap((part, number) => {
    const low = Math.max(row.constant, part.start);
    const high = Math.min(row.constant + size, part.end);
    if (low >= high) return [];
    const place = along === undefined ? constant(low - part.start) : add(axis(along), constant(low - part.start));
    const retarget = <T extends { readonly buffer: number; readonly index: readonly Affine[] }>(access: T): T =>
      access.buffer === buffer.id
        ? { ...access, buffer: part.buffer.id, index: [place, ...access.index.slice(1)] }
        : access;
    const axes = kernel.axes.map((a, i) => (i === along ? { ...a, size: high - low } : a));
    const shift = axes.map((_, i) => (i === along ? add(axis(i), constant(low - row.constant)) : axis(i)));
    // The accesses to this buffer are written in the new axis already: they go in after the others are shifted.
    const shifted = reindex(kernel, axes, shift);
    const whole = high - low === size;
    const cut: Kernel = {
      ...shifted,
      name: whole ? kernel.name : `${kernel.name}.${number}`,
      loads: shifted.loads.map(retarget),
      stores: shifted.stores.map(retarget),
      macs: (kernel.macs / size) * (high - low),
    };
    return [canonical(cut, buffers)];
  });
}
