/**
 * Positions as they are written, found in the streams of a network (language 5.6).
 */
import type { Path, Position } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { compressPositions, findPositions, positionRange, shortestName } from "../positions.ts";
import type { Place } from "./draft.ts";
import { fail, failAt, spanOf } from "./failure.ts";
import type { Stream } from "./graft.ts";
import { pathText } from "./loops.ts";
import { type Context, isCompound, isSequence, localOf, type Value } from "./values.ts";

/** One place for each stream that a graft concerns. */
export interface Target {
  /** As it is written, for names and messages: `conv3`. */
  readonly label: string;
  readonly at: Span;
  readonly places: readonly Place[];
  /** The streams of `places`, by index. */
  readonly streams: readonly number[];
}

/** The positions that one item of an `at` list means, in order of execution. */
export function placesAt(
  item: Position,
  context: Context,
  streams: readonly Stream[],
  start: number,
): readonly Target[] {
  const at = spanOf(context, item);
  if (item.from.kind === "PathTuple") {
    const { items } = item.from;
    if (items.length !== streams.length) {
      fail(
        context,
        "E0505",
        `${items.length} positions for ${streams.length} ${streams.length === 1 ? "stream" : "streams"}`,
        item.from,
      );
    }
    const found = items.map((path, i) => ofStream(path, i, context, streams, start));
    const label = items.map((path) => pathText(path, context)).join("_");
    return [{ label, at, places: found.map((f) => f.place), streams: found.map((f) => f.stream) }];
  }
  const values = item.to === undefined ? positionValues(item.from, context) : undefined;
  if (values !== undefined) return values.flatMap((written) => targets(written, at, context, streams, start));
  const from = pathText(item.from, context);
  return targets(item.to === undefined ? from : `${from}..${pathText(item.to, context)}`, at, context, streams, start);
}

/** `at spots`, where `spots` is a position or a list of them. */
function positionValues(path: Path, context: Context): readonly string[] | undefined {
  const [only] = path.segments;
  if (only === undefined || path.segments.length !== 1 || only.index !== undefined) return undefined;
  const value = localOf(context, only.name)?.value;
  if (value === undefined) return undefined;
  const items: readonly Value[] = isSequence(value) ? value.items : [value];
  const paths = items.flatMap((each) => (isCompound(each) && each.kind === "position" ? [each.path] : []));
  return paths.length === items.length ? paths : undefined;
}

function targets(
  written: string,
  at: Span,
  context: Context,
  streams: readonly Stream[],
  start: number,
): readonly Target[] {
  const [head = "", ...rest] = written.split(".");
  const named = streams.findIndex((stream) => stream.name === head && head !== "");
  // `temporal.conv3` is a place in one stream only.
  if (named >= 0 && rest.length > 0 && !written.includes("..")) {
    const stream = streams[named];
    if (stream !== undefined)
      return inStream(rest.join("."), at, context, stream, start).map((place) => ({
        label: shown(place, stream),
        at,
        places: [place],
        streams: [named],
      }));
  }
  const found = streams.map((stream) => inStream(written, at, context, stream, start));
  const count = Math.min(...found.map((places) => places.length));
  return Array.from({ length: count }, (_, i) => {
    const places = found.flatMap((list) => list[i] ?? []);
    const [first] = places;
    const [stream] = streams;
    const whole = count === 1 && !written.includes("..") && !written.includes("*");
    return {
      label: whole || first === undefined || stream === undefined ? written : shown(first, stream),
      at,
      places,
      streams: streams.map((_, s) => s),
    };
  });
}

function shown(place: Place, stream: Stream): string {
  return relative(place.path, stream);
}

function relative(path: string, stream: Stream): string {
  return stream.scope === "" ? path : path.slice(stream.scope.length + 1);
}

/** The places made inside a stream: their paths below it, aliases included. */
function knownIn(context: Context, stream: Stream, start: number): ReadonlyMap<string, Place> {
  const known = new Map<string, Place>();
  for (const place of context.build.places) {
    if (place.first < start || place.values.length === 0) continue;
    for (const path of [place.path, ...place.aliases]) {
      if (stream.scope === "" || path.startsWith(`${stream.scope}.`)) known.set(relative(path, stream), place);
    }
  }
  return known;
}

function inStream(written: string, at: Span, context: Context, stream: Stream, start: number): readonly Place[] {
  const known = knownIn(context, stream, start);
  const paths = [...known.keys()];
  const [from, to] = written.split("..");
  let matches: readonly string[];
  if (from !== undefined && to !== undefined) {
    const range = positionRange(paths, from, to.replace(/^@/, ""));
    switch (range.kind) {
      case "range":
        matches = range.matches;
        break;
      case "none":
        return unknownPosition(range.end, at, context, stream, paths);
      case "many":
        return ambiguous(range.end, range.matches, at, context, stream);
      case "levels":
        return failAt(context, "E0503", `\`${range.from}\` and \`${range.to}\` lie at different depths`, at, {
          label: "a range runs over positions of one level",
        });
      case "backwards":
        return failAt(context, "E0503", `\`${range.to}\` comes before \`${range.from}\``, at, {
          helps: [`\`${range.to}..${range.from}\``],
        });
      default:
        return range satisfies never;
    }
  } else {
    const found = findPositions(paths, written);
    if (found.kind === "none") return unknownPosition(written, at, context, stream, paths);
    if (found.kind === "many" && !written.includes("*")) {
      const distinct = new Set(found.matches.map((path) => known.get(path)));
      if (distinct.size > 1) return ambiguous(written, found.matches, at, context, stream);
    }
    matches = found.matches;
  }
  return [...new Set(matches.flatMap((path) => known.get(path) ?? []))];
}

/** A path of a tuple: `spatial.conv4`, or a path in the stream of that place. */
function ofStream(
  path: Path,
  index: number,
  context: Context,
  streams: readonly Stream[],
  start: number,
): { readonly place: Place; readonly stream: number } {
  const written = pathText(path, context);
  const [head = "", ...rest] = written.split(".");
  const named = streams.findIndex((stream) => stream.name === head && head !== "");
  const which = named >= 0 && rest.length > 0 ? named : index;
  const stream = streams[which];
  const at = spanOf(context, path);
  const [place, ...more] =
    stream === undefined
      ? []
      : inStream(which === named && rest.length > 0 ? rest.join(".") : written, at, context, stream, start);
  if (place === undefined || more.length > 0) return failAt(context, "E0503", `\`${written}\` is not one position`, at);
  return { place, stream: which };
}

function unknownPosition(written: string, at: Span, context: Context, stream: Stream, paths: readonly string[]): never {
  const names = paths.map((path) => shortestName(paths, path));
  const near = suggest(written, [...new Set([...names, ...paths])]);
  const title = stream.title === "" ? "this network" : `\`${stream.title}\``;
  return failAt(context, "E0502", `${title} has no position \`${written}\``, at, {
    label: "not a position",
    helps: near === undefined ? [] : [{ text: `did you mean \`${near}\`?`, edits: [{ span: at, replacement: near }] }],
    notes: paths.length === 0 ? ["none of its layers has a name; `layer @name` gives one"] : [compressPositions(paths)],
  });
}

function ambiguous(written: string, matches: readonly string[], at: Span, context: Context, stream: Stream): never {
  const title = stream.title === "" ? "this network" : `\`${stream.title}\``;
  const listed = matches.slice(0, 5).join(", ");
  const starred =
    /\[\d+\]/.exec(matches.find((path) => path.includes("[")) ?? "") === null
      ? undefined
      : matches.find((path) => path.includes("["))?.replace(/\[\d+\]/, "[*]");
  const helps = [`write one of them, such as \`${matches[0]}\``];
  if (starred !== undefined) helps.push(`or all of one stage: \`${starred}\``);
  return failAt(context, "E0503", `\`${written}\` could be several positions of ${title}`, at, {
    label: `${matches.length} positions end in \`${written}\``,
    notes: [matches.length > 5 ? `${listed}, … ${matches.length - 5} more` : listed],
    helps,
  });
}
