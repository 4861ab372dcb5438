/**
 * Decoding with an `ffmpeg` program, for machines where node-av is not installed.
 *
 * In: a file and the windows wanted. Out: their frames and the facts, as from nodeav.ts. ffmpeg runs once to list the
 * time stamp and size of every frame it decodes (its `showinfo` filter prints them) and once a window to convert the
 * window's frames to RGB on its standard output. Within one program and one file the number of a frame is the same in
 * both runs, which is what makes selecting by it safe here; frames are never matched with another decoder's by number.
 */
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { type ClipFacts, type DataError, notDecodable, type TakeFrame, tooShort, type Window } from "./source.ts";

export interface Ffmpeg {
  readonly program: string;
  readonly version: string;
}

/** The ffmpeg on the PATH, or undefined. */
export async function findFfmpeg(program: string = "ffmpeg"): Promise<Ffmpeg | undefined> {
  let version: string | undefined;
  const code = await runProgram(
    program,
    ["-hide_banner", "-version"],
    () => {},
    () => {},
    (line) => {
      version ??= /^ffmpeg version (\S+)/.exec(line)?.[1];
    },
  );
  return code === 0 ? { program, version: version ?? "of unknown version" } : undefined;
}

/** Reads windows of frames with an ffmpeg program. */
export async function readWithFfmpeg(
  ffmpeg: Ffmpeg,
  path: string,
  windows: readonly Window[],
  take: TakeFrame,
): Promise<ClipFacts | DataError> {
  // With "file:" before it no path is mistaken for an option or for another protocol.
  const input = [
    "-hide_banner",
    "-nostdin",
    "-nostats",
    "-loglevel",
    "level+info",
    "-i",
    `file:${resolve(path)}`,
    "-map",
    "0:v:0",
  ];

  const pts: number[] = [];
  let [width, height] = [0, 0];
  let complaint: string | undefined;
  await runProgram(
    ffmpeg.program,
    [...input, "-vf", "showinfo", "-f", "null", "-"],
    () => {},
    (line) => {
      const frame = /\bn: *\d+ pts: *\S+ +pts_time: *(\S+).* s:(\d+)x(\d+) /.exec(line);
      if (frame !== null) {
        const stamp = Number(frame[1]);
        // Without time stamps the file says nothing about its speed; only the order matters then.
        pts.push(Number.isFinite(stamp) ? stamp : pts.length / 25);
        [width, height] = [Number(frame[2]), Number(frame[3])];
      } else complaint ??= /\[(?:error|fatal|panic)\] (.*)/.exec(line)?.[1];
    },
  );
  if (pts.length === 0) return notDecodable(path, complaint ?? "ffmpeg found no frame");

  for (const [index, { count, position }] of windows.entries()) {
    if (pts.length < count) return tooShort(path, pts.length, count);
    const first = Math.floor((pts.length - count) * position);
    const bytes = width * height * 3;
    let rgb = new Uint8Array(bytes);
    let filled = 0;
    let taken = 0;
    await runProgram(
      ffmpeg.program,
      [
        ...input,
        "-vf",
        `select='between(n,${first},${first + count - 1})',` +
          // Colour is interpolated, not repeated: the same conversion that nodeav.ts asks for.
          "scale=flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24",
        ...passthrough(ffmpeg.version),
        "-frames:v",
        String(count),
        "-f",
        "rawvideo",
        "-",
      ],
      (chunk) => {
        for (let at = 0; at < chunk.length; ) {
          const part = chunk.subarray(at, at + bytes - filled);
          rgb.set(part, filled);
          filled += part.length;
          at += part.length;
          if (filled < bytes) return;
          take(index, { width, height, rgb, pts: pts[first + taken] ?? 0 });
          taken++;
          rgb = new Uint8Array(bytes);
          filled = 0;
        }
      },
      () => {},
    );
    if (taken < count) return notDecodable(path, `ffmpeg gave ${taken} of ${count} frames that it had announced`);
  }
  return {
    kind: "facts",
    decoder: `ffmpeg ${ffmpeg.version}`,
    frames: pts.length,
    width,
    height,
    warnings: complaint === undefined ? [] : [`ffmpeg reports damage: ${complaint}`],
  };
}

/** The option that keeps ffmpeg from repeating or dropping frames; its name changed in 5.1. Builds off a branch are new. */
function passthrough(version: string): readonly string[] {
  const [, major, minor] = /^n?(\d+)\.(\d+)/.exec(version) ?? [];
  const old = major !== undefined && (Number(major) < 5 || (Number(major) === 5 && Number(minor) < 1));
  return old || /^N-\d{5}-/.test(version) ? ["-vsync", "0"] : ["-fps_mode", "passthrough"];
}

/**
 * Runs a program to its end, handing over what it writes: standard output as bytes, standard error as lines (and
 * standard output as lines too where `onText` asks). Returns its exit code, -1 where it could not be started.
 */
function runProgram(
  program: string,
  args: readonly string[],
  onBytes: (chunk: Buffer) => void,
  onError: (line: string) => void,
  onText?: (line: string) => void,
): Promise<number> {
  return new Promise((settle) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    if (onText === undefined) child.stdout.on("data", onBytes);
    else createInterface({ input: child.stdout }).on("line", onText);
    createInterface({ input: child.stderr }).on("line", onError);
    child.on("error", () => settle(-1));
    child.on("close", (code) => settle(code ?? -1));
  });
}
