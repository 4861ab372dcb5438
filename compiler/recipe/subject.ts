/**
 * What a recipe trains, as far as recipes care: the inputs that clips feed, and the classes that come out.
 */
import { diagnostic } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { type Reports, report } from "../elaborate/failure.ts";
import type { Model } from "../model.ts";
import { showShape } from "../size.ts";

export interface Subject {
  readonly model: Model;
  /** Where the model is declared. */
  readonly at: Span;
  readonly inputs: readonly Input[];
  /** Numbers that come out for each clip; undefined if it is no row of numbers. */
  readonly outputs: number | undefined;
}

export interface Input {
  readonly name: string;
  readonly feed: "picture" | "flow";
  readonly channels: number;
  /** Height and width; undefined where they are open. */
  readonly size: readonly [number, number] | undefined;
}

/** A model as something to train; what no clip can feed, or gives no classes, is reported (E0710). */
export function subjectOf(model: Model, at: Span, reports: Reports): Subject | undefined {
  const { inputs, outputs } = model.graph;
  const refuse = (message: string, label: string, helps: readonly string[]): undefined => {
    report(reports, diagnostic("E0710", message, at, { label, helps }));
    return undefined;
  };
  const [output, ...more] = outputs;
  if (output === undefined || more.length > 0)
    return refuse(`\`${model.name}\` gives ${outputs.length} values, and a recipe trains one`, "several outputs", [
      "join the streams: `fuse Average`",
    ]);
  const [, count, ...rest] = output.node.shape;
  if (typeof count !== "number" || rest.length > 0)
    return refuse(
      `\`${model.name}\` gives ${showShape(output.node.shape)}, and training needs one row of scores for each clip`,
      "no scores of classes",
      ["end with `GlobalAvgPool -> Linear(4)`"],
    );
  const fed: Input[] = [];
  for (const { attrs, shape } of inputs) {
    const [, channels, height, width] = shape;
    const feed =
      typeof channels !== "number" ? undefined : channels === 3 ? "picture" : channels % 2 === 0 ? "flow" : undefined;
    if (shape.length !== 4 || feed === undefined || typeof channels !== "number")
      return refuse(
        `no clip feeds \`${attrs.name}\` of \`${model.name}\`: it is ${showShape(shape)}`,
        "cannot be trained on clips",
        ["a picture is `f32[N, 3, H, W]`, L fields of optical flow are `f32[N, 2 * L, H, W]`"],
      );
    const size = typeof height === "number" && typeof width === "number" ? ([height, width] as const) : undefined;
    fed.push({ name: attrs.name, feed, channels, size });
  }
  return { model, at, inputs: fed, outputs: count };
}
