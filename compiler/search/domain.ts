/**
 * What a `choose` may choose from.
 *
 * In: the expression after `in`. Out: options as they are written, with the choices that lie within them; each choice
 * becomes one factor of the space, or, for subsets, one for each member. Nothing is made here: options are syntax, and a
 * candidate is the search's model with one option in the place of each name (substitute.ts).
 */
import type { Call, Choose, Expr, Node, SetLit } from "../../grammar/ast.ts";
import { suggest } from "../../grammar/suggest.ts";
import { evaluate } from "../elaborate/core.ts";
import { fail, textOf } from "../elaborate/failure.ts";
import { describe } from "../elaborate/types.ts";
import type { Context } from "../elaborate/values.ts";
import { headOf } from "../recipe/kinds.ts";
import type { Factor } from "./search.ts";

/** One member of a set. */
export interface Option {
  readonly expr: Expr;
  /** As the source would write it, choices within it left as they are. */
  readonly text: string;
  /** On the scale that the set is even on, where it is ordered. */
  readonly value: number | undefined;
  /** Sets inside it: choices that exist only with it. */
  readonly nested: readonly Nested[];
}

export interface Nested {
  readonly node: SetLit;
  readonly factor: number;
  readonly options: readonly Option[];
}

/** A choice of the search, read. */
export interface Choice {
  readonly name: string;
  readonly item: Choose;
  readonly domain: Domain;
}

export type Domain =
  /** One option; `none` among them, or a condition, makes level 0 "absent". */
  | {
      readonly kind: "one";
      readonly factor: number;
      readonly options: readonly Option[];
      /** Whether `none` is a member; it is not among the options. */
      readonly none: boolean;
    }
  /** Some of them, in their order; a factor for each. */
  | {
      readonly kind: "subset";
      readonly factor: number;
      readonly options: readonly Option[];
      readonly least: number;
      readonly most: number;
    };

/** Expands `@conv1..@conv5` into the positions between. */
export type PositionsBetween = (from: string, to: string, node: Expr) => readonly string[];

/** Levels of a continuous range if its `levels` is not given. */
const DEFAULT_LEVELS = 7;
const MOST_LEVELS = 255;

const SETS = ["subsets", "step", "uniform", "log"];

/** Reads a choice; its factors are added to `factors`. */
export function readChoice(item: Choose, factors: Factor[], between: PositionsBetween, context: Context): Choice {
  const name = item.name.name;
  const conditional = item.when !== undefined;
  const domain = item.domain.kind === "Group" ? item.domain.value : item.domain;
  if (domain.kind === "Call" && headOf(domain) === "subsets")
    return { name, item, domain: readSubsets(name, domain, factors, between, context) };
  const options = optionsOf(domain, between, context);
  if (options.length === 0) fail(context, "E0804", `\`${name}\` has nothing to choose from`, item.domain);
  return { name, item, domain: oneOf(name, options, conditional, factors, context) };
}

type Written = Omit<Option, "nested">;

function oneOf(
  name: string,
  written: readonly Written[],
  conditional: boolean,
  factors: Factor[],
  context: Context,
): Domain & { readonly kind: "one" } {
  const factor = factors.length;
  const present = written.filter(({ expr }) => expr.kind !== "None");
  const none = present.length < written.length;
  const optional = conditional || none;
  factors.push(factorOf(name, present, optional));
  const options = withNested(name, present, factors, context);
  return { kind: "one", factor, options, none };
}

function factorOf(name: string, options: readonly Written[], optional: boolean): Factor {
  const ordered = options.every(({ value }) => value !== undefined) && options.length > 1;
  const numbers = options.map(({ value }) => value ?? 0);
  return {
    name,
    kind: ordered ? "ordinal" : "category",
    optional,
    levels: [...(optional ? [""] : []), ...options.map(({ text }) => text)],
    values: ordered ? [...(optional ? [0] : []), ...numbers] : undefined,
  };
}

/** Options with the sets inside them, each a factor that is absent where its option is not chosen. */
function withNested(name: string, options: readonly Written[], factors: Factor[], context: Context): readonly Option[] {
  const heads = options.map(({ expr }) => headOf(expr) ?? "");
  return options.map((option, i) => {
    const sets = setsIn(option.expr);
    const nested = sets.map(({ node, argument }, k): Nested => {
      const shared = options.some((other, j) => j !== i && setsIn(other.expr).some((s) => s.argument === argument));
      const own = `${name}${shared ? `.${heads[i] ?? ""}` : ""}.${argument === "" ? `${k + 1}` : argument}`;
      const inside = setOptions(node, context);
      if (inside.some(({ expr }) => setsIn(expr).length > 0))
        fail(context, "E0804", "a set within a set within a set is too deep", node, {
          helps: ["give the inner choice a name of its own: `choose r in {2, 4}`"],
        });
      const factor = factors.length;
      factors.push(factorOf(own, inside, true));
      return { node, factor, options: inside.map((each) => ({ ...each, nested: [] })) };
    });
    return { ...option, nested };
  });
}

/** Set literals in an expression, with the name of the argument they stand for. */
function setsIn(expr: Expr): readonly { readonly node: SetLit; readonly argument: string }[] {
  const found: { node: SetLit; argument: string }[] = [];
  const visit = (part: unknown, argument: string): void => {
    if (typeof part !== "object" || part === null) return;
    if (Array.isArray(part)) for (const each of part) visit(each, argument);
    else if (isSet(part)) found.push({ node: part, argument });
    else {
      const named = "kind" in part && part.kind === "Arg" && "name" in part ? nameIn(part.name) : undefined;
      for (const each of Object.values(part)) visit(each, named ?? argument);
    }
  };
  if (expr.kind !== "Set") visit(expr, "");
  return found;
}

function isSet(part: object): part is SetLit {
  return "kind" in part && part.kind === "Set";
}

function nameIn(ident: unknown): string | undefined {
  return typeof ident === "object" && ident !== null && "name" in ident && typeof ident.name === "string"
    ? ident.name
    : undefined;
}

// ------------------------------------------------------------------------------------------------------------- options

/** The members of a set as it is written: `{…}`, a range, `step`, `uniform`, `log`. */
function optionsOf(domain: Expr, between: PositionsBetween, context: Context): readonly Written[] {
  switch (domain.kind) {
    case "Group":
      return optionsOf(domain.value, between, context);
    case "Set":
      return setOptions(domain, context);
    case "Range":
      return rangeOptions(domain.from, domain.to, domain, between, context);
    case "Call":
      if (SETS.includes(headOf(domain) ?? "")) return numbersOf(domain, context);
      break;
    default:
      break;
  }
  const head = headOf(domain);
  const near = head === undefined ? undefined : suggest(head, SETS);
  return fail(context, "E0804", `\`choose\` takes a set, this is \`${textOf(context, domain)}\``, domain, {
    label: "not a set",
    helps: [
      near === undefined
        ? "`{a, b}`, `16..64`, `step(16..64, 16)`, `log(1e-4..1e-2)`, `subsets(@conv1..@conv5)`"
        : `did you mean \`${near}\`?`,
    ],
  });
}

function setOptions(set: SetLit, context: Context): readonly Written[] {
  const seen = new Set<string>();
  const options = set.items.map((expr): Written => {
    const text = textOf(context, expr);
    if (seen.has(text)) fail(context, "E0804", `\`${text}\` is in this set twice`, expr, { label: "the second time" });
    seen.add(text);
    return { expr, text, value: expr.kind === "Number" ? expr.value : undefined };
  });
  const numbers = options.map(({ value }) => value);
  const rising = numbers.every((value, i) => value !== undefined && (i === 0 || value > (numbers[i - 1] ?? value)));
  return rising ? options : options.map((option) => ({ ...option, value: undefined }));
}

function rangeOptions(
  from: Expr,
  to: Expr,
  node: Expr,
  between: PositionsBetween,
  context: Context,
): readonly Written[] {
  if (from.kind === "PositionLit" && to.kind === "PositionLit") {
    const [first, last] = [from, to].map((end) => textOf(context, end.path));
    return between(first ?? "", last ?? "", node).map((path, i) => ({
      expr: positionAt(path, node),
      text: `@${path}`,
      value: i,
    }));
  }
  const [low, high] = [wholeOf(from, context), wholeOf(to, context)];
  if (high < low) fail(context, "E0804", `this range is empty: ${high} comes before ${low}`, node);
  return evenly(low, high, 1, node, context).map((value) => numberOption(value, value, node));
}

function evenly(low: number, high: number, by: number, node: Node, context: Context): readonly number[] {
  const count = Math.floor((high - low) / by + 1e-9) + 1;
  if (count > MOST_LEVELS)
    fail(context, "E0804", `${count} levels are too many, ${MOST_LEVELS} is the most`, node, {
      helps: ["`step(16..64, 16)` takes fewer"],
    });
  return Array.from({ length: count }, (_, i) => low + i * by);
}

/** `step(16..64, 16)`, `uniform(0..1, levels=5)`, `log(1e-4..1e-2, levels=5)`. */
function numbersOf(call: Call, context: Context): readonly Written[] {
  const head = headOf(call) ?? "";
  const [range, second, ...more] = call.args;
  const usage = head === "step" ? "`step(16..64, 16)`" : `\`${head}(1e-4..1e-2, levels=5)\``;
  if (range?.value.kind !== "Range" || range.name !== undefined || more.length > 0)
    return fail(context, "E0804", `\`${head}\` takes a range`, call, { helps: [usage] });
  const [low, high] = [numberOf(range.value.from, context), numberOf(range.value.to, context)];
  if (high <= low || (head === "log" && low <= 0))
    return fail(
      context,
      "E0804",
      head === "log" && low <= 0 ? "a logarithmic range begins above 0" : "this range is empty",
      range,
    );
  if (head === "step") {
    const by = second === undefined ? 0 : numberOf(second.value, context);
    if (by <= 0) return fail(context, "E0804", "`step` needs a step above 0", second ?? call, { helps: [usage] });
    return evenly(low, high, by, call, context).map((value) => numberOption(value, value, call));
  }
  if (second !== undefined && second.name?.name !== "levels" && second.name !== undefined)
    return fail(context, "E0804", `\`${head}\` has no parameter \`${second.name.name}\``, second, { helps: [usage] });
  const levels = second === undefined ? DEFAULT_LEVELS : wholeOf(second.value, context);
  if (levels < 2 || levels > MOST_LEVELS)
    return fail(context, "E0804", `the number of levels is from 2 to ${MOST_LEVELS}`, second ?? call);
  return Array.from({ length: levels }, (_, i) => {
    const share = i / (levels - 1);
    if (head === "uniform") return numberOption(low + share * (high - low), low + share * (high - low), call);
    const exponent = Math.log10(low) + share * (Math.log10(high) - Math.log10(low));
    return numberOption(10 ** exponent, exponent, call);
  });
}

/** A number as people write it: four digits are more than a learning rate needs. */
function numberOption(value: number, onScale: number, { start, end }: Node): Written {
  const rounded = Number(value.toPrecision(4));
  const text = String(rounded);
  return { expr: { kind: "Number", text, value: rounded, start, end }, text, value: onScale };
}

function numberOf(expr: Expr, context: Context): number {
  const value = evaluate(expr, context);
  return typeof value === "number"
    ? value
    : fail(context, "E0804", `a range runs over numbers, this is ${describe(value)}`, expr);
}

function wholeOf(expr: Expr, context: Context): number {
  const value = numberOf(expr, context);
  return Number.isSafeInteger(value) ? value : fail(context, "E0804", `${value} is no whole number`, expr);
}

/** `@conv3` for a position that stands for `node`. */
function positionAt(path: string, { start, end }: Node): Expr {
  const segments = path.split(".").map((segment) => {
    const [, name = segment, index] = /^(.*?)(?:\[(\d+)\])?$/.exec(segment) ?? [];
    const at: Expr | undefined =
      index === undefined ? undefined : { kind: "Number", text: index, value: Number(index), start, end };
    return { name, index: at, start, end };
  });
  return { kind: "PositionLit", path: { kind: "Path", segments, start, end }, start, end };
}

// ------------------------------------------------------------------------------------------------------------- subsets

function readSubsets(
  name: string,
  call: Call,
  factors: Factor[],
  between: PositionsBetween,
  context: Context,
): Domain & { readonly kind: "subset" } {
  const [of, size, ...more] = call.args;
  const usage = "`subsets(@conv1..@conv5, size=1..3)`";
  if (of === undefined || of.name !== undefined || more.length > 0)
    return fail(context, "E0804", "`subsets` takes a set, and the sizes of its subsets if not all", call, {
      helps: [usage],
    });
  if (size?.name !== undefined && size.name.name !== "size")
    return fail(context, "E0804", `\`subsets\` has no parameter \`${size.name.name}\``, size.name, { helps: [usage] });
  const written = optionsOf(of.value, between, context);
  const [least, most] = size === undefined ? [0, written.length] : sizesOf(size.value, written.length, context);
  const inside = written.find(({ expr }) => setsIn(expr).length > 0 || expr.kind === "None");
  if (inside !== undefined)
    return fail(context, "E0804", "members of subsets are chosen or not, and nothing is chosen within them", call, {
      notes: [`\`${inside.text}\` is one`],
    });
  const factor = factors.length;
  for (const { text } of written)
    factors.push({
      name: `${name}.${text.replace(/^@/, "")}`,
      kind: "member",
      optional: true,
      levels: ["", text],
      values: undefined,
    });
  return { kind: "subset", factor, options: written.map((option) => ({ ...option, nested: [] })), least, most };
}

function sizesOf(expr: Expr, count: number, context: Context): readonly [number, number] {
  const [least, most] =
    expr.kind === "Range"
      ? [wholeOf(expr.from, context), wholeOf(expr.to, context)]
      : [wholeOf(expr, context), wholeOf(expr, context)];
  if (least < 0 || most < least) fail(context, "E0804", "no subset has such a size", expr);
  if (least > count) fail(context, "E0804", `the set has ${count} members, and the least size is ${least}`, expr);
  return [least, Math.min(most, count)];
}
