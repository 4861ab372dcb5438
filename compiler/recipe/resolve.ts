/**
 * One recipe, from its declaration to the record.
 *
 * First everything is read that needs no model: names, values, sections. Then positions, classes and sizes are held
 * against the model it trains.
 */
import type * as ast from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { newBuild, topContext } from "../elaborate/draft.ts";
import { report, spanOf, textOf } from "../elaborate/failure.ts";
import type { Module, Program } from "../elaborate/modules.ts";
import { bindParameters } from "../elaborate/parameters.ts";
import { type Context, type Local, UNKNOWN } from "../elaborate/values.ts";
import type { Model } from "../model.ts";
import { readData, resolveData, type WrittenData } from "./data.ts";
import type { Goal, Metric, Recipe } from "./recipe.ts";
import { RECIPE, STAGE } from "./schema.ts";
import { type Found, type Read, readSection, say } from "./sections.ts";
import { readGroups, resolveStage, type WrittenStage } from "./stages.ts";
import { subjectOf } from "./subject.ts";

/** A declaration and the file it is written in. */
export interface Declared {
  readonly item: ast.Recipe;
  readonly module: Module;
}

/** Values from outside, which go before those of the text. */
export interface Given {
  /** Values of the recipe's parameters. */
  readonly args: ReadonlyMap<string, number | string | boolean>;
  /** The folder of the clips. */
  readonly folder: string | undefined;
  /**
   * Whether a run is to begin: then every parameter needs a value and there must be data. Otherwise what these would
   * decide stays unchecked.
   */
  readonly complete: boolean;
}

interface WrittenRecipe {
  readonly name: string;
  readonly at: Span;
  readonly context: Context;
  readonly values: Read<typeof RECIPE>;
  readonly data: WrittenData;
  readonly stages: readonly WrittenStage[];
}

/**
 * The record of a recipe for `model`, which is declared at `made`. Without a model only what needs none is checked.
 * Mistakes are reported; the record is undefined if there is no model or none that a recipe can train.
 */
export function resolveRecipe(
  declared: Declared,
  model: { readonly model: Model; readonly at: Span } | undefined,
  given: Given,
  program: Program,
): Recipe | undefined {
  const context = contextOf(declared, given, program);
  const written = readRecipe(declared, context);
  checkContradictions(written);
  const subject = model === undefined ? undefined : subjectOf(model.model, model.at, program.reports);
  if (subject === undefined) return undefined;
  const { values } = written;
  const data = resolveData(written.data, {
    subject,
    evaluation: values.evaluate.value,
    folder: given.folder,
    complete: given.complete,
    context,
  });
  const stages = written.stages.map((stage) => resolveStage(stage, subject, context));
  return {
    name: written.name,
    model: subject.model.name,
    data,
    stages,
    precision: values.precision.value,
    seed: values.seed.value,
    metrics: metricsOf(written, data.labels),
  };
}

// ---------------------------------------------------------------------------------------------------------- parameters

/** Where the settings are evaluated: the recipe's parameters are names there. */
function contextOf({ item, module }: Declared, given: Given, program: Program): Context {
  const names = new Map<string, Local>();
  const top = topContext(newBuild(program, new Map()), module);
  const context: Context = { ...top, locals: { names, up: undefined } };
  const { params } = item;
  const known = params.map((param) => param.name.name);
  const at = spanOf(context, item.name);
  for (const name of given.args.keys()) {
    if (known.includes(name)) continue;
    const near = suggest(name, known);
    say(context, "E0401", `\`${item.name.name}\` has no parameter \`${name}\``, at, {
      label: "this recipe",
      helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
      notes: [
        known.length === 0 ? "it has none" : `its parameters are ${params.map((p) => textOf(context, p)).join(", ")}`,
      ],
    });
  }
  const args = [...given.args].flatMap(([name, value]) =>
    known.includes(name) ? [{ name, value, node: item.name }] : [],
  );
  if (!given.complete) {
    for (const { name, default: otherwise } of params)
      if (otherwise === undefined && !given.args.has(name.name))
        names.set(name.name, { value: UNKNOWN, at: spanOf(context, name) });
  }
  bindParameters({ name: item.name.name, params, module }, args, context, { context: top, node: item.name });
  return context;
}

// ------------------------------------------------------------------------------------------------------------- reading

function readRecipe({ item }: Declared, context: Context): WrittenRecipe {
  const at = spanOf(context, item.name);
  const settings: ast.Settings = { ...item.settings, items: item.settings.items.map(dataAsSection) };
  const title = "a recipe";
  const both = { ...RECIPE, ...STAGE };
  const { values, sections } = readSection(both, settings, { title, at, holds: ["data", "group", "stage"] }, context);
  const named = (name: string): readonly ast.Setting[] => sections.filter((section) => section.name.name === name);
  const [data, second] = named("data");
  if (data !== undefined && second !== undefined)
    say(context, "E0704", "`data` is set twice", spanOf(context, second.name), {
      label: "the second time",
      secondary: [{ span: spanOf(context, data.name), text: "first set here" }],
    });
  const groups = named("group");
  const written = named("stage");
  const seen = new Map<string, Span>();
  const stages = written.map((section): WrittenStage => {
    const name = section.label?.value ?? "";
    const here = spanOf(context, section.label ?? section.name);
    const first = seen.get(name);
    if (name === "") say(context, "E0703", "a stage has a name", here, { helps: ['`stage "joint" { … }`'] });
    else if (first !== undefined)
      say(context, "E0704", `two stages are called \`${name}\``, here, {
        secondary: [{ span: first, text: "the first" }],
      });
    seen.set(name, here);
    const own = section.settings ?? settings;
    const read = readSection<typeof STAGE>(
      STAGE,
      own,
      { title: "a stage", at: here, holds: ["group"] },
      context,
      values,
    );
    return {
      name,
      at: here,
      values: read.values,
      groups: readGroups([...groups, ...read.sections], read, context),
    };
  });
  const alone: WrittenStage = { name: "", at, values, groups: [] };
  return {
    name: item.name.name,
    at,
    context,
    values,
    data: readData(data, context, at),
    stages: stages.length > 0 ? stages : [{ ...alone, groups: readGroups(groups, alone, context) }],
  };
}

/** `data = Clips("folder")` is short for a section with that source. */
function dataAsSection(item: ast.Setting | ast.ErrorNode): ast.Setting | ast.ErrorNode {
  if (item.kind === "Error" || item.name.name !== "data" || item.value === undefined) return item;
  const source: ast.Setting = { ...item, name: { ...item.name, name: "source" } };
  const { start, end } = item;
  return { ...item, value: undefined, settings: { kind: "Settings", items: [source], start, end } };
}

// ------------------------------------------------------------------------------------------------------------- checks

/** Settings that need what another switches off, or that do one thing twice. */
function checkContradictions({ context, data, stages }: WrittenRecipe): void {
  const { validation, balance } = data.values;
  const needs = (found: { readonly at: Span; readonly given: boolean }, what: string): void => {
    if (!found.given || validation.value > 0) return;
    say(context, "E0704", `${what} needs validation clips, and none are held out`, found.at, {
      label: "measured on validation clips",
      secondary: [{ span: validation.at, text: "none" }],
      helps: ["`validation = 0.1`"],
    });
  };
  for (const { values } of stages) {
    needs(values.keep, "`keep`");
    if (values.stop.value !== undefined) needs(values.stop, "`stop`");
    if (values.schedule.value.then.kind === "plateau") needs(values.schedule, "`Plateau`");
    const weighted = values.loss.value.find(({ classWeights }) => classWeights === "inverse_frequency");
    if (balance.value === "none" || weighted === undefined) continue;
    report(
      context.build.program.reports,
      diagnostic("W0701", "classes are balanced twice", spanOf(context, weighted.use.at("weights")), {
        label: "rare classes count more",
        secondary: [{ span: balance.at, text: "and are drawn more often" }],
        helps: ["one of both is enough"],
      }),
    );
  }
}

function metricsOf(
  { context, values, stages }: WrittenRecipe,
  labels: readonly string[] | undefined,
): readonly Metric[] {
  const metrics: Metric[] = [];
  for (const { value, at } of values.metrics.value) {
    const here = values.metrics.given ? spanOf(context, at) : values.metrics.at;
    if (value.kind === "confusion") {
      if (labels !== undefined && value.labels !== undefined && value.labels.join("\n") !== labels.join("\n"))
        say(context, "E0702", "these are not the labels of the data", here, {
          notes: [`the labels are ${labels.join(", ")}`],
        });
      continue;
    }
    checkClass(value, here, labels, context);
    if (!metrics.some((known) => JSON.stringify(known) === JSON.stringify(value))) metrics.push(value);
  }
  for (const stage of stages) {
    const goals: readonly (Found<Goal> | undefined)[] = [
      stage.values.keep,
      stage.values.stop.value && { ...stage.values.stop, value: stage.values.stop.value.goal },
    ];
    for (const goal of goals) if (goal !== undefined) checkClass(goal.value.metric, goal.at, labels, context);
  }
  return metrics;
}

function checkClass(metric: Metric, at: Span, labels: readonly string[] | undefined, context: Context): void {
  if (metric.kind !== "auc" || labels === undefined || labels.includes(metric.class)) return;
  const near = suggest(metric.class, labels);
  say(context, "E0702", `no class is called \`${metric.class}\``, at, {
    helps: near === undefined ? [] : [`did you mean \`"${near}"\`?`],
    notes: [`the labels are ${labels.join(", ")}`],
  });
}
