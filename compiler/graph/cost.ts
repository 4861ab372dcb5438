/**
 * What a network costs, layer by layer: `netc inspect --stage cost`.
 *
 * Multiply-adds are those of convolutions, linear layers and matrix products, as papers count them (2 FLOPs each).
 * Activations are the results of all computed nodes that are not views of others, before any fusion: an upper bound of
 * what inference moves, and what training without checkpointing keeps. Sizes stay symbols where the graph's are open.
 */
import type { DType } from "../../grammar/ast.ts";
import { add, mul, product, type Size } from "../size.ts";
import type { Graph, GraphNode, OpName } from "./graph.ts";
import { OPS } from "./ops.ts";

interface Amounts {
  /** Learned numbers; running statistics are not counted. */
  readonly parameters: Size;
  readonly macs: Size;
  readonly activationBytes: Size;
}

export interface LayerCost extends Amounts {
  readonly layer: string;
  /** Shape of the last value that the layer computes; undefined for a layer that only owns parameters. */
  readonly output: readonly Size[] | undefined;
}

export interface Cost {
  /** In the order in which the layers first appear. */
  readonly layers: readonly LayerCost[];
  readonly total: Amounts;
}

const BYTES: { readonly [K in DType]: number } = {
  f16: 2,
  f32: 4,
  f64: 8,
  bf16: 2,
  i8: 1,
  i16: 2,
  i32: 4,
  i64: 8,
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  bool: 1,
};

/** Nodes that compute nothing of their own: leaves, and other names for the same numbers. */
const FREE: ReadonlySet<OpName> = new Set<OpName>([
  "input",
  "param",
  "constant",
  "reshape",
  "broadcast",
  "dropout",
  "detach",
  "recompute",
]);

/** The cost of a graph as it was written; after `rewrite` the counts are those of the rewritten graph. */
export function costOf(graph: Graph): Cost {
  const layers = new Map<string, LayerCost>();
  for (const node of graph.nodes) {
    if (node.op === "input" || node.op === "constant") continue;
    const before = layers.get(node.layer) ?? { layer: node.layer, ...NOTHING, output: undefined };
    const output = node.op === "param" ? before.output : node.shape;
    layers.set(node.layer, { layer: node.layer, ...plus(before, nodeCost(node)), output });
  }
  const rows = [...layers.values()];
  return { layers: rows, total: rows.reduce<Amounts>(plus, NOTHING) };
}

const NOTHING: Amounts = { parameters: 0, macs: 0, activationBytes: 0 };

function plus(a: Amounts, b: Amounts): Amounts {
  return {
    parameters: add(a.parameters, b.parameters),
    macs: add(a.macs, b.macs),
    activationBytes: add(a.activationBytes, b.activationBytes),
  };
}

function nodeCost(node: GraphNode): Amounts {
  return {
    parameters: node.op === "param" && node.attrs.kind === "param" ? product(node.shape) : 0,
    macs: OPS[node.op].macs?.(node.inputs, node) ?? 0,
    activationBytes: FREE.has(node.op) ? 0 : mul(product(node.shape), BYTES[node.dtype]),
  };
}
