/**
 * The verifier of loops: what every later stage takes for granted, proved or reported.
 *
 * Each message names the kernel. An empty list means: every access is in bounds wherever its guards hold, every element
 * is written exactly once and before it is read, no kernel reads what another point of it writes, state is replaced after
 * its last use, every axis is used, reducers and states fit, and values that are stored depend on output axes only.
 */

import type { Scalar } from "../scalar.ts";
import { visitScalar } from "../scalar.ts";
import {
  axisSizes,
  boundBuffers,
  bufferAt,
  drawsOf,
  isInPlace,
  loadAxes,
  offsetOf,
  outputAxes,
  union,
} from "./access.ts";
import { asAxis, axesOf, bounds, boundsUnder, evaluate, isLinear } from "./affine.ts";
import { innerProblems } from "./attention.ts";
import { axisLeaves, unmergeAxes } from "./build.ts";
import { isFilled } from "./draft.ts";
import { elementCount, product } from "./layout.ts";
import type { Affine, Buffer, Guard, Kernel, Loops, Store } from "./loops.ts";
import { REDUCERS } from "./reducers.ts";

/** Above this many elements a write is not proved by listing what it touches. */
const MOST_LISTED = 1 << 22;

/** Everything that is wrong with `loops`; empty if nothing is. */
export function verifyLoops(loops: Loops): readonly string[] {
  const problems: string[] = [];
  const load = loops.load.flatMap((step) => (step.kind === "kernel" ? [step.kernel] : []));
  for (const kernel of [...load, ...loops.run]) {
    for (const problem of verifyKernel(kernel, loops.buffers)) problems.push(`${kernel.name}: ${problem}`);
  }
  loops.buffers.forEach((buffer, id) => {
    if (buffer.id !== id) problems.push(`buffer ${id} calls itself ${buffer.id}`);
    problems.push(...verifyLayout(buffer));
  });
  if (problems.length > 0) return problems;
  return [...verifyOrder(loops), ...verifyWrites(loops, [...load, ...loops.run])];
}

function verifyLayout({ name, shape, layout }: Buffer): readonly string[] {
  if (shape.some((size) => !Number.isInteger(size) || size < 1)) return [`${name} has shape [${shape.join(", ")}]`];
  if (layout.kind === "panels") return shape.length >= 2 && layout.width >= 1 ? [] : [`${name} cannot lie in panels`];
  const whole =
    [...layout.order].sort((a, b) => a - b).every((d, i) => d === i) && layout.order.length === shape.length;
  return whole ? [] : [`${name} lies in order ${layout.order.join()}, no permutation of its dimensions`];
}

// ------------------------------------------------------------------------------------------------------------ one kernel

function verifyKernel(kernel: Kernel, buffers: readonly Buffer[]): readonly string[] {
  const problems: string[] = [];
  const known = [...kernel.loads, ...kernel.stores].every((access) => buffers[access.buffer] !== undefined);
  const accesses = [...kernel.loads, ...kernel.stores];
  const indices = accesses.flatMap((access) => access.index);
  const guards = accesses.flatMap((access) => access.guards.map((guard) => guard.index));
  const draws = drawsOf(kernel).map((draw) => draw.element);
  const named = [...indices, ...guards, ...draws].flatMap(axesOf);
  if (!known) return ["an access names no buffer"];
  if (kernel.stores.length === 0) return ["it stores nothing"];
  if (named.some((axis) => kernel.axes[axis] === undefined)) return ["an index names no axis"];
  if (new Set(kernel.axes.map((axis) => axis.name)).size !== kernel.axes.length)
    problems.push("two axes have one name");
  if (kernel.axes.some(({ size }) => !Number.isInteger(size) || size < 1)) problems.push("an axis has no whole size");

  const scalars = verifyScalars(kernel);
  if (scalars.length > 0) return [...problems, ...scalars];

  const sizes = axisSizes(kernel);
  for (const access of [...kernel.loads, ...kernel.stores]) {
    problems.push(...outOfBounds(access.index, access.guards, bufferAt(buffers, access.buffer), sizes));
  }
  if (draws.some((element) => bounds(element, sizes).min < 0)) problems.push("a draw counts elements below 0");
  const used = new Set([...named, ...axisLeaves(kernel)]);
  kernel.axes.forEach(({ name }, axis) => {
    if (!used.has(axis)) problems.push(`axis ${name} is not used`);
  });
  const written = new Set(kernel.stores.map((store) => store.buffer));
  for (const id of boundBuffers(kernel)) {
    const { name, role } = bufferAt(buffers, id);
    const inPlace = role === "state" && isInPlace(kernel, id);
    if (written.has(id) && kernel.loads.some((load) => load.buffer === id) && !inPlace) {
      problems.push(`it reads and writes ${name}`);
    }
  }
  return problems;
}

function outOfBounds(
  index: readonly Affine[],
  guards: readonly Guard[],
  buffer: Buffer,
  sizes: readonly number[],
): readonly string[] {
  if (index.length !== buffer.shape.length) return [`${buffer.name} is indexed by ${index.length} expressions`];
  return index.flatMap((part, d) => {
    const { min, max } = boundsUnder(part, guards, sizes);
    const size = buffer.shape[d] ?? 0;
    return min >= 0 && max < size
      ? []
      : [`dimension ${d} of ${buffer.name}, of size ${size}, is indexed ${min} to ${max}`];
  });
}

/** Axes that a store's guards hold at their first point. */
function pinnedAxes(store: Store): readonly number[] {
  return store.guards.flatMap(({ index, size }) => {
    const along = size === 1 ? asAxis(index) : undefined;
    return along === undefined ? [] : [along];
  });
}

function verifyScalars(kernel: Kernel): readonly string[] {
  const problems: string[] = [];
  const reducer = kernel.reduce === undefined ? undefined : REDUCERS[kernel.reduce];
  if (kernel.body.length !== (reducer?.operands ?? 0)) {
    problems.push(`${kernel.reduce ?? "a map"} takes ${reducer?.operands ?? 0} operands, not ${kernel.body.length}`);
  }
  const outputs = new Set(outputAxes(kernel));
  if (reducer === undefined && kernel.axes.some((_, axis) => !outputs.has(axis))) {
    problems.push("it has axes to reduce and no reducer");
  }
  const look = (scalar: Scalar, stored: boolean, states: number): void => {
    visitScalar(scalar, (node) => {
      if (node.kind === "state" && node.index >= states) {
        problems.push(`there is no state ${node.index} here`);
      }
      if (node.kind === "unary" && node.fn === "erf") problems.push("erf is not composed of other functions");
      if (node.kind === "axis" && (kernel.axes[node.axis] === undefined || (stored && !outputs.has(node.axis)))) {
        problems.push(`a value uses axis ${kernel.axes[node.axis]?.name ?? node.axis}`);
      }
      if (node.kind === "random" && stored && axesOf(node.element).some((axis) => !outputs.has(axis))) {
        problems.push("a stored value draws along reduced axes");
      }
      if (node.kind !== "load") return;
      const load = kernel.loads[node.index];
      if (load === undefined) problems.push(`there is no load ${node.index}`);
      else if (stored && loadAxes(load).some((axis) => !outputs.has(axis))) {
        problems.push(`a stored value loads along reduced axes (load ${node.index})`);
      }
    });
  };
  for (const { value } of kernel.inner ?? []) look(value, false, 0);
  for (const scalar of kernel.body) look(scalar, false, kernel.inner?.length ?? 0);
  for (const store of kernel.stores) look(store.value, true, reducer?.init.length ?? 0);
  for (const store of kernel.stores) {
    const own = union([...store.index.map(axesOf), pinnedAxes(store)]);
    if (own.length !== outputs.size) problems.push("its stores run over different axes");
  }
  return problems.length > 0 ? problems : innerProblems(kernel);
}

// -------------------------------------------------------------------------------------------------------------- programs

/** Roles and times: what may be read and written where, and that nothing is read before all of its writers ran. */
function verifyOrder(loops: Loops): readonly string[] {
  const problems: string[] = [];
  const writersLeft = new Map<number, number>();
  const load = loops.load.flatMap((step) => (step.kind === "kernel" ? [step.kernel] : []));
  for (const kernel of [...load, ...loops.run]) {
    for (const { buffer } of kernel.stores) writersLeft.set(buffer, (writersLeft.get(buffer) ?? 0) + 1);
  }
  const uploaded = new Set<number>();
  const replaced = new Set<number>();
  const step = (kernel: Kernel, inLoad: boolean): void => {
    for (const { buffer } of kernel.loads) {
      const { name, role } = bufferAt(loops.buffers, buffer);
      if (role === "state") {
        if (inLoad || !uploaded.has(buffer)) problems.push(`${kernel.name}: reads ${name} (state) before it is filled`);
        // What a kernel replaces in place, it alone replaces: its own elements are still the old ones.
        const own = kernel.stores.some((store) => store.buffer === buffer) && isInPlace(kernel, buffer);
        if (replaced.has(buffer) && !own) problems.push(`${kernel.name}: reads ${name} (state) after its update`);
        continue;
      }
      const ready =
        role === "input" ? !inLoad : role === "param" ? uploaded.has(buffer) : writersLeft.get(buffer) === 0;
      if (!ready) problems.push(`${kernel.name}: reads ${name} (${role}) before it is written`);
    }
    for (const { buffer } of kernel.stores) {
      const { name, role } = bufferAt(loops.buffers, buffer);
      const allowed = inLoad
        ? role === "constant"
        : role === "activation" || role === "output" || (role === "state" && uploaded.has(buffer));
      if (!allowed) problems.push(`${kernel.name}: may not write ${name} (${role})`);
      if (role === "state") replaced.add(buffer);
      writersLeft.set(buffer, (writersLeft.get(buffer) ?? 0) - 1);
    }
  };
  for (const item of loops.load) {
    if (item.kind === "kernel") step(item.kernel, true);
    else {
      const { name, role } = bufferAt(loops.buffers, item.buffer);
      const filled = isFilled(bufferAt(loops.buffers, item.buffer));
      if (!filled || uploaded.has(item.buffer)) problems.push(`${name} (${role}) is uploaded out of turn`);
      uploaded.add(item.buffer);
    }
  }
  for (const kernel of loops.run) step(kernel, false);
  return problems;
}

/** Every buffer that kernels write is written once at every element. */
function verifyWrites(loops: Loops, kernels: readonly Kernel[]): readonly string[] {
  const stores = new Map<number, { readonly kernel: Kernel; readonly store: Store }[]>();
  for (const original of kernels) {
    const kernel = unmergeAxes(original);
    for (const store of kernel.stores) {
      stores.set(store.buffer, [...(stores.get(store.buffer) ?? []), { kernel, store }]);
    }
  }
  return loops.buffers.flatMap((buffer) => {
    if (buffer.role === "input" || buffer.role === "param") return [];
    const writers = stores.get(buffer.id) ?? [];
    const boxes = writers.map(({ kernel, store }) => boxOf(kernel, store));
    const proved = boxes.every((box) => box !== undefined) ? tiles(boxes, buffer.shape) : undefined;
    if (proved === true) return [];
    const names = writers.map(({ kernel }) => kernel.name).join(", ") || "nothing";
    if (proved === false) return [`${buffer.name} is not written exactly once everywhere (by ${names})`];
    return listed(buffer, writers, loops.buffers)
      ? []
      : [`${buffer.name}: no proof that ${names} write it exactly once`];
  });
}

/**
 * In each dimension every `step`-th element from `start` to below `end`: a box, or one phase of a strided one. The step of
 * a single element is 0.
 */
type Box = readonly { readonly start: number; readonly end: number; readonly step: number; readonly count: number }[];

/**
 * The box of elements that a store writes, each once: every dimension a step times a mixed-radix number of axes of its
 * own. Undefined if the store is not of that form.
 */
function boxOf(kernel: Kernel, store: Store): Box | undefined {
  // What is written at one point of an axis does not run along it.
  const seen = new Set<number>(pinnedAxes(store));
  if (seen.size !== store.guards.length) return undefined;
  const box: Box[number][] = [];
  for (const part of store.index) {
    if (!isLinear(part)) return undefined;
    const terms = [...part.terms].sort((a, b) => a.coefficient - b.coefficient);
    const step = terms[0]?.coefficient ?? 0;
    if (step < 0) return undefined;
    let count = 1;
    for (const { coefficient, atom } of terms) {
      if (atom.kind !== "axis" || seen.has(atom.axis) || coefficient !== step * count) return undefined;
      seen.add(atom.axis);
      count *= kernel.axes[atom.axis]?.size ?? 1;
    }
    box.push({ start: part.constant, end: part.constant + step * (count - 1) + 1, step, count });
  }
  return box;
}

/** Whether boxes are disjoint and fill the shape. */
function tiles(boxes: readonly Box[], shape: readonly number[]): boolean {
  const volume = (box: Box): number => product(box.map(({ count }) => count));
  const meet = (a: Box, b: Box): boolean =>
    a.every((mine, d) => {
      const other = b[d] ?? mine;
      // Two progressions share no element if their starts differ modulo a divisor of both steps.
      const common = gcd(mine.step, other.step);
      const apart = common > 0 && (mine.start - other.start) % common !== 0;
      return !apart && mine.start < other.end && other.start < mine.end;
    });
  const disjoint = boxes.every((a, i) => boxes.slice(i + 1).every((b) => !meet(a, b)));
  return disjoint && boxes.reduce((sum, box) => sum + volume(box), 0) === product(shape);
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** The same by listing every element written. */
function listed(
  buffer: Buffer,
  writers: readonly { readonly kernel: Kernel; readonly store: Store }[],
  buffers: readonly Buffer[],
): boolean {
  if (elementCount(buffer) > MOST_LISTED) return false;
  const count = new Uint8Array(elementCount(buffer));
  for (const { kernel, store } of writers) {
    const address = offsetOf(kernel, buffers, store);
    const axes = outputAxes(kernel);
    const point = kernel.axes.map(() => 0);
    const total = product(axes.map((axis) => kernel.axes[axis]?.size ?? 1));
    for (let i = 0; i < total; i++) {
      let rest = i;
      for (const axis of axes) {
        const size = kernel.axes[axis]?.size ?? 1;
        point[axis] = rest % size;
        rest = Math.floor(rest / size);
      }
      const holds = store.guards.every(({ index, size }) => {
        const value = evaluate(index, point);
        return value >= 0 && value < size;
      });
      const at = evaluate(address, point);
      if (holds) count[at] = Math.min(2, (count[at] ?? 0) + 1);
    }
  }
  const once = count.reduce((sum, n) => sum + (n === 1 ? 1 : 0), 0);
  return once === product(buffer.shape) && count.every((n) => n <= 1);
}
