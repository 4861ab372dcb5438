/**
 * One training step as a graph.
 *
 * In: a model's graph with known sizes, and a stage of a recipe. Out: a graph that computes the model's outputs, the
 * loss, the gradients, and the next value of everything that a step changes: parameters, running statistics, the
 * optimizer's state. Those are outputs called `update.<path>`; loops replace the old values with them in place.
 *
 * State beside the model's own has paths with a `/`, which no parameter can have: `momentum/conv1.weight`. What changes
 * from step to step comes in as small inputs (`STEP_INPUTS`), so one program serves a whole stage. A step whose loss or
 * gradients are not finite changes nothing: every update passes through a gate.
 *
 * With a loss scale the loss is multiplied before it is differentiated, so that gradients that are stored as halves do
 * not vanish, and the gradients of parameters are divided again, in f32, before anything else is done with them
 * (Micikevicius et al. 2018, section 3.2). Whoever runs the steps chooses the scale (runtime/train/loss-scale.ts).
 */
import type { Model } from "../model.ts";
import type { LossTerm, Optimizer, ParameterRule, Stage } from "../recipe/recipe.ts";
import { type Algebra, algebraOf, binary, reshape, select, sum, unary } from "./algebra.ts";
import { type AttentionChoice, type AttentionTarget, chooseAttention } from "./attend.ts";
import { GraphBuilder, type Where } from "./builder.ts";
import { differentiate, type NotDifferentiable } from "./gradient.ts";
import type { Graph, GraphNode, Init, NodeOf } from "./graph.ts";
import { binaryCrossEntropy, type LossSite, meanSquaredError, softmaxCrossEntropy, withLoss } from "./losses.ts";
import { trainingForm } from "./training.ts";

/** Names of the inputs that a step has besides the model's. */
export const STEP_INPUTS = {
  /** [N, classes] for cross-entropies (rows of class probabilities), the output's shape for a squared error. */
  target: "step.target",
  /** [3 · groups]: for each group of parameters its learning rate, 0 while it is frozen, and Adam's two corrections. */
  rates: "step.rates",
  /** [2]: 1 in the last of the batches whose gradients are averaged; 1 in the first of them. */
  control: "step.control",
  /** [classes]: how much an example of each class counts. */
  classWeights: "step.class_weights",
  /** [gates]: 1 for each graft that is there, 0 for each that is not; only super-networks have it, also in inference. */
  gates: "step.gates",
  /** [2]: factor on the loss before it is differentiated, and 1 divided by it; only steps in mixed precision have it. */
  lossScale: "step.loss_scale",
} as const;

/** The output that says how the step went: loss, norm of the gradients, 1 if the update was made or 0. */
export const STEP_REPORT = "step.report";

/** Prefixes of the paths of state that is not the model's. */
export const STATE_PREFIX = {
  momentum: "momentum/",
  firstMoment: "first_moment/",
  secondMoment: "second_moment/",
  gradient: "gradient/",
  average: "average/",
} as const;

/** Parameters whose learning rates begin at the same epoch. */
export interface RateGroup {
  readonly frozenUntil: number;
}

export interface TrainingStep {
  readonly graph: Graph;
  /** In the order of `step.rates`. */
  readonly groups: readonly RateGroup[];
  readonly attention: readonly AttentionChoice[];
}

/** What a step needs to know of a model. */
export type Trainable = Pick<Model, "graph" | "streamOutputs">;

export interface StepOptions {
  /** Whether the step takes a loss scale. */
  readonly lossScale?: boolean;
  /** What decides on the form of attention; if absent it keeps its tables. */
  readonly attention?: AttentionTarget;
}

/** The step of a stage for a model whose sizes are numbers; or the node that cannot be differentiated. */
export function trainingStep(
  model: Trainable,
  stage: Stage,
  { lossScale = false, attention }: StepOptions = {},
): TrainingStep | NotDifferentiable {
  const withLosses = withLoss(model.graph, (site) => lossOf(model, stage.loss, site));
  const trained = trainingForm(withLosses, { frozenNorms: new Set(stage.frozenNorms) });
  const { graph: plain, choices } =
    attention === undefined ? { graph: trained, choices: [] } : chooseAttention(trained, attention);
  const form = lossScale ? withScaledLoss(plain) : plain;
  const loss = outputOf(form, lossScale ? SCALED_LOSS : "loss");
  const rules = new Map(stage.parameters.map((rule) => [rule.path, rule]));
  const learned = form.nodes.filter((node): node is NodeOf<"param"> => {
    return node.op === "param" && node.attrs.kind === "param" && rules.get(node.attrs.path)?.frozenUntil !== "end";
  });
  const made = differentiate(form, loss, learned);
  if (!("graph" in made)) return made;
  const groups = [...new Set(learned.map((node) => startOf(rules.get(node.attrs.path))))].sort((a, b) => a - b);
  return {
    graph: withUpdates(made.graph, stage, rules, groups),
    groups: groups.map((frozenUntil) => ({ frozenUntil })),
    attention: choices,
  };
}

/** What is differentiated instead of the loss. */
const SCALED_LOSS = "scaled_loss";

function withScaledLoss(graph: Graph): Graph {
  const builder = new GraphBuilder();
  const copyOf = builder.copyAll(graph);
  const { origins } = outputOf(graph, "loss");
  const about: Where = { layer: "loss", origins };
  const a = algebraOf(builder, about);
  const scale = builder.leaf("input", { name: STEP_INPUTS.lossScale }, { shape: [2], dtype: "f32" }, about);
  const scaled = binary(a, "mul", copyOf(outputOf(graph, "loss")), entry(a, scale, 0));
  return builder.finish(graph.name, [
    ...graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) })),
    { name: SCALED_LOSS, node: scaled },
  ]).graph;
}

/** Number `at` of a vector, shape []. */
function entry(a: Algebra, vector: GraphNode, at: number): GraphNode {
  return reshape(a, a.op("slice", [vector], { axis: 0, start: at, size: 1 }), []);
}

function outputOf(graph: Graph, name: string): GraphNode {
  const output = graph.outputs.find((o) => o.name === name);
  if (output === undefined) throw new Error(`internal: ${graph.name} has no output ${name}`);
  return output.node;
}

function startOf(rule: ParameterRule | undefined): number {
  return typeof rule?.frozenUntil === "number" ? rule.frozenUntil : 0;
}

// ----------------------------------------------------------------------------------------------------------------- loss

function lossOf(model: Trainable, terms: readonly LossTerm[], site: LossSite): GraphNode {
  const [output] = model.graph.outputs;
  if (output === undefined) throw new Error(`internal: ${model.graph.name} has no output`);
  const target = site.target(STEP_INPUTS.target, output.node.shape);
  const one = (term: LossTerm, x: GraphNode): GraphNode => {
    switch (term.kind) {
      case "cross_entropy": {
        const weighted = term.classWeights !== "none";
        return softmaxCrossEntropy(site.a, x, target, {
          smoothing: term.smoothing,
          ...(weighted ? { weights: site.target(STEP_INPUTS.classWeights, x.shape.slice(1)) } : {}),
        });
      }
      case "binary_cross_entropy":
        return binaryCrossEntropy(site.a, x, target);
      case "mean_squared_error":
        return meanSquaredError(site.a, x, target);
      default:
        return term.kind satisfies never;
    }
  };
  const scaled = terms.flatMap((term) => {
    const on = term.on === "output" ? [output.node] : model.streamOutputs;
    return on.map((node) => {
      const value = one(term, site.at(node));
      return term.weight === 1 ? value : binary(site.a, "mul", value, term.weight);
    });
  });
  return total(site.a, scaled);
}

function total(a: Algebra, values: readonly GraphNode[]): GraphNode {
  const [first, ...others] = values;
  if (first === undefined) throw new Error("internal: a sum of nothing");
  return others.reduce((left, right) => binary(a, "add", left, right), first);
}

// -------------------------------------------------------------------------------------------------------------- updates

/** What all updates of a step share: scalars, computed once. */
interface Gates {
  /** Whether anything may change: loss and gradients are finite. */
  readonly finite: GraphNode;
  /** By group: positive where its parameters change now; its learning rate; Adam's corrections. */
  readonly groups: readonly {
    readonly open: GraphNode;
    readonly rate: GraphNode;
    readonly first: GraphNode;
    readonly second: GraphNode;
  }[];
  /** Factor on summed gradients: clipping, and the mean over the batches that were accumulated. */
  readonly scale: GraphNode | undefined;
}

/** The graph with gradients replaced by updates. */
function withUpdates(
  graph: Graph,
  stage: Stage,
  rules: ReadonlyMap<string, ParameterRule>,
  groups: readonly number[],
): Graph {
  const builder = new GraphBuilder();
  const copyOf = builder.copyAll(graph);
  const lossNode = outputOf(graph, "loss");
  const about: Where = { layer: "step", origins: lossNode.origins };
  const a = algebraOf(builder, about);
  const loss = copyOf(lossNode);
  const updates = new Map<string, GraphNode>();
  const state = (prefix: string, param: NodeOf<"param">, init: Init = { kind: "constant", value: 0 }): GraphNode =>
    builder.leaf("param", { path: prefix + param.attrs.path, kind: "state", init }, param, param);

  const inputs = (name: string, length: number): GraphNode =>
    builder.leaf("input", { name }, { shape: [length], dtype: "f32" }, about);
  const control = inputs(STEP_INPUTS.control, 2);
  const rates = inputs(STEP_INPUTS.rates, 3 * groups.length);

  const scaling = graph.inputs.find(({ attrs }) => attrs.name === STEP_INPUTS.lossScale);
  const back = scaling && entry(a, copyOf(scaling), 1);
  const unscaled = (gradient: GraphNode, param: GraphNode): GraphNode =>
    back === undefined ? gradient : binary(algebraOf(builder, param), "mul", gradient, back);
  const learned = graph.outputs.flatMap(({ name, node }) => {
    const param = name.startsWith("gradient.") ? paramAt(graph, name.slice("gradient.".length)) : undefined;
    return param === undefined ? [] : [{ param, gradient: unscaled(copyOf(node), param) }];
  });
  const gradients = learned.map(({ param, gradient }) => {
    if (stage.accumulate === 1) return gradient;
    const before = state(STATE_PREFIX.gradient, param);
    const at = algebraOf(builder, param);
    return select(at, "lt", at.number(0, before), entry(a, control, 1), gradient, binary(at, "add", before, gradient));
  });
  const squares = gradients.map((gradient, i) => {
    const at = algebraOf(builder, learned[i]?.param ?? about);
    const all = gradient.shape.map((_, axis) => axis);
    return sum(at, binary(at, "mul", gradient, gradient), all, false);
  });
  const squared = squares.length === 0 ? a.number(0, loss) : sumOf(a, squares);
  const whole = unary(a, "sqrt", squared);
  const norm = stage.accumulate === 1 ? whole : binary(a, "mul", whole, 1 / stage.accumulate);
  const finite = binary(a, "mul", unary(a, "is_finite", loss), unary(a, "is_finite", norm));
  const gates = gatesOf();

  function gatesOf(): Gates {
    const now = stage.accumulate === 1 ? finite : binary(a, "mul", finite, entry(a, control, 0));
    // One small vector holds all that updates read: a kernel may bind few buffers.
    const per = groups.flatMap((_, g) => {
      const rate = entry(a, rates, 3 * g);
      const open = select(a, "lt", a.number(0, rate), rate, now, a.number(0, rate));
      return [open, rate, entry(a, rates, 3 * g + 1), entry(a, rates, 3 * g + 2)];
    });
    const share = 1 / stage.accumulate;
    // torch.nn.utils.clip_grad_norm_: min(1, most / (norm + 1e-6)).
    const clip =
      stage.clipNorm === undefined
        ? undefined
        : binary(a, "min", binary(a, "div", a.number(stage.clipNorm, norm), binary(a, "add", norm, 1e-6)), 1);
    const scale =
      clip === undefined ? (share === 1 ? undefined : a.number(share, norm)) : binary(a, "mul", clip, share);
    const parts = [finite, ...per, ...(clip === undefined || scale === undefined ? [] : [scale])];
    const vector = a.op(
      "concat",
      parts.map((part) => reshape(a, part, [1])),
      { axis: 0 },
    );
    return {
      finite: entry(a, vector, 0),
      groups: groups.map((_, g) => ({
        open: entry(a, vector, 1 + 4 * g),
        rate: entry(a, vector, 2 + 4 * g),
        first: entry(a, vector, 3 + 4 * g),
        second: entry(a, vector, 4 + 4 * g),
      })),
      scale: clip === undefined ? scale : entry(a, vector, parts.length - 1),
    };
  }

  learned.forEach(({ param, gradient }, i) => {
    const at = algebraOf(builder, param);
    const rule = rules.get(param.attrs.path);
    const gate = gates.groups[groups.indexOf(startOf(rule))];
    if (gate === undefined) throw new Error(`internal: ${param.attrs.path} is in no group`);
    const old = copyOf(param);
    const collected = gradients[i] ?? gradient;
    if (stage.accumulate > 1) {
      const path = STATE_PREFIX.gradient + param.attrs.path;
      const before = state(STATE_PREFIX.gradient, param);
      updates.set(path, select(at, "lt", at.number(0, before), gates.finite, collected, before));
    }
    const scaled = gates.scale === undefined ? collected : binary(at, "mul", collected, gates.scale);
    const rate = rule === undefined || rule.rate === 1 ? gate.rate : binary(at, "mul", gate.rate, rule.rate);
    const decay = stage.weightDecay * (rule?.decay ?? 1);
    const { next, states } = optimizerStep(at, stage.optimizer, old, scaled, decay, { ...gate, rate }, (prefix) =>
      state(prefix, param),
    );
    const gated = (value: GraphNode, before: GraphNode): GraphNode =>
      select(at, "lt", at.number(0, before), gate.open, value, before);
    for (const { prefix, before, value } of states) updates.set(prefix + param.attrs.path, gated(value, before));
    const after = gated(next, old);
    updates.set(param.attrs.path, after);
    if (stage.ema !== undefined) {
      const average = state(STATE_PREFIX.average, param, param.attrs.init);
      const moved = binary(
        at,
        "add",
        average,
        binary(at, "mul", binary(at, "sub", next, average), at.number(1 - stage.ema, average)),
      );
      updates.set(STATE_PREFIX.average + param.attrs.path, gated(moved, average));
    }
  });
  for (const { name, node } of graph.outputs) {
    const path = name.startsWith("update.") ? name.slice("update.".length) : undefined;
    const param = path === undefined ? undefined : paramAt(graph, path);
    if (path === undefined || param === undefined) continue;
    const at = algebraOf(builder, param);
    const before = copyOf(param);
    updates.set(path, select(at, "lt", at.number(0, before), gates.finite, copyOf(node), before));
  }

  const report = a.op(
    "concat",
    [loss, norm, gates.finite].map((part) => reshape(a, part, [1])),
    { axis: 0 },
  );
  const kept = graph.outputs.filter(({ name }) => !/^((scaled_)?loss$|gradient\.|update\.)/.test(name));
  return builder.finish(graph.name, [
    ...kept.map(({ name, node }) => ({ name, node: copyOf(node) })),
    { name: STEP_REPORT, node: report },
    ...[...updates].map(([path, node]) => ({ name: `update.${path}`, node })),
  ]).graph;
}

/** The sum of many numbers, of shape []. */
function sumOf(a: Algebra, values: readonly GraphNode[]): GraphNode {
  const vector = a.op(
    "concat",
    values.map((value) => reshape(a, value, [1])),
    { axis: 0 },
  );
  return sum(a, vector, [0], false);
}

function paramAt(graph: Graph, path: string): NodeOf<"param"> | undefined {
  return graph.nodes.find((node): node is NodeOf<"param"> => node.op === "param" && node.attrs.path === path);
}

interface Advanced {
  readonly next: GraphNode;
  readonly states: readonly { readonly prefix: string; readonly before: GraphNode; readonly value: GraphNode }[];
}

/**
 * A parameter after one step, with the optimizer's state; all as PyTorch defines them (torch.optim.SGD with dampening 0,
 * torch.optim.Adam, torch.optim.AdamW).
 */
function optimizerStep(
  a: Algebra,
  optimizer: Optimizer,
  old: GraphNode,
  gradient: GraphNode,
  decay: number,
  gate: { readonly rate: GraphNode; readonly first: GraphNode; readonly second: GraphNode },
  state: (prefix: string) => GraphNode,
): Advanced {
  const mul = (x: GraphNode, y: GraphNode | number): GraphNode => binary(a, "mul", x, y);
  const add = (x: GraphNode, y: GraphNode | number): GraphNode => binary(a, "add", x, y);
  const decayed = (x: GraphNode): GraphNode => (decay === 0 ? x : add(x, mul(old, decay)));
  switch (optimizer.kind) {
    case "sgd": {
      const direction = decayed(gradient);
      if (optimizer.momentum === 0) return { next: binary(a, "sub", old, mul(direction, gate.rate)), states: [] };
      const before = state(STATE_PREFIX.momentum);
      const value = add(mul(before, optimizer.momentum), direction);
      const step = optimizer.nesterov ? add(direction, mul(value, optimizer.momentum)) : value;
      const next = binary(a, "sub", old, mul(step, gate.rate));
      return { next, states: [{ prefix: STATE_PREFIX.momentum, before, value }] };
    }
    case "adam": {
      const { beta1, beta2, eps, decoupled } = optimizer;
      const direction = decoupled ? gradient : decayed(gradient);
      const [firstBefore, secondBefore] = [state(STATE_PREFIX.firstMoment), state(STATE_PREFIX.secondMoment)];
      const first = add(mul(firstBefore, beta1), mul(direction, 1 - beta1));
      const second = add(mul(secondBefore, beta2), mul(mul(direction, direction), 1 - beta2));
      const spread = add(mul(unary(a, "sqrt", second), gate.second), eps);
      const step = binary(a, "div", mul(first, mul(gate.rate, gate.first)), spread);
      const shrunk = decoupled && decay !== 0 ? binary(a, "sub", old, mul(old, mul(gate.rate, decay))) : old;
      return {
        next: binary(a, "sub", shrunk, step),
        states: [
          { prefix: STATE_PREFIX.firstMoment, before: firstBefore, value: first },
          { prefix: STATE_PREFIX.secondMoment, before: secondBefore, value: second },
        ],
      };
    }
    default:
      return optimizer satisfies never;
  }
}
