/**
 * What a compute thread runs.
 *
 * `threadMain` is shipped to the thread as text, so that the engine needs no file of its own next to it: the same code
 * then starts from compiled files, from TypeScript sources under a test runner, from a bundle, and in a browser, where a
 * worker's address would be different in each. It must therefore use nothing from outside of itself. All threads run the same
 * steps; between two steps they meet at a barrier in shared memory, first spinning, then sleeping.
 */

/** A kernel and the byte addresses of its arguments. */
export interface ThreadStep {
  readonly kernel: number;
  readonly addresses: readonly number[];
}

/** What a thread is told. */
export type ToThread =
  | {
      readonly kind: "open";
      readonly memory: WebAssembly.Memory;
      readonly modules: readonly WebAssembly.Module[];
      /**
       * Four words: threads that have arrived at the barrier, the barrier's generation, whether a thread has failed,
       * shares of the step that have been taken.
       */
      readonly control: Int32Array<SharedArrayBuffer>;
      readonly threads: number;
      /** Byte address of this thread's scratch memory. */
      readonly scratch: number;
    }
  | { readonly kind: "run"; readonly steps: readonly ThreadStep[] };

/** What a thread says. */
export type FromThread =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly step: number; readonly message: string };

/** A thread's end of the line to the engine. */
export interface Port {
  readonly listen: (receive: (message: ToThread) => void) => void;
  readonly post: (message: FromThread) => void;
}

/** The thread's program. Self-contained: it is sent as text. */
export function threadMain(port: Port): void {
  let opened: Extract<ToThread, { kind: "open" }> | undefined;
  let kernels: ((...args: number[]) => void)[] = [];

  port.listen((message) => {
    let step = -1;
    try {
      if (message.kind === "open") {
        opened = message;
        const { memory, modules } = message;
        kernels = modules.map((module) => {
          const { run } = new WebAssembly.Instance(module, { env: { memory } }).exports;
          if (typeof run !== "function") throw new Error("the kernel exports no `run`");
          return (...args) => void run(...args);
        });
      } else if (opened !== undefined) {
        const { control, threads, scratch } = opened;
        for (const { kernel, addresses } of message.steps) {
          step += 1;
          const run = kernels[kernel];
          if (run === undefined) throw new Error(`there is no kernel ${kernel}`);
          if (threads === 1) {
            run(0, 1, scratch, ...addresses);
            continue;
          }
          // A kernel splits its work into as many shares as it is told there are threads. There are more shares than
          // threads, and whoever is free takes the next: a core that others use as well holds nobody up for long.
          const shares = 8 * threads;
          for (let share = Atomics.add(control, 3, 1); share < shares; share = Atomics.add(control, 3, 1)) {
            run(share, shares, scratch, ...addresses);
          }
          const generation = Atomics.load(control, 1);
          if (Atomics.add(control, 0, 1) === threads - 1) {
            Atomics.store(control, 0, 0);
            Atomics.store(control, 3, 0);
            Atomics.add(control, 1, 1);
            Atomics.notify(control, 1);
          } else {
            // About 20 µs of spinning: as long as waking a sleeper takes.
            for (let spins = 0; spins < 2000 && Atomics.load(control, 1) === generation; spins++);
            while (Atomics.load(control, 1) === generation && Atomics.load(control, 2) === 0) {
              Atomics.wait(control, 1, generation, 100);
            }
          }
          if (Atomics.load(control, 2) !== 0) break;
        }
      }
      port.post({ kind: "done" });
    } catch (error) {
      if (opened !== undefined) {
        Atomics.store(opened.control, 2, 1);
        Atomics.notify(opened.control, 1);
      }
      port.post({ kind: "failed", step, message: error instanceof Error ? error.message : String(error) });
    }
  });
}
