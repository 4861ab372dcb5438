/**
 * Which clips an epoch shows, in which order, and what of each: all of it drawn from the seed.
 *
 * In: the seed, the epoch, and the clips. Out: the order of the epoch, and for each sample its window, crop, mirror and
 * jitter. Nothing here remembers anything: the order is a function of (seed, epoch) and a sample one of (seed, epoch,
 * clip's path, how often the clip was drawn before in the epoch), so an interrupted run goes on from the numbers of the
 * epoch and of the batch alone.
 */
import type { DataRecipe } from "../../../compiler/recipe/recipe.ts";
import { drawView } from "../augment.ts";
import { between, pick, type Random, randomOf, shuffled } from "../random.ts";
import { placeCrop } from "../sample.ts";
import type { EntryHeader } from "./cache.ts";
import type { Jitter, RowPlan } from "./rows.ts";

/** A place in an epoch's order: a clip, and how often it came before in the same epoch. */
export interface Draw {
  readonly clip: number;
  readonly occurrence: number;
}

/**
 * The order of an epoch over clips of the classes `classOf` (class number by clip): as many draws as there are clips.
 * "none": every clip once. "inverse_frequency": every class equally often, as near as the count allows; within a class
 * every clip once before any comes again.
 */
export function epochOrder(
  classOf: readonly number[],
  balance: DataRecipe["balance"],
  seed: number,
  epoch: number,
): readonly Draw[] {
  const random = randomOf(seed, "order", epoch);
  const all = classOf.map((_, clip) => clip);
  if (balance === "none") return shuffled(random, all).map((clip) => ({ clip, occurrence: 0 }));
  const classes = [...new Set(classOf)].sort((a, b) => a - b);
  const decks = new Map<number, number[]>(classes.map((c) => [c, []]));
  const counts = new Map<number, number>();
  let turn: number[] = [];
  return all.map(() => {
    if (turn.length === 0) turn = shuffled(random, classes);
    const kind = turn.pop() ?? 0;
    const deck = decks.get(kind) ?? [];
    if (deck.length === 0) {
      deck.push(
        ...shuffled(
          random,
          all.filter((clip) => classOf[clip] === kind),
        ),
      );
    }
    const clip = deck.pop() ?? 0;
    const occurrence = counts.get(clip) ?? 0;
    counts.set(clip, occurrence + 1);
    return { clip, occurrence };
  });
}

/** What of a clip a training sample shows. `header` describes the clip's windows, `size` is the crop's. */
export function drawSample(
  draw: Draw,
  path: string,
  header: EntryHeader,
  size: readonly [number, number],
  recipe: Pick<DataRecipe, "sampling" | "crop" | "flip" | "jitter">,
  seed: number,
  epoch: number,
): RowPlan {
  // A stream for each purpose, so that a recipe with jitter has the windows and crops of one without.
  const stream = (purpose: string): Random => randomOf(seed, purpose, epoch, path, draw.occurrence);
  const start = drawStart(stream("window"), header, recipe.sampling);
  const view = drawView(stream("view"), [header.width, header.height], size, recipe.flip);
  const { left, top } = recipe.crop === "random" ? view : centreOf(header, size);
  const plan = { clip: draw.clip, start, left, top, mirrored: view.mirrored };
  return recipe.jitter > 0 ? { ...plan, jitter: drawJitter(stream("jitter"), recipe.jitter) } : plan;
}

/** The corner of the centre crop in a picture that has been resized already. */
function centreOf(
  header: EntryHeader,
  size: readonly [number, number],
): { readonly left: number; readonly top: number } {
  return placeCrop(header, { size, resize: Math.min(header.width, header.height) });
}

function drawStart(random: Random, { starts, frames, fields }: EntryHeader, sampling: DataRecipe["sampling"]): number {
  const room = frames - fields - 1;
  switch (sampling.kind) {
    case "middle":
      return starts[0] ?? 0;
    case "random":
      return pick(random, starts);
    case "segments": {
      const part = Math.floor(random() * sampling.count);
      return Math.floor((room * (part + 0.5)) / sampling.count);
    }
    default:
      return sampling satisfies never;
  }
}

/** Factors from [max(0, 1 - strength), 1 + strength], in an order that is drawn (torchvision's ColorJitter, hue left out). */
function drawJitter(random: Random, strength: number): Jitter {
  const factor = (): number => between(random, Math.max(0, 1 - strength), 1 + strength);
  return {
    brightness: factor(),
    contrast: factor(),
    saturation: factor(),
    order: shuffled(random, ["brightness", "contrast", "saturation"] as const),
  };
}

/**
 * View number `view` of a clip, of `segments` × `crops`: windows in the middle of each of `segments` equal parts, and of
 * each the centre crop, or the four corners (top left, top right, bottom left, bottom right) and the centre and then the
 * same five mirrored (Simonyan and Zisserman 2014, sec. 4; 25 × 10 there).
 */
export function viewOf(
  clip: number,
  view: number,
  header: EntryHeader,
  size: readonly [number, number],
  { segments, crops }: DataRecipe["evaluation"],
): RowPlan {
  const segment = Math.floor(view / crops);
  const crop = view % crops;
  const start = Math.floor(((header.frames - header.fields - 1) * (segment + 0.5)) / segments);
  const centre = centreOf(header, size);
  const [right, bottom] = [header.width - size[0], header.height - size[1]];
  const corner = crops === 1 ? 4 : crop % 5;
  return {
    clip,
    start,
    left: corner === 4 ? centre.left : corner % 2 === 0 ? 0 : right,
    top: corner === 4 ? centre.top : corner < 2 ? 0 : bottom,
    mirrored: crop >= 5,
  };
}
