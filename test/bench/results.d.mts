export interface Options {
  readonly quick: boolean;
  readonly json: boolean;
  readonly against: string | undefined;
  readonly workloads: readonly string[] | undefined;
  readonly devices: readonly string[];
  readonly adapter: string;
  readonly rounds: number;
}

/** A row of results, or an entry of other results: figures by name. */
export type Row = Readonly<Record<string, unknown>> & { readonly workload: string; readonly device: string };

export const USAGE: string;
export const DEVICES: readonly string[];
export const ADAPTERS: readonly string[];
export function parseArguments(words: readonly string[], workloads: readonly string[]): Options;
export function median(values: readonly number[]): number;
export function rowOf(
  workload: string,
  device: string,
  flops: number,
  samples: readonly Readonly<Record<string, unknown>>[],
): Row;
export function tableOf(rows: readonly Row[]): string;
export function entriesOf(results: unknown): readonly Row[];
export function ratiosOf(rows: readonly Row[], entries: readonly Row[]): readonly Row[];
export function ratioTable(ratios: readonly Row[]): string;
