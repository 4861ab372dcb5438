/**
 * Points made into models, which gives their exact costs and tells which of them are the same.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { fail } from "../elaborate/failure.ts";
import { costOf } from "../graph/cost.ts";
import { graphHash } from "../graph/hash.ts";
import { notAlways } from "./points.ts";
import { shown } from "./requirements.ts";
import type { CandidateCosts } from "./search.ts";
import type { Substituted } from "./substitute.ts";
import { asideOf, makeCandidateModel, tried, type WrittenSearch } from "./written.ts";

/** Models that are made at most: about a minute. */
const MOST_MADE = 4096;

/** A point made. */
export interface Made {
  readonly costs: CandidateCosts;
  /** Of the graph, or of the graphs with one graft that the point is composed of. */
  readonly hash: string;
}

/** A point that is no model, and why. */
export interface Unsound {
  readonly unsound: string;
}

export function isUnsound(point: Made | Unsound): point is Unsound {
  return "unsound" in point;
}

export function digest(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)));
}

/** What a point makes. */
export type Maker = (levels: Uint8Array) => Made | Unsound;

/** Makes models of expressions, each text once. */
export type MakeExpression = (model: Substituted) => Made | Unsound;

export function makeExpressions(search: WrittenSearch): MakeExpression {
  const known = new Map<string, Made | Unsound>();
  return (model) => {
    const before = known.get(model.text);
    if (before !== undefined) return before;
    if (known.size >= MOST_MADE)
      fail(search.context, "E0805", `this space has more than ${shown(MOST_MADE)} different models`, search.model, {
        label: "too many to be made one by one",
        helps: ["fewer levels of what is no graft, or a `when`"],
        notes: ["only the costs of grafts at plain positions add up without making each"],
      });
    const made = makeExpression(search, model);
    known.set(model.text, made);
    return made;
  };
}

function makeExpression(search: WrittenSearch, { expr, missing }: Substituted): Made | Unsound {
  const [absent] = missing;
  if (absent !== undefined) notAlways(absent.name, absent.at, search);
  const aside = asideOf(search.context);
  const made = tried(aside, () => {
    const { graph } = makeCandidateModel(expr, aside, search.bind, search.model);
    const { parameters, macs, activationBytes } = costOf(graph).total;
    if (typeof parameters !== "number" || typeof macs !== "number" || typeof activationBytes !== "number")
      return fail(
        search.context,
        "E0805",
        "sizes of these models are open, so their costs are not known",
        search.model,
        {
          helps: ["`over x: f32[N, 3, 224, 224]` fixes them"],
        },
      );
    return { costs: { params: parameters, flops: 2 * macs, memory: activationBytes }, hash: graphHash(graph) };
  });
  if (made !== undefined) return made;
  const [first] = aside.build.program.reports.diagnostics;
  return { unsound: first === undefined ? "it is no model" : `${first.code}: ${first.message}` };
}
