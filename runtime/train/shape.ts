/**
 * Checks that a value read from a file has the fields that it should, and says which has not.
 *
 * In: anything that JSON gives. Out: undefined, or the first thing wrong as a sentence with the field's place:
 * "`model.layers[3].path` is missing". Fields that a shape does not name are left alone.
 */

/** Undefined if `value` fits; else what is wrong. `at` is the place of the value, empty at the top. */
export type Shape = (value: unknown, at: string) => string | undefined;

const named = (at: string): string => (at === "" ? "the value" : `\`${at}\``);

function plain(kind: string, fits: (value: unknown) => boolean): Shape {
  return (value, at) => {
    if (value === undefined) return `${named(at)} is missing`;
    return fits(value) ? undefined : `${named(at)} is not ${kind}`;
  };
}

export const text: Shape = plain("text", (value) => typeof value === "string");
export const numeral: Shape = plain("a number", (value) => typeof value === "number");
export const flag: Shape = plain("true or false", (value) => typeof value === "boolean");
/** A number from 0 to 1. */
export const share: Shape = plain(
  "a number from 0 to 1",
  (value) => typeof value === "number" && value >= 0 && value <= 1,
);

/** One of the given values. */
export function oneOf(...allowed: readonly (string | number)[]): Shape {
  return plain(`one of ${allowed.join(", ")}`, (value) => allowed.some((known) => known === value));
}

/** Absent, or of that shape. */
export function optional(shape: Shape): Shape {
  return (value, at) => (value === undefined ? undefined : shape(value, at));
}

/** Whichever of the shapes fits; where none does, what the last one says. */
export function either(...shapes: readonly Shape[]): Shape {
  return (value, at) => {
    const problems = shapes.map((shape) => shape(value, at));
    return problems.includes(undefined) ? undefined : problems.at(-1);
  };
}

/** A list whose items are of that shape. */
export function list(shape: Shape): Shape {
  return (value, at) => {
    if (value === undefined) return `${named(at)} is missing`;
    if (!Array.isArray(value)) return `${named(at)} is not a list`;
    for (const [index, item] of value.entries()) {
      const problem = shape(item, `${at}[${index}]`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object with those fields. */
export function object(fields: Readonly<Record<string, Shape>>): Shape {
  return (value, at) => {
    if (value === undefined) return `${named(at)} is missing`;
    if (!isObject(value)) return `${named(at)} is not an object`;
    for (const [name, shape] of Object.entries(fields)) {
      const problem = shape(value[name], at === "" ? name : `${at}.${name}`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

/** An object of values of one shape under any names. */
export function values(shape: Shape): Shape {
  return (value, at) => {
    if (!isObject(value)) return `${named(at)} is not an object`;
    return object(Object.fromEntries(Object.keys(value).map((name) => [name, shape])))(value, at);
  };
}

/** An object whose `kind` says which fields it has. */
export function kinds(variants: Readonly<Record<string, Readonly<Record<string, Shape>>>>): Shape {
  return (value, at) => {
    const problem = object({ kind: oneOf(...Object.keys(variants)) })(value, at);
    if (problem !== undefined || !isObject(value)) return problem;
    return object(variants[String(value["kind"])] ?? {})(value, at);
  };
}

/** The value of a text of JSON if it has the shape, else what is wrong. */
export function parse(
  line: string,
  shape: Shape,
  reviver?: (key: string, value: unknown) => unknown,
): { readonly ok: unknown } | { readonly error: string } {
  let value: unknown;
  try {
    value = JSON.parse(line, reviver);
  } catch {
    return { error: "it is not JSON" };
  }
  const problem = shape(value, "");
  return problem === undefined ? { ok: value } : { error: problem };
}
