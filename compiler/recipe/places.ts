/**
 * Which parameters a recipe speaks of: `at = conv1..conv5`, `freeze = [spatial, "stia_*"]`.
 *
 * In: positions as they are written (a path, a range, a stream's name, a text with `*`) and a model. Out: paths of its
 * parameters, everything below what is named. A position is looked for in every stream, as a graft's is, and among what
 * stands outside of the streams.
 */
import type { Expr } from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { lookup } from "../elaborate/core.ts";
import { type Reports, report, spanOf } from "../elaborate/failure.ts";
import { pathText } from "../elaborate/loops.ts";
import { type Context, isCompound, isSequence, type Value } from "../elaborate/values.ts";
import type { Model } from "../model.ts";
import { compressPositions, findPositions, positionRange, shortestName } from "../positions.ts";
import { patternTest } from "../weights/map.ts";
import { type Kind, opened, refuse, type Slot } from "./kinds.ts";

/** A place as it is written: `conv1..conv5`, `temporal.conv1`, `*.bias`. */
export interface WrittenPlace {
  readonly text: string;
  readonly at: Span;
}

const WHAT = 'positions: `conv3`, `conv1..conv5`, `[spatial, "*.bias"]`';

export const places: Kind<readonly WrittenPlace[]> = { what: WHAT, read: (expr, slot) => readPlaces(expr, slot) };

function readPlaces(expr: Expr, slot: Slot): readonly WrittenPlace[] {
  const { context } = slot;
  const written = opened(expr, context);
  if (written.kind === "List" || written.kind === "Tuple")
    return written.items.flatMap((item) => readPlaces(item, slot));
  const at = spanOf(context, written);
  if (written.kind === "Name") {
    const texts = textsOf(localValue(written.name, context));
    if (texts !== undefined) return texts.map((text) => ({ text, at }));
  }
  const text = written.kind === "Range" ? rangeText(written.from, written.to, slot) : pathOf(written, slot);
  return [{ text, at }];
}

/** A parameter of the recipe or a constant of the file; names of the library are no positions here. */
function localValue(name: string, context: Context): Value | undefined {
  const own = context.locals?.names.has(name) === true || context.module.names.has(name);
  return own ? lookup(context, name) : undefined;
}

function textsOf(value: Value | undefined): readonly string[] | undefined {
  if (value === undefined) return undefined;
  const items = isSequence(value) ? value.items : [value];
  const texts = items.flatMap((item) =>
    typeof item === "string" ? [item] : isCompound(item) && item.kind === "position" ? [item.path] : [],
  );
  return texts.length > 0 && texts.length === items.length ? texts : undefined;
}

function rangeText(from: Expr, to: Expr, slot: Slot): string {
  return `${pathOf(from, slot)}..${pathOf(to, slot)}`;
}

function pathOf(expr: Expr, slot: Slot): string {
  switch (expr.kind) {
    case "Name":
      return expr.name;
    case "String":
      return expr.value;
    case "PositionLit":
      return pathText(expr.path, slot.context);
    case "Field":
      return `${pathOf(expr.of, slot)}.${expr.name.name}`;
    case "Index":
      if (expr.index.kind === "Number") return `${pathOf(expr.of, slot)}[${expr.index.value}]`;
      return refuse(slot, WHAT, expr);
    default:
      return refuse(slot, WHAT, expr);
  }
}

// ------------------------------------------------------------------------------------------------------------ matching

/** The names of one stream (or of what stands outside of them), and the full paths behind them. */
type Scope = ReadonlyMap<string, string>;

function scopesOf(model: Model): readonly Scope[] {
  const streamOf = (path: string): string => model.streams.find((stream) => path.startsWith(`${stream}.`)) ?? "";
  return [...model.streams, ""].map((stream) => {
    const cut = stream === "" ? 0 : stream.length + 1;
    const inside = model.positions.filter(({ path }) => streamOf(path) === stream);
    return new Map(
      inside.flatMap(({ path, aliases }) => [path, ...aliases].map((name) => [name.slice(cut), path] as const)),
    );
  });
}

/** The paths of the learned parameters at a place, or what is wrong with it. */
type Found =
  | { readonly paths: readonly string[] }
  | { readonly wrong: "unknown"; readonly end: string }
  | { readonly wrong: "ambiguous"; readonly matches: readonly string[] }
  | { readonly wrong: "range"; readonly words: string; readonly help: string };

function find(text: string, model: Model): Found {
  const learned = model.parameters.filter(({ kind }) => kind === "param").map(({ path }) => path);
  const below = (regions: readonly string[]): Found => ({
    paths: learned.filter((path) =>
      regions.some((region) => path === region || path.startsWith(`${region}.`) || path.startsWith(`${region}[`)),
    ),
  });
  const whole: Scope = new Map(
    model.positions.flatMap(({ path, aliases }) => [path, ...aliases].map((name) => [name, path] as const)),
  );
  const [from = "", to] = text.split("..");
  const named = model.streams.some((stream) => from === stream || from.startsWith(`${stream}.`));
  const scopes = named ? [whole] : scopesOf(model);
  if (to !== undefined) return findRange(from, to, scopes, below);
  if (model.streams.includes(text)) return below([text]);
  const regions: string[] = [];
  if (!/[*{]/.test(text)) {
    for (const scope of scopes) {
      const distinct = [
        ...new Set(findPositions([...scope.keys()], text).matches.map((name) => scope.get(name) ?? "")),
      ];
      if (distinct.length > 1) return { wrong: "ambiguous", matches: distinct };
      regions.push(...distinct);
    }
    if (regions.length > 0) return below(regions);
  }
  const test = patternTest(text);
  const paths = learned.filter(test);
  return paths.length > 0 || /[*{]/.test(text) ? { paths } : { wrong: "unknown", end: text };
}

function findRange(
  from: string,
  to: string,
  scopes: readonly Scope[],
  below: (regions: readonly string[]) => Found,
): Found {
  const regions: string[] = [];
  let missing: string | undefined;
  for (const scope of scopes) {
    const range = positionRange([...scope.keys()], from, to);
    switch (range.kind) {
      case "range":
        regions.push(...range.matches.map((name) => scope.get(name) ?? ""));
        break;
      case "none":
        missing ??= range.end;
        break;
      case "many":
        return { wrong: "ambiguous", matches: range.matches.map((name) => scope.get(name) ?? "") };
      case "levels":
        return {
          wrong: "range",
          words: `\`${range.from}\` and \`${range.to}\` lie at different depths`,
          help: "a range runs over positions of one level",
        };
      case "backwards":
        return {
          wrong: "range",
          words: `\`${range.to}\` comes before \`${range.from}\``,
          help: `\`${range.to}..${range.from}\``,
        };
      default:
        return range satisfies never;
    }
  }
  return regions.length > 0 ? below(regions) : { wrong: "unknown", end: missing ?? from };
}

/** The learned parameters at some places. What is not there, or has none, is reported; `who` speaks of it. */
export function parametersAt(
  written: readonly WrittenPlace[],
  model: Model,
  who: string,
  reports: Reports,
): ReadonlySet<string> {
  const found = new Set<string>();
  for (const place of written) {
    const here = find(place.text, model);
    if ("paths" in here) {
      for (const path of here.paths) found.add(path);
      if (here.paths.length === 0) nothingThere(place, model, who, reports);
    } else if (here.wrong === "unknown") unknown(place, here.end, model, reports);
    else if (here.wrong === "ambiguous") ambiguous(place, here.matches, model, reports);
    else report(reports, diagnostic("E0503", here.words, place.at, { helps: [here.help] }));
  }
  return found;
}

function nothingThere(place: WrittenPlace, model: Model, who: string, reports: Reports): void {
  const first = model.parameters.find(({ kind }) => kind === "param")?.path;
  report(
    reports,
    diagnostic("E0705", `${who} reaches no parameter of \`${model.name}\``, place.at, {
      label: "nothing is learned here",
      notes: first === undefined ? [] : [`its parameters are called like \`${first}\``],
    }),
  );
}

function unknown(place: WrittenPlace, end: string, model: Model, reports: Reports): void {
  const scopes = scopesOf(model).map((scope) => [...scope.keys()]);
  const names = [...new Set(scopes.flatMap((scope) => scope.map((path) => shortestName(scope, path))))];
  const near = suggest(end, [...model.streams, ...names]);
  const whole = place.text === end;
  const quoted = place.at.source.text.slice(place.at.start, place.at.end).startsWith('"');
  report(
    reports,
    diagnostic("E0502", `\`${model.name}\` has no position \`${end}\``, place.at, {
      label: "not a position",
      helps:
        near === undefined
          ? []
          : [
              {
                text: `did you mean \`${near}\`?`,
                ...(whole && !quoted ? { edits: [{ span: place.at, replacement: near }] } : {}),
              },
            ],
      notes: [
        ...(model.streams.length > 0 ? [`streams: ${model.streams.join(", ")}`] : []),
        ...(names.length > 0 ? [compressPositions([...new Set(scopes.flat())])] : []),
      ],
    }),
  );
}

function ambiguous(place: WrittenPlace, matches: readonly string[], model: Model, reports: Reports): void {
  report(
    reports,
    diagnostic("E0503", `\`${place.text}\` could be several positions of \`${model.name}\``, place.at, {
      label: `${matches.length} positions end so`,
      notes: [matches.slice(0, 5).join(", ") + (matches.length > 5 ? `, … ${matches.length - 5} more` : "")],
      helps: [`write one of them, such as \`${matches[0] ?? ""}\`, or all of them: \`"*.${place.text}"\``],
    }),
  );
}
