/**
 * Convolutions by Winograd's minimal filtering: which of a graph's take that form, and the rewrite that gives it.
 *
 * In: a graph for inference, or a training step's with its gradients, whose sizes are numbers, and what is known of the
 * target. Out: the graph with 3×3 convolutions of stride 1, and with gradients of such, as transform, one matrix product for
 * each element of a tile, and inverse, wherever that is expected to be faster; and the choices with their reasons. The
 * gradient by the image is a convolution itself. That by the weights sums over tiles instead of places, between the
 * transposes of the other transforms. A max pool of 2×2 behind such a convolution (and behind its ReLU, for what
 * is monotone and a maximum change places) becomes part of the inverse, whose tiles its windows align with. The weights'
 * transform depends on parameters only, so it is computed when they arrive; where they are trained, in every pass.
 *
 * The form rounds otherwise: against f64 it is off by 0.6 to 1 times (tiles of 2) or 2 to 3 times (tiles of 4) of what the
 * direct form is, on random data of 64 to 512 channels; whole VGG-16 is off by 1.3e-6, and the library allows 1e-4.
 */
import { isKnown, type Size } from "../size.ts";
import type { WinogradTile } from "../winograd.ts";
import type { Graph, GraphNode, NodeOf } from "./graph.ts";
import { type Rule, rewrite, type Site } from "./rewrite.ts";

/** How a convolution is computed: as one product over windows, or by Winograd in tiles of 2×2 or 4×4 results. */
export type ConvolutionForm = "direct" | "winograd 2" | "winograd 4";

/** A 3×3 convolution of stride 1 whose weights are parameters, or a gradient of one, in numbers. */
export interface ConvolutionSite {
  readonly layer: string;
  readonly images: number;
  /** Of the gradient by the image, those of the image that comes in: the result's. */
  readonly channels: number;
  readonly filters: number;
  /** Of the convolution's result. */
  readonly size: readonly [number, number];
}

/** Which of a convolution's products: forward, or a gradient. */
export type ConvolutionPass = "forward" | "by image" | "by weights";

export interface ConvolutionChoice extends ConvolutionSite {
  readonly pass: ConvolutionPass;
  readonly form: ConvolutionForm;
  /** In words, a whole clause. */
  readonly reason: string;
  /** Of a max pool that reads the result: whether it is part of the convolution, and why. */
  readonly pool?: { readonly fused: boolean; readonly reason: string };
}

/** Milliseconds of a convolution in its forms; a form that is not there is not to be taken. */
export type FormTimes = { readonly [F in ConvolutionForm]?: number };

/** What forms took on the device; undefined for a convolution that nobody timed. */
export type MeasuredForms = (site: ConvolutionSite) => FormTimes | undefined;

export interface ConvolutionTarget {
  /** Where it knows a convolution, it decides. */
  readonly measured?: MeasuredForms | undefined;
  /** Expected milliseconds of a convolution in a form; undefined where only the direct form is known to be good. */
  readonly expected?: ((site: ConvolutionSite, pass: ConvolutionPass, form: ConvolutionForm) => number) | undefined;
  /**
   * The graph is a training step's. Then no forward pass goes in tiles of 4, which round two to three times as much as the
   * direct form does: ReLUs and pools behind it choose by what it gives, and another choice is another gradient. Tiles of 2
   * round no more than the direct form, and gradients choose nothing.
   */
  readonly trained?: boolean;
  /** What the transformed tiles of one convolution may take, before or behind its products. */
  readonly tileBytes: number;
  /** The form of every convolution that can take it, whatever it costs, and why. */
  readonly always?: { readonly form: ConvolutionForm; readonly reason: string } | undefined;
}

export interface Convolved {
  readonly graph: Graph;
  readonly choices: readonly ConvolutionChoice[];
}

/** From the one that rounds least and takes least memory to the one that does most. */
export const FORMS: readonly ConvolutionForm[] = ["direct", "winograd 2", "winograd 4"];

/** The share of a form's time from which on the next one is worth its rounding and its memory. */
const WORTHWHILE = 0.9;

/** The graph with every convolution in the form that suits the target. */
export function chooseConvolutions(graph: Graph, target: ConvolutionTarget): Convolved {
  const fixed = fixedNodes(graph);
  const sites = graph.nodes.flatMap((node) => {
    const parts = partsOf(node);
    if (parts === undefined || fixed.has(parts.x) || (parts.pass !== "by weights" && !fixed.has(parts.w))) return [];
    return [{ node, parts }];
  });
  const choices = new Map(sites.map(({ node, parts }) => [node, choiceOf(parts.site, parts.pass, target)]));
  const keyOf = (pass: ConvolutionPass, site: ConvolutionSite): string => `${pass} ${convolutionKey(site)}`;
  const forms = new Map([...choices.values()].map((choice) => [keyOf(choice.pass, choice), choice.form]));
  const formOf = (parts: Parts): ConvolutionForm => forms.get(keyOf(parts.pass, parts.site)) ?? "direct";
  const made = rewrite(graph, [winogradRule(formOf), poolRule]);
  return { graph: made, choices: [...choices].map(([node, choice]) => withPool(graph, node, choice)) };
}

/** Equal for convolutions that are alike: they take one form. */
export const convolutionKey = ({ images, channels, filters, size }: ConvolutionSite): string =>
  [images, channels, filters, ...size].join(" ");

function choiceOf(
  site: ConvolutionSite,
  pass: ConvolutionPass,
  { measured, expected, always, tileBytes, trained = false }: ConvolutionTarget,
): ConvolutionChoice {
  const about = { ...site, pass };
  if (always !== undefined) return { ...about, ...always };
  const known = measured?.(site);
  if (known === undefined && expected === undefined) {
    return {
      ...about,
      form: "direct",
      reason: "another only where `--tune SECONDS` has found it faster on the device",
    };
  }
  const times = known ?? Object.fromEntries(FORMS.map((form) => [form, expected?.(site, pass, form)]));
  const fitting = formsOf(site, tileBytes);
  const refusal = (form: ConvolutionForm): string | undefined => {
    if (!fitting.includes(form)) return "too large";
    return trained && pass === "forward" && form === "winograd 4" ? "rounds too much to be trained" : undefined;
  };
  const told = FORMS.flatMap((form) => {
    const [ms, refused] = [times[form], refusal(form)];
    return ms === undefined ? [] : [`${form} ${ms.toPrecision(2)} ms${refused === undefined ? "" : ` (${refused})`}`];
  });
  const allowed = FORMS.filter((form) => refusal(form) === undefined);
  const source = known === undefined ? "expected on one core" : "timed on this device";
  return { ...about, form: fastestForm(times, allowed), reason: `${source}: ${told.join(", ")}` };
}

/** The form that is worth most, among these: a faster one, by more than it costs in rounding and memory. */
export function fastestForm(times: FormTimes, among: readonly ConvolutionForm[] = FORMS): ConvolutionForm {
  const ms = (form: ConvolutionForm): number => times[form] ?? Number.POSITIVE_INFINITY;
  return among.reduce((best, form) => (ms(form) < WORTHWHILE * ms(best) ? form : best), "direct");
}

/** The forms of a convolution whose tiles fit into so many bytes: what there is to choose from. */
export function formsOf(site: ConvolutionSite, tileBytes: number): readonly ConvolutionForm[] {
  return FORMS.filter((form) => bytesOf(site, form) <= tileBytes);
}

/** Bytes of the larger of the transformed input and the products. */
function bytesOf(site: ConvolutionSite, form: ConvolutionForm): number {
  if (form === "direct") return 0;
  const { planes, tiles } = tilesOf(site, form);
  return 4 * planes * tiles * Math.max(site.channels, site.filters);
}

type TiledForm = Exclude<ConvolutionForm, "direct">;

function tileOf(form: TiledForm): WinogradTile {
  return form === "winograd 2" ? 2 : 4;
}

/** The tiles of a convolution's result, and the elements of each when it is transformed. */
export function tilesOf(
  { images, size }: ConvolutionSite,
  form: TiledForm,
): { readonly planes: number; readonly tiles: number } {
  const tile = tileOf(form);
  return { planes: (tile + 2) ** 2, tiles: images * Math.ceil(size[0] / tile) * Math.ceil(size[1] / tile) };
}

// ------------------------------------------------------------------------------------------------------- finding them

/** Nodes that depend on nothing but parameters and numbers. */
function fixedNodes(graph: Graph): ReadonlySet<GraphNode> {
  const fixed = new Set<GraphNode>();
  for (const node of graph.nodes) {
    const leaf = node.op === "param" || node.op === "constant";
    if (leaf || (node.inputs.length > 0 && node.inputs.every((input) => fixed.has(input)))) fixed.add(node);
  }
  return fixed;
}

/** What may take another form. */
type Parts =
  | {
      /** A convolution, or the gradient of one by its image: one too, with windows turned half around. */
      readonly pass: "forward" | "by image";
      readonly site: ConvolutionSite;
      readonly x: GraphNode;
      readonly w: GraphNode;
      readonly bias: GraphNode | undefined;
      readonly pad: Pad;
    }
  | {
      readonly pass: "by weights";
      readonly site: ConvolutionSite;
      readonly x: GraphNode;
      readonly dy: GraphNode;
      readonly pad: Pad;
    };

type Pad = readonly [number, number];

/** The parts of what may take another form: 3×3, of stride 1, in one group, with sizes that are numbers. */
function partsOf(node: GraphNode): Parts | undefined {
  if (node.op !== "conv2d" && node.op !== "conv2d_input_grad" && node.op !== "conv2d_weight_grad") return undefined;
  const { stride, dilation, groups, pad } = node.attrs;
  const [x, second, bias] = node.inputs;
  const plain = groups === 1 && [...stride, ...dilation].every((step) => step === 1);
  if (!plain || x === undefined || second === undefined) return undefined;
  // Of the gradient by the weights, those are its result, and the result is its operand.
  const [weights, result] = node.op === "conv2d_weight_grad" ? [node, second] : [second, node];
  const [out, into, kh, kw] = numbersOf(weights.shape);
  const [images, , height, width] = numbersOf(result.shape);
  if (out === undefined || into === undefined || kh !== 3 || kw !== 3) return undefined;
  if (images === undefined || height === undefined || width === undefined) return undefined;
  const site = { layer: node.layer, images, channels: into, filters: out, size: [height, width] } as const;
  switch (node.op) {
    case "conv2d":
      return { pass: "forward", site, x, w: second, bias, pad };
    case "conv2d_weight_grad":
      return { pass: "by weights", site, x, dy: second, pad };
    case "conv2d_input_grad": {
      const [top, left] = [2 - pad[0], 2 - pad[1]];
      if (top < 0 || left < 0) return undefined;
      const back = { ...site, channels: out, filters: into };
      return { pass: "by image", site: back, x, w: second, bias: undefined, pad: [top, left] };
    }
    default:
      return node satisfies never;
  }
}

function numbersOf(sizes: readonly Size[]): readonly number[] {
  return sizes.every(isKnown) ? sizes : [];
}

/** What becomes of the max pool behind a convolution, if there is one. */
function withPool(graph: Graph, node: GraphNode, choice: ConvolutionChoice): ConvolutionChoice {
  const readers = (of: GraphNode): readonly GraphNode[] => graph.nodes.filter(({ inputs }) => inputs.includes(of));
  let last = node;
  let next = readers(last);
  const [first] = next;
  if (first !== undefined && next.length === 1 && isFloor(first)) {
    last = first;
    next = readers(last);
  }
  const pool = next.find(({ op }) => op === "max_pool2d");
  if (node.op !== "conv2d" || pool?.op !== "max_pool2d") return choice;
  const { k, stride, pad } = pool.attrs;
  const told = (fused: boolean, reason: string): ConvolutionChoice => ({ ...choice, pool: { fused, reason } });
  if (choice.form === "direct") return told(false, "rows of the product are not in the order of the pool's windows");
  if (next.length > 1) return told(false, "the result before the pool has other readers");
  if (!isSquare(pool))
    return told(
      false,
      `windows of ${k.join("×")} at ${stride.join("×")} padded by ${pad.join("×")} do not align with tiles`,
    );
  return told(true, "its windows align with the tiles");
}

// ------------------------------------------------------------------------------------------------------------ the rules

const winogradRule = (form: (parts: Parts) => ConvolutionForm): Rule => ({
  name: "winograd",
  doc: "a 3×3 convolution of stride 1 with parameters is a product for each element of its transformed tiles",
  ops: ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"],
  apply: (node, site) => {
    const parts = partsOf(node);
    if (parts === undefined || isFixed(parts.x) || (parts.pass !== "by weights" && !isFixed(parts.w))) return undefined;
    const chosen = form(parts);
    if (chosen === "direct") return undefined;
    const tile = tileOf(chosen);
    if (parts.pass === "by weights") return weightGradient(parts, tile, site);
    const input = site.add("winograd_input", [parts.x], { tile, pad: parts.pad });
    const weight = site.add("winograd_weight", [parts.w], { tile, adjoint: parts.pass === "by image" });
    const products = site.add("matmul", [input, weight], {});
    return inverse(products, parts.bias, { tile, size: parts.site.size, pool: 1 }, site);
  },
});

/** The tiles of the image are transformed again: kept from the pass forward they would take 2.25 or 4 times its memory. */
function weightGradient(
  { x, dy, pad }: Extract<Parts, { pass: "by weights" }>,
  tile: WinogradTile,
  site: Site,
): GraphNode {
  const image = site.add("recompute", [x], { region: 0 });
  const input = site.add("winograd_input", [image], { tile, pad });
  const upstream = site.add("winograd_output_grad", [dy], { tile });
  const turned = site.add("permute", [input], { order: [0, 2, 1] });
  return site.add("winograd_weight_grad", [site.add("matmul", [turned, upstream], {})], { tile });
}

function inverse(
  products: GraphNode,
  bias: GraphNode | undefined,
  attrs: NodeOf<"winograd_output">["attrs"],
  site: Site,
  where?: GraphNode,
): GraphNode {
  return site.add("winograd_output", bias === undefined ? [products] : [products, bias], attrs, where);
}

/** Whether a node depends on parameters and numbers alone. */
function isFixed(node: GraphNode): boolean {
  return node.op === "param" || node.op === "constant" || (node.inputs.length > 0 && node.inputs.every(isFixed));
}

const poolRule: Rule = {
  name: "pool-tiles",
  doc: "a 2×2 max pool of a convolution in tiles is taken within each tile, before the ReLU between them",
  ops: ["max_pool2d"],
  apply: (node, site) => {
    if (node.op !== "max_pool2d" || !isSquare(node)) return undefined;
    const [below] = node.inputs;
    if (below === undefined || site.uses(below) !== 1) return undefined;
    const floor = isFloor(below) ? below : undefined;
    const [inner] = floor?.inputs ?? [below];
    if (inner?.op !== "winograd_output" || inner.attrs.pool !== 1 || site.uses(inner) !== 1) return undefined;
    const [products, bias] = inner.inputs;
    if (products === undefined) return undefined;
    const pooled = inverse(products, bias, { ...inner.attrs, pool: 2 }, site, inner);
    const [, least] = floor?.inputs ?? [];
    return floor === undefined || least === undefined ? pooled : site.add("binary", [pooled, least], { fn: "max" });
  },
};

/** Windows of 2×2 that lie side by side. */
function isSquare({ attrs: { k, stride, pad } }: NodeOf<"max_pool2d">): boolean {
  return [...k, ...stride].every((side) => side === 2) && pad.every((by) => by === 0);
}

/** max(x, c), as ReLU is. */
function isFloor(node: GraphNode): boolean {
  return node.op === "binary" && node.attrs.fn === "max" && node.inputs[1]?.op === "constant";
}
