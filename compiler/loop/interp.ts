/**
 * The oracle: runs loops in f64, one iteration after another, with no schedule. What is stored in half precision is
 * rounded to it; everything else stays f64.
 *
 * It shares nothing with the back ends but the loops and the scalar table. Each kernel is written out as the plain nest
 * it stands for, in JavaScript, and called: the text is the definition of what a kernel means, and a compiled nest runs
 * tens of millions of iterations a second where walking expressions would run one. The text is made of numbers and
 * names from this file only.
 */

import { roundToHalf } from "../half.ts";
import { uniform } from "../random.ts";
import type { Scalar } from "../scalar.ts";
import { BINARY, type BinaryFn, COMPARE, UNARY } from "../scalar.ts";
import { axisSizes, bufferAt, loadAt, offsetOf, outputAxes, reductionAxes } from "./access.ts";
import { attentionOf } from "./attention.ts";
import { elementCount } from "./layout.ts";
import type { Affine, Buffer, Guard, Kernel, Loops } from "./loops.ts";
import { REDUCERS } from "./reducers.ts";

/** Loops whose load program has run. */
export interface Interpreter {
  /**
   * Runs the run program.
   * @param inputs row-major values of every input, by name
   * @param look sees every kernel with the buffers that it wrote; false ends the run
   * @returns row-major values of every output, by name; they change with the next run
   */
  readonly run: (
    inputs: ReadonlyMap<string, Float64Array>,
    look?: (kernel: Kernel, written: readonly Float64Array[]) => boolean,
  ) => Map<string, Float64Array>;
  /** Row-major values of a parameter that runs replace. */
  readonly state: (path: string) => Float64Array;
}

/** Runs the load program and the run program once; see `openInterpreter`. */
export function interpret(
  loops: Loops,
  inputs: ReadonlyMap<string, Float64Array>,
  params: ReadonlyMap<string, Float64Array>,
): Map<string, Float64Array> {
  return openInterpreter(loops, params).run(inputs);
}

/**
 * Runs the load program.
 * @param params row-major values of every parameter, whole, by path
 */
export function openInterpreter(loops: Loops, params: ReadonlyMap<string, Float64Array>): Interpreter {
  const memory = loops.buffers.map((buffer) => new Float64Array(elementCount(buffer)).fill(Number.NaN));
  for (const step of loops.load) {
    if (step.kind === "kernel") runKernel(step.kernel, loops.buffers, memory);
    else {
      const buffer = bufferAt(loops.buffers, step.buffer);
      if (buffer.param === undefined) throw new Error(`internal: ${buffer.name} is no parameter`);
      const { path, rows, shape } = buffer.param;
      const whole = need(params, path);
      const row = whole.length / (shape[0] ?? 1);
      fill(memory, buffer, rows === undefined ? whole : whole.subarray(rows.start * row, rows.end * row));
    }
  }
  return {
    run: (inputs, look = () => true) => {
      for (const { name, buffer } of loops.inputs) fill(memory, bufferAt(loops.buffers, buffer), need(inputs, name));
      for (const kernel of loops.run) {
        runKernel(kernel, loops.buffers, memory);
        const written = kernel.stores.map((store) => at(memory, store.buffer));
        if (!look(kernel, written)) break;
      }
      return new Map(loops.outputs.map(({ name, buffer }) => [name, at(memory, buffer)]));
    },
    state: (path) => {
      const parts = loops.buffers
        .filter(({ role, param }) => role === "state" && param?.path === path)
        .sort((a, b) => (a.param?.rows?.start ?? 0) - (b.param?.rows?.start ?? 0));
      return Float64Array.from(parts.flatMap((part) => [...rowMajorOf(at(memory, part.id), part)]));
    },
  };
}

function need(values: ReadonlyMap<string, Float64Array>, name: string): Float64Array {
  const value = values.get(name);
  if (value === undefined) throw new Error(`internal: no value for ${name}`);
  return value;
}

function at(memory: readonly Float64Array[], id: number): Float64Array {
  const array = memory[id];
  if (array === undefined) throw new Error(`internal: no memory for buffer ${id}`);
  return array;
}

function fill(memory: readonly Float64Array[], buffer: Buffer, values: Float64Array): void {
  const into = at(memory, buffer.id);
  if (into.length !== values.length) {
    throw new Error(`internal: ${buffer.name} takes ${into.length} values, not ${values.length}`);
  }
  into.set(stateOrder(values, buffer));
}

/** Row-major values of state in the order in which its buffer lies; what else is filled lies row-major. */
function stateOrder(values: Float64Array, { role, shape, layout }: Buffer): Float64Array {
  return role === "state" && layout.kind === "rows" ? permuted(values, shape, layout.order) : values;
}

function rowMajorOf(values: Float64Array, { shape, layout }: Buffer): Float64Array {
  if (layout.kind !== "rows") throw new Error("internal: state lies in rows");
  const order = layout.order;
  const lying = order.map((d) => shape[d] ?? 1);
  return permuted(
    values,
    lying,
    shape.map((_, d) => order.indexOf(d)),
  );
}

/** Row-major `values` of `shape` with the dimensions in another order, outermost first. */
function permuted(values: Float64Array, shape: readonly number[], order: readonly number[]): Float64Array {
  if (order.every((d, i) => d === i)) return values;
  const steps = shape.map((_, d) => shape.slice(d + 1).reduce((product, size) => product * size, 1));
  const out = new Float64Array(values.length);
  const point = order.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = values[point.reduce((sum, at, j) => sum + at * (steps[order[j] ?? 0] ?? 0), 0)] ?? Number.NaN;
    for (let j = order.length - 1; j >= 0; j--) {
      point[j] = (point[j] ?? 0) + 1;
      if ((point[j] ?? 0) < (shape[order[j] ?? 0] ?? 1)) break;
      point[j] = 0;
    }
  }
  return out;
}

// ------------------------------------------------------------------------------------------------------------- one nest

const FUNCTIONS = {
  u: Object.fromEntries(Object.entries(UNARY).map(([name, row]) => [name, row.value])),
  b: Object.fromEntries(Object.entries(BINARY).map(([name, row]) => [name, row.value])),
  c: Object.fromEntries(Object.entries(COMPARE).map(([name, row]) => [name, row.value])),
  r: uniform,
  h: roundToHalf,
};

function runKernel(kernel: Kernel, buffers: readonly Buffer[], memory: readonly Float64Array[]): void {
  const used = kernel.loads.map((load) => at(memory, load.buffer));
  const stored = kernel.stores.map((store) => at(memory, store.buffer));
  // Compiled because a nest of 2·10⁷ iterations is too slow to walk; see the top of this file.
  // oxlint-disable-next-line typescript/no-implied-eval -- the text is made from index maps and table names, never from a source
  const run = new Function("L", "S", "F", nestText(kernel, buffers));
  run(used, stored, FUNCTIONS);
}

/** The body of a function of L (arrays by load), S (arrays by store) and F (the scalar table). */
function nestText(kernel: Kernel, buffers: readonly Buffer[]): string {
  const sizes = axisSizes(kernel);
  const loops = (axes: readonly number[], body: readonly string[]): readonly string[] => [
    "{",
    ...axes.map((a) => `for (let a${a} = 0; a${a} < ${sizes[a]}; a${a}++) {`),
    ...body,
    ...axes.map(() => "}"),
    "}",
  ];
  const load = (i: number): string => {
    const access = loadAt(kernel, i);
    const value = `L${i}[${affineText(offsetOf(kernel, buffers, access))}]`;
    return access.guards.length === 0 ? value : `(${guardText(access.guards)} ? ${value} : ${access.otherwise})`;
  };
  const state = (i: number): string => `s${i}`;

  // Everything is computed before anything is replaced: a kernel may write what it reads at the same point.
  const values = kernel.stores.map((store, i) => scalarText([store.value], `w${i}_`, load, state));
  const stores = [
    ...values.flatMap(({ lines, results }, i) => [...lines, `const r${i} = ${results[0]};`]),
    ...kernel.stores.map((store, i) => {
      const stored = bufferAt(buffers, store.buffer).dtype === "f16" ? `F.h(r${i})` : `r${i}`;
      const write = `S${i}[${affineText(offsetOf(kernel, buffers, store))}] = ${stored};`;
      return store.guards.length === 0 ? write : `if (${guardText(store.guards)}) { ${write} }`;
    }),
  ];
  const reduction: string[] = [];
  const attention = attentionOf(kernel);
  const sums = (kernel.inner ?? []).flatMap(({ axes, value }, i) => {
    const term = scalarText([value], `p${i}_`, load, state);
    return [`let u${i} = 0;`, ...loops(axes, [...term.lines, `u${i} += ${term.results[0]};`])];
  });
  if (kernel.reduce !== undefined) {
    const { init, step } = REDUCERS[kernel.reduce];
    const operands = scalarText(kernel.body, "x", load, attention === undefined ? state : (i) => `u${i}`);
    const next = scalarText(step, "t", (i) => operands.results[i] ?? "undefined", state);
    const update = next.results.map((result, i) => `const n${i} = ${result};`);
    if (attention !== undefined) {
      // Features share their inner sums: a state for each of them, and the sums once for all.
      const { batch, rows, keys, features } = attention;
      const feature = features.reduce((flat, a) => `(${flat}) * ${sizes[a]} + a${a}`, "0");
      const states = (to: (i: number) => string): readonly string[] => init.map((_, i) => to(i));
      return [
        ...kernel.loads.map((_, i) => `const L${i} = L[${i}];`),
        ...kernel.stores.map((_, i) => `const S${i} = S[${i}];`),
        ...states((i) => `const T${i} = new Float64Array(${attention.sizes.features});`),
        ...loops(
          [...batch, ...rows],
          [
            ...init.map((value, i) => `T${i}.fill(${value});`),
            ...loops(keys, [
              ...sums,
              ...loops(features, [
                `const f = ${feature};`,
                ...states((i) => `const s${i} = T${i}[f];`),
                ...operands.lines,
                ...next.lines,
                ...update,
                ...states((i) => `T${i}[f] = n${i};`),
              ]),
            ]),
            ...loops(features, [`const f = ${feature};`, ...states((i) => `const s${i} = T${i}[f];`), ...stores]),
          ],
        ),
      ].join("\n");
    }
    reduction.push(
      ...init.map((value, i) => `let s${i} = ${value};`),
      ...loops(reductionAxes(kernel), [
        ...operands.lines,
        ...next.lines,
        ...update,
        ...update.map((_, i) => `s${i} = n${i};`),
      ]),
    );
  }
  return [
    ...kernel.loads.map((_, i) => `const L${i} = L[${i}];`),
    ...kernel.stores.map((_, i) => `const S${i} = S[${i}];`),
    ...loops(outputAxes(kernel), [...reduction, ...stores]),
  ].join("\n");
}

function affineText(e: Affine): string {
  const terms = e.terms.map(({ coefficient, atom }) => {
    if (atom.kind === "axis") return `${coefficient} * a${atom.axis}`;
    const of = affineText(atom.of);
    const quotient = `Math.floor((${of}) / ${atom.by})`;
    return `${coefficient} * ${atom.kind === "div" ? quotient : `((${of}) - ${atom.by} * ${quotient})`}`;
  });
  return [...terms, String(e.constant)].join(" + ");
}

function guardText(guards: readonly Guard[]): string {
  return guards.map(({ index, size }) => `${affineText(index)} >= 0 && ${affineText(index)} < ${size}`).join(" && ");
}

const OPERATORS: Readonly<Partial<Record<BinaryFn, string>>> = { add: "+", sub: "-", mul: "*", div: "/" };

/** One constant for every distinct operation, named with `prefix`, and the text of each scalar. */
function scalarText(
  scalars: readonly Scalar[],
  prefix: string,
  load: (i: number) => string,
  state: (i: number) => string,
): { readonly lines: readonly string[]; readonly results: readonly string[] } {
  const lines: string[] = [];
  const known = new Map<Scalar, string>();
  const name = (value: string): string => {
    const constant = `${prefix}${lines.length}`;
    lines.push(`const ${constant} = ${value};`);
    return constant;
  };
  const text = (s: Scalar): string => {
    const result = known.get(s) ?? write(s);
    known.set(s, result);
    return result;
  };
  const write = (s: Scalar): string => {
    switch (s.kind) {
      case "const":
        return `(${s.value})`;
      case "load":
        return load(s.index);
      case "state":
        return state(s.index);
      case "axis":
        return `a${s.axis}`;
      case "unary":
        return name(`F.u.${s.fn}(${text(s.value)})`);
      case "binary": {
        const [left, right, operator] = [text(s.left), text(s.right), OPERATORS[s.fn]];
        return name(operator === undefined ? `F.b.${s.fn}(${left}, ${right})` : `${left} ${operator} ${right}`);
      }
      case "select":
        return name(`F.c.${s.compare}(${text(s.left)}, ${text(s.right)}) ? ${text(s.then)} : ${text(s.otherwise)}`);
      case "random":
        return name(`F.r(${affineText(s.element)}, ${s.counters.map(text).join(", ")}, ${s.key})`);
      default:
        return s satisfies never;
    }
  };
  return { results: scalars.map(text), lines };
}
