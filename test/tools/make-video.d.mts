/** The scene at `t` seconds as packed RGB bytes. */
export declare function drawScene(t: number, width: number, height: number): Uint8Array;

export interface VideoOptions {
  /** An encoder of FFmpeg's: libx264, mpeg4, libvpx. */
  readonly codec: string;
  readonly frames: number;
  readonly fps?: number;
  readonly width?: number;
  readonly height?: number;
  readonly bitrate?: string;
  readonly maxBFrames?: number;
}

/** Encodes `drawScene` into the container that the path's ending names. */
export declare function makeVideo(path: string, options: VideoOptions): void;
