/**
 * Loops as text, for `netc inspect` and for golden tests: every buffer on a line, every kernel as its axes, loads, body and
 * stores. Names of axes stand for themselves; `b3:conv1` is buffer 3.
 */

import type { Scalar } from "../scalar.ts";
import { operands, visitScalar } from "../scalar.ts";
import { axisSizes, bufferAt, innerAxes, offsetOf, outputAxes } from "./access.ts";
import { isLinear } from "./affine.ts";
import { byteSize } from "./layout.ts";
import type { Affine, Buffer, Guard, Kernel, Load, Loops, Store } from "./loops.ts";

export function printLoops(loops: Loops): string {
  const run = loops.run.map((kernel) => printKernel(kernel, loops.buffers));
  const load = loops.load.map((step) =>
    step.kind === "upload"
      ? `upload ${bufferName(loops.buffers, step.buffer)}\n`
      : printKernel(step.kernel, loops.buffers),
  );
  const ports = (list: Loops["inputs"]): string =>
    list.map(({ name, buffer }) => `${name} = ${bufferName(loops.buffers, buffer)}`).join(", ");
  return [
    `loops ${loops.name}`,
    `inputs  ${ports(loops.inputs)}`,
    `outputs ${ports(loops.outputs)}`,
    "",
    ...loops.buffers.map(printBuffer),
    "",
    "load:",
    ...load,
    "run:",
    ...run,
  ].join("\n");
}

function printBuffer(buffer: Buffer): string {
  const { layout } = buffer;
  const rows = layout.kind === "rows" && layout.order.some((d, i) => d !== i) ? ` order ${layout.order.join("")}` : "";
  const shown = layout.kind === "panels" ? ` panels of ${layout.width}` : rows;
  const bytes = byteSize(buffer).toLocaleString("en-US");
  return `b${buffer.id}  ${buffer.role} ${buffer.name}: ${buffer.dtype}[${buffer.shape.join(", ")}]${shown}  ${bytes} bytes`;
}

function bufferName(buffers: readonly Buffer[], id: number): string {
  return `b${id}:${bufferAt(buffers, id).name}`;
}

export function printKernel(kernel: Kernel, buffers: readonly Buffer[]): string {
  const names = kernel.axes.map((axis) => axis.name);
  const sizes = axisSizes(kernel);
  const outputs = new Set(outputAxes(kernel));
  const own = new Set(innerAxes(kernel));
  const axes = (output: boolean): string =>
    names.flatMap((name, a) => (outputs.has(a) === output && !own.has(a) ? [`${name}<${sizes[a]}`] : [])).join(" ");
  // Merged axes are told by address: their dimensions would be all divisions.
  const place = (access: Load | Store): string => {
    const dimensions = access.index.map((part) => affineText(part, names)).join(", ");
    const address = offsetOf(kernel, buffers, access);
    const where = access.index.every(isLinear) ? `[${dimensions}]` : `@(${affineText(address, names)})`;
    return `${bufferName(buffers, access.buffer)}${where}`;
  };
  const where = (guards: readonly Guard[], otherwise: number | undefined): string => {
    if (guards.length === 0) return "";
    const conditions = guards.map((guard) => `0 <= ${affineText(guard.index, names)} < ${guard.size}`).join(" and ");
    return `  where ${conditions}${otherwise === undefined ? "" : ` else ${otherwise}`}`;
  };
  const macs = kernel.macs > 0 ? `  ${kernel.macs.toLocaleString("en-US")} macs` : "";
  const shared = new Map<Scalar, string>();
  const inner = (kernel.inner ?? []).map((sum, i) => {
    const over = sum.axes.map((a) => `${names[a]}<${sizes[a]}`).join(" ");
    return `  x${i} = sum(${writeScalars([sum.value], names, shared).results[0]}) over ${over === "" ? "nothing" : over}`;
  });
  const body = writeScalars(kernel.body, names, shared, kernel.inner === undefined ? resultName : (i) => `x${i}`);
  const stored = writeScalars(
    kernel.stores.map((store) => store.value),
    names,
    shared,
  );
  return [
    `kernel ${kernel.name}: ${axes(true)}${kernel.reduce === undefined ? "" : ` | ${axes(false)}`}${macs}`,
    ...kernel.loads.map((load, i) => `  v${i} = ${place(load)}${where(load.guards, load.otherwise)}`),
    ...inner,
    ...body.lines,
    ...(kernel.reduce === undefined ? [] : [`  s = ${kernel.reduce}(${body.results.join(", ")})`]),
    ...stored.lines,
    ...kernel.stores.map((store, i) => `  ${place(store)} = ${stored.results[i]}${where(store.guards, undefined)}`),
    "",
  ].join("\n");
}

/** The text of each scalar. Expressions used more than once get a line and a name (`t0`) of their own, in `shared`. */
function writeScalars(
  scalars: readonly Scalar[],
  names: readonly string[],
  shared: Map<Scalar, string>,
  state: (index: number) => string = resultName,
): { readonly lines: readonly string[]; readonly results: readonly string[] } {
  const uses = new Map<Scalar, number>();
  const count = (s: Scalar): void => {
    uses.set(s, (uses.get(s) ?? 0) + 1);
  };
  for (const scalar of scalars) {
    count(scalar);
    visitScalar(scalar, (node) => operands(node).forEach(count));
  }
  const lines: string[] = [];
  const text = (s: Scalar): string => {
    const known = shared.get(s);
    if (known !== undefined) return known;
    const written = scalarText(s, names, text, state);
    if (operands(s).length === 0 || (uses.get(s) ?? 0) < 2) return written;
    const name = `t${shared.size}`;
    shared.set(s, name);
    lines.push(`  ${name} = ${written}`);
    return name;
  };
  return { results: scalars.map(text), lines };
}

/** `7*h + w - 1`, `k // 49`, `k % 7`. */
function affineText(e: Affine, names: readonly string[]): string {
  const parts = e.terms.map(({ coefficient, atom }): readonly [number, string] => {
    let text = "";
    if (atom.kind === "axis") text = names[atom.axis] ?? `a${atom.axis}`;
    else {
      const of = affineText(atom.of, names);
      text = `(${of.includes(" ") || of.includes("*") ? `(${of})` : of} ${atom.kind === "div" ? "//" : "%"} ${atom.by})`;
    }
    return [coefficient, Math.abs(coefficient) === 1 ? text : `${Math.abs(coefficient)}*${text}`];
  });
  if (e.constant !== 0 || parts.length === 0) parts.push([e.constant, String(Math.abs(e.constant))]);
  return parts
    .map(([sign, text], i) => (i === 0 ? `${sign < 0 ? "-" : ""}${text}` : `${sign < 0 ? " - " : " + "}${text}`))
    .join("");
}

const OPERATORS = { add: "+", sub: "-", mul: "*", div: "/", max: undefined, min: undefined, pow: undefined } as const;
const COMPARISONS = { lt: "<", le: "<=", eq: "==" } as const;

/** Component `index` of what the reduction has made. */
function resultName(index: number): string {
  return index === 0 ? "s" : `s.${index}`;
}

/** One operation, its operands written by `text`. */
function scalarText(
  value: Scalar,
  names: readonly string[],
  text: (operand: Scalar) => string,
  state: (index: number) => string,
): string {
  switch (value.kind) {
    case "const":
      return String(value.value);
    case "load":
      return `v${value.index}`;
    case "state":
      return state(value.index);
    case "axis":
      return names[value.axis] ?? `a${value.axis}`;
    case "unary":
      return `${value.fn}(${text(value.value)})`;
    case "binary": {
      const operator = OPERATORS[value.fn];
      const [left, right] = [text(value.left), text(value.right)];
      return operator === undefined ? `${value.fn}(${left}, ${right})` : `(${left} ${operator} ${right})`;
    }
    case "select": {
      const condition = `${text(value.left)} ${COMPARISONS[value.compare]} ${text(value.right)}`;
      return `(${condition} ? ${text(value.then)} : ${text(value.otherwise)})`;
    }
    case "random": {
      const key = value.key.toString(16).padStart(8, "0");
      return `random(${affineText(value.element, names)}; ${value.counters.map(text).join(", ")}; ${key})`;
    }
    default:
      return value satisfies never;
  }
}
