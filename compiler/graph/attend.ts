/**
 * Attention with or without its table: which form each place of a graph takes, and the rewrite that gives it.
 *
 * In: a graph whose sizes are numbers, and what the target allows. Out: the graph with `softmax(scale · q·kᵀ)·v` as one
 * `attend` wherever that form is chosen, and the choices with their reasons. The language knows one form only; a table is
 * found by its structure, and stays where anything but the product with the values reads it. Both forms give the same
 * numbers to within rounding. The table of scores takes `tables · rows · keys` numbers, and in training is kept for the
 * backward pass; the form without it computes scores again for each gradient, 9 products of rows by keys instead of 6,
 * but takes each exponential where the score is made. Where no softmax is taken, neither is wanted: see regroup.ts.
 */
import type { Graph, GraphNode } from "./graph.ts";
import { regrouped, regroupRule } from "./regroup.ts";
import { type Rule, rewrite, useCounts } from "./rewrite.ts";
import { alike, countOf, productUnder, type Scores, transposed } from "./scores.ts";

/**
 * Memory that one table of attention may take, in bytes: conv3 of VGG16 at 224 needs 37.5 MiB an image. Attention with a
 * larger one does without; where that is not possible it is refused.
 */
export const TABLE_BYTES: number = 128 * 1024 * 1024;

/** One attention of a graph. */
export interface AttentionSite {
  /** Where its values are gathered: `stia_conv3.to_spatial`. */
  readonly layer: string;
  /** Batch entries times heads. */
  readonly tables: number;
  readonly rows: number;
  readonly keys: number;
  /** Of the table, in f32. */
  readonly bytes: number;
}

/** The form of one attention, and why. */
export interface AttentionChoice extends AttentionSite {
  readonly form: "attend" | "table" | "regrouped";
  /** In words, a whole clause. */
  readonly reason: string;
}

/** The forms of attention with a softmax. */
export type AttentionForm = "attend" | "table";

/** What the choice depends on besides sizes. */
export interface AttentionTarget {
  /** What one table may take, in bytes; 128 MiB, or less where the target binds less. */
  readonly tableBytes: number;
  /** What the tables of one training step may take together. */
  readonly allBytes: number;
  readonly training: boolean;
  /** The form of every attention, whatever its size: to compare them. */
  readonly always?: AttentionForm | undefined;
  /** Rows and keys from which on the form without a table is faster forward, as measured; infinite where it is not. */
  readonly fasterFrom: number;
}

export interface Attended {
  readonly graph: Graph;
  readonly choices: readonly AttentionChoice[];
}

/** The graph with every attention in the form that suits the target. */
export function chooseAttention(given: Graph, target: AttentionTarget): Attended {
  // Asked for tables, keep all: to compare.
  const withoutSoftmax = target.always === "table" ? [] : regrouped(given);
  const graph = withoutSoftmax.length === 0 ? given : rewrite(given, [regroupRule]);
  const choices = [...choicesOf(sitesOf(graph), target), ...withoutSoftmax];
  const chosen = new Set(choices.flatMap((choice) => (choice.form === "attend" ? [keyOf(choice)] : [])));
  if (chosen.size === 0) return { graph, choices };
  return { graph: rewrite(graph, [attendRule((site) => chosen.has(keyOf(site)))]), choices };
}

/** Equal sites of one layer take one form. */
const keyOf = ({ layer, tables, rows, keys }: AttentionSite): string => `${layer} ${tables} ${rows} ${keys}`;

function choicesOf(sites: readonly AttentionSite[], target: AttentionTarget): readonly AttentionChoice[] {
  const { tableBytes, allBytes, training, fasterFrom, always } = target;
  if (always !== undefined)
    return sites.map((site) => ({ ...site, form: always, reason: "every one is asked for so" }));
  const choices = sites.map((site): AttentionChoice => {
    const table = `its table takes ${mebibytes(site.bytes)}`;
    if (site.bytes > tableBytes) {
      return { ...site, form: "attend", reason: `${table}, more than the ${mebibytes(tableBytes)} that one may` };
    }
    if (!training && Math.min(site.rows, site.keys) >= fasterFrom) {
      return { ...site, form: "attend", reason: `${table}; from ${fasterFrom} rows and keys on it is faster without` };
    }
    const why = training
      ? "is kept for the backward pass, which would compute it twice more"
      : "is faster at this size";
    return { ...site, form: "table", reason: `${table} and ${why}` };
  });
  if (!training) return choices;
  // The largest tables go first, until the others fit.
  let left = choices.reduce((sum, { form, bytes }) => sum + (form === "table" ? bytes : 0), 0);
  const order = choices.filter(({ form }) => form === "table").sort((a, b) => b.bytes - a.bytes);
  const moved = new Set<AttentionChoice>();
  for (const choice of order) {
    if (left <= allBytes) break;
    moved.add(choice);
    left -= choice.bytes;
  }
  return choices.map((choice) =>
    moved.has(choice)
      ? {
          ...choice,
          form: "attend",
          reason: `its table takes ${mebibytes(choice.bytes)}, and all together more than the ${mebibytes(allBytes)} that they may`,
        }
      : choice,
  );
}

function mebibytes(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toPrecision(3)} MiB`;
}

function sitesOf(graph: Graph): readonly AttentionSite[] {
  const uses = useCounts(graph);
  return graph.nodes.flatMap((node) => matched(node, (other) => uses.get(other) ?? 0)?.site ?? []);
}

// ------------------------------------------------------------------------------------------------------- finding them

/** The parts of `softmax(scale · q·kᵀ)·v`. */
interface Match {
  readonly site: AttentionSite;
  readonly scores: Scores;
  readonly values: GraphNode;
}

function matched(node: GraphNode, uses: (node: GraphNode) => number): Match | undefined {
  const [table, values] = node.inputs;
  if (node.op !== "matmul" || table?.op !== "softmax" || values === undefined || uses(table) !== 1) return undefined;
  const rank = table.shape.length;
  if (table.attrs.axis !== rank - 1 || !alike(table.shape.slice(0, -2), values.shape.slice(0, -2))) return undefined;
  const scores = productUnder(table.inputs[0]);
  const batch = table.shape.slice(0, -2);
  const [tables, rows, keys] = [batch, table.shape.slice(-2, -1), table.shape.slice(-1)].map(countOf);
  if (scores === undefined || tables === undefined || rows === undefined || keys === undefined) return undefined;
  return { site: { layer: node.layer, tables, rows, keys, bytes: 4 * tables * rows * keys }, scores, values };
}

// ------------------------------------------------------------------------------------------------------------- the rule

const attendRule = (wanted: (site: AttentionSite) => boolean): Rule => ({
  name: "attend",
  doc: "softmax(scale · q·kᵀ)·v, whose table nothing else reads, is one operator",
  ops: ["matmul"],
  apply: (node, site) => {
    const found = matched(node, site.uses);
    if (found === undefined || !wanted(found.site)) return undefined;
    const { scores, values } = found;
    const { product, turned, scale } = scores;
    const [first, second] = product.inputs;
    if (first === undefined || second === undefined) return undefined;
    const [q, k] = turned ? [transposed(second, site), first] : [first, transposed(second, site)];
    return site.add("attend", [q, k, values], { scale });
  },
});
