import type { Method } from "../../compiler/search/search.ts";
import type { Knowledge, Propose } from "../../runtime/search/propose.ts";
import type { Surface } from "./surfaces.mjs";

export declare const CONTENDERS: Readonly<Record<"random" | "tpe" | "tpe, multivariate" | "evolution" | "gp", Method>>;

/** Regrets of one run, in standard deviations of the surface, after the trials in `at`. */
export declare function regrets(
  library: {
    readonly proposeOf: (method: Method) => Propose;
    readonly pickOf: (known: Knowledge, count: number) => readonly { readonly candidate: number }[];
  },
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

/** Mean and half of its 95 % interval. */
export declare function summary(values: readonly number[]): { readonly mean: number; readonly half: number };
