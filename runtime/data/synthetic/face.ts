/**
 * A parametric face: who it is, how the head is held, what its muscles do, where the light comes from.
 *
 * In: an identity (drawn once a subject), a pose, the strengths of the action units, and a scene (background and light).
 * Out: a picture. Nobody's likeness: every measure is a random number.
 *
 * Faces are built in head units: the origin between eyes and mouth, x from cheek (-1) to cheek (1), y down from the
 * crown (-1.3) to the chin (1.3). Turning the head moves a point by how far it stands out of the face (parallax), so the
 * nose moves more than the ears; rolling, scaling and moving it come last.
 */
import type { Actions } from "./actions.ts";
import { type Canvas, type Color, curve, ellipse, fill, type Paint, type Point, stroke } from "./canvas.ts";
import { blend, type Identity, mix } from "./identity.ts";

/** Where the head is: moved in head units, turned in parts of a right angle, roughly. */
export interface Pose {
  readonly x: number;
  readonly y: number;
  readonly yaw: number;
  readonly pitch: number;
  readonly roll: number;
  readonly scale: number;
}

export interface Scene {
  readonly background: Color;
  /** Where the light comes from: left (-1) to right (1), and how strong. */
  readonly light: number;
  readonly brightness: number;
}

/** What the parts of a face are drawn with: head units in, pixels out, all under one light. */
interface Brush {
  readonly at: (points: readonly Point[], lift?: number) => Point[];
  readonly unit: number;
  readonly lit: (color: Color) => Paint;
  readonly shape: (points: readonly Point[], color: Color, opacity?: number, lift?: number) => void;
  /** What lies between two outlines, the first around the second. */
  readonly ring: (outer: readonly Point[], inner: readonly Point[], color: Color) => void;
  readonly line: (points: readonly Point[], width: number, color: Color, opacity?: number) => void;
}

function makeBrush(canvas: Canvas, pose: Pose, scene: Scene): Brush {
  const { width, height } = canvas;
  const unit = height * 0.285 * pose.scale;
  const cx = width / 2 + pose.x * unit;
  const cy = height * 0.52 + pose.y * unit;
  const [cos, sin] = [Math.cos(pose.roll), Math.sin(pose.roll)];
  const at = (points: readonly Point[], lift: number = 0): Point[] =>
    points.map(([x, y]) => {
      const depth = Math.sqrt(Math.max(0, 1 - x * x * 0.9 - (y * y) / 1.8)) + lift;
      const [tx, ty] = [x + pose.yaw * (depth - 0.5), y + pose.pitch * (depth - 0.5)];
      return [cx + unit * (tx * cos - ty * sin), cy + unit * (tx * sin + ty * cos)];
    });
  const lit =
    (color: Color): Paint =>
    (px, py) => {
      // Light falls off across the head, away from where it comes from, and a little downwards.
      const across = Math.max(-1.3, Math.min(1.3, (px - cx) / unit));
      const down = Math.max(-1.5, Math.min(1.5, (py - cy) / unit));
      const shade = scene.brightness * (1 + 0.16 * scene.light * across - 0.05 * down - 0.1 * across * across);
      return [color[0] * shade, color[1] * shade, color[2] * shade, 1];
    };
  return {
    at,
    unit,
    lit,
    shape: (points, color, opacity = 1, lift = 0) => fill(canvas, [at(points, lift)], lit(color), opacity),
    ring: (outer, inner, color) => fill(canvas, [at(outer), at(inner).toReversed()], lit(color)),
    line: (points, radius, color, opacity = 1) =>
      fill(
        canvas,
        stroke(at(curve(points)), (t) => unit * radius * (0.45 + 0.55 * Math.sin(Math.PI * t))),
        lit(color),
        opacity,
      ),
  };
}

/** Draws the face onto `canvas`, over everything that was there. */
export function drawFace(canvas: Canvas, identity: Identity, pose: Pose, actions: Actions, scene: Scene): void {
  drawBackground(canvas, scene);
  const brush = makeBrush(canvas, pose, scene);
  const jaw = 0.16 * actions.AU26 + 0.26 * actions.AU27;
  drawBehind(brush, identity);
  drawHead(brush, identity, jaw);
  drawMouth(brush, identity, actions, jaw);
  drawNose(brush, identity, actions);
  for (const side of [-1, 1] as const) {
    drawEye(brush, identity, actions, side);
    drawBrow(brush, identity, actions, side);
  }
  drawFurrows(brush, identity, actions);
  drawHair(brush, identity);
  if (identity.glasses) drawGlasses(brush, identity);
}

function drawBackground(canvas: Canvas, scene: Scene): void {
  const { width, height } = canvas;
  const [r, g, b] = scene.background;
  fill(
    canvas,
    [
      [
        [0, 0],
        [width, 0],
        [width, height],
        [0, height],
      ],
    ],
    (x, y) => {
      const shade = 1 + 0.22 * scene.light * (x / width - 0.5) - 0.3 * (y / height - 0.4);
      const fold = 3 * Math.sin((9 * x) / width + 2 * Math.sin((5 * y) / height));
      return [r * shade + fold, g * shade + fold, b * shade + fold, 1];
    },
  );
}

/** What the head hides: long hair, neck and shoulders; a newborn lies in a blanket. */
function drawBehind(brush: Brush, identity: Identity): void {
  const { skin, hair, shirt, width } = identity;
  if (identity.newborn) {
    brush.shape(ellipse(0, 0.35, 1.75, 1.95), blend(shirt, [236, 236, 230], 0.72));
    brush.shape(ellipse(0, 0.12, 1.36 * width, 1.56), blend(shirt, [214, 216, 216], 0.8));
    return;
  }
  if (identity.haircut === "long") brush.shape(ellipse(0, 0.12, 1.24 * width, 1.58), blend(hair, [0, 0, 0], 0.2));
  brush.shape(
    [
      [-0.42, 0.7],
      [0.42, 0.7],
      [0.5, 1.9],
      [-0.5, 1.9],
    ],
    blend(skin, [60, 30, 20], 0.32),
  );
  brush.shape(
    curve([
      [-2.1, 2.9],
      [-1.75, 1.95],
      [-0.95, 1.66],
      [-0.46, 1.5],
      [0, 1.72],
      [0.46, 1.5],
      [0.95, 1.66],
      [1.75, 1.95],
      [2.1, 2.9],
    ]),
    shirt,
  );
}

function drawHead(brush: Brush, identity: Identity, jaw: number): void {
  const { skin, width, taper } = identity;
  const ear = blend(skin, [150, 50, 30], 0.18);
  for (const side of [-1, 1]) {
    brush.shape(ellipse(side * 0.98 * width, 0.12, 0.15, 0.25, side * -0.12), ear);
    brush.shape(ellipse(side * 1.0 * width, 0.13, 0.07, 0.14, side * -0.12), blend(ear, [80, 30, 20], 0.3));
  }
  const outline = Array.from({ length: 72 }, (_, k): Point => {
    const t = (k / 72) * 2 * Math.PI;
    const [cos, sin] = [Math.cos(t), Math.sin(t)];
    const below = Math.max(0, sin);
    const side = Math.sign(cos) * Math.abs(cos) ** 0.86;
    return [side * width * (1 - taper * below ** 2.2), sin * (sin > 0 ? 1.28 + jaw : 1.3)];
  });
  brush.shape(outline, skin);
  // Cheeks, redder; and the shadow that gives the jaw its edge.
  for (const side of [-1, 1])
    for (const radius of [0.3, 0.22, 0.14])
      brush.shape(ellipse(side * 0.55, 0.42, radius, radius * 0.8), blend(skin, [214, 84, 70], 0.35), 0.16);
  if (!identity.beard) return;
  const beard = outline.filter(([, y]) => y > 0.35).map(([x, y]): Point => [x * 0.985, y * 0.99]);
  const left = beard[beard.length - 1];
  const right = beard[0];
  if (left === undefined || right === undefined) return;
  const upper = curve([left, [-0.62 * width, 0.6], [-0.42, 0.62], [0, 0.56], [0.42, 0.62], [0.62 * width, 0.6], right]);
  brush.shape([...beard, ...upper], blend(identity.hair, skin, 0.25), 0.85);
}

function drawEye(brush: Brush, identity: Identity, actions: Actions, side: -1 | 1): void {
  const { skin, eyeGap, eyeSize: size, iris } = identity;
  const [cx, cy] = [side * eyeGap, -0.12];
  const lash = blend(skin, [30, 16, 12], identity.newborn ? 0.6 : 0.82);
  const closed = 1 - actions.AU43;
  const up = size * closed * (0.5 + 0.24 * actions.AU5 - 0.2 * actions.AU7 - 0.08 * actions.AU6 - 0.08 * actions.AU4);
  const down = size * closed * (0.38 - 0.2 * actions.AU7 - 0.24 * actions.AU6);
  const sink = size * 0.22 * actions.AU43;
  // From the inner to the outer corner; the outer one lies a little higher.
  const inner: Point = [cx - side * size, cy + 0.02 + sink * 0.4];
  const outer: Point = [cx + side * size, cy - 0.015 + sink * 0.4];
  const upper = curve([
    inner,
    [cx - side * size * 0.45, cy - up * 0.86 + sink],
    [cx + side * size * 0.3, cy - up + sink],
    outer,
  ]);
  const lower = curve([
    inner,
    [cx - side * size * 0.3, cy + down * 0.9 + sink],
    [cx + side * size * 0.4, cy + down + sink],
    outer,
  ]);
  brush.shape(ellipse(cx, cy - 0.01, size * 1.25, size * 0.92), blend(skin, [96, 48, 36], 0.3), 0.35);
  if (up + down > 0.012) {
    brush.shape([...upper, ...lower.toReversed()], [244, 242, 238]);
    const between = (x: number, y: number): Point => [x, Math.min(edge(lower, x), Math.max(edge(upper, x), y))];
    const disc = (radius: number, color: Color): void =>
      brush.shape(
        ellipse(cx, cy, radius, radius).map(([x, y]) => between(x, y)),
        color,
        1,
      );
    disc(size * 0.5, iris);
    disc(size * 0.26, [18, 16, 18]);
    const glint = ellipse(cx - size * 0.16, cy - size * 0.16, size * 0.1, size * 0.1);
    if (up > size * 0.3) brush.shape(glint, [255, 255, 255], 0.9);
  }
  brush.line(
    upper.filter((_, k) => k % 4 === 0),
    0.03,
    lash,
  );
  brush.line(
    lower.filter((_, k) => k % 4 === 0),
    0.012,
    lash,
    0.6,
  );
  // The fold above the lid, and the bag that a raised cheek pushes up.
  const fold = cy - up - size * (0.28 - 0.1 * actions.AU5);
  brush.line(
    [
      [inner[0], cy - 0.06],
      [cx, fold],
      [outer[0], cy - 0.08],
    ],
    0.012,
    blend(skin, [70, 30, 22], 0.55),
    0.7,
  );
  const bag = 0.25 + 0.75 * Math.max(actions.AU6, actions.AU7);
  brush.line(
    [
      [cx - side * size * 0.8, cy + size * 0.62],
      [cx, cy + size * 0.85],
      [cx + side * size * 0.9, cy + size * 0.55],
    ],
    0.016,
    blend(skin, [90, 40, 30], 0.5),
    0.5 * bag,
  );
}

/** The height of a lid at `x`, for lids given from one corner to the other. */
function edge(lid: readonly Point[], x: number): number {
  for (let k = 0; k + 1 < lid.length; k++) {
    const [a, b] = [lid[k], lid[k + 1]];
    if (a === undefined || b === undefined) break;
    const [low, high] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])];
    if (x >= low && x <= high && high > low) return mix(a[1], b[1], (x - a[0]) / (b[0] - a[0]));
  }
  return lid[0]?.[1] ?? 0;
}

function drawBrow(brush: Brush, identity: Identity, actions: Actions, side: -1 | 1): void {
  const { eyeGap, eyeSize, browHeight, browWeight, hair, skin, newborn } = identity;
  const { AU1, AU2, AU4, AU9 } = actions;
  const y = -0.12 - browHeight;
  const frown = 0.13 * AU4 + 0.05 * AU9;
  const inner: Point = [side * (eyeGap - eyeSize * 1.05 - 0.05 * AU4), y + 0.05 - 0.14 * AU1 + frown];
  const middle: Point = [side * (eyeGap + eyeSize * 0.15), y - 0.03 - 0.07 * AU1 - 0.1 * AU2 + 0.75 * frown];
  const outer: Point = [side * (eyeGap + eyeSize * 1.3), y + 0.06 - 0.14 * AU2 + 0.35 * frown];
  const color = blend(hair, skin, newborn ? 0.55 : 0.12);
  const points = curve([inner, middle, outer]);
  fillStroke(brush, points, browWeight, color);
}

/** A stroke that is thick at its start and thin at its end, as brows are. */
function fillStroke(brush: Brush, points: readonly Point[], weight: number, color: Color): void {
  const pixels = brush.at(points);
  for (let k = 0; k + 1 < pixels.length; k++) {
    const [a, b] = [points[k], points[k + 1]];
    if (a === undefined || b === undefined) return;
    const radius = weight * (1 - 0.6 * (k / pixels.length) ** 1.5);
    brush.shape(
      [
        [a[0], a[1] - radius],
        [b[0], b[1] - radius],
        [b[0], b[1] + radius],
        [a[0], a[1] + radius],
      ],
      color,
    );
  }
}

function drawNose(brush: Brush, identity: Identity, actions: Actions): void {
  const { skin, noseLength, noseWidth, newborn } = identity;
  const lift = 0.07 * actions.AU9;
  const y = -0.08 + noseLength - lift;
  const wing = noseWidth * (1 + 0.25 * actions.AU9 + 0.15 * actions.AU12);
  const shadow = blend(skin, [90, 40, 26], 0.42);
  if (!newborn)
    brush.line(
      [
        [-0.1, -0.1],
        [-0.085, y - 0.2],
        [-wing * 0.9, y - 0.03],
      ],
      0.018,
      shadow,
      0.5,
    );
  brush.shape(ellipse(0, y - 0.02, wing * 0.72, 0.1), blend(skin, [255, 236, 220], 0.22), 0.8, 0.25);
  for (const side of [-1, 1]) {
    brush.line(
      [
        [side * wing * 0.92, y - 0.1],
        [side * wing * 1.12, y + 0.01],
        [side * wing * 0.62, y + 0.06],
      ],
      0.022,
      shadow,
    );
    brush.shape(ellipse(side * wing * 0.45, y + 0.055, wing * 0.24, 0.028), blend(skin, [50, 18, 12], 0.7), 0.9, 0.1);
  }
}

function drawMouth(brush: Brush, identity: Identity, actions: Actions, jaw: number): void {
  const { skin, mouthWidth, lipFullness: lip, noseLength } = identity;
  const { AU12, AU15, AU20, AU25, AU26, AU27, AU9 } = actions;
  const y = 0.3 + noseLength * 0.72;
  const corner = mouthWidth * (1 + 0.3 * AU12 + 0.35 * AU20 - 0.22 * AU27 - 0.1 * AU26);
  const cornerY = y - 0.15 * AU12 + 0.13 * AU15 + 0.4 * jaw;
  const open = 0.07 * AU25 + 0.16 * AU26 + 0.34 * AU27;
  const top = y - 0.02 * AU25 - 0.05 * AU9 - 0.03 * AU27 + 0.03 * AU12;
  const bottom = top + open + 0.012 + (AU12 > 0 ? 0.03 * AU12 : 0);
  const [left, right]: [Point, Point] = [
    [-corner, cornerY],
    [corner, cornerY],
  ];
  const across = (height: number, dip: number): Point[] =>
    curve([
      left,
      [-corner * 0.5, mix(height, cornerY, 0.22)],
      [0, height + dip],
      [corner * 0.5, mix(height, cornerY, 0.22)],
      right,
    ]);
  const red = blend(skin, [176, 52, 62], identity.newborn ? 0.45 : 0.55);
  const upper = across(top - lip * (1 - 0.3 * AU12), 0.018);
  const lower = across(bottom + lip * 1.25 * (1 - 0.25 * AU20), 0);
  const [innerTop, innerBottom] = [across(top, 0.008), across(bottom, 0)];
  brush.shape([...upper, ...innerTop.toReversed()], blend(red, [70, 20, 24], 0.14));
  brush.shape([...lower, ...innerBottom.toReversed()], red);
  if (open > 0.02) {
    brush.shape([...innerTop, ...innerBottom.toReversed()], [62, 18, 22]);
    const show = Math.min(open * 0.42, 0.085);
    if (!identity.newborn)
      brush.shape([...innerTop, ...across(top + show, 0.008).toReversed()], [240, 236, 226], Math.min(1, open * 12));
    if (open > 0.14) {
      const tongue = across(bottom - open * 0.34, -open * 0.06);
      brush.shape([...tongue.slice(7, -7), ...innerBottom.slice(7, -7).toReversed()], [190, 88, 92]);
    }
  } else brush.line([left, [0, top + 0.012], right], 0.014, blend(red, [50, 12, 16], 0.6));
  brush.line(
    [
      [-0.14, bottom + lip * 1.25 + 0.09],
      [0, bottom + lip * 1.25 + 0.11],
      [0.14, bottom + lip * 1.25 + 0.09],
    ],
    0.018,
    blend(skin, [90, 40, 26], 0.4),
    0.5,
  );
}

/** Lines that come and go with the muscles: between the brows, on the nose, from nose to mouth, at the eyes. */
function drawFurrows(brush: Brush, identity: Identity, actions: Actions): void {
  const { skin, noseWidth, noseLength, mouthWidth, eyeGap, eyeSize } = identity;
  const { AU1, AU2, AU4, AU6, AU9, AU12, AU20 } = actions;
  const dark = blend(skin, [70, 26, 18], 0.55);
  const draw = (points: readonly Point[], strength: number, width: number = 0.014): void => {
    if (strength > 0.05) brush.line(points, width, dark, 0.75 * Math.min(1, strength));
  };
  const noseY = -0.08 + noseLength;
  for (const side of [-1, 1]) {
    draw(
      [
        [side * 0.05, -0.42],
        [side * 0.06, -0.33],
        [side * 0.05, -0.26],
      ],
      AU4,
    );
    draw(
      [
        [side * 0.02, -0.1],
        [side * 0.07, -0.13],
        [side * 0.12, -0.09],
      ],
      AU9,
    );
    draw(
      [
        [side * 0.02, -0.03],
        [side * 0.07, -0.06],
        [side * 0.12, -0.01],
      ],
      AU9,
    );
    const fold = Math.max(AU9, AU6 * 0.7, AU12 * 0.8, AU20 * 0.5);
    draw(
      [
        [side * noseWidth * 1.25, noseY - 0.06],
        [side * (mouthWidth + 0.06), noseY + 0.12],
        [side * (mouthWidth * (1.15 + 0.2 * AU12) + 0.05), noseY + 0.34],
      ],
      0.15 + fold,
      0.018,
    );
    const [ox, oy] = [side * (eyeGap + eyeSize * 1.2), -0.1];
    draw(
      [
        [ox, oy],
        [ox + side * 0.08, oy - 0.04],
      ],
      AU6,
      0.01,
    );
    draw(
      [
        [ox, oy + 0.03],
        [ox + side * 0.09, oy + 0.04],
      ],
      AU6,
      0.01,
    );
  }
  for (const y of [-0.72, -0.62])
    draw(
      [
        [-0.4, y + 0.02],
        [0, y - 0.02],
        [0.4, y + 0.02],
      ],
      Math.min(AU1, 0.3 + AU2) * 0.8,
      0.012,
    );
}

function drawHair(brush: Brush, identity: Identity): void {
  const { hair, width } = identity;
  const shine = blend(hair, [255, 240, 220], 0.18);
  switch (identity.haircut) {
    case "none":
      // Down on a newborn's head; nothing on a bald one but the shade of it.
      if (identity.newborn)
        brush.shape(
          curve([
            [-0.72, -0.86],
            [-0.4, -0.98],
            [0, -0.9],
            [0.4, -0.98],
            [0.72, -0.86],
            [0.5, -1.2],
            [0, -1.32],
            [-0.5, -1.2],
          ]),
          hair,
          0.35,
        );
      return;
    case "short":
      brush.shape(
        curve([
          [-1.02 * width, 0.02],
          [-0.93 * width, -0.5],
          [-0.6, -0.82],
          [0, -0.88],
          [0.6, -0.84],
          [0.93 * width, -0.5],
          [1.02 * width, 0.02],
          [1.1 * width, -0.5],
          [0.86 * width, -1.14],
          [0.3, -1.42],
          [-0.3, -1.42],
          [-0.86 * width, -1.14],
          [-1.1 * width, -0.5],
          [-1.02 * width, 0.02],
        ]),
        hair,
      );
      brush.line(
        [
          [-0.5, -1.16],
          [-0.1, -1.24],
          [0.35, -1.16],
        ],
        0.05,
        shine,
        0.5,
      );
      return;
    case "long":
      brush.shape(
        curve([
          [-1.0 * width, 0.9],
          [-0.9 * width, -0.1],
          [-0.72, -0.6],
          [-0.1, -0.98],
          [0.5, -0.78],
          [0.86 * width, -0.2],
          [1.0 * width, 0.9],
          [1.2 * width, 0.5],
          [1.14 * width, -0.7],
          [0.6, -1.36],
          [0, -1.46],
          [-0.6, -1.36],
          [-1.14 * width, -0.7],
          [-1.2 * width, 0.5],
          [-1.0 * width, 0.9],
        ]),
        hair,
      );
      brush.line(
        [
          [-0.6, -1.0],
          [-0.1, -1.2],
          [0.4, -1.08],
        ],
        0.05,
        shine,
        0.5,
      );
      return;
    default:
      identity.haircut satisfies never;
  }
}

function drawGlasses(brush: Brush, identity: Identity): void {
  const { eyeGap, eyeSize, width } = identity;
  const frame: Color = [44, 40, 46];
  const reach = Math.min(eyeSize * 1.45, eyeGap - 0.07);
  for (const side of [-1, 1]) {
    const lens = (grow: number): Point[] => ellipse(side * eyeGap, -0.08, reach + grow, eyeSize * 1.15 + grow);
    brush.shape(lens(0), [235, 245, 255], 0.1);
    brush.ring(lens(0.025), lens(-0.025), frame);
    brush.line(
      [
        [side * (eyeGap + reach), -0.1],
        [side * 0.98 * width, -0.04],
      ],
      0.03,
      frame,
    );
  }
  brush.line(
    [
      [-0.09, -0.1],
      [0, -0.14],
      [0.09, -0.1],
    ],
    0.03,
    frame,
  );
}
