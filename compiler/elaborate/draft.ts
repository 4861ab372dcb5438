/**
 * The graph under construction.
 *
 * Nodes are made in any order and their inputs can still be exchanged: that is what a graft needs. When everything is in
 * place `finish` hands what the outputs need to a `GraphBuilder`, and nothing changes any more. Also here: the positions
 * (`Place`) and parameters found on the way, and the names of open sizes.
 */
import type { DType, Expr, Node, With } from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { GraphBuilder, type Where } from "../graph/builder.ts";
import type { Graph, GraphNode, Init, OpAttrs, OpName } from "../graph/graph.ts";
import { type LeafName, shapeOf } from "../graph/ops.ts";
import type { Region } from "../graph/region.ts";
import { isProblem } from "../graph/shapes.ts";
import type { Origin } from "../origin.ts";
import { equal, type Size, showShape, name as sizeName } from "../size.ts";
import { shapeFailure } from "./explain.ts";
import { Abort, failAt, ownPlace, report, spanOf } from "./failure.ts";
import type { Program } from "./modules.ts";
import type { Use } from "./types.ts";
import { type Context, join, type Layer, newInstance, type Value } from "./values.ts";

/** A node of the graph under construction; `inputs` may be replaced until the end. */
export type Draft = { readonly [K in OpName]: DraftOf<K> }[OpName];

interface DraftOf<K extends OpName> {
  readonly kind: "tensor";
  /** Counts nodes in the order they were made. */
  readonly serial: number;
  readonly op: K;
  inputs: readonly Draft[];
  readonly attrs: OpAttrs[K];
  readonly shape: readonly Size[];
  readonly dtype: DType;
  readonly layer: string;
  readonly origin: Origin;
  readonly region: Region | undefined;
}

/** A position: the region of a named layer, or a named value. */
export interface Place {
  readonly path: string;
  readonly aliases: readonly string[];
  readonly block: string;
  readonly at: Span;
  /** Values that enter the region; none for a named value. */
  entering: readonly Draft[];
  /** Values that leave. Empty while the region is being made. */
  values: readonly Draft[];
  /** The same after grafts: what the network after this position uses. */
  current: readonly Draft[];
  /** Serials of the nodes made inside, `[first, end)`. */
  readonly first: number;
  end: number;
}

/** A graft that was placed, for the message about crossed ones. */
export interface Graft {
  readonly at: Span;
  readonly label: string;
  /** Full path of the unit. */
  readonly path: string;
  /** The values it was given. */
  readonly takes: readonly Draft[];
  readonly first: number;
  readonly end: number;
}

/** Parameters that later streams share with the first (language 5.7). */
export interface Sharing {
  /** Prefix of the stream being made, and of the stream that owns the weights. */
  readonly stream: string;
  readonly owner: string;
  /** Paths below the stream, or everything. */
  readonly regions: readonly string[] | "all";
  readonly at: Span;
}

/** One model being made. */
export interface Build {
  readonly program: Program;
  readonly drafts: Draft[];
  readonly places: Place[];
  readonly placeByPath: Map<string, Place>;
  readonly parameters: Map<string, { readonly draft: Draft; readonly at: Span }>;
  readonly names: Map<string, number>;
  readonly grafts: Graft[];
  /** The values that the outermost fusion takes, one for each stream. */
  streamOutputs: readonly Draft[];
  /** Open sizes of the model, and values given to them from outside. */
  readonly open: Map<string, { readonly size: Size; readonly at: Span }>;
  readonly bind: ReadonlyMap<string, number>;
  /** What the model says of its open sizes. */
  readonly assumed: Set<Expr>;
  sharing: Sharing | undefined;
  /** Checkpointed regions so far. */
  regions: number;
  /** Names of the blocks that were used. */
  readonly blocks: Set<string>;
  /** `from W` of the headline. */
  weights: Value | undefined;
  /** Of a super-network: which of its grafts may be switched off. */
  gates: Gates | undefined;
  /** Networks that are cut into slices, by the instance that was cut. */
  readonly traces: Map<Layer, Trace>;
}

/** Grafts with a gate: where it is 1 the unit counts, where it is 0 what it was given. */
export interface Gates {
  /** Which gate a clause has. */
  readonly of: ReadonlyMap<With, number>;
  /** All gates as one input. */
  readonly input: Draft;
}

/** A whole network elaborated once on stand-in inputs, from which slices are copied. */
export interface Trace {
  readonly inputs: readonly Draft[];
  readonly outputs: readonly Draft[];
  /** Its positions, with their paths below it. */
  readonly places: ReadonlyMap<string, Place>;
  /** Nodes that were copied once already. */
  readonly copied: Set<Draft>;
}

/** More operations than any network has; beyond it the machine would run out of memory first. */
const MOST_NODES = 200_000;

export function newBuild(program: Program, bind: ReadonlyMap<string, number>): Build {
  return {
    program,
    drafts: [],
    places: [],
    placeByPath: new Map(),
    parameters: new Map(),
    names: new Map(),
    grafts: [],
    streamOutputs: [],
    open: new Map(),
    bind,
    assumed: new Set(),
    sharing: undefined,
    regions: 0,
    blocks: new Set(),
    weights: undefined,
    gates: undefined,
    traces: new Map(),
  };
}

/** The context of a model's top: no names yet, an instance of its own. */
export function topContext(build: Build, module: Context["module"]): Context {
  return {
    build,
    module,
    locals: undefined,
    scope: "",
    owner: newInstance(),
    visits: new Map(),
    origin: undefined,
    region: undefined,
    depth: 0,
  };
}

// ---------------------------------------------------------------------------------------------------------------- nodes

/** Of one shape and element type. */
export function sameType(a: Draft, b: Draft | undefined): boolean {
  return (
    b !== undefined &&
    a.dtype === b.dtype &&
    a.shape.length === b.shape.length &&
    a.shape.every((size, i) => equal(size, b.shape[i] ?? -1))
  );
}

function place<K extends OpName>(
  build: Build,
  op: K,
  inputs: readonly Draft[],
  attrs: OpAttrs[K],
  type: { readonly shape: readonly Size[]; readonly dtype: DType },
  layer: string,
  origin: Origin,
  region: Region | undefined,
): Draft {
  const { shape, dtype } = type;
  if (build.drafts.length >= MOST_NODES) {
    failAt(
      topContext(build, {
        source: origin.span.source,
        file: { kind: "File", edition: undefined, items: [], start: 0, end: 0 },
        names: new Map(),
        prelude: [],
      }),
      "E0206",
      `this network has more than ${MOST_NODES} operations`,
      origin.span,
    );
  }
  // `op` and `attrs` were paired by the caller's types; the union cannot say so.
  const draft = {
    kind: "tensor",
    serial: build.drafts.length,
    op,
    inputs,
    attrs,
    shape,
    dtype,
    layer,
    origin,
    region,
  } as Draft;
  build.drafts.push(draft);
  return draft;
}

function originOf(use: Use): Origin {
  const { context, node } = use;
  return { span: spanOf(context, node), ...(context.origin === undefined ? {} : { parent: context.origin }) };
}

/** Applies an operator; shapes that do not fit are reported in the words of its row. */
export function emit<K extends Exclude<OpName, LeafName>>(
  op: K,
  inputs: readonly Draft[],
  attrs: OpAttrs[K],
  use: Use,
): Draft {
  const type = shapeOf(op, inputs, attrs);
  if (isProblem(type)) return shapeFailure(type, op, inputs, use);
  const { build, scope, region } = use.context;
  return place(build, op, inputs, attrs, type, scope, originOf(use), region);
}

/** A number as a scalar tensor. */
export function constant(value: number, dtype: DType, use: Use): Draft {
  return place(
    use.context.build,
    "constant",
    [],
    { value },
    { shape: [], dtype },
    use.context.scope,
    originOf(use),
    undefined,
  );
}

/** An input of the model, or a stand-in for one. */
export function inputDraft(
  build: Build,
  name: string,
  type: { readonly shape: readonly Size[]; readonly dtype: DType },
  at: Span,
): Draft {
  return place(build, "input", [], { name }, type, "", { span: at }, undefined);
}

/** The same operation on other inputs of the same types. */
export function copyDraft(
  build: Build,
  draft: Draft,
  { inputs, attrs, region }: Pick<Draft, "inputs" | "attrs" | "region">,
): Draft {
  const copy = { ...draft, serial: build.drafts.length, inputs, attrs, region } as Draft;
  build.drafts.push(copy);
  return copy;
}

/**
 * The weight called `path`; the first stream's if the place is shared between streams. `statement` is its declaration.
 */
export function parameterDraft(
  context: Context,
  statement: Node & { readonly what: "param" | "state" },
  path: string,
  type: { readonly shape: readonly Size[]; readonly dtype: DType },
  init: Init,
): Draft {
  const { build } = context;
  const origin = originOf({ context, node: statement });
  const at = ownPlace(context, origin);
  const shared = sharedWeight(build, path);
  if (shared !== undefined) {
    const same = showShape(shared.draft.shape) === showShape(type.shape);
    if (same) return shared.draft;
    return failAt(
      context,
      "E0511",
      `\`${shared.relative}\` cannot be shared: the streams need different sizes`,
      shared.at,
      {
        label: `${showShape(shared.draft.shape)} in \`${shared.owner}\`, ${showShape(type.shape)} in \`${shared.stream}\``,
        helps: ["share only regions whose weights have one size in every stream"],
      },
    );
  }
  const first = build.parameters.get(path);
  if (first !== undefined) {
    const region = path.slice(0, Math.max(0, path.lastIndexOf(".")));
    failAt(context, "E0204", `two layers are called \`${region}\``, at, {
      label: "the second",
      secondary: [{ span: first.at, text: "the first" }],
      helps: ["give one of them another name with `@name`"],
    });
  }
  const draft = place(build, "param", [], { path, kind: statement.what, init }, type, context.scope, origin, undefined);
  build.parameters.set(path, { draft, at });
  return draft;
}

function sharedWeight(
  build: Build,
  path: string,
): (Sharing & { readonly draft: Draft; readonly relative: string }) | undefined {
  const { sharing } = build;
  if (sharing === undefined || !path.startsWith(`${sharing.stream}.`)) return undefined;
  const relative = path.slice(sharing.stream.length + 1);
  const inside =
    sharing.regions === "all" ||
    sharing.regions.some((region) => relative.startsWith(`${region}.`) || relative.startsWith(`${region}[`));
  const owned = inside ? build.parameters.get(`${sharing.owner}.${relative}`) : undefined;
  return owned === undefined ? undefined : { ...sharing, draft: owned.draft, relative };
}

/** A name for what has none: `conv_1`, `conv_2`, … in the order of use. */
export function scopedName(build: Build, base: string): string {
  const count = (build.names.get(base) ?? 0) + 1;
  build.names.set(base, count);
  return `${base}_${count}`;
}

// ------------------------------------------------------------------------------------------------------------ positions

/** Begins the region of a named layer. Using the same named layer again adds no second position. */
export function openPlace(
  context: Context,
  name: string,
  aliases: readonly string[],
  block: string,
  entering: readonly Draft[],
  at: Span,
): Place {
  const { build, scope } = context;
  const path = join(scope, name);
  const first = build.drafts.length;
  const made: Place = {
    path,
    aliases: aliases.map((a) => join(scope, a)),
    block,
    at,
    entering,
    values: [],
    current: [],
    first,
    end: first,
  };
  const known = build.placeByPath.get(path);
  if (known === undefined) {
    build.places.push(made);
    for (const each of [path, ...made.aliases]) build.placeByPath.set(each, made);
  } else if (known.at.source !== at.source || known.at.start !== at.start) {
    failAt(context, "E0204", `\`${path}\` already names a position`, at, {
      label: "a position is named once",
      secondary: [{ span: known.at, text: "first given here" }],
      helps: ["choose another name"],
    });
  }
  return made;
}

export function closePlace(build: Build, made: Place, values: readonly Draft[]): void {
  made.values = values;
  made.current = values;
  made.end = build.drafts.length;
}

/** `value @name`. */
export function nameValue(context: Context, name: string, value: Draft, at: Span): void {
  closePlace(context.build, openPlace(context, name, [], "", [], at), [value]);
}

// ----------------------------------------------------------------------------------------------------------- open sizes

/** The size that a name in the type of an input stands for: as given from outside, or open. */
export function openSize(build: Build, name: string, at: Span): Size {
  const known = build.open.get(name);
  if (known !== undefined) return known.size;
  const size = build.bind.get(name) ?? sizeName(name);
  build.open.set(name, { size, at });
  return size;
}

/** Labels for the places where sizes were left open. */
export function openedAt(
  build: Build,
  names: readonly string[],
): readonly { readonly span: Span; readonly text: string }[] {
  const places = new Map<string, { readonly span: Span; readonly names: string[] }>();
  for (const name of names) {
    const found = build.open.get(name);
    if (found === undefined) continue;
    const key = `${found.at.source.path}:${found.at.start}`;
    const known = places.get(key);
    if (known === undefined) places.set(key, { span: found.at, names: [name] });
    else known.names.push(name);
  }
  return [...places.values()].map((p) => ({
    span: p.span,
    text: `${p.names.join(" and ")} ${p.names.length === 1 ? "is" : "are"} left open here`,
  }));
}

// --------------------------------------------------------------------------------------------------------------- finish

export interface FinishedDraft {
  readonly graph: Graph;
  /** The final node of every draft that is in the graph. */
  readonly nodes: ReadonlyMap<Draft, GraphNode>;
}

/** The immutable graph of everything the outputs need. Crossed grafts, which wait for each other, are E0507. */
export function finish(
  build: Build,
  name: string,
  inputs: readonly Draft[],
  outputs: readonly { readonly name: string; readonly draft: Draft }[],
): FinishedDraft {
  const builder = new GraphBuilder();
  const made = new Map<Draft, GraphNode>();
  for (const draft of inOrder(build, [...inputs, ...outputs.map((output) => output.draft)])) {
    const where = { layer: draft.layer, origins: [draft.origin], region: draft.region };
    const from = draft.inputs.map((input) => {
      const node = made.get(input);
      if (node === undefined) throw new Error("internal: a node is used before it is made");
      return node;
    });
    made.set(draft, toNode(builder, draft, from, where));
  }
  const finished = builder.finish(
    name,
    outputs.map((output) => ({ name: output.name, node: made.get(output.draft) ?? unreachable() })),
  );
  const nodes = new Map<Draft, GraphNode>();
  for (const [draft, node] of made) {
    const final = finished.nodes.get(node);
    if (final !== undefined) nodes.set(draft, final);
  }
  return { graph: finished.graph, nodes };
}

function unreachable(): never {
  throw new Error("internal: an output was not made");
}

function toNode(builder: GraphBuilder, draft: Draft, inputs: readonly GraphNode[], where: Where): GraphNode {
  switch (draft.op) {
    case "input":
      return builder.leaf("input", draft.attrs, draft, where);
    case "param":
      return builder.leaf("param", draft.attrs, draft, where);
    case "constant":
      return builder.leaf("constant", draft.attrs, draft, where);
    default: {
      const node = builder.add(draft.op, inputs, draft.attrs, where);
      if (isProblem(node)) throw new Error(`internal: ${draft.op} was checked and does not fit: ${node.message}`);
      return node;
    }
  }
}

/**
 * What `roots` need, inputs before users, without going past `stop`. Iterative: networks are deeper than the stack.
 */
export function inOrder(build: Build, roots: readonly Draft[], stop?: ReadonlySet<Draft>): readonly Draft[] {
  const state = new Map<Draft, "open" | "done">();
  const order: Draft[] = [];
  for (const root of roots) {
    const stack: { readonly draft: Draft; next: number }[] = [];
    const enter = (draft: Draft): void => {
      const seen = state.get(draft);
      if (seen === "done") return;
      if (seen === "open")
        crossed(build, stack.map((frame) => frame.draft).slice(stack.findIndex((frame) => frame.draft === draft)));
      state.set(draft, "open");
      stack.push({ draft, next: 0 });
    };
    enter(root);
    for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
      const input = stop?.has(frame.draft) === true ? undefined : frame.draft.inputs[frame.next++];
      if (input !== undefined) enter(input);
      else {
        state.set(frame.draft, "done");
        order.push(frame.draft);
        stack.pop();
      }
    }
  }
  return order;
}

function crossed(build: Build, cycle: readonly Draft[]): never {
  const involved = build.grafts.filter((graft) =>
    cycle.some((draft) => draft.serial >= graft.first && draft.serial < graft.end),
  );
  const [first, ...others] = involved;
  if (first === undefined) throw new Error("internal: a cycle that no graft made");
  report(
    build.program.reports,
    diagnostic("E0507", "these grafts wait for each other", first.at, {
      label: "this one waits for what comes after the other",
      secondary: others.map((graft) => ({ span: graft.at, text: `and \`${graft.label}\` waits for the first` })),
      helps: ["join the streams in the order of their depth"],
    }),
  );
  throw new Abort("crossed grafts");
}
