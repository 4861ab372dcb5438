/**
 * The records of a run: what training writes down, and what evaluation and reports read.
 *
 * A run is a folder:
 *
 *     run.json             what was asked for: `RunRecord`
 *     sources/             the .net files as they were
 *     metrics.jsonl        one `MetricLine` a line, in order of time
 *     events.out.tfevents… the same scalars for TensorBoard
 *     checkpoints/         see checkpoint.ts
 *     predictions/         validation.jsonl and test.jsonl: one `ClipPrediction` a line, after a header
 *     attention/           attention.json: where the streams look at each other on a few clips
 *     report.html, figures/*.svg    made by `netc report`
 *
 * All of it is plain data without absolute paths.
 */
import type { Recipe } from "../../compiler/recipe/recipe.ts";

/** `run.json`. */
export interface RunRecord {
  readonly format: "netc-run";
  readonly version: 1;
  /** The run's name: that of its folder when it was made. */
  readonly name: string;
  readonly netc: string;
  readonly model: {
    readonly name: string;
    readonly graphHash: string;
    readonly parameters: number;
    /** Multiply-adds of one forward pass on one sample. */
    readonly macs: number;
    /** A table of layers for people: position, shape of its value, parameters, multiply-adds. */
    readonly layers: readonly {
      readonly path: string;
      readonly shape: readonly number[];
      readonly parameters: number;
      readonly macs: number;
    }[];
  };
  /** What is needed to make model and recipe again from `sources/`. */
  readonly request: {
    /** The file that was given, in `sources/`. */
    readonly source: string;
    readonly model: string | undefined;
    readonly recipe: string | undefined;
    /** Values of the recipe's parameters. */
    readonly arguments: Readonly<Record<string, number | string | boolean>>;
    /** Values of open sizes. */
    readonly bind: Readonly<Record<string, number>>;
    readonly fold: number | string;
  };
  readonly recipe: Recipe;
  /** SHA-256 of the recipe as JSON. */
  readonly recipeHash: string;
  readonly data: {
    readonly folder: string;
    /** The manifest's own words; of a drawn set they begin with `SYNTHETIC`. */
    readonly note: string;
    /** SHA-256 of the manifest. */
    readonly manifestHash: string;
    readonly classes: readonly string[];
    readonly fold: string;
    readonly train: SideCount;
    readonly validation: SideCount;
    readonly test: SideCount;
  };
  readonly seed: number;
  readonly device: string;
  readonly environment: {
    readonly node: string;
    readonly system: string;
    readonly processors: number;
    readonly memoryBytes: number;
  };
  readonly started: string;
  readonly command: readonly string[];
}

export interface SideCount {
  readonly clips: number;
  readonly subjects: number;
  /** In the order of `classes`. */
  readonly byClass: readonly number[];
}

export type MetricLine = StepLine | EpochLine | NoteLine;

/** One update of the parameters. */
export interface StepLine {
  readonly kind: "step";
  /** Number of the stage, from 0. */
  readonly stage: number;
  /** From 0, within the stage. */
  readonly epoch: number;
  /** Updates since the run began, this one included. */
  readonly step: number;
  readonly loss: number;
  /** Norm of all gradients, before clipping. */
  readonly norm: number;
  /** Learning rate, before the parameters' own factors. */
  readonly rate: number;
  /** Time in seconds of the step, and the part of it that was spent waiting for data. */
  readonly seconds: number;
  readonly waited: number;
}

export interface EpochLine {
  readonly kind: "epoch";
  readonly stage: number;
  readonly epoch: number;
  readonly step: number;
  /** Means over the epoch's training batches. */
  readonly train: { readonly loss: number; readonly accuracy: number };
  /** By name of the metric (`metricName`): undefined where there are no validation clips. */
  readonly validation: Readonly<Record<string, number>> | undefined;
  readonly best: boolean;
  readonly rate: number;
  /** Of the training part, and of it waiting for data; then of the evaluation. */
  readonly seconds: number;
  readonly waited: number;
  readonly evaluationSeconds: number;
  readonly samplesPerSecond: number;
  /** Of the process, and of the device's allocations. */
  readonly residentBytes: number;
  readonly deviceBytes: number;
}

/** Anything else worth a line: a resumed run, a stage that begins, a step whose gradients overflowed. */
export interface NoteLine {
  readonly kind: "note";
  readonly step: number;
  readonly text: string;
}

/** What a model said of one clip. */
export interface ClipPrediction {
  readonly path: string;
  readonly subject: string | undefined;
  readonly class: string;
  /** Undefined for a clip that could not be read: it counts as an error. */
  readonly probabilities: readonly number[] | undefined;
  /** Why there are none. */
  readonly failure: string | undefined;
}

/** The first line of a file of predictions. */
export interface PredictionHeader {
  readonly format: "netc-predictions";
  readonly version: 1;
  readonly run: string;
  readonly model: string;
  readonly graphHash: string;
  readonly side: "validation" | "test";
  /** Of the checkpoint that predicted. */
  readonly step: number;
  readonly seed: number;
  readonly fold: string;
  readonly manifestHash: string;
  readonly note: string;
  readonly classes: readonly string[];
  readonly segments: number;
  readonly crops: number;
}
