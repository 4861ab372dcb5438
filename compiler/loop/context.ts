/**
 * What an operator's lowering sees of the program it adds to: the values of its inputs, and places to put results.
 *
 * A lowering takes a node to the value of its result. Nearly all make one kernel; movements make none.
 */
import type { DType } from "../../grammar/ast.ts";
import type { GraphNode, NodeOf, OpName, TensorType } from "../graph/graph.ts";
import { isKnown, showShape } from "../size.ts";
import { constant } from "./affine.ts";
import type { Value, View } from "./build.ts";
import type { Affine, Buffer, Kernel } from "./loops.ts";

export interface Context {
  readonly buffers: readonly Buffer[];
  readonly value: (node: GraphNode) => Value;
  /** The value of an image that a product reads through windows: channels last, if the target wants that of inputs too. */
  readonly image: (node: GraphNode) => Value;
  /** Makes a buffer for a result of `from`: a constant if all of them are, else an activation. */
  readonly allocate: (what: {
    readonly name: string;
    readonly shape: readonly number[];
    readonly dtype: DType;
    readonly from: readonly Value[];
    /**
     * Channels last if 4-D, [O,C,KH,KW] with O innermost, or in the order in which this value lies in memory. Row-major
     * if absent.
     */
    readonly like?: "channels-last" | "filters-last" | View;
  }) => Buffer;
  readonly input: (name: string, type: TensorType) => Buffer;
  readonly param: (node: NodeOf<"param">) => Buffer;
  readonly emit: (kernel: Kernel) => void;
}

export type Lowering<K extends OpName> = (node: NodeOf<K>, context: Context) => Value;

/** The node's sizes as numbers. */
export function knownShape(type: TensorType): readonly number[] {
  return type.shape.map((size) => {
    if (!isKnown(size)) throw new Error(`internal: lowering needs known sizes, not ${showShape(type.shape)}`);
    return size;
  });
}

/** Input `at` of a node; an absent optional input is undefined. */
export function operand(node: GraphNode, at: number): GraphNode {
  const input = node.inputs[at];
  if (input === undefined) throw new Error(`internal: ${node.op} has no input ${at}`);
  return input;
}

/** Entry `at` of a list that is known to be long enough. */
export function entry<T>(list: readonly T[], at: number): T {
  const value = list[at];
  if (value === undefined) throw new Error(`internal: no entry ${at} of ${list.length}`);
  return value;
}

/** `layer.label`, or whichever of them is not empty. */
export function nameOf(node: GraphNode, label: string): string {
  return [node.layer, label].filter((part) => part !== "").join(".");
}

export function layersOf(node: GraphNode): readonly string[] {
  return node.layer === "" ? [] : [node.layer];
}

/** Index of an operand of this shape at `index` of the result: aligned at the right, sizes of 1 repeated. */
export function broadcastIndex(shape: readonly number[], index: readonly Affine[]): readonly Affine[] {
  const skipped = index.length - shape.length;
  return shape.map((size, d) => (size === 1 ? constant(0) : entry(index, d + skipped)));
}

/** Names of the axes of a tensor of this rank. */
export function axisNames(rank: number): readonly string[] {
  return rank === 4 ? ["n", "c", "h", "w"] : Array.from({ length: rank }, (_, d) => `d${d}`);
}
