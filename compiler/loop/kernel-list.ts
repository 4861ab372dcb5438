/**
 * A list of kernels that changes while it is fused.
 *
 * In: kernels in the order of their execution. A kernel keeps its place when it is replaced, and who reads and who writes
 * a buffer is known without a walk through the list, which has hundreds of kernels for a training step.
 */
import type { Kernel } from "./loops.ts";

export class KernelList {
  /** In the order of execution; a removed kernel leaves a gap. */
  readonly #slots: (Kernel | undefined)[];
  readonly #places = new Map<Kernel, number>();
  readonly #readers = new Map<number, Set<Kernel>>();
  readonly #writers = new Map<number, Set<Kernel>>();

  constructor(kernels: readonly Kernel[]) {
    this.#slots = [...kernels];
    kernels.forEach((kernel, place) => this.#enter(kernel, place));
  }

  get size(): number {
    return this.#places.size;
  }

  has(kernel: Kernel): boolean {
    return this.#places.has(kernel);
  }

  /** All kernels; the array is the caller's. */
  inOrder(): Kernel[] {
    return this.#slots.filter((kernel) => kernel !== undefined);
  }

  /** Kernels that load from a buffer, in no order. */
  readers(buffer: number): readonly Kernel[] {
    return [...(this.#readers.get(buffer) ?? [])];
  }

  /** Kernels that store to a buffer, in no order. */
  writers(buffer: number): readonly Kernel[] {
    return [...(this.#writers.get(buffer) ?? [])];
  }

  /** Each of `kernels` once, in the order of execution. */
  sorted(kernels: readonly Kernel[]): Kernel[] {
    if (kernels.length < 2) return [...kernels];
    return [...new Set(kernels)].sort((a, b) => this.#place(a) - this.#place(b));
  }

  first(kernels: readonly Kernel[]): Kernel | undefined {
    let [earliest] = kernels;
    for (const kernel of kernels) {
      if (earliest !== undefined && this.isBefore(kernel, earliest)) earliest = kernel;
    }
    return earliest;
  }

  isBefore(a: Kernel, b: Kernel): boolean {
    return this.#place(a) < this.#place(b);
  }

  /** Whether `kernel` runs after `first` and before `last`. */
  isBetween(kernel: Kernel, first: Kernel, last: Kernel): boolean {
    return this.isBefore(first, kernel) && this.isBefore(kernel, last);
  }

  replace(old: Kernel, by: Kernel): void {
    const place = this.#place(old);
    this.remove(old);
    this.#slots[place] = by;
    this.#enter(by, place);
  }

  remove(kernel: Kernel): void {
    this.#slots[this.#place(kernel)] = undefined;
    this.#places.delete(kernel);
    for (const load of kernel.loads) this.#readers.get(load.buffer)?.delete(kernel);
    for (const store of kernel.stores) this.#writers.get(store.buffer)?.delete(kernel);
  }

  #enter(kernel: Kernel, place: number): void {
    this.#places.set(kernel, place);
    for (const load of kernel.loads) note(this.#readers, load.buffer, kernel);
    for (const store of kernel.stores) note(this.#writers, store.buffer, kernel);
  }

  #place(kernel: Kernel): number {
    const place = this.#places.get(kernel);
    if (place === undefined) throw new Error(`internal: ${kernel.name} is not in the list`);
    return place;
  }
}

function note(index: Map<number, Set<Kernel>>, buffer: number, kernel: Kernel): void {
  const known = index.get(buffer);
  if (known === undefined) index.set(buffer, new Set([kernel]));
  else known.add(kernel);
}
