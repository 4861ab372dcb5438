/**
 * From a reader's frames to a cached entry: which frames of a clip are needed, resized pictures, and their flow.
 *
 * In: what is wanted of a clip (`StripSpec`), and its frames as a reader gives them. Out: the windows' pictures and flow
 * as bytes. Overlapping windows share their frames, so that no pair's flow is computed twice. How many frames a clip has
 * is known only after some have been read: a reader is asked for windows until it and the plan agree.
 *
 * Frames are kept at the resized size only, and are asked for in runs of limited length, so that a long clip of large
 * frames never lies in memory. Both functions run in worker threads as text (see ../flow.ts).
 */
import type { FlowOptions, tvl1 } from "../flow.ts";
import type { flowByte, greyOf, resizeWhole } from "../sample.ts";
import type { ClipFacts, RgbFrame, Window } from "../source.ts";
import type { EntryHeader } from "./cache.ts";

/** Which windows of a clip an entry holds. */
export type WindowRequest =
  | { readonly kind: "middle" }
  /** Every window there is. */
  | { readonly kind: "all" }
  /** In the middle of each of `count` equal parts. */
  | { readonly kind: "segments"; readonly count: number };

export interface StripSpec {
  readonly request: WindowRequest;
  /** Flow fields of a window, 0 for none; a window has one frame more. */
  readonly fields: number;
  /** Whether the middle frame's picture is wanted. */
  readonly rgb: boolean;
  /** Width and height of the crops, which the resized picture covers, and the shorter side to resize to. */
  readonly size: readonly [number, number];
  readonly resize: number | undefined;
  /** Displacement in pixels that the bytes 0 and 255 stand for. */
  readonly bound: number;
  readonly flow: FlowOptions;
}

/** Consecutive frames of a clip, resized. */
interface Run {
  readonly first: number;
  readonly rgb: readonly Uint8Array[];
  /** Stored flow where the clip has any: for each pair of neighbours a plane of x and a plane of y. */
  readonly flow: readonly Uint8Array[];
}

/** The frames of a clip that its windows need. */
export interface Strip {
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  readonly decoder: string;
  readonly warnings: readonly string[];
  readonly starts: readonly number[];
  readonly runs: readonly Run[];
}

export interface StripReader {
  /** What to read next. */
  readonly windows: () => readonly Window[];
  readonly take: (window: number, frame: RgbFrame) => void;
  /** Stored flow between two frames that have been taken. */
  readonly takeFlow: (window: number, x: RgbFrame, y: RgbFrame) => void;
  /** Told what the reader found; the strip once everything has been read, undefined where there is more to read. */
  readonly finish: (facts: Pick<ClipFacts, "frames" | "decoder" | "warnings">) => Strip | undefined;
}

/** What of the room a thread's text is given by name, for its own imports do not exist there. */
export interface StripKit {
  readonly resizeWhole: typeof resizeWhole;
  readonly greyOf: typeof greyOf;
  readonly flowByte: typeof flowByte;
  readonly tvl1: typeof tvl1;
}

/** Collects one clip's frames. `only`: the number of a first frame, where that window alone is wanted. */
export function readStrip(kit: Pick<StripKit, "resizeWhole">, spec: StripSpec, only?: number): StripReader {
  const longest = 32;
  const count = spec.fields + 1;
  const resized = (frame: RgbFrame): RgbFrame =>
    kit.resizeWhole(frame, {
      source: "rgb",
      size: spec.size,
      ...(spec.resize === undefined ? {} : { resize: spec.resize }),
      mean: [],
      std: [],
    });
  const startsOf = (frames: number): number[] => {
    const room = frames - count;
    if (only !== undefined) return [Math.min(only, room)];
    if (spec.request.kind === "all") return Array.from({ length: room + 1 }, (_, i) => i);
    const parts = spec.request.kind === "middle" ? 1 : spec.request.count;
    return [...new Set(Array.from({ length: parts }, (_, k) => Math.floor((room * (k + 0.5)) / parts)))];
  };
  /** Runs of frames that cover the windows; long ones are cut where the parts share a frame, so that no pair is lost. */
  const runsOf = (starts: readonly number[]): { readonly first: number; readonly count: number }[] => {
    const runs: { first: number; count: number }[] = [];
    for (const start of starts) {
      const last = runs.at(-1);
      if (last !== undefined && start < last.first + last.count) last.count = start + count - last.first;
      else runs.push({ first: start, count });
    }
    return runs.flatMap((run) => {
      const parts: { first: number; count: number }[] = [];
      for (let first = run.first; ; first += longest - 1) {
        const rest = run.first + run.count - first;
        parts.push({ first, count: Math.min(longest, rest) });
        if (rest <= longest) return parts;
      }
    });
  };

  // The first reading is of the clip's middle, to know its frames; for the middle window that is all.
  let planned: readonly { readonly first: number; readonly count: number }[] = [];
  let frames = -1;
  let width = 0;
  let height = 0;
  let pictures: Uint8Array[][] = [[]];
  let fields: Uint8Array[][] = [[]];
  return {
    windows: () =>
      frames < 0
        ? [{ count, position: 0.5 }]
        : planned.map((run) => ({
            count: run.count,
            // Half a frame on, so that rounding cannot reach the frame before.
            position: frames === run.count ? 0.5 : (run.first + 0.5) / (frames - run.count),
          })),
    take: (window, frame) => {
      const whole = resized(frame);
      width = whole.width;
      height = whole.height;
      pictures[window]?.push(whole.rgb);
    },
    takeFlow: (window, x, y) => {
      const planes = new Uint8Array(2 * width * height);
      for (const [axis, field] of [x, y].entries()) {
        const { rgb } = resized(field);
        for (let i = 0; i < width * height; i++) planes[axis * width * height + i] = rgb[3 * i] ?? 0;
      }
      fields[window]?.push(planes);
    },
    finish: (facts) => {
      const starts = startsOf(facts.frames);
      const runs = runsOf(starts);
      const middle = Math.floor((facts.frames - count) * 0.5);
      const [single] = runs;
      const complete =
        frames < 0
          ? runs.length === 1 && single?.first === middle && single.count === count
          : frames === facts.frames && pictures.every((list, i) => list.length === planned[i]?.count);
      if (complete)
        return {
          frames: facts.frames,
          width,
          height,
          decoder: facts.decoder,
          warnings: facts.warnings,
          starts,
          runs: runs.map(({ first }, i) => ({ first, rgb: pictures[i] ?? [], flow: fields[i] ?? [] })),
        };
      frames = facts.frames;
      planned = runs;
      pictures = runs.map(() => []);
      fields = runs.map(() => []);
      return undefined;
    },
  };
}

/** An entry's header, without its checksums, and its planes. */
export interface EntryParts {
  readonly header: Omit<EntryHeader, "rgbSums" | "flowSums">;
  readonly rgb: readonly Uint8Array[];
  readonly flow: readonly Uint8Array[];
}

/** Computes the flow of a strip and sorts it into windows. */
export function buildEntry(kit: Omit<StripKit, "resizeWhole">, spec: StripSpec, strip: Strip): EntryParts {
  const { width, height, starts, runs } = strip;
  const plane = width * height;
  const pictures = new Map<number, Uint8Array>();
  const flow: Uint8Array[] = [];
  const pairNumbers = new Map<number, number>();
  const byte = kit.flowByte({ source: "flow", size: spec.size, mean: [], std: [], bound: spec.bound });
  let stored = false;
  for (const run of runs) {
    for (const [i, rgb] of run.rgb.entries()) pictures.set(run.first + i, rgb);
    if (spec.fields === 0) continue;
    let before: Float32Array | undefined;
    for (const [i, rgb] of run.rgb.entries()) {
      const image = run.flow[i - 1];
      const here = run.flow.length > 0 ? undefined : kit.greyOf(rgb);
      if (i > 0) {
        let planes = image;
        if (planes === undefined) {
          if (before === undefined || here === undefined)
            throw new Error("internal: a pair of frames without its flow");
          const field = kit.tvl1(before, here, width, height, spec.flow);
          planes = new Uint8Array(2 * plane);
          for (let p = 0; p < plane; p++) {
            planes[p] = byte(field.x[p] ?? 0);
            planes[plane + p] = byte(field.y[p] ?? 0);
          }
        } else stored = true;
        pairNumbers.set(run.first + i - 1, flow.length);
        flow.push(planes);
      }
      before = here;
    }
  }
  const middle = Math.floor(spec.fields / 2);
  return {
    header: {
      frames: strip.frames,
      width,
      height,
      fields: spec.fields,
      starts,
      pairAt: starts.map((start) => pairNumbers.get(start) ?? 0),
      pairs: flow.length,
      flow: spec.fields === 0 ? "none" : stored ? "images" : "tvl1",
      decoder: strip.decoder,
      warnings: strip.warnings,
    },
    rgb: spec.rgb ? starts.map((start) => pictures.get(start + middle) ?? new Uint8Array(plane * 3)) : [],
    flow,
  };
}
