/**
 * Decoding with the optional package `node-av`, FFmpeg linked into Node.
 *
 * In: a file and the windows wanted. Out: their frames, one message each, and the facts. Decoding is synchronous and
 * runs in a worker thread: node-av's asynchronous calls need a newer Node than we support, and there they end a loop
 * early without an error. The worker's program is the text of `decodeWindows` below. So it is type-checked like any
 * function, and there is no second file to find: the same code runs compiled in dist/ and from source under a test
 * runner, whose sources a bare worker could not load. The price: `decodeWindows` may use nothing from outside itself.
 */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { type ClipFacts, type DataError, notDecodable, type TakeFrame, tooShort, type Window } from "./source.ts";

// What we use of node-av, said here because the package is optional and its types may not be installed.
interface AvPacket {
  readonly pts: bigint;
  readonly dts: bigint;
  readonly flags: number;
  readonly isKeyframe: boolean;
  free(): void;
}
interface AvFrame {
  readonly width: number;
  readonly height: number;
  readonly pts: bigint;
  free(): void;
}
interface AvStream {
  readonly index: number;
  readonly timeBase: { readonly num: number; readonly den: number };
  readonly nbFrames: bigint | number;
  readonly codecpar: { getCodedSideData(type: number): Buffer | null };
}
interface AvDemuxer {
  video(): AvStream | undefined;
  packetsSync(stream: number): Iterable<AvPacket | null>;
  closeSync(): void;
}
interface AvDecoder {
  decodeSync(packet: AvPacket | null): void;
  receiveSync(): unknown;
  close(): void;
}
export interface NodeAv {
  readonly Demuxer: { openSync(path: string): AvDemuxer };
  readonly Decoder: { createSync(stream: AvStream): AvDecoder };
  readonly Frame: new () => AvFrame;
  readonly Scaler: new (options: {
    readonly flags: number;
  }) => { toBufferSync(frame: AvFrame, to: { readonly format: "rgb" }): Uint8Array; close(): void };
  readonly Log: { setLevel(level: number): void };
}

export interface AvJob {
  readonly path: string;
  readonly windows: readonly Window[];
  /** Whether to decode the whole clip first, where its packets are known to promise other frames than it has. */
  readonly exact?: boolean;
}

export type AvMessage =
  | { readonly kind: "frame"; readonly window: number; readonly frame: Parameters<TakeFrame>[1] }
  | {
      readonly kind: "done";
      readonly frames: number;
      readonly width: number;
      readonly height: number;
      readonly warnings: string[];
    }
  | { readonly kind: "short"; readonly have: number; readonly need: number }
  | { readonly kind: "failed"; readonly detail: string }
  /** node-av is there but cannot be loaded, as where it has no build for this platform. */
  | { readonly kind: "unavailable" };

/**
 * The worker's program. First it reads the packets' time stamps without decoding, to know the clip's time line; then for
 * each window it decodes from the key frame before it until it has its frames, and converts only those to RGB.
 * Frames are found by time stamp, never by counting: a packet need not make a frame (packed B-frames, damage).
 * If packets promised frames that never come, the time line is made again from the frames that do.
 */
export function decodeWindows(av: NodeAv, job: AvJob, post: (message: AvMessage, move: ArrayBuffer[]) => void): void {
  const noPts = -(2n ** 63n);
  const discard = 4; // AV_PKT_FLAG_DISCARD: needed to decode others, but not shown
  const quiet = -8; // AV_LOG_QUIET
  // SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND: colour is interpolated, not repeated.
  const flags = 0x2 | 0x2000 | 0x4000 | 0x40000;
  const displayMatrix = 5; // AV_PKT_DATA_DISPLAYMATRIX
  av.Log.setLevel(quiet);

  /** Opens the file afresh: simpler and surer than seeking, which is inexact in some containers. */
  const withVideo = <T>(body: (demuxer: AvDemuxer, stream: AvStream) => T): T => {
    const demuxer = av.Demuxer.openSync(job.path);
    try {
      const stream = demuxer.video();
      if (stream === undefined) throw new Error("it has no video stream");
      return body(demuxer, stream);
    } finally {
      demuxer.closeSync();
    }
  };
  const seconds = (pts: bigint, stream: AvStream): number => (Number(pts) * stream.timeBase.num) / stream.timeBase.den;

  /** Decodes packets from number `from` on; `take` returns false to stop. Returns how many packets or frames failed. */
  const decode = (from: number, take: (frame: AvFrame, pts: number, stream: AvStream) => boolean): number =>
    withVideo((demuxer, stream) => {
      const decoder = av.Decoder.createSync(stream);
      let failed = 0;
      let number = 0;
      let wanted = true;
      const receive = (): void => {
        while (wanted) {
          let frame: unknown;
          try {
            frame = decoder.receiveSync();
          } catch {
            failed++;
            continue;
          }
          if (!(frame instanceof av.Frame)) return; // it wants another packet, or has no more frames
          wanted = take(frame, seconds(frame.pts, stream), stream);
          frame.free();
        }
      };
      try {
        for (const packet of demuxer.packetsSync(stream.index)) {
          if (packet !== null && number++ < from) {
            packet.free();
            continue;
          }
          try {
            decoder.decodeSync(packet);
          } catch {
            failed++;
          }
          packet?.free();
          receive();
          if (!wanted || packet === null) break;
        }
      } finally {
        decoder.close();
      }
      return failed;
    });

  /** Turns a picture clockwise by quarters, as cameras ask for in the file instead of turning the picture. */
  const turn = (rgb: Uint8Array, width: number, height: number, quarters: number): Uint8Array<ArrayBuffer> => {
    if (quarters === 0) return new Uint8Array(rgb);
    const out = new Uint8Array(rgb.length);
    const outWidth = quarters % 2 === 0 ? width : height;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const to =
          quarters === 1
            ? x * outWidth + (height - 1 - y)
            : quarters === 2
              ? (height - 1 - y) * outWidth + (width - 1 - x)
              : (width - 1 - x) * outWidth + y;
        for (let c = 0; c < 3; c++) out[to * 3 + c] = rgb[(y * width + x) * 3 + c] ?? 0;
      }
    return out;
  };
  const quartersOf = (stream: AvStream): number => {
    const matrix = stream.codecpar.getCodedSideData(displayMatrix);
    if (matrix === null || matrix.length < 36) return 0;
    const angle = Math.atan2(matrix.readInt32LE(4), matrix.readInt32LE(0));
    return ((Math.round((angle * 2) / Math.PI) % 4) + 4) % 4;
  };

  const warnings: string[] = [];
  const scaler = new av.Scaler({ flags });
  try {
    const keys: { readonly number: number; readonly pts: number }[] = [];
    let packets = 0;
    let timed = true;
    let promised = 0;
    let line: number[] = [];
    withVideo((demuxer, stream) => {
      promised = Number(stream.nbFrames);
      for (const packet of demuxer.packetsSync(stream.index)) {
        if (packet === null) break;
        const stamp = packet.pts === noPts ? packet.dts : packet.pts;
        timed &&= packet.pts !== noPts;
        const pts = seconds(stamp, stream);
        if (packet.isKeyframe) keys.push({ number: packets, pts });
        if ((packet.flags & discard) === 0) line.push(pts);
        packets++;
        packet.free();
      }
    });
    line.sort((a, b) => a - b);
    if (promised > packets) warnings.push(`the file is cut off: it announces ${promised} frames and holds ${packets}`);

    let lost = 0;
    let exact = false; // whether `line` lists decoded frames
    const measure = (): void => {
      line = [];
      lost = decode(0, (_frame, pts) => line.push(pts) > 0);
      line.sort((a, b) => a - b);
      exact = true;
    };
    const need = Math.max(...job.windows.map((w) => w.count));
    if (job.exact === true || !timed || line.length < need) measure();

    let width = 0;
    let height = 0;
    let index = 0;
    while (index < job.windows.length) {
      const window = job.windows[index];
      if (window === undefined) break;
      if (line.length < window.count) {
        if (line.length === 0) post({ kind: "failed", detail: "no frame came out of the decoder" }, []);
        else post({ kind: "short", have: line.length, need: window.count }, []);
        return;
      }
      const first = line[Math.floor((line.length - window.count) * window.position)] ?? 0;
      const start = exact ? 0 : keys.reduce((best, key) => (key.pts <= first ? Math.max(best, key.number) : best), 0);
      const taken: { readonly rgb: Uint8Array<ArrayBuffer>; readonly pts: number }[] = [];
      const failed = decode(start, (frame, pts, stream) => {
        if (pts < first - 1e-6) return true;
        const quarters = quartersOf(stream);
        taken.push({
          rgb: turn(scaler.toBufferSync(frame, { format: "rgb" }), frame.width, frame.height, quarters),
          pts,
        });
        width = quarters % 2 === 0 ? frame.width : frame.height;
        height = quarters % 2 === 0 ? frame.height : frame.width;
        return taken.length < window.count;
      });
      if (taken.length < window.count) {
        if (exact) throw new Error(`decoding twice gave different frames`);
        measure();
        continue;
      }
      for (const { rgb, pts } of taken)
        post({ kind: "frame", window: index, frame: { width, height, rgb, pts } }, [rgb.buffer]);
      lost = Math.max(lost, failed);
      index++;
    }
    if (lost > 0) warnings.push(`${lost} damaged ${lost === 1 ? "frame was" : "frames were"} left out`);
    post({ kind: "done", frames: line.length, width, height, warnings }, []);
  } finally {
    scaler.close();
  }
}

/** `decodeWindows` as the text of a script. */
export const decodeWindowsProgram: string = decodeWindows.toString();

const program = `
const { parentPort, workerData } = require("node:worker_threads");
${decodeWindowsProgram}
import(workerData.module).then(
  (av) => {
    try {
      decodeWindows(av, workerData.job, (message, move) => parentPort.postMessage(message, move));
    } catch (error) {
      parentPort.postMessage({ kind: "failed", detail: String(error?.message ?? error) });
    }
  },
  () => parentPort.postMessage({ kind: "unavailable" }),
);
`;

/** The address of node-av's entry file, or undefined where it is not installed. */
export function findNodeAv(): string | undefined {
  const require = createRequire(import.meta.url);
  try {
    return pathToFileURL(require.resolve("node-av")).href;
  } catch {
    return undefined;
  }
}

/** Reads windows of frames with the node-av at `url`. Undefined where that does not load on this machine. */
export function readWithNodeAv(
  url: string,
  path: string,
  windows: readonly Window[],
  take: TakeFrame,
): Promise<ClipFacts | DataError | undefined> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(program, { eval: true, workerData: { module: url, job: { path, windows } } });
    let result: ClipFacts | DataError | undefined;
    worker.on("message", (message: AvMessage) => {
      switch (message.kind) {
        case "frame":
          return take(message.window, message.frame);
        case "done":
          result = { ...message, kind: "facts", decoder: "node-av" };
          return;
        case "short":
          result = tooShort(path, message.have, message.need);
          return;
        case "failed":
          result = notDecodable(path, message.detail);
          return;
        case "unavailable":
          return;
        default:
          message satisfies never;
      }
    });
    worker.on("error", reject);
    // The thread is left to end by itself: stopped in the middle of a native call, node-av takes the process down.
    worker.on("exit", (code) =>
      code === 0 ? resolve(result) : reject(new Error(`internal: the decoding thread ended with code ${code}`)),
    );
  });
}
