/**
 * Compiled kernels of this process, kept by what they were compiled from.
 *
 * Programs that are alike share many kernels: the stages of a training, its step and its evaluation, a program that is opened
 * again. A kernel is found by a hash of its bytes and then compared with them. Those that came first go first, once there
 * are many.
 */

interface Kept {
  readonly code: Uint8Array;
  readonly module: Promise<WebAssembly.Module>;
}

const MOST = 1024;
const kept = new Map<number, Kept>();

/** FNV-1a over words of four bytes, and the length: a key, not a proof. */
function hashOf(code: Uint8Array): number {
  let hash = 0x811c9dc5 ^ code.length;
  for (let at = 0; at < code.length; at += 4) {
    const word =
      (code[at] ?? 0) | ((code[at + 1] ?? 0) << 8) | ((code[at + 2] ?? 0) << 16) | ((code[at + 3] ?? 0) << 24);
    hash = Math.imul(hash ^ word, 0x01000193);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || (a.length === b.length && a.every((byte, i) => byte === b[i]));
}

/** The module of a kernel's code: what `compile` made of it before in this process, or makes of it now. */
export function moduleOf(
  code: Uint8Array,
  compile: (code: Uint8Array) => Promise<WebAssembly.Module>,
): Promise<WebAssembly.Module> {
  const hash = hashOf(code);
  const known = kept.get(hash);
  if (known !== undefined && same(known.code, code)) return known.module;
  const module = compile(code);
  if (known === undefined && kept.size >= MOST) {
    const [oldest] = kept.keys();
    if (oldest !== undefined) kept.delete(oldest);
  }
  kept.set(hash, { code, module });
  // What did not compile is tried again: the next attempt may have the flags that this one lacked.
  module.catch(() => kept.delete(hash));
  return module;
}
