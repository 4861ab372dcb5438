/**
 * Colours for attention and for motion.
 *
 * Attention is drawn in inferno, which is perceptually uniform and legible with any colour vision (van der Walt and
 * Smith 2015, matplotlib). Motion is drawn with the wheel of the Middlebury benchmark (Baker et al. 2011, section 4.4):
 * the hue is the direction, the saturation the speed, white is rest. The functions that also run in the page are
 * self-contained, because the page gets them as text.
 */

type Rgb = readonly [number, number, number];

/** Ten colours of inferno, evenly spaced from nothing to most. */
export const INFERNO: readonly Rgb[] = [
  [0, 0, 4],
  [27, 12, 66],
  [75, 12, 107],
  [120, 28, 109],
  [165, 44, 96],
  [207, 68, 70],
  [237, 105, 37],
  [251, 154, 6],
  [247, 208, 60],
  [252, 255, 164],
];

/** A colour of an evenly spaced scale, for `share` from 0 to 1, and how much it covers what lies under it, 0 to 255. */
export function heat(scale: readonly Rgb[], share: number): readonly [number, number, number, number] {
  const at = Math.min(1, Math.max(0, share)) * (scale.length - 1);
  const index = Math.min(scale.length - 2, Math.floor(at));
  const [from, to] = [scale[index] ?? [0, 0, 0], scale[index + 1] ?? [0, 0, 0]];
  const mix = (channel: 0 | 1 | 2): number => Math.round(from[channel] + (to[channel] - from[channel]) * (at - index));
  return [mix(0), mix(1), mix(2), Math.round(255 * (0.3 + 0.55 * Math.min(1, Math.max(0, share))))];
}

/**
 * A grid `width` × `height` drawn larger, `side` × `side`, by cubic convolution (Keys 1981, a = −1/2); values stay within
 * what the grid holds, so that nothing rings.
 */
export function enlarge(grid: ArrayLike<number>, width: number, height: number, side: number): Float32Array {
  const weights = (t: number): readonly number[] => [
    ((-0.5 * t + 1) * t - 0.5) * t,
    (1.5 * t - 2.5) * t * t + 1,
    ((-1.5 * t + 2) * t + 0.5) * t,
    (0.5 * t - 0.5) * t * t,
  ];
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < width * height; i++) {
    low = Math.min(low, grid[i] ?? 0);
    high = Math.max(high, grid[i] ?? 0);
  }
  const out = new Float32Array(side * side);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const [gx, gy] = [((x + 0.5) * width) / side - 0.5, ((y + 0.5) * height) / side - 0.5];
      const [x0, y0] = [Math.floor(gx), Math.floor(gy)];
      const [wx, wy] = [weights(gx - x0), weights(gy - y0)];
      let sum = 0;
      for (let j = 0; j < 4; j++)
        for (let i = 0; i < 4; i++) {
          const column = Math.min(width - 1, Math.max(0, x0 - 1 + i));
          const row = Math.min(height - 1, Math.max(0, y0 - 1 + j));
          sum += (wx[i] ?? 0) * (wy[j] ?? 0) * (grid[row * width + column] ?? 0);
        }
      out[y * side + x] = Math.min(high, Math.max(low, sum));
    }
  return out;
}

/** Hues of the wheel, clockwise on the screen from motion to the right: how many steps each pair of corners has. */
const WHEEL: readonly Rgb[] = (
  [
    [15, [255, 0, 0], [255, 255, 0]],
    [6, [255, 255, 0], [0, 255, 0]],
    [4, [0, 255, 0], [0, 255, 255]],
    [11, [0, 255, 255], [0, 0, 255]],
    [13, [0, 0, 255], [255, 0, 255]],
    [6, [255, 0, 255], [255, 0, 0]],
  ] as const
).flatMap(([steps, from, to]) =>
  Array.from({ length: steps }, (_, step): Rgb => {
    const mix = (channel: 0 | 1 | 2): number => from[channel] + ((to[channel] - from[channel]) * step) / steps;
    return [mix(0), mix(1), mix(2)];
  }),
);

/** The colour of a displacement (x to the right, y down), `speed` being that of full colour. */
export function flowColour(x: number, y: number, speed: number): Rgb {
  const share = Math.min(1, Math.hypot(x, y) / speed);
  const turn = (Math.atan2(y, x) / (2 * Math.PI) + 1) % 1;
  const at = turn * WHEEL.length;
  const [from, to] = [WHEEL[Math.floor(at) % WHEEL.length], WHEEL[(Math.floor(at) + 1) % WHEEL.length]];
  const mix = (channel: 0 | 1 | 2): number => {
    const [a, b] = [from?.[channel] ?? 0, to?.[channel] ?? 0];
    return Math.round(255 - share * (255 - (a + (b - a) * (at - Math.floor(at)))));
  };
  return [mix(0), mix(1), mix(2)];
}
