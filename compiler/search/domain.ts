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
import { namesIn } from "./substitute.ts";

/** One member of a set. */
export interface Option {
  readonly expr: Expr;
  /** As the source would write it, choices within it left as they are. */
  readonly text: string;
  /** On the scale that the set is even on, where it is ordered. */
  readonly value: number | undefined;
  /** Sets inside it: choices that exist only with it. */
  readonly nested: readonly Nested[];
  /** Earlier choices, and parameters of the search, that it names. */
  readonly uses: readonly string[];
}

export interface Nested {
  readonly node: Expr;
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
  /** One option. */
  | {
      readonly kind: "one";
      readonly factor: number;
      readonly options: readonly Option[];
      /** Whether `none` is a member; it is not among the options. */
      readonly none: boolean;
      /** Whether level 0 stands for `none`, as a member or as what a graft is in a network without. */
      readonly canBeNone: boolean;
      /** Whether there is a level 0 beside the options: `none`, or absent where a condition does not hold. */
      readonly optional: boolean;
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

const NUMBERS = ["step", "uniform", "log"];
const SETS = ["subsets", ...NUMBERS];

/** What is known where a choice is read. */
export interface Around {
  readonly between: PositionsBetween;
  /** Whether the choice is a unit, or says where one goes. */
  readonly graft: "unit" | "place" | undefined;
  /** Names of the choices before it, and of the search's parameters. */
  readonly names: ReadonlySet<string>;
}

/** Reads a choice; its factors are added to `factors`. */
export function readChoice(item: Choose, factors: Factor[], around: Around, context: Context): Choice {
  const name = item.name.name;
  const domain = item.domain.kind === "Group" ? item.domain.value : item.domain;
  if (around.graft === "place") checkPlaces(domain, context);
  if (domain.kind === "Call" && headOf(domain) === "subsets")
    return { name, item, domain: readSubsets(name, domain, factors, around.between, context) };
  const options = optionsOf(domain, around.between, context);
  const present = options.filter(({ expr }) => expr.kind !== "None");
  if (present.length === 0)
    fail(context, "E0804", `\`${name}\` has nothing to choose from`, item.domain, {
      helps: options.length > 0 ? ["`{STIA, none}`: with it, or without"] : [],
    });
  const none = present.length < options.length;
  const canBeNone = none || around.graft !== undefined;
  const optional = canBeNone || item.when !== undefined;
  const factor = factors.length;
  factors.push(factorOf(name, present, optional));
  const nested = withNested(name, present, factors, around.names, context);
  return { name, item, domain: { kind: "one", factor, options: nested, none, canBeNone, optional } };
}

/** Positions are written so, for without the mark they would be names of values. */
function checkPlaces(domain: Expr, context: Context): void {
  switch (domain.kind) {
    case "Range":
      for (const end of [domain.from, domain.to]) checkPlace(end, domain, context);
      break;
    case "Set":
      for (const item of domain.items) if (item.kind !== "None") checkPlace(item, domain, context);
      break;
    case "Call":
      if (headOf(domain) === "subsets")
        for (const { name, value } of domain.args) if (name === undefined) checkPlaces(value, context);
      break;
    default:
      break;
  }
}

function checkPlace(expr: Expr, domain: Expr, context: Context): void {
  if (expr.kind === "PositionLit" || expr.kind === "Set") return;
  const text = textOf(context, domain);
  const marked = expr.kind === "Name" || expr.kind === "Field" || expr.kind === "Index";
  fail(context, "E0804", `\`${textOf(context, expr)}\` is no position, and a graft is to be there`, expr, {
    label: "not a position",
    helps: marked ? [`\`${text.replace(/(^|[{,\s]|\.\.)(?=[A-Za-z])(?!none\b)/g, "$1@")}\``] : ["`@conv3` is one"],
  });
}

type Written = Omit<Option, "nested" | "uses">;

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
function withNested(
  name: string,
  options: readonly Written[],
  factors: Factor[],
  names: ReadonlySet<string>,
  context: Context,
): readonly Option[] {
  const heads = options.map(({ expr }) => headOf(expr) ?? "");
  return options.map((option, i) => {
    if (option.expr.kind === "Set")
      fail(context, "E0804", "a member of a set is one thing, this is a set again", option.expr, {
        helps: [
          "`subsets(@conv1..@conv5)` chooses several positions",
          "`STIA(reduction={2, 4})` chooses within a member",
        ],
      });
    const sets = setsIn(option.expr);
    const nested = sets.map(({ node, argument }, k): Nested => {
      const shared = options.some((other, j) => j !== i && setsIn(other.expr).some((s) => s.argument === argument));
      const plain = `${name}${shared ? `.${heads[i] ?? ""}` : ""}.${argument === "" ? `${k + 1}` : argument}`;
      const own = factors.some((factor) => factor.name === plain) ? `${plain}.${i + 1}.${k + 1}` : plain;
      const inside = node.kind === "Set" ? setOptions(node, context) : numbersOf(node, context);
      if (inside.some(({ expr }) => expr.kind === "Set" || setsIn(expr).length > 0))
        fail(context, "E0804", "a set within a set within a set is too deep", node, {
          helps: ["give the inner choice a name of its own: `choose r in {2, 4}`"],
        });
      const factor = factors.length;
      factors.push(factorOf(own, inside, true));
      return { node, factor, options: inside.map((each) => ({ ...each, nested: [], uses: [] })) };
    });
    return { ...option, nested, uses: namesIn(option.expr, names) };
  });
}

/** Sets in an expression, with the name of the argument they stand for. */
function setsIn(expr: Expr): readonly { readonly node: SetLit | Call; readonly argument: string }[] {
  const found: { node: SetLit | Call; argument: string }[] = [];
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

/** `{2, 4}`, and `step(2..8, 2)`; what has such a name and no range is a call like any other. */
function isSet(part: object): part is SetLit | Call {
  if (!("kind" in part)) return false;
  if (part.kind === "Set") return true;
  if (part.kind !== "Call" || !("args" in part) || !Array.isArray(part.args)) return false;
  const call = part as Call;
  return NUMBERS.includes(headOf(call) ?? "") && call.args[0]?.value.kind === "Range";
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
      if (NUMBERS.includes(headOf(domain) ?? "")) return numbersOf(domain, context);
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
  return {
    kind: "subset",
    factor,
    options: written.map((option) => ({ ...option, nested: [], uses: [] })),
    least,
    most,
  };
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
