/**
 * Data sets as they lie on the disk: from a folder to a manifest.
 *
 * In: a folder and the layout that it has. Out: a manifest and what was odd about the folder, in sentences. Who is shown,
 * what is expressed and which sentence is spoken are taken from the directories, never from the file's name:
 * in eNTERFACE'05 all files of subject 11 are named after subject 12, and names have typing errors besides.
 * Every video below the folder either becomes a record or is named among the oddities.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { ClipRecord, Layout, Manifest } from "./manifest.ts";
import { type Decoders, readVideo } from "./video.ts";

export interface ScanOptions {
  /** Leave out whole subjects that lack recordings: 1260 clips of eNTERFACE'05 instead of 1287. */
  readonly complete?: boolean;
  readonly decoders?: Decoders;
}

export interface Scan {
  readonly manifest: Manifest;
  /** What a person should know, in sentences. */
  readonly oddities: readonly string[];
}

const VIDEO = /\.(avi|mp4|webm|mkv|mov|mpe?g|wmv|m4v)$/i;

const EMOTIONS: Readonly<Record<"enterface" | "afew", readonly string[]>> = {
  enterface: ["anger", "disgust", "fear", "happiness", "sadness", "surprise"],
  afew: ["Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"],
};
/** Sentences that each subject of eNTERFACE'05 speaks for each emotion. */
const SENTENCES = 5;

/** What the directories say about a clip; `path` is relative to the set's folder. */
type Placed = Pick<ClipRecord, "path" | "class" | "subject" | "sentence" | "split"> & { readonly excluded?: string };

/** The videos below `folder`, as sorted `/`-separated paths. */
async function listVideos(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => !entry.isDirectory() && VIDEO.test(entry.name))
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(join(folder, "x").length - 1)
        .replaceAll("\\", "/"),
    )
    .sort(byNumber);
}

/** Orders names as people do: `subject 2` before `subject 10`. */
function byNumber(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/** Reads the place of one video, or undefined where the layout has no such place. */
function place(path: string, layout: Layout): Placed | undefined {
  const folders = path.split("/").slice(0, -1);
  switch (layout) {
    case "enterface": {
      const at = folders.findIndex((name) => /^subject[ _-]*\d+$/i.test(name));
      const subject = folders[at]?.replace(/\D+/, "");
      const emotion = EMOTIONS.enterface.find((name) => name === folders[at + 1]?.toLowerCase());
      if (subject === undefined || emotion === undefined) return undefined;
      const sentence = /^sentence[ _-]*(\d+)$/i.exec(folders[at + 2] ?? "")?.[1];
      if (sentence !== undefined && folders.length === at + 3) return { path, class: emotion, subject, sentence };
      return { path, class: emotion, subject, excluded: "a whole session, not cut into sentences" };
    }
    case "afew": {
      const at = folders.findIndex((name) => /^(train|val)(_?afew)?$/i.test(name));
      const emotion = EMOTIONS.afew.find((name) => name.toLowerCase() === folders[at + 1]?.toLowerCase());
      if (at < 0 || emotion === undefined || folders.length !== at + 2) return undefined;
      return { path, class: emotion, split: /^t/i.test(folders[at] ?? "") ? "train" : "validation" };
    }
    case "pain":
    case "association": {
      const [subject, name] = folders;
      return subject === undefined || name === undefined || folders.length !== 2
        ? undefined
        : { path, class: name, subject };
    }
    default:
      return layout satisfies never;
  }
}

/** What an eNTERFACE'05 folder has that its description does not say. */
function oddEnterface(placed: readonly Placed[]): { oddities: string[]; incomplete: Set<string> } {
  const oddities: string[] = [];
  const incomplete = new Set<string>();
  for (const subject of new Set(placed.map((clip) => clip.subject ?? ""))) {
    const own = placed.filter((clip) => clip.subject === subject);
    const others = own.filter(({ path }) => {
      const named = /\/s_?(\d+)_[^/]*$/i.exec(path)?.[1];
      return named !== undefined && named !== subject;
    });
    if (others.length > 0)
      oddities.push(
        `subject ${subject}: ${others.length} files are named after another subject; the folder is what counts`,
      );
    const lacking: string[] = [];
    for (const emotion of EMOTIONS.enterface) {
      const takes = own.filter((clip) => clip.class === emotion);
      const spoken = new Set(takes.flatMap((clip) => clip.sentence ?? []));
      if (spoken.size < SENTENCES) lacking.push(`${emotion} ${spoken.size}`);
      const sessions = takes.filter((clip) => clip.sentence === undefined).length;
      if (sessions > 0)
        oddities.push(`subject ${subject}: ${emotion} is a whole session, not cut into sentences; it is excluded`);
    }
    if (lacking.length === 0) continue;
    incomplete.add(subject);
    oddities.push(`subject ${subject} lacks recordings; sentences of ${SENTENCES}: ${lacking.join(", ")}`);
  }
  return { oddities, incomplete };
}

/** Opens a clip: how many frames it has and whether its start, middle and end can be decoded. */
async function probe(
  folder: string,
  path: string,
  decoders: Decoders | undefined,
): Promise<Pick<ClipRecord, "frames" | "status" | "detail" | "sha256">> {
  const file = join(folder, path);
  const found = await stat(file).catch((error: unknown) => String(error instanceof Error ? error.message : error));
  if (typeof found === "string") return { frames: 0, status: "missing", detail: found };
  if (found.size === 0) return { frames: 0, status: "empty", detail: "the file is empty (0 bytes)" };
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  const sha256 = hash.digest("hex");
  const windows = [0, 0.5, 1].map((position) => ({ count: 1, position }));
  const facts = await readVideo(file, windows, () => {}, decoders);
  if (facts.kind !== "facts") return { frames: 0, status: facts.kind, detail: facts.message, sha256 };
  const [warning] = facts.warnings;
  return { frames: facts.frames, status: "ok", ...(warning === undefined ? {} : { detail: warning }), sha256 };
}

/**
 * Scans `folder`; `onClip` hears of every clip that has been read. Two clips are read at a time.
 * Undefined classes cannot come out: eNTERFACE'05 and AFEW have their own, other sets those that their folders name.
 */
export async function scanFolder(
  folder: string,
  layout: Layout,
  onClip: (done: number, total: number) => void = () => {},
  options: ScanOptions = {},
): Promise<Scan> {
  const videos = await listVideos(folder);
  const placed: Placed[] = [];
  const strays: string[] = [];
  for (const path of videos) {
    const clip = place(path, layout);
    if (clip === undefined) strays.push(path);
    else placed.push(clip);
  }
  const oddities: string[] = [];
  if (strays.length > 0)
    oddities.push(`${strays.length} videos lie where the layout has no clips, for example \`${strays[0] ?? ""}\``);
  let incomplete = new Set<string>();
  if (layout === "enterface") {
    const odd = oddEnterface(placed);
    oddities.push(...odd.oddities);
    if (options.complete === true) incomplete = odd.incomplete;
  }
  const clips: ClipRecord[] = [];
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < placed.length; index = next++) {
      const clip = placed[index];
      if (clip === undefined) return;
      const { excluded, ...record } = clip;
      const probed = await probe(folder, clip.path, options.decoders);
      const reason = excluded ?? (incomplete.has(clip.subject ?? "") ? "the subject lacks recordings" : undefined);
      clips[index] = {
        ...record,
        ...probed,
        // A rule of the set speaks before what the decoder says; what cannot be read stays what it is.
        ...(reason === undefined || probed.status !== "ok" ? {} : { status: "excluded", detail: reason }),
      };
      onClip(++done, placed.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work));
  const classes =
    layout === "enterface" || layout === "afew"
      ? EMOTIONS[layout]
      : [...new Set(clips.map((clip) => clip.class))].sort(byNumber);
  return { manifest: { note: `clips found in a folder of the layout ${layout}`, layout, classes, clips }, oddities };
}
