/**
 * Where a store is, from what a person wrote:
 *
 *     FOLDER                        FOLDER/store.db, and the objects in FOLDER/objects
 *     FILE.db, sqlite:FILE          that file (.db, .sqlite, .sqlite3, or one that is there), and FILE.objects beside it
 *     sqlite:FOLDER                 as FOLDER
 *     postgres://USER:PASSWORD@HOST:PORT/DATABASE
 *         ?schema=NAME              the schema of the tables, `netc` if not given
 *         &objects=FOLDER           the objects in a folder that all machines see under this path, not in the database
 *         &sslmode=…                what else the PostgreSQL driver knows
 *
 * The password may also come from PGPASSWORD or ~/.pgpass, which the driver reads. Messages show the address without any
 * secret, and never the address as it was written.
 */
import { statSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { StoreError } from "./error.ts";

/** Where the commands keep studies if nothing else is said. */
export const DEFAULT_STORE = "studies";

export interface SqliteAddress {
  readonly kind: "sqlite";
  readonly shown: string;
  readonly file: string;
  readonly objects: string;
}

export interface PostgresAddress {
  readonly kind: "postgres";
  readonly shown: string;
  /** For the driver; holds the password. */
  readonly connection: string;
  readonly schema: string;
  /** A shared folder for the objects; undefined: they are in the database. */
  readonly objects: string | undefined;
  /** What no message may hold. */
  readonly secrets: readonly string[];
}

/** @throws StoreError (refused) that does not repeat the address, for it may hold a password where none belongs */
export function parseStoreAddress(address: string): SqliteAddress | PostgresAddress {
  if (/^postgres(ql)?:\/\//i.test(address)) return postgresAddress(address);
  if (address.startsWith("sqlite:")) return sqliteAddress(address.slice("sqlite:".length).replace(/^\/\/(?=\/)/, ""));
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(address)?.[1];
  if (scheme !== undefined && process.platform !== "win32")
    throw new StoreError(
      "refused",
      `a store cannot be at an address that begins with \`${scheme}:\`: name a folder, \`sqlite:FILE\` or ` +
        "`postgres://USER@HOST/DATABASE`",
    );
  return sqliteAddress(address);
}

function sqliteAddress(path: string): SqliteAddress {
  if (path === "" || path.includes("\0"))
    throw new StoreError("refused", "the store's path is empty: name a folder, such as `studies`");
  const at = resolve(path);
  const found = isFileAt(at);
  const isFile = found ?? /^\.(db|sqlite|sqlite3)$/.test(extname(at));
  return isFile
    ? { kind: "sqlite", shown: `sqlite:${at}`, file: at, objects: `${at}.objects` }
    : { kind: "sqlite", shown: `sqlite:${at}`, file: join(at, "store.db"), objects: join(at, "objects") };
}

/** Undefined where there is nothing, or nothing that can be looked at: opening it will say why. */
function isFileAt(path: string): boolean | undefined {
  try {
    return statSync(path).isFile();
  } catch {
    return undefined;
  }
}

/** Parameters that may be shown; all others are left out. */
const HARMLESS = new Set(["schema", "objects", "sslmode", "host", "port"]);

function postgresAddress(address: string): PostgresAddress {
  const wrong = (reason: string): StoreError =>
    new StoreError(
      "refused",
      `the address of the PostgreSQL store ${reason}; it is written ` +
        "`postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with %XX for signs that have a meaning in it",
    );
  let url: URL;
  let password: string;
  try {
    url = new URL(address);
    password = decodeURIComponent(url.password);
  } catch {
    // The error repeats the address.
    throw wrong("cannot be read");
  }
  if (url.hash !== "") throw wrong("has a `#` in it");
  const schema = url.searchParams.get("schema") ?? "netc";
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema) || schema.startsWith("pg_"))
    throw wrong("names a schema that is not made of small letters, digits and `_`");
  const objects = url.searchParams.get("objects") ?? undefined;
  const secrets = [password, url.password];
  for (const [name, value] of url.searchParams) if (!HARMLESS.has(name)) secrets.push(value);
  const shown = new URL(url);
  shown.password = "";
  for (const name of url.searchParams.keys()) if (!HARMLESS.has(name)) shown.searchParams.delete(name);
  const connection = new URL(url);
  connection.searchParams.delete("schema");
  connection.searchParams.delete("objects");
  return {
    kind: "postgres",
    shown: shown.href,
    connection: connection.href,
    schema,
    objects: objects === undefined ? undefined : resolve(objects),
    secrets: secrets.filter((secret) => secret.length > 2),
  };
}
