/**
 * What goes wrong with a queue, in words: what, where, and what to do.
 *
 * In: errors of the drivers (`ioredis`, `pg`, BullMQ). Out: a `QueueError`. The driver's own error is not kept as its
 * cause: it may hold the command that failed, and that command may have been the one with the password.
 */

export class QueueError extends Error {
  /**
   * `unreachable`: the server does not answer, now; `refused`: it answers, and does not let us; `unprepared`: its tables
   * are not there, or of another version; `usage`: not an address.
   */
  readonly kind: "unreachable" | "refused" | "unprepared" | "usage";
  /** What to do, one sentence an entry. */
  readonly help: readonly string[];
  constructor(kind: QueueError["kind"], message: string, help: readonly string[]) {
    super(message);
    this.name = "QueueError";
    this.kind = kind;
    this.help = help;
  }
}

const REACH: readonly string[] = [
  "see that the server runs, and that this machine may reach it (firewall, `bind`, `listen_addresses`, pg_hba.conf)",
  "nothing is lost: the study is in its store, and the queue is filled again from there",
];

const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nobody listens there",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  ENOTFOUND: "there is no such host",
  EAI_AGAIN: "the host's name cannot be looked up at present",
  ETIMEDOUT: "no answer in time",
  EHOSTUNREACH: "there is no way to that host",
  ENETUNREACH: "there is no way to that network",
  "57P01": "the server is being shut down",
  "57P02": "the server is restarting after a crash",
  "57P03": "the server is starting up",
  "53300": "the server has no connection left for us: raise `max_connections`",
};

const REFUSED: Readonly<Record<string, string>> = {
  "28P01": "the password is wrong, or missing",
  "28000": "the server does not let this user in",
  "3D000": "there is no such database",
  "42501": "this user may not do that there",
};

/** The code of an error of the system or of PostgreSQL; of several at once (one for each address of a host), the first. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/**
 * An error of a driver in words.
 * @param clean strikes secrets out of a text
 */
export function queueFault(error: unknown, shown: string, clean: (text: string) => string): QueueError {
  if (error instanceof QueueError) return error;
  const code = codeOf(error);
  const said = clean(error instanceof Error ? error.message : String(error));
  const why = UNREACHABLE[code];
  if (/max retries per request|[Cc]onnection is closed|[Cc]ommand timed out|timeout expired|read timeout/.test(said))
    return new QueueError("unreachable", `cannot reach the queue ${shown}: no answer`, REACH);
  if (why !== undefined) return new QueueError("unreachable", `cannot reach the queue ${shown}: ${why}`, REACH);
  const refusal =
    REFUSED[code] ?? (/WRONGPASS|NOAUTH|NOPERM/.test(said) ? "the password is wrong, or missing" : undefined);
  if (refusal !== undefined)
    return new QueueError("refused", `the queue ${shown} refuses: ${refusal}`, [
      "give the password in the address, or in REDISCLI_AUTH (Redis, Valkey) or PGPASSWORD (PostgreSQL)",
      "see that user and database exist, and that the user may make tables there if it begins the study",
    ]);
  if (error instanceof Error && /^Schema|^UnsupportedPostgres/.test(error.name))
    return new QueueError("unprepared", `the queue ${shown} is not ready for this netc: ${said}`, [
      "start the study first (`netc search run … --queue`): it makes the queue's tables; then start the workers",
      "and run one version of netc everywhere",
    ]);
  return new QueueError("unreachable", `the queue ${shown} does not work: ${said}`, REACH);
}
