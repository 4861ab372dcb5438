/** The loss scale: when it falls, when it rises, when it gives up, and that a checkpoint brings it back. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  firstLossScale,
  type LossScale,
  lossScaleCounters,
  lossScaleOf,
  nextLossScale,
} from "../../runtime/train/loss-scale.ts";

const ADAPTED = { kind: "mixed", lossScale: undefined } as const;
const FIXED = { kind: "mixed", lossScale: 128 } as const;

function first(precision: typeof ADAPTED | typeof FIXED = ADAPTED): LossScale {
  const scale = firstLossScale(precision);
  if (scale === undefined) throw new Error("no scale");
  return scale;
}

describe("the loss scale", () => {
  test("is there in mixed precision only", () => {
    expect(firstLossScale({ kind: "f32" })).toBeUndefined();
    expect(first()).toEqual({ scale: 65536, good: 0 });
    expect(first(FIXED)).toEqual({ scale: 128, good: 0 });
  });

  test("is halved by an overflow and doubled after 2000 updates without", () => {
    let scale = nextLossScale(first(), ADAPTED, true);
    expect(scale).toEqual({ scale: 32768, good: 0 });
    for (let i = 0; i < 1999; i++) scale = scale && nextLossScale(scale, ADAPTED, false);
    expect(scale).toEqual({ scale: 32768, good: 1999 });
    expect(scale && nextLossScale(scale, ADAPTED, false)).toEqual({ scale: 65536, good: 0 });
    // An overflow begins the count anew.
    expect(scale && nextLossScale(scale, ADAPTED, true)).toEqual({ scale: 16384, good: 0 });
  });

  test("gives up where no scale can help: at 1, and where the recipe gives it", () => {
    let overflows = 0;
    for (let scale: LossScale | undefined = first(); scale !== undefined; overflows++)
      scale = nextLossScale(scale, ADAPTED, true);
    expect(overflows).toBe(17);
    expect(nextLossScale(first(FIXED), FIXED, true)).toBeUndefined();
    expect(nextLossScale(first(FIXED), FIXED, false)).toEqual(first(FIXED));
  });

  test("is a power of two from 1 to 2^24, and comes back from a checkpoint, whatever happens", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 5000 })), { maxLength: 60 }), (events) => {
        let scale = first();
        for (const [overflow, times] of events)
          for (let i = 0; i < (overflow ? Math.min(times, 5) : times); i++) {
            scale = nextLossScale(scale, ADAPTED, overflow) ?? scale;
            if (!Number.isInteger(Math.log2(scale.scale)) || scale.scale < 1 || scale.scale > 2 ** 24) return false;
          }
        const back = lossScaleOf({ lossSum: 3, ...lossScaleCounters(scale) });
        return back?.scale === scale.scale && back.good === scale.good;
      }),
      { numRuns: 50, seed: 1 },
    );
    expect(lossScaleCounters(undefined)).toEqual({});
    expect(lossScaleOf({ lossSum: 3 })).toBeUndefined();
  });
});
