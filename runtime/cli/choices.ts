/**
 * What the compiler chose for a model on a target, and why: forms of attention and convolutions, and what was fused.
 */
import type { Capability } from "../../compiler/capability.ts";
import { type LoweredModel, lowerModel, lowerStep, type Staged } from "../../compiler/compile.ts";
import type { AttentionChoice } from "../../compiler/graph/attend.ts";
import type { ConvolutionChoice } from "../../compiler/graph/convolution.ts";
import type { Decision } from "../../compiler/loop/fuse.ts";
import type { Model } from "../../compiler/model.ts";
import { plainStage } from "../../compiler/recipe/plain.ts";
import { grouped, table } from "./terminal.ts";

/** The forms of attention in inference and in a training step, where the target takes them. */
export interface AttentionForms {
  readonly inference: readonly AttentionChoice[];
  readonly training: readonly AttentionChoice[];
}

/** The forms of 3×3 convolutions in inference and in a training step. */
export interface ConvolutionChoices {
  readonly inference: readonly ConvolutionChoice[];
  readonly training: readonly ConvolutionChoice[];
}

/** What was chosen for a target. */
export interface Choices {
  readonly attention: AttentionForms;
  readonly convolutions: ConvolutionChoices;
  /** Which kernels of a pass became one, and which did not. */
  readonly fusion: readonly Decision[];
}

/** What was chosen for a target, for whoever wants to know why. */
export function chosenForms(model: Model, target: Capability): Choices {
  const inference = lowerModel(model, target);
  const step = lowerStep(model, plainStage(model), target);
  const [predicted, trained] = [choicesOf(inference), choicesOf(step)];
  return {
    attention: { inference: predicted.attention, training: trained.attention },
    convolutions: { inference: predicted.convolutions, training: trained.convolutions },
    fusion:
      "ok" in inference
        ? inference.ok.decisions.flatMap(({ part, ...decision }) => (part === "run" ? [decision] : []))
        : [],
  };
}

function choicesOf(made: Staged<LoweredModel>): Pick<LoweredModel, "attention" | "convolutions"> {
  return "ok" in made ? made.ok : { attention: [], convolutions: [] };
}

const FORMS = { attend: "without table", table: "table", regrouped: "values first" } as const;

export function attentionLines({ inference, training }: AttentionForms): readonly string[] {
  const of = (what: string, choices: readonly AttentionChoice[]): readonly (readonly string[])[] =>
    choices.map(({ layer, rows, keys, form, reason }) => [
      layer,
      what,
      `${grouped(rows)} × ${grouped(keys)}`,
      FORMS[form],
      reason,
    ]);
  const rows = [...of("inference", inference), ...of("training", training)];
  return rows.length === 0 ? [] : [table(["attention", "", "scores", "form", "why"], rows)];
}

interface Alike {
  readonly layers: readonly string[];
  readonly cells: readonly string[];
}

/** Lines with equal cells as one, with the layers of all. */
function alike(lines: readonly (readonly [layer: string, cells: readonly string[]])[]): readonly Alike[] {
  const found = new Map<string, { readonly layers: string[]; readonly cells: readonly string[] }>();
  for (const [layer, cells] of lines) {
    const known = found.get(cells.join());
    if (known === undefined) found.set(cells.join(), { layers: [layer], cells });
    else known.layers.push(layer);
  }
  return [...found.values()];
}

const PASSES = { forward: "training", "by image": "gradient by image", "by weights": "gradient by weights" } as const;

/** How 3×3 convolutions are computed; those that are computed alike, for one reason, in one line. */
export function convolutionLines({ inference, training }: ConvolutionChoices): readonly string[] {
  const line = (what: string, choice: ConvolutionChoice): [string, string[]] => {
    const { layer, channels, filters, size, form, reason, pool } = choice;
    const shape = `${channels} → ${filters} at ${size.join("×")}`;
    const pooled = pool === undefined ? "" : `; pool ${pool.fused ? "in its stores" : "apart"}: ${pool.reason}`;
    return [layer, [what, shape, form, reason + pooled]];
  };
  const lines = [
    ...inference.map((choice) => line("inference", choice)),
    ...training.map(({ pool: _, ...choice }) => line(PASSES[choice.pass], choice)),
  ];
  if (lines.length === 0) return [];
  const rows = alike(lines).map(({ layers, cells }) => [layers.join(" "), ...cells]);
  return [table(["convolution 3×3", "", "", "form", "why"], rows)];
}

/** So many layers are named; of others only how many there are. */
const NAMED = 4;

/** What two names have in common, up to a point, and the rest of each. */
function apart(a: string, b: string): readonly [common: string, a: string, b: string] {
  const [x, y] = [a.split("."), b.split(".")];
  let shared = 0;
  while (shared < Math.min(x.length, y.length) - 1 && x[shared] === y[shared]) shared++;
  return [x.slice(0, shared).join("."), x.slice(shared).join("."), y.slice(shared).join(".")];
}

/** Which kernels of a pass became one, and which did not; what happened alike in several layers in one line. */
export function fusionLines(decisions: readonly Decision[]): readonly string[] {
  const lines = decisions.map(({ kernel, other, fused, reason }): [string, string[]] => {
    const [layer, first, second] = apart(kernel, other);
    return [layer, [first, second, fused ? "fused" : "apart", reason]];
  });
  if (lines.length === 0) return [];
  const named = (layers: readonly string[]): string => {
    const some = layers.filter((layer) => layer !== "").slice(0, NAMED);
    return [...some, ...(layers.length > NAMED ? [`and ${layers.length - NAMED} more`] : [])].join(" ");
  };
  const rows = alike(lines).map(({ layers, cells }) => [...cells, named(layers)]);
  return [table(["kernel", "other", "", "why", "in"], rows)];
}
