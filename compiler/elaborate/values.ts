/**
 * What an expression can be worth while a program is elaborated (language 5.2).
 *
 * Three kinds: compile-time values (numbers, sizes, strings, lists, positions, …), layers (functions of tensors that own
 * weights) and tensors (`Draft`, a node of the graph under construction). Everything here is a plain record; the files
 * beside this one say what each kind does.
 */
import type { Callable, Clause, DType, Expr, Node, Recipe, TypeAlias, Weights } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import type { Init } from "../graph/graph.ts";
import type { Region } from "../graph/region.ts";
import type { Origin } from "../origin.ts";
import type { Size } from "../size.ts";
import type { Builtin } from "./builtins.ts";
import type { Build, Draft } from "./draft.ts";
import type { Module } from "./modules.ts";

/** Numbers stand for themselves, `null` is `none`. */
export type Value = number | string | boolean | null | Compound;

export type Compound =
  | SizeValue
  | Sequence
  | RangeValue
  | PositionValue
  | DTypeValue
  | Draft
  | Layer
  | BlockValue
  | BuiltinValue
  | InitValue
  | NamespaceValue
  | TypeValue
  | DeclarationValue
  | Unknown;

/** A size with open names in it; closed sizes are numbers. */
export interface SizeValue {
  readonly kind: "size";
  readonly size: Exclude<Size, number>;
}

/** `(a, b)`, `[a, b]` and `{a, b}`. Tuples travel through pipelines as several values, lists fan out, sets are choices. */
export interface Sequence {
  readonly kind: "tuple" | "list" | "set";
  readonly items: readonly Value[];
}

export interface RangeValue {
  readonly kind: "range";
  readonly from: Value;
  readonly to: Value;
}

/** `@conv3` as a value; `to` for `@conv1..@conv5`. */
export interface PositionValue {
  readonly kind: "position";
  readonly path: string;
}

export interface DTypeValue {
  readonly kind: "dtype";
  readonly name: DType;
}

/** A callable that has not been given its parameters. */
export interface BlockValue {
  readonly kind: "block";
  readonly declaration: Callable;
  readonly module: Module;
  /** What it is where it is used without parameters, once it has a name: `net = VGG16` is one network. */
  readonly layer?: BlockLayer;
}

/** An operation made in TypeScript (`builtins.ts`). */
export interface BuiltinValue {
  readonly kind: "builtin";
  readonly builtin: Builtin;
}

/** `he_normal(fan="out")`. */
export interface InitValue {
  readonly kind: "init";
  readonly init: Init;
}

/** `import * as nn`. */
export interface NamespaceValue {
  readonly kind: "namespace";
  readonly module: Module;
}

export interface TypeValue {
  readonly kind: "type";
  readonly declaration: TypeAlias;
  readonly module: Module;
}

/** Declarations that are looked up by name but are not part of a network. */
export interface DeclarationValue {
  readonly kind: "declaration";
  readonly what: "weights" | "recipe" | "search";
  readonly name: string;
  readonly module: Module;
  readonly weights: Weights | undefined;
  readonly recipe: Recipe | undefined;
}

/** Stands for a value whose making failed and was reported; whoever meets it stays silent. */
export interface Unknown {
  readonly kind: "unknown";
}

// --------------------------------------------------------------------------------------------------------------- layers

/** A function of tensors that owns its weights. One record is one instance: using it twice shares the weights. */
export type Layer =
  | BlockLayer
  | PipelineLayer
  | NamedLayer
  | OpLayer
  | FanLayer
  | StreamsLayer
  | SliceLayer
  | HeadlineLayer;

/** A block with its parameters given. */
export interface BlockLayer {
  readonly kind: "layer";
  readonly form: "block";
  readonly block: BlockValue;
  readonly args: ReadonlyMap<string, Value>;
  readonly instance: Instance;
  readonly at: Span;
}

/** An expression and the file it is written in. */
export interface Written {
  readonly expr: Expr;
  readonly module: Module;
}

export interface Stage extends Written {
  readonly value: Value;
}

export interface PipelineLayer {
  readonly kind: "layer";
  readonly form: "pipeline";
  readonly stages: readonly Stage[];
}

/** `layer @name @alias`. */
export interface NamedLayer {
  readonly kind: "layer";
  readonly form: "named";
  readonly inner: Layer;
  readonly names: readonly string[];
  readonly at: Span;
}

/** An operation that waits for its first argument: `softmax(axis=-1)` in a pipeline. */
export interface OpLayer {
  readonly kind: "layer";
  readonly form: "op";
  readonly op: BuiltinValue | BlockValue;
  readonly args: readonly EvaluatedArg[];
  readonly at: Span;
}

export interface EvaluatedArg {
  readonly name: string | undefined;
  readonly value: Value;
  readonly node: Node;
}

/** `[A, B]` fed by one value: a tuple of results. */
export interface FanLayer {
  readonly kind: "layer";
  readonly form: "fan";
  readonly members: readonly Layer[];
}

/** `B ×n` or `(A, B)`: the i-th layer takes the i-th value. */
export interface StreamsLayer {
  readonly kind: "layer";
  readonly form: "streams";
  readonly members: readonly Layer[];
  /** The `×2` that made them. */
  readonly at: Span;
}

/** `net[from..to]`. */
export interface SliceLayer {
  readonly kind: "layer";
  readonly form: "slice";
  readonly of: Layer;
  readonly from: WrittenPosition | undefined;
  readonly to: WrittenPosition | undefined;
  readonly at: Span;
}

export interface WrittenPosition {
  readonly path: string;
  readonly at: Span;
}

/** A pipeline with clauses. The clauses are evaluated where they are written, when the layer is applied. */
export interface HeadlineLayer {
  readonly kind: "layer";
  readonly form: "headline";
  readonly base: Layer;
  /** How the base is written, where it is an expression of its own. */
  readonly written: Written | undefined;
  readonly clauses: readonly PlacedClause[];
  /** Owns what the clauses make. */
  readonly instance: Instance;
  readonly at: Span;
}

/** A clause and where its names are looked up. */
export interface PlacedClause {
  readonly clause: Clause;
  readonly context: Context;
}

/** The identity of a layer: its weights and those of the layers inside it. */
export interface Instance {
  /** The model its weights belong to: a layer that is a constant may be in several. */
  build: Build | undefined;
  /** Parameter path at the first use, fixed then. */
  scope: string | undefined;
  readonly weights: Map<string, Draft>;
  /** Layers made by evaluating an expression inside, the n-th time it was met in one application. */
  readonly children: Map<Node, Instance[]>;
}

// -------------------------------------------------------------------------------------------------------------- context

/** Names given so far in a body, innermost first. */
export interface Locals {
  readonly names: Map<string, Local>;
  readonly up: Locals | undefined;
}

export interface Local {
  readonly value: Value;
  /** Where the name was given. */
  readonly at: Span;
}

/** Where an expression is evaluated. */
export interface Context {
  readonly build: Build;
  /** The file whose text the expression is in. */
  readonly module: Module;
  readonly locals: Locals | undefined;
  /** Prefix of parameter paths and positions: `spatial.conv3`. */
  readonly scope: string;
  /** The instance inside which new layers are made. */
  readonly owner: Instance;
  /** How often each expression made a layer in the present application of `owner`. */
  readonly visits: Map<Node, number>;
  /** The calls that led here, innermost first. */
  readonly origin: Origin | undefined;
  /** The checkpointed region that nodes made here belong to. */
  readonly region: Region | undefined;
  readonly depth: number;
}

export const UNKNOWN: Unknown = { kind: "unknown" };

export function newInstance(): Instance {
  return { build: undefined, scope: undefined, weights: new Map(), children: new Map() };
}

/**
 * The instance for a layer made by evaluating `node`. When its owner is applied a second time, the same evaluation gives
 * the same instance: that is how everything inside a shared layer is shared.
 */
export function instanceFor(context: Context, node: Node): Instance {
  const visit = context.visits.get(node) ?? 0;
  context.visits.set(node, visit + 1);
  const made = context.owner.children.get(node) ?? [];
  context.owner.children.set(node, made);
  const instance = made[visit] ?? newInstance();
  made[visit] = instance;
  return instance;
}

export function isCompound(value: Value): value is Compound {
  return typeof value === "object" && value !== null;
}

export function isTensor(value: Value): value is Draft {
  return isCompound(value) && value.kind === "tensor";
}

export function isLayer(value: Value): value is Layer {
  return isCompound(value) && value.kind === "layer";
}

export function isSequence(value: Value): value is Sequence {
  return isCompound(value) && (value.kind === "tuple" || value.kind === "list" || value.kind === "set");
}

export function isBlock(value: Value): value is BlockValue {
  return isCompound(value) && value.kind === "block";
}

/** Numbers and sizes with names in them. */
export function isSize(value: Value): value is number | SizeValue {
  return typeof value === "number" || (isCompound(value) && value.kind === "size");
}

export function sizeOf(value: number | SizeValue): Size {
  return typeof value === "number" ? value : value.size;
}

export function sizeValue(size: Size): number | SizeValue {
  return typeof size === "number" ? size : { kind: "size", size };
}

export function tuple(items: readonly Value[]): Sequence {
  return { kind: "tuple", items };
}

export function list(items: readonly Value[]): Sequence {
  return { kind: "list", items };
}

/** Values that travel through a pipeline side by side: the items of a tuple, or the one value. */
export function lanes(value: Value): readonly Value[] {
  return isCompound(value) && value.kind === "tuple" ? value.items : [value];
}

/** Where `name` was given in the bodies around here. */
export function localOf(context: Context, name: string): Local | undefined {
  for (let locals = context.locals; locals !== undefined; locals = locals.up) {
    const local = locals.names.get(name);
    if (local !== undefined) return local;
  }
  return undefined;
}

/** `layer3` and `[2]` make `layer3[2]`; other names are joined by dots. */
export function join(scope: string, name: string): string {
  if (scope === "") return name;
  return name.startsWith("[") ? scope + name : `${scope}.${name}`;
}
