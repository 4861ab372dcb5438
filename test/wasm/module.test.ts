/**
 * The bytes of modules, read by somebody else's tool: wabt.
 */
import { describe, expect, it } from "vitest";
import wabt from "wabt";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { renderWasm } from "../../compiler/kernel/wasm.ts";
import { encodeModule, i32Const, indexed, plain } from "../../compiler/kernel/wasm-encoder.ts";
import { scheduleCpu } from "../../compiler/schedule/cpu.ts";
import { maxPool, reduction } from "../schedule/cases.ts";
import { type Case, conv, matmul } from "./kernels.ts";

const tool = await wabt();

function text(code: Uint8Array): string {
  const module = tool.readWasm(code, { simd: true, threads: true, relaxed_simd: true, readDebugNames: false });
  module.applyNames();
  return module.toText({ foldExprs: false, inlineExport: false });
}

const render = (c: Case, relaxed = false): Uint8Array =>
  renderWasm(scheduleCpu(c.kernel, c.buffers, WASM_DEFAULT).program, relaxed);

const VGG = conv({ n: 1, c: 64, h: 28, w: 28, o: 128, k: 3, stride: 1, pad: 1, dilation: 1, groups: 1 });

/** Bodies of loops that hold no loop. */
function innermostLoops(wat: string): readonly string[] {
  const loops: string[] = [];
  const open: { kind: string; lines: string[]; hasLoop: boolean }[] = [];
  for (const line of wat.split("\n").map((l) => l.trim())) {
    const opening = /^(loop|if|block)\b/.exec(line)?.[1];
    if (opening !== undefined) {
      if (opening === "loop") for (const outer of open) outer.hasLoop = true;
      open.push({ kind: opening, lines: [], hasLoop: false });
    } else if (/^end\b/.test(line)) {
      const closed = open.pop();
      if (closed?.kind === "loop" && !closed.hasLoop) loops.push(closed.lines.join("\n"));
      else open.at(-1)?.lines.push(...(closed?.lines ?? []));
    } else open.at(-1)?.lines.push(line);
  }
  return loops;
}

describe("the encoder", () => {
  it.each([0, 1, 63, 64, 127, 128, -1, -64, -65, 8191, 2 ** 31 - 1, -(2 ** 31)])("writes %s as it is", (value) => {
    const code = encodeModule([{ parameters: [], results: ["i32"], locals: [], code: i32Const(value) }]);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
    const { run } = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } }).exports;
    expect(typeof run === "function" && run()).toBe(value);
  });

  it("groups locals of one type", () => {
    const locals = [...Array.from({ length: 200 }, () => "i32" as const), "v128", "f32"] as const;
    const code = encodeModule([
      {
        parameters: ["f32"],
        results: [],
        locals,
        code: [...indexed("local.get", 202), ...plain("f32x4.splat"), ...indexed("local.set", 201)],
      },
    ]);
    expect(WebAssembly.validate(code)).toBe(true);
    expect(text(code)).toContain("f32x4.splat");
  });
});

describe("modules", () => {
  const cases = [
    VGG,
    matmul(1, 1, 24, 100, "packed"),
    matmul(2, 27, 27, 27, "nt"),
    maxPool(1, 27, 9, 3, 2, 1),
    reduction("softmax", 3, 27, 1),
  ];

  it.each(cases)("$name is valid and imports one shared memory", (c) => {
    const code = render(c);
    expect(WebAssembly.validate(code)).toBe(true);
    expect(text(code)).toMatch(/\(import "env" "memory" \(memory \(;0;\) 1 65536 shared\)\)/);
  });

  it.each(cases)("$name divides in no innermost loop", (c) => {
    const loops = innermostLoops(text(render(c)));
    expect(loops.length).toBeGreaterThan(0);
    for (const loop of loops) expect(loop).not.toMatch(/i32\.(div|rem)_u/);
  });

  it("the microkernel is 4 rows by 8 columns, its loads free of arithmetic", () => {
    const micro = innermostLoops(text(render(VGG))).find((loop) => loop.includes("f32x4.mul"));
    const count = (instruction: RegExp): number => micro?.match(instruction)?.length ?? 0;
    expect(count(/f32x4\.mul/g)).toBe(8);
    expect(count(/v128\.load32_splat/g)).toBe(4);
    expect(count(/v128\.load /g)).toBe(2);
    // Two addresses move on; nothing else is computed with integers.
    expect(count(/i32\.add/g)).toBe(2);
  });

  it("relaxed SIMD is used only where it is allowed", () => {
    expect(text(render(VGG, false))).not.toContain("relaxed");
    expect(text(render(VGG, true))).toContain("f32x4.relaxed_madd");
  });

  it("helpers are only those that are used", () => {
    const functions = (c: Case): number => text(render(c)).match(/^  \(func /gm)?.length ?? 0;
    // One for `run`; softmax needs exp, and its logarithm log.
    expect(functions(VGG)).toBe(1);
    expect(functions(reduction("softmax", 3, 27, 1))).toBe(3);
  });
});
