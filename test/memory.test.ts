import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BufferRole } from "../compiler/loop/loops.ts";
import { type Demand, planMemory } from "../compiler/memory.ts";

const demand = (bytes: number, role: BufferRole, label = "b"): Demand => ({ bytes, role, label });

describe("memory colouring", () => {
  it("lets a chain of activations ping-pong between two allocations", () => {
    const demands = [
      demand(4, "input"),
      demand(100, "activation"),
      demand(90, "activation"),
      demand(80, "activation"),
      demand(4, "output"),
    ];
    const plan = planMemory(
      demands,
      [],
      [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
      ],
    );
    expect(plan.of[1]).toBe(plan.of[3]);
    expect(plan.of[1]).not.toBe(plan.of[2]);
    expect(plan.allocations.map((a) => a.bytes).sort((a, b) => b - a)).toEqual([100, 90, 4, 4]);
  });

  it("frees parameters that only loading needs, and keeps those that runs read", () => {
    const demands = [
      demand(10, "param", "a"),
      demand(10, "constant", "packed"),
      demand(10, "param", "b"),
      demand(10, "param", "bias"),
    ];
    const plan = planMemory(demands, [[0], [0, 1], [2], [2, 1], [3]], [[1, 3]]);
    expect(plan.of[0]).toBe(plan.of[2]);
    expect(plan.allocations[plan.of[0] ?? -1]?.lifetime).toBe("load");
    expect(plan.allocations[plan.of[3] ?? -1]?.lifetime).toBe("run");
  });

  it("never shares memory between buffers that live at one step", () => {
    const cases = fc.record({
      bytes: fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 12 }),
      steps: fc.array(fc.array(fc.nat(11), { minLength: 1, maxLength: 4 }), { maxLength: 20 }),
    });
    fc.assert(
      fc.property(cases, ({ bytes, steps }) => {
        const run = steps.map((step) => [...new Set(step.filter((buffer) => buffer < bytes.length))]);
        const plan = planMemory(
          bytes.map((size) => demand(size, "activation")),
          [],
          run,
        );
        const last = (buffer: number): number => run.findLastIndex((step) => step.includes(buffer));
        const first = (buffer: number): number => run.findIndex((step) => step.includes(buffer));
        for (let a = 0; a < bytes.length; a++) {
          expect((plan.of[a] ?? -1) >= 0).toBe(first(a) >= 0);
          if (first(a) < 0) continue;
          expect(plan.allocations[plan.of[a] ?? -1]?.bytes).toBeGreaterThanOrEqual(bytes[a] ?? 0);
          for (let b = 0; b < a; b++) {
            if (plan.of[a] === plan.of[b] && first(b) >= 0) expect(last(a) < first(b) || last(b) < first(a)).toBe(true);
          }
        }
      }),
      { seed: 1, numRuns: 300 },
    );
  });
});
