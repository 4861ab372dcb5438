/**
 * `start(joint=STIA, spots=[@conv3, @conv4])` as a point: for each choice the option that is meant.
 *
 * A choice that is not mentioned is `none` if that can be chosen, else its first option; of a subset that is not mentioned
 * no member is there. `STIA` means `STIA(reduction={2, 4})` with the first of the set, `STIA(reduction=4)` the one that is
 * written so.
 */
import type { Expr } from "../../grammar/ast.ts";
import { suggest } from "../../grammar/suggest.ts";
import { fail, textOf } from "../elaborate/failure.ts";
import { headOf } from "../recipe/kinds.ts";
import type { Choice, Option } from "./domain.ts";
import { holdsFor } from "./points.ts";
import { type Chosen, chosenAt, type Selection } from "./substitute.ts";
import type { Baseline } from "./words.ts";
import type { WrittenSearch } from "./written.ts";

/** The levels of a start. What it names that is not there is reported and abandons it. */
export function startLevels(search: WrittenSearch, start: Extract<Baseline, { readonly kind: "start" }>): Uint8Array {
  const levels = new Uint8Array(search.factors.length);
  const names = search.choices.map(({ name }) => name);
  for (const [name, expr] of start.given) {
    if (names.includes(name)) continue;
    const near = suggest(name, names);
    fail(search.context, "E0802", `\`${search.name}\` chooses no \`${name}\``, expr, {
      helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
      notes: [`it chooses ${names.join(", ")}`],
    });
  }
  const selection = new Map<string, Chosen>(search.given);
  for (const choice of search.choices) {
    const expr = start.given.get(choice.name);
    if (choice.domain.kind === "subset") setMembers(search, choice, expr, levels);
    else setOption(search, choice, expr, levels, selection);
    selection.set(choice.name, chosenAt(choice, levels, selection, search.module.source.text));
  }
  return levels;
}

const plain = (text: string): string => text.replace(/\s+/g, "").replace(/^@/, "");

function setMembers(search: WrittenSearch, { domain, name }: Choice, expr: Expr | undefined, levels: Uint8Array): void {
  if (expr === undefined || domain.kind !== "subset") return;
  const items = expr.kind === "List" || expr.kind === "Set" || expr.kind === "Tuple" ? expr.items : [expr];
  for (const item of items) {
    const text = plain(textOf(search.context, item));
    const member = domain.options.findIndex((option) => plain(option.text) === text);
    if (member < 0) notAmong(search, name, item, domain.options);
    levels[domain.factor + member] = 1;
  }
}

function setOption(
  search: WrittenSearch,
  choice: Choice,
  expr: Expr | undefined,
  levels: Uint8Array,
  before: Selection,
): void {
  const { domain, item, name } = choice;
  if (domain.kind !== "one") return;
  const first = domain.optional ? 1 : 0;
  if (expr === undefined) {
    const holds = item.when === undefined || holdsFor(item.when, before, search, new Map());
    if (!holds || domain.none) return;
    levels[domain.factor] = first;
    for (const { factor } of domain.options[0]?.nested ?? []) levels[factor] = 1;
    return;
  }
  if (expr.kind === "None") {
    if (!domain.canBeNone) notAmong(search, name, expr, domain.options);
    return;
  }
  const text = plain(textOf(search.context, expr));
  const head = expr.kind === "Name" ? headOf(expr) : undefined;
  for (const [i, option] of domain.options.entries()) {
    for (const inner of innerLevels(option)) {
      const tried = levels.slice();
      tried[domain.factor] = i + first;
      for (const [factor, level] of inner) tried[factor] = level;
      const chosen = chosenAt(choice, tried, before, search.module.source.text);
      const same = chosen.kind === "one" && plain(chosen.text) === text;
      if (!same && (head === undefined || head !== headOf(option.expr))) continue;
      levels.set(tried);
      return;
    }
  }
  notAmong(search, name, expr, domain.options);
}

/** All ways to make the choices within an option, the first of each first. */
function innerLevels({ nested }: Option): readonly (readonly (readonly [number, number])[])[] {
  return nested.reduce<readonly (readonly (readonly [number, number])[])[]>(
    (sets, { factor, options }) => sets.flatMap((set) => options.map((_, k) => [...set, [factor, k + 1] as const])),
    [[]],
  );
}

function notAmong(search: WrittenSearch, name: string, expr: Expr, options: readonly Option[]): never {
  const text = textOf(search.context, expr);
  const near = suggest(
    text,
    options.map((option) => option.text),
  );
  return fail(search.context, "E0802", `\`${text}\` is not among what \`${name}\` chooses from`, expr, {
    helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
    notes: [options.map((option) => option.text).join(", ")],
  });
}
