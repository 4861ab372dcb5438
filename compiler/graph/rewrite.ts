/**
 * Rewriting graphs by rules.
 *
 * A rule looks at one node and either leaves it alone or gives the node that stands for the same value from then on.
 * `rewrite` applies a list of rules from the inputs to the outputs, again and again until none has anything to say. A rule
 * has its turn only when the rules before it in the list have nothing left to say, so their order is a precedence, and a
 * rule sees a graph in which nothing is left over that an earlier one would remove. Because nodes are hash-consed,
 * whatever becomes equal becomes one node, and what nobody uses any more is dropped.
 *
 * The rules for inference are in `inference.ts`.
 */
import { GraphBuilder, type Where } from "./builder.ts";
import type { Graph, GraphNode, OpAttrs, OpName } from "./graph.ts";
import type { LeafName } from "./ops.ts";
import { isProblem } from "./shapes.ts";

export interface Rule {
  readonly name: string;
  readonly doc: string;
  /** The operators that `apply` is asked about. */
  readonly ops: readonly OpName[];
  /** The replacement, of the same shape and type; undefined where the rule has nothing to say. */
  readonly apply: (node: GraphNode, site: Site) => GraphNode | undefined;
}

/** What a rule may do at a node: make new nodes, which belong where the node belongs unless another place is given. */
export interface Site {
  readonly add: <K extends Exclude<OpName, LeafName>>(
    op: K,
    inputs: readonly GraphNode[],
    attrs: OpAttrs[K],
    where?: Where,
  ) => GraphNode;
  /** A number of the element type of the node. */
  readonly constant: (value: number) => GraphNode;
  /** How often a node is read, by nodes and as an output. A node made in this pass counts as read once. */
  readonly uses: (node: GraphNode) => number;
}

/** More passes than any sensible set of rules needs; reaching it means that two rules undo each other. */
const MOST_PASSES = 1000;

/** `graph` with `rules` applied to a fixpoint. Inputs, outputs and the paths of parameters stay as they are. */
export function rewrite(graph: Graph, rules: readonly Rule[]): Graph {
  let current = graph;
  for (let pass = 0; pass < MOST_PASSES; pass++) {
    const next = firstPass(current, rules);
    if (next === undefined) return current;
    current = next;
  }
  throw new Error(`internal: rewriting ${graph.name} does not end`);
}

/** The graph after the first rule that changes anything; undefined if none does. */
function firstPass(graph: Graph, rules: readonly Rule[]): Graph | undefined {
  const present = new Set(graph.nodes.map((node) => node.op));
  for (const rule of rules) {
    const next = rule.ops.some((op) => present.has(op)) ? onePass(graph, rule) : undefined;
    if (next !== undefined) return next;
  }
  return undefined;
}

/** `rule` once at every node, inputs first; undefined if it applied nowhere. */
function onePass(graph: Graph, rule: Rule): Graph | undefined {
  const before = useCounts(graph);
  const builder = new GraphBuilder();
  const now = new Map<GraphNode, GraphNode>();
  const uses = new Map<GraphNode, number>();
  let changed = false;
  for (const old of graph.nodes) {
    const inputs = old.inputs.map((input) => replacement(now, input));
    const copy = builder.copy(old, inputs);
    const replaced = rule.ops.includes(copy.op) ? rule.apply(copy, siteOf(builder, copy, uses)) : undefined;
    const node = replaced ?? copy;
    if (node !== copy) changed = true;
    now.set(old, node);
    uses.set(node, (uses.get(node) ?? 0) + (before.get(old) ?? 0));
  }
  if (!changed) return undefined;
  const outputs = graph.outputs.map((o) => ({ name: o.name, node: replacement(now, o.node) }));
  return builder.finish(graph.name, outputs).graph;
}

function siteOf(builder: GraphBuilder, node: GraphNode, uses: ReadonlyMap<GraphNode, number>): Site {
  return {
    add: (op, inputs, attrs, where = node) => {
      const made = builder.add(op, inputs, attrs, where);
      if (isProblem(made))
        throw new Error(`internal: a rewrite of ${node.op} made a misfit: ${made.message}, ${made.label}`);
      return made;
    },
    constant: (value) => builder.leaf("constant", { value }, { shape: [], dtype: node.dtype }, node),
    uses: (n) => uses.get(n) ?? 1,
  };
}

function replacement(now: ReadonlyMap<GraphNode, GraphNode>, old: GraphNode): GraphNode {
  const node = now.get(old);
  if (node === undefined) throw new Error(`internal: node ${old.id} (${old.op}) is used before it is made`);
  return node;
}

/** How often each node of a graph is read, by nodes and as an output. */
export function useCounts(graph: Graph): ReadonlyMap<GraphNode, number> {
  const counts = new Map<GraphNode, number>();
  const read = [...graph.nodes.flatMap((n) => n.inputs), ...graph.outputs.map((o) => o.node)];
  for (const node of read) counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}
