/**
 * How a person writes a place in a network (language 5.6).
 *
 * Every position has a full dotted path: `temporal.conv3.conv3_1`, `layer3[2].conv2`. People leave the enclosing names
 * out. In: the full paths a model knows, in order of execution, outer before inner, aliases beside the paths they stand
 * for; and a text as written after `at`, in a slice, in `--skip` or in a search. Out: the paths that are meant.
 * Messages, grafts, slices, weight rules and the command line all come here, so that a name means the same everywhere.
 */

export interface PositionMatch {
  /** `many` is an ambiguity (E0503) unless the text has a `*`, which asks for all of them. */
  readonly kind: "one" | "none" | "many";
  /** In the order of `known`. */
  readonly matches: readonly string[];
}

export type PositionRange =
  | { readonly kind: "range"; readonly matches: readonly string[] }
  /** An end is not a position, or is several. */
  | { readonly kind: "none" | "many"; readonly end: string; readonly matches: readonly string[] }
  /** The ends lie at different depths, so nothing is between them. */
  | { readonly kind: "levels"; readonly from: string; readonly to: string }
  | { readonly kind: "backwards"; readonly from: string; readonly to: string };

function segmentsOf(path: string): readonly string[] {
  return path.split(".");
}

function segmentMatches(written: string, known: string, last: boolean): boolean {
  if (written === known || (written === "*" && !known.includes("["))) return true;
  if (!written.includes("*") && !known.startsWith(written)) return false;
  const [writtenName, ...writtenIndex] = written.split("[");
  const [knownName, ...knownIndex] = known.split("[");
  if (writtenName !== "*" && writtenName !== knownName) return false;
  // `layer3.conv2` reads as "some conv2 in layer3": an enclosing name may leave its index out, the last one may not.
  if (writtenIndex.length === 0) return !last;
  return writtenIndex.length === knownIndex.length && writtenIndex.every((w, i) => w === "*]" || w === knownIndex[i]);
}

/** The written segments appear in `known` in order, and the last one is last. */
function pathMatches(written: readonly string[], known: readonly string[]): boolean {
  const last = written.at(-1);
  const knownLast = known.at(-1);
  if (last === undefined || knownLast === undefined || !segmentMatches(last, knownLast, true)) return false;
  let next = 0;
  for (const segment of known.slice(0, -1)) {
    const wanted = written[next];
    if (wanted === undefined || next === written.length - 1) break;
    if (segmentMatches(wanted, segment, false)) next++;
  }
  return next === written.length - 1;
}

/**
 * The positions that `written` means among the full paths `known`. An exact path wins over paths that only end so.
 * `layer1[*].conv2` and `*.fc8` mean every match. A leading `@` says nothing and is ignored.
 */
export function findPositions(known: readonly string[], written: string): PositionMatch {
  const text = written.startsWith("@") ? written.slice(1) : written;
  if (known.includes(text)) return { kind: "one", matches: [text] };
  const segments = segmentsOf(text);
  // Most paths differ in their last segment already, which costs nothing to see.
  const last = segments.at(-1) ?? "";
  const mayEnd = last.includes("*") ? known : known.filter((path) => path.endsWith(last));
  const matches = mayEnd.filter((path) => pathMatches(segments, segmentsOf(path)));
  return { kind: matches.length === 0 ? "none" : matches.length === 1 ? "one" : "many", matches };
}

/** Paths that differ only in numbers are of one family: the stages of VGG, the bottlenecks of ResNet. */
function family(path: string): string {
  return path.replace(/\d+/g, "#");
}

function enclosing(path: string): string {
  return segmentsOf(path).slice(0, -1).join(".");
}

/**
 * `from..to`, both ends included, in order of execution. Between two of one family (`conv1..conv5`) lie the members of
 * that family only, not the pools among them; between unlike names (`stem..layer2`) lies all that has the same parent.
 */
export function positionRange(known: readonly string[], from: string, to: string): PositionRange {
  const ends: string[] = [];
  for (const end of [from, to]) {
    const found = findPositions(known, end);
    const [only] = found.matches;
    if (found.kind !== "one" || only === undefined) {
      return { kind: found.kind === "none" ? "none" : "many", end, matches: found.matches };
    }
    ends.push(only);
  }
  const [first = "", last = ""] = ends;
  const alike = family(first) === family(last);
  if (!alike && enclosing(first) !== enclosing(last)) return { kind: "levels", from: first, to: last };
  const start = known.indexOf(first);
  const stop = known.indexOf(last);
  if (stop < start) return { kind: "backwards", from: first, to: last };
  const matches = known
    .slice(start, stop + 1)
    .filter((path) => (alike ? family(path) === family(first) : enclosing(path) === enclosing(first)));
  return { kind: "range", matches };
}

/** The shortest text that still means `path` alone: `conv3_1` for `conv3.conv3_1`. */
export function shortestName(known: readonly string[], path: string): string {
  const segments = segmentsOf(path);
  for (let count = 1; count < segments.length; count++) {
    const text = segments.slice(-count).join(".");
    const found = findPositions(known, text);
    if (found.kind === "one" && found.matches[0] === path) return text;
  }
  return path;
}

/**
 * The positions of a model in a few words, for notes: `conv1..conv5, conv1_1..conv5_3, pool1..pool5, fc6..fc8`.
 * Families come in the order of their first members; after `limit` of them the rest is counted.
 */
export function compressPositions(known: readonly string[], limit = 12): string {
  const families = new Map<string, string[]>();
  for (const path of known) {
    const name = shortestName(known, path);
    const members = families.get(family(name));
    if (members === undefined) families.set(family(name), [name]);
    else members.push(name);
  }
  const words = [...families.values()].map((names) => (names.length === 1 ? names[0] : `${names[0]}..${names.at(-1)}`));
  const rest = words.length - limit;
  return words.slice(0, limit).join(", ") + (rest > 0 ? `, … ${rest} more` : "");
}
