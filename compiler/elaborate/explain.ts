/**
 * Why a size is what it is: the labels beside a shape error (language 6, "Explaining a mismatch").
 *
 * A value remembers the calls that made it. Walking from a value to its producers finds the last step that changed an
 * axis; walking from a step to its callers finds the place in a person's own text.
 */
import type { Expr } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import type { OpName } from "../graph/graph.ts";
import type { ShapeProblem } from "../graph/shapes.ts";
import { showType } from "../graph/shapes.ts";
import type { Origin } from "../origin.ts";
import { equal, type Size, showSize } from "../size.ts";
import type { Draft } from "./draft.ts";
import { fail, isLibrary, ownPlace, placeOf, spanOf } from "./failure.ts";
import type { Use } from "./types.ts";
import { localOf } from "./values.ts";

interface Note {
  readonly span: Span;
  readonly text: string;
}

/** Reports that shapes do not fit an operator, with the operands' histories beside it. */
export function shapeFailure(problem: ShapeProblem, op: OpName, inputs: readonly Draft[], use: Use): never {
  const secondary = operandNotes(op, inputs, use);
  const where = useNote(use);
  return fail(use.context, problem.code, problem.message, use.node, {
    label: problem.label,
    secondary: where === undefined ? secondary : [...secondary, where],
    notes: secondary.length === inputs.length ? [] : problem.notes,
    helps: problem.helps,
  });
}

function operandNotes(op: OpName, inputs: readonly Draft[], use: Use): readonly Note[] {
  const at = placeOf(use.context, use.node);
  const seen = new Set<string>();
  const operands = op === "conv2d" || op === "linear" ? inputs.slice(0, 1) : inputs;
  return operands.flatMap((input, i) => {
    if (input.op === "constant") return [];
    const expr = use.operands?.[i];
    const span = (expr === undefined ? undefined : namedAt(expr, use)) ?? ownPlace(use.context, input.origin);
    const key = `${span.source.path}:${span.start}:${span.end}`;
    // A label that would lie on the error itself, or on another label, says nothing.
    if (seen.has(key) || isLibrary(span.source) || covers(span, at)) return [];
    seen.add(key);
    const other = operands[1 - i];
    const why = other === undefined || operands.length !== 2 ? "" : changes(input, other, use).join(", ");
    return [{ span, text: `${showType(input)}${why === "" ? "" : `: ${why}`}` }];
  });
}

/** Where the name that an operand is written with was given. */
function namedAt(expr: Expr, use: Use): Span | undefined {
  if (expr.kind !== "Name") return undefined;
  const span = localOf(use.context, expr.name)?.at;
  return span === undefined || isLibrary(span.source) ? undefined : span;
}

function covers(a: Span, b: Span): boolean {
  return a.source === b.source && a.start <= b.start && a.end >= b.end;
}

/** The use of a block of one's own that brought these values here: `in this use of Down, with c = 128`. */
function useNote(use: Use): Note | undefined {
  const at = placeOf(use.context, use.node);
  for (let origin: Origin | undefined = use.context.origin; origin !== undefined; origin = origin.parent) {
    if (isLibrary(origin.span.source) || covers(origin.span, at)) continue;
    if (origin.note !== undefined && spanOf(use.context, use.node).source === at.source)
      return { span: origin.span, text: origin.note };
  }
  return undefined;
}

/** The last steps that made the sizes in which `draft` and `other` differ. */
function changes(draft: Draft, other: Draft, use: Use): readonly string[] {
  const words: string[] = [];
  const rank = draft.shape.length;
  for (let axis = 0; axis < rank; axis++) {
    const mine = draft.shape[axis];
    const theirs = other.shape[other.shape.length - rank + axis];
    if (mine === undefined || (theirs !== undefined && equal(mine, theirs))) continue;
    const word = lastChange(draft, axis, use);
    if (word !== undefined && !words.includes(word)) words.push(word);
  }
  return words;
}

function lastChange(draft: Draft, axis: number, use: Use): string | undefined {
  let at: Draft = draft;
  for (let steps = 0; steps < 1000; steps++) {
    const from = at.inputs.find((input) => input.op !== "param" && input.shape.length === at.shape.length);
    if (from === undefined) return undefined;
    const before = from.shape[axis];
    const after = at.shape[axis];
    if (before === undefined || after === undefined) return undefined;
    if (!equal(before, after)) return describeChange(at, axis, before, after, use);
    at = from;
  }
  return undefined;
}

function describeChange(at: Draft, axis: number, before: Size, after: Size, use: Use): string {
  if (axis >= 2 && (at.op === "conv2d" || at.op === "max_pool2d" || at.op === "avg_pool2d")) {
    const stride = at.attrs.stride[axis === 2 ? 0 : 1];
    if (stride === 2) return "halved by `stride=2`";
    if (stride > 2) return `divided by \`stride=${stride}\``;
    return `${showSize(before)} became ${showSize(after)} by the padding of \`${madeText(at, use)}\``;
  }
  return `${showSize(after)} from \`${madeText(at, use)}\``;
}

/** The text of a person's own call that made a value. */
function madeText(draft: Draft, use: Use): string {
  const { source, start, end } = ownPlace(use.context, draft.origin);
  const text = source.text
    .slice(start, end)
    .replace(/\s+/g, " ")
    .replace(/\s*@[\w"{}]+$/, "");
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

/** A label at the step that made the value which arrives somewhere; undefined if that is the place of the error itself. */
export function madeBy(draft: Draft, use: Use): Note | undefined {
  const span = ownPlace(use.context, draft.origin);
  const at = placeOf(use.context, use.node);
  if (isLibrary(span.source) || covers(span, at) || covers(at, span)) return undefined;
  const from = draft.inputs.find((input) => input.op !== "param");
  const text =
    from === undefined || draft.op === "input"
      ? `gives ${showType(draft)}`
      : `makes ${showType(draft)} out of ${showType(from)}`;
  return { span, text };
}
