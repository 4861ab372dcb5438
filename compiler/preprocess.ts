/**
 * What an input of a network is fed: guessed from its shape once, written into the Program, and followed from there.
 */
import type { Preprocess } from "./program.ts";

/** Mean and standard deviation of ImageNet's pixels in [0, 1], red, green, blue (torchvision's documentation). */
const IMAGENET_MEAN = [0.485, 0.456, 0.406];
const IMAGENET_STD = [0.229, 0.224, 0.225];

/** Flow images are centred on 0.5 and scaled by the mean of ImageNet's deviations (Wang et al. 2016, TSN). */
const FLOW_MEAN = 0.5;
const FLOW_STD = 0.226;

/** Displacements beyond this many pixels are clipped (Wang et al. 2016, TSN: bound 20). */
const FLOW_BOUND = 20;

/**
 * The preprocessing of an input of shape [N, C, H, W]: three channels are an RGB frame, an even number of channels is a
 * stack of C/2 flow fields. Other inputs have none, and no video can be fed to them.
 */
export function preprocessOf(shape: readonly number[]): Preprocess | undefined {
  const [, channels, height, width] = shape;
  if (shape.length !== 4 || channels === undefined || height === undefined || width === undefined) return undefined;
  // The literature's proportion: the shorter side is 256 where the crop is 224.
  const resize = Math.round((Math.max(width, height) * 256) / 224);
  if (channels === 3) return { source: "rgb", size: [width, height], resize, mean: IMAGENET_MEAN, std: IMAGENET_STD };
  if (channels < 2 || channels % 2 !== 0) return undefined;
  return {
    source: "flow",
    size: [width, height],
    resize,
    mean: [FLOW_MEAN],
    std: [FLOW_STD],
    bound: FLOW_BOUND,
    fields: channels / 2,
    quantise: "round",
    order: "xyxy",
  };
}
