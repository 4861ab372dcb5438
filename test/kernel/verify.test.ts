/** The verifier: a good program passes, and every check fires on a program that breaks its rule and no other. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type MatrixConfig, WASM_DEFAULT, WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import {
  add,
  broadcast,
  builtin,
  compare,
  float,
  int,
  load,
  local,
  mul,
  store,
  widen,
} from "../../compiler/kernel/build.ts";
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
    ["workgroups in x: 65536", { workgroups: [65536, 1, 1] }],
    ["workgroups in y: 65536", { workgroups: [1, 65536, 1] }],
    ["workgroups in z: 65536", { workgroups: [1, 1, 65536] }],
    ["workgroups in x: 0", { workgroups: [0, 1, 1] }],
    ["workgroups in z: 1.5", { workgroups: [1, 1, 1.5] }],
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
    ["half has size 1.5", faults({ locals: [...GOOD.locals, { name: "half", size: 1.5, vec4: false }] })],
    ["none has size 0", faults({ locals: [...GOOD.locals, { name: "none", size: 0, vec4: false }] })],
    ["there is no array z", withBody(store("z", x, float(0)))],
    ["x is stored to but read-only", withBody(store("x", x, float(0)))],
    ["wide: one lane of a vec4 is stored", withBody(store("wide", x, float(0)))],
    ["x is not made of vec4", withBody(value(load("vec4", "x", x)))],
    ["x has no element 64", withBody(value(load("f32", "x", int(64))))],
    ["x has no element -1", withBody(value(load("f32", "x", int(-1))))],
    ["y has no element 64", withBody(store("y", int(64), float(0)))],
    ["x is indexed by f32", withBody(value(load("f32", "x", float(0))))],
    ["y: elements are not i32", withBody(store("y", x, int(0)))],
  ])("%s", (message, found) => expect(found).toEqual([message]));
});

describe("scopes and types", () => {
  const yes = compare("lt", x, int(1));
  const four = widen(float(0));
  const draw = {
    kind: "random",
    type: "f32",
    key: 1,
    element: x,
    stride: 0,
    counters: [float(0), float(0), float(0)],
  } as const;
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
    [
      "rem by something other than a positive constant",
      withBody(value({ kind: "int", type: "i32", op: "rem", left: x, right: int(0) })),
    ],
    ["2147483648 does not fit an i32", withBody(value({ kind: "const", type: "i32", value: 2147483648 }))],
    ["nobody is not declared", withBody({ kind: "assign", name: "nobody", value: float(0) })],
    ["loop i: a bound is f32", withBody({ kind: "for", name: "i", from: int(0), to: float(4), step: 1, body: [] })],
    ["loop i steps by 1.5", withBody({ kind: "for", name: "i", from: int(0), to: int(4), step: 1.5, body: [] })],
    ["value is declared twice", withBody({ kind: "for", name: "value", from: int(0), to: int(4), step: 1, body: [] })],
    [
      "compare: i32, f32 make no bool",
      withBody(value({ kind: "compare", type: "bool", op: "lt", left: x, right: float(0) })),
    ],
    [
      "compare: bool, bool make no bool",
      withBody(value({ kind: "compare", type: "bool", op: "eq", left: yes, right: yes })),
    ],
    ["logic: bool, i32 make no bool", withBody(value({ kind: "logic", type: "bool", op: "and", left: yes, right: x }))],
    ["unary: i32 make no f32", withBody(value({ kind: "unary", type: "f32", fn: "exp", value: x }))],
    [
      "binary: f32, vec4 make no f32",
      withBody(value({ kind: "binary", type: "f32", fn: "add", left: float(0), right: four })),
    ],
    [
      "fma: f32, f32, vec4 make no vec4",
      withBody(value({ kind: "fma", type: "vec4", left: float(0), right: float(0), add: four })),
    ],
    [
      "select: i32, f32, f32 make no f32",
      withBody(value({ kind: "select", type: "f32", condition: x, then: float(0), otherwise: float(1) })),
    ],
    [
      "select: bool, f32, vec4 make no f32",
      withBody(value({ kind: "select", type: "f32", condition: yes, then: float(0), otherwise: four })),
    ],
    [
      "a lane-wise condition selects something other than a vec4",
      withBody(
        value({
          kind: "select",
          type: "f32",
          condition: { kind: "lanes", type: "bool", op: "lt", left: four, right: four },
          then: float(0),
          otherwise: float(1),
        }),
      ),
    ],
    [
      "lanes: vec4, f32 make no bool",
      withBody({
        kind: "if",
        condition: { kind: "lanes", type: "bool", op: "lt", left: four, right: float(0) },
        then: [],
        otherwise: [],
      }),
    ],
    ["splat: i32 make no vec4", withBody(value({ kind: "splat", type: "vec4", value: x }))],
    [
      "vec4: f32, f32, f32, i32 make no vec4",
      withBody(value({ kind: "vec4", type: "vec4", lanes: [float(0), float(0), float(0), x] })),
    ],
    ["lane: f32 make no f32", withBody(value({ kind: "lane", type: "f32", value: float(0), lane: 1 }))],
    ["float: f32 make no f32", withBody(value({ kind: "float", type: "f32", value: float(0) }))],
    ["random: i32, i32, f32, f32 make no f32", withBody(value({ ...draw, counters: [x, float(0), float(0)] }))],
    ["random: a stride of 4 in a f32", withBody(value({ ...draw, stride: 4 }))],
    ["random: a stride of 0 in a vec4", withBody(value({ ...draw, type: "vec4" }))],
    ["random: the key -1 is no u32", withBody(value({ ...draw, key: -1 }))],
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
  const unknown = "subgroups of the device are of no known size";
  test("pass numbers on where the workgroup is one of them", () => {
    expect(of(64, 64, given)).toEqual([]);
    expect(of(64, 64, { kind: "let", name: "me", value: builtin("subgroup") })).toEqual([]);
  });
  test.each<[string, readonly string[], string]>([
    ["no subgroups", withBody(given), no],
    ["subgroups of several sizes", of(32, 64, given), no],
    ["several sizes for a number", of(16, 32, { kind: "let", name: "me", value: builtin("subgroup") }), unknown],
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

describe("matrices", () => {
  const config: MatrixConfig = { m: 16, n: 8, k: 16, input: "f16", result: "f32" };
  const device: WebGPUCapability = { ...WEBGPU_DEFAULT, f16: true, subgroups: { min: 32, max: 32 }, matrix: [config] };
  const load = (change: Partial<Extract<Stmt, { kind: "matrix-load" }>>): Stmt => ({
    kind: "matrix-load",
    name: "a",
    side: "left",
    config,
    from: "left",
    index: int(0),
    stride: 20,
    lines: "rows",
    ...change,
  });
  const right: Partial<Extract<Stmt, { kind: "matrix-load" }>> = { name: "b", side: "right", from: "right", stride: 8 };
  const result: Stmt = { kind: "matrix-result", name: "c", config };
  const multiply: Stmt = { kind: "matrix-multiply", left: "a", right: "b", to: "c" };
  const write = (change: Partial<Extract<Stmt, { kind: "matrix-store" }>>): Stmt => ({
    kind: "matrix-store",
    name: "c",
    to: "sums",
    index: int(0),
    stride: 8,
    ...change,
  });
  const locals = [
    ...GOOD.locals,
    { name: "left", size: 320, vec4: true, half: true },
    { name: "right", size: 128, vec4: false, half: true },
    { name: "sums", size: 128, vec4: false },
  ];
  const of = (body: readonly Stmt[], on: WebGPUCapability = device, change: Partial<KernelProgram> = {}) =>
    verifyKernel({ ...GOOD, locals, body: [...GOOD.body, ...body], ...change }, on);
  const all = [result, load({}), load(right), multiply, write({})];

  test("are multiplied where the device has their shape", () => {
    expect(of(all)).toEqual([]);
    // A right factor by columns.
    const turned = { ...right, lines: "columns", stride: 16 } as const;
    expect(of([result, load({}), load(turned), multiply, write({})])).toEqual([]);
    const sized = { ...device, subgroups: { min: 8, max: 32, sized: true } };
    expect(of(all, sized, { subgroupSize: 16 })).toEqual([]);
  });
  const none = "the device multiplies no 16x16 by 16x8 of f16 to f32";
  const twice = (fault: string): readonly string[] => [fault, fault, fault];
  test.each<[string, readonly string[], readonly string[]]>([
    ["no such shape", of(all, { ...device, matrix: [{ ...config, m: 8 }] }), twice(none)],
    ["subgroups of several sizes", of(all, { ...device, subgroups: { min: 8, max: 32 } }), twice(none)],
    ["half a subgroup", of(all, { ...device, subgroups: { min: 128, max: 128 } }), twice(none)],
    [
      "subgroups of a size that is not to be had",
      of([], { ...device, subgroups: { min: 8, max: 32, sized: true } }, { subgroupSize: 64 }),
      ["the device makes no subgroups of 64 when asked"],
    ],
    ["halves", of([], { ...device, f16: false }), ["the device has no halves"]],
    [
      "rounding",
      of([value({ kind: "unary", type: "f32", fn: "half", value: float(1) })], WEBGPU_DEFAULT, { locals: GOOD.locals }),
      ["the device has no halves"],
    ],
    [
      "control flow that differs",
      of([{ kind: "if", condition: compare("lt", x, int(9)), then: [result], otherwise: [] }]),
      ["a matrix stands in control flow that is not uniform"],
    ],
    ["a result that is none", of([load({}), load(right), { ...multiply, to: "a" }]), ["a is no result matrix"]],
    ["sides exchanged", of([result, load({}), load({ name: "b" }), multiply]), ["b is no right matrix"]],
    [
      "different shapes",
      of([{ ...result, config: { ...config, n: 16 } }, load({}), load(right), multiply], {
        ...device,
        matrix: [config, { ...config, n: 16 }],
      }),
      ["c: matrices of different shapes are multiplied"],
    ],
    ["a buffer", of([load({ from: "wide" })]), ["wide is no workgroup memory"]],
    [
      "f32 for halves",
      of([load({ from: "tile", index: int(0) })]),
      ["tile: its elements are not f16", "tile has no room for 16 lines of 16"],
    ],
    ["lines beyond the end", of([load({ index: int(8) })]), ["left has no room for 16 lines of 16"]],
    ["a place of the wrong type", of([load({ index: float(0) })]), ["left is indexed by f32"]],
    ["lines that overlap", of([load({ stride: 12 })]), ["left: lines of 16 are 12 apart"]],
    ["lines off the vectors", of([load({ stride: 17 })]), ["left: lines 17 apart in an array of vec4"]],
    ["results beyond the end", of([result, write({ index: int(8) })]), ["sums has no room for 16 lines of 8"]],
    ["a number", of([result, value({ kind: "var", type: "f32", name: "c" })]), ["c: a result matrix is used as f32"]],
    [
      "a number assigned",
      of([result, { kind: "assign", name: "c", value: float(0) }]),
      ["c: a result matrix is assigned f32"],
    ],
  ])("%s", (_, found, wanted) => expect(found).toEqual(wanted));
});

/**
 * Sizes in x and y have no check of their own on the default record, where a workgroup that is too long has too many
 * invocations too: here a record on which it has not.
 */
test.each([
  ["workgroup size in x: 512", [512, 1, 1]],
  ["workgroup size in y: 512", [1, 512, 1]],
] as const)("%s", (message, workgroupSize) => {
  const limits = { ...WEBGPU_DEFAULT.limits, maxComputeInvocationsPerWorkgroup: 1024 };
  const found = verifyKernel({ ...GOOD, workgroupSize }, { ...WEBGPU_DEFAULT, limits });
  expect(found.map((fault) => fault.split(", ")[0])).toEqual([message]);
});

test("every check of the verifier is among these", () => {
  const source = readFileSync(new URL("../../compiler/kernel/verify.ts", import.meta.url), "utf8");
  const own = readFileSync(new URL(import.meta.url), "utf8");
  // A message is known by its words; what stands in it for names and numbers is not looked at.
  const messages = [...source.matchAll(/(?:faults\.push\(\s*|atMost\()(["`])((?:(?!\1).)*)\1/g)].map(
    ([, , text = ""]) => text,
  );
  expect(messages.length).toBeGreaterThan(25);
  const missing = messages.filter((message) => {
    // The limits' own words come from the calls, which are among the messages.
    if (message.startsWith("${what}")) return false;
    const words = message
      .split(/\$\{[^}]*\}(?:\[[^\]]*\])?/)
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return !new RegExp(words.join("[^\n]*?")).test(own);
  });
  expect(missing).toEqual([]);
  // And types: every kind of expression that has operands.
  const typed = [...source.matchAll(/case "(\w+)":[^]*?(?=case "|default:)/g)].filter(([text]) =>
    text.includes("want("),
  );
  const kinds = typed.map(([, kind = ""]) => kind);
  expect(kinds.filter((kind) => !own.includes(`"${kind}: `))).toEqual([]);
});
