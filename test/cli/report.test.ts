/** `netc report`, from the folder of a run to its page. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fakeRun, writeRun } from "../report/fake.ts";
import { netc, playground, words } from "./command.ts";

const { at } = playground();

describe.concurrent("netc report", () => {
  test("writes the page and the figures, twice the same", async () => {
    const folder = writeRun(join(at, "run"), fakeRun());
    const first = await netc(["report", "run", "--bootstrap", "200"], { cwd: at });
    expect(first.code, first.stderr).toBe(0);
    expect(first.stdout).toMatch(
      /^✓ `run\/report\.html` and 9 figures\n {2}SYNTHETIC: .*\n {2}test: UAR \d+\.\d %, Accuracy \(WAR\) \d+\.\d %\n$/,
    );
    const page = readFileSync(join(folder, "report.html"), "utf8");
    expect(page).toMatch(/^<!DOCTYPE html>/);
    expect(readdirSync(join(folder, "figures")).sort()).toEqual(
      [
        "confusion-test",
        "confusion-validation",
        "gradient",
        "loss",
        "memory",
        "rate",
        "scores",
        "throughput",
        "waiting",
      ].map((name) => `${name}.svg`),
    );
    await netc(["report", "run", "--bootstrap", "200"], { cwd: at });
    expect(readFileSync(join(folder, "report.html"), "utf8")).toBe(page);
    expect(readdirSync(folder).sort()).toEqual(["figures", "metrics.jsonl", "predictions", "report.html", "run.json"]);
  });

  test("prints its numbers as JSON, with the formulas", async () => {
    writeRun(join(at, "json"), fakeRun());
    const ran = await netc(["report", "json", "--bootstrap", "200", "--json"], { cwd: at });
    const value: unknown = JSON.parse(ran.stdout);
    expect(value).toMatchObject({
      ok: true,
      result: {
        page: join("json", "report.html"),
        epochs: 30,
        sides: [
          { side: "test", clips: 360, failed: 3, subjects: 12 },
          { side: "validation", clips: 180, failed: 0, subjects: 6 },
        ],
      },
    });
    expect(JSON.stringify(value)).toContain('"name":"accuracy","formula":"correct clips ÷ all clips","value":0.');
  });

  test("a run without predictions says how to make them", async () => {
    writeRun(join(at, "unevaluated"), { ...fakeRun(), validation: undefined, test: undefined });
    const ran = await netc(["report", "unevaluated"], { cwd: at });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain("no predictions yet: `netc eval` makes them");
  });

  test("a folder that is no run, and a damaged run, end with 1 and leave nothing", async () => {
    mkdirSync(join(at, "empty"));
    const empty = await netc(["report", "empty"], { cwd: at });
    expect(empty.code).toBe(1);
    expect(words(empty)).toBe(
      "error: `empty` holds no run: it has no run.json\n  help: give the folder that `netc train` wrote",
    );
    const folder = writeRun(join(at, "damaged"), fakeRun());
    writeFileSync(join(folder, "metrics.jsonl"), "{}\n");
    const damaged = await netc(["report", "damaged"], { cwd: at });
    expect(damaged.code).toBe(1);
    expect(words(damaged)).toContain("error: `damaged/metrics.jsonl`: line 1: `kind` is missing");
    expect(existsSync(join(folder, "report.html"))).toBe(false);
  });

  test("a place that cannot be written is named", async () => {
    const folder = writeRun(join(at, "blocked"), fakeRun());
    mkdirSync(join(folder, "report.html"));
    const ran = await netc(["report", "blocked", "--bootstrap", "50"], { cwd: at });
    expect(ran.code).toBe(1);
    expect(words(ran)).toBe("error: cannot write `blocked/report.html`: it is a folder");
    expect(readdirSync(folder).filter((name) => name.endsWith(".part"))).toEqual([]);
  });
});
