/**
 * What backward reads: values as they were computed, or computed again.
 *
 * In: a graph whose nodes know their checkpointed regions, and the builder that holds its copy. Out: for each node the
 * node that a gradient rule is given. A region's inputs and outputs are kept; what lies between is made a second time,
 * from the inputs, when the first rule of the region asks for it, so that nothing inside needs to outlive the forward
 * pass (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 3). A region inside a region is made
 * again twice: once for what comes behind it, once for itself.
 *
 * The second computation reads the region's inputs through `recompute`, without which hash-consing would merge both.
 * Masks of dropout come out the same, for they are functions of counters. Running statistics move once: they are
 * outputs of the forward pass, which no rule asks for.
 */
import type { Algebra } from "./algebra.ts";
import type { GraphBuilder } from "./builder.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { commonRegion, isWithin, type Region } from "./region.ts";

export interface Recomputation {
  /** The node on the inputs that its rule reads. A value that is kept is not this node: see `algebra`. */
  readonly again: (node: GraphNode) => GraphNode;
  /** `a` for the rule of `node`: where the rule reads the node's own value it gets the kept one. */
  readonly algebra: (node: GraphNode, a: Algebra) => Algebra;
}

/** @param copyOf what each node of `graph` is in `builder` */
export function recomputing(
  graph: Graph,
  builder: GraphBuilder,
  copyOf: (node: GraphNode) => GraphNode,
): Recomputation {
  const home = homes(graph);
  /** By region: nodes of the graph as they are when gradients pass through that region. */
  const made = new Map<Region, Map<GraphNode, GraphNode>>();

  const valueIn = (region: Region | undefined, node: GraphNode): GraphNode => {
    if (region === undefined) return copyOf(node);
    const known = made.get(region) ?? new Map<GraphNode, GraphNode>();
    made.set(region, known);
    for (const missing of missingFor(node, region, known)) known.set(missing, make(region, missing, known));
    return lookUp(known, node);
  };
  /** Everything `node` needs that the region has not made yet, inputs first. */
  const missingFor = (node: GraphNode, region: Region, known: ReadonlyMap<GraphNode, GraphNode>): GraphNode[] => {
    const found = new Set<GraphNode>();
    const pending = [node];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      if (known.has(next) || found.has(next)) continue;
      found.add(next);
      if (isWithin(home.get(next), region)) pending.push(...next.inputs);
    }
    return [...found].sort((a, b) => a.id - b.id);
  };
  const make = (region: Region, node: GraphNode, known: ReadonlyMap<GraphNode, GraphNode>): GraphNode => {
    if (isWithin(home.get(node), region)) {
      return builder.copy(
        node,
        node.inputs.map((input) => lookUp(known, input)),
      );
    }
    const outside = valueIn(region.parent, node);
    // Parameters and numbers are there all the time.
    if (node.op === "param" || node.op === "constant") return outside;
    const from = builder.add(
      "recompute",
      [outside],
      { region: region.id },
      { layer: node.layer, origins: node.origins },
    );
    if (!("op" in from)) throw new Error(`internal: ${node.op} cannot be computed again`);
    return from;
  };
  const again = (node: GraphNode): GraphNode =>
    node.region === undefined
      ? copyOf(node)
      : builder.copy(
          node,
          node.inputs.map((input) => valueIn(node.region, input)),
        );
  return {
    again,
    algebra: (node, a) => {
      if (home.get(node) === node.region) return a;
      const structure = again(node);
      const value = valueIn(node.region, node);
      const kept = (input: GraphNode): GraphNode => (input === structure ? value : input);
      return { ...a, op: (op, inputs, attrs) => a.op(op, inputs.map(kept), attrs) };
    },
  };
}

/**
 * The region that has to be entered again for a node's value: the innermost one around the node and all of its readers.
 * Undefined for what is kept.
 */
function homes(graph: Graph): ReadonlyMap<GraphNode, Region | undefined> {
  const home = new Map<GraphNode, Region | undefined>(graph.nodes.map((node) => [node, node.region]));
  for (const node of graph.nodes)
    for (const input of node.inputs) home.set(input, commonRegion(home.get(input), node.region));
  for (const { node } of graph.outputs) home.set(node, undefined);
  return home;
}

function lookUp(made: ReadonlyMap<GraphNode, GraphNode>, node: GraphNode): GraphNode {
  const found = made.get(node);
  if (found === undefined) throw new Error(`internal: node ${node.id} (${node.op}) was not computed again`);
  return found;
}
