/**
 * The program of a loader's thread: makes cache entries from clips, and batches from cache entries.
 *
 * In: messages of pool.ts, one job at a time. Out: filled buffers, or what is wrong with a clip. A thread decodes video
 * by itself where node-av is there; frames from other readers (an ffmpeg program, folders of images) are asynchronous and
 * come from the main thread. Windows that were used lately stay in memory, up to a bound.
 *
 * The program is the text of `dataThread` and of what it is given (see ../flow.ts for why).
 */
import { tvl1Program } from "../flow.ts";
import type { AvMessage, decodeWindows, NodeAv } from "../nodeav.ts";
import { decodeWindowsProgram } from "../nodeav.ts";
import type { normaliser } from "../sample.ts";
import { sampleProgram } from "../sample.ts";
import { type CacheNode, type CacheOptions, createCache, type EntryHeader, type WindowBytes } from "./cache.ts";
import { createFiller, type FillRow, type PortSpec, type RowPlan } from "./rows.ts";
import { buildEntry, readStrip, type Strip, type StripKit, type StripSpec } from "./strip.ts";

/** A clip as a thread sees it. */
export interface ClipSource {
  readonly path: string;
  /** Name of its entry. */
  readonly key: string;
  /** Whether the thread decodes it by itself. */
  readonly own: boolean;
}

export interface ThreadData {
  /** Address of node-av's entry file. */
  readonly module: string | undefined;
  readonly cache: CacheOptions | undefined;
  /** Bytes of windows that stay in memory. */
  readonly memory: number;
}

/** Frames that the main thread has read, by number of the clip. */
export type Supplied = ReadonlyMap<number, Strip>;

export type ToThread =
  /** Announces a loader: its clips and inputs. */
  | {
      readonly kind: "open";
      readonly loader: number;
      readonly spec: StripSpec;
      readonly ports: readonly PortSpec[];
      readonly clips: readonly ClipSource[];
    }
  | { readonly kind: "close"; readonly loader: number }
  /** Makes the clip's entry where there is none. */
  | {
      readonly kind: "prepare";
      readonly job: number;
      readonly loader: number;
      readonly clip: number;
      readonly supplied: Supplied;
    }
  | {
      readonly kind: "fill";
      readonly job: number;
      readonly loader: number;
      /** A row each; undefined for padding. */
      readonly rows: readonly (RowPlan | undefined)[];
      readonly buffers: readonly ArrayBuffer[];
      readonly supplied: Supplied;
    }
  | { readonly kind: "end" };

export type FromThread =
  | { readonly kind: "ready"; readonly decodes: boolean }
  | { readonly kind: "prepared"; readonly job: number; readonly header: EntryHeader }
  | { readonly kind: "filled"; readonly job: number; readonly buffers: readonly ArrayBuffer[] }
  /** Frames of these clips are needed from the main thread. */
  | {
      readonly kind: "needs";
      readonly job: number;
      readonly clips: readonly number[];
      readonly buffers: readonly ArrayBuffer[];
    }
  | {
      readonly kind: "short";
      readonly job: number;
      readonly clip: number;
      readonly have: number;
      readonly need: number;
    }
  | { readonly kind: "corrupt"; readonly job: number; readonly clip: number; readonly detail: string }
  /** Something that no clip should be able to do. */
  | { readonly kind: "failed"; readonly job: number; readonly clip: number; readonly detail: string }
  | { readonly kind: "warning"; readonly message: string };

interface Kit extends StripKit {
  readonly normaliser: typeof normaliser;
  readonly decodeWindows: typeof decodeWindows;
  readonly createCache: typeof createCache;
  readonly readStrip: typeof readStrip;
  readonly buildEntry: typeof buildEntry;
  readonly createFiller: typeof createFiller;
}

interface Port {
  readonly on: (event: "message", listener: (message: ToThread) => void) => void;
  readonly postMessage: (message: FromThread, transfer?: readonly ArrayBuffer[]) => void;
  readonly close: () => void;
}

function dataThread(kit: Kit, node: CacheNode, port: Port, data: ThreadData, av: NodeAv | undefined): void {
  type Trouble =
    | { readonly kind: "short"; readonly have: number }
    | { readonly kind: "corrupt"; readonly detail: string };
  interface Loader {
    readonly spec: StripSpec;
    readonly clips: readonly ClipSource[];
    readonly fill: FillRow;
    readonly ports: readonly PortSpec[];
  }
  const detailOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
  const cache = kit.createCache(node, data.cache, (message) => port.postMessage({ kind: "warning", message }));
  const loaders = new Map<number, Loader>();
  /** Width and height of the resized pictures, by entry. */
  const sizes = new Map<string, { readonly width: number; readonly height: number }>();
  /** Least recently used first. */
  const memory = new Map<string, WindowBytes>();
  let held = 0;
  const remember = (name: string, bytes: WindowBytes): void => {
    const old = memory.get(name);
    if (old !== undefined) held -= old.rgb.length + old.flow.length;
    memory.delete(name);
    memory.set(name, bytes);
    held += bytes.rgb.length + bytes.flow.length;
    for (const [key, { rgb, flow }] of memory) {
      if (held <= data.memory) break;
      memory.delete(key);
      held -= rgb.length + flow.length;
    }
  };

  /** Decodes a clip here. */
  const decode = (path: string, spec: StripSpec, only: number | undefined): Strip | Trouble => {
    if (av === undefined) return { kind: "corrupt", detail: "no decoder" };
    const reader = kit.readStrip(kit, spec, only);
    let exact = false;
    for (let round = 0; round < 4; round++) {
      let result: AvMessage | undefined;
      try {
        kit.decodeWindows(av, { path, windows: reader.windows(), exact }, (message) => {
          if (message.kind === "frame") reader.take(message.window, message.frame);
          else result = message;
        });
      } catch (error) {
        return { kind: "corrupt", detail: detailOf(error) };
      }
      if (result === undefined) break;
      if (result.kind === "failed") return { kind: "corrupt", detail: result.detail };
      if (result.kind === "short" && result.have <= spec.fields) return { kind: "short", have: result.have };
      if (result.kind !== "short" && result.kind !== "done") break;
      const strip = reader.finish({
        frames: result.kind === "done" ? result.frames : result.have,
        decoder: "node-av",
        warnings: result.kind === "done" ? result.warnings : [],
      });
      if (strip !== undefined) return strip;
      exact = round > 0 || result.kind === "short";
    }
    return { kind: "corrupt", detail: "decoding it twice gave different frames" };
  };

  /** A clip's frames from wherever they come; undefined where the main thread has to read them. */
  const stripOf = (
    loader: Loader,
    clip: number,
    supplied: Supplied,
    only: number | undefined,
  ): Strip | Trouble | undefined => {
    const source = loader.clips[clip];
    if (source === undefined) throw new Error("internal: there is no such clip");
    return source.own ? decode(source.path, loader.spec, only) : supplied.get(clip);
  };

  /** The header of a clip's entry, which is made where it is absent. */
  const prepare = (loader: Loader, clip: number, supplied: Supplied): EntryHeader | Trouble | undefined => {
    const key = loader.clips[clip]?.key ?? "";
    const found = cache.header(key);
    if (found !== undefined) return found;
    const strip = stripOf(loader, clip, supplied, undefined);
    if (strip === undefined || "kind" in strip) return strip;
    // Where nothing is kept the clip has proved to be readable; its flow waits until somebody wants it.
    const kept = cache.writable();
    const spec = kept ? loader.spec : { ...loader.spec, fields: 0 };
    const { header, rgb, flow } = kit.buildEntry(kit, spec, strip);
    if (!kept) return { ...header, fields: loader.spec.fields, rgbSums: [], flowSums: [] };
    return cache.store(key, header, rgb, flow);
  };

  /** The bytes of one window, and the size of its pictures. */
  const windowOf = (
    loader: Loader,
    plan: RowPlan,
    supplied: Supplied,
  ): { readonly bytes: WindowBytes; readonly width: number; readonly height: number } | Trouble | undefined => {
    const key = loader.clips[plan.clip]?.key ?? "";
    const name = `${key}/${plan.start}`;
    const known = memory.get(name);
    const size = sizes.get(key);
    if (known !== undefined && size !== undefined) {
      memory.delete(name);
      memory.set(name, known);
      return { bytes: known, width: size.width, height: size.height };
    }
    const header = cache.header(key);
    const index = header?.starts.indexOf(plan.start) ?? -1;
    const stored = header === undefined || index < 0 ? undefined : cache.window(key, header, index);
    if (header !== undefined && stored !== undefined) {
      sizes.set(key, header);
      remember(name, stored);
      return { bytes: stored, width: header.width, height: header.height };
    }
    // An entry of every window that has been removed since it was prepared is too large a price for one window: then the
    // cache is too small for the set, and it would be removed again.
    const alone = !cache.writable() || (loader.spec.request.kind === "all" && header === undefined);
    const strip = stripOf(loader, plan.clip, supplied, alone ? plan.start : undefined);
    if (strip === undefined || "kind" in strip) return strip;
    const parts = kit.buildEntry(kit, loader.spec, strip);
    const made = alone ? parts.header : cache.store(key, parts.header, parts.rgb, parts.flow);
    const at = strip.starts.indexOf(plan.start);
    const first = made.pairAt[at];
    if (first === undefined) return { kind: "corrupt", detail: "it has changed since it was first read" };
    const flow = new Uint8Array(2 * made.width * made.height * made.fields);
    for (let k = 0; k < made.fields; k++) {
      const planes = parts.flow[first + k];
      if (planes !== undefined) flow.set(planes, k * planes.length);
    }
    const bytes = { rgb: parts.rgb[at] ?? new Uint8Array(0), flow };
    sizes.set(key, made);
    remember(name, bytes);
    return { bytes, width: made.width, height: made.height };
  };

  const answer = (message: ToThread): void => {
    switch (message.kind) {
      case "open": {
        const { spec, ports, clips } = message;
        loaders.set(message.loader, { spec, ports, clips, fill: kit.createFiller(kit, ports, spec.fields) });
        return;
      }
      case "close":
        loaders.delete(message.loader);
        return;
      case "end":
        port.close();
        return;
      case "prepare": {
        const { job, clip } = message;
        const loader = loaders.get(message.loader);
        if (loader === undefined) throw new Error("internal: there is no such loader");
        let result: ReturnType<typeof prepare>;
        try {
          result = prepare(loader, clip, message.supplied);
        } catch (error) {
          port.postMessage({ kind: "failed", job, clip, detail: detailOf(error) });
          return;
        }
        if (result === undefined) port.postMessage({ kind: "needs", job, clips: [clip], buffers: [] });
        else if (!("kind" in result)) port.postMessage({ kind: "prepared", job, header: result });
        else if (result.kind === "short")
          port.postMessage({ kind: "short", job, clip, have: result.have, need: loader.spec.fields + 1 });
        else port.postMessage({ kind: "corrupt", job, clip, detail: result.detail });
        return;
      }
      case "fill": {
        const { job, rows, buffers, supplied } = message;
        const loader = loaders.get(message.loader);
        if (loader === undefined) throw new Error("internal: there is no such loader");
        const arrays = buffers.map((buffer) => new Float32Array(buffer));
        const needs = new Set<number>();
        for (const [row, plan] of rows.entries()) {
          if (plan === undefined) {
            loader.fill(arrays, row, undefined, undefined, 0, 0);
            continue;
          }
          let found: ReturnType<typeof windowOf>;
          try {
            found = windowOf(loader, plan, supplied);
          } catch (error) {
            port.postMessage({ kind: "failed", job, clip: plan.clip, detail: detailOf(error) });
            return;
          }
          if (found === undefined) needs.add(plan.clip);
          else if (!("kind" in found)) loader.fill(arrays, row, plan, found.bytes, found.width, found.height);
          else {
            const { clip } = plan;
            if (found.kind === "short")
              port.postMessage({ kind: "short", job, clip, have: found.have, need: loader.spec.fields + 1 });
            else port.postMessage({ kind: "corrupt", job, clip, detail: found.detail });
            return;
          }
        }
        if (needs.size > 0) port.postMessage({ kind: "needs", job, clips: [...needs], buffers }, buffers);
        else port.postMessage({ kind: "filled", job, buffers }, buffers);
        return;
      }
      default:
        message satisfies never;
    }
  };
  port.on("message", answer);
  port.postMessage({ kind: "ready", decodes: av !== undefined });
}

/** The text of a thread. */
export const threadProgram: string = `
const { parentPort, workerData, threadId } = require("node:worker_threads");
const fs = require("node:fs");
const { crc32 } = require("node:zlib");
${tvl1Program}
${sampleProgram}
${decodeWindowsProgram}
${[createCache, readStrip, buildEntry, createFiller, dataThread].join("\n")}
const start = (av) => {
  dataThread(
    { tvl1, resizeWhole, greyOf, flowByte, normaliser, decodeWindows, createCache, readStrip, buildEntry, createFiller },
    { fs, join: require("node:path").join, crc32, unique: process.pid + "-" + threadId },
    parentPort,
    workerData,
    av,
  );
};
if (workerData.module === undefined) start(undefined);
else import(workerData.module).then(start, () => start(undefined));
`;
