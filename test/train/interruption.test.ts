/** Signals and limits of time. */
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { onInterrupt, parseDuration } from "../../runtime/train/interruption.ts";

describe("signals", () => {
  test.each(["SIGINT", "SIGTERM"] as const)("the first %s asks, the second ends", (signal) => {
    const heard = vi.fn();
    const leave = vi.fn();
    const before = process.listenerCount(signal);
    const interruption = onInterrupt({ heard, leave });
    try {
      expect(interruption.reason()).toBeUndefined();
      process.emit(signal, signal);
      expect(interruption.reason()).toBe(signal);
      expect(heard).toHaveBeenCalledWith(signal);
      expect(leave).not.toHaveBeenCalled();
      process.emit("SIGINT", "SIGINT");
      expect(leave).toHaveBeenCalledOnce();
      expect(heard).toHaveBeenCalledOnce();
    } finally {
      interruption.close();
    }
    expect(process.listenerCount(signal)).toBe(before);
  });

  test("time that is over", () => {
    const interruption = onInterrupt({ maxSeconds: 0 });
    expect(interruption.reason()).toBe("max-time");
    interruption.close();
    const later = onInterrupt({ maxSeconds: 1000 });
    expect(later.reason()).toBeUndefined();
    later.close();
  });
});

describe("lengths of time", () => {
  test.each([
    ["90s", 90],
    ["45m", 2700],
    ["45min", 2700],
    ["2h30m", 9000],
    ["1d 12h", 129_600],
    ["1.5h", 5400],
    ["1d2h3m4s", 93_784],
  ])("%s", (text, seconds) => expect(parseDuration(text)).toBe(seconds));

  test.each([
    ["90", "`90` has no unit: write for example 90s, 45m or 2h30m"],
    ["", "`` is not a length of time: write for example 90s, 45m or 2h30m"],
    ["soon", "`soon` is not a length of time: write for example 90s, 45m or 2h30m"],
    ["2h30", "`2h30` is not a length of time: write for example 90s, 45m or 2h30m"],
    ["-5m", "`-5m` is not a length of time: write for example 90s, 45m or 2h30m"],
    ["30m2h", "`30m2h` does not go from large units to small ones: write for example 90s, 45m or 2h30m"],
    ["1h1h", "`1h1h` does not go from large units to small ones: write for example 90s, 45m or 2h30m"],
    ["0s", "`0s` is no time at all: write for example 90s, 45m or 2h30m"],
  ])("not %s", (text, error) => expect(parseDuration(text)).toEqual({ error }));

  test("any text gives seconds above 0 or an error", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(\d{1,3}[dhms] ?){0,4}$/)), (text) => {
        const parsed = parseDuration(text);
        return typeof parsed === "number" ? parsed > 0 && Number.isFinite(parsed) : parsed.error !== "";
      }),
    );
  });
});
