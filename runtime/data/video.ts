/**
 * Frames from a video file, by whichever decoder this machine has: node-av first (fast, no other program needed), then
 * an `ffmpeg` on the PATH. In: a file and the windows wanted. Out: their frames, and the facts or a `DataError`.
 */
import { findFfmpeg, readWithFfmpeg } from "./ffmpeg.ts";
import { findNodeAv, readWithNodeAv } from "./nodeav.ts";
import type { ClipFacts, DataError, TakeFrame, Window } from "./source.ts";

/** Which decoders to look for; both by default. */
export interface Decoders {
  readonly nodeAv?: boolean;
  /** The program's name or path, or false for none. */
  readonly ffmpeg?: string | false;
}

/**
 * Reads windows of frames from a video file (any container and codec that FFmpeg knows: .avi with DivX, .mp4, .webm, …).
 * Frames arrive through `take` at full size, in order, and only those of the windows.
 */
export async function readVideo(
  path: string,
  windows: readonly Window[],
  take: TakeFrame,
  decoders: Decoders = {},
): Promise<ClipFacts | DataError> {
  if (decoders.nodeAv !== false) {
    const url = findNodeAv();
    const result = url === undefined ? undefined : await readWithNodeAv(url, path, windows, take);
    if (result !== undefined) return result;
  }
  const ffmpeg = decoders.ffmpeg === false ? undefined : await findFfmpeg(decoders.ffmpeg);
  if (ffmpeg !== undefined) return readWithFfmpeg(ffmpeg, path, windows, take);
  return {
    kind: "no-decoder",
    message: "no video decoder: neither the package node-av nor a program ffmpeg is on this machine",
    path,
    help: "run `npm install node-av`, or install ffmpeg so that it is on the PATH, or give a folder of images",
  };
}
