/**
 * A program while it is being put together: buffers are still added and dropped, kernels still split and fused.
 * `finish` turns it into Loops.
 */
import { bufferAt } from "./access.ts";
import { byteSize } from "./layout.ts";
import type { Buffer, Kernel, LoadStep, Loops } from "./loops.ts";

/** Loops whose uploads are not placed yet, with buffers that nothing may use. */
export interface Draft {
  readonly name: string;
  readonly buffers: readonly Buffer[];
  readonly load: readonly Kernel[];
  readonly run: readonly Kernel[];
  readonly inputs: Loops["inputs"];
  readonly outputs: Loops["outputs"];
}

/** Drops what nothing uses, numbers the buffers anew, and uploads each parameter just before its first use. */
export function finish(draft: Draft): Loops {
  const used = new Set([...draft.inputs, ...draft.outputs].map((port) => port.buffer));
  for (const kernel of [...draft.load, ...draft.run]) {
    for (const access of [...kernel.loads, ...kernel.stores]) used.add(access.buffer);
  }
  const kept = draft.buffers.filter((buffer) => used.has(buffer.id));
  const number = new Map(kept.map((buffer, id) => [buffer.id, id]));
  const renumber = <T extends { readonly buffer: number }>(item: T): T => ({
    ...item,
    buffer: number.get(item.buffer) ?? 0,
  });
  const kernel = (k: Kernel): Kernel => ({ ...k, loads: k.loads.map(renumber), stores: k.stores.map(renumber) });
  const buffers = kept.map((buffer, id): Buffer => ({ ...buffer, id }));
  const run = draft.run.map(kernel);
  return {
    name: draft.name,
    buffers,
    load: withUploads(draft.load.map(kernel), run, buffers),
    run,
    inputs: draft.inputs.map(renumber),
    outputs: draft.outputs.map(renumber),
  };
}

function withUploads(load: readonly Kernel[], run: readonly Kernel[], buffers: readonly Buffer[]): readonly LoadStep[] {
  const steps: LoadStep[] = [];
  const uploaded = new Set<number>();
  const upload = (kernel: Kernel): void => {
    for (const { buffer } of kernel.loads) {
      if (!isFilled(bufferAt(buffers, buffer)) || uploaded.has(buffer)) continue;
      uploaded.add(buffer);
      steps.push({ kind: "upload", buffer });
    }
  };
  for (const kernel of load) {
    upload(kernel);
    steps.push({ kind: "kernel", kernel });
  }
  run.forEach(upload);
  return steps;
}

/** Whether the buffer starts with the values of a parameter. */
export function isFilled({ role }: Buffer): boolean {
  return role === "param" || role === "state";
}

/** Buffers longer than the target can bind, longest first; a program with any of them cannot run there. */
export function oversizedBuffers(loops: Loops, maxBufferBytes: number): readonly Buffer[] {
  return loops.buffers.filter((buffer) => byteSize(buffer) > maxBufferBytes).sort((a, b) => byteSize(b) - byteSize(a));
}
