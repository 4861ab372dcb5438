/**
 * Threads of the host: `node:worker_threads` or a browser's `Worker`, behind one small interface.
 */
import { type FromThread, type ToThread, threadMain } from "./worker.ts";

export interface Thread {
  readonly post: (message: ToThread) => void;
  /** While nobody waits for it, an idle thread does not keep a Node process alive. */
  readonly hold: (busy: boolean) => void;
  readonly end: () => void;
}

interface Listener {
  readonly message: (message: FromThread) => void;
  /** The thread is gone. */
  readonly lost: (why: string) => void;
}

/** Starts a thread that runs `threadMain`. */
export type Spawn = (listener: Listener) => Thread;

const isNode = (): boolean => typeof process === "object" && typeof process.versions?.node === "string";

async function nodeSpawn(): Promise<Spawn> {
  const { Worker } = await import("node:worker_threads");
  const source = `const { parentPort } = require("node:worker_threads");
(${threadMain.toString()})({
  listen: (receive) => parentPort.on("message", receive),
  post: (message) => parentPort.postMessage(message),
});`;
  return ({ message, lost }) => {
    // Flags of the parent (loaders, `--input-type`) are meant for its own modules.
    const worker = new Worker(source, { eval: true, execArgv: [], name: "netc kernels" });
    worker.on("message", message);
    worker.on("error", (error) => lost(error.message));
    worker.on("exit", (code) => lost(`the thread ended with code ${code}`));
    return {
      post: (sent) => worker.postMessage(sent),
      hold: (busy) => (busy ? worker.ref() : worker.unref()),
      end: () => void worker.terminate(),
    };
  };
}

/** The part of a browser's `Worker` that is used here. */
interface WebWorker {
  postMessage(message: ToThread): void;
  terminate(): void;
  addEventListener(type: "message", listener: (event: { readonly data: FromThread }) => void): void;
  addEventListener(type: "error", listener: (event: { readonly message: string }) => void): void;
}

function webSpawn(): Spawn | undefined {
  const make: unknown = Reflect.get(globalThis, "Worker");
  if (typeof make !== "function") return undefined;
  const source = `(${threadMain.toString()})({
  listen: (receive) => { self.onmessage = (event) => receive(event.data); },
  post: (message) => self.postMessage(message),
});`;
  return ({ message, lost }) => {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker: WebWorker = Reflect.construct(make, [address]);
    worker.addEventListener("message", (event) => message(event.data));
    worker.addEventListener("error", (event) => lost(event.message));
    return {
      post: (sent) => worker.postMessage(sent),
      hold: () => undefined,
      end: () => {
        worker.terminate();
        URL.revokeObjectURL(address);
      },
    };
  };
}

/** The host's way to start threads; undefined if it has none. */
export async function hostThreads(): Promise<Spawn | undefined> {
  return isNode() ? nodeSpawn() : webSpawn();
}

/** Processors that threads can use. */
export async function processors(): Promise<number> {
  if (isNode()) return (await import("node:os")).availableParallelism();
  const host: unknown = Reflect.get(globalThis, "navigator");
  const count: unknown =
    typeof host === "object" && host !== null ? Reflect.get(host, "hardwareConcurrency") : undefined;
  return typeof count === "number" ? count : 1;
}

/**
 * Runs `work` with flags of V8 set for compiling kernels, where there are flags to set (Node): modules are compiled by
 * the optimising compiler at once. A kernel is one long call, which would otherwise spend the whole first run in
 * baseline code, several times slower.
 */
export async function withKernelFlags<T>(work: () => Promise<T>): Promise<T> {
  if (!isNode()) return work();
  const { setFlagsFromString } = await import("node:v8");
  setFlagsFromString("--no-liftoff");
  setFlagsFromString("--no-wasm-lazy-compilation");
  try {
    return await work();
  } finally {
    setFlagsFromString("--liftoff");
    setFlagsFromString("--wasm-lazy-compilation");
  }
}

/** Turns relaxed SIMD on in a Node that has it but hides it (Node 20). */
export async function showRelaxedSimd(): Promise<void> {
  if (isNode()) (await import("node:v8")).setFlagsFromString("--experimental-wasm-relaxed-simd");
}
