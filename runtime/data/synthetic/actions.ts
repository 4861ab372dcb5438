/**
 * What a face does and when: action units over time.
 *
 * In: the name of an expression and a random stream. Out: a function from time (0 the clip's start, 1 its end) to the
 * strength of every action unit. The units and their numbers are those of the Facial Action Coding System (Ekman and
 * Friesen, 1978); which units make which emotion follows its prototypes, and for newborns' pain the Neonatal Facial
 * Coding System (Grunau and Craig, 1987). Each unit has its own onset, apex and offset, and people differ in how strong
 * and how fast they are. Lips that speak, eyes that blink and heads that sway are the same for all expressions: they say
 * nothing about the class.
 */
import { between, type Random } from "../random.ts";

/** The face at rest: every action unit that the drawn face has, at strength 0. */
const REST = {
  /** Inner brow raised. */
  AU1: 0,
  /** Outer brow raised. */
  AU2: 0,
  /** Brows lowered and drawn together. */
  AU4: 0,
  /** Upper lid raised. */
  AU5: 0,
  /** Cheek raised. */
  AU6: 0,
  /** Lids tightened. */
  AU7: 0,
  /** Nose wrinkled. */
  AU9: 0,
  /** Lip corners pulled up. */
  AU12: 0,
  /** Lip corners pulled down. */
  AU15: 0,
  /** Lips stretched. */
  AU20: 0,
  /** Lips apart. */
  AU25: 0,
  /** Jaw dropped. */
  AU26: 0,
  /** Mouth stretched wide. */
  AU27: 0,
  /** Eyes closed. */
  AU43: 0,
};

type ActionUnit = keyof typeof REST;
const UNITS: readonly ActionUnit[] = Object.keys(REST).filter((key): key is ActionUnit => key in REST);
/** Strength of each unit, 0 (rest) to 1 (strongest). */
export type Actions = Readonly<Record<ActionUnit, number>>;

/** How strong each unit is at the apex of an expression; `pulse` opens and closes the mouth so many times a clip. */
interface Expression {
  readonly units: Partial<Actions>;
  readonly pulse?: number;
}

export type ExpressionName =
  | "anger"
  | "disgust"
  | "fear"
  | "happiness"
  | "neutral"
  | "sadness"
  | "surprise"
  | "calm"
  | "cry"
  | "mild"
  | "severe";

/** By name: of adults first, then of newborns. */
const EXPRESSIONS: Readonly<Record<ExpressionName, Expression>> = {
  anger: { units: { AU4: 1, AU5: 0.5, AU7: 0.7, AU15: 0.25, AU25: 0.35, AU9: 0.2 } },
  disgust: { units: { AU9: 1, AU4: 0.35, AU7: 0.4, AU15: 0.7, AU6: 0.3, AU25: 0.2 } },
  fear: { units: { AU1: 1, AU2: 0.5, AU4: 0.5, AU5: 0.9, AU20: 0.9, AU25: 0.6, AU26: 0.25 } },
  happiness: { units: { AU6: 0.9, AU12: 1, AU25: 0.6, AU26: 0.15 } },
  neutral: { units: {} },
  sadness: { units: { AU1: 0.9, AU4: 0.45, AU15: 1, AU43: 0.25 } },
  surprise: { units: { AU1: 1, AU2: 1, AU5: 0.9, AU25: 0.6, AU26: 0.9, AU27: 0.2 } },
  // A newborn: at rest the eyes are often closed; crying is loud and in waves; pain bulges the brow and furrows the nose.
  calm: { units: { AU43: 0.35 } },
  cry: { units: { AU4: 0.35, AU6: 0.5, AU7: 0.5, AU25: 0.9, AU27: 0.95, AU43: 0.6 }, pulse: 3 },
  mild: { units: { AU4: 0.6, AU7: 0.5, AU9: 0.35, AU15: 0.3, AU20: 0.25, AU25: 0.15 } },
  severe: { units: { AU4: 1, AU6: 0.8, AU7: 0.9, AU9: 1, AU20: 0.9, AU25: 0.8, AU26: 0.7, AU43: 0.95 } },
};

/** Up from 0 to 1 between `from` and `to`, without a corner. */
function rise(t: number, from: number, to: number): number {
  const x = Math.min(1, Math.max(0, (t - from) / Math.max(1e-6, to - from)));
  return x * x * (3 - 2 * x);
}

/** Time from 0 to 1 to the strength of every unit. */
export type Performance = (t: number) => Actions;

export interface PerformanceOptions {
  /** How far the lips move as in speech, 0 for a silent face. */
  readonly speech: number;
}

/** One take of `name`. */
export function perform(name: ExpressionName, random: Random, options: PerformanceOptions): Performance {
  const { units, pulse = 0 } = EXPRESSIONS[name];
  const strength = between(random, 0.7, 1);
  const start = between(random, 0.05, 0.2);
  const tracks = UNITS.flatMap((unit) => {
    // The same draws for every unit of every expression, so that a change of one leaves the others as they are.
    const own = between(random, 0.85, 1.1);
    const onset = start + between(random, -0.04, 0.06);
    const apex = onset + between(random, 0.12, 0.3);
    const release = between(random, 0.72, 0.88);
    const peak = (units[unit] ?? 0) * strength * own;
    return peak === 0 ? [] : [{ unit, peak, onset, apex, release, offset: release + between(random, 0.1, 0.2) }];
  });
  const blink = between(random, 0.1, 0.9);
  const beats = [0, 1, 2].map(() => ({ rate: between(random, 2, 6), phase: random() }));
  const wave = random();
  return (t) => {
    const now: Record<ActionUnit, number> = { ...REST };
    for (const { unit, peak, onset, apex, release, offset } of tracks)
      now[unit] = peak * rise(t, onset, apex) * (1 - 0.85 * rise(t, release, offset));
    if (pulse > 0) {
      const open = 0.5 - 0.5 * Math.cos(2 * Math.PI * (pulse * t + wave));
      now.AU27 *= 0.35 + 0.65 * open;
      now.AU25 *= 0.6 + 0.4 * open;
    }
    const talk = beats.reduce((sum, { rate, phase }) => sum + Math.sin(2 * Math.PI * (rate * t + phase)), 0) / 3;
    now.AU25 += options.speech * 0.5 * Math.max(0, talk);
    now.AU26 += options.speech * 0.35 * Math.max(0, talk);
    now.AU43 = Math.max(now.AU43, 1 - Math.abs(t - blink) / 0.035);
    for (const unit of UNITS) now[unit] = Math.min(1, Math.max(0, now[unit]));
    return now;
  };
}
