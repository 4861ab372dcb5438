/**
 * How training ends before its end: by a signal, or because its time is over.
 *
 * In: signals of the process and a limit in seconds. Out: one question for the loop to ask after every update.
 */

/** Asked by the loop. Owns the process's handlers of SIGINT and SIGTERM until `close`. */
export interface Interruption {
  /** Why to save and leave; undefined: go on. */
  reason(): "SIGINT" | "SIGTERM" | "max-time" | undefined;
  /** Gives the signals back. */
  close(): void;
}

export interface InterruptOptions {
  /** Seconds from now on after which training is to end. */
  readonly maxSeconds?: number | undefined;
  /** Called at the first signal: a person is to know that they were heard. */
  readonly heard?: (signal: "SIGINT" | "SIGTERM") => void;
  /** Called at the second signal; ends the process. */
  readonly leave?: () => void;
}

/**
 * The first SIGINT or SIGTERM asks the loop to save and leave, the second ends the process at once: what is on the disk
 * is complete at any moment. Windows knows SIGINT (Ctrl+C) only.
 */
export function onInterrupt(options: InterruptOptions = {}): Interruption {
  const { maxSeconds, heard, leave = () => process.exit(3) } = options;
  const end = maxSeconds === undefined ? Number.POSITIVE_INFINITY : performance.now() + 1000 * maxSeconds;
  let signal: "SIGINT" | "SIGTERM" | undefined;
  const handle = (name: "SIGINT" | "SIGTERM"): void => {
    if (signal !== undefined) {
      leave();
      return;
    }
    signal = name;
    heard?.(name);
  };
  process.on("SIGINT", handle).on("SIGTERM", handle);
  return {
    reason: () => signal ?? (performance.now() >= end ? "max-time" : undefined),
    close: () => {
      process.off("SIGINT", handle).off("SIGTERM", handle);
    },
  };
}

const UNITS: Readonly<Record<string, number>> = { d: 86400, h: 3600, m: 60, min: 60, s: 1 };

/** Seconds of "90s", "45m", "2h30m", "1d 12h" or "1.5h"; what is wrong with any other text. */
export function parseDuration(text: string): number | { readonly error: string } {
  const example = "write for example 90s, 45m or 2h30m";
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(min|[dhms])/g)];
  if (parts.map(([part]) => part).join("") !== text.replaceAll(" ", "") || parts.length === 0) {
    return {
      error: /^\s*\d+(\.\d+)?\s*$/.test(text)
        ? `\`${text.trim()}\` has no unit: ${example}`
        : `\`${text}\` is not a length of time: ${example}`,
    };
  }
  const units = parts.map(([, , unit = ""]) => UNITS[unit] ?? 0);
  if (units.some((unit, index) => index > 0 && unit >= (units[index - 1] ?? 0)))
    return { error: `\`${text}\` does not go from large units to small ones: ${example}` };
  const seconds = parts.reduce((sum, [, number], index) => sum + Number(number) * (units[index] ?? 0), 0);
  return seconds > 0 ? seconds : { error: `\`${text}\` is no time at all: ${example}` };
}
