/**
 * What a store needs of a database, and no more: statements with numbered parameters, and transactions that are written
 * once or not at all.
 *
 * Statements are written once for both systems. Where these differ a word in braces stands for what each one says:
 * `{now}`, the database's own clock in milliseconds since 1970; `{lock}`, which keeps rows that were read from changing
 * until the transaction ends; `{skip}`, behind it: do not wait for rows that somebody else has locked. SQLite has one
 * writer at a time and needs neither.
 */
export type Value = string | number | Uint8Array | null;
export type Row = Readonly<Record<string, Value | undefined>>;

export interface Session {
  /** One statement, its parameters as `$1`, `$2`, …; the rows that it gives. */
  query(sql: string, parameters?: readonly Value[]): Promise<readonly Row[]>;
}

/** Errors are `StoreError`s that begin with what could not be done: "cannot `doing` in `address`". */
export interface Database {
  readonly kind: "sqlite" | "postgres";
  /** Without secrets. */
  readonly address: string;
  /** Of PostgreSQL, the schema that holds the tables. */
  readonly schema: string | undefined;
  /** Statements that only read; no transaction holds them together. */
  read<T>(doing: string, work: (session: Session) => Promise<T>): Promise<T>;
  /**
   * A transaction that writes. `work` may be done again from its beginning if the first time came to nothing, so it
   * changes nothing but the database; when this is done, it is on the disk, and once.
   * @param lasting false for what may be lost with the machine's power, and done twice: it does not wait for the disk
   */
  write<T>(doing: string, work: (session: Session) => Promise<T>, lasting?: boolean): Promise<T>;
  close(): Promise<void>;
}

/** Seconds between attempts, growing, and of different length for everyone so that not all come back at once. */
export function* backOff(first: number, longest: number): Generator<number, never> {
  for (let wait = first; ; wait = Math.min(longest, 2 * wait)) yield wait * (0.5 + Math.random());
}

// Drivers give what the column holds; these say what a column must hold, and that is in the schema.

export function text(row: Row, name: string): string {
  const value = row[name];
  if (typeof value !== "string") throw new Error(`internal: column ${name} of the store holds no text`);
  return value;
}

export function number(row: Row, name: string): number {
  const value = row[name];
  if (typeof value !== "number") throw new Error(`internal: column ${name} of the store holds no number`);
  return value;
}

export function optionalText(row: Row, name: string): string | undefined {
  return row[name] === null ? undefined : text(row, name);
}

export function optionalNumber(row: Row, name: string): number | undefined {
  return row[name] === null ? undefined : number(row, name);
}
