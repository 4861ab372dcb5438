/**
 * Keeping, reading, checking and removing the objects of a store: the part that is the same wherever the bytes are
 * (places.ts).
 *
 * Whoever brings an object and whoever removes what nobody refers to may meet. So both go by the object's row in the
 * database: bringing writes into it when that was, in the same transaction in which the bytes take their name; removing
 * deletes the row, and the bytes with it, only if nobody has brought the object for a while.
 */
import { createHash } from "node:crypto";
import { type Database, number, text } from "./database.ts";
import { StoreError } from "./error.ts";
import type { ObjectPlace, Prepared } from "./places.ts";

const HASH = /^[0-9a-f]{64}$/;
/** How long an object that no trial refers to stays while trials are running: one of them may be about to refer to it. */
const GRACE_MS = 3_600_000;
/** Objects that are removed in one transaction. */
const GARBAGE_BATCH = 100;

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export async function putObject(database: Database, place: ObjectPlace, bytes: Uint8Array): Promise<string> {
  const hash = hashOf(bytes);
  const { byteLength } = bytes;
  const doing = `write an object of ${byteLength} bytes`;
  let ready = await database.read(doing, (session) => place.has(session, hash, byteLength));
  let prepared: Prepared | undefined;
  try {
    for (;;) {
      if (!ready) prepared = await place.prepare(hash, bytes);
      const kept = await database.write(doing, async (session) => {
        await session.query(
          `INSERT INTO object (hash, bytes, stored) VALUES ($1, $2, {now})
           ON CONFLICT (hash) DO UPDATE SET stored = excluded.stored`,
          [hash, byteLength],
        );
        if (await place.has(session, hash, byteLength)) return true;
        await prepared?.keep(session);
        return prepared !== undefined;
      });
      if (kept) return hash;
      // It was removed between the two looks, when nothing was ready: once more.
      ready = false;
    }
  } finally {
    await prepared?.discard();
  }
}

export async function getObject(database: Database, place: ObjectPlace, hash: string): Promise<Uint8Array | undefined> {
  if (!HASH.test(hash)) return undefined;
  return database.read("read an object", async (session) => {
    const [row] = await session.query("SELECT bytes FROM object WHERE hash = $1", [hash]);
    if (row === undefined) return undefined;
    const bytes = await place.read(session, hash, number(row, "bytes"));
    if (bytes !== undefined && hashOf(bytes) !== hash)
      throw new StoreError(
        "damaged",
        `object ${hash} in \`${database.address}\` is not what was stored: its bytes were changed; \`netc search verify\` ` +
          "says which trial needs it",
      );
    return bytes;
  });
}

/** Removes what no trial refers to. */
export async function collectGarbage(
  database: Database,
  place: ObjectPlace,
): Promise<{ readonly objects: number; readonly bytes: number }> {
  const doing = "collect garbage";
  const [facts = {}] = await database.read(doing, (session) =>
    session.query("SELECT {now} AS now, (SELECT count(*) FROM trial WHERE state = 'running') AS running"),
  );
  // Where nothing runs, nobody is about to refer to what was brought before this moment.
  const before = number(facts, "now") - (number(facts, "running") > 0 ? GRACE_MS : 0);
  let objects = 0;
  let bytes = 0;
  for (;;) {
    const gone = await database.write(doing, async (session) => {
      const rows = await session.query(
        `DELETE FROM object WHERE stored < $1 AND hash IN (
           SELECT o.hash FROM object o WHERE o.stored < $1
             AND NOT EXISTS (SELECT 1 FROM trial_object t WHERE t.hash = o.hash) LIMIT ${GARBAGE_BATCH})
         RETURNING hash, bytes`,
        [before],
      );
      for (const row of rows) await place.drop(text(row, "hash"));
      return rows;
    });
    objects += gone.length;
    bytes += gone.reduce((sum, row) => sum + number(row, "bytes"), 0);
    if (gone.length < GARBAGE_BATCH) break;
  }
  await adoptStrays(database, place, doing);
  return { objects, bytes };
}

/** Files that the database does not know get a row, and are garbage the next time if nobody refers to them. */
async function adoptStrays(database: Database, place: ObjectPlace, doing: string): Promise<void> {
  const known = await database.read(doing, (session) => session.query("SELECT hash FROM object"));
  const strays = await place.strays(new Set(known.map((row) => text(row, "hash"))));
  if (strays.length === 0) return;
  await database.write(doing, async (session) => {
    for (const { hash, bytes } of strays)
      await session.query(
        "INSERT INTO object (hash, bytes, stored) VALUES ($1, $2, {now}) ON CONFLICT (hash) DO NOTHING",
        [hash, bytes],
      );
  });
}

/** Objects that are not what their name says, and those that a trial refers to and that are not there. */
export async function verifyObjects(
  database: Database,
  place: ObjectPlace,
): Promise<readonly { readonly hash: string; readonly problem: string }[]> {
  const doing = "check the objects";
  // The parameters' hash names them whether they are kept or not.
  const references = await database.read(doing, (session) =>
    session.query(
      `SELECT o.hash, o.role, t.number FROM trial_object o JOIN trial t ON t.id = o.trial
       WHERE o.role <> 'weights' ORDER BY t.number, o.role`,
    ),
  );
  const needed = new Map<string, string>();
  for (const row of references) {
    const hash = text(row, "hash");
    if (!needed.has(hash)) needed.set(hash, `it is the ${text(row, "role")} of trial ${number(row, "number")}`);
  }
  const rows = await database.read(doing, (session) => session.query("SELECT hash, bytes FROM object ORDER BY hash"));
  const problems: { readonly hash: string; readonly problem: string }[] = [];
  const there = new Set<string>();
  for (const row of rows) {
    const hash = text(row, "hash");
    const bytes = await database.read(doing, (session) => place.read(session, hash, number(row, "bytes")));
    // One without bytes that nobody needs is what a removal left that was cut off.
    if (bytes === undefined) continue;
    there.add(hash);
    if (hashOf(bytes) !== hash)
      problems.push({
        hash,
        problem: `its ${bytes.byteLength} bytes are not those that were stored; ${needed.get(hash) ?? "no trial needs it"}`,
      });
  }
  for (const [hash, use] of needed) if (!there.has(hash)) problems.push({ hash, problem: `it is missing; ${use}` });
  return problems;
}
