/**
 * Convolutions by Winograd's minimal filtering: which of a graph's take that form, and the rewrite that gives it.
 *
 * In: a graph for inference whose sizes are numbers, and what is known of the target. Out: the graph with 3×3 convolutions
 * of stride 1 as transform, one matrix product for each element of a tile, and inverse, wherever that is expected to be
 * faster; and the choices with their reasons. A max pool of 2×2 behind such a convolution (and behind its ReLU, for what
 * is monotone and a maximum change places) becomes part of the inverse, whose tiles its windows align with. The weights'
 * transform depends on parameters only, so it is computed when they arrive.
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

/** A 3×3 convolution of stride 1 with fixed weights, in numbers. */
export interface ConvolutionSite {
  readonly layer: string;
  readonly images: number;
  readonly channels: number;
  readonly filters: number;
  /** Of the result. */
  readonly size: readonly [number, number];
}

export interface ConvolutionChoice extends ConvolutionSite {
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
  readonly expected?: ((site: ConvolutionSite, form: ConvolutionForm) => number) | undefined;
  /** What the transformed tiles of one convolution may take, before or behind its products. */
  readonly tileBytes: number;
  /** The form of every convolution that can take it, whatever it costs: to compare them. */
  readonly always?: ConvolutionForm | undefined;
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
    const site = node.op === "conv2d" ? siteOf(node, fixed) : undefined;
    return site === undefined ? [] : [{ node, site }];
  });
  const choices = new Map(sites.map(({ node, site }) => [node, choiceOf(site, target)]));
  const forms = new Map([...choices.values()].map((choice) => [convolutionKey(choice), choice.form]));
  const made = rewrite(graph, [winogradRule((site) => forms.get(convolutionKey(site)) ?? "direct"), poolRule]);
  return { graph: made, choices: [...choices].map(([node, choice]) => withPool(graph, node, choice)) };
}

/** Equal for convolutions that are alike: they take one form. */
export const convolutionKey = ({ images, channels, filters, size }: ConvolutionSite): string =>
  [images, channels, filters, ...size].join(" ");

function choiceOf(
  site: ConvolutionSite,
  { measured, expected, always, tileBytes }: ConvolutionTarget,
): ConvolutionChoice {
  if (always !== undefined) return { ...site, form: always, reason: "every one is asked for so" };
  const known = measured?.(site);
  if (known === undefined && expected === undefined) {
    return { ...site, form: "direct", reason: "another only where `--tune SECONDS` has found it faster on the device" };
  }
  const times = known ?? Object.fromEntries(FORMS.map((form) => [form, expected?.(site, form)]));
  const fitting = formsOf(site, tileBytes);
  const told = FORMS.flatMap((form) => {
    const ms = times[form];
    const note = fitting.includes(form) ? "" : " (too large)";
    return ms === undefined ? [] : [`${form} ${ms.toPrecision(2)} ms${note}`];
  });
  const source = known === undefined ? "expected on one core" : "timed on this device";
  return { ...site, form: fastestForm(times, fitting), reason: `${source}: ${told.join(", ")}` };
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
function bytesOf({ images, channels, filters, size }: ConvolutionSite, form: ConvolutionForm): number {
  if (form === "direct") return 0;
  const tile = tileOf(form);
  const tiles = images * Math.ceil(size[0] / tile) * Math.ceil(size[1] / tile);
  return 4 * (tile + 2) ** 2 * tiles * Math.max(channels, filters);
}

function tileOf(form: Exclude<ConvolutionForm, "direct">): WinogradTile {
  return form === "winograd 2" ? 2 : 4;
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

function siteOf(node: NodeOf<"conv2d">, fixed: ReadonlySet<GraphNode> | undefined): ConvolutionSite | undefined {
  const { stride, dilation, groups } = node.attrs;
  const [x, w] = node.inputs;
  const plain = groups === 1 && [...stride, ...dilation].every((step) => step === 1);
  if (!plain || x === undefined || w === undefined) return undefined;
  if (fixed !== undefined && (fixed.has(x) || !fixed.has(w))) return undefined;
  const [filters, channels, kh, kw] = numbersOf(w.shape);
  const [images, , height, width] = numbersOf(node.shape);
  if (filters === undefined || channels === undefined || images === undefined) return undefined;
  if (height === undefined || width === undefined || kh !== 3 || kw !== 3) return undefined;
  return { layer: node.layer, images, channels, filters, size: [height, width] };
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
  if (pool?.op !== "max_pool2d") return choice;
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

const winogradRule = (form: (site: ConvolutionSite) => ConvolutionForm): Rule => ({
  name: "winograd",
  doc: "a 3×3 convolution of stride 1 with fixed weights is a product for each element of its transformed tiles",
  ops: ["conv2d"],
  apply: (node, site) => {
    if (node.op !== "conv2d") return undefined;
    const found = siteOf(node, undefined);
    const [x, w, bias] = node.inputs;
    if (found === undefined || x === undefined || w === undefined || !isFixed(w) || isFixed(x)) return undefined;
    const chosen = form(found);
    if (chosen === "direct") return undefined;
    const tile = tileOf(chosen);
    const input = site.add("winograd_input", [x], { tile, pad: node.attrs.pad });
    const weight = site.add("winograd_weight", [w], { tile });
    const products = site.add("matmul", [input, weight], {});
    return inverse(products, bias, { tile, size: found.size, pool: 1 }, site);
  },
});

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
