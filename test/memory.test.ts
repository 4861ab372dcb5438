import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WASM_DEFAULT } from "../compiler/capability.ts";
import { compile, compileStep } from "../compiler/compile.ts";
import type { BufferRole } from "../compiler/loop/loops.ts";
import { type Demand, memoryUse, planMemory } from "../compiler/memory.ts";
import { plainStage } from "../compiler/recipe/plain.ts";
import { modelOf, stagedOk } from "./tools/nets.ts";

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

describe("what a program holds", () => {
  const model = modelOf(
    `block Part(c: int) = Conv(c, use_bias=false) -> BatchNorm -> ReLU
     model Net(x: f32[N, 3, 8, 8]) -> f32[N, 4] = Part(4) -> Part(8) -> GlobalAvgPool -> Linear(4)`,
    { N: 2 },
  );
  // 4·3·9 + 8·4·9 weights, 2·(4 + 8) factors and biases of norms, 4·8 + 4 of the head.
  const learned = 4 * (108 + 288 + 24 + 36);
  const options = { target: WASM_DEFAULT, sizes: new Map<string, number>(), seed: 1 };

  it("in training: parameters with running statistics, as much momentum, and the rest", () => {
    const { program } = stagedOk(compileStep(model, plainStage(model), options));
    const { parameters, optimizer, activations } = memoryUse(program);
    expect(parameters).toBe(learned + 4 * 2 * (4 + 8));
    expect(optimizer).toBe(learned);
    const run = program.allocations.filter(({ lifetime }) => lifetime === "run");
    expect(parameters + optimizer + activations).toBe(run.reduce((sum, { bytes }) => sum + bytes, 0));
    // At least both convolutions' results.
    expect(activations).toBeGreaterThan(4 * 2 * 64 * (4 + 8));
  });

  it("in inference: folded and packed parameters, no optimizer", () => {
    const { parameters, optimizer, activations } = memoryUse(stagedOk(compile(model, options)));
    // Norms are factors of the weights and a bias.
    expect(parameters).toBe(4 * (108 + 288 + 4 + 8 + 32 + 4));
    expect(optimizer).toBe(0);
    expect(activations).toBeGreaterThan(4 * 2 * 3 * 64);
  });
});
