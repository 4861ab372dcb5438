/**
 * SQLite as a `Database`: `node:sqlite` where this Node has it, else libsql, which is SQLite for Node 20.
 *
 * The log (WAL) lets others read while one writes. Every commit is synced (`synchronous = FULL`): with NORMAL a power cut
 * takes the last commits along, and what a store has acknowledged must be there; only signs of life are NORMAL. A lock that another process holds is
 * waited for in short pieces, between which this process does its other work.
 */
import { statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { backOff, type Database, type Row, type Session, type Value } from "./database.ts";
import { fileFault, messageOf, StoreError, type StoreFault } from "./error.ts";

/** One connection of a driver. Both drivers work synchronously. */
export interface Connection {
  all(sql: string, parameters: readonly Value[]): readonly Row[];
  close(): void;
}

interface NodeStatement {
  all(...parameters: readonly Value[]): readonly Row[];
}

interface NodeSqlite {
  readonly DatabaseSync: new (path: string) => { prepare(sql: string): NodeStatement; close(): void };
}

/** Milliseconds that a driver itself waits for a lock, in which nothing else is done here. */
const BUSY_MS = 5;
/** Signed into the file's head, so that `file` and other programs know it: "netc". */
const APPLICATION_ID = 0x6e657463;

/** `node:sqlite`, without the warning that it is young. */
function nodeSqlite(): NodeSqlite | undefined {
  const emitWarning = Object.getOwnPropertyDescriptor(process, "emitWarning");
  process.emitWarning = () => {};
  try {
    return process.getBuiltinModule("node:sqlite") as NodeSqlite | undefined;
  } finally {
    if (emitWarning !== undefined) Object.defineProperty(process, "emitWarning", emitWarning);
  }
}

/** Statements are prepared once; not so settings, some of which apply while they are prepared and never again. */
function prepared<Statement>(prepare: (sql: string) => Statement): (sql: string) => Statement {
  const statements = new Map<string, Statement>();
  return (sql) => {
    if (sql.startsWith("PRAGMA")) return prepare(sql);
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = prepare(sql);
      statements.set(sql, statement);
    }
    return statement;
  };
}

async function connect(file: string, driver: SqliteOptions["driver"]): Promise<Connection> {
  const module = driver === "libsql" ? undefined : nodeSqlite();
  if (module !== undefined) {
    const database = new module.DatabaseSync(file);
    const statementOf = prepared((sql) => database.prepare(sql));
    return { all: (sql, parameters) => statementOf(sql).all(...parameters), close: () => database.close() };
  }
  const { default: Libsql } = await import("libsql");
  const database = new Libsql(file);
  const statementOf = prepared((sql) => database.prepare(sql));
  return {
    all: (sql, parameters) => statementOf(sql).all(parameters) as Row[],
    close: () => {
      database.close();
    },
  };
}

const IO_ERROR = 10;
/** Growing the memory that processes share fails like this on a full disk. */
const FULL_IO = new Set([4874, 5386]);

/** SQLite's extended result code, from either driver's error; undefined: the error is none of SQLite's. */
function resultCode(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const { rawCode, errcode } = error as { rawCode?: unknown; errcode?: unknown };
  if (typeof rawCode === "number") return rawCode;
  if (typeof errcode === "number") return errcode;
  // libsql's constructor throws words.
  const code = /: (\d+)"\)$/.exec(error.message)?.[1];
  return code === undefined ? undefined : Number(code);
}

const FAULTS: Readonly<Record<number, readonly [StoreFault, string]>> = {
  3: ["refused", "permission denied: make the file and its folder writable"],
  5: ["busy", "another process holds its lock: end whatever reads or writes it for so long"],
  6: ["busy", "another process holds its lock: end whatever reads or writes it for so long"],
  8: ["refused", "it may only be read: make the file and its folder writable"],
  11: [
    "damaged",
    "the file is malformed: keep a copy, and try `sqlite3 FILE .recover`; objects beside it are separate",
  ],
  13: ["full", "the disk is full: free some space there, and run the command again; what was stored is as it was"],
  14: ["refused", "the file cannot be opened: see that its folder is there and may be written"],
  19: ["refused", "it does not go with what is there"],
  26: ["damaged", "the file is no SQLite database: put a copy of the store back, or name another file"],
};

function faultOf(address: string, doing: string, error: unknown): unknown {
  const code = resultCode(error);
  if (code === undefined || error instanceof StoreError) return fileFault(`${doing} in \`${address}\``, error);
  const where = `cannot ${doing} in \`${address}\``;
  if ((code & 0xff) === IO_ERROR)
    return FULL_IO.has(code)
      ? new StoreError("full", `${where}: the disk is full: free some space there, and run the command again`)
      : new StoreError(
          "unreachable",
          `${where}: its disk reports an error (${messageOf(error)}): see the system's log`,
        );
  const fault = FAULTS[code & 0xff];
  if (fault === undefined) return new Error(`internal: ${where}: ${messageOf(error)}`);
  const detail = fault[0] === "refused" ? ` (${messageOf(error)})` : "";
  return new StoreError(fault[0], `${where}: ${fault[1]}${detail}`);
}

export interface SqliteOptions {
  /** Seconds that a lock of another process is waited for. */
  readonly patience: number;
  /** Milliseconds since 1970, in place of SQLite's clock. */
  readonly clock?: (() => number) | undefined;
  readonly driver?: "libsql" | undefined;
}

const NOW = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

/** The statement as SQLite knows it, and which parameter each of its `?` stands for. */
function compileSql(sql: string): { readonly sql: string; readonly order: readonly number[] } {
  const order: number[] = [];
  const plain = sql.replaceAll(/\s*\{(lock|skip)\}/g, "").replaceAll(/\$(\d+)/g, (_, digits: string) => {
    order.push(Number(digits) - 1);
    return "?";
  });
  return { sql: plain, order };
}

/** Opens or makes the file. @throws StoreError */
export async function openSqlite(file: string, address: string, options: SqliteOptions): Promise<SqliteDatabase> {
  try {
    await mkdir(dirname(file), { recursive: true });
    const connection = await connect(file, options.driver);
    const database = new SqliteDatabase(connection, file, address, options);
    try {
      await database.prepare();
    } catch (error) {
      connection.close();
      throw error;
    }
    return database;
  } catch (error) {
    throw faultOf(address, "open the store", error);
  }
}

export class SqliteDatabase implements Database {
  readonly kind = "sqlite";
  readonly schema = undefined;
  readonly address: string;
  readonly #connection: Connection;
  readonly #file: string;
  readonly #options: SqliteOptions;
  readonly #compiled = new Map<string, ReturnType<typeof compileSql>>();
  #inode: number | undefined;
  /** Ends when all work that was asked for has ended: there is one connection, and so one transaction at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #open = true;
  /** Whether commits are synced as the connection is set now; not known before the first. */
  #lasting: boolean | undefined;

  constructor(connection: Connection, file: string, address: string, options: SqliteOptions) {
    this.#connection = connection;
    this.#file = file;
    this.address = address;
    this.#options = options;
  }

  /** The settings of a connection; the first that comes to a file also switches it to its log. */
  async prepare(): Promise<void> {
    this.#all(`PRAGMA busy_timeout = ${BUSY_MS}`);
    await this.#persist("open the store", async () => {
      if (this.#all("PRAGMA journal_mode")[0]?.["journal_mode"] !== "wal") {
        // Somebody else's database is not to be changed in any way.
        const names = this.#all("SELECT name FROM sqlite_schema WHERE type = 'table'").map(({ name }) => name);
        if (names.length > 0 && !names.includes("store"))
          throw new StoreError(
            "refused",
            `\`${this.address}\` is a database of another program: name another file or folder`,
          );
        this.#all("PRAGMA journal_mode = WAL");
        this.#all(`PRAGMA application_id = ${APPLICATION_ID}`);
      }
    });
    this.#all("PRAGMA foreign_keys = ON");
    this.#inode = statSync(this.#file).ino;
  }

  read<T>(doing: string, work: (session: Session) => Promise<T>): Promise<T> {
    return this.#inTurn(doing, () => work(this.#session));
  }

  write<T>(doing: string, work: (session: Session) => Promise<T>, lasting: boolean = true): Promise<T> {
    return this.#inTurn(doing, async () => {
      this.#stillThere(doing);
      if (this.#lasting !== lasting) this.#all(`PRAGMA synchronous = ${lasting ? "FULL" : "NORMAL"}`);
      this.#lasting = lasting;
      this.#all("BEGIN IMMEDIATE");
      try {
        const outcome = await work(this.#session);
        this.#all("COMMIT");
        return outcome;
      } catch (error) {
        try {
          this.#all("ROLLBACK");
        } catch {
          // SQLite ends some transactions by itself, on a full disk for one.
        }
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    await this.#turn.catch(() => {});
    if (!this.#open) return;
    this.#open = false;
    try {
      // libsql ends a connection only when its statements are collected; the log should not wait for that.
      this.#all("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch {
      // Whoever opens it next does that.
    }
    this.#connection.close();
  }

  /** A statement as it is, for what has no word in `Session`: settings and checks of SQLite's own. */
  pragma(statement: string): Promise<readonly Row[]> {
    return this.#inTurn("ask SQLite", async () => this.#all(statement));
  }

  readonly #session: Session = {
    query: async (sql, parameters = []) => {
      let compiled = this.#compiled.get(sql);
      if (compiled === undefined) {
        compiled = compileSql(sql);
        this.#compiled.set(sql, compiled);
      }
      const { clock } = this.#options;
      const plain = compiled.sql.replaceAll("{now}", clock === undefined ? NOW : String(clock()));
      const rows = this.#all(
        plain,
        compiled.order.map((index) => parameters[index] ?? null),
      );
      return rows;
    },
  };

  #all(sql: string, parameters: readonly Value[] = []): readonly Row[] {
    return this.#connection.all(sql, parameters);
  }

  /** A file that was removed or replaced while it is open takes what is written, and nobody will find it. */
  #stillThere(doing: string): void {
    const inode = statSync(this.#file, { throwIfNoEntry: false })?.ino;
    if (inode !== this.#inode)
      throw new StoreError(
        "unreachable",
        `cannot ${doing} in \`${this.address}\`: the file was removed or replaced while it was open: put it back and ` +
          "run the command again",
      );
  }

  #inTurn<T>(doing: string, work: () => Promise<T>): Promise<T> {
    if (!this.#open) return Promise.reject(new Error(`internal: the store \`${this.address}\` was closed`));
    const done = this.#turn.then(() => this.#persist(doing, work));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #persist<T>(doing: string, work: () => Promise<T>): Promise<T> {
    const end = performance.now() + 1000 * this.#options.patience;
    const waits = backOff(0.002, 0.1);
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const fault = faultOf(this.address, doing, error);
        if (!(fault instanceof StoreError) || fault.kind !== "busy" || performance.now() > end) throw fault;
        await sleep(1000 * waits.next().value);
      }
    }
  }
}
