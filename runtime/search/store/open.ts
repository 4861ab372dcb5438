/**
 * Opens the store of studies that an address names (address.ts): makes it where there is none, and refuses what would
 * lose or mix up what is kept there.
 */
import { type Disk, realDisk } from "../../train/disk.ts";
import type { StudyStore } from "../study.ts";
import { type PostgresAddress, parseStoreAddress, type SqliteAddress } from "./address.ts";
import { fileFault, StoreError } from "./error.ts";
import { fileSystemOf, networkFileSystem } from "./file-system.ts";
import { ObjectFolder, objectRows } from "./places.ts";
import { prepareSchema } from "./schema.ts";
import { openSqlite } from "./sqlite.ts";
import { SqlStore } from "./store.ts";

export interface StoreOptions {
  /**
   * Seconds for which a server that went away is waited for, or a file's lock, before an error says so: 20. The first
   * time, when the address may simply be wrong, a server is waited for a quarter as long.
   */
  readonly patienceSeconds?: number;
  /** Whether the tables of an earlier netc are brought up to date; that netc cannot use them afterwards. */
  readonly migrate?: boolean;
  /** For tests: milliseconds since 1970 in place of the database's clock, which is the same for all who use it. */
  readonly clock?: () => number;
  /** For tests: what objects are written with. */
  readonly disk?: Disk;
  /** For tests: the number of the file system of a path. */
  readonly fileSystem?: (path: string) => Promise<number>;
  /** For tests: libsql even where Node has SQLite of its own. */
  readonly driver?: "libsql";
}

const PATIENCE = 20;

/**
 * @param address `studies`, `sqlite:PATH`, `postgres://USER:PASSWORD@HOST/DATABASE`
 * @throws StoreError
 */
export function openStore(address: string, options: StoreOptions = {}): Promise<StudyStore> {
  const parsed = parseStoreAddress(address);
  return parsed.kind === "sqlite" ? openFile(parsed, options) : openServer(parsed, options);
}

async function openFile(address: SqliteAddress, options: StoreOptions): Promise<StudyStore> {
  const { patienceSeconds: patience = PATIENCE, fileSystem = fileSystemOf, disk = realDisk, clock, driver } = options;
  const { file, shown, objects } = address;
  let type: number;
  try {
    type = await fileSystem(file);
  } catch (error) {
    throw fileFault(`open the store in \`${shown}\``, error);
  }
  const network = networkFileSystem(file, type);
  if (network !== undefined)
    throw new StoreError(
      "refused",
      `\`${shown}\` is on a network file system (${network}), where SQLite's locks do not hold and studies are lost: use ` +
        "postgres://… for a study of several machines, or a folder on this machine's own disk",
    );
  const database = await openSqlite(file, shown, { patience, clock, driver });
  try {
    await prepareSchema(database, options.migrate ?? false);
  } catch (error) {
    await database.close();
    throw error;
  }
  return new SqlStore(database, new ObjectFolder(objects, disk), {
    async check() {
      const [whole] = await database.pragma("PRAGMA integrity_check(1)");
      const orphans = await database.pragma("PRAGMA foreign_key_check");
      const problem = whole?.["integrity_check"] === "ok" ? orphans[0] && "rows without what they belong to" : whole;
      if (problem !== undefined)
        throw new StoreError(
          "damaged",
          `\`${shown}\` is damaged (${typeof problem === "string" ? problem : String(problem["integrity_check"])}): ` +
            "keep a copy, and restore a backup or try `sqlite3 FILE .recover`",
        );
    },
    tidy: () => Promise.resolve(),
  });
}

async function openServer(address: PostgresAddress, options: StoreOptions): Promise<StudyStore> {
  const { patienceSeconds: patience = PATIENCE, disk = realDisk, clock } = options;
  // Only who has a server waits for its driver to be loaded.
  const { openPostgres } = await import("./postgres.ts");
  const database = await openPostgres(address, { patience, clock });
  try {
    await prepareSchema(database, options.migrate ?? false);
  } catch (error) {
    await database.close();
    throw error;
  }
  database.ready();
  const objects = address.objects === undefined ? objectRows : new ObjectFolder(address.objects, disk);
  return new SqlStore(database, objects, { check: () => Promise.resolve(), tidy: () => database.tidy() });
}
