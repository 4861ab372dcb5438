/**
 * The words this room speaks: frames, windows of frames, and what can go wrong with a clip.
 *
 * A model wants L+1 consecutive frames (for L optical-flow fields) somewhere in a clip. A `Window` says which; a reader
 * (video.ts, images.ts) finds them and hands them over one at a time, so that nobody ever holds a whole clip.
 * What a person can get wrong about a clip comes back as a `DataError`, a value, never an exception.
 */

/** One picture: packed RGB, three bytes a pixel, rows from the top. */
export interface RgbFrame {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
  /** Presentation time in seconds, as the file has it. */
  readonly pts: number;
}

/**
 * `count` consecutive frames. `position` says where in the clip they lie: 0 at its start, 0.5 in its middle, 1 at its
 * end; with n frames the first of them is frame floor((n - count) · position), in order of time stamps.
 */
export interface Window {
  readonly count: number;
  readonly position: number;
}

/** Takes one frame of window `window`; frames come in order of time, once each. */
export type TakeFrame = (window: number, frame: RgbFrame) => void;

/** What a reader says about a clip once every window has been read. */
export interface ClipFacts {
  readonly kind: "facts";
  /** What read it, with its version where known. */
  readonly decoder: string;
  /** Frames in the clip. */
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  /** Sentences about damage that did not stop the reading. */
  readonly warnings: readonly string[];
}

/** Why a clip cannot be used. */
export interface DataError {
  readonly kind: "missing" | "empty" | "short" | "corrupt" | "no-decoder" | "folder" | "input";
  /** What is wrong, in one sentence with its numbers. */
  readonly message: string;
  readonly path: string;
  /** What to do about it. */
  readonly help: string;
}

/** The clip has frames, but fewer than a window needs. */
export function tooShort(path: string, have: number, need: number): DataError {
  const fields = need - 1;
  return {
    kind: "short",
    message: `the clip has ${have} ${have === 1 ? "frame" : "frames"}, but ${need} are needed${
      fields > 0 ? ` for ${fields} optical-flow ${fields === 1 ? "field" : "fields"}` : ""
    }`,
    path,
    help: have > 1 ? `use a longer clip, or a model with at most ${have - 1} flow fields` : "use a longer clip",
  };
}

/** The file is there, but no frame can be got out of it; `detail` is the decoder's own word. */
export function notDecodable(path: string, detail: string): DataError {
  return {
    kind: "corrupt",
    message: `no frame can be decoded: it is damaged, cut off, or not a video (${detail})`,
    path,
    help: "check that it plays elsewhere; if it was copied or downloaded, fetch it again",
  };
}
