/**
 * STIA as the library writes it, against its equations written out in loops: every option, in f64.
 *
 * The maps are small and odd, the parameters random and the gates open, so that nothing is zero by chance.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { bindModel, lowerModel } from "../../compiler/compile.ts";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import type { Resolve } from "../../compiler/model.ts";

const resolve: Resolve = (path) => {
  const file = join("compiler", `${path}.net`);
  return existsSync(file) ? { path, text: readFileSync(file, "utf8") } : undefined;
};

const [N, C, H, W] = [2, 8, 5, 3] as const;

/** A map of `channels` rows of `places` numbers, for one example. */
type Matrix = readonly Float64Array[];

/** Numbers in [-1, 1) that depend on the seed alone. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

interface Options {
  readonly reduction?: number;
  readonly direction?: "both" | "to_spatial" | "to_temporal";
  readonly value?: "other" | "self";
  readonly affinity?: "per-edge" | "shared";
  readonly pair?: "embedded" | "dot" | "gaussian" | "concat";
  readonly scale?: boolean;
  readonly pool?: "none" | "conv-pool" | "pool-conv";
  readonly gate?: "bn0" | "scalar0" | "conv0";
  readonly tie?: boolean;
  readonly heads?: number;
}

class Reference {
  readonly #params: ReadonlyMap<string, Float64Array>;
  readonly #options: Required<Options>;

  constructor(params: ReadonlyMap<string, Float64Array>, options: Options) {
    this.#params = params;
    this.#options = {
      reduction: 2,
      direction: "both",
      value: "other",
      affinity: "per-edge",
      pair: "embedded",
      scale: false,
      pool: "none",
      gate: "bn0",
      tie: false,
      heads: 1,
      ...options,
    };
  }

  #param(path: string): Float64Array {
    const found = this.#params.get(`stia.${path}`);
    if (found === undefined) throw new Error(`no parameter stia.${path}`);
    return found;
  }

  #conv(path: string, x: Matrix): Matrix {
    const weight = this.#param(`${path}.weight`);
    const bias = this.#param(`${path}.bias`);
    return Array.from(bias, (b, o) =>
      Float64Array.from(x[0] ?? [], (_, p) =>
        x.reduce((sum, row, i) => sum + (weight[o * x.length + i] ?? 0) * (row[p] ?? 0), b),
      ),
    );
  }

  #pool(x: Matrix): Matrix {
    const [h, w] = [Math.floor(H / 2), Math.floor(W / 2)];
    return x.map((row) =>
      Float64Array.from({ length: h * w }, (_, p) => {
        const [y, z] = [2 * Math.floor(p / w), 2 * (p % w)];
        return Math.max(...[0, 1, W, W + 1].map((step) => row[y * W + z + step] ?? 0));
      }),
    );
  }

  #pooled(x: Matrix, conv: (x: Matrix) => Matrix): Matrix {
    const { pool } = this.#options;
    if (pool === "pool-conv") return conv(this.#pool(x));
    return pool === "conv-pool" ? this.#pool(conv(x)) : conv(x);
  }

  /** One table of scores per head: rows are places of a, columns places of b. */
  scores(path: string, a: Matrix, b: Matrix): readonly Matrix[] {
    const { pair, heads, scale } = this.#options;
    const theta = pair === "gaussian" ? a : this.#conv(`${path}.theta`, a);
    const phi = this.#pooled(b, (x) => (pair === "gaussian" ? x : this.#conv(`${path}.phi`, x)));
    const width = theta.length / heads;
    return Array.from({ length: heads }, (_, head) => {
      const [q, k] = [theta, phi].map((x) => x.slice(head * width, (head + 1) * width));
      const dot = (i: number, j: number) =>
        (q ?? []).reduce((sum, row, c) => sum + (row[i] ?? 0) * (k?.[c]?.[j] ?? 0), 0);
      const sum = (i: number, j: number) => {
        const [wq, wk] = [this.#param(`${path}.score_q.weight`), this.#param(`${path}.score_kv.weight`)];
        let total = 0;
        for (let c = 0; c < width; c++) {
          total += (wq[head * width + c] ?? 0) * (q?.[c]?.[i] ?? 0) + (wk[head * width + c] ?? 0) * (k?.[c]?.[j] ?? 0);
        }
        return Math.max(total, 0);
      };
      const factor = scale ? width ** -0.5 : 1;
      return Array.from(a[0] ?? [], (_, i) =>
        Float64Array.from(phi[0] ?? [], (_, j) => factor * (pair === "concat" ? sum(i, j) : dot(i, j))),
      );
    });
  }

  #weights(scores: Matrix): Matrix {
    const { pair } = this.#options;
    return scores.map((row) => {
      if (pair === "dot" || pair === "concat") return row.map((e) => e / row.length);
      const top = Math.max(...row);
      const exps = row.map((e) => Math.exp(e - top));
      const sum = exps.reduce((total, e) => total + e, 0);
      return exps.map((e) => e / sum);
    });
  }

  /** a + gate(out(weights · g(v))). */
  updated(path: string, scores: readonly Matrix[], v: Matrix, a: Matrix): Matrix {
    const { gate, heads } = this.#options;
    const g = this.#pooled(v, (x) => this.#conv(`${path}.g`, x));
    const weights = scores.map((table) => this.#weights(table));
    const gathered = g.map((row, c) => {
      const table = weights[Math.floor((c * heads) / g.length)] ?? [];
      return Float64Array.from(table, (weight) => weight.reduce((sum, w, j) => sum + w * (row[j] ?? 0), 0));
    });
    const out = this.#conv(`${path}.out`, gathered);
    return a.map((row, c) =>
      row.map((x, p) => {
        const u = out[c]?.[p] ?? 0;
        if (gate === "conv0") return x + u;
        if (gate === "scalar0") return x + u * (this.#param(`${path}.gate.weight`)[0] ?? 0);
        const bn = (name: string) => this.#param(`${path}.bn.${name}`)[c] ?? 0;
        return x + ((u - bn("running_mean")) / Math.sqrt(bn("running_var") + 1e-5)) * bn("weight") + bn("bias");
      }),
    );
  }

  run(s: Matrix, t: Matrix): readonly [Matrix, Matrix] {
    const { affinity, direction, tie, value } = this.#options;
    const [ofS, ofT] = value === "self" ? [s, t] : [t, s];
    if (affinity === "shared") {
      const scores = this.scores("affinity", s, t);
      const turned = scores.map((table) =>
        Array.from(table[0] ?? [], (_, j) => Float64Array.from(table, (row) => row[j] ?? 0)),
      );
      return [this.updated("to_spatial", scores, ofS, s), this.updated("to_temporal", turned, ofT, t)];
    }
    const other = tie ? "to_spatial" : "to_temporal";
    return [
      direction === "to_temporal" ? s : this.updated("to_spatial", this.scores("to_spatial", s, t), ofS, s),
      direction === "to_spatial" ? t : this.updated(other, this.scores(other, t, s), ofT, t),
    ];
  }
}

function argumentsOf(options: Options): string {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(", ");
}

const cases: readonly Options[] = [
  {},
  { direction: "to_spatial" },
  { direction: "to_temporal", scale: true },
  { value: "self" },
  { affinity: "shared" },
  { affinity: "shared", value: "self", heads: 2, scale: true },
  { affinity: "shared", pair: "concat", heads: 2 },
  { affinity: "shared", pair: "gaussian", gate: "conv0" },
  { pair: "dot" },
  { pair: "dot", pool: "conv-pool", heads: 4 },
  { pair: "gaussian", scale: true, pool: "pool-conv" },
  { pair: "concat", pool: "conv-pool", scale: true },
  { pool: "conv-pool" },
  { pool: "pool-conv", value: "self" },
  { gate: "scalar0", reduction: 4 },
  { gate: "conv0", tie: true },
  { tie: true, heads: 2, reduction: 1 },
];

test.each(cases.map((options) => [argumentsOf(options), options] as const))("STIA(%s)", (args, options) => {
  const shape = `f32[N, ${C}, ${H}, ${W}]`;
  const text = `model M(spatial: ${shape}, temporal: ${shape}) -> (${shape}, ${shape}) = STIA(${args}) @stia`;
  const { model, diagnostics } = elaborate({ path: "test.net", text }, resolve, { bind: new Map() });
  expect(diagnostics).toEqual([]);
  if (model === undefined) throw new Error("no model");
  const bound = bindModel(model, new Map([["N", N]]));
  if (!("ok" in bound)) throw new Error("not bound");
  const lowered = lowerModel(bound.ok, WEBGPU_DEFAULT);
  if (!("ok" in lowered)) throw new Error("not lowered");

  const next = random(7);
  const numbers = (count: number) => Float64Array.from({ length: count }, next);
  const params = new Map(
    bound.ok.parameters.map(({ path, node }) => {
      const values = numbers(node.shape.reduce<number>((product, size) => product * Number(size), 1));
      return [path, path.endsWith("running_var") ? values.map((v) => v + 1.5) : values] as const;
    }),
  );
  const inputs = new Map(["spatial", "temporal"].map((name) => [name, numbers(N * C * H * W)] as const));
  const got = [...interpret(lowered.ok.loops, inputs, params).values()];

  const reference = new Reference(params, options);
  const example = (name: string, n: number): Matrix =>
    Array.from({ length: C }, (_, c) =>
      (inputs.get(name) ?? numbers(0)).slice((n * C + c) * H * W, (n * C + c + 1) * H * W),
    );
  for (let n = 0; n < N; n++) {
    const wanted = reference.run(example("spatial", n), example("temporal", n));
    wanted.forEach((map, stream) => {
      map.forEach((row, c) => {
        row.forEach((value, p) => {
          expect(got[stream]?.[(n * C + c) * H * W + p]).toBeCloseTo(value, 9);
        });
      });
    });
  }
});
