/**
 * The attention form of a model: its graph with further outputs that show where attention looks.
 *
 * In: a checked model whose sizes are numbers. Out: the same graph, and for each table of attention in a unit what can be
 * read of the table without taking the table off the device: how much attention each place receives, how spread each
 * row is, and the rows of a coarse grid of places. A table is found by its form, not by its unit: weights [N·heads, P, K]
 * that multiply values inside a unit, made by a softmax (Wang et al. 2018, section 3.2, the Gaussian pairs) or by a
 * division by K (the others). Which maps P and K count is read from the products behind the scores, so pooled keys and
 * maps of two sizes come out as what they are. Of a table that is too large to be there the same is computed without it.
 */
import type { Model } from "../model.ts";
import {
  type Algebra,
  algebraOf,
  binary,
  broadcast,
  inputOf,
  knownSizes,
  mean,
  reshape,
  sum,
  transpose,
  unary,
} from "./algebra.ts";
import { TABLE_BYTES } from "./attend.ts";
import { GraphBuilder } from "./builder.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { productUnder } from "./scores.ts";

/** One side of a table: a map that looks, or one that is looked at. */
export interface AttentionGrid {
  /** The stream whose map it is; the name of the input where there is one stream. Empty if it cannot be told. */
  readonly stream: string;
  /** Height and width, in places. */
  readonly size: readonly [number, number];
  /**
   * The part of the stream's map that the grid covers, from the top and from the left: 1, or less where pooling a map of
   * odd size has dropped its last row or column.
   */
  readonly extent: readonly [number, number];
}

/** A table of attention, and the outputs that show it. */
export interface AttentionMap {
  /** Of the edge: `stia_conv3.to_spatial`. */
  readonly name: string;
  /** Of the grafted unit: `stia_conv3`. */
  readonly unit: string;
  readonly queries: AttentionGrid;
  readonly keys: AttentionGrid;
  /** Tables of one example; what is shown is their mean. */
  readonly heads: number;
  /** Rows that sum to 1, or plain products, which may be negative. */
  readonly weights: "softmax" | "products";
  /** Path of the parameter that starts at zero and lets the update through; undefined if there is none. */
  readonly gate: string | undefined;
  /** The queries whose rows are read, as row-major numbers of places: a grid of `rows[0] × rows[1]`. */
  readonly places: readonly number[];
  readonly rows: readonly [number, number];
  /** Names of outputs. */
  readonly outputs: {
    /** [N, K]: mean of the rows, Σ_i A_ij / P. */
    readonly received: string;
    /** [N, P]: −Σ_j A_ij ln A_ij of each row, in nats; undefined for products. */
    readonly entropy: string | undefined;
    /** [N, places, K]. */
    readonly rows: string;
  };
}

export interface AttentionForm {
  /** The model's own outputs first, unchanged. */
  readonly graph: Graph;
  /** In order of computation; empty if the model attends nowhere. */
  readonly maps: readonly AttentionMap[];
}

/** A table before it is read. */
interface Table {
  readonly node: GraphNode;
  readonly unit: string;
  /** Where the values are gathered: `stia_conv3.to_spatial`. */
  readonly layer: string;
  readonly queries: AttentionGrid;
  readonly keys: AttentionGrid;
  readonly heads: number;
  readonly weights: AttentionMap["weights"];
  readonly gate: string | undefined;
}

type Attending = Pick<Model, "graph" | "streams" | "units" | "positions">;

/** A model and all its units: the grafted ones, and those that its source applies itself. */
interface Searched extends Attending {
  readonly names: readonly string[];
}

/** Units of the library that may stand in a pipeline without being grafted. */
const ATTENTION_BLOCKS: ReadonlySet<string> = new Set(["STIA", "NonLocal"]);

/**
 * The graph of `model`, whose sizes are numbers, with outputs for its attention.
 * @param options.side rows are read on a grid of at most this many places a side
 * @param options.tableBytes what is shown of a larger table is computed without it
 */
export function attentionForm(
  model: Attending,
  { side = 8, tableBytes = TABLE_BYTES }: { readonly side?: number; readonly tableBytes?: number } = {},
): AttentionForm {
  const tables = tablesOf(model);
  const names = namesOf(tables);
  const builder = new GraphBuilder();
  const copyOf = builder.copyAll(model.graph);
  const outputs = model.graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) }));
  const maps = tables.map((table, index): AttentionMap => {
    const { unit, queries, keys, heads, weights, gate } = table;
    const name = names[index] ?? unit;
    const node = copyOf(table.node);
    const a = algebraOf(builder, node);
    const output = (what: string, value: GraphNode): string => {
      outputs.push({ name: `attention.${name}.${what}`, node: value });
      return `attention.${name}.${what}`;
    };
    const scores = weights === "softmax" && bytesOf(node) > tableBytes ? scoresIn(table.node, a, copyOf) : undefined;
    const picked = { y: probes(queries.size[0], side), x: probes(queries.size[1], side) };
    return {
      name,
      unit,
      queries,
      keys,
      heads,
      weights,
      gate,
      rows: [picked.y.count, picked.x.count],
      places: placesOf(picked.y).flatMap((y) => placesOf(picked.x).map((x) => y * queries.size[1] + x)),
      outputs: {
        received: output(
          "received",
          overHeads(a, scores === undefined ? mean(a, node, [1], false) : received(a, scores), heads),
        ),
        entropy:
          weights === "softmax"
            ? output("entropy", overHeads(a, scores === undefined ? entropy(a, node) : spread(a, scores), heads))
            : undefined,
        rows: output(
          "rows",
          overHeads(
            a,
            scores === undefined ? pickRows(a, node, queries.size, picked) : rowsOf(a, scores, queries.size, picked),
            heads,
          ),
        ),
      },
    };
  });
  return { graph: builder.finish(model.graph.name, outputs).graph, maps };
}

// ------------------------------------------------------------------------------------------------------------- formulas

/** Which of `size` places are probed: `count` of them, `stride` apart, in the middle of their strides. */
interface Probes {
  readonly start: number;
  readonly stride: number;
  readonly count: number;
}

function probes(size: number, most: number): Probes {
  const stride = Math.ceil(size / most);
  const count = Math.floor(size / stride);
  return { start: Math.floor((size - count * stride) / 2), stride, count };
}

function placesOf({ start, stride, count }: Probes): readonly number[] {
  return Array.from({ length: count }, (_, i) => start + i * stride + Math.floor(stride / 2));
}

/** [N·heads, …] as the mean over heads, [N, …]. */
function overHeads(a: Algebra, x: GraphNode, heads: number): GraphNode {
  if (heads === 1) return x;
  const [tables = 1, ...rest] = knownSizes(x.shape);
  return mean(a, reshape(a, x, [tables / heads, heads, ...rest]), [1], false);
}

/** −Σ A ln A of each row. A weight of 0 adds nothing; its logarithm must not be taken. */
function entropy(a: Algebra, table: GraphNode): GraphNode {
  const smallest = 1e-30;
  const logarithm = unary(a, "log", binary(a, "max", table, smallest));
  return unary(a, "neg", sum(a, binary(a, "mul", table, logarithm), [2], false));
}

/** The rows of the probed queries, [N·heads, places, …]. */
function pickRows(
  a: Algebra,
  table: GraphNode,
  [height, width]: readonly [number, number],
  { y, x }: { readonly y: Probes; readonly x: Probes },
): GraphNode {
  const [tables = 1, , keys = 1] = knownSizes(table.shape);
  const every = (value: GraphNode, axis: number, { start, stride, count }: Probes): GraphNode => {
    const whole = a.op("slice", [value], { axis, start, size: count * stride });
    const before = whole.shape.slice(0, axis);
    const split = reshape(a, whole, [...before, count, stride, ...whole.shape.slice(axis + 1)]);
    const middle = a.op("slice", [split], { axis: axis + 1, start: Math.floor(stride / 2), size: 1 });
    return reshape(a, middle, [...before, count, ...whole.shape.slice(axis + 1)]);
  };
  const grid = reshape(a, table, [tables, height, width, keys]);
  const picked = every(every(grid, 1, y), 2, x);
  return reshape(a, picked, [tables, y.count * x.count, keys]);
}

// ------------------------------------------------------------------------------------------- the same without the table

/** What a table that is too large to be there was to be made of. */
interface Factors {
  readonly q: GraphNode;
  readonly k: GraphNode;
  readonly scale: number;
}

function bytesOf(node: GraphNode): number {
  return knownSizes(node.shape).reduce((product, size) => product * size, 4);
}

/** q and k of a table, as rows; undefined if its scores are no plain product. */
function scoresIn(table: GraphNode, a: Algebra, copyOf: (node: GraphNode) => GraphNode): Factors | undefined {
  const scores = table.op === "softmax" ? productUnder(table.inputs[0]) : undefined;
  if (scores === undefined) return undefined;
  const [first, second] = [copyOf(inputOf(scores.product, 0)), transpose(a, copyOf(inputOf(scores.product, 1)))];
  const { scale } = scores;
  return scores.turned ? { q: second, k: first, scale } : { q: first, k: second, scale };
}

/** Σ_i A_ij / P: what values gather from rows that all ask for 1/P. */
function received(a: Algebra, { q, k, scale }: Factors): GraphNode {
  const [tables = 1, rows = 1] = knownSizes(q.shape);
  const [, keys = 1] = knownSizes(k.shape);
  const even = broadcast(a, a.number(1 / rows, q), [tables, rows, 1]);
  const log = a.op("attend_log_sum", [q, k], { scale });
  return reshape(a, a.op("attend_value_grad", [q, k, even, log], { scale }), [tables, keys]);
}

/** −Σ_j A_ij ln A_ij = log_i − scale · q_i·Σ_j A_ij k_j: the keys themselves are gathered. */
function spread(a: Algebra, { q, k, scale }: Factors): GraphNode {
  const log = a.op("attend_log_sum", [q, k], { scale });
  const mixed = binary(a, "mul", q, a.op("attend", [q, k, k], { scale }));
  return binary(a, "sub", log, binary(a, "mul", sum(a, mixed, [2], false), scale));
}

/** The probed rows alone, as a small table. */
function rowsOf(
  a: Algebra,
  { q, k, scale }: Factors,
  size: readonly [number, number],
  picked: { readonly y: Probes; readonly x: Probes },
): GraphNode {
  const e = a.op("matmul", [pickRows(a, q, size, picked), transpose(a, k)], {});
  return a.op("softmax", [scale === 1 ? e : binary(a, "mul", e, scale)], { axis: 2 });
}

// --------------------------------------------------------------------------------------------------------- finding them

const within = (node: GraphNode, unit: string): boolean => node.layer === unit || node.layer.startsWith(`${unit}.`);

function tablesOf(model: Attending): readonly Table[] {
  const applied = model.positions.flatMap(({ path, block }) =>
    ATTENTION_BLOCKS.has(block) && !model.units.some((unit) => path === unit || path.startsWith(`${unit}.`))
      ? [path]
      : [],
  );
  const searched: Searched = {
    ...model,
    units: [...model.units, ...applied],
    names: [...model.streams, ...model.graph.inputs.map((input) => input.attrs.name)],
  };
  const users = usersOf(model.graph);
  return model.graph.nodes.flatMap((gather) => {
    if (gather.op !== "matmul") return [];
    const unit = searched.units.find((path) => within(gather, path));
    const table = unit === undefined ? undefined : tableOf(gather, unit, searched);
    return table === undefined ? [] : [{ ...table, gate: gateOf(gather, users) }];
  });
}

/** The table that `gather` multiplies values with, if it is one. */
function tableOf(gather: GraphNode, unit: string, model: Searched): Omit<Table, "gate"> | undefined {
  const node = inputOf(gather, 0);
  const [tables = 0, rows = 0, columns = 0] = knownSizes(node.shape);
  if (node.shape.length !== 3 || !within(node, unit)) return undefined;
  const weights = weightsOf(node, columns);
  const operands = weights === undefined ? undefined : operandsOf(inputOf(node, 0));
  if (weights === undefined || operands === undefined) return undefined;
  const looking = mapBehind(operands.queries, rows);
  const looked = mapBehind(operands.keys, columns);
  if (looking === undefined || looked === undefined) return undefined;
  return {
    node,
    unit,
    layer: gather.layer,
    queries: gridOf(looking, unit, model),
    keys: gridOf(looked, unit, model),
    heads: tables / Number(looking.shape[0]),
    weights,
  };
}

function weightsOf(node: GraphNode, columns: number): AttentionMap["weights"] | undefined {
  if (node.op === "softmax") return node.attrs.axis === 2 ? "softmax" : undefined;
  if (node.op !== "binary" || node.attrs.fn !== "div") return undefined;
  const by = inputOf(node, 1);
  return by.op === "constant" && by.attrs.value === columns ? "products" : undefined;
}

/** What the scores [B, P, K] compare: the factors of their product, or the two terms of their sum. */
function operandsOf(scores: GraphNode): { readonly queries: GraphNode; readonly keys: GraphNode } | undefined {
  let node = scores;
  let exchanged = false;
  for (;;) {
    const [first, second] = node.inputs;
    if (first === undefined) return undefined;
    const isSum = node.op === "binary" && node.attrs.fn === "add" && second?.shape.length === first.shape.length;
    if (second !== undefined && (node.op === "matmul" || isSum))
      return exchanged ? { queries: second, keys: first } : { queries: first, keys: second };
    // Both directions of a shared table read it, one of them on its side.
    if (node.op === "permute" && node.attrs.order[1] === 2) exchanged = !exchanged;
    else if (node.op !== "unary" && node.op !== "binary" && node.op !== "permute") return undefined;
    // A scale is a number on either side.
    node = second !== undefined && first.shape.length < second.shape.length ? second : first;
  }
}

/** The map [N, C, H, W] with H·W = `places` that a factor of the scores was made from by moving axes. */
function mapBehind(factor: GraphNode, places: number): GraphNode | undefined {
  for (let node: GraphNode | undefined = factor; node !== undefined; node = node.inputs[0]) {
    const [, , height = 0, width = 0] = node.shape.map(Number);
    if (node.shape.length === 4 && height * width === places) return node;
    if (node.op !== "reshape" && node.op !== "permute") return undefined;
  }
  return undefined;
}

function gridOf(map: GraphNode, unit: string, model: Searched): AttentionGrid {
  const [, , height = 1, width = 1] = knownSizes(map.shape);
  // The stream's own map, before the unit projects and pools it.
  let own = map;
  while (within(own, unit) && own.inputs[0]?.shape.length === 4) own = own.inputs[0];
  const [, , whole = height, wide = width] = knownSizes(own.shape);
  const extent = (size: number, of: number): number => (size * Math.floor(of / size)) / of;
  return {
    stream: streamOf(own, model) ?? "",
    size: [height, width],
    extent: [extent(height, whole), extent(width, wide)],
  };
}

/** The stream that a value belongs to: the only one it depends on, or the one in whose layer it was made. */
function streamOf(node: GraphNode, model: Searched): string | undefined {
  const [only, ...others] = inputsBehind(node);
  if (only !== undefined && others.length === 0) return only;
  const named = [node.layer, ...model.positions.flatMap((at) => (at.node === node ? [at.path] : []))];
  for (const path of named) {
    const stream = model.names.find((name) => path.startsWith(`${name}.`));
    if (stream !== undefined) return stream;
  }
  // Behind a unit between the streams a value is that of the stream plus an update.
  const unit = model.units.find((path) => within(node, path));
  const before = unit === undefined ? [] : node.inputs.filter((input) => !within(input, unit));
  const [stream, ...more] = new Set(before.map((input) => streamOf(input, model)));
  return more.length === 0 ? stream : undefined;
}

function inputsBehind(node: GraphNode): readonly string[] {
  const seen = new Set<GraphNode>();
  const pending = [node];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    if (seen.has(at)) continue;
    seen.add(at);
    pending.push(...at.inputs);
  }
  return [...seen].flatMap((at) => (at.op === "input" ? [at.attrs.name] : []));
}

function usersOf(graph: Graph): ReadonlyMap<GraphNode, readonly GraphNode[]> {
  const users = new Map<GraphNode, GraphNode[]>();
  for (const node of graph.nodes)
    for (const input of new Set(node.inputs)) {
      const known = users.get(input);
      if (known === undefined) users.set(input, [node]);
      else known.push(node);
    }
  return users;
}

/** The last parameter that multiplies what was gathered before it is added to the stream, if it starts at zero. */
function gateOf(gather: GraphNode, users: ReadonlyMap<GraphNode, readonly GraphNode[]>): string | undefined {
  let gate: string | undefined;
  for (let node = gather; ; ) {
    const [user, ...others] = users.get(node) ?? [];
    if (user === undefined || others.length > 0 || (user.op === "binary" && user.attrs.fn === "add")) return gate;
    const factor = user.inputs.find((input) => input.op === "param");
    if (factor?.op === "param") {
      const { path, init } = factor.attrs;
      gate = init.kind === "constant" && init.value === 0 ? path : undefined;
    }
    node = user;
  }
}

/**
 * A name for each table: that of the layer that gathers by it. Where two directions share their layers the names are by
 * the stream that is updated.
 */
function namesOf(tables: readonly Table[]): readonly string[] {
  const byStream = ({ unit, queries, keys }: Table): string =>
    queries.stream === keys.stream || queries.stream === "" ? unit : `${unit}.to_${queries.stream}`;
  const first = tables.map((table) => (table.layer === table.unit ? byStream(table) : table.layer));
  const second = first.map((name, i) => {
    const table = tables[i];
    return table !== undefined && first.indexOf(name) !== first.lastIndexOf(name) ? byStream(table) : name;
  });
  return second.map((name, i) => {
    const before = second.slice(0, i).filter((other) => other === name).length;
    return before === 0 ? name : `${name}_${before + 1}`;
  });
}
