/**
 * Where everything lies in the one linear memory that all threads share.
 *
 * In: a program. Out: byte addresses of its allocations and of each thread's scratch memory, and the total, which is
 * known before anything is allocated: a 32-bit memory ends at 4 GiB, and a program that does not fit is refused here.
 */
import type { Program } from "../../../compiler/program.ts";
import { EngineError } from "../runner.ts";

/** Size of a page of WebAssembly memory. */
export const PAGE = 65536;

/** Everything starts on a cache line, so that no two threads write to the same one. */
const LINE = 64;

const aligned = (bytes: number): number => Math.ceil(bytes / LINE) * LINE;

export interface MemoryPlan {
  /** Byte address of each allocation of the program. */
  readonly allocations: readonly number[];
  /** Byte address of each thread's scratch memory. */
  readonly scratch: readonly number[];
  readonly pages: number;
}

/** The last page of a 32-bit memory stays unused: the address behind an array must be a 32-bit number too. */
const MOST_PAGES = 65535;

/**
 * Lays out a program's memory.
 * @param limit bytes that may be used at most
 * @throws EngineError `limit` with the bytes needed and available
 */
export function planAddresses(program: Program, threads: number, limit: number): MemoryPlan {
  // Address 0 stays unused, so that a forgotten address shows.
  let at = LINE;
  const take = (bytes: number): number => {
    const here = at;
    at += aligned(bytes);
    return here;
  };
  const perThread = Math.max(0, ...program.kernels.map((kernel) => kernel.scratchBytes));
  const scratch = Array.from({ length: threads }, () => take(perThread));
  const allocations = program.allocations.map(({ bytes }) => take(bytes));
  const pages = Math.ceil(at / PAGE);
  const have = Math.min(limit, MOST_PAGES * PAGE);
  if (pages * PAGE > have) {
    throw new EngineError({ kind: "limit", what: "bytes of WASM memory", need: pages * PAGE, have });
  }
  return { allocations, scratch, pages };
}
