/**
 * Frames to a video file, with the optional package `node-av` (FFmpeg linked into Node): the other direction of
 * nodeav.ts, for pictures that we draw ourselves. In: packed RGB frames and a codec. Out: a file that plays anywhere.
 */
import { statSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import { findNodeAv } from "./nodeav.ts";

export interface EncodeOptions {
  /** An encoder of FFmpeg's: libx264, mpeg4, libvpx. */
  readonly codec: string;
  /** Both even: the picture is stored with half as many colours as pixels in each direction. */
  readonly width: number;
  readonly height: number;
  /** Frames a second. */
  readonly fps: number;
  /** Bits a second, for example `600k`. */
  readonly bitrate: string;
  readonly maxBFrames?: number;
  /**
   * Every picture by itself and with one quantiser. Otherwise a picture that is predicted from the one before it shows
   * traces of the motion between them, and a rate control those of the whole clip. For mpeg4.
   */
  readonly apart?: boolean;
}

/** Encodes `frames` (packed RGB) into the container that the path's ending names. Throws system errors with a `code`. */
export type Encode = (path: string, options: EncodeOptions, frames: Iterable<Uint8Array>) => void;

// What we use of node-av, said here because the package is optional and its types may not be installed.
interface AvPacket {
  readonly size: number;
  free(): void;
}
interface AvFrame {
  pts: bigint;
  timeBase: Rational;
  alloc(): void;
  free(): void;
}
interface Rational {
  readonly num: number;
  readonly den: number;
}
interface AvEncoder {
  encodeSync(frame: AvFrame): void;
  receiveSync(): unknown;
  flushSync(): void;
  close(): void;
}
interface AvMuxer {
  addStream(encoder: AvEncoder): number;
  writePacketSync(packet: AvPacket, stream: number): void;
  closeSync(): void;
}
interface NodeAv {
  readonly AV_LOG_QUIET: number;
  readonly AV_PIX_FMT_RGB24: number;
  readonly AV_PIX_FMT_YUV420P: number;
  readonly SWS_BILINEAR: number;
  readonly Log: { setLevel(level: number): void };
  readonly Packet: new () => AvPacket;
  readonly Frame: {
    new (): AvFrame;
    fromVideoBuffer(buffer: Buffer, properties: object): AvFrame;
  };
  readonly Encoder: { createSync(codec: string, options: object): AvEncoder };
  readonly Muxer: { openSync(path: string): AvMuxer };
  readonly SoftwareScaleContext: new () => {
    getContext(w: number, h: number, from: number, toW: number, toH: number, to: number, flags: number): void;
    scaleFrameSync(to: AvFrame, from: AvFrame): void;
    freeContext(): void;
  };
}

/** The encoder of this machine, or undefined where node-av is not installed or has no build for the platform. */
export async function loadEncoder(): Promise<Encode | undefined> {
  const url = findNodeAv();
  if (url === undefined) return undefined;
  let av: NodeAv;
  try {
    av = await import(url);
  } catch {
    return undefined;
  }
  return (path, options, frames) => {
    try {
      encode(av, path, options, frames);
    } catch (error) {
      throw asSystemError(error);
    }
  };
}

/** Of pictures that are encoded apart: nearly no loss. */
const QUANTISER = 2;

// No codec options: node-av 6.1.1 frees their dictionary twice and crashes at exit.
function encode(av: NodeAv, path: string, options: EncodeOptions, frames: Iterable<Uint8Array>): void {
  const { codec, width, height, fps, bitrate, maxBFrames = 0, apart = false } = options;
  av.Log.setLevel(av.AV_LOG_QUIET);
  const timeBase = { num: 1, den: fps };
  const toYuv = new av.SoftwareScaleContext();
  toYuv.getContext(width, height, av.AV_PIX_FMT_RGB24, width, height, av.AV_PIX_FMT_YUV420P, av.SWS_BILINEAR);
  const encoder = av.Encoder.createSync(codec, {
    bitrate,
    gopSize: apart ? 1 : 25,
    maxBFrames: apart ? 0 : maxBFrames,
    threadCount: 1,
    context: { timeBase, framerate: { num: fps, den: 1 }, ...(apart ? { qmin: QUANTISER, qmax: QUANTISER } : {}) },
  });
  const muxer = av.Muxer.openSync(path);
  const stream = muxer.addStream(encoder);
  let bytes = 0;
  const write = (): void => {
    for (;;) {
      const packet = encoder.receiveSync();
      if (!(packet instanceof av.Packet)) return; // it wants another frame, or has no more packets
      bytes += packet.size;
      muxer.writePacketSync(packet, stream);
      packet.free();
    }
  };
  let pts = 0n;
  for (const rgb of frames) {
    const picture = av.Frame.fromVideoBuffer(Buffer.from(rgb.buffer, rgb.byteOffset, rgb.byteLength), {
      width,
      height,
      format: av.AV_PIX_FMT_RGB24,
      timeBase,
      pts,
    });
    const yuv = new av.Frame();
    yuv.alloc();
    toYuv.scaleFrameSync(yuv, picture);
    yuv.pts = pts++;
    yuv.timeBase = timeBase;
    encoder.encodeSync(yuv);
    write();
    picture.free();
    yuv.free();
  }
  encoder.flushSync();
  write();
  muxer.closeSync();
  encoder.close();
  toYuv.freeContext();
  // FFmpeg closes a file on a full disk without a word.
  if (statSync(path).size < bytes)
    throw Object.assign(new Error(`${path} holds less than was written to it`), { code: "ENOSPC" });
}

/** FFmpeg's error numbers are negative system error numbers: with their names they are errors like Node's. */
function asSystemError(error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "number" || error.code >= 0)
    return error;
  try {
    return Object.assign(new Error(error.message), { code: getSystemErrorName(error.code) });
  } catch {
    return error; // a number of FFmpeg's own
  }
}
