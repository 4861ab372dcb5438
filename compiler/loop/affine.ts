/**
 * Quasi-affine index expressions: sums of axes times constants, with floor division and remainder by constants.
 *
 * In: the index arithmetic of views, reshapes, strides and windows. Out: one normal form (terms sorted, merged, none
 * zero; operands of div and mod reduced as far as the axis sizes allow), so that equal expressions have equal keys and
 * most divisions vanish. Division rounds towards -∞ and a remainder is never negative.
 *
 * Every function that may simplify takes `sizes`, the extents of the axes: axis i runs over 0 <= a_i < sizes[i].
 */
import type { Affine, Atom, Guard } from "./loops.ts";

type Term = Affine["terms"][number];

/** Closed interval of integers. */
export interface Interval {
  readonly min: number;
  readonly max: number;
}

// ------------------------------------------------------------------------------------------------------- construction

export function constant(value: number): Affine {
  return { terms: [], constant: value };
}

/** `coefficient · axis`. */
export function axis(index: number, coefficient = 1): Affine {
  return { terms: coefficient === 0 ? [] : [{ coefficient, atom: { kind: "axis", axis: index } }], constant: 0 };
}

export function add(...parts: readonly Affine[]): Affine {
  let [sum = constant(0)] = parts;
  for (let i = 1; i < parts.length; i++) sum = join(sum, parts[i] ?? constant(0));
  return sum;
}

/** The sum of two normal forms: their terms are in order already, and most are axes. */
function join(a: Affine, b: Affine): Affine {
  const value = a.constant + b.constant;
  if (b.terms.length === 0) return value === a.constant ? a : { terms: a.terms, constant: value };
  if (a.terms.length === 0) return value === b.constant ? b : { terms: b.terms, constant: value };
  const terms: Term[] = [];
  let [i, j] = [0, 0];
  for (;;) {
    const [left, right] = [a.terms[i], b.terms[j]];
    if (left === undefined || right === undefined) break;
    const order = compareAtoms(left.atom, right.atom);
    if (order < 0) terms.push(left);
    else if (order > 0) terms.push(right);
    else {
      const coefficient = left.coefficient + right.coefficient;
      if (coefficient !== 0) terms.push({ coefficient, atom: left.atom });
    }
    if (order <= 0) i++;
    if (order >= 0) j++;
  }
  return { terms: [...terms, ...a.terms.slice(i), ...b.terms.slice(j)], constant: value };
}

export function scale(e: Affine, by: number): Affine {
  if (by === 0) return constant(0);
  if (by === 1) return e;
  return {
    terms: e.terms.map(({ coefficient, atom }) => ({ coefficient: coefficient * by, atom })),
    constant: e.constant * by + 0, // never -0
  };
}

/** `e / by`, where `by` divides every number in `e`. */
function divide(e: Affine, by: number): Affine {
  return {
    terms: e.terms.map(({ coefficient, atom }) => ({ coefficient: coefficient / by, atom })),
    constant: e.constant / by + 0,
  };
}

/** Axes first, by number, then divisions by their keys. */
function compareAtoms(a: Atom, b: Atom): number {
  if (a === b) return 0;
  if (a.kind === "axis" || b.kind === "axis") return rank(a) - rank(b);
  const [s, t] = [atomKey(a), atomKey(b)];
  return s < t ? -1 : s > t ? 1 : 0;
}

function rank(atom: Atom): number {
  return atom.kind === "axis" ? atom.axis : Number.MAX_SAFE_INTEGER;
}

// ---------------------------------------------------------------------------------------------------------- inspection

const keys = new WeakMap<Affine, string>();

/** Equal for equal expressions. */
export function key(e: Affine): string {
  let text = keys.get(e);
  if (text === undefined) {
    text = `${e.terms.map(({ coefficient, atom }) => `${coefficient}*${atomKey(atom)}+`).join("")}${e.constant}`;
    keys.set(e, text);
  }
  return text;
}

function atomKey(atom: Atom): string {
  return atom.kind === "axis" ? `a${atom.axis}` : `(${key(atom.of)})${atom.kind === "div" ? "/" : "%"}${atom.by}`;
}

export function equal(a: Affine, b: Affine): boolean {
  return a === b || key(a) === key(b);
}

/** The axis that `e` is, exactly; undefined if it is anything else. */
export function asAxis(e: Affine): number | undefined {
  const [term] = e.terms;
  const plain = e.terms.length === 1 && e.constant === 0 && term?.coefficient === 1 && term.atom.kind === "axis";
  return plain && term.atom.kind === "axis" ? term.atom.axis : undefined;
}

/** Whether `e` has neither division nor remainder. */
export function isLinear(e: Affine): boolean {
  return e.terms.every(({ atom }) => atom.kind === "axis");
}

/** The axes that occur in `e`, also inside divisions, ascending. */
export function axesOf(e: Affine): readonly number[] {
  // A linear expression in normal form has its axes in order already.
  const plain: number[] = [];
  for (const { atom } of e.terms) if (atom.kind === "axis") plain.push(atom.axis);
  if (plain.length === e.terms.length) return plain;
  const found = new Set<number>();
  const visit = (part: Affine): void => {
    for (const { atom } of part.terms) {
      if (atom.kind === "axis") found.add(atom.axis);
      else visit(atom.of);
    }
  };
  visit(e);
  return [...found].sort((a, b) => a - b);
}

function mentions(e: Affine, index: number): boolean {
  return e.terms.some(({ atom }) => (atom.kind === "axis" ? atom.axis === index : mentions(atom.of, index)));
}

/** `e`'s change when the axis grows by one; undefined if the axis occurs inside a division or remainder. */
export function strideOf(e: Affine, index: number): number | undefined {
  let stride = 0;
  for (const { coefficient, atom } of e.terms) {
    if (atom.kind !== "axis") {
      if (mentions(atom.of, index)) return undefined;
    } else if (atom.axis === index) stride = coefficient;
  }
  return stride;
}

/** An expression equal to `e` modulo 2^32 whose numbers fit an i32, for arithmetic that wraps. */
export function wrapped(e: Affine): Affine {
  if ([e.constant, ...e.terms.map((term) => term.coefficient)].every((value) => value === (value | 0))) return e;
  return {
    terms: e.terms.map(({ coefficient, atom }) => ({ coefficient: coefficient | 0, atom })),
    constant: e.constant | 0,
  };
}

export function evaluate(e: Affine, point: readonly number[]): number {
  let sum = e.constant;
  for (const { coefficient, atom } of e.terms) sum += coefficient * evaluateAtom(atom, point);
  return sum;
}

function evaluateAtom(atom: Atom, point: readonly number[]): number {
  if (atom.kind === "axis") {
    const at = point[atom.axis];
    if (at === undefined) throw new Error(`internal: axis ${atom.axis} has no value`);
    return at;
  }
  const quotient = Math.floor(evaluate(atom.of, point) / atom.by);
  return atom.kind === "div" ? quotient : evaluate(atom.of, point) - atom.by * quotient;
}

/** The least interval that interval arithmetic finds for `e`. */
export function bounds(e: Affine, sizes: readonly number[]): Interval {
  let min = e.constant;
  let max = e.constant;
  for (const { coefficient, atom } of e.terms) {
    const inner = atomBounds(atom, sizes);
    min += coefficient * (coefficient > 0 ? inner.min : inner.max);
    max += coefficient * (coefficient > 0 ? inner.max : inner.min);
  }
  return { min, max };
}

function atomBounds(atom: Atom, sizes: readonly number[]): Interval {
  if (atom.kind === "axis") {
    const size = sizes[atom.axis];
    if (size === undefined) throw new Error(`internal: axis ${atom.axis} has no size`);
    return { min: 0, max: size - 1 };
  }
  if (atom.kind === "mod") return { min: 0, max: atom.by - 1 };
  const inner = bounds(atom.of, sizes);
  return { min: Math.floor(inner.min / atom.by), max: Math.floor(inner.max / atom.by) };
}

/**
 * Bounds of `e` at the points where every guard holds. A guard helps when a multiple of its whole index occurs in `e`,
 * which is how padded windows are read, through any layout.
 */
export function boundsUnder(e: Affine, guards: readonly Guard[], sizes: readonly number[]): Interval {
  let rest = e;
  let min = 0;
  let max = 0;
  for (const { index, size } of guards) {
    const [lead] = index.terms;
    if (lead === undefined) continue;
    const found = rest.terms.find((term) => atomKey(term.atom) === atomKey(lead.atom));
    const times = (found?.coefficient ?? 0) / lead.coefficient;
    if (times === 0 || !Number.isInteger(times)) continue;
    const without = add(rest, scale(index, -times));
    if (without.terms.length !== rest.terms.length - index.terms.length) continue;
    rest = without;
    min += Math.min(0, times * (size - 1));
    max += Math.max(0, times * (size - 1));
  }
  const left = bounds(rest, sizes);
  const plain = bounds(e, sizes);
  return { min: Math.max(plain.min, min + left.min), max: Math.min(plain.max, max + left.max) };
}

// --------------------------------------------------------------------------------------------------- division, remainder

/** ⌊e / by⌋, simplified. */
export function floorDiv(e: Affine, by: number, sizes: readonly number[]): Affine {
  if (by === 1) return e;
  const { multiple, rest } = extract(e, by);
  const quotient = divide(multiple, by);
  const { min, max } = bounds(rest, sizes);
  if (Math.floor(min / by) === Math.floor(max / by)) return add(quotient, constant(Math.floor(min / by)));
  const fine = separate(rest, by, sizes);
  if (fine !== undefined) return add(quotient, floorDiv(fine.coarse, by / fine.unit, sizes));
  const [only] = rest.terms;
  if (rest.terms.length === 1 && only?.coefficient === 1) {
    // ⌊(⌊x/a⌋ + c) / by⌋ = ⌊(x + a·c) / (a·by)⌋, and ⌊(x mod a)/by⌋ = ⌊x/by⌋ mod (a/by) where by divides a.
    const { atom } = only;
    if (atom.kind === "div") {
      const inner = add(atom.of, constant(atom.by * rest.constant));
      return add(quotient, floorDiv(inner, atom.by * by, sizes));
    }
    if (atom.kind === "mod" && rest.constant === 0 && atom.by % by === 0) {
      return add(quotient, mod(floorDiv(atom.of, by, sizes), atom.by / by, sizes));
    }
  }
  return add(quotient, { terms: [{ coefficient: 1, atom: { kind: "div", of: rest, by } }], constant: 0 });
}

/** e mod by, in [0, by), simplified. */
export function mod(e: Affine, by: number, sizes: readonly number[]): Affine {
  if (by === 1) return constant(0);
  const flat = flattenMods(e, by);
  const { rest } = extract(flat, by);
  const { min, max } = bounds(rest, sizes);
  if (Math.floor(min / by) === Math.floor(max / by)) return add(rest, constant(-by * Math.floor(min / by)));
  const fine = separate(rest, by, sizes);
  if (fine !== undefined) return add(scale(mod(fine.coarse, by / fine.unit, sizes), fine.unit), fine.remainder);
  return { terms: [{ coefficient: 1, atom: { kind: "mod", of: rest, by } }], constant: 0 };
}

/** e = multiple + rest, where every number in `multiple` is divisible by `by` and rest's constant is in [0, by). */
function extract(e: Affine, by: number): { readonly multiple: Affine; readonly rest: Affine } {
  const whole = by * Math.floor(e.constant / by);
  return {
    multiple: { terms: e.terms.filter((term) => term.coefficient % by === 0), constant: whole },
    rest: { terms: e.terms.filter((term) => term.coefficient % by !== 0), constant: e.constant - whole },
  };
}

/**
 * e = unit · coarse + remainder with 0 <= remainder < unit and unit a divisor of `by`: then ⌊e/by⌋ is
 * ⌊coarse/(by/unit)⌋, and e mod by is unit · (coarse mod by/unit) + remainder.
 */
function separate(
  e: Affine,
  by: number,
  sizes: readonly number[],
): { readonly unit: number; readonly coarse: Affine; readonly remainder: Affine } | undefined {
  const units = [...new Set(e.terms.map((term) => gcd(Math.abs(term.coefficient), by)))].sort((a, b) => b - a);
  for (const unit of units) {
    if (unit === 1) continue;
    const { multiple, rest } = extract(e, unit);
    const { min, max } = bounds(rest, sizes);
    if (min >= 0 && max < unit) return { unit, coarse: divide(multiple, unit), remainder: rest };
  }
  return undefined;
}

/** Replaces c·(x mod a) by c·x where by divides c·a, which changes nothing modulo `by`. */
function flattenMods(e: Affine, by: number): Affine {
  const inner = e.terms.findIndex(({ coefficient, atom }) => atom.kind === "mod" && (coefficient * atom.by) % by === 0);
  const term = e.terms[inner];
  if (term === undefined || term.atom.kind !== "mod") return e;
  const others = { terms: e.terms.filter((_, i) => i !== inner), constant: e.constant };
  return flattenMods(add(others, scale(term.atom.of, term.coefficient)), by);
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

// ------------------------------------------------------------------------------------------------ whole expressions

/**
 * Joins what divisions have torn apart: `c·k·⌊e/k⌋ + c·(e mod k)` is `c·e`, and
 * `c·k·(⌊e/k⌋ mod j) + c·(e mod k)` is `c·(e mod k·j)`.
 */
export function collapse(e: Affine, sizes: readonly number[]): Affine {
  let current = e;
  for (;;) {
    const next = collapseOnce(current, sizes);
    if (next === undefined) return current;
    current = next;
  }
}

function collapseOnce(e: Affine, sizes: readonly number[]): Affine | undefined {
  if (isLinear(e)) return undefined;
  for (const term of e.terms) {
    const { coefficient, atom } = term;
    if (atom.kind !== "mod") continue;
    const quotient = floorDiv(atom.of, atom.by, sizes);
    const without = add(e, { terms: [{ ...term, coefficient: -coefficient }], constant: 0 });
    const joined = add(without, scale(quotient, -coefficient * atom.by), scale(atom.of, coefficient));
    if (weight(joined) < weight(e) && within(bounds(joined, sizes), bounds(e, sizes))) return joined;
    for (const upper of without.terms) {
      if (upper.atom.kind !== "mod" || upper.coefficient !== coefficient * atom.by) continue;
      if (!equal(upper.atom.of, quotient)) continue;
      const rest = add(without, { terms: [{ ...upper, coefficient: -upper.coefficient }], constant: 0 });
      return add(rest, scale(mod(atom.of, atom.by * upper.atom.by, sizes), coefficient));
    }
  }
  return undefined;
}

/** Joining must not lose the proof that an index is in bounds. */
function within(inner: Interval, outer: Interval): boolean {
  return inner.min >= outer.min && inner.max <= outer.max;
}

/** Number of divisions and remainders. */
function weight(e: Affine): number {
  return e.terms.reduce((sum, { atom }) => sum + (atom.kind === "axis" ? 0 : 1 + weight(atom.of)), 0);
}

/**
 * `e` with `replacements[i]` in place of axis i, simplified for the axes of the replacements.
 * @param sizes extents of the axes that the replacements are written in
 */
export function substitute(e: Affine, replacements: readonly Affine[], sizes: readonly number[]): Affine {
  let sum = constant(e.constant);
  for (const { coefficient, atom } of e.terms) {
    sum = join(sum, scale(substituteAtom(atom, replacements, sizes), coefficient));
  }
  return collapse(sum, sizes);
}

function substituteAtom(atom: Atom, replacements: readonly Affine[], sizes: readonly number[]): Affine {
  switch (atom.kind) {
    case "axis": {
      const replacement = replacements[atom.axis];
      if (replacement === undefined) throw new Error(`internal: axis ${atom.axis} has no replacement`);
      return replacement;
    }
    case "div":
      return floorDiv(substitute(atom.of, replacements, sizes), atom.by, sizes);
    case "mod":
      return mod(substitute(atom.of, replacements, sizes), atom.by, sizes);
    default:
      return atom satisfies never;
  }
}

/** The row-major position of `index`, which lies inside, in a box of these extents. */
export function flatten(index: readonly Affine[], extents: readonly number[], sizes: readonly number[]): Affine {
  let sum = constant(0);
  index.forEach((part, d) => {
    const extent = extents[d] ?? 1;
    if (extent > 1) sum = add(scale(sum, extent), part);
  });
  return collapse(sum, sizes);
}

/** The coordinates, in a box of these extents, of the row-major position `flat`. */
export function unflatten(flat: Affine, extents: readonly number[], sizes: readonly number[]): readonly Affine[] {
  const index: Affine[] = [];
  let rest = flat;
  for (let d = extents.length - 1; d > 0; d--) {
    const extent = extents[d] ?? 1;
    index.unshift(mod(rest, extent, sizes));
    rest = floorDiv(rest, extent, sizes);
  }
  if (extents.length > 0) index.unshift(extents[0] === 1 ? constant(0) : rest);
  return index;
}
