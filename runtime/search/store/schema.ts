/**
 * The tables of a store, the same for SQLite and PostgreSQL, and how a store of an earlier netc is brought up to them.
 *
 * What only netc reads is kept as JSON; what is asked for, counted or joined has columns. In PostgreSQL the tables lie in
 * a schema of their own, so that a queue may live in the same database.
 */
import { type Database, type Session, text } from "./database.ts";
import { StoreError } from "./error.ts";

/** Statements that lead from each version to the next; the first makes all tables. Never change one: add one. */
const MIGRATIONS: readonly (readonly string[])[] = [
  [
    // What is looked at often, apart from what is long and never changes.
    `CREATE TABLE study (
      id TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      search_hash TEXT NOT NULL,
      data_hash TEXT NOT NULL,
      data TEXT NOT NULL,
      netc TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('running', 'paused', 'complete', 'cancelled')),
      created BIGINT NOT NULL,
      decided BIGINT NOT NULL DEFAULT 0,
      observed BIGINT NOT NULL DEFAULT 0
    )`,
    // The search without its candidates, and the sources, as JSON.
    `CREATE TABLE study_text (
      study TEXT PRIMARY KEY REFERENCES study (id),
      search TEXT NOT NULL,
      sources TEXT NOT NULL
    )`,
    `CREATE TABLE candidate (
      study TEXT NOT NULL REFERENCES study (id),
      place BIGINT NOT NULL,
      hash TEXT NOT NULL,
      label TEXT NOT NULL,
      record TEXT NOT NULL,
      PRIMARY KEY (study, place)
    )`,
    `CREATE TABLE trial (
      id TEXT PRIMARY KEY,
      study TEXT NOT NULL REFERENCES study (id),
      number BIGINT NOT NULL,
      candidate TEXT NOT NULL,
      phase TEXT NOT NULL CHECK (phase IN ('baseline', 'screen', 'search', 'random', 'confirm', 'final')),
      replicate BIGINT NOT NULL,
      seed BIGINT NOT NULL,
      epochs DOUBLE PRECISION NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'complete', 'failed', 'cancelled')),
      attempt BIGINT NOT NULL DEFAULT 0,
      fruitless BIGINT NOT NULL DEFAULT 0,
      worker TEXT,
      heartbeat BIGINT,
      error TEXT,
      started BIGINT,
      ended BIGINT,
      checkpoint TEXT,
      furthest DOUBLE PRECISION,
      progressed BIGINT NOT NULL DEFAULT 0,
      UNIQUE (study, number),
      UNIQUE (study, candidate, phase, replicate)
    )`,
    "CREATE INDEX trial_by_state ON trial (study, state, number)",
    `CREATE TABLE rung (
      trial TEXT NOT NULL REFERENCES trial (id),
      epochs DOUBLE PRECISION NOT NULL,
      value DOUBLE PRECISION NOT NULL,
      checkpoint TEXT,
      attempt BIGINT NOT NULL,
      PRIMARY KEY (trial, epochs)
    )`,
    // A value that is no number is NULL: SQLite has no NaN.
    `CREATE TABLE metric (
      trial TEXT NOT NULL REFERENCES trial (id),
      name TEXT NOT NULL,
      epoch DOUBLE PRECISION NOT NULL,
      value DOUBLE PRECISION,
      attempt BIGINT NOT NULL,
      PRIMARY KEY (trial, name, epoch)
    )`,
    `CREATE TABLE result (
      trial TEXT PRIMARY KEY REFERENCES trial (id),
      value DOUBLE PRECISION NOT NULL,
      attempt BIGINT NOT NULL,
      record TEXT NOT NULL
    )`,
    // The whole decision is the record.
    `CREATE TABLE decision (
      study TEXT NOT NULL REFERENCES study (id),
      sequence BIGINT NOT NULL,
      method TEXT NOT NULL,
      seen BIGINT NOT NULL,
      record TEXT NOT NULL,
      PRIMARY KEY (study, sequence)
    )`,
    `CREATE TABLE observation (
      study TEXT NOT NULL REFERENCES study (id),
      sequence BIGINT NOT NULL,
      trial TEXT NOT NULL REFERENCES trial (id),
      epochs DOUBLE PRECISION NOT NULL,
      value DOUBLE PRECISION,
      PRIMARY KEY (study, sequence)
    )`,
    `CREATE TABLE leader (
      study TEXT PRIMARY KEY REFERENCES study (id),
      who TEXT NOT NULL,
      until BIGINT NOT NULL
    )`,
    // Bytes that are kept, here or in a folder; `stored`: when somebody last brought them.
    `CREATE TABLE object (
      hash TEXT PRIMARY KEY,
      bytes BIGINT NOT NULL,
      stored BIGINT NOT NULL
    )`,
    // What a trial refers to, and as what: gone with the reason, and then the object may go.
    `CREATE TABLE trial_object (
      trial TEXT NOT NULL REFERENCES trial (id),
      role TEXT NOT NULL,
      hash TEXT NOT NULL,
      PRIMARY KEY (trial, role)
    )`,
    "CREATE INDEX trial_object_by_hash ON trial_object (hash)",
  ],
];

/** What only PostgreSQL has: the bytes of objects, and what tells whether a transaction was written (postgres.ts). */
const POSTGRES_MIGRATIONS: readonly (readonly string[])[] = [
  [
    `CREATE TABLE object_part (
      hash TEXT NOT NULL REFERENCES object (hash) ON DELETE CASCADE,
      part BIGINT NOT NULL,
      data BYTEA NOT NULL,
      PRIMARY KEY (hash, part)
    )`,
    "ALTER TABLE object_part ALTER COLUMN data SET STORAGE EXTERNAL",
    "CREATE TABLE receipt (token TEXT PRIMARY KEY, written BIGINT NOT NULL)",
  ],
];

const PROGRAM = "netc study store";

/** Every step of a kind of database, in order. */
function stepsOf(kind: Database["kind"]): readonly (readonly string[])[] {
  return kind === "sqlite"
    ? MIGRATIONS
    : MIGRATIONS.map((step, index) => [...step, ...(POSTGRES_MIGRATIONS[index] ?? [])]);
}

async function tablesOf(session: Session, { schema }: Database): Promise<readonly string[]> {
  const rows = await (schema === undefined
    ? session.query("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
    : session.query(
        `SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`,
        [schema],
      ));
  return rows.map((row) => text(row, "name"));
}

async function versionOf(session: Session, database: Database): Promise<number> {
  const tables = await tablesOf(session, database);
  if (tables.length === 0) return 0;
  const stranger = new StoreError(
    "refused",
    `\`${database.address}\` holds tables of another program: name another ` +
      (database.schema === undefined ? "file" : "database, or another schema with `?schema=NAME`"),
  );
  if (!tables.includes("store")) throw stranger;
  const [row] = await session.query("SELECT program, version FROM store").catch((error: unknown) => {
    // A table of that name, but with other columns, is another program's.
    if (error instanceof StoreError && error.kind !== "refused") throw error;
    throw stranger;
  });
  const version = row?.["version"];
  if (row?.["program"] !== PROGRAM || typeof version !== "number") throw stranger;
  return version;
}

/**
 * Makes the tables where there are none, and checks their version where there are. Of several that come at the same time
 * one makes them.
 * @param migrate whether an earlier netc's tables are changed; it cannot use them afterwards
 * @throws StoreError (refused) for tables of another program or another version
 */
export async function prepareSchema(
  database: Database,
  migrate: boolean,
  steps: readonly (readonly string[])[] = stepsOf(database.kind),
): Promise<void> {
  const { schema, address } = database;
  const newest = steps.length;
  const check = (version: number): boolean => {
    if (version > newest)
      throw new StoreError(
        "refused",
        `\`${address}\` was made by a later netc (schema ${version}, and this one knows ${newest}): use that netc, or ` +
          "name another store",
      );
    if (version > 0 && version < newest && !migrate)
      throw new StoreError(
        "refused",
        `\`${address}\` was made by an earlier netc (schema ${version}, and this one writes ${newest}): end all its ` +
          "workers and migrate it, after which the earlier netc cannot use it any more, or name another store",
      );
    return version === newest;
  };
  const doing = "prepare the tables";
  if (check(await database.read(doing, (session) => versionOf(session, database)))) return;
  await database.write(doing, async (session) => {
    if (schema !== undefined) {
      // Two that make the same tables at the same time get in each other's way in PostgreSQL's catalogue.
      await session.query("SELECT pg_advisory_xact_lock(hashtext($1))", [`${PROGRAM} ${schema}`]);
      await session.query(`CREATE SCHEMA IF NOT EXISTS "${schema}"`);
    }
    const version = await versionOf(session, database);
    if (check(version)) return;
    if (version === 0) {
      await session.query("CREATE TABLE store (program TEXT NOT NULL, version BIGINT NOT NULL)");
      await session.query("INSERT INTO store VALUES ($1, 0)", [PROGRAM]);
    }
    for (const step of steps.slice(version)) for (const statement of step) await session.query(statement);
    await session.query("UPDATE store SET version = $1", [newest]);
  });
}
