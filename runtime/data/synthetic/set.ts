/**
 * Drawn data sets: which clips there are, what each shows, and where it lies in the layout of the set it stands for.
 *
 * In: a layout and sizes. Out: for each clip its record (without the frame count of a file that does not exist yet) and
 * its frames, drawn when they are asked for. All of it is a function of the seed; what a clip shows depends on its own
 * place in the set only, so that a larger set begins with the same clips.
 */
import type { ClipRecord, Layout } from "../manifest.ts";
import { between, pick, randomOf } from "../random.ts";
import { type ExpressionName, perform } from "./actions.ts";
import { ASSOCIATION_CLASSES, CELLS, classOf, drawAssociation, drawAssociationScene } from "./association.ts";
import { type Color, createCanvas } from "./canvas.ts";
import { drawFace, type Pose, type Scene } from "./face.ts";
import { drawIdentity } from "./identity.ts";

export interface SetOptions {
  readonly layout: Layout;
  readonly subjects: number;
  /** Clips of each subject for each class; see `clipsOf` for what the layouts make of it. */
  readonly clips: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  readonly seed: number;
  /** The ending of the files. */
  readonly format: "mp4" | "avi";
}

export interface DrawnClip {
  readonly record: Omit<ClipRecord, "frames" | "status" | "sha256">;
  /** Packed RGB, one picture after the other. */
  readonly frames: () => Iterable<Uint8Array>;
}

/** The classes of each layout, in the order of their indices. */
export const CLASSES: Readonly<Record<Layout, readonly string[]>> = {
  enterface: ["anger", "disgust", "fear", "happiness", "sadness", "surprise"],
  afew: ["Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"],
  pain: ["calm", "cry", "mild", "severe"],
  association: ASSOCIATION_CLASSES,
};

const AFEW_EXPRESSIONS: Readonly<Record<string, ExpressionName>> = {
  Angry: "anger",
  Disgust: "disgust",
  Fear: "fear",
  Happy: "happiness",
  Neutral: "neutral",
  Sad: "sadness",
  Surprise: "surprise",
};

/** In the association task a block of clips, one of each cell, has this many clips of each class. */
export const ASSOCIATION_BLOCK: number = CELLS.length / ASSOCIATION_CLASSES.length;

/** The clips of a drawn set, in the order of their places. */
export function clipsOf(options: SetOptions): DrawnClip[] {
  switch (options.layout) {
    case "enterface":
      return enterface(options);
    case "afew":
      return afew(options);
    case "pain":
      return pain(options);
    case "association":
      return association(options);
    default:
      return options.layout satisfies never;
  }
}

const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
const padded = (n: number, digits: number): string => String(n).padStart(digits, "0");

function enterface(options: SetOptions): DrawnClip[] {
  const emotions: readonly ExpressionName[] = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"];
  return count(options.subjects).flatMap((subject) =>
    emotions.flatMap((emotion) =>
      count(options.clips).map((sentence) => ({
        record: {
          path: `subject ${subject}/${emotion}/sentence ${sentence}/s${subject}_${emotion.slice(0, 2)}_${sentence}.${options.format}`,
          class: emotion,
          subject: String(subject),
          sentence: String(sentence),
        },
        // The real set's dark grey background and one lamp.
        frames: () =>
          face(options, `${subject}`, emotion, sentence, { backgrounds: [[66, 68, 72]], speech: 1, sway: 0.5 }),
      })),
    ),
  );
}

/** Film scenes: other light and place in every clip, heads that move. Nobody is on both sides. */
function afew(options: SetOptions): DrawnClip[] {
  const held = Math.max(1, Math.round(options.subjects / 3));
  let number = 0;
  return count(options.subjects).flatMap((subject) => {
    const training = subject <= options.subjects - held;
    return CLASSES.afew.flatMap((name) =>
      count(options.clips).map((take) => ({
        record: {
          path: `${training ? "Train" : "Val"}/${name}/${padded(++number * 40, 9)}.${options.format}`,
          class: name,
          subject: `actor ${subject}`,
          split: training ? ("train" as const) : ("validation" as const),
        },
        frames: () =>
          face(options, `actor ${subject}`, AFEW_EXPRESSIONS[name] ?? "neutral", take, {
            backgrounds: [
              [120, 96, 78],
              [86, 112, 126],
              [104, 118, 88],
              [70, 66, 84],
              [150, 138, 120],
            ],
            speech: 0.7,
            sway: 1.4,
          }),
      })),
    );
  });
}

function pain(options: SetOptions): DrawnClip[] {
  const classes: readonly ExpressionName[] = ["calm", "cry", "mild", "severe"];
  return count(options.subjects).flatMap((subject) =>
    classes.flatMap((name) =>
      count(options.clips).map((take) => ({
        record: {
          path: `N${padded(subject, 2)}/${name}/${padded(take, 3)}.${options.format}`,
          class: name,
          subject: `N${padded(subject, 2)}`,
        },
        frames: () =>
          face(options, `N${subject}`, name, take, {
            backgrounds: [
              [168, 190, 200],
              [196, 196, 186],
              [176, 200, 184],
            ],
            speech: 0,
            sway: 1,
            newborn: true,
          }),
      })),
    ),
  );
}

/** Blocks of sixteen clips with one scene and one clip of every cell; a subject has its own blocks. */
function association(options: SetOptions): DrawnClip[] {
  const blocks = Math.floor(options.clips / ASSOCIATION_BLOCK);
  return count(options.subjects).flatMap((subject) =>
    count(blocks).flatMap((block) => {
      const scene = drawAssociationScene(randomOf(options.seed, "association", subject, block));
      return CELLS.map((cell, index) => {
        const name = classOf(cell);
        const id = `S${padded(subject, 2)}`;
        return {
          record: {
            path: `${id}/${name}/b${padded(block, 2)}-${padded(index + 1, 2)}.${options.format}`,
            class: name,
            subject: id,
            factors: { ...cell, block: `${id}-${block}` },
          },
          frames: () =>
            pictures(options, (canvas, frame) => drawAssociation(canvas, cell, scene, frame, options.frames)),
        };
      });
    }),
  );
}

interface FaceOptions {
  readonly backgrounds: readonly Color[];
  readonly speech: number;
  /** How much the head moves: 1 is a few per cent of its width. */
  readonly sway: number;
  readonly newborn?: boolean;
}

/** One take of one subject: what stays the same comes from the subject's stream, the rest from the take's own. */
function face(
  options: SetOptions,
  subject: string,
  name: ExpressionName,
  take: number,
  { backgrounds, speech, sway, newborn = false }: FaceOptions,
): Iterable<Uint8Array> {
  const { layout, seed, frames } = options;
  const identity = drawIdentity(randomOf(seed, layout, subject), newborn);
  const random = randomOf(seed, layout, subject, name, take);
  const show = perform(name, random, { speech });
  const scene: Scene = {
    background: pick(random, backgrounds),
    light: between(random, -1, 1),
    brightness: between(random, 0.9, 1.06),
  };
  const rest = { x: between(random, -0.12, 0.12), y: between(random, -0.08, 0.08), scale: between(random, 0.92, 1.04) };
  const turn = {
    yaw: between(random, -0.1, 0.1),
    pitch: between(random, -0.06, 0.06),
    roll: between(random, -0.06, 0.06),
  };
  const swings = count(5).map(() => ({ rate: between(random, 0.4, 1.4), phase: between(random, 0, 6.28) }));
  const swing = (index: number, t: number): number => {
    const { rate, phase } = swings[index] ?? { rate: 1, phase: 0 };
    return sway * Math.sin(2 * Math.PI * rate * t + phase);
  };
  return pictures(options, (canvas, frame) => {
    const t = frame / Math.max(1, frames - 1);
    const pose: Pose = {
      x: rest.x + 0.04 * swing(0, t),
      y: rest.y + 0.03 * swing(1, t),
      yaw: turn.yaw + 0.05 * swing(2, t),
      pitch: turn.pitch + 0.03 * swing(3, t),
      roll: turn.roll + 0.03 * swing(4, t),
      scale: rest.scale,
    };
    drawFace(canvas, identity, pose, show(t), scene);
  });
}

function* pictures(
  options: SetOptions,
  draw: (canvas: ReturnType<typeof createCanvas>, frame: number) => void,
): Iterable<Uint8Array> {
  for (let frame = 0; frame < options.frames; frame++) {
    const canvas = createCanvas(options.width, options.height);
    draw(canvas, frame);
    yield canvas.rgb;
  }
}
