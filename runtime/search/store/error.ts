/**
 * What goes wrong with a store, in words: what, where, and what to do. The commands print the message as it is.
 *
 * No message and no property holds a secret: causes are not kept, for the errors of drivers may carry whole addresses.
 */
import { codeOf } from "../../train/fault.ts";

/**
 * `unreachable`: it does not answer, and may again; `damaged`: what is kept there is not what was written; `busy`: others
 * held it for too long; `full`: no more can be written, and what was is as it was; `refused`: it must not or cannot be
 * done, and asking again does not help.
 */
export type StoreFault = "unreachable" | "damaged" | "busy" | "full" | "refused";

export class StoreError extends Error {
  readonly kind: StoreFault;
  constructor(kind: StoreFault, message: string) {
    super(message);
    this.name = "StoreError";
    this.kind = kind;
  }
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const FILES: Readonly<Record<string, readonly [StoreFault, string]>> = {
  ENOSPC: ["full", "the disk is full: free some space there, and run the command again; what was stored is as it was"],
  EDQUOT: ["full", "the disk quota is used up: free some space there, and run the command again"],
  EFBIG: ["full", "a file grew past the size that this process may write: raise that limit (`ulimit -f`)"],
  EACCES: ["refused", "permission denied: make the folder and what is in it writable, or name another store"],
  EPERM: ["refused", "permission denied: make the folder and what is in it writable, or name another store"],
  EROFS: ["refused", "the file system is read-only: name a store elsewhere"],
  ENOTDIR: ["refused", "a part of the path is a file: name another path"],
  EEXIST: ["refused", "a part of the path is a file: name another path"],
  EISDIR: ["refused", "it is a folder: name a file"],
  ENAMETOOLONG: ["refused", "the name is too long: name a shorter one"],
  ENOENT: ["unreachable", "a part of the path is not there any more: put the folder back, or name another store"],
  EIO: ["unreachable", "the disk reports an error: see what the system's log says about it"],
  ESTALE: ["unreachable", "the file server has lost it: mount it again"],
  EMFILE: ["busy", "this process has too many files open: raise that limit (`ulimit -n`)"],
  ENFILE: ["busy", "the machine has too many files open"],
};

/** An error of the file system in the store's words; what is none, and what is one already, comes back as it is. */
export function fileFault(doing: string, error: unknown): unknown {
  const fault = FILES[codeOf(error) ?? ""];
  return error instanceof StoreError || fault === undefined
    ? error
    : new StoreError(fault[0], `cannot ${doing}: ${fault[1]}`);
}
