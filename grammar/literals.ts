/**
 * Values of literals: numbers with their suffixes, sizes, strings with their escapes.
 *
 * In comes the text of one token as the lexer matched it, out comes what it stands for. What cannot be given a value
 * (an integer too large to be exact, an unknown escape) is said in the result; the caller makes the message.
 */

/** Decimal suffixes count things (`300M` parameters, `7B`), byte suffixes count bytes, time is in seconds. */
const SUFFIXES: Readonly<Record<string, number>> = {
  k: 1e3,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  B: 1e9,
  T: 1e12,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  s: 1,
  ms: 1e-3,
  us: 1e-6,
};

/** The value of a number such as `138_357_544`, `1e-3`, `300M` or `2ms`; NaN if `text` is no number. */
export function numberValue(text: string): number {
  const match = /^([\d_.]+(?:[eE][+-]?\d+)?)([A-Za-z]*)$/.exec(text);
  const suffix = match?.[2] ?? "";
  const scale = suffix === "" ? 1 : (SUFFIXES[suffix] ?? Number.NaN);
  const digits = Number((match?.[1] ?? "NaN").replaceAll("_", ""));
  // Dividing keeps `3ms` at exactly 0.003, where multiplying by 1e-3 would not.
  return scale < 1 ? digits / Math.round(1 / scale) : digits * scale;
}

/** True for an integer literal that a 64-bit float cannot hold exactly, and for anything infinite. */
export function isInexact(text: string, value: number): boolean {
  return value === Number.POSITIVE_INFINITY || (/^[\d_]+$/.test(text) && !Number.isSafeInteger(value));
}

/** The numbers of a size: `3x3` gives `[3, 3]`. */
export function sizeValues(text: string): readonly number[] {
  return text.split(/[x\u00d7]/).map(Number);
}

/** A string's contents, and the ranges (relative to the opening quote) of escapes that mean nothing. */
export interface StringValue {
  readonly value: string;
  readonly badEscapes: readonly { readonly start: number; readonly end: number }[];
}

const ESCAPES: Readonly<Record<string, string>> = { '"': '"', "\\": "\\", n: "\n", t: "\t" };

/** Resolves the escapes of `image`, a string token with both its quotes. */
export function stringValue(image: string): StringValue {
  const inside = image.slice(1, -1);
  if (!inside.includes("\\")) return { value: inside, badEscapes: [] };
  const badEscapes: { start: number; end: number }[] = [];
  const value = inside.replace(
    /\\(?:u\{([0-9A-Fa-f]{1,6})\}|([^]))/g,
    (whole: string, hex: string | undefined, one: string | undefined, at: number) => {
      const point = hex === undefined ? undefined : Number.parseInt(hex, 16);
      if (point !== undefined && point <= 0x10ffff) return String.fromCodePoint(point);
      const plain = one === undefined ? undefined : ESCAPES[one];
      if (plain !== undefined) return plain;
      badEscapes.push({ start: 1 + at, end: 1 + at + whole.length });
      return whole;
    },
  );
  return { value, badEscapes };
}
