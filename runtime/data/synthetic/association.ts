/**
 * A task that needs both streams and their association (specs/association.md).
 *
 * A clip shows two bars, one standing and one lying, each red or green. One of them drifts to the left or to the right;
 * the other rests. The class says whether the moving bar's colour agrees with its direction. The picture shows both
 * colours, but not which bar moves; the motion shows which outline moves and where to, but no colour. So neither
 * stream knows anything about the class by itself, and only the outline says which colour belongs to the motion.
 *
 * In: one of the sixteen cells of the design, a scene that all sixteen share, and a time. Out: a picture.
 */
import { between, type Random } from "../random.ts";
import { type Canvas, type Color, fill, type Paint, type Point } from "./canvas.ts";

/** What a clip shows. The first two are what the picture shows of it, the last two what the motion shows. */
export interface Cell {
  readonly standing: "red" | "green";
  readonly lying: "red" | "green";
  readonly moving: "standing" | "lying";
  readonly direction: "left" | "right";
}

/** All sixteen cells: a set is balanced when it has each of them equally often. */
export const CELLS: readonly Cell[] = (["red", "green"] as const).flatMap((standing) =>
  (["red", "green"] as const).flatMap((lying) =>
    (["standing", "lying"] as const).flatMap((moving) =>
      (["left", "right"] as const).map((direction) => ({ standing, lying, moving, direction })),
    ),
  ),
);

export const ASSOCIATION_CLASSES = ["agree", "differ"] as const;

/** The class of a cell: whether "the moving bar is red" and "it goes right" are both true or both false. */
export function classOf(cell: Cell): (typeof ASSOCIATION_CLASSES)[number] {
  return (cell[cell.moving] === "red") === (cell.direction === "right") ? "agree" : "differ";
}

/** What the cells of a block share, so that it says nothing about any of them. Lengths in parts of the width. */
export interface AssociationScene {
  readonly standing: Point;
  readonly lying: Point;
  /** Of a disc with about the area of either bar. */
  readonly radius: number;
  /** Phases of the three patterns. */
  readonly phases: readonly [number, number, number];
  readonly ground: number;
}

export function drawAssociationScene(random: Random): AssociationScene {
  // One bar above the other: the motion is to the side, so they never meet.
  const upper: Point = [between(random, 0.36, 0.64), between(random, 0.24, 0.3)];
  const lower: Point = [between(random, 0.36, 0.64), between(random, 0.7, 0.76)];
  const standingAbove = random() < 0.5;
  return {
    standing: standingAbove ? upper : lower,
    lying: standingAbove ? lower : upper,
    radius: between(random, 0.15, 0.18),
    phases: [between(random, 0, 6.28), between(random, 0, 6.28), between(random, 0, 6.28)],
    ground: between(random, 0.75, 1.1),
  };
}

/**
 * Equally bright (luma 132.1 and 132.2), so that grey pictures, and with them optical flow, cannot tell them apart.
 */
const COLORS: Readonly<Record<"red" | "green", Color>> = { red: [226, 92, 92], green: [60, 176, 96] };

/** Displacement of the moving bar in parts of the width: nothing in the middle frame of `frames`. */
function drift(cell: Cell, frame: number, frames: number): number {
  const step = Math.min(0.02, 0.28 / Math.max(1, frames - 1));
  return step * (frame - Math.floor((frames - 1) / 2)) * (cell.direction === "right" ? 1 : -1);
}

/** Where a bar's centre is in frame `frame` of `frames`, in pixels. */
export function figureAt(
  figure: "standing" | "lying",
  cell: Cell,
  scene: AssociationScene,
  frame: number,
  frames: number,
  width: number,
  height: number,
): Point {
  const [x, y] = scene[figure];
  return [(x + (cell.moving === figure ? drift(cell, frame, frames) : 0)) * width, y * height];
}

/** Draws frame `frame` of `frames`. */
export function drawAssociation(
  canvas: Canvas,
  cell: Cell,
  scene: AssociationScene,
  frame: number,
  frames: number,
): void {
  const { width, height } = canvas;
  const size = Math.min(width, height);
  const [ground, onStanding, onLying] = scene.phases;
  const ripple = (x: number, y: number, phase: number): number =>
    Math.sin((27 * x) / size + phase) * Math.cos((23 * y) / size + 2 * phase) + 0.5 * Math.sin((41 * (x + y)) / size);
  const page: Point[] = [
    [0, 0],
    [width, 0],
    [width, height],
    [0, height],
  ];
  fill(canvas, [page], (x, y) => {
    const shade = scene.ground * (1 + 0.1 * ripple(x, y, ground));
    return [62 * shade, 66 * shade, 78 * shade, 1];
  });
  for (const [figure, phase] of [
    ["standing", onStanding],
    ["lying", onLying],
  ] as const) {
    const [cx, cy] = figureAt(figure, cell, scene, frame, frames, width, height);
    const [r, g, b] = COLORS[cell[figure]];
    // The pattern belongs to the bar and moves with it: motion is visible inside, too.
    const paint: Paint = (x, y) => {
      const shade = 0.86 + 0.09 * ripple(x - cx, y - cy, phase);
      return [r * shade, g * shade, b * shade, 1];
    };
    const [long, short] = [1.45 * scene.radius * size, 0.55 * scene.radius * size];
    const [rx, ry] = figure === "standing" ? [short, long] : [long, short];
    const bar: Point[] = [
      [cx - rx, cy - ry],
      [cx + rx, cy - ry],
      [cx + rx, cy + ry],
      [cx - rx, cy + ry],
    ];
    fill(canvas, [bar], paint);
  }
}
