/**
 * Shape rules of operators that nobody writes: rewrites put them in the place of others, on bound graphs, and are wrong if
 * they do not fit. So a misfit is told briefly.
 */
import { divExact, equal, isKnown, mul, type Size, showShape } from "../size.ts";
import type { OpAttrs, TensorType } from "./graph.ts";
import {
  axisOf,
  given,
  type Inputs,
  isProblem,
  problem,
  type Ruled,
  type ShapeProblem,
  showType,
  signature,
  vector,
} from "./shapes.ts";

/** Tiles of a convolution's result along each side. */
const tilesOf = (size: readonly number[], tile: number): readonly number[] => size.map((s) => Math.ceil(s / tile));

/** Winograd's transforms: of the image's tiles, of the weights, and of the products back into an image. */
export function winogradInput([x]: Inputs, { tile, pad }: OpAttrs["winograd_input"]): Ruled {
  const image = given(x);
  const wrong = signature("winograd_input", "x: [N, C, H, W]", image, 4);
  if (wrong) return wrong;
  const size = image.shape.slice(2).map((side, i) => (isKnown(side) ? side + 2 * (pad[i] ?? 0) - 2 : 0));
  if (size.some((side) => side < 1)) return winogradMisfit(image);
  const tiles = tilesOf(size, tile).reduce<Size>((count, along) => mul(count, along), axisOf(image, 0));
  return { shape: [(tile + 2) ** 2, tiles, axisOf(image, 1)], dtype: image.dtype };
}

export function winogradWeight([w]: Inputs, { tile, adjoint }: OpAttrs["winograd_weight"]): Ruled {
  const weight = given(w);
  const windows = weight.shape.slice(2);
  if (weight.shape.length !== 4 || !windows.every((side) => equal(side, 3))) return winogradMisfit(weight);
  const [from, to] = adjoint ? [0, 1] : [1, 0];
  return { shape: [(tile + 2) ** 2, axisOf(weight, from), axisOf(weight, to)], dtype: weight.dtype };
}

export function winogradOutput([m, b]: Inputs, { tile, size, pool }: OpAttrs["winograd_output"]): Ruled {
  const products = given(m);
  const tiles = tilesOf(size, tile).reduce((count, along) => count * along, 1);
  const images = divExact(axisOf(products, 1), tiles);
  if (products.shape.length !== 3 || !equal(axisOf(products, 0), (tile + 2) ** 2) || images === undefined)
    return winogradMisfit(products);
  const channels = axisOf(products, 2);
  const misfit = b && vector("winograd_output", "b: [O]", b, channels);
  return misfit ?? { shape: [images, channels, ...size.map((s) => Math.floor(s / pool))], dtype: products.dtype };
}

export function winogradOutputGrad([dy]: Inputs, { tile }: OpAttrs["winograd_output_grad"]): Ruled {
  const result = given(dy);
  const wrong = signature("winograd_output_grad", "dy: [N, O, H, W]", result, 4);
  if (wrong) return wrong;
  const sides = result.shape.slice(2).filter(isKnown);
  if (sides.length !== 2) return winogradMisfit(result);
  const tiles = tilesOf(sides, tile).reduce<Size>((count, along) => mul(count, along), axisOf(result, 0));
  return { shape: [(tile + 2) ** 2, tiles, axisOf(result, 1)], dtype: result.dtype };
}

export function winogradWeightGrad([m]: Inputs, { tile }: OpAttrs["winograd_weight_grad"]): Ruled {
  const gradient = given(m);
  if (gradient.shape.length !== 3 || !equal(axisOf(gradient, 0), (tile + 2) ** 2)) return winogradMisfit(gradient);
  return { shape: [axisOf(gradient, 2), axisOf(gradient, 1), 3, 3], dtype: gradient.dtype };
}

function winogradMisfit(type: TensorType): ShapeProblem {
  return problem("E0302", "the parts of a convolution do not fit each other", { label: `${showType(type)} given` });
}

/** The result of attention: a row of q, as wide as v. */
export function attend([q, k, v]: Inputs): Ruled {
  const [queries, values] = [given(q), given(v)];
  const wrong =
    attentionMisfit([queries, given(k)]) ?? fits(values, [...given(k).shape.slice(0, -1), axisOf(values, -1)]);
  return wrong ?? { shape: [...queries.shape.slice(0, -1), axisOf(values, -1)], dtype: queries.dtype };
}

export function attendLogSum([q, k]: Inputs): Ruled {
  const queries = given(q);
  return attentionMisfit([queries, given(k)]) ?? { shape: queries.shape.slice(0, -1), dtype: queries.dtype };
}

export function attendGrad(by: "query" | "key"): (inputs: Inputs) => Ruled {
  return ([q, k, v, dy, log, row]) => {
    const result = attend([given(q), given(k), given(v)]);
    if (isProblem(result)) return result;
    const rows = result.shape.slice(0, -1);
    return (
      fits(given(dy), result.shape) ?? fits(given(log), rows) ?? fits(given(row), rows) ?? given(by === "query" ? q : k)
    );
  };
}

export function attendValueGrad([q, k, dy, log]: Inputs): Ruled {
  const [queries, keys, upstream] = [given(q), given(k), given(dy)];
  const rows = queries.shape.slice(0, -1);
  const wrong =
    attentionMisfit([queries, keys]) ?? fits(upstream, [...rows, axisOf(upstream, -1)]) ?? fits(given(log), rows);
  return wrong ?? { shape: [...keys.shape.slice(0, -1), axisOf(upstream, -1)], dtype: queries.dtype };
}

/** Rows and keys of attention have the axes before them, and their depth, in common. */
function attentionMisfit([queries, keys]: readonly [TensorType, TensorType]): ShapeProblem | undefined {
  return (
    signature("attend", "q: [...B, P, C]", queries, 2, "at least") ??
    signature("attend", "k: [...B, K, C]", keys, 2, "at least") ??
    fits(keys, [...queries.shape.slice(0, -2), axisOf(keys, -2), axisOf(queries, -1)])
  );
}

function fits(type: TensorType, shape: readonly Size[]): ShapeProblem | undefined {
  if (type.shape.length === shape.length && shape.every((size, i) => equal(size, type.shape[i] ?? -1)))
    return undefined;
  return problem("E0302", "the parts of attention do not fit each other", {
    label: `${showShape(shape)} wanted, ${showShape(type.shape)} given`,
  });
}
