/**
 * Pairs of pictures whose flow is known exactly: a smooth texture given by a formula, moved by a formula.
 */
import type { Flow } from "../../runtime/data/flow.ts";

export interface KnownMotion {
  readonly from: Float32Array;
  readonly to: Float32Array;
  readonly flow: Flow;
  /** False where the second picture shows nothing of the first's pixel. */
  readonly visible: Uint8Array;
}

/** A deterministic noise in -1..1, for a hash of integers. */
function noise(i: number): number {
  let h = Math.imul(i ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 31 - 1;
}

/** A texture of 40 sine waves between 4 and 40 pixels long, 0..255. */
function texture(seed: number): (x: number, y: number) => number {
  const waves = Array.from({ length: 40 }, (_, k) => {
    const length = 6 * (40 / 6) ** ((noise(seed + 3 * k) + 1) / 2);
    const angle = Math.PI * noise(seed + 3 * k + 1);
    const f = (2 * Math.PI) / length;
    return [
      f * Math.cos(angle),
      f * Math.sin(angle),
      Math.PI * noise(seed + 3 * k + 2),
      Math.sqrt(length / 40),
    ] as const;
  });
  return (x, y) => {
    let sum = 0;
    for (const [fx, fy, phase, weight] of waves) sum += weight * Math.sin(fx * x + fy * y + phase);
    return 128 + 16 * sum;
  };
}

/**
 * The second picture moves by flow(x, y) from the first: to(x) = texture(x), from(x) = texture(x + flow(x)), so that
 * the flow of the definition in `tvl1` is exact. Sensor noise of a standard deviation of about `sigma` grey levels.
 */
export function smoothMotion(size: number, scale: number, sigma: number): KnownMotion {
  const paint = texture(7);
  const motion = empty(size);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const i = y * size + x;
      const [a, b] = [x / size - 0.5, y / size - 0.5];
      const u = scale * (1 + 1.6 * b + 0.5 * Math.sin(5 * b + 3 * a));
      const v = scale * (-0.6 + 1.4 * a + 0.5 * Math.cos(4 * a - 2 * b));
      motion.flow.x[i] = u;
      motion.flow.y[i] = v;
      motion.from[i] = shoot(paint(x + u, y + v), sigma, i);
      motion.to[i] = shoot(paint(x, y), sigma, i + size * size);
      motion.visible[i] = x + u >= 0 && x + u <= size - 1 && y + v >= 0 && y + v <= size - 1 ? 1 : 0;
    }
  return motion;
}

/** A textured disc moves one way over a textured background that moves another. */
export function discMotion(
  size: number,
  disc: readonly [number, number],
  ground: readonly [number, number],
  sigma: number,
): KnownMotion {
  const [paintDisc, paintGround] = [texture(1001), texture(5003)];
  const motion = empty(size);
  const centre = size / 2;
  const radius = size / 4;
  const inside = (x: number, y: number): boolean => Math.hypot(x - centre, y - centre) < radius;
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const i = y * size + x;
      const [u, v] = inside(x, y) ? disc : ground;
      motion.flow.x[i] = u;
      motion.flow.y[i] = v;
      motion.from[i] = shoot((inside(x, y) ? paintDisc : paintGround)(x, y), sigma, i);
      const moved = inside(x - disc[0], y - disc[1]);
      const at = moved ? paintDisc(x - disc[0], y - disc[1]) : paintGround(x - ground[0], y - ground[1]);
      motion.to[i] = shoot(at, sigma, i + size * size);
      const covered = !inside(x, y) && inside(x + u - disc[0], y + v - disc[1]);
      const within = x + u >= 0 && x + u <= size - 1 && y + v >= 0 && y + v <= size - 1;
      motion.visible[i] = within && !covered ? 1 : 0;
    }
  return motion;
}

/** Mean endpoint error in pixels over what stays visible. */
export function endpointError(motion: KnownMotion, flow: Flow): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < motion.visible.length; i++) {
    if (motion.visible[i] === 0) continue;
    sum += Math.hypot((flow.x[i] ?? NaN) - (motion.flow.x[i] ?? NaN), (flow.y[i] ?? NaN) - (motion.flow.y[i] ?? NaN));
    count++;
  }
  return sum / count;
}

function empty(size: number): KnownMotion {
  const field = (): Float32Array => new Float32Array(size * size);
  return { from: field(), to: field(), flow: { x: field(), y: field() }, visible: new Uint8Array(size * size) };
}

/** What a camera would record: noise added (the sum of three uniforms), rounded to a byte. */
function shoot(value: number, sigma: number, i: number): number {
  const n = noise(3 * i) + noise(3 * i + 1) + noise(3 * i + 2);
  return Math.min(255, Math.max(0, Math.round(value + sigma * n)));
}
