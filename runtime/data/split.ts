/**
 * Who trains and who tests: from a manifest to folds.
 *
 * In: the clips of a manifest and a protocol. Out: folds of clips to train on and clips to test on, or a sentence on why
 * there can be none. People are the unit: a subject is on one side of a fold only, for a network that has seen a face
 * with one expression recognises the face. Clips that a rule of the set excludes are on neither side. Clips that cannot be
 * read are not trained on but stay in the test, where they count as errors: a score is of the set, not of the files that opened.
 */
import type { ClipRecord, Manifest } from "./manifest.ts";
import { randomOf, shuffled } from "./random.ts";

export type Protocol =
  /** Subjects in `folds` groups of about equal classes; each group is the test once. */
  | { readonly kind: "folds"; readonly folds: number; readonly seed: number }
  | { readonly kind: "leave-one-subject-out" }
  /** The sides that the set itself names (AFEW's Train and Val). */
  | { readonly kind: "fixed" };

export interface Fold {
  readonly name: string;
  readonly train: readonly ClipRecord[];
  readonly test: readonly ClipRecord[];
}

/** The folds of a protocol, in order. The same manifest, protocol and seed give the same folds. */
export function splitClips(manifest: Manifest, protocol: Protocol): readonly Fold[] | { readonly error: string } {
  const clips = manifest.clips.filter((clip) => clip.status !== "excluded");
  if (protocol.kind === "fixed") {
    const unnamed = clips.find((clip) => clip.split === undefined);
    if (unnamed !== undefined) return { error: `the set names no side for \`${unnamed.path}\`` };
    return [makeFold("fixed", clips, (clip) => clip.split === "validation")];
  }
  const unknown = clips.find((clip) => clip.subject === undefined);
  if (unknown !== undefined)
    return { error: `nothing says who is shown in \`${unknown.path}\`: only the fixed split keeps people apart` };
  const subjects = [...new Set(clips.map((clip) => clip.subject ?? ""))];
  if (protocol.kind === "leave-one-subject-out") {
    if (subjects.length < 2) return { error: "there is only one subject" };
    return subjects.map((subject) => makeFold(`subject ${subject}`, clips, (clip) => clip.subject === subject));
  }
  const { folds, seed } = protocol;
  if (folds < 2 || folds > subjects.length) return { error: `${subjects.length} subjects cannot make ${folds} folds` };
  const groups = groupSubjects(
    manifest.classes,
    clips,
    shuffled(randomOf(seed, "folds"), subjects),
    Array.from({ length: folds }, () => 1),
  );
  return groups.map((group, index) =>
    makeFold(`fold ${index + 1} of ${folds}`, clips, (clip) => group.has(clip.subject ?? "")),
  );
}

function makeFold(name: string, clips: readonly ClipRecord[], tests: (clip: ClipRecord) => boolean): Fold {
  return {
    name,
    train: clips.filter((clip) => !tests(clip) && clip.status === "ok"),
    test: clips.filter(tests),
  };
}

/**
 * Deals subjects out to one group for each of `shares`, whose sizes are to be as the shares: those with the most clips
 * first, each to the group where the counts of the classes stay the closest to its share; ties go to the group with the
 * fewest subjects for its share, then to the first. A clip without a subject is a subject of its own (`subjectOf`).
 */
export function groupSubjects(
  classes: readonly string[],
  clips: readonly ClipRecord[],
  subjects: readonly string[],
  shares: readonly number[],
): readonly ReadonlySet<string>[] {
  const histograms = new Map(
    subjects.map((subject) => [
      subject,
      countClasses(
        classes,
        clips.filter((clip) => subjectOf(clip) === subject),
      ),
    ]),
  );
  const sizeOf = (subject: string): number => sum(histograms.get(subject) ?? []);
  const groups = shares.map((share) => ({ share, members: new Set<string>(), counts: classes.map(() => 0) }));
  for (const subject of subjects.toSorted((a, b) => sizeOf(b) - sizeOf(a))) {
    const own = histograms.get(subject) ?? [];
    // The sum of squares over all groups, each by its share, grows least where the subject's classes are rarest.
    const cost = (group: (typeof groups)[number]): number =>
      sum(group.counts.map((count, c) => (count + (own[c] ?? 0)) ** 2 - count ** 2)) / group.share;
    const room = (group: (typeof groups)[number]): number => group.members.size / group.share;
    const best = groups.reduce((a, b) => (cost(b) < cost(a) || (cost(b) === cost(a) && room(b) < room(a)) ? b : a));
    best.members.add(subject);
    for (const [c, n] of own.entries()) best.counts[c] = (best.counts[c] ?? 0) + n;
  }
  return groups.map((group) => group.members);
}

/** Who is shown; a clip of nobody in particular stands for itself. */
export function subjectOf(clip: ClipRecord): string {
  return clip.subject ?? clip.path;
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

/** How many of `clips` each class has, in the order of `classes`. */
export function countClasses(classes: readonly string[], clips: readonly ClipRecord[]): number[] {
  return classes.map((name) => clips.filter((clip) => clip.class === name).length);
}

/** What a fold's training side knows of its test: subjects and files that are on both, in sentences; empty if nothing. */
export function findLeaks(fold: Fold): string[] {
  return leaksBetween(["training", fold.train], ["test", fold.test]);
}

/** Subjects and files that two sides share, each with its clips, in sentences; empty if they share nothing. */
export function leaksBetween(
  [nameA, a]: readonly [string, readonly ClipRecord[]],
  [nameB, b]: readonly [string, readonly ClipRecord[]],
): string[] {
  const leaks: string[] = [];
  const files = new Map(a.flatMap((clip) => (clip.sha256 === undefined ? [] : [[clip.sha256, clip.path]])));
  const paths = new Set(a.map((clip) => clip.path));
  const subjects = new Map(a.flatMap((clip) => (clip.subject === undefined ? [] : [[clip.subject, clip.path]])));
  for (const subject of new Set(b.flatMap((clip) => clip.subject ?? []))) {
    const here = subjects.get(subject);
    const there = b.find((clip) => clip.subject === subject);
    if (here !== undefined && there !== undefined)
      leaks.push(
        `subject ${subject} is on both sides, for example in \`${here}\` (${nameA}) and \`${there.path}\` (${nameB})`,
      );
  }
  for (const { sha256, path } of b) {
    const twin = sha256 === undefined ? undefined : files.get(sha256);
    if (paths.has(path)) leaks.push(`\`${path}\` is on both sides (${nameA} and ${nameB})`);
    else if (twin !== undefined) leaks.push(`\`${path}\` (${nameB}) is the same file as \`${twin}\` (${nameA})`);
  }
  return leaks;
}
