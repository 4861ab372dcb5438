/**
 * A throw-away PostgreSQL server on a free port, in a folder of its own, with a password that is easy to find in a text.
 *
 * Its programs are the machine's own (Debian: `apt-get install postgresql`), or those that the cluster test unpacked into
 * the system's temporary folder. Where this runs as root the server runs as `nobody`, for PostgreSQL refuses root.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const PASSWORD = "open-sesame 42";

interface Programs {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
}

function programs(): Programs {
  const unpacked = join(tmpdir(), `netc-test-servers-${userInfo().uid}`, "root");
  for (const prefix of ["", unpacked]) {
    const versions = join(prefix, "/usr/lib/postgresql");
    const found = existsSync(versions) ? readdirSync(versions).toSorted((a, b) => Number(b) - Number(a)) : [];
    for (const version of found) {
      const folder = join(versions, version, "bin");
      if (!existsSync(join(folder, "initdb"))) continue;
      const machine = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
      const libraries = ["usr/lib", "lib"].map((name) => join(prefix, name, machine));
      const path = prefix === "" ? undefined : [...libraries, process.env["LD_LIBRARY_PATH"] ?? ""].join(delimiter);
      return { folder, env: { ...process.env, ...(path === undefined ? {} : { LD_LIBRARY_PATH: path }) } };
    }
  }
  throw new Error("PostgreSQL is not on this machine: install Debian's package `postgresql`");
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

export class Postgres {
  readonly port: number;
  readonly #folder: string;
  readonly #programs: Programs;
  readonly #as: { readonly uid?: number; readonly gid?: number };
  #server: ChildProcess | undefined;
  #said = "";

  private constructor(port: number) {
    this.port = port;
    this.#programs = programs();
    this.#folder = mkdtempSync(join(tmpdir(), "netc-postgres-"));
    this.#as = userInfo().uid === 0 ? nobody() : {};
    if (this.#as.uid !== undefined && this.#as.gid !== undefined) chownSync(this.#folder, this.#as.uid, this.#as.gid);
    const password = join(this.#folder, "password");
    writeFileSync(password, `${PASSWORD}\n`);
    const args = ["-D", join(this.#folder, "data"), "-U", "netc", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256"];
    const { status, stderr } = spawnSync(
      join(this.#programs.folder, "initdb"),
      [...args, "--no-sync", `--pwfile=${password}`],
      { cwd: this.#folder, encoding: "utf8", env: this.#programs.env, ...this.#as },
    );
    if (status !== 0) throw new Error(`initdb failed: ${stderr}`);
  }

  static async make(): Promise<Postgres> {
    const server = new Postgres(await freePort());
    await server.start();
    return server;
  }

  address(
    database: string = "postgres",
    { port = this.port, password = PASSWORD, more = "" }: { port?: number; password?: string; more?: string } = {},
  ): string {
    return `postgres://netc:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}${more}`;
  }

  async start(): Promise<void> {
    for (let tries = 0; tries < 50; tries++) {
      const folder = this.#folder;
      // What the kernel holds outlasts every fault of these tests; only a power cut would need the disk.
      const settings = ["listen_addresses=127.0.0.1", `unix_socket_directories=${folder}`, "fsync=off"];
      const args = ["-D", join(folder, "data"), "-p", String(this.port), ...settings.flatMap((one) => ["-c", one])];
      const server = spawn(join(this.#programs.folder, "postgres"), args, {
        cwd: folder,
        env: this.#programs.env,
        stdio: ["ignore", "ignore", "pipe"],
        ...this.#as,
      });
      this.#said = "";
      server.stderr.setEncoding("utf8").on("data", (text: string) => {
        this.#said += text;
      });
      this.#server = server;
      while (server.exitCode === null && server.signalCode === null) {
        if (this.#said.includes("ready to accept connections")) return;
        await sleep(20);
      }
      // After a kill its old memory may still be in use.
      await sleep(200);
    }
    throw new Error(`PostgreSQL does not start: ${this.#said}`);
  }

  /** SIGINT: connections are cut, in order; SIGKILL: as in a power cut, but for what the kernel holds. */
  async stop(signal: "SIGINT" | "SIGKILL"): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const ended = new Promise((resolve) => server.once("close", resolve));
    server.kill(signal);
    await ended;
  }

  /** From here on connections are made by the kernel and answered by nobody; with false the server goes on. */
  freeze(frozen: boolean): void {
    this.#server?.kill(frozen ? "SIGSTOP" : "SIGCONT");
  }

  /** Runs statements as the server's owner; gives what psql prints. */
  sql(database: string, statements: string): string {
    const { status, stdout, stderr } = spawnSync(
      join(this.#programs.folder, "psql"),
      [
        "-h",
        "127.0.0.1",
        "-p",
        String(this.port),
        "-U",
        "netc",
        "-d",
        database,
        "-At",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        statements,
      ],
      { encoding: "utf8", env: { ...this.#programs.env, PGPASSWORD: PASSWORD } },
    );
    if (status !== 0) throw new Error(stderr);
    return stdout.trim();
  }

  async end(): Promise<void> {
    await this.stop("SIGINT");
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

function nobody(): { readonly uid: number; readonly gid: number } {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("nobody:"));
  const [, , uid, gid] = (line ?? "nobody:x:65534:65534").split(":");
  return { uid: Number(uid), gid: Number(gid) };
}

/** Stands between a client and a server, and can cut connections at the worst moment. */
export class Wire {
  /** Called with every piece that a client sends: cut the connection before the server gets it, or after that? */
  watch: (sent: Buffer) => "before" | "after" | "never" = () => "never";
  readonly port: number;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets = new Set<Socket>();

  private constructor(server: ReturnType<typeof createServer>, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async to(port: number): Promise<Wire> {
    const own = await freePort();
    const server = createServer();
    const wire = new Wire(server, own);
    server.on("connection", (client) => {
      const target = createConnection({ port, host: "127.0.0.1" });
      for (const [from, to] of [
        [client, target],
        [target, client],
      ] as const) {
        wire.#sockets.add(from);
        from.on("error", () => {});
        from.on("close", () => {
          wire.#sockets.delete(from);
          to.destroy();
        });
      }
      client.on("data", (data) => {
        const cut = wire.watch(data);
        if (cut === "never") {
          target.write(data);
          return;
        }
        // The answer is lost, whatever it is.
        target.removeAllListeners("data").resume();
        if (cut === "before") client.destroy();
        else target.write(data, () => client.destroy());
      });
      target.on("data", (data) => client.write(data));
    });
    await new Promise<void>((resolve) => server.listen(own, "127.0.0.1", resolve));
    return wire;
  }

  async end(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
