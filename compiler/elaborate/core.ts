/**
 * The circle at the heart of elaboration: expressions make layers, applying a layer evaluates expressions.
 *
 * The files of this folder import one another one way only; where a lower one needs the circle it calls through here.
 * `elaborate.ts` ties the knot: it puts the functions into the `Program` that every context leads to.
 */
import type { Expr, Node } from "../../grammar/ast.ts";
import type { GraphNode } from "../graph/graph.ts";
import type { MadeModel } from "./models.ts";
import type { Use } from "./types.ts";
import type { Context, Layer, Value } from "./values.ts";

export interface Core {
  readonly evaluate: (expr: Expr, context: Context, stage: boolean) => Value;
  readonly lookup: (context: Context, name: string) => Value | undefined;
  readonly asLayer: (value: Value, context: Context, node: Node) => Layer | undefined;
  readonly applyLayer: (layer: Layer, inputs: readonly Value[], context: Context, node: Node, named: boolean) => Value;
  readonly pipeInto: (value: Value, f: Value, context: Context, expr: Expr) => Value;
  readonly modelOf: (value: Value, use: Use) => MadeModel;
  readonly placeOfModel: (model: MadeModel, written: string, use: Use) => GraphNode;
}

/** The value of an expression; with `stage` it stands behind an arrow (`evaluate.ts`). */
export function evaluate(expr: Expr, context: Context, stage = false): Value {
  return context.build.program.core.evaluate(expr, context, stage);
}

/** What a name stands for (`evaluate.ts`). */
export function lookup(context: Context, name: string): Value | undefined {
  return context.build.program.core.lookup(context, name);
}

/** A value as a layer, if it is anything like one (`apply.ts`). */
export function asLayer(value: Value, context: Context, node: Node): Layer | undefined {
  return context.build.program.core.asLayer(value, context, node);
}

/** Applies a layer to values; with `named` the scope is its own already (`apply.ts`). */
export function applyLayer(layer: Layer, inputs: readonly Value[], context: Context, node: Node, named = false): Value {
  return context.build.program.core.applyLayer(layer, inputs, context, node, named);
}

/** `value -> f` (`apply.ts`). */
export function pipeInto(value: Value, f: Value, context: Context, expr: Expr): Value {
  return context.build.program.core.pipeInto(value, f, context, expr);
}

/** The model that an assertion speaks of (`models.ts`). */
export function modelOf(value: Value, use: Use): MadeModel {
  return use.context.build.program.core.modelOf(value, use);
}

/** The value at a position of a finished model (`models.ts`). */
export function placeOfModel(model: MadeModel, written: string, use: Use): GraphNode {
  return use.context.build.program.core.placeOfModel(model, written, use);
}
