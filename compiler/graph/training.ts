/**
 * The training form of a graph: what differs from inference while parameters are learned.
 *
 * - Batch norm uses the mean and the biased variance of the batch, which become its inputs, and moves its running
 *   statistics: `running + momentum · (batch - running)` with the unbiased variance, as in PyTorch. The new
 *   statistics are further outputs of the graph, `update.<path of the parameter>`.
 * - Dropout with p = 0 is the identity. Any other gets its counters from a further input of the graph,
 *   `step.counters`: f32[3] with the step (below 2^24) and the low and the high 16 bits of the seed, whole numbers. Where
 *   several dropouts have one path they are numbered, so that each draws a mask of its own.
 * - Detach stays, for the gradient must see it. Nothing folds into weights, for they change.
 */
import { type Algebra, algebraOf, allButChannels, binary, countAlong, inputOf, mean, reshape } from "./algebra.ts";
import { GraphBuilder } from "./builder.ts";
import type { Graph, GraphNode, NodeOf } from "./graph.ts";
import {
  moves,
  neutralOperand,
  spellOutBatchNorm as spellOutFrozenNorm,
  spellOutLayerNorm,
  withoutTraining,
} from "./inference.ts";
import { type Rule, rewrite, type Site } from "./rewrite.ts";

/** The input from which dropout draws; only graphs with a dropout have it. */
export const COUNTERS = "step.counters";

export interface TrainingOptions {
  /** Paths of batch norms (without `.weight`) that keep their running statistics and normalise by them: partial BN. */
  readonly frozenNorms?: ReadonlySet<string>;
}

/**
 * `graph`, whose sizes are numbers, as it is trained: with `update.…` outputs for running statistics, and the input
 * `COUNTERS` if anything is dropped.
 */
export function trainingForm(graph: Graph, { frozenNorms = new Set() }: TrainingOptions = {}): Graph {
  const isFrozen = (norm: NodeOf<"batch_norm">): boolean => {
    const running = inputOf(norm, 3);
    return running.op === "param" && frozenNorms.has(running.attrs.path.replace(/\.[^.]*$/, ""));
  };
  return rewrite(withCounters(withStatistics(graph, isFrozen)), trainingRules(isFrozen));
}

/**
 * `graph`, whose sizes are numbers, as what finds the statistics of its batch norms for parameters that are learned: nothing
 * is dropped, and the `update.…` outputs are those of this batch alone.
 */
export function statisticsForm(graph: Graph): Graph {
  return trainingForm(rewrite(graph, [withoutTraining, ofThisBatch]));
}

const ofThisBatch: Rule = {
  name: "of-this-batch",
  doc: "running statistics forget what came before",
  ops: ["batch_norm"],
  apply: (node, site) =>
    node.op === "batch_norm" && node.attrs.momentum !== 1
      ? site.add("batch_norm", node.inputs, { ...node.attrs, momentum: 1 })
      : undefined,
};

const withoutEmptyDropout: Rule = {
  name: "without-empty-dropout",
  doc: "dropout with p = 0 is the identity",
  ops: ["dropout"],
  apply: (node) => (node.op === "dropout" && node.attrs.p === 0 ? node.inputs[0] : undefined),
};

type IsFrozen = (norm: NodeOf<"batch_norm">) => boolean;

/** Frozen norms stay for the rule behind this one. */
const normaliseByBatch = (isFrozen: IsFrozen): Rule => ({
  name: "normalise-by-batch",
  doc: "batch norm takes the batch's own mean and biased variance",
  ops: ["batch_norm"],
  apply: (node, site) => {
    if (node.op !== "batch_norm" || node.attrs.ofBatch === true || isFrozen(node)) return undefined;
    const a = algebraAt(site);
    const [x, weight, bias] = [inputOf(node, 0), inputOf(node, 1), inputOf(node, 2)];
    const { average, variance } = moments(a, x);
    const statistics = [average, variance].map((value) => reshape(a, value, weight.shape));
    return site.add("batch_norm", [x, weight, bias, ...statistics], { ...node.attrs, ofBatch: true });
  },
});

/** The counterpart of `inferenceRules`. */
const trainingRules = (isFrozen: IsFrozen): readonly Rule[] => [
  withoutEmptyDropout,
  neutralOperand,
  moves,
  normaliseByBatch(isFrozen),
  spellOutFrozenNorm,
  spellOutLayerNorm,
];

/** The graph with counters for its dropouts. */
function withCounters(graph: Graph): Graph {
  const builder = new GraphBuilder();
  const copies = new Map<GraphNode, GraphNode>();
  const uses = new Map<string, number>();
  const copyOf = (node: GraphNode): GraphNode => {
    const copy = copies.get(node);
    if (copy === undefined) throw new Error(`internal: node ${node.id} (${node.op}) is used before it is made`);
    return copy;
  };
  for (const node of graph.nodes) {
    const copy = builder.copy(node, node.inputs.map(copyOf));
    copies.set(node, copy.op === "dropout" && copy.attrs.p > 0 ? withOwnDraws(builder, copy, uses) : copy);
  }
  return builder.finish(
    graph.name,
    graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) })),
  ).graph;
}

/** @param uses how often each path was met before */
function withOwnDraws(builder: GraphBuilder, node: NodeOf<"dropout">, uses: Map<string, number>): GraphNode {
  const { p, path } = node.attrs;
  const use = uses.get(path) ?? 0;
  uses.set(path, use + 1);
  const counters = builder.leaf("input", { name: COUNTERS }, { shape: [3], dtype: "f32" }, { layer: "", origins: [] });
  return algebraOf(builder, node).op("dropout", [inputOf(node, 0), counters], { p, path, use });
}

/** Mean and biased variance of each channel, [1,C,1,…], and what is left of x without its mean. */
function moments(
  a: Algebra,
  x: GraphNode,
): { readonly average: GraphNode; readonly centred: GraphNode; readonly variance: GraphNode } {
  const others = allButChannels(x);
  const average = mean(a, x, others, true);
  const centred = binary(a, "sub", x, average);
  return { average, centred, variance: mean(a, binary(a, "mul", centred, centred), others, true) };
}

/** The graph with the next running statistics of its batch norms as outputs. */
function withStatistics(graph: Graph, isFrozen: IsFrozen): Graph {
  const builder = new GraphBuilder();
  const updates = new Map<string, GraphNode>();
  const copyOf = builder.copyAll(graph);
  for (const node of graph.nodes) {
    const copy = copyOf(node);
    if (copy.op !== "batch_norm" || isFrozen(copy)) continue;
    const next = nextStatistics(algebraOf(builder, copy), copy, updates);
    for (const [path, value] of next) updates.set(path, value);
  }
  return builder.finish(graph.name, [
    ...graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) })),
    ...[...updates].map(([path, node]) => ({ name: `update.${path}`, node })),
  ]).graph;
}

/** The statistics after this batch, by path. A norm that is used several times moves on from its last use. */
function nextStatistics(
  a: Algebra,
  norm: NodeOf<"batch_norm">,
  before: ReadonlyMap<string, GraphNode>,
): readonly (readonly [string, GraphNode])[] {
  const x = inputOf(norm, 0);
  const { average, variance } = moments(a, x);
  const count = countAlong(x, allButChannels(x));
  // One value has no unbiased variance; its biased one, 0, is taken.
  const unbiased = binary(a, "mul", variance, count / Math.max(1, count - 1));
  const { momentum } = norm.attrs;
  return [average, unbiased].flatMap((batch, at) => {
    const running = inputOf(norm, 3 + at);
    if (running.op !== "param") return [];
    const kept = binary(a, "mul", before.get(running.attrs.path) ?? running, 1 - momentum);
    const added = binary(a, "mul", reshape(a, batch, running.shape), momentum);
    return [[running.attrs.path, binary(a, "add", kept, added)] as const];
  });
}

function algebraAt(site: Site): Algebra {
  return { op: (op, inputs, attrs) => site.add(op, inputs, attrs), number: (value) => site.constant(value) };
}
