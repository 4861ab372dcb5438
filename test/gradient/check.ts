/**
 * Checking gradients: the rules against central differences of the loss, and their loops against their definition.
 *
 * In: a graph with an output `loss`. Every parameter and input is differentiated by, in f64; a few elements of each are
 * compared with a difference quotient. Then the whole gradient graph is lowered, plain and fused, and run by the oracle:
 * its gradients are those of the definition, and along random directions those that the oracle's own losses have.
 */
import { expect } from "vitest";
import { differentiate } from "../../compiler/graph/gradient.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import type { Loops } from "../../compiler/loop/loops.ts";
import { type LowerOptions, lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { difference, random, randomValues } from "../loop/nets.ts";

export interface Values {
  readonly inputs: Map<string, Float64Array>;
  readonly params: Map<string, Float64Array>;
}

const PLAIN: LowerOptions = { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: false };
const FUSED: LowerOptions = { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true };

/** Elements of each tensor whose derivative is compared; spread over it. */
const SAMPLED = 12;

/** Inputs and learned parameters: everything that can be differentiated by. */
export function leavesOf(graph: Graph): GraphNode[] {
  return graph.nodes.filter((node) => node.op === "input" || (node.op === "param" && node.attrs.kind === "param"));
}

export function outputNamed(graph: Graph, name: string): GraphNode {
  const output = graph.outputs.find((o) => o.name === name);
  if (output === undefined) throw new Error(`no output ${name}`);
  return output.node;
}

/** The graph with the gradients of its output `loss` by `wrt`. */
export function gradientOf(graph: Graph, wrt: readonly GraphNode[] = leavesOf(graph)): Graph {
  const result = differentiate(graph, outputNamed(graph, "loss"), wrt);
  if (!("graph" in result)) throw new Error(result.reason);
  expect(verifyGraph(result.graph)).toEqual([]);
  return result.graph;
}

/** The outputs of a graph by name, by definition. */
export function evaluated(graph: Graph, { inputs, params }: Values): Map<string, Float64Array> {
  const values = evaluateGraph(graph, inputs, params);
  return new Map(graph.outputs.map(({ name }, i) => [name, values[i] ?? new Float64Array()]));
}

/** Gradients against central differences, loops against definitions. Gives the gradients and the plain loops back. */
export function checkGradients(
  graph: Graph,
  values: Values = randomValues(graph),
  options: {
    readonly tolerance?: number;
    /** Of the loops, against the definition. */
    readonly loopTolerance?: number | undefined;
    readonly only?: readonly GraphNode[];
    readonly sampled?: number;
  } = {},
): { readonly gradients: Map<string, Float64Array>; readonly loops: Loops; readonly graph: Graph } {
  const { tolerance = 1e-6, loopTolerance = 1e-10, only = leavesOf(graph), sampled = SAMPLED } = options;
  const whole = gradientOf(graph, only);
  const gradients = evaluated(whole, values);
  const lossAt = graph.outputs.findIndex((o) => o.name === "loss");
  const loss = (): number => evaluateGraph(graph, values.inputs, values.params)[lossAt]?.[0] ?? Number.NaN;
  for (const node of only) {
    const { name, data } = leafValues(node, values);
    const got = gradients.get(`gradient.${name}`) ?? new Float64Array(data.length);
    const places = Array.from({ length: Math.min(sampled, data.length) }, (_, i) =>
      Math.floor(((i + 0.5) * data.length) / Math.min(sampled, data.length)),
    );
    const numeric = places.map((place) => {
      const value = data[place] ?? 0;
      const h = 1e-5;
      data[place] = value + h;
      const above = loss();
      data[place] = value - h;
      const below = loss();
      data[place] = value;
      return (above - below) / (2 * h);
    });
    const scale = Math.max(1e-3, ...numeric.map(Math.abs), ...got.map(Math.abs));
    places.forEach((place, i) => {
      const error = Math.abs((got[place] ?? Number.NaN) - (numeric[i] ?? 0)) / scale;
      expect(error, `d loss / d ${name}[${place}]: ${got[place]}, not ${numeric[i]}`).toBeLessThan(tolerance);
    });
  }
  const loops = checkLoops(whole, values, gradients, loopTolerance);
  checkDirections(graph, only, values, interpret(lowerGraph(whole, FUSED), values.inputs, values.params));
  return { gradients, loops, graph: whole };
}

function leafValues(node: GraphNode, values: Values): { readonly name: string; readonly data: Float64Array } {
  const name = node.op === "param" ? node.attrs.path : node.op === "input" ? node.attrs.name : "";
  const data = (node.op === "param" ? values.params : values.inputs).get(name);
  if (data === undefined) throw new Error(`no values for ${name}`);
  return { name, data };
}

/** More leaves than this move together in `checkDirections`: networks have many, and each was sampled already. */
const ALONE = 8;

/**
 * Gradients that the oracle computed against central differences of losses that it computed, along random directions
 * with a part in every element, so that no element goes unseen: of each leaf, or in networks of all leaves at once.
 */
function checkDirections(
  graph: Graph,
  leaves: readonly GraphNode[],
  values: Values,
  gradients: ReadonlyMap<string, Float64Array>,
): void {
  const forward = lowerGraph(graph, PLAIN);
  const loss = (): number => interpret(forward, values.inputs, values.params).get("loss")?.[0] ?? Number.NaN;
  const next = random(3);
  const groups = leaves.length > ALONE ? [leaves, leaves] : leaves.map((leaf) => [leaf]);
  for (const group of groups) {
    const moved = group.map((leaf) => {
      const { name, data } = leafValues(leaf, values);
      const direction = data.map(() => (next() < 0 ? -1 : 1) / Math.sqrt(data.length));
      return { name, data, start: data.slice(), direction, got: gradients.get(`gradient.${name}`) };
    });
    const along = (h: number): number => {
      for (const { data, start, direction } of moved) data.set(start.map((x, i) => x + h * (direction[i] ?? 0)));
      return loss();
    };
    const h = 1e-5;
    const numeric = (along(h) - along(-h)) / (2 * h);
    along(0);
    let exact = 0;
    let square = 0;
    for (const { direction, got } of moved) {
      got?.forEach((g, i) => {
        exact += g * (direction[i] ?? 0);
        square += (g * (direction[i] ?? 0)) ** 2;
      });
    }
    const scale = Math.max(1e-3, Math.sqrt(square), Math.abs(numeric));
    const names = moved.map(({ name }) => name).join(", ");
    expect(Math.abs(exact - numeric) / scale, `d loss along ${names}: ${exact}, not ${numeric}`).toBeLessThan(1e-6);
  }
}

/** The loops of a graph, plain and fused, on the oracle: within `tolerance` of `expected`. Gives the plain ones back. */
export function checkLoops(
  graph: Graph,
  { inputs, params }: Values,
  expected: Map<string, Float64Array>,
  tolerance = 1e-10,
): Loops {
  for (const options of [PLAIN, FUSED]) {
    const loops = lowerGraph(graph, options);
    expect(verifyLoops(loops)).toEqual([]);
    const got = interpret(loops, inputs, params);
    for (const [name, want] of expected) {
      // What should be nothing is compared with 1, not with the rounding errors of nothing.
      const magnitude = Math.max(...want.map(Math.abs));
      const error =
        magnitude < 1e-12
          ? Math.max(...(got.get(name) ?? [Number.NaN]).map(Math.abs))
          : difference(got.get(name), want);
      expect(error, `${name}, ${options.fuse ? "fused" : "plain"}`).toBeLessThan(tolerance);
    }
  }
  return lowerGraph(graph, PLAIN);
}
