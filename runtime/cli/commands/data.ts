/**
 * `netc data`: sets of clips. `make` draws one that needs nobody's consent, `scan` reads the folders of one and writes
 * its manifest, `split` says who trains and who tests, and what the one side knows of the other.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { loadEncoder } from "../../data/encode.ts";
import {
  type ClipRecord,
  decodeManifest,
  encodeManifest,
  type Layout,
  MANIFEST_FILE,
  type Manifest,
} from "../../data/manifest.ts";
import { scanFolder } from "../../data/scan.ts";
import { countClasses, findLeaks, type Protocol, splitClips } from "../../data/split.ts";
import { ASSOCIATION_BLOCK, CLASSES, clipsOf } from "../../data/synthetic/set.ts";
import { CommandError, EXIT, type ExitCode, systemCode, systemError } from "../exit.ts";
import { printJson } from "../json.ts";
import { checkDestination, type FolderKind, writeOwnFolder } from "../own-folder.ts";
import { bytes, grouped, paint, print, table } from "../terminal.ts";

export interface DataMakeOptions {
  readonly layout: Layout;
  readonly subjects?: number;
  readonly clips?: number;
  readonly frames?: number;
  readonly size: readonly [number, number];
  readonly seed: number;
  readonly format: "mp4" | "avi";
  readonly json?: boolean;
}

const DATA_FOLDER: FolderKind = { marker: MANIFEST_FILE, argument: "netc data make" };
const README_FILE = "README.txt";
const FPS = 25;
/** How large a set is when nobody says. */
const DEFAULTS: Readonly<
  Record<Layout, { readonly subjects: number; readonly clips: number; readonly frames: number }>
> = {
  enterface: { subjects: 6, clips: 5, frames: 30 },
  afew: { subjects: 9, clips: 2, frames: 30 },
  pain: { subjects: 6, clips: 4, frames: 30 },
  association: { subjects: 10, clips: ASSOCIATION_BLOCK, frames: 11 },
};
const SHOWS: Readonly<Record<Layout, string>> = {
  enterface: "six emotions, in the layout of eNTERFACE'05",
  afew: "seven expressions, in the layout of AFEW",
  pain: "newborns in four states (calm, cry, mild and severe pain), as subject/class/clip",
  association: "two bars whose class lies in the association of colour and motion, as subject/class/clip",
};

/** Where progress goes: one line that is written over, in a terminal only. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function readme(layout: Layout, note: string, command: string): string {
  return `${note}

Drawn by \`${command}\`.
No person is shown: every face is a set of random numbers, every expression a choice of action units (FACS) over time.
It stands for the real set in its folders only. What a model scores here says nothing about people.

${MANIFEST_FILE} lists the clips: path, class, subject, frames, SHA-256${layout === "association" ? ", and the factors of the design" : ""}.
`;
}

/** Draws a set of clips into a folder. */
export async function dataMake(destination: string, options: DataMakeOptions): Promise<ExitCode> {
  const { layout, seed, format, size } = options;
  const [width, height] = size;
  const defaults = DEFAULTS[layout];
  const { subjects = defaults.subjects, clips = defaults.clips, frames = defaults.frames } = options;
  if (layout === "association" && clips % ASSOCIATION_BLOCK !== 0)
    throw new CommandError(
      EXIT.usage,
      `the association task is balanced in blocks of ${ASSOCIATION_BLOCK} clips of each class: \`--clips\` cannot be ${clips}`,
      [`for example \`--clips ${Math.ceil(clips / ASSOCIATION_BLOCK) * ASSOCIATION_BLOCK}\``],
    );
  if (layout === "afew" && subjects < 2)
    throw new CommandError(EXIT.usage, "AFEW has two sides, and nobody is on both: `--subjects` is at least 2");
  checkDestination(destination, DATA_FOLDER);
  const encode = await loadEncoder();
  if (encode === undefined)
    throw new CommandError(EXIT.machine, "no video encoder: the package node-av is not on this machine", [
      "run `npm install node-av`",
    ]);
  const drawn = clipsOf({ layout, subjects, clips, frames, width, height, seed, format });
  const note = `SYNTHETIC: ${SHOWS[layout]}; seed ${seed}`;
  const command = `netc data make FOLDER --layout ${layout} --subjects ${subjects} --clips ${clips} --frames ${frames} --size ${width}x${height} --seed ${seed} --format ${format}`;
  const started = performance.now();
  let total = 0;
  const records: ClipRecord[] = [];
  await writeOwnFolder(destination, DATA_FOLDER, async (folder) => {
    writeFileSync(join(folder, README_FILE), readme(layout, note, command));
    const video = {
      // A picture of the association task must not tell what moves; x264 looks ahead, whatever it is told.
      codec: format === "avi" || layout === "association" ? "mpeg4" : "libx264",
      apart: layout === "association",
      width,
      height,
      fps: FPS,
      bitrate: `${Math.max(300, Math.round((width * height * FPS) / 1500))}k`,
    };
    for (const [index, clip] of drawn.entries()) {
      progress(`clip ${index + 1} of ${drawn.length}`);
      const path = join(folder, clip.record.path);
      mkdirSync(dirname(path), { recursive: true });
      encode(path, video, clip.frames());
      const file = readFileSync(path);
      total += file.length;
      records.push({ ...clip.record, frames, status: "ok", sha256: createHash("sha256").update(file).digest("hex") });
      await setImmediate(); // a person may want to stop it
    }
    progress("");
    const manifest: Manifest = { note, layout, classes: CLASSES[layout], clips: records };
    writeFileSync(join(folder, MANIFEST_FILE), encodeManifest(manifest));
    return [README_FILE, MANIFEST_FILE, ...records.map((record) => record.path)];
  });
  const seconds = (performance.now() - started) / 1000;
  if (options.json === true) {
    printJson({ output: destination, layout, clips: records.length, frames, classes: CLASSES[layout], bytes: total });
    return EXIT.ok;
  }
  print(
    `${paint("green", "✓", process.stdout)} ${grouped(records.length)} clips in \`${destination}\`, ${bytes(total)}, drawn in ${seconds.toFixed(1)} s`,
  );
  print(`  ${note}`);
  print(`  ${subjects} subjects, ${CLASSES[layout].length} classes, ${frames} frames of ${width}×${height} each`);
  return EXIT.ok;
}

export interface DataScanOptions {
  readonly layout: Layout;
  readonly output?: string;
  readonly complete?: boolean;
  readonly json?: boolean;
}

/** Clips by class and status: a row a class, and the sum. */
function countTable({ classes, clips }: Manifest): string {
  const statuses = ["ok", ...new Set(clips.map((clip) => clip.status).filter((status) => status !== "ok"))];
  const row = (name: string, own: readonly ClipRecord[]): string[] => [
    name,
    ...statuses.map((status) => String(own.filter((clip) => clip.status === status).length)),
    String(new Set(own.map((clip) => clip.subject ?? "")).size),
  ];
  const rows = [
    ...classes.map((name) =>
      row(
        name,
        clips.filter((clip) => clip.class === name),
      ),
    ),
    row("all", clips),
  ];
  const header = ["class", ...statuses, "subjects"];
  return table(header, rows, new Set(header.map((_, column) => column).slice(1)));
}

/** What only the manifest of a drawn set knows (that it is drawn, and what each clip shows) is kept by a new scan. */
function withDrawnFacts(found: Manifest, file: string): Manifest {
  if (!existsSync(file)) return found;
  const before = decodeManifest(readFileSync(file, "utf8"));
  if ("error" in before || !before.note.startsWith("SYNTHETIC")) return found;
  const known = new Map(before.clips.map((clip) => [clip.path, clip]));
  return {
    ...found,
    note: before.note,
    clips: found.clips.map((clip) => {
      const { subject, factors } = known.get(clip.path) ?? {};
      return { ...(subject === undefined ? {} : { subject }), ...clip, ...(factors === undefined ? {} : { factors }) };
    }),
  };
}

/** Reads the folders of a set, opens every clip, prints what there is and writes the manifest. */
export async function dataScan(folder: string, options: DataScanOptions): Promise<ExitCode> {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new CommandError(EXIT.wrong, `\`${folder}\` is no folder`, ["give the folder that holds the data set"]);
  const { manifest: found, oddities } = await scanFolder(
    folder,
    options.layout,
    (done, total) => progress(`clip ${done} of ${total}`),
    { complete: options.complete === true },
  );
  progress("");
  const manifest = withDrawnFacts(found, join(folder, MANIFEST_FILE));
  if (manifest.clips.length === 0)
    throw new CommandError(EXIT.wrong, `\`${folder}\` holds no clip in the layout ${options.layout}`, [
      ...oddities,
      "`--layout` says how the folders are arranged; `netc data scan --help` lists the layouts",
    ]);
  const output = options.output ?? join(folder, MANIFEST_FILE);
  try {
    // Beside it first: a full disk leaves the manifest that was there.
    writeFileSync(`${output}.part`, encodeManifest(manifest));
    renameSync(`${output}.part`, output);
  } catch (error) {
    rmSync(`${output}.part`, { force: true });
    throw systemError(`write \`${output}\``, error);
  }
  if (options.json === true) {
    printJson({ manifest: output, oddities, ...manifest });
    return EXIT.ok;
  }
  print(countTable(manifest));
  const failed = manifest.clips.filter(({ status }) => status !== "ok" && status !== "excluded");
  for (const { path, detail } of failed.slice(0, 10))
    print(`${paint("yellow", "unreadable", process.stdout)}: \`${path}\`: ${detail ?? ""}`);
  if (failed.length > 10) print(`… and ${failed.length - 10} more`);
  for (const oddity of oddities) print(`${paint("cyan", "note", process.stdout)}: ${oddity}`);
  print();
  print(`${grouped(manifest.clips.length)} clips in \`${output}\``);
  return EXIT.ok;
}

export interface DataSplitOptions {
  readonly by: "folds" | "subject" | "fixed";
  readonly folds: number;
  readonly seed: number;
  readonly json?: boolean;
}

/** Splits the set of a manifest, prints the classes of each side, and fails if one side knows of the other. */
export function dataSplit(path: string, options: DataSplitOptions): ExitCode {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, MANIFEST_FILE) : path;
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw systemCode(error) === "ENOENT"
      ? new CommandError(EXIT.wrong, `\`${path}\` has no manifest`, ["`netc data scan FOLDER` writes one"])
      : systemError(`read \`${file}\``, error);
  }
  const manifest = decodeManifest(text);
  if ("error" in manifest) throw new CommandError(EXIT.wrong, `\`${file}\`: ${manifest.error}`);
  const { folds: count, seed, by } = options;
  const protocol: Protocol =
    by === "folds"
      ? { kind: "folds", folds: count, seed }
      : by === "subject"
        ? { kind: "leave-one-subject-out" }
        : { kind: "fixed" };
  const folds = splitClips(manifest, protocol);
  if ("error" in folds) throw new CommandError(EXIT.wrong, `\`${file}\`: ${folds.error}`);
  const leaks = folds.flatMap((fold) => findLeaks(fold).map((leak) => `${fold.name}: ${leak}`));
  if (leaks.length > 0)
    throw new CommandError(EXIT.wrong, `the training side knows of the test: ${leaks[0] ?? ""}`, [
      ...leaks.slice(1, 5),
      ...(leaks.length > 5 ? [`… and ${leaks.length - 5} more`] : []),
      "correct the folders or remove the copies, then scan again",
    ]);
  if (options.json === true) {
    const names = (clips: readonly ClipRecord[]): string[] => clips.map((clip) => clip.path);
    printJson({
      classes: manifest.classes,
      folds: folds.map(({ name, train, test }) => ({ name, train: names(train), test: names(test) })),
    });
    return EXIT.ok;
  }
  const rows = folds.flatMap(({ name, train, test }) =>
    [["train", train] as const, ["test", test] as const].map(([side, clips]) => [
      side === "train" ? name : "",
      side,
      ...countClasses(manifest.classes, clips).map(String),
      String(clips.length),
      String(new Set(clips.map((clip) => clip.subject)).size),
    ]),
  );
  const header = ["", "side", ...manifest.classes, "clips", "subjects"];
  print(table(header, rows, new Set(header.map((_, column) => column).slice(2))));
  print();
  print("no subject and no file is on both sides of a fold");
  return EXIT.ok;
}
