/**
 * Throw-away servers for the cluster tests: Redis and PostgreSQL of Debian's packages, on free ports of this machine, in
 * folders of their own, with passwords. They can be stopped, killed, paused, and started again on what they left.
 *
 * Where the programs come from, in this order: the machine's own; `apt-get install`, as root; the same packages unpacked
 * into a folder of the system's temporary one, which needs no root. NETC_TEST_SERVERS=unpack skips the second.
 */
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { delimiter, join } from "node:path";

const root = userInfo().uid === 0;
const CACHE = join(tmpdir(), `netc-test-servers-${userInfo().uid}`);

function sh(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", ...options });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(" ")} failed: ${error?.message ?? stderr.trim().split("\n").at(-1)}`);
}

function redisOf(prefix) {
  const paths = prefix === "" ? process.env.PATH.split(delimiter) : [join(prefix, "usr/bin")];
  for (const folder of paths)
    for (const name of ["redis-server", "valkey-server"])
      if (existsSync(join(folder, name))) return { program: join(folder, name), env: environmentOf(prefix) };
  return undefined;
}

function postgresOf(prefix) {
  const versions = join(prefix, "/usr/lib/postgresql");
  if (!existsSync(versions)) return undefined;
  for (const version of readdirSync(versions).sort((a, b) => Number(b) - Number(a))) {
    const folder = join(versions, version, "bin");
    if (existsSync(join(folder, "initdb"))) return { folder, env: environmentOf(prefix) };
  }
  return undefined;
}

function environmentOf(prefix) {
  if (prefix === "") return process.env;
  const machine = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" }[process.arch] ?? "";
  const libraries = ["usr/lib", "lib"].map((folder) => join(prefix, folder, machine));
  return { ...process.env, LD_LIBRARY_PATH: [...libraries, process.env.LD_LIBRARY_PATH ?? ""].join(delimiter) };
}

function install(packages) {
  // Runlevel 1: the packages' own services are not started.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  sh("apt-get", ["update", "-q"], { env });
  sh("apt-get", ["install", "-q", "-y", "--no-install-recommends", ...packages], { env });
}

/** Fetches packages with what they need and this machine lacks, and unpacks them. Needs apt's sources, and no root. */
function unpack(packages) {
  const state = join(CACHE, "apt");
  const archives = join(CACHE, "archives");
  mkdirSync(join(state, "lists/partial"), { recursive: true });
  mkdirSync(join(state, "cache/archives/partial"), { recursive: true });
  mkdirSync(archives, { recursive: true });
  const own = [
    `Dir::State::lists=${join(state, "lists")}`,
    `Dir::Cache=${join(state, "cache")}`,
    "Debug::NoLocking=1",
    "APT::Sandbox::User=",
  ].flatMap((option) => ["-o", option]);
  sh("apt-get", [...own, "update", "-q"]);
  const plan = sh("apt-get", [...own, "install", "--print-uris", "-qq", "-y", "--no-install-recommends", ...packages]);
  const missing = [...plan.matchAll(/^'[^']+' ([^_ ]+)_/gm)].map(([, name]) => name);
  sh("apt-get", [...own, "download", "-q", ...missing], { cwd: archives });
  for (const file of readdirSync(archives)) sh("dpkg", ["-x", join(archives, file), join(CACHE, "root")]);
}

/** The servers' programs, fetched where they are missing. */
export function serverPrograms(kinds = ["redis", "postgres"], say = () => undefined) {
  const unpacking = process.env.NETC_TEST_SERVERS === "unpack";
  const find = () => {
    const first = (look) => ["", join(CACHE, "root")].map(look).find((found) => found !== undefined);
    return { redis: first(redisOf), postgres: first(postgresOf) };
  };
  const packagesOf = { redis: "redis-server", postgres: "postgresql" };
  const lacking = kinds.filter((kind) => find()[kind] === undefined);
  if (lacking.length > 0) {
    const packages = lacking.map((kind) => packagesOf[kind]);
    say(`fetching Debian's ${packages.join(" and ")}`);
    if (root && !unpacking) install(packages);
    else unpack(packages);
  }
  const found = find();
  for (const kind of kinds)
    if (found[kind] === undefined)
      throw new Error(`${packagesOf[kind]} is not on this machine and could not be fetched: install Debian's package`);
  return found;
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

function answers(port) {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** Seconds of the processor that a process has used, and those of its children that have ended. */
function processorOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // Linux counts in hundredths of a second everywhere that Node runs.
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / 100;
  } catch {
    return 0;
  }
}

/** A process and everything it has begun. */
function family(pid) {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        return [{ pid: Number(name), parent: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) }];
      } catch {
        return [];
      }
    });
  const members = [pid];
  for (let at = 0; at < members.length; at++)
    members.push(...parents.filter(({ parent }) => parent === members[at]).map(({ pid }) => pid));
  return members;
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

const running = new Set();
process.on("exit", () => {
  for (const server of running) server.end();
});
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(name, () => process.exit(1));

class Server {
  constructor(name, port) {
    this.name = name;
    this.port = port;
    this.password = randomBytes(12).toString("hex");
    this.folder = mkdtempSync(join(tmpdir(), `netc-test-${name}-`));
    this.child = undefined;
    running.add(this);
  }

  launch(program, args, options) {
    const child = spawn(program, args, { cwd: this.folder, stdio: ["ignore", "pipe", "pipe"], ...options });
    this.child = child;
    this.said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (data) => {
        this.said = (this.said + data).slice(-4000);
      });
    this.ended = new Promise((resolve) => child.once("close", resolve));
    return child;
  }

  async start() {
    for (let tries = 0; tries < 60; tries++) {
      const child = this.begin();
      // After a crash PostgreSQL may find its old memory still in use, and ends: try again.
      while (child.exitCode === null && child.signalCode === null) {
        if ((await answers(this.port)) && (await this.ready())) return;
        await sleep(0.1);
      }
      await sleep(0.5);
    }
    throw new Error(`${this.name} does not start: ${this.said}`);
  }

  async ready() {
    return true;
  }

  /** `SIGTERM` or `SIGINT`: in order; `SIGKILL`: not at all. */
  async stop(name) {
    signal(this.child.pid, name);
    await this.ended;
  }

  async pause(seconds) {
    // The parent first: it makes no more children then.
    signal(this.child.pid, "SIGSTOP");
    const members = family(this.child.pid);
    for (const pid of members) signal(pid, "SIGSTOP");
    await sleep(seconds);
    for (const pid of members.reverse()) signal(pid, "SIGCONT");
  }

  /** Seconds of the processor that it has used. */
  seconds() {
    return family(this.child.pid).reduce((sum, pid) => sum + processorOf(pid), 0);
  }

  /** The last thing: ends the server at once and removes what it left. */
  end() {
    if (!running.delete(this)) return;
    if (this.child !== undefined) for (const pid of family(this.child.pid)) signal(pid, "SIGKILL");
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

export class RedisServer extends Server {
  /** @param kept whether it keeps a log, so that a killed one loses a second at most; else it loses everything */
  constructor({ program, env }, port, { kept = true } = {}) {
    super("redis", port);
    this.program = program;
    this.env = env;
    this.kept = kept;
  }

  get address() {
    return `redis://:${this.password}@127.0.0.1:${this.port}`;
  }

  begin() {
    const file = join(this.folder, "redis.conf");
    const settings = [
      `port ${this.port}`,
      "bind 127.0.0.1",
      `dir ${this.folder}`,
      `requirepass ${this.password}`,
      "maxmemory-policy noeviction",
      'save ""',
      `appendonly ${this.kept ? "yes" : "no"}`,
      "appendfsync everysec",
    ];
    writeFileSync(file, `${settings.join("\n")}\n`, { mode: 0o600 });
    return this.launch(this.program, [file], { env: this.env });
  }
}

export class PostgresServer extends Server {
  constructor({ folder, env }, port) {
    super("postgres", port);
    this.programs = folder;
    this.env = env;
    this.data = join(this.folder, "data");
    // PostgreSQL does not run as root.
    this.user = root ? nobody() : {};
    if (root) chownSync(this.folder, this.user.uid, this.user.gid);
    const passwordFile = join(this.folder, "password");
    writeFileSync(passwordFile, `${this.password}\n`);
    const args = ["-D", this.data, "-U", "netc", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "--no-sync"];
    sh(join(folder, "initdb"), [...args, `--pwfile=${passwordFile}`], { env, cwd: this.folder, ...this.user });
  }

  get address() {
    return `postgres://netc:${this.password}@127.0.0.1:${this.port}/postgres`;
  }

  begin() {
    const settings = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: this.folder,
      max_connections: 800,
      shared_buffers: "64MB",
    };
    const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    return this.launch(join(this.programs, "postgres"), ["-D", this.data, "-p", String(this.port), ...options], {
      env: this.env,
      ...this.user,
    });
  }

  async ready() {
    return this.said.includes("ready to accept connections");
  }
}

function nobody() {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("nobody:"));
  const [, , uid, gid] = (line ?? "nobody:x:65534:65534").split(":");
  return { uid: Number(uid), gid: Number(gid) };
}
