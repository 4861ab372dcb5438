/**
 * Scores of attention as a graph holds them: a product of matrices, multiples of it, and its transpose.
 */
import { equal, isKnown, type Size } from "../size.ts";
import type { GraphNode, NodeOf } from "./graph.ts";
import type { Site } from "./rewrite.ts";

/** scale · q·kᵀ. */
export interface Scores {
  /** The product of q and kᵀ, and whether it is read on its side: then its factors are k and qᵀ. */
  readonly product: NodeOf<"matmul">;
  readonly turned: boolean;
  readonly scale: number;
}

/** What a node is, if that is a product of matrices times a number, perhaps on its side. */
export function productUnder(node: GraphNode | undefined): Scores | undefined {
  let scale = 1;
  let turned = false;
  for (let at = node; at !== undefined; ) {
    if (at.op === "matmul") {
      const batch = at.shape.slice(0, -2);
      const fits = at.inputs.every((input) => alike(input.shape.slice(0, -2), batch));
      return fits ? { product: at, turned, scale } : undefined;
    }
    if (at.op === "permute" && swapsLast(at.attrs.order)) {
      turned = !turned;
      at = at.inputs[0];
      continue;
    }
    const factor = numberIn(at);
    if (factor === undefined) return undefined;
    scale *= factor.by;
    at = factor.of;
  }
  return undefined;
}

/** x times a number, in either order, or divided by one. */
function numberIn(node: GraphNode): { readonly of: GraphNode; readonly by: number } | undefined {
  const [left, right] = node.inputs;
  if (node.op !== "binary" || left === undefined || right === undefined) return undefined;
  const { fn } = node.attrs;
  if (fn === "mul" && left.op === "constant") return { of: right, by: left.attrs.value };
  if (right.op !== "constant") return undefined;
  if (fn === "mul") return { of: left, by: right.attrs.value };
  return fn === "div" && right.attrs.value !== 0 ? { of: left, by: 1 / right.attrs.value } : undefined;
}

function swapsLast(order: readonly number[]): boolean {
  const last = order.length - 1;
  return order.every((axis, i) => axis === (i === last ? last - 1 : i === last - 1 ? last : i));
}

export function alike(a: readonly Size[], b: readonly Size[]): boolean {
  return a.length === b.length && a.every((size, i) => equal(size, b[i] ?? -1));
}

export function countOf(sizes: readonly Size[]): number | undefined {
  return sizes.reduce<number | undefined>(
    (product, size) => (product === undefined || !isKnown(size) ? undefined : product * size),
    1,
  );
}

/** The last two axes exchanged; one exchange of them undoes another. */
export function transposed(node: GraphNode, site: Site): GraphNode {
  const last = node.shape.length - 1;
  const order = node.shape.map((_, i) => (i === last ? last - 1 : i === last - 1 ? last : i));
  const inner = node.op === "permute" ? node.inputs[0] : undefined;
  if (node.op !== "permute" || inner === undefined) return site.add("permute", [node], { order });
  const both = order.map((axis) => node.attrs.order[axis] ?? axis);
  return both.every((axis, i) => axis === i) ? inner : site.add("permute", [inner], { order: both });
}
