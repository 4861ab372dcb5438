/**
 * The three sides of an experiment: clips to train on, clips that choose the epoch, clips that are only tested.
 *
 * In: a manifest, what a recipe says about its data, and the fold. Out: the sides and the classes by number, or what is
 * wrong with them and what to do. The validation side is cut from the training subjects, never from the test: whoever
 * chooses the best epoch on the test has seen it. Every pair of sides is searched for people and files that are on both.
 */
import type { DataRecipe } from "../../compiler/recipe/recipe.ts";
import type { ClipRecord, Manifest } from "./manifest.ts";
import { randomOf, shuffled } from "./random.ts";
import { countClasses, groupSubjects, leaksBetween, splitClips, subjectOf } from "./split.ts";

export interface Sides {
  readonly kind: "sides";
  /** The fold's name, as `splitClips` gives it. */
  readonly fold: string;
  /** By number of the model's output. */
  readonly classes: readonly string[];
  /** Clips that can be read. */
  readonly train: readonly ClipRecord[];
  /** Clips that cannot be read stay on these sides and count as errors. */
  readonly validation: readonly ClipRecord[];
  readonly test: readonly ClipRecord[];
  /** What a person should know about the sides, in sentences. */
  readonly notes: readonly string[];
}

/** Why there can be no sides. */
export interface SidesError {
  readonly kind: "sides-error";
  readonly message: string;
  readonly help: readonly string[];
}

function refuse(message: string, ...help: readonly string[]): SidesError {
  return { kind: "sides-error", message, help };
}

/**
 * The classes by number: the recipe's labels, or the manifest's order where it has none.
 * Labels may come in any order but must be the manifest's classes, each once.
 */
function classOrder(manifest: Manifest, labels: readonly string[] | undefined): readonly string[] | SidesError {
  if (labels === undefined) return manifest.classes;
  const known = manifest.classes.map((name) => `\`${name}\``).join(", ");
  const twice = labels.find((label, i) => labels.indexOf(label) !== i);
  if (twice !== undefined) return refuse(`the label \`${twice}\` is given twice`, "give every class once");
  const extra = labels.filter((label) => !manifest.classes.includes(label));
  if (extra.length > 0)
    return refuse(`the set has no class ${extra.map((name) => `\`${name}\``).join(", ")}`, `its classes are ${known}`);
  const missing = manifest.classes.filter((name) => !labels.includes(name));
  if (missing.length > 0)
    return refuse(
      `the labels leave out ${missing.map((name) => `\`${name}\``).join(", ")}, which the set has clips of`,
      `the labels are all of ${known}, in the order of the model's outputs`,
    );
  return labels;
}

/** The names of a recipe's folds, in order, or why there are none. */
export function foldNames(manifest: Manifest, recipe: Pick<DataRecipe, "split">): readonly string[] | SidesError {
  const folds = splitClips(manifest, recipe.split.protocol);
  return "error" in folds ? refuse(folds.error, "choose another protocol for `split`") : folds.map(({ name }) => name);
}

/**
 * The sides of one fold. `fold` is its number, from 1, or its name (`foldNames`); a subject's own name will do where one
 * subject is left out. `seed` decides which training subjects are held out for validation, whatever the fold.
 */
export function splitSides(
  manifest: Manifest,
  recipe: Pick<DataRecipe, "split" | "labels" | "batch">,
  fold: number | string,
  seed: number,
): Sides | SidesError {
  const classes = classOrder(manifest, recipe.labels);
  if ("kind" in classes) return classes;
  const { protocol, validation: share } = recipe.split;
  const folds = splitClips(manifest, protocol);
  if ("error" in folds) return refuse(folds.error, "choose another protocol for `split`");
  const chosen =
    typeof fold === "number" ? folds[fold - 1] : folds.find(({ name }) => name === fold || name === `subject ${fold}`);
  if (chosen === undefined)
    return refuse(
      `there is no fold ${typeof fold === "number" ? fold : `\`${fold}\``}`,
      `the folds are ${nameSome(folds.map(({ name }) => name))}`,
    );

  // `splitClips` has left out of the training side what cannot be read; the validation side keeps it.
  const tested = new Set(chosen.test);
  const rest = manifest.clips.filter((clip) => clip.status !== "excluded" && !tested.has(clip));
  const held = holdOut(classes, rest, share, seed);
  if ("kind" in held) return held;
  const validation = rest.filter((clip) => held.subjects.has(subjectOf(clip)));
  const train = rest.filter((clip) => !held.subjects.has(subjectOf(clip)) && clip.status === "ok");

  const sides = [
    ["training", train],
    ["validation", validation],
    ["test", chosen.test],
  ] as const;
  const [inTraining, inValidation, inTest] = sides;
  const leaks = [
    ...leaksBetween(inTraining, inTest),
    ...leaksBetween(inTraining, inValidation),
    ...leaksBetween(inValidation, inTest),
  ];
  if (leaks.length > 0)
    return refuse(
      `${chosen.name}: ${leaks[0] ?? ""}`,
      ...leaks.slice(1, 5),
      ...(leaks.length > 5 ? [`… and ${leaks.length - 5} more`] : []),
      "correct the folders or remove the copies, then scan the set again",
    );
  const counts = countClasses(classes, train);
  const absent = classes.filter((_, c) => counts[c] === 0);
  if (absent.length > 0)
    return refuse(
      `${chosen.name}: no training clip shows ${absent.map((name) => `\`${name}\``).join(", ")}`,
      `training clips of each class: ${classes.map((name, c) => `${name} ${counts[c] ?? 0}`).join(", ")}`,
      "use fewer folds, or a smaller share for validation, or leave the class out of the set",
    );
  if (train.length < recipe.batch)
    return refuse(
      `${chosen.name}: there are ${train.length} training clips, fewer than a batch of ${recipe.batch}`,
      `make \`batch\` ${train.length} or less`,
    );
  if (chosen.test.length === 0) return refuse(`${chosen.name}: no clip is left to test on`, "scan the set again");
  const notes = [...held.notes];
  for (const [name, clips] of sides) {
    const bad = clips.filter((clip) => clip.status !== "ok").length;
    if (bad > 0) notes.push(`${bad} of ${clips.length} ${name} clips cannot be read; they count as errors`);
  }
  return { kind: "sides", fold: chosen.name, classes, train, validation, test: chosen.test, notes };
}

/** What a run records of a side: clips, the people in them, and the clips of each class in the order of `classes`. */
export function countSide(
  classes: readonly string[],
  clips: readonly ClipRecord[],
): { readonly clips: number; readonly subjects: number; readonly byClass: readonly number[] } {
  return {
    clips: clips.length,
    subjects: new Set(clips.flatMap((clip) => clip.subject ?? [])).size,
    byClass: countClasses(classes, clips),
  };
}

/** Subjects with about `share` of the clips of every class; where nobody is named, clips stand for themselves. */
function holdOut(
  classes: readonly string[],
  clips: readonly ClipRecord[],
  share: number,
  seed: number,
): { readonly subjects: ReadonlySet<string>; readonly notes: readonly string[] } | SidesError {
  if (!(share >= 0 && share < 1)) return refuse(`a share of ${share} cannot be held out`, "give one from 0 to below 1");
  if (share === 0) return { subjects: new Set(), notes: [] };
  const named = clips.filter((clip) => clip.subject !== undefined).length;
  if (named > 0 && named < clips.length)
    return refuse(
      `nothing says who is shown in \`${clips.find((clip) => clip.subject === undefined)?.path ?? ""}\`, while other clips name their subject`,
      "name the subject of every clip in the manifest, or set the share for validation to 0",
    );
  const subjects = shuffled(randomOf(seed, "validation"), [...new Set(clips.map(subjectOf))]);
  if (subjects.length < 2)
    return refuse(
      "there is only one training subject, and validation takes whole subjects",
      "set the share for validation to 0, or train on more subjects",
    );
  const [, group = new Set<string>()] = groupSubjects(classes, clips, subjects, [1 - share, share]);
  const last = subjects.at(-1) ?? "";
  // Both sides get somebody, however small the share or the set.
  const held = group.size === 0 ? new Set([last]) : group;
  if (held.size === subjects.length) return { subjects: new Set([...held].filter((name) => name !== last)), notes: [] };
  return {
    subjects: held,
    notes:
      named === 0
        ? [
            "nothing says who is shown: validation clips were held out one by one and may show people who are trained on",
          ]
        : [],
  };
}

function nameSome(names: readonly string[]): string {
  const shown = names.slice(0, 6).map((name) => `\`${name}\``);
  return names.length > 6 ? `${shown.join(", ")}, … (${names.length} in all)` : shown.join(", ");
}
