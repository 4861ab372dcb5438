/** The options of STIA, and combinations of them: what the tests of its answers and of its gradients share. */
import { pairwise } from "./pairwise.ts";

const WORDS = {
  direction: ["both", "to_spatial", "to_temporal"],
  value: ["other", "self"],
  affinity: ["per-edge", "shared"],
  pair: ["embedded", "dot", "gaussian", "concat"],
  scale: [false, true],
  pool: ["none", "conv-pool", "pool-conv"],
  gate: ["bn0", "scalar0", "conv0"],
  tie: [false, true],
  heads: [1, 2],
  reduction: [2, 4],
} as const;

/** A value for every option. */
export type Options = ReturnType<typeof pairwise<typeof WORDS>>[number];

/** Options as the arguments of a call. */
export function argumentsOf(options: Partial<Options>): string {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${typeof value === "string" ? JSON.stringify(value) : value}`)
    .join(", ");
}

/** What STIA's own text forbids: one table of scores is for both directions, of whole maps, with weights of its own. */
export function isLegal({ affinity, pool, direction, tie }: Options): boolean {
  return affinity === "per-edge" || (pool === "none" && direction === "both" && !tie);
}

/** Combinations in which every two values of different options meet, with their arguments. */
export const LEGAL: readonly (readonly [string, Options])[] = [
  ...pairwise({ ...WORDS, affinity: ["per-edge"] as const }),
  ...pairwise({
    ...WORDS,
    direction: ["both"] as const,
    affinity: ["shared"] as const,
    pool: ["none"] as const,
    tie: [false] as const,
  }),
].map((options) => [argumentsOf(options), options] as const);

/** Arguments that no unit takes. */
export const ILLEGAL: readonly string[] = pairwise(WORDS)
  .filter((options) => !isLegal(options))
  .map(argumentsOf);
