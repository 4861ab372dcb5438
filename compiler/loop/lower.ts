/**
 * From the graph to loops.
 *
 * In: an L1 graph whose sizes are all numbers. Out: the load program, which runs once when the weights arrive, and the
 * run program. Every node is lowered by its row of the operator table; a kernel that reads nothing but parameters and
 * constants goes to the load program by itself. Then over-long parameters are split, the right operands of contractions
 * packed for the target, and kernels fused.
 */
import type { Graph, GraphNode, OpName } from "../graph/graph.ts";
import { OPS } from "../graph/ops.ts";
import { bufferAt } from "./access.ts";
import { axis, equal } from "./affine.ts";
import { kernelBuilder, memoryOrder, mergeAxes, type Value, type View, viewOf } from "./build.ts";
import { axisNames, type Context, entry, knownShape } from "./context.ts";
import { type Draft, finish } from "./draft.ts";
import { type Decision, followReductions, fuse, type ProgramDecision } from "./fuse.ts";
import { halveFactors } from "./halve.ts";
import { joinReductions } from "./join.ts";
import { joinAttention } from "./join-attend.ts";
import { CHANNELS_LAST, FILTERS_LAST, rowMajor } from "./layout.ts";
import type { Buffer, Kernel, Layout, Loops } from "./loops.ts";
import { packWeights } from "./pack.ts";
import { sumInParts } from "./partial.ts";
import { splitRows } from "./split.ts";
import { planUpdates, type Update, updateKernel, updatesOf } from "./update.ts";

export interface LowerOptions {
  /** Columns of a panel of packed weights: 8 for WASM, more than any N for a plain K×N matrix, 0 to pack nothing. */
  readonly panelWidth: number;
  /** Largest buffer the target binds, in bytes; longer parameters are split by rows. */
  readonly maxBufferBytes: number;
  /** Rows from which fixed weights that lie along K are packed; 1 if absent. */
  readonly packFrom?: number;
  readonly fuse: boolean;
  /**
   * Outputs called `update.<path>` replace that parameter when everything else has run, instead of being handed to the
   * caller: its buffer is `state`.
   */
  readonly inPlace?: boolean;
  /** Nodes whose results are stored as halves where they are stored at all (graph/precision.ts). */
  readonly halves?: ReadonlySet<GraphNode>;
  /**
   * Inputs of many channels, which the caller writes plane by plane, are copied channels-last for convolutions: a CPU
   * reads runs of memory.
   */
  readonly copyPlanes?: boolean;
  /** What many rows are multiplied with is packed once for all of them, though it is no weight. */
  readonly packActivations?: boolean;
  /** The same of panels of halves; see pack.ts. */
  readonly halfPanels?: boolean;
  /** Long sums with few results in parts, for threads to share. */
  readonly sumInParts?: boolean;
  /** Buffers a kernel may bind; 8 if absent, which every WebGPU device allows. */
  readonly maxBindings?: number;
}

/** The loops of a graph. Throws on an internal inconsistency only: a checked graph with known sizes always lowers. */
export function lowerGraph(graph: Graph, options: LowerOptions): Loops {
  return lowerAndExplain(graph, options).loops;
}

/** `lowerGraph`, with what was fused and why the rest was not. */
export function lowerAndExplain(
  graph: Graph,
  options: LowerOptions,
): { readonly loops: Loops; readonly decisions: readonly ProgramDecision[] } {
  const { maxBufferBytes, panelWidth, maxBindings = 8, halves = new Set() } = options;
  const updates = options.inPlace === true ? updatesOf(graph) : [];
  const { draft: plain, results } = draftOf(graph, updates, options.copyPlanes === true);
  const run = options.fuse ? fuseRun(plain, maxBindings) : nothingFused(plain.run);
  const stored = inHalves(
    plain.buffers,
    [...halves].flatMap((node) => results.get(node) ?? []),
  );
  const split = splitRows({ ...plain, buffers: stored, run: run.kernels }, maxBufferBytes);
  const halved = halves.size > 0 ? halveFactors(split) : split;
  const packed = panelWidth > 0 ? packWeights(halved, panelWidth, options) : halved;
  const parted = options.sumInParts === true ? sumInParts(packed) : packed;
  const keep = new Set(packed.run.flatMap((kernel) => kernel.loads.map((load) => load.buffer)));
  const load = options.fuse ? fuse(packed.load, packed.buffers, { maxBindings, keep }) : nothingFused(packed.load);
  const merged = (kernels: readonly Kernel[]): readonly Kernel[] =>
    options.fuse ? kernels.map((kernel) => mergeAxes(kernel, parted.buffers)) : kernels;
  return {
    loops: finish({ ...parted, load: merged(load.kernels), run: merged(parted.run) }),
    decisions: [
      ...run.decisions.map((one) => ({ ...one, part: "run" as const })),
      ...load.decisions.map((one) => ({ ...one, part: "load" as const })),
    ],
  };
}

/** Once reductions are joined, what works on their results may follow them. */
function fuseRun(plain: Draft, maxBindings: number): ReturnType<typeof fuse> {
  const options = { maxBindings, keep: new Set<number>() };
  const fused = fuse(plain.run, plain.buffers, options);
  const joined = joinReductions(fused.kernels, plain.buffers, maxBindings);
  const followed = followReductions(joined.kernels, plain.buffers, options);
  const attention = joinAttention(followed.kernels, maxBindings);
  const steps = [fused, joined, followed, attention];
  return { kernels: attention.kernels, decisions: steps.flatMap(({ decisions }) => decisions) };
}

/**
 * The buffers with those of `ids` that live within one run in half precision. This comes behind fusion: what is not
 * stored is not rounded.
 */
function inHalves(buffers: readonly Buffer[], ids: readonly number[]): readonly Buffer[] {
  const half = new Set(ids);
  return buffers.map((buffer) =>
    half.has(buffer.id) && buffer.role === "activation" ? { ...buffer, dtype: "f16" } : buffer,
  );
}

function nothingFused(kernels: readonly Kernel[]): { kernels: readonly Kernel[]; decisions: readonly Decision[] } {
  return { kernels, decisions: [] };
}

// ---------------------------------------------------------------------------------------------------------------- nodes

/** Channels from which on copying an input is worth its trip through memory. */
const LEAST_CHANNELS = 8;

/** The kernels of all nodes, none fused; and for nodes that have a buffer of their own, which. */
function draftOf(
  graph: Graph,
  updates: readonly Update[],
  copyPlanes: boolean,
): { readonly draft: Draft; readonly results: ReadonlyMap<GraphNode, number> } {
  const buffers: Buffer[] = [];
  const load: Kernel[] = [];
  const run: Kernel[] = [];
  const values = new Map<GraphNode, Value>();
  const learned = new Map(updates.map((update) => [update.path, update]));
  const plan = planUpdates(graph, updates);

  const addBuffer = (buffer: Omit<Buffer, "id">): Buffer => {
    const added = { id: buffers.length, ...buffer };
    buffers.push(added);
    return added;
  };
  const constantBuffer = (id: number): boolean => {
    const { role } = bufferAt(buffers, id);
    return role === "param" || role === "constant";
  };
  const images = new Map<GraphNode, Value>();
  const context: Context = {
    buffers,
    image: (node) => {
      const value = images.get(node) ?? (copyPlanes ? channelsLast(node, context) : context.value(node));
      images.set(node, value);
      return value;
    },
    value: (node) => {
      const value = values.get(node);
      if (value === undefined) throw new Error(`internal: node ${node.id} (${node.op}) has not been lowered`);
      return value;
    },
    allocate: ({ name, shape, dtype, from, like }) => {
      const fixed = from.every((value) => value.kind === "literal" || constantBuffer(value.buffer));
      const layout = fixed || like === undefined ? rowMajor(shape.length) : layoutLike(shape, like, buffers);
      return addBuffer({ name, shape, dtype, layout, role: fixed ? "constant" : "activation" });
    },
    input: (name, type) => {
      const shape = knownShape(type);
      return addBuffer({ name, shape, dtype: type.dtype, layout: rowMajor(shape.length), role: "input" });
    },
    param: (node) => {
      const { path, init } = node.attrs;
      const shape = knownShape(node);
      if (learned.has(path)) {
        // As its gradient comes about: the update then walks through memory once.
        const layout = shape.length === 4 ? FILTERS_LAST : rowMajor(shape.length);
        return addBuffer({ name: path, shape, dtype: node.dtype, layout, role: "state", param: { path, shape, init } });
      }
      const layout = rowMajor(shape.length);
      return addBuffer({ name: path, shape, dtype: node.dtype, layout, role: "param", param: { path, shape, init } });
    },
    emit: (kernel) => {
      const fixed = kernel.stores.every((store) => constantBuffer(store.buffer));
      (fixed ? load : run).push(kernel);
    },
  };
  const results = new Map<GraphNode, number>();
  for (const node of graph.nodes) {
    if (plan.inside.has(node)) continue;
    const before = buffers.length;
    const value = lowerNode(node, context);
    values.set(node, value);
    if (value.kind === "view" && value.buffer >= before) results.set(node, value.buffer);
  }

  const replaced = new Set(updates.map(({ output }) => output));
  const outputs = graph.outputs.flatMap(({ name, node }) =>
    replaced.has(name) ? [] : [{ name, buffer: outputBuffer(name, node, context, buffers, run) }],
  );
  for (const group of plan.groups) run.push(updateKernel(group, plan, context));
  const inputs = graph.inputs.map((node) => {
    const value = context.value(node);
    if (value.kind !== "view") throw new Error(`internal: input ${node.attrs.name} is no buffer`);
    return { name: node.attrs.name, buffer: value.buffer };
  });
  return { draft: { name: graph.name, buffers, load, run, inputs, outputs }, results };
}

/** The value, copied if it is an input whose channels lie far apart. */
function channelsLast(node: GraphNode, context: Context): Value {
  const value = context.value(node);
  const shape = knownShape(node);
  if (value.kind !== "view" || shape.length !== 4 || entry(shape, 1) < LEAST_CHANNELS) return value;
  const { role, name, dtype } = bufferAt(context.buffers, value.buffer);
  if (role !== "input") return value;
  const copy = context.allocate({ name: `${name}.channels_last`, shape, dtype, from: [value], like: "channels-last" });
  const builder = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(4), d), size));
  builder.store(copy, index, builder.load(value, index));
  context.emit(builder.finish({ name: copy.name, layers: [] }));
  return viewOf(copy);
}

/** The compiler cannot see that the row chosen by `node.op` takes `node`; the table's type is what ensures it. */
function lowerNode<K extends OpName>(node: GraphNode & { readonly op: K }, context: Context): Value {
  const lowering: (node: never, context: Context) => Value = OPS[node.op].lower;
  return lowering(node as never, context);
}

function layoutLike(
  shape: readonly number[],
  like: "channels-last" | "filters-last" | View,
  buffers: readonly Buffer[],
): Layout {
  if (like === "filters-last") return FILTERS_LAST;
  const fallback = shape.length === 4 ? CHANNELS_LAST : rowMajor(shape.length);
  if (like === "channels-last") return fallback;
  // What the caller wrote row-major says nothing about what is best here.
  if (bufferAt(buffers, like.buffer).role !== "activation") return fallback;
  const order = memoryOrder(like, buffers);
  return order === undefined ? fallback : { kind: "rows", order };
}

/** The buffer in which the caller finds an output: the one that holds the value if it is row-major, else a copy. */
function outputBuffer(name: string, node: GraphNode, context: Context, buffers: Buffer[], run: Kernel[]): number {
  const value = context.value(node);
  const shape = knownShape(node);
  const layout = rowMajor(shape.length);
  if (value.kind === "view") {
    const held = bufferAt(buffers, value.buffer);
    if (held.role === "activation" && isWhole(value, held) && isDense(held)) {
      buffers[held.id] = { ...held, role: "output", layout };
      return held.id;
    }
  }
  const builder = kernelBuilder(buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
  const copy: Buffer = { id: buffers.length, name, shape, dtype: node.dtype, layout, role: "output" };
  buffers.push(copy);
  builder.store(copy, index, builder.load(value, index));
  run.push(builder.finish({ name: `output.${name}`, layers: [] }));
  return copy.id;
}

/** Whether the view is the buffer itself. */
function isWhole(view: View, buffer: Buffer): boolean {
  return view.shape.length === buffer.shape.length && view.index.every((part, d) => equal(part, axis(d)));
}

/** Whether the buffer's elements lie row-major, whatever its layout is called. */
function isDense({ shape, layout }: Buffer): boolean {
  if (layout.kind !== "rows") return false;
  const long = layout.order.filter((d) => (shape[d] ?? 1) > 1);
  return long.every((d, i) => i === 0 || d > (long[i - 1] ?? 0));
}
