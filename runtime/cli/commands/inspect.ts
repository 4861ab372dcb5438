/**
 * `netc inspect`: a model at one stage of its way to kernels: tables for people (shapes, positions, cost, recipe), then each
 * IR (graph, loop, plan, wgsl) as its printer writes it.
 */
import { scheduleLoops } from "../../../compiler/assemble.ts";
import type { Capability } from "../../../compiler/capability.ts";
import {
  bindModel,
  compile,
  compileStep,
  type LoweredModel,
  lowerModel,
  type Staged,
} from "../../../compiler/compile.ts";
import { costOf } from "../../../compiler/graph/cost.ts";
import { printGraph } from "../../../compiler/graph/print.ts";
import { printKernel, printLoops } from "../../../compiler/loop/print.ts";
import { type MemoryUse, memoryUse } from "../../../compiler/memory.ts";
import type { Model } from "../../../compiler/model.ts";
import { plainStage } from "../../../compiler/recipe/plain.ts";
import { recipeRows } from "../../../compiler/recipe/print.ts";
import { showShape } from "../../../compiler/size.ts";
import { torchvisionName } from "../../../compiler/weights/map.ts";
import { attentionLines, type Choices, chosenForms, convolutionLines, fusionLines } from "../choices.ts";
import { targetRecord } from "../devices.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { elaborateEntry, type ReportOptions, recipeOfEntry, sizesOf, stage } from "../model.ts";
import { type Entry, openEntry } from "../sources.ts";
import type { Stage } from "../stages.ts";
import { bytes, grouped, print, table } from "../terminal.ts";

export interface InspectOptions {
  readonly stage: Stage;
  readonly batch: number;
  readonly bind: readonly (readonly [string, number])[];
  readonly target: "webgpu-default" | "this-device" | "wasm";
  readonly at?: string;
  readonly model?: string;
  readonly recipe?: string;
  readonly json?: boolean;
}

/** True if `layer` is the position `at` or lies inside it, in any stream; everything is inside of no position. */
function inside(layer: string, at: string | undefined): boolean {
  if (at === undefined) return true;
  return (
    layer === at ||
    layer.startsWith(`${at}.`) ||
    layer.startsWith(`${at}[`) ||
    layer.includes(`.${at}.`) ||
    layer.endsWith(`.${at}`)
  );
}

/** Rows of a table, or objects with `--json`. */
interface View {
  readonly header: readonly string[];
  readonly right: ReadonlySet<number>;
  readonly rows: readonly (readonly string[])[];
  readonly total?: string;
  readonly json: unknown;
}

function positionsView(model: Model, at: string | undefined): View {
  const positions = model.positions.filter(({ path }) => inside(path, at));
  return {
    header: ["position", "shape", "block", "also", "torchvision"],
    right: new Set(),
    rows: positions.map(({ path, node, block, aliases }) => [
      path,
      showShape(node.shape),
      block,
      aliases.join(" "),
      torchvisionName(model.weightMaps, path) ?? "",
    ]),
    total: `${positions.length} positions`,
    json: positions.map(({ path, node, block, aliases }) => ({
      path,
      shape: node.shape,
      block,
      aliases,
      torchvision: torchvisionName(model.weightMaps, path),
    })),
  };
}

function shapesView(model: Model, at: string | undefined): View {
  const inputs = model.graph.inputs.map((node) => ({ layer: node.attrs.name, op: "input", shape: node.shape }));
  const computed = model.graph.nodes
    .filter(({ op, layer }) => !["input", "param", "constant"].includes(op) && inside(layer, at))
    .map(({ op, layer, shape }) => ({ layer, op, shape }));
  const rows = [...(at === undefined ? inputs : []), ...computed];
  return {
    header: ["layer", "operator", "shape"],
    right: new Set(),
    rows: rows.map(({ layer, op, shape }) => [layer, op, showShape(shape)]),
    total: model.graph.outputs.map(({ name, node }) => `${name}: ${node.dtype}${showShape(node.shape)}`).join(", "),
    json: rows,
  };
}

const gmac = (macs: number): string => `${(macs / 1e9).toFixed(3)} GMAC`;

/** Memory that is planned for a program, or why the target does not run it. */
type Planned = MemoryUse | { readonly refused: string };

interface PlannedMemory {
  readonly inference: Planned;
  readonly training: Planned;
}

/** What inference and a training step hold, as planned for `target`: forward, backward and optimizer as one program. */
function plannedMemory(model: Model, target: Capability): PlannedMemory {
  const options = { target, sizes: new Map<string, number>(), seed: 0 };
  const planned = <T>(made: Staged<T>, use: (ok: T) => MemoryUse): Planned =>
    "ok" in made ? use(made.ok) : { refused: made.diagnostics[0]?.message ?? "" };
  return {
    inference: planned(compile(model, options), memoryUse),
    training: planned(compileStep(model, plainStage(model), options), ({ program }) => memoryUse(program)),
  };
}

function memoryLine(what: string, planned: Planned): string {
  if ("refused" in planned) return `${what}: not on this target: ${planned.refused}`;
  const { parameters, optimizer, activations } = planned;
  const parts = [
    `parameters ${bytes(parameters)}`,
    ...(optimizer === 0 ? [] : [`optimizer ${bytes(optimizer)}`]),
    `activations ${bytes(activations)}`,
  ];
  return `${what}: ${bytes(parameters + optimizer + activations)} (${parts.join(", ")})`;
}

function plannedLines({ memory, choices }: { readonly memory: PlannedMemory; readonly choices: Choices }): string[] {
  const { attention, convolutions, fusion } = choices;
  const tables = [...attentionLines(attention), ...convolutionLines(convolutions), ...fusionLines(fusion)];
  return [
    memoryLine("memory for inference", memory.inference),
    memoryLine("memory for a training step, SGD with momentum", memory.training),
    ...tables.flatMap((lines) => ["", lines]),
  ];
}

function costView(
  model: Model,
  at: string | undefined,
  planned?: { readonly memory: PlannedMemory; readonly choices: Choices },
): View {
  const { layers, total } = costOf(model.graph);
  const shown = layers.filter(({ layer }) => inside(layer, at));
  const rows = shown.map(({ layer, output, parameters, macs, activationBytes }) => ({
    layer,
    output,
    parameters: Number(parameters),
    macs: Number(macs),
    activationBytes: Number(activationBytes),
    torchvision: torchvisionName(model.weightMaps, layer),
  }));
  const sum = {
    parameters: Number(total.parameters),
    macs: Number(total.macs),
    activationBytes: Number(total.activationBytes),
  };
  return {
    header: ["layer", "output", "parameters", "MMAC", "activations", "torchvision"],
    right: new Set([2, 3, 4]),
    rows: rows.map((row) => [
      row.layer,
      row.output === undefined ? "" : showShape(row.output),
      row.parameters === 0 ? "" : grouped(row.parameters),
      row.macs === 0 ? "" : (row.macs / 1e6).toFixed(1),
      row.activationBytes === 0 ? "" : bytes(row.activationBytes),
      row.torchvision ?? "",
    ]),
    total: [
      `${grouped(sum.parameters)} parameters, ${gmac(sum.macs)}, ${bytes(sum.activationBytes)} of activations`,
      ...(planned === undefined ? [] : plannedLines(planned)),
    ].join("\n"),
    json: {
      layers: rows,
      total: sum,
      ...(planned === undefined ? {} : { memory: planned.memory, ...planned.choices }),
    },
  };
}

function show(view: View, json: boolean): void {
  if (json) {
    printJson(view.json);
    return;
  }
  print(table(view.header, view.rows, view.right));
  if (view.total !== undefined) print(`\n${view.total}`);
}

function showLoops({ loops, decisions }: LoweredModel, at: string | undefined): void {
  if (at !== undefined) {
    const kernels = [...loops.load.flatMap((step) => (step.kind === "kernel" ? [step.kernel] : [])), ...loops.run];
    for (const kernel of kernels.filter(({ layers, name }) => [name, ...layers].some((layer) => inside(layer, at))))
      print(printKernel(kernel, loops.buffers));
    return;
  }
  print(printLoops(loops));
  print("\nfusion");
  print(
    table(
      ["kernel", "other", "", "why"],
      decisions.map(({ kernel, other, fused, reason }) => [kernel, other, fused ? "fused" : "apart", reason]),
    ),
  );
}

async function showPlans(lowered: LoweredModel, options: InspectOptions): Promise<void> {
  const scheduled = scheduleLoops(lowered.loops, await targetRecord(options.target));
  const calls = [
    ...scheduled.load.flatMap((item) => (item.kind === "call" ? [{ part: "load", call: item.call }] : [])),
    ...scheduled.run.map((call) => ({ part: "run", call })),
  ];
  const rows = calls
    .filter(({ call }) => [call.kernel.name, ...call.kernel.layers].some((layer) => inside(layer, options.at)))
    .map(({ part, call: { program, kernel, macs } }) => ({
      part,
      kernel: kernel.name,
      plan: program.header.find((line) => line.startsWith("plan: "))?.slice(6) ?? "loops",
      grid: `${program.workgroups.join("×")} of ${program.workgroupSize.join("×")}`,
      macs,
    }));
  if (options.json === true) printJson(rows);
  else
    print(
      table(
        ["", "kernel", "plan", "workgroups", "MMAC"],
        rows.map((row) => [
          row.part,
          row.kernel,
          row.plan,
          row.grid,
          row.macs === 0 ? "" : (row.macs / 1e6).toFixed(1),
        ]),
        new Set([4]),
      ),
    );
}

async function showKernels(model: Model, options: InspectOptions, reporting: ReportOptions): Promise<boolean> {
  if (options.target === "wasm")
    throw new CommandError(EXIT.usage, "`--stage wgsl` shows kernels for WebGPU", [
      "leave `--target wasm` out, or look at `--stage plan`",
    ]);
  const program = stage(
    compile(model, { target: await targetRecord(options.target), sizes: sizesOf(model, options), seed: 0 }),
    reporting,
  );
  if (program === undefined) return false;
  const served = new Set(
    [...program.run, ...program.load.flatMap((item) => (item.kind === "step" ? [item.step] : []))]
      .filter(({ layers }) => layers.length === 0 || layers.some((layer) => inside(layer, options.at)))
      .map(({ kernel }) => kernel),
  );
  const kernels = program.kernels.filter((_, index) => served.has(index));
  if (options.json === true) printJson(kernels.map(({ name, code }) => ({ name, code })));
  else for (const { name, code } of kernels) print(`// ---- ${name}.wgsl\n${typeof code === "string" ? code : ""}`);
  return true;
}

/** The recipe that `netc train` would follow, every default spelled out. */
function showRecipe(entry: Entry, options: InspectOptions, reporting: ReportOptions): ExitCode {
  const bind = new Map(options.bind);
  const recipe = recipeOfEntry(entry, { model: options.model, recipe: options.recipe, bind, ...reporting });
  if (recipe === undefined) return EXIT.wrong;
  if (reporting.json) printJson(recipe);
  else print(table([recipe.name, ""], recipeRows(recipe)));
  return EXIT.ok;
}

/** Shows one stage. */
export async function inspect(file: string, options: InspectOptions): Promise<ExitCode> {
  const reporting: ReportOptions = { json: options.json === true };
  const entry = openEntry(file);
  if (options.stage === "recipe") return showRecipe(entry, options, reporting);
  const checked = elaborateEntry(entry, { model: options.model, bind: new Map(), ...reporting });
  if (checked === undefined) return EXIT.wrong;
  const model = stage(bindModel(checked, sizesOf(checked, options)), reporting);
  if (model === undefined) return EXIT.wrong;
  if (options.at !== undefined && !model.graph.nodes.some(({ layer }) => inside(layer, options.at))) {
    throw new CommandError(EXIT.wrong, `\`${model.name}\` has no position \`${options.at}\``, [
      `\`netc inspect ${file} --stage positions\` lists them`,
    ]);
  }
  switch (options.stage) {
    case "shapes":
      show(shapesView(model, options.at), reporting.json);
      return EXIT.ok;
    case "positions":
      show(positionsView(model, options.at), reporting.json);
      return EXIT.ok;
    case "cost": {
      const target = options.at === undefined ? await targetRecord(options.target) : undefined;
      const planned =
        target === undefined
          ? undefined
          : { memory: plannedMemory(model, target), choices: chosenForms(model, target) };
      show(costView(model, options.at, planned), reporting.json);
      return EXIT.ok;
    }
    case "graph":
      if (reporting.json)
        printJson(
          model.graph.nodes.map(({ id, op, inputs, attrs, shape, layer }) => ({
            id,
            op,
            inputs: inputs.map((input) => input.id),
            attrs,
            shape,
            layer,
          })),
        );
      else print(printGraph(model.graph));
      return EXIT.ok;
    case "loop":
    case "plan": {
      const lowered = stage(lowerModel(model, await targetRecord(options.target)), reporting);
      if (lowered === undefined) return EXIT.wrong;
      if (options.stage === "plan") await showPlans(lowered, options);
      else if (reporting.json) printJson({ ...lowered.loops, decisions: lowered.decisions });
      else showLoops(lowered, options.at);
      return EXIT.ok;
    }
    case "wgsl":
      return (await showKernels(checked, options, reporting)) ? EXIT.ok : EXIT.wrong;
    default:
      return options.stage satisfies never;
  }
}
