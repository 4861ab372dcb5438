/**
 * The inner loop of TV-L1 as WebAssembly, four pixels at a time: nine tenths of the time of optical flow.
 *
 * In: nothing but the sizes below. Out: the bytes of modules that do a number of iterations on planes in a memory (see
 * flow.ts for the mathematics and for who fills the planes). Planes lie a fixed distance apart, which their loads and
 * stores have as an immediate; there is a module for small, large and very large pictures. The distance is no power of
 * two, so that equal places of the planes do not compete for one line of the processor's cache. Every operation is
 * IEEE 754 in single precision and none is relaxed: the flow is the same on every machine.
 */
import {
  type Code,
  encodeModule,
  i32Const,
  indexed,
  memory,
  open,
  plain,
  v128Const,
  type WasmFunction,
} from "../../compiler/kernel/wasm-encoder.ts";

/** The planes of a memory, in their order. */
const PLANES = ["gx", "gy", "rho", "u", "v", "ux", "uy", "vx", "vy", "inner", "above"] as const;
type Plane = (typeof PLANES)[number];

/** Bytes from a plane to the next. */
const PITCHES: readonly number[] = [20, 24, 26].map((bits) => 2 ** bits + 17 * 64);

export interface FlowKernel {
  readonly pitch: number;
  readonly bytes: Uint8Array;
}

/** `run(from, to, row, iterations, limit, theta, step)`: addresses in bytes of the first plane's pixels, `row` bytes a row. */
function encodeKernel(pitch: number): FlowKernel {
  const parameters = ["from", "to", "row", "iterations", "limit", "theta", "step"] as const;
  const locals = ["i", "near", "limits", "least", "thetas", "steps", "a", "b", "u0", "v0", "d", "x", "y"] as const;
  type Name = (typeof parameters)[number] | (typeof locals)[number];
  const names: readonly Name[] = [...parameters, ...locals];
  const get = (name: Name): Code => indexed("local.get", names.indexOf(name));
  const set = (name: Name): Code => indexed("local.set", names.indexOf(name));
  const load = (at: Name, plane: Plane): Code => [...get(at), ...memory("v128.load", PLANES.indexOf(plane) * pitch)];
  const store = (plane: Plane, value: Code): Code => [
    ...get("i"),
    ...value,
    ...memory("v128.store", PLANES.indexOf(plane) * pitch),
  ];
  const op =
    (name: "f32x4.add" | "f32x4.sub" | "f32x4.mul" | "f32x4.div" | "f32x4.min" | "f32x4.max") =>
    (left: Code, right: Code): Code => [...left, ...right, ...plain(name)];
  const [add, sub, mul, div] = [op("f32x4.add"), op("f32x4.sub"), op("f32x4.mul"), op("f32x4.div")];
  const [min, max] = [op("f32x4.min"), op("f32x4.max")];
  const splat = (value: number): Code => v128Const(new Float32Array(4).fill(value));
  const move = (name: "i" | "near", from: Name, by: Code, how: "i32.add" | "i32.sub"): Code => [
    ...get(from),
    ...by,
    ...plain(how),
    ...set(name),
  ];
  const overPixels = (body: Code): Code => [
    ...get("from"),
    ...set("i"),
    ...open("loop"),
    ...body,
    ...move("i", "i", i32Const(16), "i32.add"),
    ...get("i"),
    ...get("to"),
    ...plain("i32.lt_u"),
    ...indexed("br_if", 0),
    ...plain("end"),
  ];

  // The threshold on the linearised difference, and the divergence of the dual fields. Outside of the picture these are
  // zero: the places beside and above it are never written.
  const threshold: Code = [
    ...load("i", "gx"),
    ...set("a"),
    ...load("i", "gy"),
    ...set("b"),
    ...load("i", "u"),
    ...set("u0"),
    ...load("i", "v"),
    ...set("v0"),
    // d = -r / g between -limit and limit
    ...min(
      get("limits"),
      max(
        get("least"),
        div(
          [...add(load("i", "rho"), add(mul(get("a"), get("u0")), mul(get("b"), get("v0")))), ...plain("f32x4.neg")],
          max(splat(1e-9), add(mul(get("a"), get("a")), mul(get("b"), get("b")))),
        ),
      ),
    ),
    ...set("d"),
    ...move("near", "i", i32Const(4), "i32.sub"),
    ...sub(load("i", "ux"), load("near", "ux")),
    ...set("x"),
    ...sub(load("i", "vx"), load("near", "vx")),
    ...set("y"),
    ...move("near", "i", get("row"), "i32.sub"),
    ...store(
      "u",
      add(
        get("u0"),
        add(mul(get("d"), get("a")), mul(get("thetas"), add(get("x"), sub(load("i", "uy"), load("near", "uy"))))),
      ),
    ),
    ...store(
      "v",
      add(
        get("v0"),
        add(mul(get("d"), get("b")), mul(get("thetas"), add(get("y"), sub(load("i", "vy"), load("near", "vy"))))),
      ),
    ),
  ];

  // A step of the dual fields of one component. `inner` is 0 in the last column, `above` in the last row, else 1.
  const dual = (of: "u" | "v", px: "ux" | "vx", py: "uy" | "vy"): Code => [
    ...load("i", of),
    ...set("u0"),
    ...move("near", "i", i32Const(4), "i32.add"),
    ...mul(sub(load("near", of), get("u0")), load("i", "inner")),
    ...set("x"),
    ...move("near", "i", get("row"), "i32.add"),
    ...mul(sub(load("near", of), get("u0")), load("i", "above")),
    ...set("y"),
    ...div(
      splat(1),
      add(
        splat(1),
        mul(get("steps"), [...add(mul(get("x"), get("x")), mul(get("y"), get("y"))), ...plain("f32x4.sqrt")]),
      ),
    ),
    ...set("d"),
    ...store(px, mul(add(load("i", px), mul(get("steps"), get("x"))), get("d"))),
    ...store(py, mul(add(load("i", py), mul(get("steps"), get("y"))), get("d"))),
  ];

  const spread = (from: "limit" | "theta" | "step", to: Name): Code => [
    ...get(from),
    ...plain("f32x4.splat"),
    ...set(to),
  ];
  const run: WasmFunction = {
    parameters: ["i32", "i32", "i32", "i32", "f32", "f32", "f32"],
    results: [],
    locals: locals.map((name) => (name === "i" || name === "near" ? "i32" : "v128")),
    code: [
      ...spread("limit", "limits"),
      ...get("limits"),
      ...plain("f32x4.neg"),
      ...set("least"),
      ...spread("theta", "thetas"),
      ...spread("step", "steps"),
      ...open("loop"),
      ...overPixels(threshold),
      ...overPixels([...dual("u", "ux", "uy"), ...dual("v", "vx", "vy")]),
      ...get("iterations"),
      ...i32Const(1),
      ...plain("i32.sub"),
      ...indexed("local.tee", names.indexOf("iterations")),
      ...indexed("br_if", 0),
      ...plain("end"),
    ],
  };
  return { pitch, bytes: encodeModule([run]) };
}

/** By size, smallest first. */
export const FLOW_KERNELS: readonly FlowKernel[] = PITCHES.map(encodeKernel);
export const FLOW_PLANES: number = PLANES.length;
