/** Graphs of attention, in the form that keeps a table and in the one that does not, with their gradients. */
import { differentiate } from "../../compiler/graph/gradient.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import type { Model } from "../../compiler/model.ts";
import type { Values } from "../gradient/check.ts";
import { Net, random } from "../loop/nets.ts";
import { modelOf } from "../tools/nets.ts";

/** Tables, rows, keys, depth of the scores, width of the values. */
export type Sizes = readonly [tables: number, rows: number, keys: number, depth: number, width: number];

/** softmax(scale · q·kᵀ)·v, with a weight on every element of the result so that gradients differ. */
export function attentionNet(form: "attend" | "table", sizes: Sizes, scale: number): Graph {
  const [tables, rows, keys, depth, width] = sizes;
  const net = new Net();
  const q = net.input("q", [tables, rows, depth]);
  const k = net.input("k", [tables, keys, depth]);
  const v = net.input("v", [tables, keys, width]);
  const w = net.input("w", [tables, rows, width]);
  const scores = (): ReturnType<Net["add"]> => {
    const e = net.add("matmul", [q, net.add("permute", [k], { order: [0, 2, 1] })], {});
    return net.add("softmax", [scale === 1 ? e : net.binary("mul", e, net.constant(scale))], { axis: 2 });
  };
  const y = form === "attend" ? net.add("attend", [q, k, v], { scale }) : net.add("matmul", [scores(), v], {});
  const graph = net
    .output("y", y)
    .output("loss", net.reduce(net.binary("mul", y, w), "sum", [0, 1, 2], false))
    .graph();
  const loss = graph.outputs[1]?.node;
  const made = loss === undefined ? undefined : differentiate(graph, loss, graph.inputs.slice(0, 3));
  if (made === undefined || !("graph" in made)) throw new Error("attention has no gradient");
  return made.graph;
}

/** Random numbers for its inputs; `spread` on those of the scores. */
export function attentionValues(
  sizes: Sizes,
  { seed = 1, spread = 1 }: { readonly seed?: number; readonly spread?: number } = {},
): Values {
  const [tables, rows, keys, depth, width] = sizes;
  const next = random(seed);
  const numbers = (length: number, by = 1): Float64Array =>
    Float64Array.from({ length }, () => Math.fround(next() * by));
  return {
    inputs: new Map([
      ["q", numbers(tables * rows * depth, spread)],
      ["k", numbers(tables * keys * depth)],
      ["v", numbers(tables * keys * width)],
      ["w", numbers(tables * rows * width)],
    ]),
    params: new Map(),
  };
}

/** Two small streams, joined as `unit` says; gates opened, or nothing would depend on attention. */
export function streams(unit: string, size = 8, batch = 2): Model {
  return modelOf(
    `block Net()(x: [N, C, H, W]) -> [N, 3]
default over x: f32[N, 3, ${size}, ${size}]
  = Conv(8) @conv1 -> ReLU -> GlobalAvgPool -> Linear(3) @fc
model Two = Net() ×2 over spatial: f32[N, 3, ${size}, ${size}], temporal: f32[N, 4, ${size}, ${size}]
  with ${unit} at conv1 fuse Average`,
    { N: batch },
  );
}
