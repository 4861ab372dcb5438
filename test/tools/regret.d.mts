import type { Factor, Method } from "../../compiler/search/search.ts";
import type { Candidates, Knowledge, Propose } from "../../runtime/search/propose.ts";
import type { Surface } from "./surfaces.mjs";

export declare const CONTENDERS: Readonly<Record<"random" | "tpe" | "tpe, multivariate" | "evolution" | "gp", Method>>;

interface Library {
  readonly proposeOf: (method: Method) => Propose;
  readonly pickOf: (known: Knowledge, count: number) => readonly { readonly candidate: number }[];
}

export interface Landscape {
  readonly candidates: Candidates;
  readonly truth: Float64Array;
  /** What one more training of the candidate shows. */
  readonly draw: (candidate: number) => number;
}

/** Regrets of one run, in the unit of the landscape, after the trials in `at`. */
export declare function course(
  library: Library,
  method: Method,
  landscape: Landscape,
  options: { readonly seed: number; readonly at: readonly number[] },
): readonly number[];

/** Regrets of one run, in standard deviations of the surface, after the trials in `at`. */
export declare function regrets(
  library: Library,
  method: Method,
  kind: Surface,
  options: {
    readonly members: number;
    readonly noise: number;
    readonly seed: number;
    readonly at: readonly number[];
    readonly run?: number;
  },
): readonly number[];

/** A table of trainings as a landscape; runs differ in which of them they see. */
export declare function tableOf(
  table: {
    readonly factors: readonly Factor[];
    readonly candidates: readonly { readonly levels: readonly number[]; readonly values: readonly number[] }[];
  },
  run: number,
): Landscape;

/** Mean and half of its 95 % interval. */
export declare function summary(values: readonly number[]): { readonly mean: number; readonly half: number };
