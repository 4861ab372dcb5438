/**
 * Lowering of convolutions by Winograd's minimal filtering, and of their gradients: the transforms around the products.
 *
 * Each transform is one MAP over tiles and channels: it reads a whole tile and stores each of its transformed elements, a
 * plane of the result each, so that the arithmetic between them is shared. The products are an ordinary matrix product
 * with a plane as batch entry; weights are transformed, and packed, when they arrive.
 */
import type { GraphNode } from "../graph/graph.ts";
import { binary, type Scalar } from "../scalar.ts";
import { transformBoth, type WinogradTile, winogradMatrices } from "../winograd.ts";
import { add, constant, flatten, scale } from "./affine.ts";
import { kernelBuilder, type View, viewOf } from "./build.ts";
import { type Context, entry, knownShape, type Lowering, layersOf, nameOf, operand } from "./context.ts";
import type { Affine } from "./loops.ts";

const range = (length: number): readonly number[] => Array.from({ length }, (_, i) => i);

/** The sizes of an image [N, C, H, W]. */
function imageShape(node: GraphNode): readonly [number, number, number, number] {
  const [images = 0, channels = 0, height = 0, width = 0] = knownShape(node);
  return [images, channels, height, width];
}

/** Tiles [n, th, tw] of a result of `size`, the axes of the nest over them, and their row-major number. */
function tilesOf(
  b: ReturnType<typeof kernelBuilder>,
  images: number,
  size: readonly number[],
  tile: number,
): { readonly n: Affine; readonly at: readonly [Affine, Affine]; readonly number: Affine } {
  const extents = [images, ...size.map((side) => Math.ceil(side / tile))];
  const [n, th, tw] = extents.map((extent, i) => b.axis(entry(["n", "th", "tw"], i), extent));
  if (n === undefined || th === undefined || tw === undefined) throw new Error("internal: tiles have two sides");
  return { n, at: [th, tw], number: flatten([n, th, tw], extents, extents) };
}

/** How the tiles of an image are read and transformed. */
interface TileTransform {
  readonly label: string;
  readonly tile: WinogradTile;
  /** M of M·d·Mᵀ; as many columns as a tile has rows that are read. */
  readonly matrix: readonly (readonly number[])[];
  /** Rows and columns by which the first tile begins before the image. */
  readonly pad: readonly [number, number];
  /** Of the convolution's result. */
  readonly size: readonly [number, number];
}

/** Every tile of operand 0, an image that is zero beyond its edge, transformed: an element to each plane. */
function lowerTiles(node: GraphNode, context: Context, { label, tile, matrix, pad, size }: TileTransform): View {
  const x = operand(node, 0);
  const [images, channels, height, width] = imageShape(x);
  const image = context.image(x);
  const b = kernelBuilder(context.buffers);
  const { n, at, number } = tilesOf(b, images, size, tile);
  const c = b.axis("c", channels);
  const side = range(entry(matrix, 0).length);
  const read = side.map((i) =>
    side.map((j) => {
      const row = add(scale(at[0], tile), constant(i - pad[0]));
      const column = add(scale(at[1], tile), constant(j - pad[1]));
      const guards = [
        { index: row, size: height },
        { index: column, size: width },
      ];
      return b.load(image, [n, c, row, column], guards, 0);
    }),
  );
  const name = nameOf(node, label);
  const out = context.allocate({ name, shape: knownShape(node), dtype: node.dtype, from: [image] });
  transformBoth(matrix, read).forEach((row, i) => {
    row.forEach((value, j) => b.store(out, [constant(i * row.length + j), number, c], value));
  });
  context.emit(b.finish({ name, layers: layersOf(node) }));
  return viewOf(out);
}

export const lowerWinogradInput: Lowering<"winograd_input"> = (node, context) => {
  const { tile, pad } = node.attrs;
  const [, , height, width] = imageShape(operand(node, 0));
  const size = [height + 2 * pad[0] - 2, width + 2 * pad[1] - 2] as const;
  return lowerTiles(node, context, { label: "winograd.input", tile, matrix: winogradMatrices(tile).input, pad, size });
};

export const lowerWinogradWeight: Lowering<"winograd_weight"> = (node, context) => {
  const { tile, adjoint } = node.attrs;
  const { span, weight } = winogradMatrices(tile);
  const w = context.value(operand(node, 0));
  const [, channels, filters] = range(3).map((d) => entry(knownShape(node), d)) as [number, number, number];
  const b = kernelBuilder(context.buffers);
  const c = b.axis("c", channels);
  const o = b.axis("o", filters);
  const g = range(3).map((kh) =>
    range(3).map((kw) => {
      const [row, column] = [kh, kw].map((k) => constant(adjoint ? 2 - k : k)) as [Affine, Affine];
      return b.load(w, adjoint ? [c, o, row, column] : [o, c, row, column]);
    }),
  );
  const name = nameOf(node, "winograd.weight");
  const out = context.allocate({ name, shape: knownShape(node), dtype: node.dtype, from: [w] });
  transformBoth(weight, g).forEach((row, i) => {
    row.forEach((value, j) => b.store(out, [constant(i * span + j), c, o], value));
  });
  context.emit(b.finish({ name, layers: layersOf(node) }));
  return viewOf(out);
};

export const lowerWinogradOutput: Lowering<"winograd_output"> = (node, context) => {
  const { tile, size, pool } = node.attrs;
  const { span, output } = winogradMatrices(tile);
  const [images, filters, height, width] = imageShape(node);
  const values = node.inputs.map(context.value);
  const b = kernelBuilder(context.buffers);
  const { n, at, number } = tilesOf(b, images, size, tile);
  const o = b.axis("o", filters);
  const m = range(span).map((i) =>
    range(span).map((j) => b.load(entry(values, 0), [constant(i * span + j), number, o])),
  );
  const bias = values[1] === undefined ? undefined : b.load(values[1], [o]);
  const name = nameOf(node, "");
  const out = context.allocate({
    name: name === "" ? "conv2d" : name,
    shape: knownShape(node),
    dtype: node.dtype,
    from: values,
    like: "channels-last",
  });
  const tiled = transformBoth(output, m);
  const side = tile / pool;
  for (const i of range(side)) {
    for (const j of range(side)) {
      const window = range(pool).flatMap((a) =>
        range(pool).map((e) => entry(entry(tiled, i * pool + a), j * pool + e)),
      );
      const value = window.reduce<Scalar>((most, x) => (most === x ? x : binary("max", most, x)), entry(window, 0));
      const row = add(scale(at[0], side), constant(i));
      const column = add(scale(at[1], side), constant(j));
      const guards = [
        { index: row, size: height },
        { index: column, size: width },
      ];
      b.store(out, [n, o, row, column], bias === undefined ? value : binary("add", value, bias), guards);
    }
  }
  context.emit(b.finish({ name: out.name, layers: layersOf(node) }));
  return viewOf(out);
};

/** The gradient of the products, from the tiles of the image's gradient, which do not overlap. */
export const lowerWinogradOutputGrad: Lowering<"winograd_output_grad"> = (node, context) => {
  const { tile } = node.attrs;
  const [, , height, width] = imageShape(operand(node, 0));
  const { outputGrad } = winogradMatrices(tile);
  const size = [height, width] as const;
  return lowerTiles(node, context, { label: "winograd.output_grad", tile, matrix: outputGrad, pad: [0, 0], size });
};

export const lowerWinogradWeightGrad: Lowering<"winograd_weight_grad"> = (node, context) => {
  const { span, weightGrad } = winogradMatrices(node.attrs.tile);
  const products = context.value(operand(node, 0));
  const shape = knownShape(node);
  const b = kernelBuilder(context.buffers);
  const c = b.axis("c", entry(shape, 1));
  const o = b.axis("o", entry(shape, 0));
  const m = range(span).map((i) => range(span).map((j) => b.load(products, [constant(i * span + j), c, o])));
  const name = nameOf(node, "weight_grad");
  const out = context.allocate({ name, shape, dtype: node.dtype, from: [products], like: "filters-last" });
  transformBoth(weightGrad, m).forEach((row, i) => {
    row.forEach((value, j) => b.store(out, [o, c, constant(i), constant(j)], value));
  });
  context.emit(b.finish({ name, layers: layersOf(node) }));
  return viewOf(out);
};
