/**
 * Elaboration: from a source text to a checked model (language 5).
 *
 * In: one source, and a function that finds the modules it imports. Out: the model that was asked for, as an immutable
 * graph with its positions and parameters, and everything there is to say about the text. No user's mistake throws.
 */
import type { BareModel, Callable, Expr, Item } from "../../grammar/ast.ts";
import { type Diagnostic, diagnostic, hasErrors } from "../../grammar/diagnostic.ts";
import type { Source } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import type { GraphNode, NodeOf } from "../graph/graph.ts";
import type { Elaboration, Model, Parameter, Position, Resolve } from "../model.ts";
import { applyLayer, asLayer, pipeInto } from "./apply.ts";
import { truth } from "./arithmetic.ts";
import { checkAttributes } from "./attributes.ts";
import { sidesOf } from "./calls.ts";
import type { Core } from "./core.ts";
import { newBuild, type Place, topContext } from "./draft.ts";
import { evaluate, lookup } from "./evaluate.ts";
import { attempt, fail, newReports, report, textOf } from "./failure.ts";
import { type MadeModel, makeModel, modelOf, placeOfModel } from "./models.ts";
import { BARE, findBinding, loadModule, type Module, type Program } from "./modules.ts";
import { checkNames } from "./names.ts";
import { type Context, isBlock, isSequence, type Local, sizeValue, type Value } from "./values.ts";
import { weightMapsFor } from "./weightmaps.ts";

export interface ElaborateOptions {
  /** Values for open sizes: `N` = 1. */
  readonly bind?: ReadonlyMap<string, number>;
  /** The directory of the project; messages name files below it without it. */
  readonly root?: string;
  /** The model to make; without it the bare headline, else the last `model` of the file. */
  readonly model?: string;
}

/** The knot of `core.ts`. */
const CORE: Core = { evaluate, lookup, asLayer, applyLayer, pipeInto, modelOf, placeOfModel };

/** Errors shown for one item; more would be noise. */
const MOST_ERRORS = 5;

/**
 * Checks `source` and makes its model. `model` is undefined if there are errors, or if the file defines none. Assertions
 * of the file itself are run, those of its imports are not.
 */
export function elaborate(source: Source, resolve: Resolve, options: ElaborateOptions = {}): Elaboration {
  const { model, diagnostics } = elaborateWith(source, resolve, options, { then: () => undefined });
  return { model, diagnostics };
}

/** A text without errors so far, and its model if it has one. */
export interface Elaborated {
  readonly program: Program;
  /** The text itself. */
  readonly module: Module;
  readonly model: Model | undefined;
  /** What the model was made of. */
  readonly declaration: Wanted | undefined;
  /** Names of the blocks that the model is made of. */
  readonly blocks: ReadonlySet<string>;
}

/** What is done besides making the model, with the same knowledge of files and into the same reports. */
export interface Further<T> {
  /** Says which model is made, before the options do; it may be one of another file. */
  readonly target?: (program: Program, module: Module) => Target | undefined;
  readonly then: (found: Elaborated) => T;
}

/** A model's declaration and the file it is written in. */
export interface Target {
  readonly declaration: Wanted;
  readonly module: Module;
}

/** `elaborate`, and then `further`, unless there were errors before it. `result` is what it gave. */
export function elaborateWith<T>(
  source: Source,
  resolve: Resolve,
  options: ElaborateOptions,
  further: Further<T>,
): Elaboration & { readonly result: T | undefined } {
  const reports = newReports();
  const directory = options.root === undefined ? "" : `${options.root.replace(/\/+$/, "")}/`;
  const program: Program = {
    core: CORE,
    root: source,
    directory,
    resolve,
    reports,
    modules: new Map(),
    loading: [],
    steps: 0,
  };
  let model: Model | undefined;
  let result: T | undefined;
  try {
    const module = loadModule(program, source);
    checkAttributes(program);
    const hopeless = checkNames(program);
    const bind = options.bind ?? new Map<string, number>();
    const target = hopeless
      ? undefined
      : (further.target?.(program, module) ?? chooseModel(program, module, options.model));
    const made = target === undefined ? undefined : attempt(() => makeTarget(program, target, bind));
    if (!hasErrors(reports.diagnostics)) runAsserts(program, module, bind);
    if (made !== undefined && target !== undefined && !hasErrors(reports.diagnostics))
      model = finishModel(made, target.module, program);
    if (!hasErrors(reports.diagnostics)) {
      const blocks = made?.build.blocks ?? new Set<string>();
      result = further.then({ program, module, model, declaration: target?.declaration, blocks });
    }
  } catch (error) {
    // Expressions nested by the thousand: the only way in which a text can exhaust the stack.
    if (!(error instanceof RangeError)) throw error;
    report(reports, diagnostic("E0205", "this is nested too deeply", { source, start: 0, end: 0 }));
  }
  const diagnostics = limited(byPlace(reports.diagnostics, source), program);
  const wrong = hasErrors(diagnostics);
  return { model: wrong ? undefined : model, diagnostics, result: wrong ? undefined : result };
}

// --------------------------------------------------------------------------------------------------------- which model

type Wanted = Callable | BareModel;

function chooseModel(program: Program, module: Module, wanted: string | undefined): Target | undefined {
  const declaration = chosenModel(program, module, wanted);
  return declaration === undefined ? undefined : { declaration, module };
}

function chosenModel(program: Program, module: Module, wanted: string | undefined): Wanted | undefined {
  const bare = module.file.items.findLast((item): item is BareModel => item.kind === "BareModel");
  const models = module.file.items.filter(
    (item): item is Callable => item.kind === "Callable" && item.keyword === "model",
  );
  if (wanted === undefined) return bare ?? models.at(-1);
  const named = models.find((item) => item.name.name === wanted);
  if (named !== undefined) return named;
  if (wanted === BARE && bare !== undefined) return bare;
  const cell = findBinding(module, wanted)?.cell;
  const value = cell?.state.kind === "value" ? cell.state.value : undefined;
  if (value !== undefined && isBlock(value) && value.declaration.keyword !== "op") return value.declaration;
  const names = [...models.map((item) => item.name.name), ...(bare === undefined ? [] : [BARE])];
  const near = suggest(wanted, names);
  report(
    program.reports,
    diagnostic(
      "E0207",
      `this file has no model \`${wanted}\``,
      { source: module.source, start: 0, end: 0 },
      {
        helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
        notes: [names.length === 0 ? "it has none" : `its models are ${names.join(", ")}`],
      },
    ),
  );
  return undefined;
}

function makeTarget(
  program: Program,
  { declaration: target, module }: Target,
  bind: ReadonlyMap<string, number>,
): MadeModel {
  const context = topContext(newBuild(program, bind), module);
  if (target.kind === "BareModel") {
    return makeModel(program, evaluate(target.value, context), module, target.value, BARE, bind);
  }
  const { name } = target.name;
  const value: Value = evaluate({ kind: "Name", name, start: target.name.start, end: target.name.end }, context);
  return makeModel(program, value, module, target.name, name, bind);
}

// ----------------------------------------------------------------------------------------------------------- assertions

function runAsserts(program: Program, module: Module, bind: ReadonlyMap<string, number>): void {
  for (const item of module.file.items) {
    if (item.kind !== "Assert") continue;
    attempt(() => {
      const names = new Map<string, Local>();
      const context: Context = { ...topContext(newBuild(program, bind), module), locals: { names, up: undefined } };
      // Size names in an assertion are those of the model it speaks of.
      for (const call of callsOf(item.test, "shape")) {
        const value = evaluate(call, context);
        for (const [name, open] of modelOf(value, { context, node: call }).build.open)
          names.set(name, { value: sizeValue(open.size), at: open.at });
      }
      if (truth(item.test, context)) return;
      fail(
        context,
        "E0208",
        item.message?.value ?? `this does not hold: \`${textOf(context, item.test)}\``,
        item.test,
        { notes: sidesOf(item.test, context) },
      );
    });
  }
}

/** The first arguments of all calls of `name` in an expression. */
function callsOf(expr: Expr, name: string): readonly Expr[] {
  switch (expr.kind) {
    case "Binary":
      return [...callsOf(expr.left, name), ...callsOf(expr.right, name)];
    case "Group":
    case "Unary":
      return callsOf(expr.value, name);
    case "Index":
      return callsOf(expr.of, name);
    case "Call": {
      const [first] = expr.args;
      if (expr.callee.kind === "Name" && expr.callee.name === name) return first === undefined ? [] : [first.value];
      return expr.args.flatMap((arg) => callsOf(arg.value, name));
    }
    default:
      return [];
  }
}

// --------------------------------------------------------------------------------------------------------------- result

/** What is handed on of a model that was made of a declaration in `module`. */
export function finishModel(made: MadeModel, module: Module, program: Program): Model {
  const { graph, nodes, build } = made;
  const positions = build.places.flatMap((place) => positionOf(place, nodes));
  const parameters = [...build.parameters.values()].flatMap(({ draft }) => {
    const node = nodes.get(draft);
    return node?.op === "param" ? [parameterOf(node)] : [];
  });
  return {
    name: made.name,
    graph,
    streams: made.streams,
    streamOutputs: streamOutputsOf(made),
    units: unitsOf(made),
    positions,
    parameters,
    weightMaps: weightMapsFor(made, module, program),
    classes: classesOf(graph.outputs[0]?.node, module, program),
  };
}

/** One for each stream, or none: a stream that the output does not need is not in the graph. */
function streamOutputsOf({ streams, build, nodes }: MadeModel): readonly GraphNode[] {
  const outputs = build.streamOutputs.flatMap((draft) => nodes.get(draft) ?? []);
  return streams.length > 0 && build.streamOutputs.length === streams.length && outputs.length === streams.length
    ? outputs
    : [];
}

function unitsOf({ build }: MadeModel): readonly string[] {
  return [...new Set(build.grafts.map((graft) => graft.path))].filter((path) => build.placeByPath.has(path));
}

function positionOf(place: Place, nodes: MadeModel["nodes"]): readonly Position[] {
  const [value] = place.values;
  const node = value === undefined ? undefined : nodes.get(value);
  return node === undefined ? [] : [{ path: place.path, aliases: place.aliases, node, block: place.block }];
}

function parameterOf(node: NodeOf<"param">): Parameter {
  return { path: node.attrs.path, node, init: node.attrs.init, kind: node.attrs.kind };
}

/** A constant list of texts with as many entries as the model has outputs: `const CLASSES = ["calm", …]`. */
function classesOf(output: GraphNode | undefined, module: Module, program: Program): readonly string[] | undefined {
  const count = output?.shape.at(-1);
  const consts = module.file.items.filter((item) => item.kind === "Const");
  const context = topContext(newBuild(program, new Map()), module);
  for (const item of consts) {
    const value = attempt(() =>
      evaluate({ kind: "Name", name: item.name.name, start: item.name.start, end: item.name.end }, context),
    );
    if (value === undefined || !isSequence(value) || value.items.length !== count) continue;
    const texts = value.items.filter((text) => typeof text === "string");
    if (texts.length === count) return texts;
  }
  return undefined;
}

/** In the order of the text; what lies in other files comes first, for it is the cause. */
function byPlace(diagnostics: readonly Diagnostic[], root: Source): readonly Diagnostic[] {
  const place = (each: Diagnostic): number => {
    const at = each.labels.find((label) => label.primary)?.span;
    return at === undefined || at.source !== root ? -1 : at.start;
  };
  return [...diagnostics].sort((a, b) => place(a) - place(b));
}

/** At most a handful of errors for each item of each file. */
function limited(diagnostics: readonly Diagnostic[], program: Program): readonly Diagnostic[] {
  const counts = new Map<Item, number>();
  return diagnostics.filter((each) => {
    const at = each.labels.find((label) => label.primary)?.span;
    const file = at === undefined ? undefined : program.modules.get(at.source.path)?.file;
    const item = file?.items.find(
      (i) => at !== undefined && i.start <= at.start && at.start < Math.max(i.end, i.start + 1),
    );
    if (item === undefined || each.severity !== "error") return true;
    const count = (counts.get(item) ?? 0) + 1;
    counts.set(item, count);
    return count <= MOST_ERRORS;
  });
}
