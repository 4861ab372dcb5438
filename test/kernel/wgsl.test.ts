/** Expressions fold as they are built, and render to text that Dawn accepts and that means the same. */
import { describe, expect, test } from "vitest";
import {
  add,
  and,
  binary,
  builtin,
  choose,
  compare,
  constantOf,
  div,
  float,
  fma,
  int,
  lane,
  lanes,
  load,
  local,
  minimum,
  mul,
  quotient,
  rem,
  select,
  store,
  sub,
  TRUE,
  toFloat,
  unary,
  vec4,
  widen,
} from "../../compiler/kernel/build.ts";
import type { Expr, KernelProgram, Stmt } from "../../compiler/kernel/ir.ts";
import { printKernel } from "../../compiler/kernel/print.ts";
import { prune } from "../../compiler/kernel/prune.ts";
import { identifier, renderWGSL } from "../../compiler/kernel/wgsl.ts";
import { nullDevice, pipelineOf, runPrograms, softwareDevice } from "../tools/webgpu.ts";

const i = local("i32", "i");

function program(body: readonly Stmt[]): KernelProgram {
  return {
    name: "probe",
    header: ["probe"],
    args: [
      { name: "x", access: "read", size: 16, vec4: false },
      { name: "quads", access: "read", size: 16, vec4: true },
      { name: "y", access: "read_write", size: 64, vec4: false },
    ],
    locals: [],
    body,
    workgroupSize: [1, 1, 1],
    workgroups: [1, 1, 1],
  };
}

describe("folding", () => {
  test.each<[string, Expr, Expr]>([
    ["i + 0", add(i, int(0)), i],
    ["0 + i", add(int(0), i), i],
    ["(i + 2) - 2", sub(add(i, int(2)), int(2)), i],
    ["i · 1", mul(i, int(1)), i],
    ["i · 0", mul(i, int(0)), int(0)],
    ["(i · 3) · 4", mul(mul(i, int(3)), int(4)), mul(i, int(12))],
    ["(i · 12 + 8) / 4", div(add(mul(i, int(12)), int(8)), 4), add(mul(i, int(3)), int(2))],
    ["(i · 12) mod 4", rem(mul(i, int(12)), 4), int(0)],
    ["7 mod 4", rem(int(7), 4), int(3)],
    ["min(3, 4)", minimum(int(3), int(4)), int(3)],
    ["3 < 4 and i = i", and(compare("lt", int(3), int(4)), compare("eq", i, i)), compare("eq", i, i)],
    ["true ? i : 0", select(TRUE, i, int(0)), i],
    ["lane of a splat", lane(widen(float(2)), 3), float(2)],
    ["lanes that are equal", lanes(() => float(1)), widen(float(1))],
    ["float of 3", toFloat(int(3)), float(3)],
  ])("%s", (_, got, want) => expect(got).toEqual(want));

  test("a quotient is exact or undefined", () => {
    expect(quotient(add(mul(i, int(8)), i), 4)).toBeUndefined();
    expect(constantOf(quotient(int(12), 4) ?? i)).toBe(3);
  });
});

test("locals that nothing reads are pruned, with what only they read", () => {
  const body: Stmt[] = [
    { kind: "let", name: "a", value: int(1) },
    { kind: "let", name: "b", value: add(local("i32", "a"), int(1)) },
    { kind: "let", name: "c", value: int(2) },
    {
      kind: "for",
      name: "j",
      from: int(0),
      to: local("i32", "c"),
      step: 1,
      body: [{ kind: "let", name: "d", value: int(3) }],
    },
  ];
  expect(prune(body).map((s) => ("name" in s ? s.name : s.kind))).toEqual(["c", "j"]);
});

test("names become identifiers", () => {
  expect(identifier("spatial.fc6.weight[0:1024]")).toBe("spatial_fc6_weight_0_1024");
  expect(identifier("3x3")).toBe("v3x3");
  expect(identifier("filter")).toBe("filter_");
  expect(identifier("__x__")).toBe("x");
});

test("a program renders with its header, its arrays and its loops", () => {
  const body: Stmt[] = [
    { kind: "comment", text: "doubles" },
    {
      kind: "for",
      name: "n",
      from: int(0),
      to: int(16),
      step: 4,
      body: [store("y", local("i32", "n"), binary("mul", load("f32", "quads", local("i32", "n")), float(2)))],
    },
  ];
  expect(renderWGSL(program(body))).toMatchInlineSnapshot(`
    "// probe

    @group(0) @binding(0) var<storage, read> x: array<f32, 16>;
    @group(0) @binding(1) var<storage, read> quads: array<vec4<f32>, 4>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32, 64>;

    @compute @workgroup_size(1, 1, 1)
    fn main() {
      // doubles
      for (var n = 0; n < 16; n += 4) {
        y[n] = quads[n >> 2u][n & 3] * 2.0;
      }
    }
    "
  `);
  expect(printKernel(program(body))).toMatchInlineSnapshot(`
    "// probe
    kernel probe workgroup 1x1x1 grid 1x1x1
      in x: f32 x 16
      in quads: vec4 x 4
      out y: f32 x 64
    {
      // doubles
      for n in 0 .. 16 step 4 {
        y[n] = quads[n] * 2.0
      }
    }
    "
  `);
});

test("matrices of subgroups, in both syntaxes", async () => {
  const config = { m: 8, n: 16, k: 32, input: "f16", result: "f32" } as const;
  const given: KernelProgram = {
    ...program([
      { kind: "matrix-result", name: "c", config },
      { kind: "let", name: "own", value: mul(builtin("subgroup.number"), int(4)) },
      {
        kind: "matrix-load",
        name: "a",
        side: "left",
        config,
        from: "left",
        index: local("i32", "own"),
        stride: 40,
        lines: "rows",
      },
      {
        kind: "matrix-load",
        name: "b",
        side: "right",
        config,
        from: "right",
        index: int(4),
        stride: 32,
        lines: "columns",
      },
      { kind: "matrix-multiply", left: "a", right: "b", to: "c" },
      { kind: "matrix-store", name: "c", to: "sums", index: int(0), stride: 16 },
    ]),
    locals: [
      { name: "left", size: 320, vec4: true, half: true },
      { name: "right", size: 516, vec4: false, half: true },
      { name: "sums", size: 128, vec4: true },
    ],
    workgroupSize: [32, 1, 1],
    subgroupSize: 32,
  };
  expect(renderWGSL(given)).toMatchInlineSnapshot(`
    "// probe

    enable f16;

    enable subgroups;

    enable subgroup_size_control;

    enable chromium_experimental_subgroup_matrix;

    @group(0) @binding(0) var<storage, read> x: array<f32, 16>;
    @group(0) @binding(1) var<storage, read> quads: array<vec4<f32>, 4>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32, 64>;

    var<workgroup> left: array<vec4<f16>, 80>;
    var<workgroup> right: array<f16, 516>;
    var<workgroup> sums: array<vec4<f32>, 32>;

    @compute @workgroup_size(32, 1, 1) @subgroup_size(32)
    fn main(@builtin(subgroup_id) subgroup_number: u32) {
      var c: subgroup_matrix_result<f32, 16, 8>;
      let own = i32(subgroup_number) * 4;
      let a = subgroupMatrixLoad<subgroup_matrix_left<f16, 32, 8>, row_major>(&left, u32(own >> 2u), 10u);
      let b = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 32>, col_major>(&right, u32(4), 32u);
      c = subgroupMatrixMultiplyAccumulate(a, b, c);
      subgroupMatrixStore<row_major>(&sums, u32(0), c, 4u);
    }
    "
  `);
  expect(printKernel(given)).toMatchInlineSnapshot(`
    "// probe
    kernel probe workgroup 32x1x1 of subgroups of 32 grid 1x1x1
      in x: f32 x 16
      in quads: vec4 x 4
      out y: f32 x 64
      local left: vec4 of f16 x 80
      local right: f32 of f16 x 516
      local sums: vec4 x 32
    {
      matrix c = zeros 8x16
      let own = @subgroup.number * 4
      matrix a = left 8x32 of f16 from left[own], rows 40 apart
      matrix b = right 32x16 of f16 from right[4], columns 32 apart
      c += a * b
      sums[0], rows 16 apart = c
    }
    "
  `);
  const device = await nullDevice();
  const { messages } = await device.createShaderModule({ code: renderWGSL(given) }).getCompilationInfo();
  expect(messages.map(({ message }) => message)).toEqual([]);
  device.destroy();
});

test("what is rendered computes what was built", async () => {
  const x = (at: number): Expr => load("f32", "x", int(at));
  const q = load("vec4", "quads", int(4));
  const n = local("i32", "n");
  // Each expression, and its value with x = quads = 0, 1, 2, … and n = 5.
  const cases: readonly (readonly [Expr, number])[] = [
    [binary("sub", x(7), binary("sub", x(3), x(1))), 5],
    [binary("sub", binary("sub", x(7), x(3)), x(1)), 3],
    [binary("div", x(12), binary("mul", x(2), x(3))), 2],
    [binary("mul", binary("add", x(1), x(2)), unary("neg", x(4))), -12],
    [unary("neg", unary("neg", x(4))), 4],
    [binary("max", x(2), float(-Infinity)), 2],
    [unary("exp", float(-Infinity)), 0],
    [unary("sigmoid", float(-100)), 0],
    [unary("tanh", float(100)), 1],
    [binary("pow", x(2), x(3)), 8],
    [unary("rsqrt", x(4)), 0.5],
    [fma(x(2), x(3), x(4)), 10],
    [lane(q, 2), 6],
    [lane(vec4([x(1), x(2), x(3), x(4)]), 3), 4],
    [lane(choose("lt", q, widen(float(6)), widen(float(1)), float(2)), 1), 1],
    [lane(choose("lt", q, widen(float(6)), widen(float(1)), float(2)), 2), 2],
    [choose("le", x(3), x(3), x(1), x(2)), 1],
    [choose("eq", x(3), x(4), x(1), x(2)), 2],
    [lane(widen(x(3)), 0), 3],
    [toFloat(sub(n, sub(int(9), n))), 1],
    [toFloat(sub(sub(int(0), n), int(-9))), 4],
    [toFloat(rem(add(n, int(2)), 3)), 1],
    [toFloat(div(add(n, int(4)), 4)), 2],
    [toFloat(rem(add(n, int(1)), 4)), 2],
    [toFloat(mul(add(n, int(1)), sub(n, int(1)))), 24],
    [select(and(compare("le", n, int(5)), compare("lt", int(4), n)), float(1), float(0)), 1],
    [
      select(
        {
          kind: "logic",
          type: "bool",
          op: "or",
          left: compare("lt", n, int(5)),
          right: and(compare("eq", n, int(5)), compare("lt", int(7), n)),
        },
        float(1),
        float(0),
      ),
      0,
    ],
    [load("f32", "quads", add(n, int(2))), 7],
    [load("f32", "quads", int(9)), 9],
  ];
  const body: Stmt[] = [
    { kind: "let", name: "n", value: add(builtin("workgroup.x"), int(5)) },
    ...cases.map(([e], at) => store("y", int(at), e)),
  ];
  const device = await softwareDevice();
  const ramp = Float32Array.from({ length: 16 }, (_, at) => at);
  const [, , y] = await runPrograms(
    device,
    [{ program: program(body), buffers: [0, 1, 2] }],
    [ramp, ramp, new Float32Array(64)],
  );
  cases.forEach(([, want], at) => expect(y?.[at], `case ${at}`).toBeCloseTo(want, 5));
});

test("the validator sees what the device would not run", async () => {
  const device = await nullDevice();
  const bad = program([{ kind: "let", name: "a", value: local("i32", "nobody") }]);
  await expect(pipelineOf(device, bad)).rejects.toThrow(/nobody/);
});
