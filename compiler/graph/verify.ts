/**
 * The invariants of a graph, checked after everything that makes one.
 *
 * `verifyGraph` says in words what is wrong; an empty list means that the graph is sound. A finding is always a mistake
 * of the compiler, never of a person who wrote a network.
 */
import { equal } from "../size.ts";
import { isLeaf } from "./builder.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { OPS, shapeOf } from "./ops.ts";
import { isProblem, showType } from "./shapes.ts";

export function verifyGraph(graph: Graph): readonly string[] {
  const present = new Set(graph.nodes);
  return [
    ...graph.nodes.flatMap((node, i) => nodeFindings(graph, node, i)),
    ...sharedNames(graph),
    ...deadNodes(graph),
    ...graph.outputs.flatMap((o) => (present.has(o.node) ? [] : [`output ${o.name} is not a node of the graph`])),
    ...inputFindings(graph),
  ];
}

function nodeFindings(graph: Graph, node: GraphNode, index: number): readonly string[] {
  const name = `node ${index} (${node.op})`;
  const found: string[] = [];
  if (node.id !== index) found.push(`${name} has id ${node.id}`);
  for (const input of node.inputs) {
    if (graph.nodes[input.id] !== input) found.push(`${name} reads a node that is not in the graph`);
    else if (input.id >= index) found.push(`${name} reads node ${input.id}, which comes later`);
  }
  const [least, most] = OPS[node.op].arity;
  if (node.inputs.length < least || node.inputs.length > most) {
    return [...found, `${name} has ${node.inputs.length} inputs`];
  }
  if (isLeaf(node)) {
    if (node.op === "constant" && node.shape.length > 0) found.push(`${name} is not a scalar: ${showType(node)}`);
    return found;
  }
  const type = shapeOf(node.op, node.inputs, node.attrs);
  if (isProblem(type)) return [...found, `${name} does not fit its inputs: ${type.message} (${type.label})`];
  const fits = type.shape.length === node.shape.length && type.shape.every((s, i) => equal(s, node.shape[i] ?? -1));
  if (!fits || type.dtype !== node.dtype) found.push(`${name} is ${showType(node)}, its rule gives ${showType(type)}`);
  return found;
}

/** A parameter is one node, an input is one node. */
function sharedNames(graph: Graph): readonly string[] {
  const seen = new Map<string, number>();
  return graph.nodes.flatMap((node) => {
    if (node.op !== "param" && node.op !== "input") return [];
    const name = node.op === "param" ? `parameter ${node.attrs.path}` : `input ${node.attrs.name}`;
    const before = seen.get(name);
    seen.set(name, node.id);
    return before === undefined ? [] : [`${name} is both node ${before} and node ${node.id}`];
  });
}

function deadNodes(graph: Graph): readonly string[] {
  const used = new Set<GraphNode>(graph.outputs.map((o) => o.node));
  for (const node of graph.nodes) for (const input of node.inputs) used.add(input);
  return graph.nodes.flatMap((node) =>
    used.has(node) || node.op === "input" ? [] : [`node ${node.id} (${node.op}) is used by nothing`],
  );
}

function inputFindings(graph: Graph): readonly string[] {
  const inputs = graph.nodes.filter((node) => node.op === "input");
  const listed = inputs.length === graph.inputs.length && inputs.every((node, i) => node === graph.inputs[i]);
  return listed ? [] : ["the list of inputs is not the graph's input nodes in order"];
}
