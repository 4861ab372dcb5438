/** Runs one WASM kernel on this thread, for tests: its memory and its `run` function. */
export interface Instance {
  readonly memory: WebAssembly.Memory;
  readonly run: (thread: number, threads: number, scratch: number, ...addresses: number[]) => void;
}

export function instantiate(code: Uint8Array<ArrayBuffer>, bytes: number): Instance {
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) + 1, maximum: 65536, shared: true });
  const { run } = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } }).exports;
  if (typeof run !== "function") throw new Error("the module exports no run");
  return { memory, run: (...args) => void run(...args) };
}
