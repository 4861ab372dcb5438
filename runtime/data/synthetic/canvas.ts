/**
 * A small software painter: filled outlines with smooth edges on packed RGB bytes.
 *
 * In: outlines as lists of points in pixels (the centre of the first pixel is (0.5, 0.5)) and a paint. Out: the canvas,
 * changed. Coverage is exact along a row and sampled four times down a pixel, so an edge moves smoothly when its points
 * move by fractions of a pixel: optical flow of drawn pictures needs that.
 */

/** x right, y down. */
export type Point = readonly [number, number];
/** Red, green and blue, 0..255. */
export type Color = readonly [number, number, number];
/** One colour, or a colour for every pixel with its opacity, for light and shadow. */
export type Paint = Color | ((x: number, y: number) => readonly [number, number, number, number]);

export interface Canvas {
  readonly width: number;
  readonly height: number;
  /** Packed, rows from the top. */
  readonly rgb: Uint8Array;
}

export function createCanvas(width: number, height: number): Canvas {
  return { width, height, rgb: new Uint8Array(width * height * 3) };
}

/** Rows of samples in a pixel. */
const SUBROWS = 4;

/** One side of an outline, from its upper to its lower end; `slope` is how far x moves a row. */
interface Edge {
  readonly top: number;
  readonly bottom: number;
  readonly x: number;
  readonly slope: number;
  readonly winding: 1 | -1;
}

function edgesOf(outlines: readonly (readonly Point[])[]): Edge[] {
  const edges: Edge[] = [];
  for (const outline of outlines) {
    let [x0, y0] = outline[outline.length - 1] ?? [0, 0];
    for (const [x1, y1] of outline) {
      const slope = (x1 - x0) / (y1 - y0);
      if (y0 < y1) edges.push({ top: y0, bottom: y1, x: x0, slope, winding: 1 });
      else if (y1 < y0) edges.push({ top: y1, bottom: y0, x: x1, slope, winding: -1 });
      [x0, y0] = [x1, y1];
    }
  }
  return edges;
}

/** Where the row of samples at `y` enters and leaves the outlines, from left to right. */
function crossings(edges: readonly Edge[], y: number): { readonly x: number; readonly winding: number }[] {
  return edges
    .filter(({ top, bottom }) => top <= y && y < bottom)
    .map(({ top, x, slope, winding }) => ({ x: x + (y - top) * slope, winding }))
    .sort((a, b) => a.x - b.x);
}

/** Adds the span from `left` to `right` to a row's coverage, the pixels at its ends by the part that is covered. */
function cover(row: Float32Array, left: number, right: number): void {
  const from = Math.max(0, left);
  const to = Math.min(row.length, right);
  for (let x = Math.floor(from); x < to; x++)
    row[x] = (row[x] ?? 0) + (Math.min(to, x + 1) - Math.max(from, x)) / SUBROWS;
}

/** Fills what any of `outlines` encloses (non-zero winding: outlines that overlap are one shape). */
export function fill(canvas: Canvas, outlines: readonly (readonly Point[])[], paint: Paint, opacity: number = 1): void {
  const { width, height, rgb } = canvas;
  const edges = edgesOf(outlines);
  const top = Math.max(0, Math.floor(Math.min(...edges.map((edge) => edge.top))));
  const bottom = Math.min(height, Math.ceil(Math.max(...edges.map((edge) => edge.bottom))));
  const row = new Float32Array(width);
  for (let y = top; y < bottom; y++) {
    row.fill(0);
    const here = edges.filter((edge) => edge.top < y + 1 && edge.bottom > y);
    let [first, end] = [width, 0];
    for (let s = 0; s < SUBROWS; s++) {
      let winding = 0;
      let left = 0;
      for (const crossing of crossings(here, y + (s + 0.5) / SUBROWS)) {
        if (winding === 0) left = crossing.x;
        winding += crossing.winding;
        if (winding !== 0) continue;
        cover(row, left, crossing.x);
        first = Math.min(first, Math.max(0, Math.floor(left)));
        end = Math.max(end, Math.min(width, Math.ceil(crossing.x)));
      }
    }
    for (let x = first; x < end; x++) {
      const covered = Math.min(1, row[x] ?? 0) * opacity;
      if (covered <= 0) continue;
      const [r, g, b, a = 1] = typeof paint === "function" ? paint(x + 0.5, y + 0.5) : paint;
      const alpha = covered * a;
      const at = (y * width + x) * 3;
      rgb[at] = Math.round((rgb[at] ?? 0) * (1 - alpha) + clamp(r) * alpha);
      rgb[at + 1] = Math.round((rgb[at + 1] ?? 0) * (1 - alpha) + clamp(g) * alpha);
      rgb[at + 2] = Math.round((rgb[at + 2] ?? 0) * (1 - alpha) + clamp(b) * alpha);
    }
  }
}

function clamp(value: number): number {
  return Math.min(255, Math.max(0, value));
}

/** The outline of an ellipse, turned by `angle` radians, as a polygon. */
export function ellipse(
  cx: number,
  cy: number,
  rx: number,
  ry: number,
  angle: number = 0,
  corners: number = 40,
): Point[] {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return Array.from({ length: corners }, (_, k) => {
    const t = (k / corners) * 2 * Math.PI;
    const [x, y] = [rx * Math.cos(t), ry * Math.sin(t)];
    return [cx + x * cos - y * sin, cy + x * sin + y * cos] as const;
  });
}

/** A smooth curve through `points` (Catmull and Rom, 1974), eight steps between neighbours. */
export function curve(points: readonly Point[]): Point[] {
  const out: Point[] = [];
  for (let k = 0; k + 1 < points.length; k++) {
    const [b, c] = [points[k], points[k + 1]];
    if (b === undefined || c === undefined) break;
    const a = points[k - 1] ?? b;
    const d = points[k + 2] ?? c;
    for (let step = 0; step < 8; step++) {
      const t = step / 8;
      const along = (i: 0 | 1): number =>
        b[i] +
        0.5 * t * (c[i] - a[i] + t * (2 * a[i] - 5 * b[i] + 4 * c[i] - d[i] + t * (3 * (b[i] - c[i]) + d[i] - a[i])));
      out.push([along(0), along(1)]);
    }
  }
  const last = points[points.length - 1];
  return last === undefined ? out : [...out, last];
}

/** The outlines of a line along `points` with round ends, its half width given by `radius` from start (0) to end (1). */
export function stroke(points: readonly Point[], radius: (t: number) => number): Point[][] {
  const outlines: Point[][] = [];
  const last = Math.max(1, points.length - 1);
  for (const [k, [x, y]] of points.entries()) {
    const r = radius(k / last);
    outlines.push(ellipse(x, y, r, r, 0, r < 4 ? 10 : 24));
    const next = points[k + 1];
    if (next === undefined) break;
    const rNext = radius((k + 1) / last);
    const length = Math.hypot(next[0] - x, next[1] - y);
    if (length < 1e-9) continue;
    // Across the line, so that this quadrilateral turns the same way as the circles.
    const [nx, ny] = [(next[1] - y) / length, -(next[0] - x) / length];
    outlines.push([
      [x + nx * r, y + ny * r],
      [next[0] + nx * rNext, next[1] + ny * rNext],
      [next[0] - nx * rNext, next[1] - ny * rNext],
      [x - nx * r, y - ny * r],
    ]);
  }
  return outlines;
}
