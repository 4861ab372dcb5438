import { test } from "vitest";
import { differentiate } from "../../compiler/graph/gradient.ts";
import { lowerAndExplain } from "../../compiler/loop/lower.ts";
import { printLoops } from "../../compiler/loop/print.ts";
import { printGraph } from "../../compiler/graph/print.ts";
import { Net } from "../loop/nets.ts";
test("show", () => {
  const net = new Net();
  const q = net.input("q", [2, 5, 4]); const k = net.input("k", [2, 7, 4]); const v = net.input("v", [2,7,4]);
  const y = net.add("attend", [q, k, v], { scale: 0.5 });
  const g = net.output("y", net.reduce(net.binary("mul", y, y), "sum", [0,1,2], false)).graph();
  const d = differentiate(g, g.outputs[0]!.node, g.inputs);
  if (!("graph" in d)) throw new Error("x");
  console.log(printGraph(d.graph));
  const l = lowerAndExplain(d.graph, { panelWidth: 8, maxBufferBytes: 2 ** 40, fuse: true, sumInParts: true });
  console.log(printLoops(l.loops));
  console.log(l.decisions);
});
