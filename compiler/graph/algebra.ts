/**
 * Formulas of nodes: a short way to write tensor arithmetic that a compiler pass adds to a graph.
 *
 * Derivatives, training forms and losses are compositions of the operators that every graph has. An `Algebra` writes
 * them into a builder at one place (`Where`); the shapes are the pass's own doing, so a misfit is a mistake of the
 * compiler. Nodes that nothing needs in the end are dropped when the builder finishes, so a formula may be written
 * whether or not all of its parts are used.
 */
import type { BinaryFn, CompareFn, TensorFn } from "../scalar.ts";
import { equal, isKnown, type Size, showShape } from "../size.ts";
import type { GraphBuilder, Where } from "./builder.ts";
import type { GraphNode, OpAttrs, OpName } from "./graph.ts";
import type { LeafName } from "./ops.ts";
import { isProblem } from "./shapes.ts";

export interface Algebra {
  readonly op: <K extends Exclude<OpName, LeafName>>(
    op: K,
    inputs: readonly GraphNode[],
    attrs: OpAttrs[K],
  ) => GraphNode;
  /** A number of the element type of `like`, shape []. */
  readonly number: (value: number, like: GraphNode) => GraphNode;
}

/** Formulas added to `builder` at `where`. */
export function algebraOf(builder: GraphBuilder, where: Where): Algebra {
  return {
    op: (op, inputs, attrs) => {
      const made = builder.add(op, inputs, attrs, where);
      if (isProblem(made)) throw new Error(`internal: a formula made a misfit: ${made.message}, ${made.label}`);
      return made;
    },
    number: (value, like) => builder.leaf("constant", { value }, { shape: [], dtype: like.dtype }, where),
  };
}

export function unary(a: Algebra, fn: TensorFn, x: GraphNode): GraphNode {
  return a.op("unary", [x], { fn });
}

/** A number on one side takes the element type of the other. */
export function binary(a: Algebra, fn: BinaryFn, left: GraphNode, right: GraphNode | number): GraphNode {
  return a.op("binary", [left, typeof right === "number" ? a.number(right, left) : right], { fn });
}

/** `compare(left, right) ? then : otherwise`, element by element. */
export function select(
  a: Algebra,
  compare: CompareFn,
  left: GraphNode,
  right: GraphNode,
  then: GraphNode,
  otherwise: GraphNode,
): GraphNode {
  return a.op("select", [left, right, then, otherwise], { compare });
}

export function sum(a: Algebra, x: GraphNode, axes: readonly number[], keep: boolean): GraphNode {
  return axes.length === 0 ? x : a.op("reduce", [x], { fn: "sum", axes, keep });
}

export function mean(a: Algebra, x: GraphNode, axes: readonly number[], keep: boolean): GraphNode {
  return axes.length === 0 ? x : a.op("reduce", [x], { fn: "mean", axes, keep });
}

export function reshape(a: Algebra, x: GraphNode, shape: readonly Size[]): GraphNode {
  return sameShape(x.shape, shape) ? x : a.op("reshape", [x], { shape });
}

export function permute(a: Algebra, x: GraphNode, order: readonly number[]): GraphNode {
  return order.every((axis, i) => axis === i) ? x : a.op("permute", [x], { order });
}

/** The last two axes exchanged. */
export function transpose(a: Algebra, x: GraphNode): GraphNode {
  const rank = x.shape.length;
  const order = x.shape.map((_, i) => i);
  return permute(a, x, [...order.slice(0, -2), rank - 1, rank - 2]);
}

/** `x` repeated along axes of size 1, and along axes before its own, up to `shape`. */
export function broadcast(a: Algebra, x: GraphNode, shape: readonly Size[]): GraphNode {
  return sameShape(x.shape, shape) ? x : a.op("broadcast", [x], { shape });
}

/** A vector of channels [C] in the shape [C,1,…] that broadcasts against `image` [N,C,…]. */
export function perChannel(a: Algebra, vector: GraphNode, image: GraphNode): GraphNode {
  return reshape(
    a,
    vector,
    image.shape.slice(1).map((size, i) => (i === 0 ? size : 1)),
  );
}

/** Every axis but that of the channels. */
export function allButChannels(image: GraphNode): readonly number[] {
  return image.shape.map((_, axis) => axis).filter((axis) => axis !== 1);
}

/** 1/√(x + eps). */
export function reciprocalRoot(a: Algebra, x: GraphNode, eps: number): GraphNode {
  return unary(a, "rsqrt", binary(a, "add", x, eps));
}

export function sameShape(a: readonly Size[], b: readonly Size[]): boolean {
  return a.length === b.length && a.every((size, i) => equal(size, b[i] ?? -1));
}

/** The sizes as numbers. What is written here runs on bound graphs only. */
export function knownSizes(sizes: readonly Size[]): readonly number[] {
  return sizes.map((size) => {
    if (!isKnown(size)) throw new Error(`internal: a formula needs known sizes, not ${showShape(sizes)}`);
    return size;
  });
}

/** Elements along `axes`. */
export function countAlong(x: GraphNode, axes: readonly number[]): number {
  return knownSizes(axes.map((axis) => x.shape[axis] ?? 1)).reduce((product, size) => product * size, 1);
}

/** Input `at` of a node that has it. */
export function inputOf(node: GraphNode, at: number): GraphNode {
  const input = node.inputs[at];
  if (input === undefined) throw new Error(`internal: ${node.op} has no input ${at}`);
  return input;
}
