/**
 * Files that survive: a file counts as written when its bytes and its name are both on the disk, which takes an fsync of
 * the file and one of the folder that names it.
 *
 * The few operations stand behind one interface, so that tests can let each of them fail, or be the last before the
 * machine goes down.
 */
import { chmod, mkdtemp, open, readdir, rename, rm } from "node:fs/promises";

/** A file that is being written, from its beginning to its end. */
export interface Sink {
  /** Appends all of `bytes`; they may be reused once this is done. */
  write(bytes: Uint8Array): Promise<void>;
  /** Waits until the bytes are on the disk, and closes the file. */
  finish(): Promise<void>;
  /** Closes the file as it is. */
  abandon(): Promise<void>;
}

export interface Disk {
  /** A folder of its own, whose name begins with `prefix`. */
  temporaryFolder(prefix: string): Promise<string>;
  create(path: string): Promise<Sink>;
  rename(from: string, to: string): Promise<void>;
  /** With all that is in it; nothing happens where there is none. */
  remove(path: string): Promise<void>;
  /** Waits until the names in `folder` are on the disk. */
  syncFolder(folder: string): Promise<void>;
  list(folder: string): Promise<readonly string[]>;
}

/** Bytes of one write: Linux takes 2 GiB at most, and other work wants its turn in between. */
const CHUNK = 4 * 1024 * 1024;

async function create(path: string): Promise<Sink> {
  const file = await open(path, "wx");
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.byteLength; ) {
        const length = Math.min(CHUNK, bytes.byteLength - at);
        // Nearly full disks and file size limits write a part first; the error comes with the next write.
        const { bytesWritten } = await file.write(bytes, at, length);
        at += bytesWritten;
      }
    },
    async finish() {
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    },
    abandon: () => file.close(),
  };
}

async function syncFolder(folder: string): Promise<void> {
  // Windows has no such thing, and writes names through.
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export const realDisk: Disk = {
  async temporaryFolder(prefix) {
    const folder = await mkdtemp(prefix);
    // It is made for one person only, and will be renamed to what others may read.
    await chmod(folder, 0o777 & ~process.umask());
    return folder;
  },
  create,
  rename,
  remove: (path) => rm(path, { recursive: true, force: true }),
  syncFolder,
  list: (folder) => readdir(folder),
};

/** Writes `text` to a file that does not exist yet. */
export async function writeText(disk: Disk, path: string, text: string): Promise<void> {
  const sink = await disk.create(path);
  try {
    await sink.write(new TextEncoder().encode(text));
  } catch (error) {
    await sink.abandon();
    throw error;
  }
  await sink.finish();
}
