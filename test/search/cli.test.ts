/** `netc search` as a person gives it: a whole study on a few drawn clips, and what the other commands say of it. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, it, vi } from "vitest";
import { MAIN, searchGround, searchText } from "./trials.ts";

// Processes one after the other: seconds on a machine of one's own, a minute on one that others use.
vi.setConfig({ testTimeout: 240_000 });

let at = "";
let set = "";
const SETTINGS = "seeds = Seeds(search=1, confirm=1, final=2, from=3)\n  spend = 6";

beforeAll(async () => {
  expect(inject("buildFailure")).toBe("");
  ({ at, set } = await searchGround());
  writeFileSync(join(at, "search.net"), searchText(SETTINGS, 1));
});

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function netc(...args: readonly string[]): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, "search", ...args], {
    cwd: at,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { status, out: stdout, err: stderr };
}

const RUN = (): readonly string[] => ["run", "search.net", "--data", set, "--device", "wasm", "--workers", "2"];

describe("before a study", () => {
  it("a plan says what it would do", () => {
    const { status, out } = netc("plan", "search.net");
    expect(status).toBe(0);
    expect(out).toMatch(/^Tiny: 4 points as written, 4 different models, 4 to search\n/);
    expect(out).toMatch(/full factorial: 4 candidates, 1 seed each, cost 4 trainings and 6 may be spent/);
    expect(out).toMatch(/seeds that show a difference/);
    expect(existsSync(join(at, "studies"))).toBe(false);
  });

  it("a plan says what a super-network costs, or why there is none", () => {
    writeFileSync(join(at, "prior.net"), searchText("prior = SuperNetwork\n  method = GP\n  spend = 8", 1));
    expect(netc("plan", "prior.net").out).toMatch(
      / a super-network for 2 epochs, which scores 4 of them: 2\.4 trainings;/,
    );
    writeFileSync(join(at, "all.net"), searchText("prior = SuperNetwork", 1));
    expect(netc("plan", "all.net").out).toMatch(/ no super-network: all candidates are trained anyway\n/);
  });

  it("a plan says why points are refused", () => {
    writeFileSync(join(at, "limited.net"), searchText("require count(spots) <= 1", 1));
    const { status, out } = netc("plan", "limited.net", "--refused");
    expect(status).toBe(0);
    expect(out).toMatch(/refused: `spots=\{conv1, conv2\}`: /);
  });

  it("a plan says what a run would measure first, and measures it when it is asked to", () => {
    writeFileSync(join(at, "timed.net"), searchText("limit { latency = 10s }", 1));
    const { status, out } = netc("plan", "timed.net");
    expect(status).toBe(0);
    expect(out).toMatch(/a run first measures 4 models, 30 passes of one example each at least/);
    expect(out).toMatch(/requires {3}latency <= 10,000 ms/);
    const measured = netc("plan", "timed.net", "--measure", "--device", "wasm");
    expect([measured.status, measured.err]).toEqual([0, ""]);
    expect(measured.out).toMatch(/4 models measured on wasm, \d+ threads? before any training/);
  });

  it("there is none to speak of, and a store that does not answer is another matter", () => {
    const none = netc("status", "--store", join(at, "empty"));
    expect([none.status, none.err]).toEqual([2, expect.stringMatching(/holds no study yet/)]);
    const away = netc("status", "--store", "postgres://nobody@127.0.0.1:9/none");
    expect([away.status, away.err]).toEqual([5, expect.stringMatching(/postgres:\/\/nobody@127.0.0.1:9\/none/)]);
    expect(netc("run", "search.net", "--queue", "redis://127.0.0.1:9").status).toBe(2);
    expect(netc("cancel").status).toBe(2);
  });
});

describe("a study", () => {
  it("is stopped by Ctrl-C, goes on with the same command, and ends with a table", async () => {
    const child = spawn(process.execPath, [MAIN, "search", ...RUN()], { cwd: at, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    const first = new Promise<void>((resolve) =>
      child.stdout.on("data", (piece: Buffer) => {
        out += piece.toString();
        if (/^#\d+ .* done|complete/m.test(out)) resolve();
      }),
    );
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    await Promise.race([first, ended]);
    child.kill("SIGINT");
    expect(await ended).toBe(4);
    expect(out).toMatch(/the study `Tiny` is saved; the same command goes on with it/);

    const whole = netc(...RUN(), "--emit", "winner.net");
    expect(whole.err).toBe("");
    expect(whole.status).toBe(0);
    expect(whole.out).toMatch(/is complete/);
    expect(whole.out).toMatch(/none/);
    const winner = readFileSync(join(at, "winner.net"), "utf8");
    expect(winner).toMatch(/Found by the search `Tiny`/);
    const checked = spawnSync(process.execPath, [MAIN, "check", "winner.net"], { cwd: at, encoding: "utf8" });
    expect([checked.status, checked.stderr]).toEqual([0, ""]);
  });

  it("is complete: running it again trains nothing", () => {
    const before = JSON.parse(netc("status", "--json").out).result;
    const again = netc(...RUN());
    expect(again.status).toBe(0);
    const after = JSON.parse(netc("status", "--json").out).result;
    expect(after.trials).toEqual(before.trials);
    expect(after.study.state).toBe("complete");
  });

  it("can be replayed, verified, reported, exported and tidied", () => {
    const replayed = netc("replay");
    expect([replayed.status, replayed.out]).toEqual([
      0,
      expect.stringMatching(/^all \d+ decisions of `Tiny` come out the same/),
    ]);
    expect(netc("verify").status).toBe(0);
    expect(netc("status").out).toMatch(/complete: .*final \d+\/\d+/);
    const report = netc("report", "Tiny", "-o", "report", "--format", "md,csv,html");
    expect([report.status, report.err]).toEqual([0, ""]);
    expect(readFileSync(join(at, "report", "report.md"), "utf8")).toMatch(/On fresh seeds/);
    expect(existsSync(join(at, "report", "report.html"))).toBe(true);
    expect(netc("export", "--optuna", "study.log").status).toBe(0);
    expect(readFileSync(join(at, "study.log"), "utf8").split("\n").length).toBeGreaterThan(20);
    expect(netc("export").status).toBe(2);
    expect(netc("export", "--sources", "again").out).toBe(`${join("again", "search.net")}\n`);
    expect(readFileSync(join(at, "again", "search.net"), "utf8")).toBe(readFileSync(join(at, "search.net"), "utf8"));
    const again = /^netc search (run again\/search\.net .*)$/m.exec(
      readFileSync(join(at, "report", "report.md"), "utf8"),
    );
    const words = (again?.[1] ?? "").replace("--store again/studies", "--store studies").split(" ");
    // The very study: it is complete, and nothing is trained.
    expect(netc(...words, "--device", "wasm").out).toMatch(/the study `Tiny` is complete/);
    expect(netc("gc").out).toMatch(/^removed \d+ objects?, /);
    expect(netc("verify").status).toBe(0);
  });

  it("is not gone on with by another search of its name, unless as a study of its own", () => {
    writeFileSync(join(at, "other.net"), searchText(SETTINGS, 1).replace("lr: float = 0.01", "lr: float = 0.03"));
    const args = ["run", "other.net", "--data", set, "--device", "wasm"];
    const refused = netc(...args);
    expect(refused.status).toBe(1);
    expect(refused.err).toMatch(
      /holds a study `Tiny` of another search:\n {2}- the recipe's stages\[0\]\.rate was 0\.01 and is 0\.03/,
    );
    expect(refused.err).toMatch(/--fork/);
    expect(netc("status", "--json").out).toMatch(/"complete"/);
    const forked = netc(...args, "--fork", "--json");
    expect(forked.status).toBe(0);
    const { study, state } = JSON.parse(forked.out).result;
    expect(state).toBe("complete");
    // The newest of a name is meant from now on.
    expect(JSON.parse(netc("status", "Tiny", "--json").out).result.study.id).toBe(study);
  });

  it("is told apart from others, and controlled by name", () => {
    const unknown = netc("status", "Nothing");
    expect([unknown.status, unknown.err]).toEqual([2, expect.stringMatching(/no study `Nothing`(.|\n)*`Tiny`/)]);
    expect(netc("pause", "Tiny").out).toMatch(/complete already/);
    const retry = netc("retry", "--failed");
    expect([retry.status, retry.out]).toEqual([0, expect.stringMatching(/no trial of `Tiny` has failed/)]);
    expect(netc("cancel", "999").status).toBe(2);
    expect(netc("cancel", "1").out).toMatch(/#1 stays complete/);
  });
});
