/**
 * The super-network of a search: one network with every graft that any candidate has, each behind a gate.
 *
 * A candidate is the network without grafts and some of them (grafts.ts), so with the gates of a candidate's grafts open and
 * all others shut the super-network computes what the candidate does with the same weights. In: a search and the points
 * that its gates are to serve. Out: the model, whose further input `STEP_INPUTS.gates` holds the gates, the recipe of its
 * parameters, and the gates of each point. Choices that are no grafts would make another network, or another training, of
 * every candidate: a search with such has no super-network (E0802).
 */
import type { Clause, Expr, Headline, With } from "../../grammar/ast.ts";
import { finishModel } from "../elaborate/elaborate.ts";
import { fail } from "../elaborate/failure.ts";
import type { Model } from "../model.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { type Graft, graftsOf, headlineOf, restOf } from "./grafts.ts";
import { selectionAt } from "./points.ts";
import { recipesOf, resolved } from "./recipes.ts";
import { choosesGrafts, type Selection, substitute } from "./substitute.ts";
import { makeCandidateModel, type WrittenSearch } from "./written.ts";

export interface SuperNetwork {
  readonly model: Model;
  readonly recipe: Recipe;
  /** For each point, in their order, 1 for the gates that are open and 0 for the others. */
  readonly gates: readonly Float32Array[];
}

const WHY = "a super-network trains all candidates at once: they may differ in their grafts alone";

/** The headline of a search whose candidates differ in their grafts alone; anything else is reported and abandons it. */
export function gatedHeadline(search: WrittenSearch): Headline {
  const { context, uses, choices } = search;
  const prior = search.values.prior.at;
  if (!choosesGrafts(uses))
    return fail(context, "E0802", "this search chooses no grafts, so there is nothing to put a gate before", prior, {
      notes: [WHY],
      helps: ["leave `prior` out"],
    });
  const headline = headlineOf(search.model);
  if (headline === undefined)
    return fail(context, "E0802", "a super-network needs a headline with grafts at single positions", search.model, {
      label: "ranges, pairs of positions, `[*]` or a block",
      notes: [WHY],
      helps: ["leave `prior` out"],
    });
  const rest = new Set(restOf(search));
  const other = choices.find(({ name, domain }) => search.recipeUses.includes(name) || rest.has(domain.factor));
  if (other !== undefined)
    return fail(
      context,
      "E0802",
      `\`${other.name}\` is no graft, and a super-network has one of everything else`,
      prior,
      {
        notes: [WHY],
        helps: [`leave \`prior\` out, or settle \`${other.name}\` in a search of its own`],
      },
    );
  return headline;
}

/**
 * Makes the super-network of some points.
 * @param options as for a candidate
 */
export function superNetworkOf(
  search: WrittenSearch,
  points: readonly Uint8Array[],
  options: { readonly folder: string | undefined; readonly complete: boolean },
): SuperNetwork {
  const { context, module, bind, program } = search;
  const headline = gatedHeadline(search);
  const graftsAt = graftsOf(search, headline);
  const found = new Map<With, Map<string, Graft>>();
  const own = points.map((levels) => {
    const grafts = graftsAt(levels, selectionAt(search, levels));
    for (const graft of grafts) {
      const known = found.get(graft.of) ?? new Map<string, Graft>();
      found.set(graft.of, known);
      if (!known.has(graft.key)) known.set(graft.key, graft);
    }
    return grafts;
  });
  const clauses = headline.clauses.flatMap((each): readonly Clause[] =>
    each.kind === "With" ? [...(found.get(each)?.values() ?? [])].map(({ clause }) => clause) : [each],
  );
  const selection: Selection = selectionAt(search, points[0] ?? []);
  const { expr } = substitute({ ...headline, clauses }, selection, module.source.text);
  const gates = new Map(clausesOf(expr).map((clause, gate) => [clause, gate]));
  const numbers = new Map<string, number>();
  for (const each of headline.clauses)
    for (const { key } of (each.kind === "With" ? found.get(each)?.values() : undefined) ?? [])
      numbers.set(`${each.start} ${key}`, numbers.size);
  if (numbers.size !== gates.size) throw new Error("internal: a graft without a gate");
  // The recipe is of the parameters, which are those of the network without gates.
  const plain = finishModel(makeCandidateModel(expr, context, bind, search.model), module, program);
  const { recipe } = resolved(recipesOf(search)(selection), plain, search, options);
  return {
    model: finishModel(makeCandidateModel(expr, context, bind, search.model, gates), module, program),
    recipe,
    gates: own.map((grafts) => {
      const open = new Float32Array(numbers.size);
      for (const { of, key } of grafts) open[numbers.get(`${of.start} ${key}`) ?? -1] = 1;
      return open;
    }),
  };
}

function clausesOf(expr: Expr): readonly With[] {
  return expr.kind === "Headline" ? expr.clauses.filter((clause) => clause.kind === "With") : [];
}
