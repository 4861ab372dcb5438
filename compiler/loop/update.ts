/**
 * Updates: what a training step leaves to the next.
 *
 * In: a graph with outputs called `update.<path>`, the next values of parameters and of other state. Out: one MAP kernel
 * for all state that belongs together (a parameter, its momentum, its moving average), which reads the old values and
 * replaces them in place. The arithmetic between gradient and new values is elementwise; it is gathered here, instead of
 * being lowered node by node, because results that are both stored and used again would keep it from being fused.
 */
import type { Graph, GraphNode } from "../graph/graph.ts";
import { binary, type Scalar, select, unary } from "../scalar.ts";
import { bufferAt } from "./access.ts";
import { kernelBuilder } from "./build.ts";
import { axisNames, broadcastIndex, type Context, entry, knownShape, operand } from "./context.ts";
import type { Kernel } from "./loops.ts";

/** The prefix of outputs that are the next values of a parameter. */
const PREFIX = "update.";

/** The next value of the parameter at `path`. */
export interface Update {
  readonly path: string;
  /** The name of the graph's output. */
  readonly output: string;
  readonly param: GraphNode;
  readonly next: GraphNode;
}

export interface UpdatePlan {
  /** Nodes that are computed inside of update kernels only. */
  readonly inside: ReadonlySet<GraphNode>;
  /** Updates that share nodes, and so a kernel. */
  readonly groups: readonly (readonly Update[])[];
}

/** The outputs of `graph` that replace parameters. */
export function updatesOf(graph: Graph): readonly Update[] {
  const params = new Map(
    graph.nodes.flatMap((node) => (node.op === "param" ? [[node.attrs.path, node] as const] : [])),
  );
  return graph.outputs.flatMap(({ name, node }) => {
    const path = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : undefined;
    const param = path === undefined ? undefined : params.get(path);
    return path === undefined || param === undefined ? [] : [{ path, output: name, param, next: node }];
  });
}

/** What is computed within update kernels, and which updates share one. */
export function planUpdates(graph: Graph, updates: readonly Update[]): UpdatePlan {
  const wanted = new Set(updates.map(({ output }) => output));
  const elsewhere = new Set(graph.outputs.filter(({ name }) => !wanted.has(name)).map(({ node }) => node));
  const next = new Set(updates.map((update) => update.next));
  const users = new Map<GraphNode, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const input of new Set(node.inputs)) users.set(input, [...(users.get(input) ?? []), node]);
  }
  const inside = new Set<GraphNode>();
  for (const node of graph.nodes.toReversed()) {
    if (node.op !== "unary" && node.op !== "binary" && node.op !== "select") continue;
    const readers = users.get(node) ?? [];
    if (elsewhere.has(node) || (readers.length === 0 && !next.has(node))) continue;
    if (readers.every((reader) => inside.has(reader) && sameShape(reader, node))) inside.add(node);
  }
  return { inside, groups: groupsOf(updates, inside) };
}

function sameShape(a: GraphNode, b: GraphNode): boolean {
  return a.shape.length === b.shape.length && a.shape.every((size, d) => size === b.shape[d]);
}

/** Updates joined where their arithmetic meets. */
function groupsOf(updates: readonly Update[], inside: ReadonlySet<GraphNode>): readonly (readonly Update[])[] {
  const groups: { readonly updates: Update[]; readonly nodes: Set<GraphNode> }[] = [];
  for (const update of updates) {
    const nodes = reached(update.next, inside);
    const [first, ...others] = groups.filter((group) => [...nodes].some((node) => group.nodes.has(node)));
    if (first === undefined) {
      groups.push({ updates: [update], nodes });
      continue;
    }
    first.updates.push(update, ...others.flatMap((group) => group.updates));
    for (const node of [...nodes, ...others.flatMap((group) => [...group.nodes])]) first.nodes.add(node);
    for (const group of others) groups.splice(groups.indexOf(group), 1);
  }
  return groups.map((group) => group.updates);
}

function reached(from: GraphNode, inside: ReadonlySet<GraphNode>): Set<GraphNode> {
  const found = new Set<GraphNode>();
  const pending = [from];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (!inside.has(node) || found.has(node)) continue;
    found.add(node);
    pending.push(...node.inputs);
  }
  return found;
}

/** The kernel that replaces the state of a group. */
export function updateKernel(group: readonly Update[], { inside }: UpdatePlan, context: Context): Kernel {
  const [first] = group;
  if (first === undefined) throw new Error("internal: an update of nothing");
  const shape = knownShape(first.next);
  const builder = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
  const known = new Map<GraphNode, Scalar>();
  const scalarOf = (node: GraphNode): Scalar => {
    const made = known.get(node) ?? make(node);
    known.set(node, made);
    return made;
  };
  const make = (node: GraphNode): Scalar => {
    const at = (i: number): Scalar => scalarOf(operand(node, i));
    if (!inside.has(node)) return builder.load(context.value(node), broadcastIndex(knownShape(node), index));
    switch (node.op) {
      case "unary":
        return unary(node.attrs.fn, at(0));
      case "binary":
        return binary(node.attrs.fn, at(0), at(1));
      case "select":
        return select(node.attrs.compare, at(0), at(1), at(2), at(3));
      default:
        throw new Error(`internal: ${node.op} inside of an update`);
    }
  };
  for (const { path, param, next } of group) {
    const state = context.value(param);
    if (state.kind !== "view" || bufferAt(context.buffers, state.buffer).role !== "state")
      throw new Error(`internal: ${path} is no state`);
    builder.store(bufferAt(context.buffers, state.buffer), index, scalarOf(next));
  }
  const layers = [...new Set(group.flatMap(({ next }) => (next.layer === "" ? [] : [next.layer])))];
  return builder.finish({ name: `${first.path}.update`, layers });
}
