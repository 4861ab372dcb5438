/**
 * What a worker and the process that trains for it say to each other. Everything is plain data that structured clones
 * keep; large things (checkpoints) lie in files of the trial's working folder, and only their place is told.
 */
import type { MeasuredLatency, Phase } from "../study.ts";

/** A trial, as its process needs it. */
export interface TrialOrder {
  readonly sources: readonly { readonly path: string; readonly text: string }[];
  /** Name of the search, and the values of its parameters. */
  readonly search: string;
  readonly arguments: Readonly<Record<string, string>>;
  readonly levels: readonly number[];
  /** The data set's folder, and the SHA-256 that its manifest must have. */
  readonly data: string;
  readonly dataHash: string;
  /** Name of the objective's metric, as `metricName` gives it. */
  readonly metric: string;
  readonly phase: Phase;
  readonly seed: number;
  /** Epochs to train to, and those of a full training. */
  readonly epochs: number;
  readonly fullEpochs: number;
  /** Of a super-network: the candidates that it has gates for and is to score. */
  readonly scored: readonly { readonly candidate: number; readonly levels: readonly number[] }[] | undefined;
  /** Whether a forward pass of one example is to be timed. */
  readonly measure: boolean;
  /** The trial's working folder, with the run of an earlier attempt in it or without. */
  readonly folder: string;
  readonly device: "auto" | "webgpu" | "wasm";
  /** Threads of the WASM engine, and of what reads clips; undefined: as many as there are processors. */
  readonly threads: number | undefined;
  /** Seconds that this process may try plans of kernels in all; undefined: it takes the cost model's. */
  readonly tune: number | undefined;
  /** Updates between two checkpoints within an epoch; undefined: by time alone. */
  readonly saveEvery: number | undefined;
}

export type ToTrial =
  | { readonly kind: "start"; readonly order: TrialOrder }
  /** Finish the step, save, and end with `paused`. */
  | { readonly kind: "pause" };

/** What a trial has so far beside its tensors; it goes with every checkpoint. */
export interface TrialRecord {
  /** Update of the best epoch, and the metrics of it, by name. */
  readonly kept: { readonly step: number; readonly metrics: Readonly<Record<string, number>> } | undefined;
  readonly epochs: number;
  readonly seconds: number;
  readonly overheadSeconds: number;
  readonly kernels: { readonly hits: number; readonly misses: number };
  readonly latency: MeasuredLatency | undefined;
  /** Norm of the gradients in the first update, once that is done. */
  readonly gradientNorm: number | undefined;
}

export type TrialEvent =
  /** Metrics of an epoch that has ended. */
  | {
      readonly kind: "epoch";
      readonly epochs: number;
      readonly points: readonly { readonly name: string; readonly epoch: number; readonly value: number }[];
    }
  /** A checkpoint, linked into a folder of its own that nobody else removes. */
  | { readonly kind: "saved"; readonly record: TrialRecord; readonly folder: string }
  | { readonly kind: "note"; readonly text: string }
  | { readonly kind: "end"; readonly end: TrialOutcome };

export type TrialOutcome =
  | { readonly kind: "rung"; readonly value: number; readonly record: TrialRecord; readonly folder: string }
  | {
      readonly kind: "complete";
      readonly value: number;
      readonly record: TrialRecord;
      readonly metrics: Readonly<Record<string, number>>;
      /** SHA-256 of the kept parameters. */
      readonly weights: string;
      /** Files of predictions as text, by side. */
      readonly predictions: Readonly<Record<string, string>>;
      /** Of a super-network: by candidate. */
      readonly scores?: Readonly<Record<string, number>>;
      readonly device: string;
    }
  /** `folder` undefined: there is no checkpoint yet. */
  | { readonly kind: "paused"; readonly record: TrialRecord; readonly folder: string | undefined }
  | { readonly kind: "failed"; readonly machine: boolean; readonly message: string };
