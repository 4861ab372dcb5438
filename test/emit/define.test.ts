import { expect, test } from "vitest";
import type { Program, Step } from "../../compiler/program.ts";
import type { Runner } from "../../runtime/engine/runner.ts";
import { define, type Tensor } from "../../runtime/engine/typed.ts";

function step(layers: readonly string[], macs: number, bytes: number): Step {
  return { kernel: 0, bindings: [], writes: [], workgroups: [1, 1, 1], layers, macs, bytes };
}

const program = {
  format: "netc-program",
  version: 1,
  name: "Double",
  outputs: [{ name: "y", shape: [2], dtype: "f32", allocation: 0, classes: undefined }],
  run: [
    step(["spatial.conv1"], 5, 50),
    step(["spatial.conv1[0].bn", "stia"], 7, 70),
    step(["spatial.conv11"], 11, 110),
  ],
} as unknown as Program;

/** Gives back its input twice as large. */
function doubling(uploads: { path: string; values: Float32Array }[]): Runner {
  let x = new Float32Array(0);
  return {
    program,
    device: "a test",
    async load(weights) {
      for (const rows of [undefined, { start: 1, end: 2 }]) {
        const into = new Float32Array(rows === undefined ? 6 : 3);
        const init = { kind: "constant", value: 0 } as const;
        await weights(
          { path: "fc.weight", shape: [2, 3], dtype: "f32", init, rows, order: undefined, allocation: 0 },
          into,
        );
        uploads.push({ path: "fc.weight", values: into });
      }
    },
    write: (name, data) => {
      if (name === "x") x = data.slice();
    },
    run: async () => {
      x = x.map((value) => 2 * value);
    },
    read: async () => x,
    readState: async () => x,
    trace: async () => {},
    repeat: async () => {},
    dispose: () => {},
  };
}

const Double = define<
  { readonly x: Tensor<"f32", readonly [2]> },
  { readonly y: Tensor<"f32", readonly [2]> },
  { readonly "fc.weight": readonly [2, 3] },
  "spatial.conv1" | "stia"
>({ name: "Double", program: new URL("file:///models/double/program.json") });

test("a definition opens its program, runs it and loads it", async () => {
  const uploads: { path: string; values: Float32Array }[] = [];
  const opened: string[] = [];
  const model = await Double.open(async (location) => {
    opened.push(location.pathname);
    return doubling(uploads);
  });
  expect(opened).toEqual(["/models/double/program.json"]);
  expect(model.device).toBe("a test");
  await model.load(async () => Float32Array.of(1, 2, 3, 4, 5, 6));
  expect(uploads.map(({ values }) => Array.from(values))).toEqual([
    [1, 2, 3, 4, 5, 6],
    [4, 5, 6],
  ]);
  const { y } = await model.run({ x: { dtype: "f32", shape: [2], data: Float32Array.of(1, 2) } });
  expect(y).toEqual({ dtype: "f32", shape: [2], data: Float32Array.of(2, 4) });
});

test("parameters of a wrong length are refused", async () => {
  const model = await Double.open(async () => doubling([]));
  await expect(model.load(() => new Float32Array(5))).rejects.toThrow("fc.weight has 6 numbers, 5 were given");
});

test("the cost of a position is that of the layers at and below it", async () => {
  const model = await Double.open(async () => doubling([]));
  expect(model.cost({ at: ["spatial.conv1"] })).toEqual({ macs: 12, bytes: 120 });
  expect(model.cost({ at: ["spatial.conv1", "stia"] })).toEqual({ macs: 12, bytes: 120 });
  expect(model.cost({ at: [] })).toEqual({ macs: 0, bytes: 0 });
});
