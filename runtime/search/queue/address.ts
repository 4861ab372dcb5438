/**
 * Addresses of queues: what a person writes after `--queue`, taken apart.
 *
 * In: the address and the environment. Out: what the drivers want to know, and the address as it may be shown. A password
 * may be in the address or in the environment, under the names that the servers' own tools read (REDISCLI_AUTH,
 * PGPASSWORD, and whatever else libpq knows, which `pg` reads by itself). From here on it is in the drivers' options
 * only: messages, logs and errors have the shown address, and `withoutSecrets` goes over every text of a driver.
 */
import { QueueError } from "./errors.ts";

export interface RedisAddress {
  readonly kind: "redis";
  /** Without secrets. */
  readonly shown: string;
  readonly secrets: readonly string[];
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  readonly tls: boolean;
}

export interface PostgresAddress {
  readonly kind: "postgres";
  /** Without secrets. */
  readonly shown: string;
  readonly secrets: readonly string[];
  /** For `pg`, with secrets. */
  readonly connectionString: string;
}

export type QueueAddress = RedisAddress | PostgresAddress;

const REDIS = new Set(["redis:", "rediss:", "valkey:", "valkeys:"]);
const POSTGRES = new Set(["postgres:", "postgresql:"]);
const EXAMPLES = [
  "write redis://HOST:6379 for Redis or Valkey, postgres://USER@HOST/DATABASE for PostgreSQL",
  "leave the password out and put it into REDISCLI_AUTH or PGPASSWORD where others can read the command line",
];

/** @throws QueueError of kind "usage" for what is not the address of a queue; its message does not repeat the password */
export function parseQueueAddress(
  text: string,
  environment: Readonly<Record<string, string | undefined>>,
): QueueAddress {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new QueueError("usage", "the address of the queue cannot be read", EXAMPLES);
  }
  const given = decoded(url.password);
  const shown = shownAddress(url);
  if (POSTGRES.has(url.protocol)) {
    const secrets = [given, url.password, url.searchParams.get("password"), environment["PGPASSWORD"]];
    return { kind: "postgres", shown, secrets: secrets.filter(isSecret), connectionString: text };
  }
  if (!REDIS.has(url.protocol))
    throw new QueueError("usage", `\`${url.protocol}//\` is no kind of queue that netc knows`, EXAMPLES);
  if (url.hostname === "") throw new QueueError("usage", `the address \`${shown}\` has no host`, EXAMPLES);
  const path = url.pathname.replace(/^\//, "");
  if (!/^\d*$/.test(path))
    throw new QueueError("usage", `\`${path}\` in \`${shown}\` is not the number of a Redis database`, EXAMPLES);
  const password = given === "" ? environment["REDISCLI_AUTH"] : given;
  return {
    kind: "redis",
    shown,
    secrets: [password, url.password].filter(isSecret),
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? 6379 : Number(url.port),
    username: url.username === "" ? undefined : decoded(url.username),
    password: password === "" ? undefined : password,
    database: Number(path),
    tls: /^(rediss|valkeys):$/.test(url.protocol),
  };
}

/** The address without its password, and without parameters, for one of them may be a password or a key. */
function shownAddress(url: URL): string {
  const user = url.username === "" ? "" : `${url.username}@`;
  return `${url.protocol}//${user}${url.host}${url.pathname === "/" ? "" : url.pathname}`;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function isSecret(text: string | null | undefined): text is string {
  return text !== undefined && text !== null && text !== "";
}

/** A text of a driver or a server, with every secret of the address struck out. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  return secrets.reduce((clean, secret) => clean.replaceAll(secret, "***"), text);
}
