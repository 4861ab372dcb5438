/**
 * Kinds of values that settings of a recipe take: how each is read from an expression.
 *
 * In: an expression and the slot that it fills. Out: a typed value, or a diagnostic at the expression that says what the
 * slot takes. Numbers, texts and lists are ordinary expressions of the language (constants, parameters of the recipe,
 * arithmetic, `if`). The words of recipes, `SGD(lr=…)` or `accuracy`, are known only where a setting takes them; they are
 * no names of the language, and arguments meet their parameters here so that each keeps its place.
 */
import type { Arg, Expr, Node } from "../../grammar/ast.ts";
import { parse } from "../../grammar/parser.ts";
import { suggest } from "../../grammar/suggest.ts";
import { truth } from "../elaborate/arithmetic.ts";
import { evaluate, lookup } from "../elaborate/core.ts";
import { fail, silent, spanOf, textOf } from "../elaborate/failure.ts";
import { visibleNames } from "../elaborate/modules.ts";
import { describe } from "../elaborate/types.ts";
import { type Context, isSequence, type Value } from "../elaborate/values.ts";

/** Where a value goes. */
export interface Slot {
  readonly context: Context;
  /** As messages call it: "`momentum` of `SGD`". */
  readonly name: string;
}

export interface Kind<T> {
  /** Completes "takes …". */
  readonly what: string;
  readonly read: (expr: Expr, slot: Slot) => T;
}

/** A kind of ordinary values, which lists can be made of. */
interface Plain<T> extends Kind<T> {
  readonly of: (value: Value) => T | undefined;
}

// -------------------------------------------------------------------------------------------------------- expressions

/** The expression without parentheses, `if` decided. */
export function opened(expr: Expr, context: Context): Expr {
  if (expr.kind === "Group") return opened(expr.value, context);
  if (expr.kind === "If") {
    if (truth(expr.condition, context)) return opened(expr.then, context);
    return expr.else === undefined ? expr : opened(expr.else, context);
  }
  return expr.kind === "Error" ? silent() : expr;
}

/** `SGD` of `SGD` and `SGD(lr=1e-3)`. */
export function headOf(expr: Expr): string | undefined {
  if (expr.kind === "Name" || expr.kind === "DType") return expr.name;
  return expr.kind === "Call" ? headOf(expr.callee) : undefined;
}

function shortText(expr: Expr, context: Context): string {
  const text = textOf(context, expr);
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

/** Reports that a slot takes something else (E0703). `near` are the words among which the right one may be. */
export function refuse(
  slot: Slot,
  what: string,
  expr: Expr,
  near: Iterable<string> = [],
  { got, label = "" }: { readonly got?: string; readonly label?: string } = {},
): never {
  const { context } = slot;
  const head = headOf(expr);
  const word = head ?? (expr.kind === "String" ? expr.value : undefined);
  const guess = word === undefined ? undefined : suggest(word, near);
  const place = expr.kind === "Call" ? expr.callee : expr;
  return fail(
    context,
    "E0703",
    `${slot.name} takes ${what}, but gets ${got ?? `\`${shortText(expr, context)}\``}`,
    expr,
    {
      label,
      helps:
        guess === undefined
          ? []
          : [{ text: `did you mean \`${guess}\`?`, edits: [{ span: spanOf(context, place), replacement: guess }] }],
    },
  );
}

/** The value of an ordinary expression. A name that stands for nothing is no value of the kind wanted. */
export function valueOf(expr: Expr, slot: Slot, what: string): Value {
  const { context } = slot;
  const head = headOf(expr);
  if (head !== undefined && expr.kind !== "DType" && lookup(context, head) === undefined) {
    const locals = [...(context.locals?.names.keys() ?? [])];
    return refuse(slot, what, expr, [...locals, ...visibleNames(context.module)], {
      label: "no value has this name here",
    });
  }
  return evaluate(expr, context);
}

const defaults = new Map<string, Expr>();

/** A default, written in the language like any value. */
export function readDefault<T>(kind: Kind<T>, text: string, slot: Slot): T {
  const known = defaults.get(text);
  if (known !== undefined) return kind.read(known, slot);
  const [item] = parse({ path: "<default>", text: `const it = ${text}` }).file.items;
  if (item?.kind !== "Const") throw new Error(`internal: the default \`${text}\` is no expression`);
  defaults.set(text, item.value);
  return kind.read(item.value, slot);
}

// -------------------------------------------------------------------------------------------------------------- plain

function plain<T>(what: string, of: (value: Value) => T | undefined): Plain<T> {
  return {
    what,
    of,
    read: (expr, slot) => {
      const written = opened(expr, slot.context);
      const value = valueOf(written, slot, what);
      return of(value) ?? refuse(slot, what, written, [], isSequence(value) ? {} : { got: describe(value) });
    },
  };
}

interface Bounds {
  readonly from?: number;
  readonly above?: number;
  readonly to?: number;
  readonly below?: number;
  readonly whole?: boolean;
}

function boundsText({ from, above, to, below, whole }: Bounds): string {
  const noun = whole === true ? "a whole number" : "a number";
  if (to === undefined && below === undefined)
    return from === undefined ? (above === undefined ? noun : `${noun} above ${above}`) : `${noun} from ${from} up`;
  const low = from === undefined ? `above ${above}` : `from ${from}`;
  const high = to === undefined ? `below ${below}` : `to ${to}`;
  return `${noun} ${low} ${to === undefined && above !== undefined ? "and" : to === undefined ? "to" : ""} ${high}`.replace(
    / +/g,
    " ",
  );
}

export function number(bounds: Bounds = {}): Plain<number> {
  const { from = -Infinity, above = -Infinity, to = Infinity, below = Infinity, whole = false } = bounds;
  return plain(boundsText(bounds), (value) =>
    typeof value === "number" &&
    (whole ? Number.isSafeInteger(value) : Number.isFinite(value)) &&
    value >= from &&
    value <= to &&
    (value > above || above === -Infinity) &&
    (value < below || below === Infinity)
      ? value
      : undefined,
  );
}

export const text: Plain<string> = plain("a text", (value) =>
  typeof value === "string" && value !== "" ? value : undefined,
);

export const yesOrNo: Plain<boolean> = plain("`true` or `false`", (value) =>
  typeof value === "boolean" ? value : undefined,
);

/** One number, or height and width: `224`, `224x160`. */
export const imageSize: Plain<readonly [number, number]> = plain("a size in pixels, `224` or `224x160`", (value) => {
  const [height, width, ...more] = isSequence(value) ? value.items : [value, value];
  const side = (size: Value | undefined): size is number =>
    typeof size === "number" && Number.isSafeInteger(size) && size >= 1;
  return side(height) && side(width) && more.length === 0 ? [height, width] : undefined;
});

/** A list of ordinary values. */
export function list<T>(
  item: Plain<T>,
  what: string,
  fits: (items: readonly T[]) => boolean = () => true,
): Kind<readonly T[]> {
  return plain(what, (value) => {
    if (!isSequence(value)) return undefined;
    const items = value.items.flatMap((each) => item.of(each) ?? []);
    return items.length === value.items.length && fits(items) ? items : undefined;
  });
}

// -------------------------------------------------------------------------------------------------------- combinations

/** `kind`, or `none`. */
export function optional<T>(kind: Kind<T>): Kind<T | undefined> {
  return {
    what: `${kind.what}, or \`none\``,
    read: (expr, slot) => {
      const written = opened(expr, slot.context);
      const none = written.kind === "None" || (written.kind === "Name" && lookup(slot.context, written.name) === null);
      return none ? undefined : kind.read(written, slot);
    },
  };
}

function orText(words: readonly string[]): string {
  const quoted = words.map((word) => `\`${word}\``);
  return quoted.length === 1 ? quoted.join("") : `${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1) ?? ""}`;
}

/** One of a few bare words. A text with the word in it does as well, so that a parameter can choose. */
export function choice<W extends string>(...words: readonly W[]): Kind<W> {
  const what = orText(words);
  return {
    what,
    read: (expr, slot) => {
      const written = opened(expr, slot.context);
      const head = written.kind === "Call" ? undefined : headOf(written);
      const bare = words.find((word) => word === head);
      if (bare !== undefined) return bare;
      if (written.kind === "None") return words.find((word) => word === "none") ?? refuse(slot, what, written);
      if (head !== undefined && (written.kind === "DType" || lookup(slot.context, head) === undefined))
        return refuse(slot, what, written, words);
      const value = valueOf(written, slot, what);
      return words.find((word) => word === value) ?? refuse(slot, what, written, words, { got: describe(value) });
    },
  };
}

/** The first kind whose turn it is: `picks` says from the expression. */
export function either<A, B>(first: Kind<A>, picks: (expr: Expr) => boolean, second: Kind<B>): Kind<A | B> {
  return {
    what: `${first.what}, or ${second.what}`,
    read: (expr, slot) => {
      const written = opened(expr, slot.context);
      return picks(written) ? first.read(written, slot) : second.read(written, slot);
    },
  };
}

/** A value with its place. */
export interface Located<T> {
  readonly value: T;
  readonly at: Node;
}

/** `[a, b]`, each read by itself, or one alone. */
export function several<T>(kind: Kind<T>, what: string): Kind<readonly Located<T>[]> {
  return {
    what,
    read: (expr, slot) => {
      const written = opened(expr, slot.context);
      const items = written.kind === "List" || written.kind === "Tuple" ? written.items : [written];
      return items.map((item) => ({ value: kind.read(item, slot), at: item }));
    },
  };
}

// --------------------------------------------------------------------------------------------------------------- words

export interface Param<T> {
  readonly kind: Kind<T>;
  /** In the language; undefined: it must be given. */
  readonly otherwise: string | undefined;
}

export function required<T>(kind: Kind<T>): Param<T> {
  return { kind, otherwise: undefined };
}

export function param<T>(kind: Kind<T>, otherwise: string): Param<T> {
  return { kind, otherwise };
}

type Params = Readonly<Record<string, Param<unknown>>>;
type Args<P extends Params> = { readonly [K in keyof P]: P[K] extends Param<infer T> ? T : never };

/** The use of a word: its arguments' places, for what must be said of several of them. */
export interface Use {
  readonly context: Context;
  readonly node: Node;
  /** Where an argument stands; the whole use if it was not given. */
  readonly at: (name: string) => Node;
}

/** `SGD`, with or without arguments. */
export interface Word<T> {
  readonly name: string;
  /** `SGD(lr, momentum=0)`. */
  readonly signature: string;
  readonly read: (expr: Expr, slot: Slot) => T;
}

export function word<P extends Params, T>(name: string, params: P, make: (args: Args<P>, use: Use) => T): Word<T> {
  const shown = Object.entries(params).map(([key, { otherwise }]) =>
    otherwise === undefined ? key : `${key}=${otherwise}`,
  );
  const signature = shown.length === 0 ? name : `${name}(${shown.join(", ")})`;
  return {
    name,
    signature,
    read: (expr, { context }) => {
      const args = expr.kind === "Call" ? expr.args : [];
      const given = matchArguments(name, Object.keys(params), args, context, signature);
      const values = Object.entries(params).map(([key, { kind, otherwise }]) => {
        const arg = given.get(key);
        const slot: Slot = { context, name: `\`${key}\` of \`${name}\`` };
        if (arg !== undefined) return [key, kind.read(arg.value, slot)] as const;
        if (otherwise !== undefined) return [key, readDefault(kind, otherwise, slot)] as const;
        return fail(context, "E0403", `\`${name}\` needs \`${key}\``, expr, { label: "not given", notes: [signature] });
      });
      // Each entry was read by the parameter of its name.
      const read = Object.fromEntries(values) as Args<P>;
      return make(read, { context, node: expr, at: (key) => given.get(key)?.value ?? expr });
    },
  };
}

function matchArguments(
  name: string,
  keys: readonly string[],
  args: readonly Arg[],
  context: Context,
  signature: string,
): ReadonlyMap<string, Arg> {
  const given = new Map<string, Arg>();
  let place = 0;
  for (const arg of args) {
    const key = arg.name?.name ?? keys[place++];
    if (key === undefined) {
      const takes = keys.length === 0 ? "no arguments" : keys.length === 1 ? "1 argument" : `${keys.length} arguments`;
      fail(context, "E0401", `\`${name}\` takes ${takes}, but gets ${args.length}`, arg, {
        label: "one too many",
        notes: [signature],
      });
    }
    if (!keys.includes(key)) {
      const near = suggest(key, keys);
      const at = arg.name ?? arg;
      fail(context, "E0401", `\`${name}\` has no parameter \`${key}\``, at, {
        label: "unknown",
        notes: [signature],
        helps:
          near === undefined
            ? []
            : [{ text: `did you mean \`${near}\`?`, edits: [{ span: spanOf(context, at), replacement: near }] }],
      });
    }
    if (given.has(key)) fail(context, "E0401", `\`${key}\` is given twice`, arg, { label: "the second time" });
    given.set(key, arg);
  }
  return given;
}

/** One of several words. */
export function oneOf<T>(...words: readonly Word<T>[]): Kind<T> {
  const names = words.map(({ name }) => name);
  const what = orText(names);
  return {
    what,
    read: (expr, slot) => {
      const written = opened(expr, slot.context);
      const head = headOf(written);
      const found = words.find(({ name }) => name === head);
      return found === undefined ? refuse(slot, what, written, names) : found.read(written, slot);
    },
  };
}
