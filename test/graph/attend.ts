/** The meaning of the operators of attention, with the whole table of one batch entry in memory; row-major, f64. */
interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

type Op = "attend" | "attend_log_sum" | "attend_query_grad" | "attend_key_grad" | "attend_value_grad";

type Rows = readonly Float64Array[];

/** The matrix of batch entry `b` as its rows; a vector as one row. */
function rowsOf({ shape, data }: Tensor, b: number, rank: 1 | 2): Rows {
  const width = shape.at(-1) ?? 1;
  const rows = rank === 1 ? 1 : (shape.at(-2) ?? 1);
  return Array.from({ length: rows }, (_, i) => data.subarray((b * rows + i) * width, (b * rows + i + 1) * width));
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, x, i) => sum + x * (b[i] ?? Number.NaN), 0);

/** Σ_j weight(i, j)·rows_j for each i. */
function mix(count: number, rows: Rows, weight: (i: number, j: number) => number): number[][] {
  return Array.from({ length: count }, (_, i) => {
    const out = Array.from(rows[0] ?? [], () => 0);
    rows.forEach((row, j) => {
      const by = weight(i, j);
      row.forEach((x, e) => {
        out[e] = (out[e] ?? 0) + by * x;
      });
    });
    return out;
  });
}

export function attention(op: Op, scale: number, args: readonly Tensor[]): Float64Array {
  const [q, k] = args;
  if (q === undefined || k === undefined) throw new Error(`${op} without q and k`);
  const batch = q.shape.slice(0, -2).reduce((a, b) => a * b, 1);
  const out = Array.from({ length: batch }, (_, b) => {
    const matrix = (at: number): Rows => rowsOf(args[at] ?? q, b, 2);
    const vector = (at: number): Float64Array => rowsOf(args[at] ?? q, b, 1)[0] ?? new Float64Array();
    const [queries, keys] = [matrix(0), matrix(1)];
    const scores = queries.map((x) => keys.map((y) => scale * dot(x, y)));
    const logs = scores.map((row) => {
      const most = Math.max(...row);
      return most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
    });
    // The gradients are functions of the logarithms that they are given.
    const weights = (given: ArrayLike<number>): number[][] =>
      scores.map((row, i) => row.map((x) => Math.exp(x - (given[i] ?? Number.NaN))));
    const at = (table: number[][], i: number, j: number): number => table[i]?.[j] ?? Number.NaN;
    switch (op) {
      case "attend_log_sum":
        return logs;
      case "attend": {
        const a = weights(logs);
        return mix(queries.length, matrix(2), (i, j) => at(a, i, j)).flat();
      }
      case "attend_value_grad": {
        const a = weights(vector(3));
        return mix(keys.length, matrix(2), (j, i) => at(a, i, j)).flat();
      }
      case "attend_query_grad":
      case "attend_key_grad": {
        const [values, dy] = [matrix(2), matrix(3)];
        const a = weights(vector(4));
        const row = vector(5);
        const dE = a.map((line, i) =>
          line.map(
            (x, j) => scale * x * (dot(dy[i] ?? new Float64Array(), values[j] ?? new Float64Array()) - (row[i] ?? 0)),
          ),
        );
        return op === "attend_query_grad"
          ? mix(queries.length, keys, (i, j) => at(dE, i, j)).flat()
          : mix(keys.length, queries, (j, i) => at(dE, i, j)).flat();
      }
      default:
        return op satisfies never;
    }
  });
  return Float64Array.from(out.flat());
}
