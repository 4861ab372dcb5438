/**
 * What a search requires of its models before any is trained: `require` and `limit`.
 *
 * In: a candidate's costs and what was chosen. Out: which requirements it breaks, with the values of their sides, and by
 * how much, so that a space without any model names the one that comes nearest.
 */
import type { Call, Expr } from "../../grammar/ast.ts";
import { truth } from "../elaborate/arithmetic.ts";
import { evaluate } from "../elaborate/core.ts";
import { fail } from "../elaborate/failure.ts";
import type { CandidateCosts } from "./search.ts";
import { choosesGrafts, mapped, type Selection, substitute } from "./substitute.ts";
import type { WrittenSearch } from "./written.ts";

export interface Figures {
  readonly model: CandidateCosts;
  readonly none: CandidateCosts | undefined;
  readonly all: CandidateCosts | undefined;
}

export interface Broken {
  /** All requirements that are broken, with the values of their sides. */
  readonly text: string;
  /** How far off the farthest of them is, from 0: just so. */
  readonly excess: number;
}

const FIGURES = ["params", "flops", "memory"] as const;

/** The requirements that a candidate breaks; undefined if it meets them all. */
export function brokenBy(search: WrittenSearch, selection: Selection, figures: Figures): Broken | undefined {
  const texts: string[] = [];
  let excess = 0;
  for (const name of FIGURES) {
    const limit = search.limits[name].value;
    const value = figures.model[name];
    if (limit === undefined || value <= limit) continue;
    texts.push(`${name} ${shown(value)} is above the limit ${shown(limit)}`);
    excess = Math.max(excess, apart(value, limit));
  }
  for (const test of search.requires) {
    const broken = brokenTest(test, search, selection, figures);
    if (broken === undefined) continue;
    texts.push(broken.text);
    excess = Math.max(excess, broken.excess);
  }
  return texts.length === 0 ? undefined : { text: texts.join("; "), excess };
}

function brokenTest(test: Expr, search: WrittenSearch, selection: Selection, figures: Figures): Broken | undefined {
  const { context } = search;
  const { text: source } = search.module.source;
  const known = mapped(test, (part) => (part.kind === "Call" ? figureOf(part, selection, figures, search) : undefined));
  const { expr, missing } = substitute(known, selection, source);
  const [absent] = missing;
  if (absent !== undefined)
    return fail(context, "E0803", `\`${absent.name}\` is not always chosen`, absent.at, {
      label: "what is required of a model that lacks it?",
      helps: [`\`count(${absent.name})\` is 0 where it is absent`],
    });
  if (truth(expr, context)) return undefined;
  const text = source.slice(test.start, test.end).replace(/\s+/g, " ");
  const [left, right] = expr.kind === "Binary" ? [evaluate(expr.left, context), evaluate(expr.right, context)] : [];
  if (typeof left !== "number" || typeof right !== "number")
    return { text: `\`${text}\` does not hold`, excess: Number.POSITIVE_INFINITY };
  return { text: `\`${text}\` does not hold: ${shown(left)} and ${shown(right)}`, excess: apart(left, right) };
}

/** The difference of two numbers, as a share of the larger. */
function apart(a: number, b: number): number {
  return a === b ? 0 : Math.abs(a - b) / Math.max(Math.abs(a), Math.abs(b));
}

/** `params(model)`, `flops(none)`, `count(spots)` as numbers. */
function figureOf(call: Call, selection: Selection, figures: Figures, search: WrittenSearch): Expr | undefined {
  const { callee, args, start, end } = call;
  const name = callee.kind === "Name" ? callee.name : "";
  if (name === "count") return countOf(call, selection, search);
  const { context } = search;
  if (name === "latency")
    return fail(context, "E0802", "latency is measured, and a requirement is checked before", call, {
      helps: ["`limit { latency = 12ms }`"],
    });
  const figure = FIGURES.find((each) => each === name);
  if (figure === undefined) return undefined;
  const of = args[0]?.value;
  const whose = of?.kind === "None" ? "none" : of?.kind === "Name" ? of.name : "";
  if (whose !== "model" && whose !== "none" && whose !== "all")
    return fail(context, "E0802", `\`${name}\` takes \`model\`, \`none\` or \`all\``, of ?? call, {
      helps: [`\`${name}(model) <= 1.02 * ${name}(none)\``],
    });
  const costs = figures[whose];
  if (costs === undefined)
    return fail(context, "E0802", `this search has no \`${whose}\` to compare with`, of ?? call, {
      label: !choosesGrafts(search.uses)
        ? "it chooses no grafts"
        : whose === "none"
          ? "without any graft there is no such model"
          : "with all grafts there is no such model",
    });
  return { kind: "Number", text: String(costs[figure]), value: costs[figure], start, end };
}

/** `count(spots)` as a number: members of a subset that are chosen, or whether something is. Undefined for other calls. */
export function countOf(call: Call, selection: Selection, search: WrittenSearch): Expr | undefined {
  const { callee, args, start, end } = call;
  if (callee.kind !== "Name" || callee.name !== "count") return undefined;
  const of = args[0]?.value;
  const chosen = of?.kind === "Name" ? selection.get(of.name) : undefined;
  if (chosen === undefined)
    return fail(search.context, "E0802", "`count` counts what a choice has chosen", of ?? call, {
      helps: ["`count(spots) <= 3`"],
    });
  const value =
    chosen.kind === "some" ? chosen.items.length : chosen.kind === "absent" || chosen.expr.kind === "None" ? 0 : 1;
  return { kind: "Number", text: String(value), value, start, end };
}

export function shown(value: number): string {
  return value.toLocaleString("en", Number.isInteger(value) ? {} : { maximumSignificantDigits: 6 });
}
