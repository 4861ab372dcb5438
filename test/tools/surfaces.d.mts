import type { Candidates } from "../../runtime/search/propose.ts";

export type Surface = "additive" | "pairwise" | "rugged" | "nas";

export declare const SURFACES: readonly Surface[];

/** Numbers in [0, 1) from a seed. */
export declare function generator(seed: number): () => number;

/** Standard normal draws from uniform ones. */
export declare function normals(random: () => number): () => number;

/** The values of all 2^members candidates, with mean 0 and standard deviation 1. */
export declare function surfaceOf(kind: Surface, members: number, seed: number): Float64Array;

/** The space of all subsets of so many members, as methods see it. */
export declare function subsetsOf(members: number): Candidates;
