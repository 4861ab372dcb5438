/**
 * `rearrange(x, "n (h d) t -> n h t d", h=8)`: axes split, put in order and joined, as an einops pattern says
 * (Rogozhnikov 2022). It becomes a reshape, a permutation and a reshape, each left out where it changes nothing.
 */

import { showType } from "../graph/shapes.ts";
import { divExact, equal, isKnown, product, type Size, showShape, showSize } from "../size.ts";
import { type Draft, emit } from "./draft.ts";
import { fail } from "./failure.ts";
import type { Use } from "./types.ts";
import { isSize, sizeOf, type Value } from "./values.ts";

/** `n (h d) t` as groups of names. `1` and `()` are axes of one element. */
function groupsOf(side: string): readonly (readonly string[])[] {
  return [...side.matchAll(/\(([^()]*)\)|([^\s()]+)/g)].map(([, inside, alone]) => {
    const names = inside === undefined ? [alone ?? ""] : inside.trim().split(/\s+/);
    return names.filter((name) => name !== "" && name !== "1");
  });
}

/** @returns the rearranged tensor; sizes the pattern does not settle are E0303 to E0305. */
export function rearrange(x: Draft, pattern: string, given: ReadonlyMap<string, Value>, use: Use): Draft {
  const { context, node } = use;
  const sides = pattern.split("->");
  const [left, right] = sides;
  if (left === undefined || right === undefined || sides.length !== 2) {
    return fail(context, "E0303", "a pattern has an arrow: `n c h w -> n (h w) c`", node, { label: `"${pattern}"` });
  }
  const before = groupsOf(left);
  const after = groupsOf(right);
  if (before.length !== x.shape.length) {
    fail(context, "E0303", `the pattern has ${before.length} axes, the tensor has ${x.shape.length}`, node, {
      label: `"${left.trim()}" for ${showType(x)}`,
    });
  }
  const sizes = new Map<string, Size>();
  for (const [name, value] of given) {
    if (!isSize(value)) fail(context, "E0331", `\`${name}\` is a size`, node);
    sizes.set(name, sizeOf(value));
  }
  for (const [i, group] of before.entries()) settle(group, x.shape[i] ?? 1, sizes, use);
  const from = before.flat();
  const to = after.flat();
  const odd =
    from.find((name) => !to.includes(name)) ??
    to.find((name) => !from.includes(name)) ??
    [...given.keys()].find((name) => !from.includes(name));
  if (odd !== undefined || new Set(from).size !== from.length || new Set(to).size !== to.length) {
    fail(context, "E0303", "both sides of a pattern have the same axes, each once", node, {
      label: odd === undefined ? `"${pattern}"` : `\`${odd}\` is on one side only`,
    });
  }
  const sizeOfAxis = (name: string): Size => sizes.get(name) ?? 1;
  const split = reshaped(x, from.map(sizeOfAxis), use);
  const order = to.map((name) => from.indexOf(name));
  const turned = order.every((axis, i) => axis === i) ? split : emit("permute", [split], { order }, use);
  return reshaped(
    turned,
    after.map((group) => product(group.map(sizeOfAxis))),
    use,
  );
}

function reshaped(x: Draft, shape: readonly Size[], use: Use): Draft {
  const same = shape.length === x.shape.length && shape.every((size, i) => equal(size, x.shape[i] ?? -1));
  return same ? x : emit("reshape", [x], { shape }, use);
}

/** Finds the one size of a group that was not given. */
function settle(group: readonly string[], whole: Size, sizes: Map<string, Size>, use: Use): void {
  const { context, node } = use;
  const unknown = group.filter((name) => !sizes.has(name));
  if (unknown.length > 1) {
    fail(
      context,
      "E0304",
      `one axis of ${showSize(whole)} cannot be split into ${unknown.map((n) => `\`${n}\``).join(" and ")}`,
      node,
      {
        label: "all sizes but one must be given",
        helps: [`\`${unknown[0]}=…\` as an argument`],
      },
    );
  }
  const known = group.filter((name) => sizes.has(name));
  const parts = product(known.map((name) => sizes.get(name) ?? 1));
  const rest = divExact(whole, parts);
  const [only] = unknown;
  if (rest !== undefined && only !== undefined) {
    sizes.set(only, rest);
    return;
  }
  if (only === undefined && rest === 1) return;
  const text = known.map((name) => `${name}=${showSize(sizes.get(name) ?? 1)}`).join(" and ");
  if (isKnown(whole) && isKnown(parts)) {
    const quotient = Math.floor(whole / parts);
    fail(
      context,
      "E0305",
      only === undefined
        ? `an axis of ${whole} is not ${text}`
        : `an axis of size ${whole} does not split into ${text} equal parts`,
      node,
      {
        label: parts > 0 ? `${whole} = ${parts} × ${quotient} + ${whole - parts * quotient}` : showShape([whole]),
        helps: nearby(whole, parts),
      },
    );
  }
  fail(context, "E0316", `nothing says that an axis of ${showSize(whole)} splits into ${text}`, node, {
    helps: [`say it of the model: \`where ${showSize(whole)} % ${showSize(parts)} == 0\``],
  });
}

function nearby(whole: number, parts: number): readonly string[] {
  const below = countDown(whole, parts);
  const above = Array.from({ length: Math.max(0, Math.min(whole, 4 * parts) - parts) }, (_, i) => parts + 1 + i).find(
    (n) => whole % n === 0,
  );
  const counts = [below, above].filter((n) => n !== undefined);
  return counts.length === 0 ? [] : [`nearby counts that divide ${whole}: ${counts.join(", ")}`];
}

function countDown(whole: number, parts: number): number | undefined {
  for (let n = parts - 1; n > 1; n--) if (whole % n === 0) return n;
  return undefined;
}
