/**
 * Who a drawn face is: its measures and colours. In: a random stream. Out: an identity, the same in all of a subject's
 * clips. Measures are in head units (face.ts).
 */
import { between, pick, type Random } from "../random.ts";
import type { Color } from "./canvas.ts";

export interface Identity {
  readonly newborn: boolean;
  readonly skin: Color;
  readonly hair: Color;
  readonly iris: Color;
  readonly shirt: Color;
  /** Width of the head, and how much it narrows to the chin. */
  readonly width: number;
  readonly taper: number;
  readonly eyeGap: number;
  readonly eyeSize: number;
  readonly browHeight: number;
  readonly browWeight: number;
  readonly noseLength: number;
  readonly noseWidth: number;
  readonly mouthWidth: number;
  readonly lipFullness: number;
  readonly haircut: "short" | "long" | "none";
  readonly glasses: boolean;
  readonly beard: boolean;
}

const SKINS: readonly Color[] = [
  [250, 220, 198],
  [238, 198, 168],
  [222, 172, 136],
  [196, 144, 106],
  [156, 106, 74],
  [112, 74, 52],
];
const HAIRS: readonly Color[] = [
  [38, 30, 28],
  [72, 48, 34],
  [112, 74, 42],
  [176, 132, 74],
  [140, 62, 34],
  [150, 148, 146],
];
const IRISES: readonly Color[] = [
  [70, 46, 30],
  [104, 74, 40],
  [72, 104, 84],
  [72, 104, 142],
];
const SHIRTS: readonly Color[] = [
  [62, 84, 120],
  [128, 60, 62],
  [72, 104, 84],
  [96, 92, 104],
  [196, 188, 172],
];

/** Someone new. Of adults 31 % wear glasses and 17 % a beard, as in eNTERFACE'05. */
export function drawIdentity(random: Random, newborn: boolean = false): Identity {
  const [a, b] = [pick(random, SKINS), pick(random, SKINS)];
  const t = 0.35 * random();
  const haircut = random();
  const glasses = random() < 0.31;
  const beard = random() < 0.17;
  return {
    newborn,
    skin: [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)],
    // Dark skin comes with dark hair.
    hair: pick(random, a[0] + b[0] < 400 ? HAIRS.slice(0, 2) : HAIRS),
    iris: pick(random, IRISES),
    shirt: pick(random, SHIRTS),
    width: newborn ? between(random, 1.04, 1.14) : between(random, 0.9, 1.02),
    taper: newborn ? between(random, 0.1, 0.2) : between(random, 0.16, 0.34),
    eyeGap: newborn ? between(random, 0.4, 0.45) : between(random, 0.36, 0.43),
    eyeSize: newborn ? between(random, 0.19, 0.22) : between(random, 0.17, 0.21),
    browHeight: between(random, 0.25, 0.32),
    browWeight: newborn ? 0.022 : between(random, 0.035, 0.06),
    noseLength: newborn ? between(random, 0.3, 0.36) : between(random, 0.4, 0.52),
    noseWidth: between(random, 0.14, 0.2),
    mouthWidth: newborn ? between(random, 0.24, 0.29) : between(random, 0.31, 0.39),
    lipFullness: between(random, 0.06, 0.1),
    haircut: newborn ? "none" : haircut < 0.55 ? "short" : haircut < 0.92 ? "long" : "none",
    glasses: glasses && !newborn,
    beard: beard && !newborn && haircut < 0.55,
  };
}

/** From `a` (t = 0) to `b` (t = 1). */
export function mix(a: number, b: number, t: number): number {
  return a + (b - a) * t;
}

/** The colour between two, as `mix`. */
export function blend(a: Color, b: Color, t: number): Color {
  return [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)];
}
