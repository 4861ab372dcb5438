/** Models as they are trained: the statistics of the batch, a loss, and numbers made from names, which open every gate. */
import { binary } from "../../compiler/graph/algebra.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import { meanSquaredError, withLoss } from "../../compiler/graph/losses.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import type { Model } from "../../compiler/model.ts";
import { doubles, namedInputs, namedParameters } from "../tools/nets.ts";
import type { Values } from "./check.ts";

/** The mean squared distance of every output from a target of its own. */
export function toTargets(graph: Graph, names: readonly string[] = graph.outputs.map(({ name }) => name)): Graph {
  return withLoss(graph, ({ a, output, target }) => {
    const [first, ...others] = names.map((name) =>
      meanSquaredError(a, output(name), target(`target.${name}`, output(name).shape)),
    );
    if (first === undefined) throw new Error("a loss of nothing");
    return others.reduce((total, other) => binary(a, "add", total, other), first);
  });
}

/** A model's training form with the distance of its outputs (`only` some of them) from targets as the loss. */
export function trained(model: Model, only: readonly string[] = model.graph.outputs.map(({ name }) => name)): Graph {
  return toTargets(trainingForm(model.graph), only);
}

export function namedValuesOf(model: Model, graph: Graph): Values {
  return { inputs: doubles(namedInputs(graph)), params: doubles(namedParameters(model)) };
}
