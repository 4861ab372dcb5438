/**
 * The gradient of attention without its table.
 *
 * Backward needs the weights A once more. They are computed again, tile by tile, from the logarithm of each row's sum,
 * A_ij = exp(scale · q_i·k_j - log_i), which is all that the forward pass keeps of them (Dao et al. 2022,
 * "FlashAttention", section 3.1 and appendix B.2); and Σ_j A_ij · (dy_i·v_j) = dy_i·y_i, so that the gradient of the
 * softmax needs no row of the table either. With row_i = dy_i·y_i
 *
 *   dE_ij = A_ij · (dy_i·v_j - row_i),   dq_i = scale · Σ_j dE_ij k_j,   dk_j = scale · Σ_i dE_ij q_i,   dv_j = Σ_i A_ij dy_i.
 *
 * dq is one pass over rows, dk and dv are one over columns (loop/join-attend.ts): each result has one writer and one order of summation.
 */
import { type Algebra, binary, inputOf, reshape, sum } from "./algebra.ts";
import type { GradientRule } from "./gradient-rules.ts";
import type { GraphNode } from "./graph.ts";

export const ofAttend: GradientRule<"attend"> = (node, upstream, a) => {
  const [q, k, v] = [inputOf(node, 0), inputOf(node, 1), inputOf(node, 2)];
  const { attrs } = node;
  const log = a.op("attend_log_sum", [q, k], attrs);
  const row = sum(a, binary(a, "mul", upstream, node), [node.shape.length - 1], false);
  return [
    a.op("attend_query_grad", [q, k, v, upstream, log, row], attrs),
    a.op("attend_key_grad", [q, k, v, upstream, log, row], attrs),
    a.op("attend_value_grad", [q, k, upstream, log], attrs),
  ];
};

/** d log_i = Σ_j A_ij · scale · d(q_i·k_j): attention whose values are the keys, and its transpose on the queries. */
export const ofAttendLogSum: GradientRule<"attend_log_sum"> = (node, upstream, a) => {
  const [q, k] = [inputOf(node, 0), inputOf(node, 1)];
  const { attrs } = node;
  const rows = scaled(a, reshape(a, upstream, [...node.shape, 1]), attrs.scale);
  return [
    binary(a, "mul", a.op("attend", [q, k, k], attrs), rows),
    a.op("attend_value_grad", [q, k, binary(a, "mul", q, rows), node], attrs),
  ];
};

function scaled(a: Algebra, x: GraphNode, by: number): GraphNode {
  return by === 1 ? x : binary(a, "mul", x, by);
}
