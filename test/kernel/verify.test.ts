/** The verifier: a good program passes, and every check fires on a program that breaks its rule and no other. */
import { describe, expect, test } from "vitest";
import { WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { add, broadcast, builtin, compare, float, int, load, local, mul, store, widen } from "../../compiler/kernel/build.ts";
import type { Expr, KernelProgram, Stmt } from "../../compiler/kernel/ir.ts";
import { verifyKernel } from "../../compiler/kernel/verify.ts";

const x = builtin("local.x");

/** y[i] = 2·x[i] through workgroup memory. */
const GOOD: KernelProgram = {
  name: "double",
  header: [],
  args: [
    { name: "x", access: "read", size: 64, vec4: false },
    { name: "y", access: "read_write", size: 64, vec4: false },
    { name: "wide", access: "read_write", size: 64, vec4: true },
  ],
  locals: [{ name: "tile", size: 64, vec4: false }],
  body: [
    store("tile", x, load("f32", "x", x)),
    { kind: "barrier" },
    { kind: "let", name: "value", value: load("f32", "tile", x) },
    { kind: "var", name: "sum", value: float(0) },
    {
      kind: "assign",
      name: "sum",
      value: { kind: "binary", type: "f32", fn: "add", left: local("f32", "sum"), right: local("f32", "value") },
    },
    { kind: "if", condition: compare("lt", x, int(64)), then: [store("y", x, local("f32", "sum"))], otherwise: [] },
    store("wide", mul(x, int(4)), widen(float(1))),
  ],
  workgroupSize: [64, 1, 1],
  workgroups: [1, 1, 1],
};

const faults = (change: Partial<KernelProgram>): readonly string[] =>
  verifyKernel({ ...GOOD, ...change }, WEBGPU_DEFAULT);
const withBody = (...body: readonly Stmt[]): readonly string[] => faults({ body: [...GOOD.body, ...body] });
const value = (e: Expr): Stmt => ({ kind: "let", name: "last", value: e });

test("a good program has no faults", () => {
  expect(faults({})).toEqual([]);
});

describe("limits of the device", () => {
  const { limits } = WEBGPU_DEFAULT;
  test.each<[string, Partial<KernelProgram>]>([
    ["invocations of a workgroup: 512", { workgroupSize: [32, 16, 1] }],
    ["workgroup size in z: 128", { workgroupSize: [1, 1, 128] }],
    ["workgroups in y: 65536", { workgroups: [1, 65536, 1] }],
    ["workgroups in x: 0", { workgroups: [0, 1, 1] }],
    ["bytes of workgroup memory: 16640", { locals: [...GOOD.locals, { name: "more", size: 4096, vec4: false }] }],
    [
      "storage buffers: 9",
      {
        args: [
          ...GOOD.args,
          ...["a", "b", "c", "d", "e", "f"].map((name) => ({ name, access: "read" as const, size: 4, vec4: false })),
        ],
      },
    ],
    [
      `bytes of big: ${limits.maxStorageBufferBindingSize + 4}`,
      {
        args: [
          ...GOOD.args,
          { name: "big", access: "read", size: limits.maxStorageBufferBindingSize / 4 + 1, vec4: false },
        ],
      },
    ],
  ])("%s", (message, change) => {
    expect(faults(change).map((f) => f.split(", ")[0])).toEqual([message]);
  });
});

describe("arrays", () => {
  test.each<[string, readonly string[]]>([
    ["two arrays are called x", faults({ locals: [...GOOD.locals, { name: "x", size: 1, vec4: false }] })],
    [
      "odd is made of vec4 but has 6 elements",
      faults({ locals: [...GOOD.locals, { name: "odd", size: 6, vec4: true }] }),
    ],
    ["none has size 0", faults({ locals: [...GOOD.locals, { name: "none", size: 0, vec4: false }] })],
    ["there is no array z", withBody(store("z", x, float(0)))],
    ["x is stored to but read-only", withBody(store("x", x, float(0)))],
    ["wide: one lane of a vec4 is stored", withBody(store("wide", x, float(0)))],
    ["x is not made of vec4", withBody(value(load("vec4", "x", x)))],
    ["x has no element 64", withBody(value(load("f32", "x", int(64))))],
    ["x is indexed by f32", withBody(value(load("f32", "x", float(0))))],
    ["y: elements are not i32", withBody(store("y", x, int(0)))],
  ])("%s", (message, found) => expect(found).toEqual([message]));
});

describe("scopes and types", () => {
  const inner: Stmt = {
    kind: "if",
    condition: compare("lt", x, int(1)),
    then: [{ kind: "let", name: "inner", value: int(1) }],
    otherwise: [],
  };
  test.each<[string, readonly string[]]>([
    ["value is declared twice", withBody({ kind: "let", name: "value", value: int(0) })],
    ["tile is declared twice", withBody({ kind: "let", name: "tile", value: int(0) })],
    ["nobody is not declared", withBody(value(local("i32", "nobody")))],
    ["inner is not declared", withBody(inner, value(local("i32", "inner")))],
    ["value is assigned but immutable", withBody({ kind: "assign", name: "value", value: float(0) })],
    ["sum: f32 is assigned vec4", withBody({ kind: "assign", name: "sum", value: widen(float(0)) })],
    ["value: f32 is used as i32", withBody(value(local("i32", "value")))],
    ["int: i32, f32 make no i32", withBody(value({ kind: "int", type: "i32", op: "add", left: x, right: float(1) }))],
    [
      "div by something other than a positive constant",
      withBody(value({ kind: "int", type: "i32", op: "div", left: x, right: x })),
    ],
    ["1.5 is no i32", withBody(value({ kind: "const", type: "i32", value: 1.5 }))],
    ["the condition of an if is i32", withBody({ kind: "if", condition: int(1), then: [], otherwise: [] })],
    ["loop i steps by 0", withBody({ kind: "for", name: "i", from: int(0), to: int(4), step: 0, body: [] })],
    ["loop i: a bound is f32", withBody({ kind: "for", name: "i", from: float(0), to: int(4), step: 1, body: [] })],
  ])("%s", (message, found) => expect(found).toEqual([message]));
});

describe("barriers", () => {
  const fault = "a barrier stands in control flow that is not uniform";
  const around = (condition: Expr): Stmt => ({ kind: "if", condition, then: [{ kind: "barrier" }], otherwise: [] });
  const upTo = (to: Expr): Stmt => ({ kind: "for", name: "i", from: int(0), to, step: 1, body: [{ kind: "barrier" }] });
  test.each<[string, Stmt, readonly string[]]>([
    ["one invocation only", around(compare("eq", x, int(0))), [fault]],
    ["where data say so", around(compare("lt", load("f32", "x", int(0)), float(0))), [fault]],
    ["a loop as long as the invocation's number", upTo(x), [fault]],
    ["one workgroup only", around(compare("eq", builtin("workgroup.x"), int(0))), []],
    ["a loop as long as the workgroup's number", upTo(add(builtin("workgroup.x"), int(1))), []],
  ])("%s", (_, statement, found) => expect(withBody(statement)).toEqual(found));
  test("do not matter to a CPU, where limits of GPUs do not hold either", () => {
    const body = [around(compare("eq", builtin("thread"), int(0))), value(load("vec4", "x", int(2)))];
    expect(verifyKernel({ ...GOOD, body, workgroupSize: [999, 1, 1] }, WASM_DEFAULT)).toEqual([]);
  });
});

describe("subgroups", () => {
  const of = (min: number, max: number, ...body: readonly Stmt[]): readonly string[] =>
    verifyKernel({ ...GOOD, body: [...GOOD.body, ...body] }, { ...WEBGPU_DEFAULT, subgroups: { min, max } });
  const given = value(broadcast(float(1), 63));
  const no = "the workgroup is no subgroup of the device";
  test("pass numbers on where the workgroup is one of them", () => {
    expect(of(64, 64, given)).toEqual([]);
    expect(of(64, 64, { kind: "let", name: "me", value: builtin("subgroup") })).toEqual([]);
  });
  test.each<[string, readonly string[], string]>([
    ["no subgroups", withBody(given), no],
    ["subgroups of several sizes", of(32, 64, given), no],
    ["smaller subgroups", of(32, 32, { kind: "let", name: "me", value: builtin("subgroup") }), no],
    ["nobody there", of(64, 64, value(broadcast(float(1), 64))), "a subgroup has no invocation 64"],
    [
      "some invocations only",
      of(64, 64, { kind: "if", condition: compare("lt", x, int(9)), then: [given], otherwise: [] }),
      "a broadcast stands in control flow that is not uniform",
    ],
    ["an index", of(64, 64, value(broadcast(int(1), 0))), "broadcast: i32 make no f32"],
  ])("%s", (_, found, fault) => expect(found).toEqual([fault]));
  test("memory of each invocation's own is none of the workgroup's", () => {
    const locals = [...GOOD.locals, { name: "own", size: 4096, vec4: true, private: true }];
    expect(faults({ locals })).toEqual([]);
  });
});
