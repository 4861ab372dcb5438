/** TV-L1's inner loop against the same iteration written out pixel by pixel, in double precision. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type FlowOptions, flowDefaults, openSolver } from "../../runtime/data/flow.ts";
import { between, randomOf } from "../../runtime/data/random.ts";

type Field = readonly number[];

/** Zach, Pock and Bischof 2007, section 2.2: the pointwise threshold, then a dual step; forward differences, zero flux at the border. */
function iterate(
  width: number,
  height: number,
  u0: Field,
  v0: Field,
  [gx, gy, rho]: readonly Field[],
  options: FlowOptions,
) {
  const { theta, lambda, tau, iterations } = options;
  const at = (field: Field, x: number, y: number): number =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : (field[y * width + x] ?? NaN);
  const over = (body: (x: number, y: number) => number): Field =>
    Array.from({ length: width * height }, (_, i) => body(i % width, Math.floor(i / width)));
  const zero = over(() => 0);
  let [u, v, ux, uy, vx, vy]: Field[] = [u0, v0, zero, zero, zero, zero];
  for (let i = 0; i < iterations; i++) {
    const [pu = u0, pv = v0] = [u, v];
    const step = (x: number, y: number): number => {
      const [a, b] = [at(gx ?? [], x, y), at(gy ?? [], x, y)];
      const r = at(rho ?? [], x, y) + a * at(pu, x, y) + b * at(pv, x, y);
      return Math.min(lambda * theta, Math.max(-lambda * theta, -r / Math.max(1e-9, a * a + b * b)));
    };
    const div =
      (px: Field = [], py: Field = []) =>
      (x: number, y: number): number =>
        at(px, x, y) - at(px, x - 1, y) + at(py, x, y) - at(py, x, y - 1);
    const [divU, divV] = [div(ux, uy), div(vx, vy)];
    const nu = over((x, y) => at(pu, x, y) + step(x, y) * at(gx ?? [], x, y) + theta * divU(x, y));
    const nv = over((x, y) => at(pv, x, y) + step(x, y) * at(gy ?? [], x, y) + theta * divV(x, y));
    const dual = (of: Field, px: Field = [], py: Field = []): [Field, Field] => {
      const dx = (x: number, y: number): number => (x + 1 < width ? at(of, x + 1, y) - at(of, x, y) : 0);
      const dy = (x: number, y: number): number => (y + 1 < height ? at(of, x, y + 1) - at(of, x, y) : 0);
      const norm = (x: number, y: number): number => 1 + (tau / theta) * Math.hypot(dx(x, y), dy(x, y));
      return [
        over((x, y) => (at(px, x, y) + (tau / theta) * dx(x, y)) / norm(x, y)),
        over((x, y) => (at(py, x, y) + (tau / theta) * dy(x, y)) / norm(x, y)),
      ];
    };
    [ux, uy] = dual(nu, ux, uy);
    [vx, vy] = dual(nv, vx, vy);
    [u, v] = [nu, nv];
  }
  return [u ?? [], v ?? []] as const;
}

test("every pixel, at every border, for pictures of any size", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 13 }),
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer(),
      (width, height, iterations, seed) => {
        const random = randomOf(seed, "planes");
        const field = (size: number): number[] =>
          Array.from({ length: width * height }, () => Math.fround(between(random, -size, size)));
        const [u, v, gx, gy, rho] = [field(3), field(3), field(20), field(20), field(60)];
        const options = { ...flowDefaults, iterations };
        const [wantU, wantV] = iterate(width, height, u, v, [gx, gy, rho], options);
        const [ownU, ownV] = [Float32Array.from(u), Float32Array.from(v)];
        openSolver(width, height, options)(
          ownU,
          ownV,
          Float32Array.from(gx),
          Float32Array.from(gy),
          Float32Array.from(rho),
        );
        for (const [i, value] of wantU.entries()) expect(Math.abs((ownU[i] ?? NaN) - value)).toBeLessThan(2e-4);
        for (const [i, value] of wantV.entries()) expect(Math.abs((ownV[i] ?? NaN) - value)).toBeLessThan(2e-4);
      },
    ),
    { numRuns: 150 },
  );
});

test("a second call goes on with the dual fields of the first, a second solver starts afresh", () => {
  const [width, height] = [10, 7];
  const random = randomOf(3, "planes");
  const plane = (): Float32Array => Float32Array.from({ length: 70 }, () => between(random, -2, 2));
  const [u, v, gx, gy, rho] = [plane(), plane(), plane(), plane(), plane()];
  const run = (counts: readonly number[]): Float32Array => {
    const [ownU, ownV] = [u.slice(), v.slice()];
    const options = { ...flowDefaults, iterations: counts[0] ?? 0 };
    const solve = openSolver(width, height, options);
    for (const _ of counts) solve(ownU, ownV, gx, gy, rho);
    return ownU;
  };
  expect(run([2, 2])).toEqual(run([4]));
  expect(run([4])).toEqual(run([4]));
  expect(run([0])).toEqual(u);
});
