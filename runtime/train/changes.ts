/**
 * What has changed since a checkpoint was written: the reason to refuse to go on with it, in words.
 *
 * In: the facts of the run then and now, and both manifests where they are at hand. Out: a sentence a difference, with
 * the setting's place in the recipe and both of its values.
 */
import type { ClipRecord, Manifest } from "../data/manifest.ts";
import type { RunFacts } from "./checkpoint.ts";
import { RunError } from "./fault.ts";

/** Names that a sentence lists before it only counts. */
const LISTED = 3;
/** Characters of a value in a sentence. */
const SHOWN = 60;

/** The facts that a comparison needs, and the data set itself where it is at hand. */
export interface Comparable extends RunFacts {
  readonly manifest?: Manifest | undefined;
}

/**
 * What differs between a checkpoint's run and the present one, of what changes its results: model, recipe, seed, data
 * set. Empty: nothing. The device is not part of it: see `deviceChange`.
 */
export function whatChanged(saved: Comparable, current: Comparable): string[] {
  const changes: string[] = [];
  if (saved.graphHash !== current.graphHash) {
    changes.push(
      saved.model === current.model
        ? `the model \`${current.model}\` computes something else: its graph was ${short(saved.graphHash)} and is ${short(current.graphHash)}`
        : `the model was \`${saved.model}\` (graph ${short(saved.graphHash)}) and is \`${current.model}\` (graph ${short(current.graphHash)})`,
    );
  }
  const settings = compareRecords("the recipe's", saved.recipe, current.recipe);
  changes.push(...settings);
  if (settings.length === 0 && saved.recipeHash !== current.recipeHash)
    changes.push(`the recipe's hash was ${short(saved.recipeHash)} and is ${short(current.recipeHash)}`);
  if (saved.seed !== current.seed && saved.recipe.seed === current.recipe.seed)
    changes.push(`the seed was ${saved.seed} and is ${current.seed}`);
  if (saved.manifestHash !== current.manifestHash) {
    const clips =
      saved.manifest === undefined || current.manifest === undefined
        ? []
        : compareManifests(saved.manifest, current.manifest);
    changes.push(
      ...(clips.length > 0
        ? clips
        : [`the data set's manifest was ${short(saved.manifestHash)} and is ${short(current.manifestHash)}`]),
    );
  }
  return changes;
}

/** Another device, or another number of threads: no reason to stop, but worth a line in the records. */
export function deviceChange(saved: RunFacts, current: RunFacts): string | undefined {
  const words = ({ device, threads }: RunFacts): string =>
    threads === undefined ? device : `${device} with ${threads} thread${threads === 1 ? "" : "s"}`;
  if (words(saved) === words(current)) return undefined;
  return `it was trained on ${words(saved)} and goes on on ${words(current)}: its numbers may differ in the last digits from those of an uninterrupted run`;
}

/**
 * @throws RunError that names every change; nothing if there is none
 */
export function refuseChanges(folder: string, changes: readonly string[], help: readonly string[]): void {
  if (changes.length === 0) return;
  const shown = changes.slice(0, 12);
  const rest = changes.length - shown.length;
  throw new RunError(
    "wrong",
    [
      `\`${folder}\` was trained differently:`,
      ...shown.map((change) => `  - ${change}`),
      ...(rest > 0 ? [`  - and ${rest} more`] : []),
    ].join("\n"),
    help,
  );
}

/** Names and shapes that the model has and the checkpoint lacks, or the other way about. */
export function compareLayouts(
  saved: Iterable<{ readonly name: string; readonly shape: readonly number[] }>,
  current: Iterable<{ readonly name: string; readonly shape: readonly number[] }>,
): string[] {
  const before = new Map([...saved].map(({ name, shape }) => [name, `[${shape.join(", ")}]`]));
  const after = new Map([...current].map(({ name, shape }) => [name, `[${shape.join(", ")}]`]));
  const missing = [...after.keys()].filter((name) => !before.has(name));
  const unknown = [...before.keys()].filter((name) => !after.has(name));
  const other = [...after].filter(([name, shape]) => before.has(name) && before.get(name) !== shape);
  const changes: string[] = [];
  if (missing.length > 0) changes.push(`the checkpoint lacks ${names(missing, "tensor")}`);
  if (unknown.length > 0) changes.push(`the model has no place for ${names(unknown, "tensor")}`);
  for (const [name, shape] of other)
    changes.push(`\`${name}\` is ${before.get(name)} in the checkpoint and ${shape} here`);
  return changes;
}

function short(hash: string): string {
  return hash.slice(0, 12);
}

/** "3 clips: `a`, `b`, `c`"; "5 clips: `a`, `b`, `c`, …". */
function names(all: readonly string[], noun: string): string {
  const shown = all.slice(0, LISTED).map((name) => `\`${name}\``);
  return `${all.length} ${noun}${all.length === 1 ? "" : "s"}: ${shown.join(", ")}${all.length > LISTED ? ", …" : ""}`;
}

// --------------------------------------------------------------------------------------------------------------- recipe

/** A setting that differs. `path` has `[*]` where `item` of a list of named things stands. */
interface Difference {
  readonly path: string;
  readonly item: string | undefined;
  readonly before: string;
  readonly after: string;
}

/** A sentence for each setting that differs between two records; `whose` stands before its name. */
export function compareRecords(whose: string, before: unknown, after: unknown): string[] {
  const groups = new Map<string, { readonly first: Difference; readonly items: string[] }>();
  for (const difference of differences("", undefined, before, after)) {
    const key = JSON.stringify([difference.path, difference.before, difference.after]);
    const group = groups.get(key) ?? { first: difference, items: [] };
    groups.set(key, group);
    if (difference.item !== undefined) group.items.push(difference.item);
  }
  return [...groups.values()].map(({ first: { path, before, after }, items }) => {
    const where = items.length > 0 ? ` for ${names(items, "parameter")}` : "";
    return `${whose} ${path} was ${before} and is ${after}${where}`;
  });
}

function* differences(
  path: string,
  item: string | undefined,
  before: unknown,
  after: unknown,
): Generator<Difference, void, undefined> {
  if (JSON.stringify(before) === JSON.stringify(after)) return;
  const at = (key: string): string => (path === "" ? key : `${path}.${key}`);
  if (Array.isArray(before) && Array.isArray(after)) {
    const [old, current] = [byPath(before), byPath(after)];
    if (old !== undefined && current !== undefined) {
      for (const name of new Set([...old.keys(), ...current.keys()]))
        yield* differences(`${path}[*]`, name, old.get(name), current.get(name));
      return;
    }
    if ([...before, ...after].some((entry) => typeof entry === "object")) {
      for (let i = 0; i < Math.max(before.length, after.length); i++)
        yield* differences(`${path}[${i}]`, item, before[i], after[i]);
      return;
    }
  } else if (isObject(before) && isObject(after)) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)]))
      yield* differences(at(key), item, before[key], after[key]);
    return;
  }
  yield { path, item, before: words(before), after: words(after) };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A list of things that have paths, by path: that one was inserted does not change all behind it. */
function byPath(list: readonly unknown[]): ReadonlyMap<string, unknown> | undefined {
  const out = new Map<string, unknown>();
  for (const entry of list) {
    if (!isObject(entry) || typeof entry["path"] !== "string") return undefined;
    out.set(entry["path"], entry);
  }
  return out;
}

function words(value: unknown): string {
  if (value === undefined || value === null) return "not set";
  const text = JSON.stringify(value);
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN - 1)}…`;
}

// ------------------------------------------------------------------------------------------------------------- data set

function compareManifests(before: Manifest, after: Manifest): string[] {
  const changes: string[] = [];
  if (before.classes.join("\n") !== after.classes.join("\n"))
    changes.push(`the data set's classes were ${words(before.classes)} and are ${words(after.classes)}`);
  if (before.note !== after.note)
    changes.push(`the data set's note was ${words(before.note)} and is ${words(after.note)}`);
  const old = new Map(before.clips.map((clip) => [clip.path, clip]));
  const current = new Map(after.clips.map((clip) => [clip.path, clip]));
  const added = after.clips.filter(({ path }) => !old.has(path)).map(({ path }) => path);
  const removed = before.clips.filter(({ path }) => !current.has(path)).map(({ path }) => path);
  if (added.length > 0) changes.push(`the data set has gained ${names(added, "clip")}`);
  if (removed.length > 0) changes.push(`the data set has lost ${names(removed, "clip")}`);
  const changed = after.clips.flatMap((clip) => {
    const was = old.get(clip.path);
    const fields = was === undefined ? [] : changedFields(was, clip);
    return fields.length === 0 ? [] : [{ path: clip.path, fields }];
  });
  for (const { path, fields } of changed.slice(0, LISTED))
    changes.push(`the clip \`${path}\` has changed: ${fields.join(", ")}`);
  if (changed.length > LISTED) changes.push(`and so have ${changed.length - LISTED} more`);
  return changes;
}

function changedFields(before: ClipRecord, after: ClipRecord): string[] {
  const fields = ["class", "subject", "sentence", "split", "frames", "status"] as const;
  const out = fields
    .filter((field) => before[field] !== after[field])
    .map(
      (field) =>
        `its ${field === "frames" ? "number of frames" : field} was ${words(before[field])} and is ${words(after[field])}`,
    );
  if (before.sha256 !== after.sha256) out.push("its file has other bytes");
  return out;
}
