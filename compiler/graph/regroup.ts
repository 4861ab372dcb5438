/**
 * Products of three matrices in the cheaper order: scale · (a·b)·v as a·(scale · b·v).
 *
 * Attention that takes no softmax of its scores but a multiple of them (Wang et al. 2018, "Non-local Neural Networks", section
 * 3.2, the dot product) is such a product, whose middle is the table of rows by keys. Grouped the other way it has no table,
 * and takes rows + keys instead of rows × keys multiply-adds for each pair of features.
 */
import { isKnown } from "../size.ts";
import type { AttentionChoice } from "./attend.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { type Rule, useCounts } from "./rewrite.ts";
import { alike, countOf, productUnder, type Scores, transposed } from "./scores.ts";

interface Match {
  readonly scores: Scores;
  readonly values: GraphNode;
  readonly tables: number;
  readonly rows: number;
  readonly keys: number;
  /** Multiply-adds of the other order over those of this one. */
  readonly share: number;
}

/** The product that a node is, if it is cheaper in the other order. */
function matched(node: GraphNode, uses: (node: GraphNode) => number): Match | undefined {
  const [table, values] = node.inputs;
  if (node.op !== "matmul" || table === undefined || values === undefined) return undefined;
  const scores = productUnder(table);
  const batch = table.shape.slice(0, -2);
  if (scores === undefined || !alike(batch, values.shape.slice(0, -2))) return undefined;
  const depth = scores.product.inputs[0]?.shape.at(-1);
  const known = [countOf(batch), table.shape.at(-2), table.shape.at(-1), depth, values.shape.at(-1)];
  const [tables = 0, rows = 0, keys = 0, inner = 0, features = 0] = known.map((size) =>
    size !== undefined && isKnown(size) ? size : 0,
  );
  // A table that is read elsewhere is made all the same.
  const made = uses(table) === 1 && uses(scores.product) === 1 ? inner * rows * keys : 0;
  const now = made + rows * keys * features;
  const then = inner * keys * features + rows * inner * features;
  const share = then / now;
  return share < 1 ? { scores, values, tables, rows, keys, share } : undefined;
}

/** What `regroupRule` finds in a graph. */
export function regrouped(graph: Graph): readonly AttentionChoice[] {
  const uses = useCounts(graph);
  return graph.nodes.flatMap((node): AttentionChoice[] => {
    const found = matched(node, (other) => uses.get(other) ?? 0);
    if (found === undefined) return [];
    const { tables, rows, keys } = found;
    const reason = `no softmax is taken of the scores: keys times values first takes ${found.share.toPrecision(2)} of the multiply-adds`;
    const bytes = 4 * tables * rows * keys;
    return [{ layer: node.layer, tables, rows, keys, bytes, form: "regrouped", reason }];
  });
}

export const regroupRule: Rule = {
  name: "regroup",
  doc: "scale · (a·b)·v is a·(scale · b·v) where that takes fewer multiply-adds",
  ops: ["matmul"],
  apply: (node, site) => {
    const found = matched(node, site.uses);
    if (found === undefined) return undefined;
    const { product, turned, scale } = found.scores;
    const [first, second] = product.inputs;
    if (first === undefined || second === undefined) return undefined;
    const [a, b] = turned ? [transposed(second, site), transposed(first, site)] : [first, second];
    const gathered = site.add("matmul", [b, found.values], {});
    const scaled = scale === 1 ? gathered : site.add("binary", [gathered, site.constant(scale)], { fn: "mul" });
    return site.add("matmul", [a, scaled], {});
  },
};
