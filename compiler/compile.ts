/**
 * The compiler's stages, one after the other: model, bound graph, loops, program.
 *
 * Each stage is a function of its own, so that `inspect` can stop anywhere; `compile` runs them all. Nothing here touches
 * a device: the Capability record stands for it.
 */
import { type Diagnostic, diagnostic } from "../grammar/diagnostic.ts";
import type { Span } from "../grammar/source.ts";
import { assemble, type KernelReuse } from "./assemble.ts";
import type { Capability } from "./capability.ts";
import {
  type AttentionChoice,
  type AttentionForm,
  type AttentionTarget,
  chooseAttention,
  TABLE_BYTES,
} from "./graph/attend.ts";
import { type BindProblem, bindSizes } from "./graph/builder.ts";
import {
  type ConvolutionChoice,
  type ConvolutionForm,
  type ConvolutionSite,
  type ConvolutionTarget,
  type Convolved,
  chooseConvolutions,
  convolutionKey,
  formsOf,
  type MeasuredForms,
} from "./graph/convolution.ts";
import type { Graph, GraphNode } from "./graph/graph.ts";
import { graphHash } from "./graph/hash.ts";
import { inferenceRules } from "./graph/inference.ts";
import { storedAsHalves } from "./graph/precision.ts";
import { rewrite } from "./graph/rewrite.ts";
import { type RateGroup, STEP_INPUTS, trainingStep } from "./graph/step.ts";
import { statisticsForm } from "./graph/training.ts";
import { oversizedBuffers } from "./loop/draft.ts";
import type { ProgramDecision } from "./loop/fuse.ts";
import { byteSize } from "./loop/layout.ts";
import type { Loops } from "./loop/loops.ts";
import { lowerAndExplain } from "./loop/lower.ts";
import type { Model } from "./model.ts";
import type { Program } from "./program.ts";
import type { Precision, Stage } from "./recipe/recipe.ts";
import { convolutionMs } from "./schedule/cpu-cost.ts";
import { showSize } from "./size.ts";

/** Memory that the tables of attention of one training step may take together. */
const ALL_TABLES_BYTES = 4 * TABLE_BYTES;

/** Rows and keys from which on attention without a table predicts faster, as measured (specs/performance.md). */
const ATTEND_FASTER_FROM = { wasm: 128, webgpu: Number.POSITIVE_INFINITY } as const;

/** Panels of packed weights: the CPU's microkernel is 8 columns wide, GPUs read a plain K×N matrix. */
const PANEL_WIDTH = { wasm: 8, webgpu: 2 ** 30 } as const;

export type Staged<T> = { readonly ok: T } | { readonly diagnostics: readonly Diagnostic[] };

const failed = (diagnostics: readonly Diagnostic[]): Staged<never> => ({ diagnostics });

/** The innermost place in the user's own file that made a node: the clause in the headline, not the depths of a library. */
function placeOf(node: GraphNode): Span {
  const chain: Span[] = [];
  for (let origin = node.origins[0]; origin !== undefined; origin = origin.parent) chain.push(origin.span);
  const file = chain.at(-1)?.source;
  const place = chain.find((span) => span.source === file);
  if (place === undefined) throw new Error(`internal: node ${node.id} (${node.op}) has no origin`);
  return place;
}

function bindDiagnostic(problem: BindProblem, graph: Graph): Diagnostic {
  const [input] = graph.inputs;
  if (input === undefined) throw new Error("internal: a model without inputs has open sizes");
  switch (problem.kind) {
    case "open":
      return diagnostic("E0317", `the size \`${problem.name}\` is open, and kernels need a number`, placeOf(input), {
        label: `\`${problem.name}\` comes in with \`${input.attrs.name}\``,
        helps: [`--bind ${problem.name}=224`],
      });
    case "value":
      return diagnostic(
        "E0318",
        problem.multipleOf > 1
          ? `\`${problem.name}\` must be a multiple of ${problem.multipleOf}, and ${problem.value} is not`
          : `\`${problem.name}\` must be a whole number from 1 up, and ${problem.value} is not`,
        placeOf(input),
        {
          helps: [
            `--bind ${problem.name}=${Math.max(1, Math.round(problem.value / problem.multipleOf)) * problem.multipleOf}`,
          ],
        },
      );
    case "shape":
      return diagnostic(problem.problem.code, problem.problem.message, placeOf(problem.node), {
        label: problem.problem.label,
        notes: [...problem.problem.notes, "with the sizes given by --batch and --bind"],
        helps: problem.problem.helps,
      });
    default:
      return problem satisfies never;
  }
}

/** The model with every size a number: `sizes` gives the open ones (`N` is the batch). Positions and parameters follow. */
export function bindModel(model: Model, sizes: ReadonlyMap<string, number>): Staged<Model> {
  const bound = bindSizes(model.graph, sizes);
  if (!("nodes" in bound)) return failed(bound.map((problem) => bindDiagnostic(problem, model.graph)));
  const now = (node: GraphNode): GraphNode => bound.nodes[node.id] ?? node;
  return {
    ok: {
      ...model,
      graph: bound,
      streamOutputs: model.streamOutputs.map(now),
      positions: model.positions.map((position) => ({ ...position, node: now(position.node) })),
      parameters: model.parameters.map((parameter) => {
        const node = now(parameter.node);
        return node.op === "param" ? { ...parameter, node } : parameter;
      }),
    },
  };
}

const mebibytes = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function bytesOf(node: GraphNode): number {
  return node.shape.reduce<number>((product, size) => product * (typeof size === "number" ? size : 1), 4);
}

/** The attention tables (softmaxes over scores) that have to be there and are over the budget, one message for each place in the source. */
function affinityProblems(graph: Graph): readonly Diagnostic[] {
  const places = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) {
    if (node.op !== "softmax" || bytesOf(node) <= TABLE_BYTES) continue;
    const { source, start } = placeOf(node);
    const key = `${source.path}:${start}:${node.shape.map(showSize).join("x")}`;
    places.set(key, [...(places.get(key) ?? []), node]);
  }
  return [...places.values()].flatMap((nodes) => {
    const [node] = nodes;
    if (node === undefined) return [];
    const [tables = 1] = node.shape.length > 2 ? node.shape : [];
    const [rows = 1, columns = 1] = node.shape.slice(-2);
    const bytes = bytesOf(node);
    const images = Number(tables);
    const [place = ""] = node.layer.split(".");
    const each = nodes.length > 1 ? `, ${nodes.length} times` : "";
    return [
      diagnostic(
        "E0901",
        `attention${place === "" ? "" : ` at \`${place}\``} needs ${mebibytes(bytes)} for ${images === 1 ? "one image" : `${images} images`}`,
        placeOf(node),
        {
          label: `a ${showSize(rows)} × ${showSize(columns)} table of scores${each}`,
          notes: [`a table may take ${mebibytes(TABLE_BYTES)}, and this one has to be there`],
          helps: [
            "a table of `softmax(scale * matmul(q, k))` that nothing reads but one `matmul(table, values)` need not be there",
            ...(place === "" ? [] : ["graft deeper, where the maps are smaller"]),
            // Pooling keys and values halves both sides of the map that is looked at.
            ...(bytes / 4 <= TABLE_BYTES ? ['pool keys and values first: `STIA(pool="conv-pool")`'] : []),
            ...(images > 1 && bytes / images <= TABLE_BYTES ? ["a smaller --batch"] : []),
          ],
        },
      ),
    ];
  });
}

/** Kernels compute with f32 alone; an interface of another element type would be read wrongly. */
function elementTypeProblems(graph: Graph): readonly Diagnostic[] {
  return graph.inputs
    .filter((node) => node.dtype !== "f32")
    .map((node) =>
      diagnostic(
        "E0904",
        `\`${node.attrs.name}\` has elements of type ${node.dtype}, and kernels compute with f32`,
        placeOf(node),
        {
          helps: ["declare it as f32"],
        },
      ),
    );
}

export interface LoweredModel {
  /** After folding. */
  readonly graph: Graph;
  readonly loops: Loops;
  /** What was fused, and why the rest was not. */
  readonly decisions: readonly ProgramDecision[];
  /** Which attention keeps its table, and why. */
  readonly attention: readonly AttentionChoice[];
  /** How 3×3 convolutions are computed, and why; none where they have no choice. */
  readonly convolutions: readonly ConvolutionChoice[];
}

/** What the form of attention depends on. */
function attentionTarget(target: Capability, training: boolean, always: AttentionForm | undefined): AttentionTarget {
  const bytes = maxBufferBytes(target);
  const tableBytes = Math.min(TABLE_BYTES, bytes);
  const allBytes = target.kind === "wasm" ? Math.min(ALL_TABLES_BYTES, bytes / 8) : ALL_TABLES_BYTES;
  return { tableBytes, allBytes, training, fasterFrom: ATTEND_FASTER_FROM[target.kind], always };
}

/** What a target may bind at once, in bytes. */
function maxBufferBytes(target: Capability): number {
  return target.kind === "webgpu"
    ? Math.min(target.limits.maxStorageBufferBindingSize, target.limits.maxBufferSize)
    : target.maxMemory;
}

/** How the form of 3×3 convolutions is found: one form for all, or what was timed on the device, where it was. */
export type ConvolutionWish = ConvolutionForm | MeasuredForms;

/** What the form of convolutions depends on; `trained` weights are other ones in every pass. */
function convolutionTarget(
  target: Capability,
  wish: ConvolutionWish | undefined,
  trained: boolean = false,
): ConvolutionTarget {
  const tileBytes = Math.min(TABLE_BYTES, maxBufferBytes(target));
  if (typeof wish === "string") return { always: { form: wish, reason: "every one is asked for so" }, tileBytes };
  const expected: ConvolutionTarget["expected"] = (site, pass, form) => convolutionMs(site, pass, form, { trained });
  return { measured: wish, expected: target.kind === "wasm" ? expected : undefined, tileBytes, trained };
}

/** A kind of convolution in a model, and the forms that it can take on a target. */
export interface ConvolutionKind {
  readonly site: ConvolutionSite;
  readonly forms: readonly ConvolutionForm[];
  /** What it takes without having been timed. */
  readonly expected: ConvolutionForm;
}

/** The convolutions of a bound model that have several forms, each kind once and those first that multiply the most. */
export function convolutionsOf(model: Model, target: Capability): readonly ConvolutionKind[] {
  const limits = convolutionTarget(target, undefined);
  const { choices } = chooseConvolutions(rewrite(model.graph, inferenceRules), limits);
  const kinds = new Map<string, { readonly site: ConvolutionChoice; macs: number }>();
  for (const site of choices) {
    const { images, channels, filters, size } = site;
    const kind = kinds.get(convolutionKey(site)) ?? { site, macs: 0 };
    kind.macs += images * channels * filters * size[0] * size[1];
    kinds.set(convolutionKey(site), kind);
  }
  return [...kinds.values()]
    .sort((a, b) => b.macs - a.macs)
    .map(({ site }) => ({ site, forms: formsOf(site, limits.tileBytes), expected: site.form }))
    .filter(({ forms }) => forms.length > 1);
}

/** From a bound model to loops for a kind of target: batch norm folded, weights packed and split, kernels fused. */
export function lowerModel(
  model: Model,
  target: Capability,
  form?: AttentionForm,
  convolution?: ConvolutionWish,
): Staged<LoweredModel> {
  const folded = rewrite(model.graph, inferenceRules);
  const convolved = chooseConvolutions(folded, convolutionTarget(target, convolution));
  const { graph, choices } = chooseAttention(convolved.graph, attentionTarget(target, false, form));
  return lowered(model, graph, { attention: choices, convolutions: convolved.choices }, target);
}

/** A graph made from the model's, as loops; results of the nodes in `halves` are stored in half precision. */
function lowered(
  model: Model,
  graph: Graph,
  choices: Pick<LoweredModel, "attention" | "convolutions">,
  target: Capability,
  halves: ReadonlySet<GraphNode> = new Set(),
): Staged<LoweredModel> {
  const refused = [...elementTypeProblems(model.graph), ...affinityProblems(graph)];
  if (refused.length > 0) return failed(refused);
  const limit = maxBufferBytes(target);
  const { loops, decisions } = lowerAndExplain(graph, {
    panelWidth: PANEL_WIDTH[target.kind],
    // A CPU behind WebGPU reads weights along K as well as across: where they are read once, packing only costs.
    packFrom: target.kind === "webgpu" && target.software ? 4 : 1,
    maxBufferBytes: limit,
    fuse: true,
    inPlace: true,
    halves,
    copyPlanes: target.kind === "wasm",
    packActivations: target.kind === "wasm",
    halfPanels: target.kind === "webgpu",
    sumInParts: target.kind === "wasm",
    maxBindings: target.kind === "webgpu" ? target.limits.maxStorageBuffersPerShaderStage : 16,
  });
  const oversized = oversizedBuffers(loops, limit);
  const [input] = model.graph.inputs;
  if (oversized.length > 0 && input !== undefined) {
    return failed(
      oversized.slice(0, 3).map((buffer) =>
        diagnostic(
          "E0903",
          `\`${buffer.name}\` is ${mebibytes(byteSize(buffer))}, and ${target.name} binds at most ${mebibytes(limit)}`,
          placeOf(input),
          {
            notes: [`[${buffer.shape.join(", ")}] numbers of 4 bytes`],
            helps: ["a smaller --batch", "`--target this-device`, if this device binds more"],
          },
        ),
      ),
    );
  }
  return { ok: { graph, loops, decisions, ...choices } };
}

export interface CompileOptions {
  readonly target: Capability;
  /** Values of open sizes; `N` is the batch. */
  readonly sizes: ReadonlyMap<string, number>;
  readonly seed: number;
  /** Kernels of earlier programs for this very target, to which those of this one are added. */
  readonly reuse?: KernelReuse | undefined;
  /** The form of every attention, instead of the one that suits its size: to compare them. */
  readonly attention?: AttentionForm;
  /** The same for every 3×3 convolution, or what was timed; not in mixed precision. */
  readonly convolution?: ConvolutionWish | undefined;
}

/** All stages: from a checked model to a program for one target. */
export function compile(model: Model, options: CompileOptions): Staged<Program> {
  const bound = bindModel(model, options.sizes);
  if ("diagnostics" in bound) return bound;
  const lowered = lowerModel(bound.ok, options.target, options.attention, options.convolution);
  if ("diagnostics" in lowered) return lowered;
  return {
    ok: assemble(lowered.ok.loops, {
      target: options.target,
      seed: options.seed,
      graphHash: graphHash(model.graph),
      classes: model.classes,
      reuse: options.reuse,
    }),
  };
}

/**
 * The program that finds the statistics of batch norms: a pass leaves those of its batch as the program's state, by their
 * paths. Without batch norms it has no state.
 */
export function compileStatistics(model: Model, options: CompileOptions): Staged<Program> {
  const bound = bindModel(model, options.sizes);
  if ("diagnostics" in bound) return bound;
  const { graph, choices } = chooseAttention(
    statisticsForm(bound.ok.graph),
    attentionTarget(options.target, false, options.attention),
  );
  const made = lowered(bound.ok, graph, { attention: choices, convolutions: [] }, options.target);
  if ("diagnostics" in made) return made;
  const { target, seed, reuse } = options;
  return {
    ok: assemble(made.ok.loops, { target, seed, graphHash: graphHash(model.graph), classes: model.classes, reuse }),
  };
}

/** The form of a training step's convolutions and of their gradients. */
function trainedConvolutions(
  graph: Graph,
  target: Capability,
  mixed: boolean,
  wish: ConvolutionWish | undefined,
): Convolved {
  // Halves round where they are stored and multiplied, and tiles would do both elsewhere. GPUs train as they are.
  if (mixed || (target.kind === "webgpu" && wish === undefined)) return { graph, choices: [] };
  const limits = convolutionTarget(target, wish, true);
  // Who computes values again has no memory for tiles.
  const saving = wish === undefined && graph.nodes.some(({ op }) => op === "recompute");
  const always = { form: "direct", reason: "`#[checkpoint]` asks for memory before time" } as const;
  return chooseConvolutions(graph, saving ? { ...limits, always } : limits);
}

export interface LoweredStep extends LoweredModel {
  /** The groups of parameters that `step.rates` speaks of. */
  readonly groups: readonly RateGroup[];
}

/** Mixed precision on a device that has no halves. On the CPU they are made of integers, on a GPU they are not. */
function precisionProblem(model: Model, target: Capability): Diagnostic | undefined {
  const [input] = model.graph.inputs;
  if (target.kind !== "webgpu" || target.f16 || input === undefined) return undefined;
  return diagnostic(
    "E0906",
    `mixed precision stores halves, and ${target.name} has none (\`shader-f16\`)`,
    placeOf(input),
    {
      helps: [
        "train in f32: leave `precision` out of the recipe",
        "`--device wasm` trains in mixed precision anywhere",
      ],
    },
  );
}

/**
 * From a bound model to the loops of one training step of a recipe's stage. In mixed precision the step takes a loss
 * scale (`STEP_INPUTS.lossScale`).
 */
export function lowerStep(
  model: Model,
  stage: Stage,
  target: Capability,
  precision: Precision = { kind: "f32" },
  form?: AttentionForm,
  convolution?: ConvolutionWish,
): Staged<LoweredStep> {
  const mixed = precision.kind === "mixed";
  const problem = mixed ? precisionProblem(model, target) : undefined;
  if (problem !== undefined) return failed([problem]);
  const step = trainingStep(model, stage, { lossScale: mixed, attention: attentionTarget(target, true, form) });
  if (!("graph" in step)) {
    return failed([
      diagnostic("E0905", `\`${step.node.op}\` cannot be trained through: ${step.reason}`, placeOf(step.node), {
        helps: ["`detach(…)` keeps gradients from flowing there"],
      }),
    ]);
  }
  const examples = new Set([...model.graph.inputs.map(({ attrs }) => attrs.name), STEP_INPUTS.target]);
  const { graph, choices } = trainedConvolutions(step.graph, target, mixed, convolution);
  const made = lowered(
    model,
    graph,
    { attention: step.attention, convolutions: choices },
    target,
    mixed ? storedAsHalves(graph, examples) : undefined,
  );
  return "diagnostics" in made ? made : { ok: { ...made.ok, groups: step.groups } };
}

export interface TrainingProgram {
  readonly program: Program;
  readonly groups: readonly RateGroup[];
}

export interface StepCompileOptions extends CompileOptions {
  /** f32 if absent. */
  readonly precision?: Precision;
}

/** All stages for training: the program of one step. `options.seed` starts the parameters that no file gives. */
export function compileStep(model: Model, stage: Stage, options: StepCompileOptions): Staged<TrainingProgram> {
  const bound = bindModel(model, options.sizes);
  if ("diagnostics" in bound) return bound;
  const { target, seed, reuse, precision, attention, convolution } = options;
  const made = lowerStep(bound.ok, stage, target, precision, attention, convolution);
  if ("diagnostics" in made) return made;
  const { classes } = model;
  const program = assemble(made.ok.loops, { target, seed, graphHash: graphHash(model.graph), classes, reuse });
  return { ok: { program, groups: made.ok.groups } };
}
