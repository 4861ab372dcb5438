/**
 * A graph as text: one node a line, `netc inspect --stage graph`.
 *
 * ```
 * graph Net
 *   %0 = input image           f32[N, 3, 32, 32]
 *   %1 = param conv1.weight    f32[6, 3, 5, 5]    conv1
 *   %2 = conv2d %0 %1 pad=2x2  f32[N, 6, 32, 32]  conv1
 *   return logits: %2
 * ```
 *
 * Attributes at their plainest value (stride 1, no padding, one group) are left out.
 */
import { showShape, showSize } from "../size.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { showType } from "./shapes.ts";

export function printGraph(graph: Graph): string {
  const rows = graph.nodes.map((node) => [`%${node.id} = ${nodeText(node)}`, showType(node), node.layer] as const);
  const widths = [0, 1].map((column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  const results = graph.outputs.map((o) => `${o.name}: %${o.node.id}`).join(", ");
  return [`graph ${graph.name}`, ...lines.map((line) => `  ${line}`), `  return ${results}`, ""].join("\n");
}

/** Operator, inputs and attributes: `conv2d %3 %1 %2 stride=2x2`. */
function nodeText(node: GraphNode): string {
  const words = [node.op, ...node.inputs.map((input) => `%${input.id}`), attributes(node)];
  return words.filter((word) => word !== "").join(" ");
}

function attributes(node: GraphNode): string {
  switch (node.op) {
    case "input":
      return node.attrs.name;
    case "param":
      return node.attrs.kind === "state" ? `${node.attrs.path} (state)` : node.attrs.path;
    case "constant":
      return String(node.attrs.value);
    case "conv2d":
    case "conv2d_input_grad":
    case "conv2d_weight_grad": {
      const { stride, pad, dilation, groups } = node.attrs;
      const made = node.op === "conv2d_input_grad" ? node.attrs.size : node.op === "conv2d_weight_grad" && node.attrs.k;
      return list([
        made ? `to ${made.join("x")}` : "",
        pair("stride", stride, 1),
        pair("pad", pad, 0),
        pair("dilation", dilation, 1),
        groups === 1 ? "" : `groups=${groups}`,
      ]);
    }
    case "max_pool2d":
    case "max_pool2d_index":
    case "max_pool2d_grad":
    case "avg_pool2d":
    case "avg_pool2d_grad": {
      const { k, stride, pad } = node.attrs;
      const counted = "countPad" in node.attrs && !node.attrs.countPad ? "count_pad=false" : "";
      const made = "size" in node.attrs ? `to ${node.attrs.size.join("x")}` : "";
      return list([made, `k=${k.join("x")}`, `stride=${stride.join("x")}`, pair("pad", pad, 0), counted]);
    }
    case "winograd_input":
      return list([`tile=${node.attrs.tile}`, pair("pad", node.attrs.pad, 0)]);
    case "winograd_weight":
      return list([`tile=${node.attrs.tile}`, node.attrs.adjoint ? "adjoint" : ""]);
    case "winograd_output_grad":
    case "winograd_weight_grad":
      return `tile=${node.attrs.tile}`;
    case "winograd_output": {
      const { tile, size, pool } = node.attrs;
      return list([`tile=${tile}`, `to ${size.join("x")}`, pool === 1 ? "" : `pool=${pool}`]);
    }
    case "softmax":
    case "concat":
      return `axis=${node.attrs.axis}`;
    case "batch_norm":
      return list([`eps=${node.attrs.eps}`, node.attrs.ofBatch === true ? "of the batch" : ""]);
    case "layer_norm":
      return `eps=${node.attrs.eps}`;
    case "reduce":
      return list([node.attrs.fn, `axes=[${node.attrs.axes.join(", ")}]`, node.attrs.keep ? "keep" : ""]);
    case "unary":
    case "binary":
      return node.attrs.fn;
    case "select":
      return node.attrs.compare;
    case "pad":
      return `axis=${node.attrs.axis} before=${node.attrs.before} after=${node.attrs.after}`;
    case "reshape":
    case "broadcast":
      return showShape(node.attrs.shape);
    case "permute":
      return `[${node.attrs.order.join(", ")}]`;
    case "slice":
      return `axis=${node.attrs.axis} start=${showSize(node.attrs.start)} size=${showSize(node.attrs.size)}`;
    case "dropout":
      return list([`p=${node.attrs.p}`, node.attrs.path, (node.attrs.use ?? 0) === 0 ? "" : `use=${node.attrs.use}`]);
    case "cast":
      return node.attrs.dtype;
    case "recompute":
      return `region=${node.attrs.region}`;
    case "attend":
    case "attend_log_sum":
    case "attend_query_grad":
    case "attend_key_grad":
    case "attend_value_grad":
      return node.attrs.scale === 1 ? "" : `scale=${node.attrs.scale}`;
    case "linear":
    case "matmul":
    case "causal_mask":
    case "detach":
      return "";
    default:
      return node satisfies never;
  }
}

function pair(name: string, value: readonly [number, number], plain: number): string {
  return value.every((v) => v === plain) ? "" : `${name}=${value.join("x")}`;
}

function list(words: readonly string[]): string {
  return words.filter((word) => word !== "").join(" ");
}
