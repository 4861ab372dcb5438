/**
 * PostgreSQL as a `Database`: a small pool of connections, and patience with a server that goes away and comes back.
 *
 * What came to nothing because the connection broke is done again, with growing waits, for as long as the store is
 * patient. One case is not plain: the connection breaks while COMMIT is under way, and nobody can say whether it was
 * written. Every transaction therefore begins by writing a receipt under a number of its own. Done again, it meets its
 * receipt if the first time was written, and if the first time is still being written, PostgreSQL lets it wait for that.
 */
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { PostgresAddress } from "./address.ts";
import { backOff, type Database, type Row, type Session, type Value } from "./database.ts";
import { messageOf, StoreError, type StoreFault } from "./error.ts";

/** The oldest with everything that is used here, and with what the queue needs. */
const OLDEST_SERVER = 130_000;
/** Connections of one process: one for what is long, one for heartbeats, one to spare. A thousand workers are possible. */
const CONNECTIONS = 3;
const CONNECT_MS = 10_000;
/** Longer than a pause of the server that is to be outlasted, so that a query that hangs is not given up too early. */
const QUERY_MS = 30_000;
const GOODBYE_MS = 3_000;
/** Receipts are kept longer than anybody is patient. */
const RECEIPT_MS = 3_600_000;
const TIDY_MS = 60_000;

const NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/** Conditions that pass: classes and codes of PostgreSQL's appendix A, and those of sockets. */
const AWAY = new Set(["57P01", "57P02", "57P03", "57P05", "25P03", "25006"]);
const AGAIN = new Set(["40001", "40P01", "55P03", "53300", "57014"]);
const SOCKET = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "ENETDOWN",
  "EAI_AGAIN",
  "ENOTFOUND",
  "ENOENT",
]);
/** What the driver says, without a code, when a connection is gone or does not answer. */
const GONE =
  /^(Connection terminated|timeout e|Query read timeout|Client (was closed|has encountered)|Cannot use a pool)/i;

const REFUSED: Readonly<Record<string, string>> = {
  "28P01": "the user's password is wrong: set it in the address, in PGPASSWORD or in ~/.pgpass",
  "28000": "the server does not let this user in: see its pg_hba.conf",
  "3D000": "there is no such database: make it with `createdb`",
  "42501": "the user may not do that: grant it the rights on the database and its schema",
  "23505": "it is there already: read the study again",
  "23503": "what it belongs to is not there",
  "23514": "it does not go with what is there",
  "0A000": "the server cannot do that",
};

function codeOf(error: unknown): string {
  if (!(error instanceof Error) || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

/** Whether the connection, or the server, is gone for now. */
function isAway(error: unknown): boolean {
  // Several addresses of one host were tried.
  if (error instanceof AggregateError) return error.errors.every(isAway);
  const code = codeOf(error);
  if (AWAY.has(code) || code.startsWith("08") || SOCKET.has(code)) return true;
  return error instanceof Error && code === "" && GONE.test(error.message);
}

const isPassing = (error: unknown): boolean => isAway(error) || AGAIN.has(codeOf(error));

/** An error of the driver in the store's words. Exported for its tests: few servers can be made to fill their disk. */
export function postgresFault(address: string, doing: string, error: unknown, secrets: readonly string[]): Error {
  if (error instanceof StoreError) return error;
  const code = codeOf(error);
  const inner = error instanceof AggregateError ? messageOf(error.errors[0]) : messageOf(error);
  const said = secrets.reduce((text, secret) => text.replaceAll(secret, "***"), inner);
  const fault = (kind: StoreFault, reason: string): StoreError =>
    new StoreError(kind, `cannot ${doing} in \`${address}\`: ${reason}`);
  if (isAway(error))
    return fault(
      "unreachable",
      `the server does not answer (${said}): start it, or check host and port; what was stored is as it was`,
    );
  if (code === "53300")
    return fault("busy", "the server has no connection left: raise its max_connections, or put pgbouncer before it");
  if (AGAIN.has(code)) return fault("busy", `others held what it needs for too long (${said}): run the command again`);
  if (code === "53100")
    return fault("full", "the server's disk is full: free some space there; what was stored is as it was");
  if (code === "53200") return fault("busy", `the server is out of memory (${said})`);
  if (code === "XX001" || code === "XX002" || code === "58P01" || code === "58030")
    return fault("damaged", `the server says that its files are damaged (${said}): restore a backup`);
  const reason = REFUSED[code];
  if (reason !== undefined) return fault("refused", `${reason} (${said})`);
  if (code.startsWith("28") || code.startsWith("42") || code.startsWith("22")) return fault("refused", said);
  if (/SSL|certificate|SASL|password/i.test(said))
    return fault("refused", `${said}: see \`sslmode\` and the password in the address`);
  return new Error(`internal: cannot ${doing} in \`${address}\`: ${said}`);
}

export interface PostgresOptions {
  /** Seconds for which a server that does not answer is asked again. */
  readonly patience: number;
  /** Milliseconds since 1970, in place of the server's clock. */
  readonly clock?: (() => number) | undefined;
}

/** Opens the database and looks at the server. @throws StoreError */
export async function openPostgres(address: PostgresAddress, options: PostgresOptions): Promise<PostgresDatabase> {
  const database = new PostgresDatabase(address, options);
  try {
    await database.read("open the store", async (session) => {
      const [row] = await session.query("SELECT current_setting('server_version_num')::bigint AS version");
      const version = Number(row?.["version"]);
      if (version < OLDEST_SERVER)
        throw new StoreError(
          "refused",
          `\`${address.shown}\` is PostgreSQL ${Math.floor(version / 10_000)}: netc needs 13 or later`,
        );
    });
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** Counters and milliseconds, all far below 2^53, are numbers here. The driver would give text. */
function ownTypes(): pg.CustomTypesConfig {
  const types = new pg.TypeOverrides();
  types.setTypeParser(pg.types.builtins.INT8, Number);
  return types;
}

/** One statement on one connection, as an answer of rows. */
async function ask(client: pg.PoolClient, sql: string, parameters: readonly Value[]): Promise<readonly Row[]> {
  // A zero byte ends a text in PostgreSQL's eyes.
  const values = parameters.map((value) => (typeof value === "string" ? value.replaceAll("\0", "\uFFFD") : value));
  const { rows } = await client.query<Row>({ text: sql, values });
  return rows;
}

export class PostgresDatabase implements Database {
  readonly kind = "postgres";
  readonly address: string;
  readonly schema: string;
  readonly #pool: pg.Pool;
  readonly #options: PostgresOptions;
  readonly #secrets: readonly string[];
  /** Aborted when the store is closed: who waits for the server then waits no longer. */
  readonly #closing = new AbortController();
  /** Whether there is a table for receipts: not while the tables are being made. */
  #receipts = false;
  #patience: number;
  #tidyAfter = 0;

  constructor({ shown, schema, connection, secrets }: PostgresAddress, options: PostgresOptions) {
    this.address = shown;
    this.schema = schema;
    this.#options = options;
    // The first time the address may simply be wrong.
    this.#patience = options.patience / 4;
    this.#secrets = secrets;
    // As many as ask while the server is away.
    setMaxListeners(0, this.#closing.signal);
    this.#pool = new pg.Pool({
      connectionString: connection,
      max: CONNECTIONS,
      connectionTimeoutMillis: CONNECT_MS,
      query_timeout: QUERY_MS,
      idleTimeoutMillis: 30_000,
      allowExitOnIdle: true,
      keepAlive: true,
      application_name: "netc",
      types: ownTypes(),
      // oxlint-disable-next-line typescript/no-misused-promises -- the pool waits for it, which its types do not say
      onConnect: async (client) => {
        // A transaction whose process is gone must not hold its locks for ever.
        await client.query(
          `SET search_path TO "${schema}"; SET lock_timeout = '10s'; ` +
            "SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = error",
        );
      },
    });
    // Idle connections break when the server ends; the pool makes others.
    this.#pool.on("error", () => {});
  }

  /** The tables are there: from here on every transaction leaves a receipt, and a server that goes away is waited for. */
  ready(): void {
    this.#receipts = true;
    this.#patience = this.#options.patience;
  }

  read<T>(doing: string, work: (session: Session) => Promise<T>): Promise<T> {
    return this.#persist(doing, () => this.#connected((client) => work(this.#sessionOf(client))));
  }

  write<T>(doing: string, work: (session: Session) => Promise<T>, lasting: boolean = true): Promise<T> {
    // In one message: the receipt costs no time on the way.
    const begin = lasting
      ? `BEGIN${this.#receipts ? `; INSERT INTO receipt VALUES ('${randomUUID()}', ${NOW})` : ""}`
      : "BEGIN; SET LOCAL synchronous_commit = off";
    let written: { readonly outcome: T } | undefined;
    return this.#persist(doing, () =>
      this.#connected(async (client) => {
        let committing = false;
        try {
          await client.query(begin);
          const outcome = await work(this.#sessionOf(client));
          committing = true;
          written = { outcome };
          await client.query("COMMIT");
          return outcome;
        } catch (error) {
          if (!isAway(error)) await client.query("ROLLBACK");
          // The receipt was there: the commit whose answer was lost had been written.
          if (!committing && written !== undefined && isOwnReceipt(error)) return written.outcome;
          throw error;
        }
      }),
    );
  }

  /** Removes receipts that nobody will ask for any more; now and then is enough. */
  async tidy(): Promise<void> {
    if (performance.now() < this.#tidyAfter) return;
    this.#tidyAfter = performance.now() + TIDY_MS;
    const sql = "DELETE FROM receipt WHERE written < {now} - $1::bigint";
    await this.write("tidy up", (session) => session.query(sql, [RECEIPT_MS]), false);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    // A server that does not answer does not say goodbye either.
    await Promise.race([this.#pool.end(), sleep(GOODBYE_MS, undefined, { ref: false })]);
  }

  #sessionOf(client: pg.PoolClient): Session {
    const { clock } = this.#options;
    return {
      query: (sql, parameters = []) => {
        const plain = sql
          .replaceAll("{now}", clock === undefined ? NOW : `${clock()}::bigint`)
          .replaceAll("{lock}", "FOR NO KEY UPDATE")
          .replaceAll("{skip}", "SKIP LOCKED");
        return ask(client, plain, parameters);
      },
    };
  }

  /** Runs `work` on a connection of the pool; one that broke is not used again. */
  async #connected<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    let broken = false;
    // Without a listener the end of a connection between two queries would end the process.
    const listener = (): void => {
      broken = true;
    };
    client.on("error", listener);
    try {
      return await work(client);
    } catch (error) {
      broken ||= isAway(error);
      throw error;
    } finally {
      client.off("error", listener);
      client.release(broken);
    }
  }

  async #persist<T>(doing: string, work: () => Promise<T>): Promise<T> {
    const end = performance.now() + 1000 * this.#patience;
    const waits = backOff(0.05, 2);
    for (;;) {
      try {
        if (this.#closing.signal.aborted) throw new Error(`internal: the store \`${this.address}\` was closed`);
        return await work();
      } catch (error) {
        if (!isPassing(error) || performance.now() > end)
          throw postgresFault(this.address, doing, error, this.#secrets);
        await sleep(1000 * waits.next().value, undefined, { signal: this.#closing.signal }).catch(() => {});
      }
    }
  }
}

function isOwnReceipt(error: unknown): boolean {
  return codeOf(error) === "23505" && (error as { table?: unknown }).table === "receipt";
}
