/**
 * Sizes: how long an axis is, as a number or as a symbol that stays open.
 *
 * A size that is not a number is a polynomial with integer coefficients over atoms. An atom is a name (`H`), a part of a
 * name that a fact makes whole (`where H % 32 == 0` gives the atom `H / 32`), or a floor `⌊p / k⌋` that no rule could
 * remove. Every function here returns the normal form, so that two sizes are equal exactly if their forms are: terms
 * merged and sorted, no zero coefficients, floors with everything exact split off. A polynomial without atoms is a plain
 * number, never a `Poly`.
 *
 * What cannot be decided in this form (is `⌊H / 2⌋ + ⌊W / 2⌋` equal to `⌊(H + W) / 2⌋`?) counts as different; whoever asks
 * turns that into a message that offers a `where` fact. Specification: specs/language.md, "Types and shapes".
 */

export type Size = number | Poly;

/** A polynomial of at least one atom, in normal form. Made by the functions of this file only. */
export interface Poly {
  /** Higher degree first, then by the atoms' keys; the constant, of degree 0, is last. */
  readonly terms: readonly Term[];
  /** Equal keys mean equal polynomials. */
  readonly key: string;
}

interface Term {
  readonly coefficient: number;
  /** Sorted by key; an atom to the third power is there three times. */
  readonly atoms: readonly Atom[];
}

type Atom = NameAtom | FloorAtom;

/** `name / by`, an integer because of a fact; `by` is 1 for the name itself. */
interface NameAtom {
  readonly kind: "name";
  readonly name: string;
  readonly by: number;
  readonly key: string;
}

/** `⌊of / by⌋` with `by` at least 2. */
interface FloorAtom {
  readonly kind: "floor";
  readonly of: Poly;
  readonly by: number;
  readonly key: string;
}

/** The size called `n`. With `multipleOf`, for a fact `n % multipleOf == 0`: then `n` is `multipleOf · (n / multipleOf)`. */
export function name(n: string, multipleOf = 1): Poly {
  const atom: NameAtom = { kind: "name", name: n, by: multipleOf, key: multipleOf === 1 ? n : `${n}/${multipleOf}` };
  return poly([{ coefficient: multipleOf, atoms: [atom] }]);
}

export function isKnown(s: Size): s is number {
  return typeof s === "number";
}

/** Whether `a` and `b` are the same for every value of their names. False also where that cannot be decided. */
export function equal(a: Size, b: Size): boolean {
  return typeof a === "number" || typeof b === "number" ? a === b : a.key === b.key;
}

export function add(a: Size, b: Size): Size {
  return typeof a === "number" && typeof b === "number" ? a + b : collect([...termsOf(a), ...termsOf(b)]);
}

export function sub(a: Size, b: Size): Size {
  return add(a, mul(b, -1));
}

export function mul(a: Size, b: Size): Size {
  if (typeof a === "number" && typeof b === "number") return a * b + 0; // + 0: never -0
  return collect(termsOf(a).flatMap((s) => termsOf(b).map((t) => timesTerm(s, t))));
}

/** The product of `sizes`; 1 for none. */
export function product(sizes: readonly Size[]): Size {
  return sizes.reduce(mul, 1);
}

/**
 * `a / b` if `b` divides `a` as a polynomial, else undefined. `undefined` says "not in this form", not "never": nobody
 * knows whether 3 divides `H`. Undefined also for a `b` of 0.
 */
export function divExact(a: Size, b: Size): Size | undefined {
  if (b === 0) return undefined;
  const [lead] = termsOf(b);
  if (lead === undefined) return undefined;
  // Long division: the order of terms is a monomial order, so the first term of `a` must be a multiple of the first of `b`.
  let rest = a;
  const quotient: Term[] = [];
  while (rest !== 0) {
    const [first] = termsOf(rest);
    const q = first === undefined ? undefined : divideTerm(first, lead);
    if (q === undefined) return undefined;
    quotient.push(q);
    rest = sub(rest, collect(termsOf(b).map((t) => timesTerm(q, t))));
  }
  return collect(quotient);
}

/** `⌊a / k⌋`. Undefined if `k` is a number below 1 or a symbol that does not divide `a`. */
export function floorDiv(a: Size, k: Size): Size | undefined {
  if (typeof k !== "number") return divExact(a, k);
  if (!Number.isInteger(k) || k < 1) return undefined;
  return typeof a === "number" ? Math.floor(a / k) : floorOf(a, k);
}

/** `a - k · ⌊a / k⌋`, never negative. Undefined where `floorDiv` is. */
export function mod(a: Size, k: Size): Size | undefined {
  const quotient = floorDiv(a, k);
  return quotient === undefined ? undefined : sub(a, mul(quotient, k));
}

/** The names that a person would have to fix to make `s` a number. */
export function freeNames(s: Size): ReadonlySet<string> {
  return new Set(factsOf(s).keys());
}

/** The names in `s`, each with the number that facts say divides it (1 if none does). */
export function factsOf(s: Size): ReadonlyMap<string, number> {
  const facts = new Map<string, number>();
  const note = (n: string, by: number): void => {
    const before = facts.get(n) ?? 1;
    facts.set(n, (before / gcd(before, by)) * by);
  };
  for (const atom of termsOf(s).flatMap((t) => t.atoms)) {
    if (atom.kind === "name") note(atom.name, atom.by);
    else for (const [n, by] of factsOf(atom.of)) note(n, by);
  }
  return facts;
}

/**
 * `s` with names replaced. Names that `env` lacks stay open. A value that breaks a fact (`H = 225` where `H % 32 == 0`)
 * is the caller's to refuse, by `factsOf`.
 */
export function substitute(s: Size, env: ReadonlyMap<string, Size>): Size {
  if (typeof s === "number") return s;
  const value = (atom: Atom): Size => {
    if (atom.kind === "floor") return divideByNumber(substitute(atom.of, env), atom.by);
    const bound = env.get(atom.name);
    return bound === undefined ? poly([{ coefficient: 1, atoms: [atom] }]) : divideByNumber(bound, atom.by);
  };
  return s.terms.map((t) => mul(t.coefficient, product(t.atoms.map(value)))).reduce(add, 0);
}

/** As a person would write it: `16`, `2 * L`, `H / 32`, `⌊(H + 1) / 2⌋`. */
export function showSize(s: Size): string {
  if (typeof s === "number") return String(s);
  return s.terms
    .map((t, i) => {
      const sign = t.coefficient < 0 ? (i === 0 ? "-" : " - ") : i === 0 ? "" : " + ";
      return sign + showTerm(t);
    })
    .join("");
}

/** `[N, 3, H / 2, 224]`. */
export function showShape(shape: readonly Size[]): string {
  return `[${shape.map(showSize).join(", ")}]`;
}

// ------------------------------------------------------------------------------------------------------ the normal form

function poly(terms: readonly Term[]): Poly {
  return { terms, key: terms.map((t) => `${t.coefficient}·${monomialKey(t)}`).join("+") };
}

function monomialKey(t: Term): string {
  return t.atoms.map((a) => a.key).join("·");
}

function termsOf(s: Size): readonly Term[] {
  if (typeof s !== "number") return s.terms;
  return s === 0 ? [] : [{ coefficient: s, atoms: [] }];
}

/** Terms in any order, with repetitions, to a size. */
function collect(terms: readonly Term[]): Size {
  const merged = new Map<string, Term>();
  for (const t of terms) {
    const key = monomialKey(t);
    merged.set(key, { coefficient: t.coefficient + (merged.get(key)?.coefficient ?? 0), atoms: t.atoms });
  }
  const kept = [...merged.values()].filter((t) => t.coefficient !== 0).sort(compareTerms);
  const [first] = kept;
  if (first === undefined) return 0;
  return first.atoms.length === 0 ? first.coefficient : poly(kept);
}

/** Graded lexicographic order, the greatest first: by degree, then by the first atom that differs. */
function compareTerms(s: Term, t: Term): number {
  if (s.atoms.length !== t.atoms.length) return t.atoms.length - s.atoms.length;
  for (const [i, a] of s.atoms.entries()) {
    const order = compareAtoms(a, t.atoms[i] ?? a);
    if (order !== 0) return order;
  }
  return 0;
}

function compareAtoms(a: Atom, b: Atom): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

function timesTerm(s: Term, t: Term): Term {
  return { coefficient: s.coefficient * t.coefficient, atoms: [...s.atoms, ...t.atoms].sort(compareAtoms) };
}

function divideTerm(s: Term, t: Term): Term | undefined {
  if (s.coefficient % t.coefficient !== 0) return undefined;
  const atoms = [...s.atoms];
  for (const atom of t.atoms) {
    const at = atoms.findIndex((a) => a.key === atom.key);
    if (at < 0) return undefined;
    atoms.splice(at, 1);
  }
  return { coefficient: s.coefficient / t.coefficient, atoms };
}

/** Division by a constant that is known to be positive. */
function divideByNumber(a: Size, k: number): Size {
  return typeof a === "number" ? Math.floor(a / k) : floorOf(a, k);
}

/**
 * `⌊p / k⌋` in normal form. Every coefficient is split as `q·k + r` with `0 <= r < k`; the `q` leave the floor. What stays
 * is reduced by the common divisor of `k` and its coefficients (`⌊(2h + 1) / 4⌋ = ⌊h / 2⌋`), and a floor inside is
 * opened (`⌊(⌊H / 2⌋ + 1) / 2⌋ = ⌊(H + 2) / 4⌋`).
 */
function floorOf(p: Poly, k: number): Size {
  const whole: Term[] = [];
  const rest: Term[] = [];
  for (const t of p.terms) {
    const q = Math.floor(t.coefficient / k);
    whole.push({ coefficient: q, atoms: t.atoms });
    rest.push({ coefficient: t.coefficient - q * k, atoms: t.atoms });
  }
  const exact = collect(whole);
  const inside = collect(rest);
  if (typeof inside === "number") return exact; // 0 <= inside < k
  const common = inside.terms.filter((t) => t.atoms.length > 0).reduce((g, t) => gcd(g, t.coefficient), k);
  if (common > 1) {
    const reduced = collect(inside.terms.map((t) => ({ ...t, coefficient: Math.floor(t.coefficient / common) })));
    return add(exact, divideByNumber(reduced, k / common));
  }
  for (const t of inside.terms) {
    const [atom] = t.atoms;
    if (t.coefficient !== 1 || t.atoms.length !== 1 || atom?.kind !== "floor") continue;
    const others = collect(inside.terms.filter((other) => other !== t));
    return add(exact, divideByNumber(add(atom.of, mul(others, atom.by)), k * atom.by));
  }
  const atom: FloorAtom = { kind: "floor", of: inside, by: k, key: `⌊${inside.key}/${k}⌋` };
  return add(exact, poly([{ coefficient: 1, atoms: [atom] }]));
}

// ----------------------------------------------------------------------------------------------------------- for people

/** Without its sign. Parts of names are gathered: 16 · (H / 32) is `H / 2`. */
function showTerm(t: Term): string {
  let numerator = Math.abs(t.coefficient);
  let denominator = 1;
  for (const atom of t.atoms) if (atom.kind === "name") denominator *= atom.by;
  const common = gcd(numerator, denominator);
  numerator /= common;
  denominator /= common;
  const factors = t.atoms.map((a) => (a.kind === "name" ? a.name : showFloor(a)));
  if (numerator !== 1 || factors.length === 0) factors.unshift(String(numerator));
  return factors.join(" * ") + (denominator === 1 ? "" : ` / ${denominator}`);
}

function showFloor(atom: FloorAtom): string {
  const inside = showSize(atom.of);
  return `⌊${/[ /]/.test(inside) ? `(${inside})` : inside} / ${atom.by}⌋`;
}

function gcd(a: number, b: number): number {
  return b === 0 ? Math.abs(a) : gcd(b, a % b);
}
