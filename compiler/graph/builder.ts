/**
 * Making graphs.
 *
 * A `GraphBuilder` takes nodes one by one, inputs before their users, asks the operator's row for the shape, and gives
 * back the node that stands for the value: an earlier one if the same operator was applied to the same inputs before.
 * `finish` drops what no output needs and numbers the rest. `bindSizes` closes the open sizes of a finished graph.
 */

import type { Origin } from "../origin.ts";
import { factsOf, isKnown, type Size, substitute } from "../size.ts";
import type { Graph, GraphNode, NodeOf, OpAttrs, OpName, TensorType } from "./graph.ts";
import { type LeafName, shapeOf } from "./ops.ts";
import { commonRegion, type Region } from "./region.ts";
import { isProblem, type ShapeProblem } from "./shapes.ts";

/** Where a node belongs and what made it. A node is itself such a record: a rewrite hands on the node it replaces. */
export interface Where {
  readonly layer: string;
  readonly origins: readonly Origin[];
  readonly region?: Region | undefined;
}

/** A finished graph and, for every node of the builder that is in it, the node that it became. */
export interface Finished {
  readonly graph: Graph;
  readonly nodes: ReadonlyMap<GraphNode, GraphNode>;
}

export class GraphBuilder {
  readonly #nodes: GraphNode[] = [];
  readonly #known = new Map<string, GraphNode>();
  /** Origins by node id, for nodes that were made more than once collect more. */
  readonly #origins: Set<Origin>[] = [];
  /** Regions by node id: a node that was made in two belongs to what is around both. */
  readonly #regions: (Region | undefined)[] = [];

  /** An input, a parameter or a number. The same leaf twice (by name, path or value) is one node. */
  leaf<K extends LeafName>(op: K, attrs: OpAttrs[K], type: TensorType, where: Where): GraphNode {
    return this.#place(op, [], attrs, type, where);
  }

  /** `op` applied to nodes of this builder; a problem if the shapes do not fit. */
  add<K extends Exclude<OpName, LeafName>>(
    op: K,
    inputs: readonly GraphNode[],
    attrs: OpAttrs[K],
    where: Where,
  ): GraphNode | ShapeProblem {
    const type = shapeOf(op, inputs, attrs);
    return isProblem(type) ? type : this.#place(op, inputs, attrs, type, where);
  }

  /** A node of another graph again, on inputs of this builder that have the same types as its own. */
  copy(node: GraphNode, inputs: readonly GraphNode[]): GraphNode {
    return this.#place(node.op, inputs, node.attrs, node, node);
  }

  /** A whole graph again; gives back what each of its nodes has become here. */
  copyAll(graph: Graph): (node: GraphNode) => GraphNode {
    const copies = new Map<GraphNode, GraphNode>();
    const copyOf = (node: GraphNode): GraphNode => {
      const copy = copies.get(node);
      if (copy === undefined) throw new Error(`internal: node ${node.id} (${node.op}) is not of ${graph.name}`);
      return copy;
    };
    for (const node of graph.nodes) copies.set(node, this.copy(node, node.inputs.map(copyOf)));
    return copyOf;
  }

  /**
   * The graph of everything that `outputs` need, and of every input, for those are the network's signature. Nodes keep
   * the order in which they were made.
   */
  finish(name: string, outputs: readonly { readonly name: string; readonly node: GraphNode }[]): Finished {
    const needed = new Set<GraphNode>();
    const pending = [...outputs.map((o) => o.node), ...this.#nodes.filter((n) => n.op === "input")];
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      if (needed.has(node)) continue;
      needed.add(node);
      pending.push(...node.inputs);
    }
    const nodes = new Map<GraphNode, GraphNode>();
    for (const node of this.#nodes) {
      if (!needed.has(node)) continue;
      const inputs = node.inputs.map((input) => lookUp(nodes, input));
      const origins = [...(this.#origins[node.id] ?? [])];
      nodes.set(node, { ...node, id: nodes.size, inputs, origins, region: this.#regions[node.id] });
    }
    return { nodes, graph: graphOf(name, [...nodes.values()], outputs, (node) => lookUp(nodes, node)) };
  }

  #place(
    op: OpName,
    inputs: readonly GraphNode[],
    attrs: OpAttrs[OpName],
    { shape, dtype }: TensorType,
    where: Where,
  ): GraphNode {
    const key = `${op}(${inputs.map((i) => i.id).join()})${textOf(attrs)}${textOf(shape)}${dtype}`;
    let node = this.#known.get(key);
    if (node === undefined) {
      const id = this.#nodes.length;
      // `op` and `attrs` belong together: every caller took them from one row of the table or from one node.
      const { layer, origins } = where;
      const region = op === "input" || op === "param" || op === "constant" ? undefined : where.region;
      node = { id, op, inputs, attrs, shape, dtype, layer, origins, region } as GraphNode;
      this.#known.set(key, node);
      this.#nodes.push(node);
      this.#origins.push(new Set());
      this.#regions.push(region);
    } else this.#regions[node.id] = commonRegion(this.#regions[node.id], where.region);
    for (const origin of where.origins) this.#origins[node.id]?.add(origin);
    return node;
  }
}

const texts = new WeakMap<object, string>();

/** `canonicalText`, remembered: copies of a node share its attributes and its shape, and rewriting copies often. */
function textOf(data: object): string {
  let text = texts.get(data);
  if (text === undefined) {
    text = canonicalText(data);
    texts.set(data, text);
  }
  return text;
}

/**
 * A text that is equal for equal plain data, whatever the order of the keys. Unlike JSON it tells 0 from -0 and knows
 * infinities; it is written out by hand because every node of every graph passes through it.
 */
export function canonicalText(value: unknown): string {
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "undefined";
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  const entries = Object.entries(value).map(([key, v]) => `${key}:${canonicalText(v)}`);
  return `{${entries.sort().join(",")}}`;
}

function lookUp(nodes: ReadonlyMap<GraphNode, GraphNode>, node: GraphNode): GraphNode {
  const found = nodes.get(node);
  if (found === undefined) throw new Error(`internal: node ${node.id} (${node.op}) is not of this builder`);
  return found;
}

function graphOf(
  name: string,
  nodes: readonly GraphNode[],
  outputs: Graph["outputs"],
  now: (n: GraphNode) => GraphNode,
): Graph {
  return {
    name,
    nodes,
    inputs: nodes.filter((n): n is NodeOf<"input"> => n.op === "input"),
    outputs: outputs.map((o) => ({ name: o.name, node: now(o.node) })),
  };
}

// ----------------------------------------------------------------------------------------------------- closing the sizes

/** Why a graph cannot have the sizes that were asked for. */
export type BindProblem =
  /** No value was given for this name. */
  | { readonly kind: "open"; readonly name: string }
  /** The value is no positive whole number, or no multiple of `multipleOf` as the source's facts demand. */
  | { readonly kind: "value"; readonly name: string; readonly value: number; readonly multipleOf: number }
  /** With these values the shapes of a node do not fit. */
  | { readonly kind: "shape"; readonly node: GraphNode; readonly problem: ShapeProblem };

/**
 * The graph with every size a number. `graph.nodes[i]` becomes `nodes[i]` of the result. Values for names that the graph
 * does not have are ignored.
 */
export function bindSizes(graph: Graph, env: ReadonlyMap<string, number>): Graph | readonly BindProblem[] {
  const problems = valueProblems(graph, env);
  if (problems.length > 0) return problems;
  const nodes: GraphNode[] = [];
  const now = (node: GraphNode): GraphNode => {
    const bound = nodes[node.id];
    if (bound === undefined) throw new Error(`internal: node ${node.id} is used before it is made`);
    return bound;
  };
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(now);
    const bound = bindNode(node, inputs, env);
    const type = isLeaf(bound) ? bound : shapeOf(bound.op, inputs, bound.attrs);
    if (isProblem(type)) return [{ kind: "shape", node, problem: type }];
    nodes.push({ ...bound, shape: type.shape });
  }
  return graphOf(graph.name, nodes, graph.outputs, now);
}

/** All sizes in a node: its shape, and those among its attributes. */
function sizesOf(node: GraphNode): readonly Size[] {
  if (node.op === "reshape" || node.op === "broadcast") return [...node.shape, ...node.attrs.shape];
  if (node.op === "slice") return [...node.shape, node.attrs.start, node.attrs.size];
  return node.shape;
}

function valueProblems(graph: Graph, env: ReadonlyMap<string, number>): readonly BindProblem[] {
  const wanted = new Map<string, number>();
  for (const size of graph.nodes.flatMap(sizesOf)) {
    // Facts of one name are one atom everywhere, so the greatest is the only one besides 1.
    for (const [name, by] of factsOf(size)) wanted.set(name, Math.max(by, wanted.get(name) ?? 1));
  }
  return [...wanted].flatMap(([name, multipleOf]): BindProblem[] => {
    const value = env.get(name);
    if (value === undefined) return [{ kind: "open", name }];
    return Number.isInteger(value) && value > 0 && value % multipleOf === 0
      ? []
      : [{ kind: "value", name, value, multipleOf }];
  });
}

function bindNode(node: GraphNode, inputs: readonly GraphNode[], env: ReadonlyMap<string, number>): GraphNode {
  const bind = (size: Size): Size => {
    const bound = substitute(size, env);
    if (!isKnown(bound)) throw new Error("internal: a size stayed open after all names were bound");
    return bound;
  };
  const shape = node.shape.map(bind);
  if (node.op === "reshape" || node.op === "broadcast") {
    return { ...node, inputs, shape, attrs: { shape: node.attrs.shape.map(bind) } };
  }
  if (node.op === "slice") {
    const { axis, start, size } = node.attrs;
    return { ...node, inputs, shape, attrs: { axis, start: bind(start), size: bind(size) } };
  }
  return { ...node, inputs, shape };
}

/** Nodes whose type is given, not computed. */
export function isLeaf(node: GraphNode): node is NodeOf<"input"> | NodeOf<"param"> | NodeOf<"constant"> {
  return node.op === "input" || node.op === "param" || node.op === "constant";
}
