/**
 * Where the bytes of objects are: in a folder, one file each (`objects/ab/cdef…`), or in PostgreSQL, in parts. What may be
 * kept and removed when is decided in objects.ts.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Disk } from "../../train/disk.ts";
import { codeOf } from "../../train/fault.ts";
import { number, type Session, text } from "./database.ts";
import { fileFault } from "./error.ts";

const HASH = /^[0-9a-f]{64}$/;
const TEMPORARY = ".writing-";
/** A file that was being written for so long is left over from a process that has ended. */
const LEFT_OVER_MS = 24 * 3_600_000;

/** Where bytes are. The object's row is the caller's, who holds it locked while `keep` and `drop` work. */
export interface ObjectPlace {
  /** Done before the transaction, for bytes that are not there yet: what takes long. */
  prepare(hash: string, bytes: Uint8Array): Promise<Prepared>;
  /** Whether all bytes are there. */
  has(session: Session, hash: string, bytes: number): Promise<boolean>;
  read(session: Session, hash: string, bytes: number): Promise<Uint8Array | undefined>;
  /** Nothing happens where there is nothing. */
  drop(hash: string): Promise<void>;
  /** Hashes of what is there without the database's knowing, left by a process that ended in between. */
  strays(known: ReadonlySet<string>): Promise<readonly { readonly hash: string; readonly bytes: number }[]>;
}

export interface Prepared {
  keep(session: Session): Promise<void>;
  /** After the transaction, whether it was done or not. */
  discard(): Promise<void>;
}

export class ObjectFolder implements ObjectPlace {
  readonly #folder: string;
  readonly #disk: Disk;

  constructor(folder: string, disk: Disk) {
    this.#folder = folder;
    this.#disk = disk;
  }

  #path(hash: string): string {
    return join(this.#folder, hash.slice(0, 2), hash.slice(2));
  }

  async #tried<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw fileFault(`${doing} in \`${this.#folder}\``, error);
    }
  }

  prepare(hash: string, bytes: Uint8Array): Promise<Prepared> {
    return this.#tried(`write an object of ${bytes.byteLength} bytes`, async () => {
      const disk = this.#disk;
      const place = this.#path(hash);
      const made = await mkdir(dirname(place), { recursive: true });
      // The names of folders that were made have to reach the disk too.
      if (made !== undefined)
        for (let at = dirname(place); at !== dirname(made); at = dirname(at)) await disk.syncFolder(dirname(at));
      const temporary = join(this.#folder, `${TEMPORARY}${randomBytes(8).toString("hex")}`);
      const remove = (): Promise<void> => disk.remove(temporary).catch(() => {});
      try {
        const sink = await disk.create(temporary);
        try {
          await sink.write(bytes);
        } catch (error) {
          await sink.abandon();
          throw error;
        }
        await sink.finish();
      } catch (error) {
        await remove();
        throw error;
      }
      const keep = (): Promise<void> =>
        this.#tried("name an object", async () => {
          await disk.rename(temporary, place).catch(async (error: unknown) => {
            // The transaction is being done again, and the file has its name already.
            if (codeOf(error) !== "ENOENT" || (await sizeOf(place)) !== bytes.byteLength) throw error;
          });
          await disk.syncFolder(dirname(place));
        });
      return { keep, discard: remove };
    });
  }

  async has(_: Session, hash: string, bytes: number): Promise<boolean> {
    return (await this.#tried("look for an object", () => sizeOf(this.#path(hash)))) === bytes;
  }

  read(_: Session, hash: string): Promise<Uint8Array | undefined> {
    return this.#tried("read an object", async () => {
      try {
        return await readFile(this.#path(hash));
      } catch (error) {
        if (codeOf(error) === "ENOENT") return undefined;
        throw error;
      }
    });
  }

  drop(hash: string): Promise<void> {
    return this.#tried("remove an object", () => this.#disk.remove(this.#path(hash)));
  }

  strays(known: ReadonlySet<string>): Promise<readonly { readonly hash: string; readonly bytes: number }[]> {
    return this.#tried("list the objects", async () => {
      const found: { readonly hash: string; readonly bytes: number }[] = [];
      for (const name of await listOf(this.#folder)) {
        const path = join(this.#folder, name);
        if (name.startsWith(TEMPORARY)) {
          const info = await stat(path).catch(() => undefined);
          if (info !== undefined && Date.now() - info.mtimeMs > LEFT_OVER_MS) await this.#disk.remove(path);
        } else if (/^[0-9a-f]{2}$/.test(name)) {
          for (const rest of await listOf(path)) {
            const hash = name + rest;
            if (!HASH.test(hash) || known.has(hash)) continue;
            const bytes = await sizeOf(join(path, rest));
            if (bytes !== undefined) found.push({ hash, bytes });
          }
        }
      }
      return found;
    });
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function listOf(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return [];
    throw error;
  }
}

/** Bytes of a part: the server and the driver hold a few copies of one at a time. */
const PART = 1024 * 1024;

/** In the table `object_part`, whose rows go with the object's own. */
export const objectRows: ObjectPlace = {
  async prepare(hash, bytes) {
    return {
      async keep(session) {
        await session.query("DELETE FROM object_part WHERE hash = $1", [hash]);
        for (let at = 0, part = 0; at < bytes.byteLength; at += PART, part++)
          await session.query("INSERT INTO object_part VALUES ($1, $2, $3)", [
            hash,
            part,
            bytes.subarray(at, at + PART),
          ]);
      },
      discard: () => Promise.resolve(),
    };
  },
  async has(session, hash, bytes) {
    const [row] = await session.query(
      "SELECT coalesce(sum(length(data)), 0)::bigint AS bytes FROM object_part WHERE hash = $1",
      [hash],
    );
    return row !== undefined && number(row, "bytes") === bytes;
  },
  async read(session, hash, bytes) {
    const whole = new Uint8Array(bytes);
    let at = 0;
    for (let part = 0; at < bytes; part++) {
      // The driver takes hexadecimal digits apart one by one.
      const sql = "SELECT encode(data, 'base64') AS data FROM object_part WHERE hash = $1 AND part = $2";
      const [row] = await session.query(sql, [hash, part]);
      if (row === undefined) return undefined;
      const data = Buffer.from(text(row, "data"), "base64");
      if (at + data.byteLength > bytes || data.byteLength === 0) return undefined;
      whole.set(data, at);
      at += data.byteLength;
    }
    return whole;
  },
  drop: () => Promise.resolve(),
  strays: () => Promise.resolve([]),
};
