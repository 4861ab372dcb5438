/**
 * Stages: what is trained, how fast, by which loss, for each stretch of a recipe.
 *
 * In: the settings of a stage (those outside of stages are its defaults) and its groups. Out: the record, with one rule
 * for every learned parameter of the model. Groups act in the order they are written, those of the recipe before those of
 * the stage; what two of them say of one parameter is as the later one says.
 */
import type { Setting } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import { attempt, spanOf } from "../elaborate/failure.ts";
import type { Context, Local } from "../elaborate/values.ts";
import type { GraphNode } from "../graph/graph.ts";
import type { Model } from "../model.ts";
import { showShape } from "../size.ts";
import { classCount } from "./data.ts";
import { parametersAt } from "./places.ts";
import type { LossTerm, ParameterRule, Stage } from "./recipe.ts";
import { GROUP, type STAGE } from "./schema.ts";
import { type Read, readSection, say } from "./sections.ts";
import type { Subject } from "./subject.ts";
import type { WrittenTerm } from "./words.ts";

/** A stage as it is written. */
export interface WrittenStage {
  readonly name: string;
  readonly at: Span;
  readonly values: Read<typeof STAGE>;
  readonly groups: readonly Group[];
}

export interface Group {
  readonly label: string;
  readonly values: Read<typeof GROUP>;
}

/** Reads the groups of a stage, where `lr` and `weight_decay` are those of its optimizer. */
export function readGroups(
  sections: readonly Setting[],
  { values }: Pick<WrittenStage, "values">,
  context: Context,
): readonly Group[] {
  const { rate, weightDecay } = values.optimizer.value;
  return sections.flatMap((section) => {
    const at = spanOf(context, section.name);
    const names = new Map<string, Local>([
      ["lr", { value: rate, at: values.optimizer.at }],
      ["weight_decay", { value: weightDecay, at: values.optimizer.at }],
    ]);
    const inside: Context = { ...context, locals: { names, up: context.locals } };
    const settings = section.settings ?? { kind: "Settings", items: [], start: section.start, end: section.end };
    const read = attempt(() => readSection(GROUP, settings, { title: "a group", at, holds: [] }, inside).values);
    return read === undefined ? [] : [{ label: section.label?.value ?? "", values: read }];
  });
}

/** The record of a stage. */
export function resolveStage(stage: WrittenStage, subject: Subject, context: Context): Stage {
  const { values } = stage;
  const { optimizer, rate, weightDecay } = values.optimizer.value;
  const trained = rulesOf(stage, subject, context);
  return {
    name: stage.name,
    epochs: values.epochs.value,
    loss: values.loss.value.map((term) => resolveTerm(term, values.loss, subject, context)),
    optimizer,
    rate,
    weightDecay: trained.weightDecay ?? weightDecay,
    schedule: values.schedule.value,
    parameters: trained.rules,
    frozenNorms: trained.frozenNorms,
    accumulate: values.accumulate.value,
    clipNorm: values.clip_norm.value,
    ema: values.ema.value,
    mixup: values.mixup.value,
    stop: values.stop.value,
    keep: values.keep.value,
  };
}

// ---------------------------------------------------------------------------------------------------------------- loss

function resolveTerm(
  { use, ...term }: WrittenTerm,
  found: { readonly at: Span; readonly given: boolean },
  subject: Subject,
  context: Context,
): LossTerm {
  // Places within a default are places of no file.
  const at = found.given ? spanOf(use.context, use.node) : found.at;
  if (term.on === "streams") checkStreamOutputs(spanOf(use.context, use.at("on")), subject, context);
  else if (term.kind === "cross_entropy") checkScores(at, subject, context);
  const wanted = classCount(subject);
  const { classWeights } = term;
  if (typeof classWeights !== "string" && wanted !== undefined && classWeights.length !== wanted)
    say(
      context,
      "E0702",
      `${classWeights.length} ${classWeights.length === 1 ? "weight" : "weights"} for ${wanted} classes`,
      spanOf(use.context, use.at("weights")),
      {
        label: "one for each class",
        secondary: [{ span: subject.at, text: `gives ${wanted}` }],
      },
    );
  return term;
}

/** Cross-entropy takes two scores or more, before their softmax. */
function checkScores(at: Span, { model, at: made, outputs }: Subject, context: Context): void {
  if (outputs === 1)
    say(context, "E0702", `cross-entropy compares classes, and \`${model.name}\` gives one number`, at, {
      label: "always 0 for one class",
      secondary: [{ span: made, text: "this model" }],
      helps: ["`BinaryCrossEntropy`, or a network with `classes=2`"],
    });
  const [output] = model.graph.outputs;
  if (output !== undefined && isProbability(output.node))
    say(context, "W0702", `\`${model.name}\` gives probabilities, and cross-entropy takes scores`, at, {
      label: "a softmax of a softmax hardly learns",
      secondary: [{ span: made, text: "ends in a softmax" }],
      helps: ["`fuse Average` joins scores", "`CrossEntropy(on=streams)` takes those of each stream"],
    });
}

/** A softmax, or a mean of such. */
function isProbability(node: GraphNode): boolean {
  if (node.op === "softmax") return true;
  if (node.op !== "binary" || node.attrs.fn === "pow") return false;
  const parts = node.inputs.filter((input) => input.op !== "constant");
  return parts.length > 0 && parts.every(isProbability);
}

/** What the streams give before they are fused must be scores as the output is. */
function checkStreamOutputs(at: Span, { model, at: made }: Subject, context: Context): void {
  const [output] = model.graph.outputs;
  const refuse = (message: string, label: string, helps: readonly string[]): void =>
    say(context, "E0707", message, at, { label, secondary: [{ span: made, text: "this model" }], helps });
  if (model.streams.length === 0)
    return refuse(`\`${model.name}\` has no streams`, "a loss on streams needs several", [
      "leave `on=streams` out",
      "`×2` behind a network makes two",
    ]);
  if (model.streamOutputs.length === 0)
    return refuse(`the output of \`${model.name}\` does not need every stream`, "a loss on each of them", []);
  const different = model.streamOutputs.find((node) => showShape(node.shape) !== showShape(output?.node.shape ?? []));
  if (different !== undefined)
    refuse(
      `the streams of \`${model.name}\` give ${showShape(different.shape)} before they are fused, which are no classes`,
      `scores are ${showShape(output?.node.shape ?? [])}`,
      ["fuse at the end, so that each stream has scores of its own: `fuse Average`"],
    );
}

// ---------------------------------------------------------------------------------------------------------- parameters

/** A norm: path of the layer, paths of its weight and bias, and whether it has running statistics. */
interface Norm {
  readonly path: string;
  readonly parameters: readonly string[];
  readonly batch: boolean;
}

/** The norms of a model in the order of its parameters. */
function normsOf({ graph, parameters }: Model): readonly Norm[] {
  const norms = new Map<string, Norm>();
  for (const node of graph.nodes) {
    if (node.op !== "batch_norm" && node.op !== "layer_norm") continue;
    const own = node.inputs.slice(1, 3).flatMap((input) => (input.op === "param" ? [input.attrs.path] : []));
    const [first] = own;
    if (first === undefined) continue;
    norms.set(first, { path: first.replace(/\.[^.]+$/, ""), parameters: own, batch: node.op === "batch_norm" });
  }
  return parameters.flatMap(({ path }) => norms.get(path) ?? []);
}

interface Rules {
  readonly rules: readonly ParameterRule[];
  readonly frozenNorms: readonly string[];
  /** The decay that factors are relative to, where the optimizer itself has none. */
  readonly weightDecay: number | undefined;
}

function rulesOf(stage: WrittenStage, subject: Subject, context: Context): Rules {
  const { model } = subject;
  const { reports } = context.build.program;
  const { values } = stage;
  const { rate, weightDecay } = values.optimizer.value;
  const paths = model.parameters.filter(({ kind }) => kind === "param").map(({ path }) => path);
  const norms = normsOf(model);
  const spared = new Set(values.no_decay.value?.map(({ value }) => value));
  const ofNorms = new Set(norms.flatMap(({ parameters }) => parameters));
  const isSpared = (path: string): boolean =>
    (spared.has("biases") && path.split(".").at(-1) === "bias") || (spared.has("norms") && ofNorms.has(path));
  const rules = new Map<string, { rate: number; decay: number; frozenUntil: number | "end" }>(
    paths.map((path) => [path, { rate, decay: isSpared(path) ? 0 : weightDecay, frozenUntil: 0 }]),
  );
  for (const { label, values: group } of stage.groups) {
    const who = label === "" ? "this group" : `the group \`${label}\``;
    for (const path of parametersAt(group.at.value, model, who, reports)) {
      const rule = rules.get(path);
      if (rule === undefined) continue;
      if (group.lr.given) rule.rate = group.lr.value;
      if (group.weight_decay.given) rule.decay = group.weight_decay.value;
      if (group.frozen_until.given) rule.frozenUntil = group.frozen_until.value;
    }
  }
  const still = frozenNormsOf(stage, norms, subject, context);
  const frozen = [
    ...parametersAt(values.freeze.value ?? [], model, "`freeze`", reports),
    ...norms.filter(({ path }) => still.has(path)).flatMap(({ parameters }) => parameters),
  ];
  for (const path of frozen) {
    const rule = rules.get(path);
    if (rule !== undefined) rule.frozenUntil = "end";
  }
  if (rules.size > 0 && [...rules.values()].every(({ frozenUntil }) => frozenUntil === "end"))
    say(
      context,
      "E0704",
      stage.name === "" ? "everything is frozen" : `everything is frozen in stage \`${stage.name}\``,
      values.freeze.given ? values.freeze.at : stage.at,
      {
        label: "nothing is left to train",
      },
    );
  // A norm of which nothing is trained moves no statistics either: what is frozen gives what it gave.
  for (const { path, parameters, batch } of norms)
    if (batch && parameters.every((each) => rules.get(each)?.frozenUntil === "end")) still.add(path);
  // Without a decay of the optimizer, factors are relative to the largest of a group.
  const base = weightDecay > 0 ? weightDecay : Math.max(0, ...[...rules.values()].map(({ decay }) => decay));
  return {
    rules: [...rules].map(([path, rule]) => ({
      path,
      rate: ratio(rule.rate, rate),
      decay: base === 0 ? 1 : ratio(rule.decay, base),
      frozenUntil: rule.frozenUntil,
    })),
    frozenNorms: norms.filter(({ path, batch }) => batch && still.has(path)).map(({ path }) => path),
    weightDecay: base === weightDecay ? undefined : base,
  };
}

/** `0.1 * lr` as a factor is 0.1, not the 0.09999999999999999 that two roundings can make of it. */
function ratio(value: number, whole: number): number {
  return value === whole ? 1 : Number((value / whole).toPrecision(12));
}

/** Partial BN: which batch norms keep their statistics by `freeze_norms`. */
function frozenNormsOf(stage: WrittenStage, norms: readonly Norm[], subject: Subject, context: Context): Set<string> {
  const { freeze_norms: frozen } = stage.values;
  const { model } = subject;
  const batch = norms.filter((norm) => norm.batch);
  if (frozen.value === "none") return new Set();
  if (typeof frozen.value !== "string") {
    const here = parametersAt(frozen.value, model, "`freeze_norms`", context.build.program.reports);
    const found = batch.filter(({ parameters }) => parameters.some((path) => here.has(path)));
    if (here.size > 0 && found.length === 0)
      say(context, "E0705", "no batch norm is here", frozen.at, { label: "`freeze_norms` is about batch norms" });
    return new Set(found.map(({ path }) => path));
  }
  const grafted = (path: string): boolean => model.units.some((unit) => path.startsWith(`${unit}.`));
  const backbone = batch.filter(({ path }) => !grafted(path));
  if (backbone.length === 0 && frozen.given)
    say(context, "E0705", `the backbone of \`${model.name}\` has no batch norms`, frozen.at, {
      label: "nothing to keep still",
    });
  if (frozen.value === "all") return new Set(backbone.map(({ path }) => path));
  const streamOf = (path: string): string => model.streams.find((stream) => path.startsWith(`${stream}.`)) ?? "";
  const firsts = new Map<string, string>();
  for (const { path } of backbone) if (!firsts.has(streamOf(path))) firsts.set(streamOf(path), path);
  return new Set(backbone.map(({ path }) => path).filter((path) => firsts.get(streamOf(path)) !== path));
}
