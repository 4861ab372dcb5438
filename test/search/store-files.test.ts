/** What can go wrong with a store that is a file and a folder: where it may not be, damage, a full disk, other programs. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { DEFAULT_STORE, parseStoreAddress } from "../../runtime/search/store/address.ts";
import { mountTypeOf, networkFileSystem } from "../../runtime/search/store/file-system.ts";
import { openStore, type StoreOptions } from "../../runtime/search/store/open.ts";
import { ObjectFolder } from "../../runtime/search/store/places.ts";
import { postgresFault } from "../../runtime/search/store/postgres.ts";
import { prepareSchema } from "../../runtime/search/store/schema.ts";
import { openSqlite } from "../../runtime/search/store/sqlite.ts";
import { SqlStore } from "../../runtime/search/store/store.ts";
import type { StudyStore } from "../../runtime/search/study.ts";
import { type Disk, realDisk } from "../../runtime/train/disk.ts";
import { allOf, decisionWith, failureOf, resultWith, studyIn, studyWith, trialWith } from "./store-tools.ts";

const at = mkdtempSync(join(tmpdir(), "netc-files-"));
afterAll(() => rmSync(at, { recursive: true, force: true }));
const folder = (): string => mkdtempSync(join(at, "f-"));
const plain = (text: string): string => text.replaceAll(at, "").replaceAll(/f-\w{6}/g, "F");

const opened: StudyStore[] = [];
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});
async function open(address: string, options?: StoreOptions): Promise<StudyStore> {
  const store = await openStore(address, options);
  opened.push(store);
  return store;
}
const openSmall = (file: string, driver?: "libsql") => openSqlite(file, `sqlite:${file}`, { patience: 1, driver });
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe("an address", () => {
  const sqlite = (address: string): readonly string[] => {
    const parsed = parseStoreAddress(address);
    return parsed.kind === "sqlite" ? [parsed.shown, parsed.file, parsed.objects].map(plain) : [];
  };

  test("is a folder or a file", () => {
    const here = process.cwd();
    writeFileSync(join(at, "plain"), "");
    expect(sqlite(join(at, "a"))).toEqual(["sqlite:/a", "/a/store.db", "/a/objects"]);
    expect(sqlite(`sqlite:${at}/a`)).toEqual(["sqlite:/a", "/a/store.db", "/a/objects"]);
    expect(sqlite(`sqlite://${at}/a.sqlite3`)).toEqual(["sqlite:/a.sqlite3", "/a.sqlite3", "/a.sqlite3.objects"]);
    expect(sqlite(join(at, "b.db"))).toEqual(["sqlite:/b.db", "/b.db", "/b.db.objects"]);
    expect(sqlite(join(at, "plain"))).toEqual(["sqlite:/plain", "/plain", "/plain.objects"]);
    expect(sqlite(DEFAULT_STORE)[1]).toBe(join(here, "studies/store.db"));
  });

  test("of a server keeps its secrets to itself", () => {
    const parsed = parseStoreAddress(
      "postgres://ann:p%40ss%2Fword@db.example:5433/studies?sslmode=verify-full&sslpassword=hidden&objects=/shared/o",
    );
    expect(parsed).toMatchObject({
      kind: "postgres",
      shown: "postgres://ann@db.example:5433/studies?sslmode=verify-full&objects=%2Fshared%2Fo",
      connection: "postgres://ann:p%40ss%2Fword@db.example:5433/studies?sslmode=verify-full&sslpassword=hidden",
      schema: "netc",
      objects: "/shared/o",
      secrets: ["p@ss/word", "p%40ss%2Fword", "hidden"],
    });
    expect(parseStoreAddress("postgresql:///studies?host=/run/postgresql&schema=mine")).toMatchObject({
      shown: "postgresql:///studies?host=/run/postgresql&schema=mine",
      schema: "mine",
      objects: undefined,
      secrets: [],
    });
  });

  test.each([
    ["postgres://ann:hid den@:x/studies", "cannot be read"],
    ["postgres://ann:hidden%@host/studies", "cannot be read"],
    ["postgres://ann:hidden#1@host/studies", "cannot be read"],
    ["postgres://ann:hidden@host/studies#1", "has a `#` in it"],
    ["postgres://ann:hidden@host/studies?schema=My%20own", "names a schema that is not made of small letters"],
    ["redis://:hidden@host", "a store cannot be at an address that begins with `redis:`: name a folder"],
    ["sqlite:", "the store's path is empty: name a folder"],
    ["", "the store's path is empty: name a folder"],
  ])("%s is refused, and not repeated", async (address, reason) => {
    const failure = await failureOf(() => openStore(address));
    expect(failure.kind).toBe("refused");
    expect(failure.message).toContain(reason);
    expect(`${failure.stack} ${JSON.stringify(failure)} ${String(failure.cause)}`).not.toContain("hid");
  });

  test("that a driver repeats in its error is struck out", () => {
    const error = Object.assign(new Error('no pg_hba.conf entry for "p@ss/word" or p%40ss'), { code: "28000" });
    const fault = postgresFault("postgres://ann@host/a", "open the store", error, ["p@ss/word", "p%40ss"]);
    expect(fault.message).toBe(
      "cannot open the store in `postgres://ann@host/a`: the server does not let this user in: see its pg_hba.conf " +
        '(no pg_hba.conf entry for "***" or ***)',
    );
  });
});

describe("a network file system", () => {
  const MOUNTS = [
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
    "30 22 0:40 / /mnt/far\\040away rw shared:1 - fuse.sshfs me@host: rw",
    "31 22 0:41 / /mnt/win rw - fuseblk /dev/sdb1 rw",
    "32 22 0:42 / /mnt/far\\040away/in rw - fuse.fuse-overlayfs x rw",
  ].join("\n");

  test("is known by its number, or as the mount of a FUSE program", () => {
    const name = (path: string, type: number): string | undefined => networkFileSystem(path, type, () => MOUNTS);
    expect([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x0bd00bd0, 0x47504653].map((type) => name("/a", type))).toEqual([
      "NFS",
      "SMB",
      "CIFS",
      "SMB2",
      "Lustre",
      "GPFS",
    ]);
    const FUSE = 0x65735546;
    expect(name("/mnt/far away/a.db", FUSE)).toBe("fuse.sshfs");
    expect(name("/mnt/far away/in/a.db", FUSE)).toBeUndefined();
    expect(name("/mnt/win/a.db", FUSE)).toBeUndefined();
    expect(networkFileSystem("/a", FUSE, () => "")).toBe("FUSE");
    // ext4, tmpfs, btrfs, overlayfs, ZFS
    expect([0xef53, 0x01021994, 0x9123683e, 0x794c7630, 0x2fc12fc1].map((type) => name("/a", type))).toEqual(
      Array.from({ length: 5 }, () => undefined),
    );
    expect(mountTypeOf("/mnt/winter/a", MOUNTS)).toBe("ext4");
  });

  test("is refused, before anything is written there", async () => {
    const path = join(folder(), "deep/down");
    const failure = await failureOf(() => openStore(path, { fileSystem: async () => 0x6969 }));
    expect(failure.kind).toBe("refused");
    expect(plain(failure.message)).toBe(
      "`sqlite:/F/deep/down` is on a network file system (NFS), where SQLite's locks do not hold and studies are lost: use " +
        "postgres://… for a study of several machines, or a folder on this machine's own disk",
    );
    expect(existsSync(path)).toBe(false);
    await open(path);
    expect(readdirSync(path)).toContain("store.db");
  });
});

describe("a file that is no store", () => {
  test("of another kind is left as it is", async () => {
    const file = join(folder(), "a.db");
    writeFileSync(file, "my diary\n".repeat(200));
    const failure = await failureOf(() => openStore(file));
    expect(failure.kind).toBe("damaged");
    expect(plain(failure.message)).toBe(
      "cannot open the store in `sqlite:/F/a.db`: the file is no SQLite database: put a copy of the store back, or name " +
        "another file",
    );
    expect(readFileSync(file, "utf8")).toBe("my diary\n".repeat(200));
  });

  test.each(["DELETE", "WAL"])("but another program's database (%s) is left as it is", async (mode) => {
    const file = join(folder(), "a.db");
    const other = await openSmall(file);
    await other.pragma(`PRAGMA journal_mode = ${mode}`);
    await other.pragma("CREATE TABLE bookmarks (url TEXT)");
    await other.close();
    const before = readFileSync(file);
    const failure = await failureOf(() => openStore(file));
    expect(failure.kind).toBe("refused");
    expect(plain(failure.message)).toMatch(
      /^`sqlite:\/F\/a\.db` (is a database|holds tables) of another program: name another file/,
    );
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  test("but a folder, or below a file", async () => {
    const where = folder();
    mkdirSync(join(where, "store.db"));
    expect((await failureOf(() => openStore(where))).kind).toBe("refused");
    writeFileSync(join(where, "note"), "");
    const failure = await failureOf(() => openStore(join(where, "note/studies")));
    expect(failure.kind).toBe("refused");
    expect(plain(failure.message)).toBe(
      "cannot open the store in `sqlite:/F/note/studies`: a part of the path is a file: name another path",
    );
  });
});

describe("another version", () => {
  test("that is later is refused", async () => {
    const where = folder();
    await (await openStore(where)).close();
    const database = await openSmall(join(where, "store.db"));
    await database.pragma("UPDATE store SET version = 9");
    await database.close();
    const failure = await failureOf(() => openStore(where, { migrate: true }));
    expect(failure.kind).toBe("refused");
    expect(plain(failure.message)).toBe(
      "`sqlite:/F` was made by a later netc (schema 9, and this one knows 1): use that netc, or name another store",
    );
  });

  test("that is earlier is migrated if one asks for it: all steps, or none", async () => {
    const database = await openSmall(join(folder(), "a.db"));
    const first = ["CREATE TABLE a (x BIGINT)"];
    const second = ["ALTER TABLE a ADD COLUMN y BIGINT", "INSERT INTO a VALUES (1, 2)"];
    await prepareSchema(database, false, [first]);
    await prepareSchema(database, false, [first]);
    const failure = await failureOf(() => prepareSchema(database, false, [first, second]));
    expect(failure.message).toContain(
      "was made by an earlier netc (schema 1, and this one writes 2): end all its workers",
    );
    await expect(prepareSchema(database, true, [first, second, ["CREATE NONSENSE"]])).rejects.toThrow("internal");
    expect(await database.pragma("SELECT version FROM store")).toEqual([{ version: 1 }]);
    await prepareSchema(database, true, [first, second]);
    await prepareSchema(database, true, [first, second]);
    expect(await database.pragma("SELECT y FROM a")).toEqual([{ y: 2 }]);
    await database.close();
  });
});

describe("damage", () => {
  test("to an object is found when it is read, and by verify", async () => {
    const where = folder();
    const store = await open(where);
    const [study, trials] = await studyIn(store, 1);
    const id = trials[0]?.id ?? "";
    await store.claim(study, "w");
    const [good, bad, gone] = [
      await store.putObject(text("good")),
      await store.putObject(text("bad")),
      await store.putObject(text("gone")),
    ];
    await store.commit(id, 1, 1, resultWith({ predictions: { val: bad, test: gone } }));
    const path = (hash: string): string => join(where, "objects", hash.slice(0, 2), hash.slice(2));
    writeFileSync(path(bad), "BAD");
    rmSync(path(gone));
    const failure = await failureOf(() => store.getObject(bad));
    expect(failure.kind).toBe("damaged");
    expect(plain(failure.message)).toContain(`object ${bad} in \`sqlite:/F\` is not what was stored`);
    expect(await store.getObject(gone)).toBeUndefined();
    expect(await store.verify()).toEqual([
      { hash: bad, problem: "its 3 bytes are not those that were stored; it is the predictions val of trial 1" },
      { hash: gone, problem: "it is missing; it is the predictions test of trial 1" },
    ]);
    expect(await store.getObject(good)).toEqual(Buffer.from("good"));
    // Brought again it is whole again.
    expect(await store.putObject(text("gone"))).toBe(gone);
    expect((await store.verify()).map(({ hash }) => hash)).toEqual([bad]);
  });

  test("to the database is found by verify", async () => {
    const where = folder();
    const store = await openStore(where);
    await store.createStudy(studyWith("one", 600));
    await store.close();
    const file = join(where, "store.db");
    const bytes = readFileSync(file);
    // Past the first pages, which hold the schema.
    expect(bytes.byteLength).toBeGreaterThan(50 * 4096);
    bytes.fill(0xab, 40 * 4096, 44 * 4096);
    writeFileSync(file, bytes);
    const failure = await failureOf(async () => (await open(where)).verify());
    expect(failure.kind).toBe("damaged");
    expect(plain(failure.message)).toMatch(/`sqlite:\/F`.*keep a copy/);
  });

  test("a file that is taken away while it is open", async () => {
    const where = folder();
    const store = await open(where);
    const { id } = await store.createStudy(studyWith("one"));
    renameSync(join(where, "store.db"), join(where, "moved.db"));
    const failure = await failureOf(() => store.lead(id, "a", 1));
    expect(failure.kind).toBe("unreachable");
    expect(plain(failure.message)).toBe(
      "cannot take the lead of a study in `sqlite:/F`: the file was removed or replaced while it was open: put it back and " +
        "run the command again",
    );
    renameSync(join(where, "moved.db"), join(where, "store.db"));
    expect(await store.lead(id, "a", 1)).toBe(true);
  });
});

describe("a lock of another process", () => {
  test("is waited for, and then named", async () => {
    const where = folder();
    const store = await open(where, { patienceSeconds: 0.3 });
    const { id } = await store.createStudy(studyWith("one"));
    const other = await openSmall(join(where, "store.db"));
    await other.pragma("BEGIN IMMEDIATE");
    const waiting = store.lead(id, "a", 1);
    await sleep(50);
    await other.pragma("ROLLBACK");
    expect(await waiting).toBe(true);
    await other.pragma("BEGIN IMMEDIATE");
    expect(await store.studyState(id)).toBe("running");
    const failure = await failureOf(() => store.lead(id, "a", 1));
    expect(failure.kind).toBe("busy");
    expect(plain(failure.message)).toBe(
      "cannot take the lead of a study in `sqlite:/F`: another process holds its lock: end whatever reads or writes it for " +
        "so long",
    );
    await other.pragma("ROLLBACK");
    await other.close();
    expect(await store.lead(id, "a", 1)).toBe(true);
  });
});

describe("a full disk", () => {
  /** Fails one operation, as if the disk were full, until it is told that there is room. */
  class FullDisk implements Disk {
    full = false;
    readonly #what: keyof Disk | "write" | "finish";
    constructor(what: keyof Disk | "write" | "finish") {
      this.#what = what;
    }
    #try(what: keyof Disk | "write" | "finish"): void {
      if (this.full && what === this.#what) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
    }
    temporaryFolder: Disk["temporaryFolder"] = (prefix) => realDisk.temporaryFolder(prefix);
    remove: Disk["remove"] = (path) => realDisk.remove(path);
    list: Disk["list"] = (path) => realDisk.list(path);
    async create(path: string): ReturnType<Disk["create"]> {
      this.#try("create");
      const sink = await realDisk.create(path);
      return {
        write: async (bytes) => {
          await sink.write(bytes.subarray(0, 3));
          this.#try("write");
          await sink.write(bytes.subarray(3));
        },
        finish: async () => {
          await sink.finish();
          this.#try("finish");
        },
        abandon: () => sink.abandon(),
      };
    }
    async rename(from: string, to: string): Promise<void> {
      this.#try("rename");
      await realDisk.rename(from, to);
    }
    async syncFolder(path: string): Promise<void> {
      this.#try("syncFolder");
      await realDisk.syncFolder(path);
    }
  }

  test.each(["create", "write", "finish", "rename", "syncFolder"] as const)(
    "while an object is written (%s): nothing is lost, and later it goes on",
    async (what) => {
      const where = folder();
      const disk = new FullDisk(what);
      const store = await open(where, { disk });
      const [study] = await studyIn(store, 1);
      const old = await store.putObject(text("old"));
      const before = await allOf(store, study);
      disk.full = true;
      const failure = await failureOf(() => store.putObject(text("another")));
      expect(failure.kind).toBe("full");
      expect(plain(failure.message)).toMatch(
        /^cannot (write|name) an object.* in `\/F\/objects`: the disk is full: free some space/,
      );
      expect(readdirSync(join(where, "objects")).filter((name) => name.startsWith("."))).toEqual([]);
      expect(await allOf(store, study)).toEqual(before);
      expect(await store.getObject(old)).toEqual(Buffer.from("old"));
      disk.full = false;
      const hash = await store.putObject(text("another"));
      expect(await store.getObject(hash)).toEqual(Buffer.from("another"));
      expect(await store.verify()).toEqual([]);
    },
  );

  test("while the database grows: the transaction is undone, and later it goes on", async () => {
    const where = folder();
    const file = join(where, "store.db");
    const database = await openSmall(file);
    await prepareSchema(database, false);
    const store = new SqlStore(database, new ObjectFolder(join(where, "objects"), realDisk), {
      check: () => Promise.resolve(),
      tidy: () => Promise.resolve(),
    });
    opened.push(store);
    const [study, trials] = await studyIn(store, 2);
    const id = trials[0]?.id ?? "";
    await store.claim(study, "w");
    const pages = (await database.pragma("PRAGMA page_count"))[0]?.["page_count"];
    await database.pragma(`PRAGMA max_page_count = ${String(pages)}`);
    const points = Array.from({ length: 2_000 }, (_, epoch) => ({ name: "val.uar", epoch, value: epoch }));
    const many = Array.from({ length: 400 }, (_, index) => trialWith(study, 10 + index));
    const before = await allOf(store, study);
    for (const work of [() => store.addMetrics(id, 1, points), () => store.decide(study, decisionWith(2), many)]) {
      const failure = await failureOf(work);
      expect(failure.kind).toBe("full");
      expect(plain(failure.message)).toMatch(
        /^cannot write .* in `sqlite:\/F\/store\.db`: the disk is full: free some space/,
      );
      expect(await allOf(store, study)).toEqual(before);
    }
    await database.pragma("PRAGMA max_page_count = 1000000");
    expect(await store.addMetrics(id, 1, points)).toBe(true);
    expect(await store.decide(study, decisionWith(2), many)).toBe(true);
    expect(await database.pragma("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  });

  test.each([
    ["53100", "full", "the server's disk is full: free some space there"],
    ["XX001", "damaged", "the server says that its files are damaged"],
    ["53300", "busy", "the server has no connection left: raise its max_connections"],
    ["55P03", "busy", "others held what it needs for too long"],
    ["57P01", "unreachable", "the server does not answer"],
    ["42501", "refused", "the user may not do that"],
  ])("or another fault (%s) of a server has a kind", (code, kind, words) => {
    const fault = postgresFault("postgres://host/a", "take a trial", Object.assign(new Error("x"), { code }), []);
    expect(fault).toMatchObject({ name: "StoreError", kind });
    expect(fault.message).toContain(`cannot take a trial in \`postgres://host/a\`: ${words}`);
  });
});

test("every commit waits for the disk, but for those that may be lost", async () => {
  const database = await openSmall(join(folder(), "a.db"));
  const levelOf = async (): Promise<unknown> => (await database.pragma("PRAGMA synchronous"))[0]?.["synchronous"];
  const levels: unknown[] = [];
  for (const lasting of [true, false, true, true, false, false, true]) {
    await database.write("try", () => Promise.resolve(), lasting);
    levels.push(await levelOf());
  }
  // 2: FULL, 1: NORMAL
  expect(levels).toEqual([2, 1, 2, 2, 1, 1, 2]);
  await database.close();
});

describe("objects", () => {
  test("reach the disk before they have their name", async () => {
    const done: string[] = [];
    const disk: Disk = {
      ...realDisk,
      async create(path) {
        const sink = await realDisk.create(path);
        const finish = async (): Promise<void> => {
          await sink.finish();
          done.push("on the disk");
        };
        return { ...sink, finish };
      },
      async rename(from, to) {
        await realDisk.rename(from, to);
        done.push(`named ${basename(to).length}`);
      },
      async syncFolder(path) {
        await realDisk.syncFolder(path);
        done.push(`names of ${plain(path).replace(/[0-9a-f]{2}$/, "ab")}`);
      },
    };
    const store = await open(folder(), { disk });
    await store.putObject(text("abc"));
    expect(done).toEqual(["names of /F/objects", "names of /F", "on the disk", "named 62", "names of /F/objects/ab"]);
    done.length = 0;
    await store.putObject(text("abc"));
    expect(done).toEqual([]);
  });

  test("that the database does not know are garbage after a second look, and half written files after a day", async () => {
    const where = folder();
    let now = Date.now();
    const store = await open(where, { clock: () => now });
    await store.putObject(text("kept"));
    const stray = join(where, "objects", "ab");
    mkdirSync(stray, { recursive: true });
    writeFileSync(join(stray, "c".repeat(62)), "stray");
    writeFileSync(join(where, "objects", ".writing-1"), "half");
    writeFileSync(join(where, "objects", ".writing-2"), "half");
    utimesSync(join(where, "objects", ".writing-2"), 0, 0);
    writeFileSync(join(where, "objects", "readme"), "somebody's");
    now += 1;
    expect(await store.collectGarbage()).toEqual({ objects: 1, bytes: 4 });
    now += 1;
    expect(await store.collectGarbage()).toEqual({ objects: 1, bytes: 5 });
    expect(existsSync(join(stray, "c".repeat(62)))).toBe(false);
    expect(readdirSync(join(where, "objects")).filter((name) => name.length > 2)).toEqual([".writing-1", "readme"]);
  });
});

test("a record that another program changed is named", async () => {
  const where = folder();
  const store = await open(where);
  const { id } = await store.createStudy(studyWith("one"));
  await store.decide(id, decisionWith(1), []);
  const other = await openSmall(join(where, "store.db"));
  await other.pragma("UPDATE decision SET record = '{\"sequence\":'");
  await other.close();
  const failure = await failureOf(() => store.decisions(id));
  expect(failure.kind).toBe("damaged");
  expect(plain(failure.message)).toBe(
    "decision 1 in `sqlite:/F` cannot be read: some of it was changed by another program",
  );
  appendFileSync(join(where, "note"), "");
});
