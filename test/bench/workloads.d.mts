/** Numbers of a tensor: the name that they come from, and how they are scaled. */
export interface Numbers {
  readonly name: string;
  readonly scale?: number;
  readonly offset?: number;
}

export interface Workload {
  readonly kind: "forward" | "train";
  readonly batch: number;
  readonly limit: number;
  readonly net: string;
  readonly inputs: Readonly<Record<string, string>>;
  readonly numbers: ((path: string, shape: readonly number[]) => Numbers | undefined) | undefined;
  readonly transfer: boolean;
  readonly flops: number;
}

export interface Sample {
  readonly length: number;
  readonly norm: number;
  readonly values: readonly (number | undefined)[];
}

export interface Reference extends Sample {
  readonly loss?: number;
}

export interface Errors {
  readonly relative: number;
  readonly norm: number;
  readonly loss?: number;
}

export const WORKLOADS: Readonly<Record<string, Workload>>;
export function inventingMs(): number;
export function fill(into: Float32Array, numbers: Numbers, first?: number): Float32Array;
export function numbersOf(numbers: Numbers, shape: readonly number[]): Float32Array;
export function trainOrder(): readonly string[];
export function stepInput(name: string, shape: readonly number[]): Float32Array;
export function sampleOf(values: ArrayLike<number>): Sample;
export function readReferences(): Readonly<Record<string, Reference>>;
export function check(
  id: string,
  result: { readonly values: ArrayLike<number>; readonly loss?: number },
  reference: Reference,
  limit: number,
): Errors;
