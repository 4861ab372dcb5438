/**
 * Who holds a trial, and what it refers to: the pieces that the store's transactions on trials are made of.
 *
 * Who needs both locks the study before the trial, so that nobody waits in a circle.
 */
import { number, type Row, type Session, text } from "./database.ts";

const LOCKED = "id, study, state, attempt, fruitless, epochs, checkpoint, furthest, progressed";

export async function locked(session: Session, trial: string): Promise<Row | undefined> {
  return (await session.query(`SELECT ${LOCKED} FROM trial WHERE id = $1 {lock}`, [trial]))[0];
}

export async function lockedWithStudy(session: Session, trial: string): Promise<Row | undefined> {
  await session.query("SELECT id FROM study WHERE id = (SELECT study FROM trial WHERE id = $1) {lock}", [trial]);
  return locked(session, trial);
}

/** Whether the attempt is the newest, and still under way. */
export function isHeld(row: Row, attempt: number): boolean {
  return number(row, "attempt") === attempt && text(row, "state") === "running";
}

/** Whoever writes is alive. Locks the trial's row; false if it is not the attempt's any more. */
export async function beat(session: Session, trial: string, attempt: number): Promise<boolean> {
  const rows = await session.query(
    "UPDATE trial SET heartbeat = {now} WHERE id = $1 AND attempt = $2 AND state = 'running' RETURNING id",
    [trial, attempt],
  );
  return rows.length > 0;
}

export async function refer(session: Session, trial: string, role: string, hash: string): Promise<void> {
  await session.query(
    `INSERT INTO trial_object (trial, role, hash) VALUES ($1, $2, $3)
     ON CONFLICT (trial, role) DO UPDATE SET hash = excluded.hash`,
    [trial, role, hash],
  );
}

export async function forget(session: Session, trial: string): Promise<void> {
  await session.query("DELETE FROM trial_object WHERE trial = $1", [trial]);
}
