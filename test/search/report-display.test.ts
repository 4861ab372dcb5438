/** What a person sees while a study runs: lines that fit, a terminal that is drawn over, a log, JSON, and the status. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { displayOf, openDisplay } from "../../runtime/search/report/display.ts";
import { displayState } from "../../runtime/search/report/display-state.ts";
import { eventsBetween, eventText } from "../../runtime/search/report/events.ts";
import { statusText } from "../../runtime/search/report/status.ts";
import type { StudyData } from "../../runtime/search/report/study-data.ts";
import { fakeFindings, fakeStudy } from "./fake-study.ts";

const running = fakeStudy({ state: "running" });
const complete = fakeStudy();
const last = Math.max(...running.trials.map(({ heartbeat }) => heartbeat ?? 0));
const state = displayState(running, fakeFindings(), last + 31_000);

/** The study as it was when only so many trials and decisions were there. */
function earlier(data: StudyData, trials: number, decisions: number): StudyData {
  const kept = data.trials.slice(0, trials);
  const ids = new Set(kept.map(({ id }) => id));
  return {
    ...data,
    trials: kept,
    decisions: data.decisions.slice(0, decisions),
    observations: data.observations.filter(({ trial }) => ids.has(trial)),
  };
}

describe("the display", () => {
  it("shows the interval, what runs, what was lost, and chance", () => {
    const lines = displayOf(state).join("\n");
    expect(lines).toContain("spent 14.8 of 30 trainings");
    expect(lines).toContain("leads by the model  ○○●●● STIA(4)  val.uar 73.25 [72.64, 73.86] % expected, not final");
    expect(lines).toContain("search at random would have  72.33 [71.93, 72.73] % by now, expected over seeds");
    expect(lines).toMatch(/#16 {2}○○○●● STIA\(4\) .*epoch 7\/27.*gpu0 {2}silent for 31 s/);
    expect(lines).toContain("1 failed, 2 repeated attempts");
    expect(lines).toContain("2 workers, 1 trial waiting");
    expect(lines).toContain("SYNTHETIC");
    expect(lines).toContain("#18 ●●●○○ STIA(4) failed: the device was lost");
    expect(lines).not.toMatch(/undefined|NaN|\bbest\b/);
  });

  it("says of the end what fresh seeds say", () => {
    const lines = displayOf(displayState(complete, fakeFindings(), 0)).join("\n");
    expect(lines).toMatch(/on fresh seeds {2}○○●●● STIA\(4\) {2}test UAR \d\d\.\d\d ± \d\.\d\d % \(5 seeds\)/);
    expect(lines).toContain("final trainings: 40 of 40");
  });

  it("says when nothing is known and nobody works", () => {
    const bare = { ...running, trials: [], observations: [], decisions: [], results: {}, metrics: {} };
    const none = { leaders: [], noise: undefined, ranks: [], importance: undefined, band: [] };
    const lines = displayOf(displayState(bare, none, 0)).join("\n");
    expect(lines).toContain("nothing leads yet");
    expect(lines).toContain("nothing is running");
    const waiting = { ...running, trials: running.trials.filter(({ state }) => state === "waiting") };
    expect(displayOf(displayState(waiting, none, 0)).join("\n")).toContain(
      "no worker has taken any of 1 waiting trial",
    );
  });

  it("fits into any terminal", () => {
    const [one] = state.running;
    if (one === undefined) throw new Error("nothing runs");
    fc.assert(
      fc.property(
        fc.integer({ min: 20, max: 200 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 60 }),
        (columns, rows, many) => {
          const running = Array.from({ length: many }, (_, k) => ({ ...one, number: k + 1 }));
          const lines = displayOf({ ...state, running }, columns, rows);
          expect(lines.length).toBeLessThanOrEqual(rows);
          for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
          if (many > 0 && many > rows - 5 && rows > 8) expect(lines.join("\n")).toMatch(/… and \d+ more/);
        },
      ),
    );
  });

  it("has no control characters, whatever workers and studies are called", () => {
    const nasty = "\u001b[2J\r\n\u0007";
    const named = displayState(
      {
        ...running,
        study: { ...running.study, name: nasty },
        trials: running.trials.map((trial) => ({ ...trial, worker: nasty, error: nasty })),
      },
      fakeFindings(),
      0,
    );
    // oxlint-disable-next-line no-control-regex -- those that must not come through
    for (const line of displayOf(named)) expect(line).not.toMatch(/[\u0000-\u001f\u007f]/);
  });
});

/** Just enough of a terminal: text, ends of lines, the cursor up, and the line cleared. */
class Screen {
  readonly lines: string[] = [""];
  private at = 0;
  readonly isTTY = true;
  columns = 100;
  readonly #listeners = new Set<() => void>();

  write(text: string): void {
    const parts = /\u001b\[1A|\u001b\[K|\n|[^\u001b\n]+/gy; // oxlint-disable-line no-control-regex -- what a display writes
    let end = 0;
    for (const [part] of text.matchAll(parts)) {
      end += part.length;
      if (part === "\u001b[1A") this.at = Math.max(0, this.at - 1);
      else if (part === "\u001b[K") this.lines[this.at] = "";
      else if (part === "\n") {
        this.at++;
        this.lines[this.at] ??= "";
      } else this.lines[this.at] = (this.lines[this.at] ?? "") + part;
    }
    expect(end).toBe(text.length);
  }

  on(_event: "resize", listener: () => void): void {
    this.#listeners.add(listener);
  }

  off(_event: "resize", listener: () => void): void {
    this.#listeners.delete(listener);
  }

  get listeners(): number {
    return this.#listeners.size;
  }
}

describe("a terminal", () => {
  it("is drawn over, keeps what went wrong, and ends with the last lines", () => {
    const screen = new Screen();
    const display = openDisplay(screen, { now: () => last, find: fakeFindings });
    display.update(earlier(running, 9, 4));
    const height = screen.lines.length;
    display.update(earlier(running, 9, 4));
    expect(screen.lines).toHaveLength(height);
    display.update(running);
    display.note("the store answers again");
    const lines = displayOf(displayState(running, fakeFindings(), last), screen.columns - 1, 22);
    expect(screen.lines.slice(0, -1).filter((row) => row !== "")).toEqual([
      "#18 ●●●○○ STIA(4) failed: the device was lost",
      "the store answers again",
      ...lines,
    ]);
    display.end("stopped; `netc search run` goes on");
    expect(screen.lines.findLast((row) => row !== "")).toBe("stopped; `netc search run` goes on");
    expect(screen.lines.filter((row) => row.startsWith("Placement"))).toHaveLength(1);
    expect(screen.listeners).toBe(0);
  });

  it("is asked for findings only when there are further scores", () => {
    let asked = 0;
    const find = (): ReturnType<typeof fakeFindings> => {
      asked++;
      return fakeFindings();
    };
    const display = openDisplay(new Screen(), { now: () => last, find });
    for (const data of [earlier(running, 9, 4), earlier(running, 9, 5), running, running]) display.update(data);
    expect(asked).toBe(2);
  });
});

describe("a log", () => {
  it("has a summary, then a line for every event, without control characters", () => {
    const written: string[] = [];
    const display = openDisplay(
      { write: (text: string) => written.push(text) },
      { now: () => last, find: fakeFindings },
    );
    display.update(earlier(running, 9, 4));
    const before = written.length;
    display.update(running);
    display.end("done");
    const lines = written.join("").split("\n");
    expect(lines[0]).toMatch(/^Placement {2}SYNTHETIC/);
    expect(written.length).toBeGreaterThan(before + 10);
    expect(lines).toContain("#16 ○○○●● STIA(4) taken by gpu0, search");
    expect(lines).toContain("#18 ●●●○○ STIA(4) failed: the device was lost");
    expect(lines.at(-2)).toBe("done");
    // oxlint-disable-next-line no-control-regex -- those that must not come through
    for (const line of lines) expect(line).not.toMatch(/[\u0000-\u001f\u007f]/);
  });

  it("is one JSON value a line where that was asked for", () => {
    const written: string[] = [];
    const display = openDisplay(
      { write: (text: string) => written.push(text), isTTY: true },
      { json: true, now: () => last, find: fakeFindings },
    );
    display.update(earlier(running, 9, 4));
    display.update(running);
    display.end("done");
    const values = written
      .join("")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly event: string });
    expect(values[0]).toMatchObject({ event: "summary", name: "Placement", feasible: 29 });
    expect(values).toContainEqual({
      event: "failed",
      trial: 18,
      candidate: "●●●○○ STIA(4)",
      error: "the device was lost",
    });
    expect(values.at(-1)).toEqual({ event: "end", text: "done" });
  });
});

describe("events", () => {
  const change = (number: number, changes: Partial<StudyData["trials"][number]>): StudyData => ({
    ...running,
    trials: running.trials.map((trial) => (trial.number === number ? { ...trial, ...changes } : trial)),
  });

  it("are none between equal looks", () => {
    expect(eventsBetween(running, running)).toEqual([]);
  });

  it("tell of a lost worker, of who takes the trial again, and of its end", () => {
    const lost = change(16, { state: "waiting", worker: undefined });
    expect(eventsBetween(running, lost)).toEqual([
      { event: "lost", trial: 16, candidate: "○○○●● STIA(4)", worker: "gpu0" },
    ]);
    const again = change(16, { state: "running", worker: "gpu3", attempt: 2 });
    expect(eventsBetween(lost, again)).toEqual([
      { event: "taken", trial: 16, candidate: "○○○●● STIA(4)", phase: "search", worker: "gpu3", attempt: 2 },
    ]);
    const id = running.trials[15]?.id ?? "";
    const done = {
      ...change(16, { state: "complete", attempt: 2 }),
      results: { ...running.results, [id]: { ...Object.values(running.results)[0], metrics: { "val.uar": 0.7321 } } },
    } as StudyData;
    const [event] = eventsBetween(again, done);
    if (event === undefined) throw new Error("no event");
    expect(eventText(event, running.study.search)).toBe("#16 ○○○●● STIA(4) done: val.uar 73.21, 4 min 57 s");
  });

  it("tell of decisions and of what they leave or carry on", () => {
    const trial = running.trials.find(({ state }) => state === "paused");
    if (trial === undefined) throw new Error("nothing is paused");
    const decided = {
      ...running,
      decisions: [
        ...running.decisions,
        {
          sequence: 99,
          method: "rungs",
          seen: 1,
          pending: [],
          proposals: [{ kind: "promote", trial: trial.id, epochs: 27 } as const],
          reason: "third of twelve",
        },
      ],
    };
    const events = eventsBetween(running, decided).map((event) => eventText(event, running.study.search));
    expect(events).toEqual([
      "decision 99 (rungs) carries on 1: third of twelve",
      `#${trial.number} ○●○●○ STIA(4) goes on to epoch 27`,
    ]);
  });

  it("tell that the study is paused", () => {
    const paused = { ...running, study: { ...running.study, state: "paused" as const } };
    expect(eventsBetween(running, paused)).toEqual([{ event: "state", state: "paused" }]);
  });
});

describe("the status", () => {
  it("has the phases, what failed, and what may be done", () => {
    const text = statusText(running, last, fakeFindings());
    expect(text).toContain(`study ${running.study.id}, running`);
    expect(text).toContain("complete: baseline 2/2, screen 6/6, search 6/11");
    expect(text).toContain("#18 failed: the device was lost");
    expect(text).toContain("`netc search retry TRIAL`");
    expect(text.endsWith("\n")).toBe(false);
    expect(statusText(complete, last, fakeFindings())).toContain(`\`netc search report ${complete.study.id}\``);
    for (const line of statusText(running, last, fakeFindings(), 60).split("\n")) expect(line.length).toBeLessThan(61);
  });
});
