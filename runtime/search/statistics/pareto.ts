/**
 * Values against exact costs: which points are a front, how much they dominate, and how much a point whose value is still
 * uncertain is expected to add.
 *
 * A value is the better the larger, a cost the smaller. The volume that a set dominates is taken up to a reference: a value
 * below and costs above which nothing counts.
 */
import { expectedImprovement } from "./normal.ts";

export interface Valued {
  readonly value: number;
  readonly costs: readonly number[];
}

export interface Reference {
  readonly value: number;
  readonly costs: readonly number[];
}

/** Whether `a` is at least as good as `b` in everything and better in something. */
export function dominates(a: Valued, b: Valued): boolean {
  if (a.value < b.value || a.costs.some((cost, index) => cost > (b.costs[index] ?? 0))) return false;
  return a.value > b.value || a.costs.some((cost, index) => cost < (b.costs[index] ?? 0));
}

/** Indices of the points that none dominates, in the order given. Of equal points the first alone is kept. */
export function paretoFront(points: readonly Valued[]): readonly number[] {
  const same = (a: Valued, b: Valued): boolean =>
    a.value === b.value && a.costs.every((cost, index) => cost === b.costs[index]);
  // Sorted by value, falling, a point can only be dominated by one before it.
  const order = points
    .map((point, index) => ({ point, index }))
    .sort((a, b) => b.point.value - a.point.value || compare(a.point.costs, b.point.costs) || a.index - b.index);
  const front: { readonly point: Valued; readonly index: number }[] = [];
  for (const each of order)
    if (!front.some(({ point }) => dominates(point, each.point) || same(point, each.point))) front.push(each);
  return front.map(({ index }) => index).sort((a, b) => a - b);
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const difference = value - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * The region between a front and the reference, cut by the costs that occur in the front: within a cell of costs, the best
 * value that the front has at no greater costs is one number, its level.
 */
interface Cells {
  /** By cost, the edges of the cells, rising; the last is the reference. */
  readonly edges: readonly (readonly number[])[];
  readonly strides: readonly number[];
  /** Levels that occur, rising; and for each, the volume of costs with that level at or above every corner of the cells. */
  readonly levels: readonly number[];
  readonly volumes: readonly Float64Array[];
}

function cellsOf(front: readonly Valued[], reference: Reference): Cells {
  const dimensions = reference.costs.length;
  const edges = reference.costs.map((most, index) => {
    const inside = front.map(({ costs }) => costs[index] ?? most).filter((cost) => cost < most);
    // -Infinity: costs below all of the front.
    return [Number.NEGATIVE_INFINITY, ...[...new Set(inside)].sort((a, b) => a - b), most];
  });
  const strides: number[] = [];
  let size = 1;
  for (const edge of edges) {
    strides.push(size);
    size *= edge.length;
  }
  const levelOf = Float64Array.from({ length: size }, (_, cell) => {
    let best = reference.value;
    for (const { value, costs } of front) {
      const reached = edges.every((edge, index) => {
        const corner = edge[Math.floor(cell / (strides[index] ?? 1)) % edge.length] ?? 0;
        return (costs[index] ?? 0) <= corner;
      });
      if (reached) best = Math.max(best, value);
    }
    return best;
  });
  const levels = [...new Set(levelOf)].sort((a, b) => a - b);
  const volumes = levels.map((level) => {
    const sums = new Float64Array(size);
    for (let cell = 0; cell < size; cell++) {
      if (levelOf[cell] !== level) continue;
      let volume = 1;
      for (const [index, edge] of edges.entries()) {
        const at = Math.floor(cell / (strides[index] ?? 1)) % edge.length;
        const [low, high] = [edge[at] ?? 0, edge[at + 1]];
        // The first cell has no lower edge: its volume is that from a point on, and is added where it is asked for.
        volume *= high === undefined ? 0 : low === Number.NEGATIVE_INFINITY ? 1 : high - low;
      }
      sums[cell] = volume;
    }
    for (let index = 0; index < dimensions; index++) {
      const [stride, length] = [strides[index] ?? 1, edges[index]?.length ?? 1];
      for (let cell = size - 1; cell >= 0; cell--) {
        const at = Math.floor(cell / stride) % length;
        // The first cell stays out of the sums: its width depends on the point.
        if (at < length - 1 && at > 0) sums[cell] = (sums[cell] ?? 0) + (sums[cell + stride] ?? 0);
      }
    }
    return sums;
  });
  return { edges, strides, levels, volumes };
}

/**
 * How much the dominated volume is expected to grow by a point with exact costs whose value is normal. For every level that
 * the front has at costs no less than the point's: the volume of costs with that level, times the expected improvement over
 * it. Exact for any number of costs, since the value is the only thing that is not known.
 */
export function expectedVolumeGain(
  front: readonly Valued[],
  reference: Reference,
): (mean: number, deviation: number, costs: readonly number[]) => number {
  const { edges, strides, levels, volumes } = cellsOf(front, reference);
  const dimensions = edges.length;
  return (mean, deviation, costs) => {
    // Along each cost: the cell the point is in and how wide it still is, then the sum over all cells above.
    const choices = edges.map((edge, index) => {
      const cost = costs[index] ?? 0;
      let at = 0;
      while (at + 1 < edge.length && (edge[at + 1] ?? 0) <= cost) at++;
      const [low, high] = [edge[at] ?? 0, edge[at + 1]];
      if (high === undefined) return undefined;
      const [left, whole] = [high - cost, low === Number.NEGATIVE_INFINITY ? 1 : high - low];
      return { at, share: left / whole };
    });
    if (choices.some((choice) => choice === undefined)) return 0;
    let gain = 0;
    for (const [index, level] of levels.entries()) {
      const sums = volumes[index];
      let volume = 0;
      for (let corner = 0; corner < 2 ** dimensions; corner++) {
        // A sum from cell a on is (its own part) + (the sum from a + 1 on); the own part is scaled by what is left of it.
        let [cell, factor] = [0, 1];
        for (const [dimension, choice] of choices.entries()) {
          const [at, share] = [choice?.at ?? 0, choice?.share ?? 0];
          const beyond = (corner >> dimension) & 1;
          cell += (at + beyond) * (strides[dimension] ?? 1);
          // sum(a) · share + sum(a + 1) · (1 − share), where the first cell's sum is its own part alone.
          factor *= beyond === 0 ? share : at === 0 ? 1 : 1 - share;
        }
        if (factor !== 0) volume += factor * (sums?.[cell] ?? 0);
      }
      if (volume > 0) gain += volume * expectedImprovement(mean, deviation, level);
    }
    return gain;
  };
}

/** The volume that points dominate, up to the reference. */
export function hypervolume(points: readonly Valued[], reference: Reference): number {
  let volume = 0;
  // What each adds to those before it; a value that is certain is a normal one without spread.
  for (const [index, { value, costs }] of points.entries())
    volume += expectedVolumeGain(points.slice(0, index), reference)(value, 0, costs);
  return volume;
}
