/**
 * The workloads: which network, on which numbers, what one run is, and what it must give.
 *
 * They are what users of other libraries would run instead, stated so that others can be timed on the same work: all
 * numbers come from names by a hash, so that no file of weights is needed and nothing is timed on zeros. The values that
 * a run must give (fixtures/references.json) were computed by PyTorch in f64 from the same names; of large results a sample.
 */
import { readFileSync } from "node:fs";

const he = (fan) => Math.sqrt(6 / fan);

/** Time spent making numbers up, in ms: taken off the time to the first result. */
let inventing = 0;
export const inventingMs = () => inventing;

/** FNV-1a. */
function seedOf(name) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Numbers scale·u + offset from the `first` one on, with u uniform in [-1, 1) on a grid of 2^-23, into `into`. */
export function fill(into, { name, scale = 1, offset = 0 }, first = 0) {
  const started = performance.now();
  const [factor, shift] = [Math.fround(scale), Math.fround(offset)];
  const seed = Math.imul(seedOf(name), 0x85ebca77);
  for (let i = 0; i < into.length; i++) {
    let x = (Math.imul(first + i, 0x9e3779b1) + seed) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    x ^= x >>> 15;
    into[i] = Math.fround((((x >>> 8) - 8388608) / 8388608) * factor) + shift;
  }
  inventing += performance.now() - started;
  return into;
}

const count = (shape) => shape.reduce((product, size) => product * size, 1);

// ---------------------------------------------------------------------------------------------------------- parameters

/** Numbers of VGG16's layers, by their place in the network. */
function vggNumbers(path, shape) {
  const conv = /conv(\d)_(\d)\.(weight|bias)$/.exec(path);
  if (conv !== null) {
    const before = [0, 0, 2, 4, 7, 10][Number(conv[1])] + Number(conv[2]) - 1;
    return conv[3] === "bias"
      ? { name: `vgg.c${before}.b`, scale: 0.05 }
      : { name: `vgg.c${before}.w`, scale: he(shape[1] * 9) };
  }
  const [, layer, kind] = /fc(\d)\.(weight|bias)$/.exec(path) ?? [];
  const index = Number(layer) - 6;
  if (kind === "bias") return { name: `vgg.fc${index}.b`, scale: 0.05 };
  return {
    name: `vgg${index === 0 ? 224 : ""}.fc${index}.w`,
    scale: index === 2 ? Math.sqrt(3 / shape[1]) : he(shape[1]),
  };
}

/** Numbers of ResNet-50's layers; the last norm of a block and that of its shortcut are smaller. */
function resnetNumbers(path, shape) {
  if (path === "fc.weight") return { name: "rn.fc.w", scale: Math.sqrt(3 / 2048) };
  if (path === "fc.bias") return { name: "rn.fc.b", scale: 0.05 };
  const parts = /^(?:layer(\d)\[(\d+)\]|stem)\.(?:(downsample)\.)?(conv|bn)(\d?)\.(\w+)$/.exec(path);
  if (parts === null) throw new Error(`no numbers for ${path}`);
  const [, layer, block, shortcut, kind, index, of] = parts;
  const letter = shortcut === undefined ? ["a", "b", "c"][Number(index) - 1] : "d";
  const name = layer === undefined ? "rn.stem" : `rn.l${Number(layer) - 1}.${block}.${letter}`;
  if (kind === "conv") return { name: `${name}.w`, scale: he(shape[1] * shape[2] * shape[3]) };
  const last = layer !== undefined && (letter === "c" || letter === "d");
  return {
    weight: { name: `${name}.g`, scale: last ? 0.1 : 0.2, offset: last ? 0.4 : 1 },
    bias: { name: `${name}.b`, scale: 0.1 },
    running_mean: { name: `${name}.m`, scale: 0.1 },
    running_var: { name: `${name}.v`, scale: 0.5, offset: 1 },
  }[of];
}

/** Numbers of the parts of a cross non-local unit. */
function edgeNumbers(prefix, part, kind, fan, ratio) {
  if (kind === "bias") return { name: `${prefix}.${part}.b`, scale: 0.05 };
  return { name: `${prefix}.${part}.w`, scale: Math.sqrt(ratio[part] / fan) };
}

function nonlocalNumbers(path, shape) {
  const [, part, kind] = /^edge\.(\w+)\.(weight|bias)$/.exec(path) ?? [];
  return edgeNumbers("nl", part, kind, shape[1], { theta: 0.5, phi: 0.5, g: 3, out: 3 });
}

/** Parameters of the training step and their names, in the order in which the reference lists them. */
function trainNumbers(path, shape) {
  const head = /^head\.(weight|bias)$/.exec(path);
  if (head !== null)
    return head[1] === "bias" ? { name: "tr.fc.b", scale: 0.05 } : { name: "tr.fc.w", scale: Math.sqrt(3 / shape[1]) };
  const graft = /^stia_stage(\d)\.to_spatial\.(\w+)\.(weight|bias)$/.exec(path);
  if (graft !== null)
    return edgeNumbers(`tr.nl${Number(graft[1]) - 1}`, graft[2], graft[3], shape[1], {
      theta: 1.5,
      phi: 1.5,
      g: 1.5,
      out: 3,
    });
  const [, stream, stage, half, kind, of] = /^(\w+)\.stage(\d)\.([ab])\.(conv|bn)\.(\w+)$/.exec(path) ?? [];
  const name = `tr.s${stream === "spatial" ? 0 : 1}.${Number(stage) - 1}.${half === "a" ? 0 : 1}`;
  if (kind === "conv") return { name: `${name}.w`, scale: he(shape[1] * 9) };
  return {
    weight: { name: `${name}.g`, scale: 0.1, offset: 1 },
    bias: { name: `${name}.b`, scale: 0.1 },
    running_mean: { name: "", scale: 0, offset: 0 },
    running_var: { name: "", scale: 0, offset: 1 },
  }[of];
}

/** Paths of everything that the step trains, in the reference's order. */
export function trainOrder() {
  const paths = [];
  for (const stream of ["spatial", "temporal"])
    for (const stage of [1, 2, 3])
      for (const half of ["a", "b"])
        for (const of of ["conv.weight", "bn.weight", "bn.bias"]) paths.push(`${stream}.stage${stage}.${half}.${of}`);
  for (const stage of [2, 3])
    for (const part of ["theta", "phi", "g", "out"])
      for (const of of ["weight", "bias"]) paths.push(`stia_stage${stage}.to_spatial.${part}.${of}`);
  return [...paths, "head.weight", "head.bias"];
}

// ----------------------------------------------------------------------------------------------------------- workloads

const forward = { kind: "forward", batch: 1, limit: 1e-4 };

/**
 * `inputs` are names by the model's inputs; `numbers` gives those of a parameter; `flops` are nominal (a multiply-add
 * counts two, a training step as three forward passes). `transfer`: a run writes the inputs and reads the output too,
 * else they stay on the device. `limit` bounds the relative error, ‖y − r‖ / ‖r‖.
 */
export const WORKLOADS = {
  matmul_1024: {
    ...forward,
    net: "matmul.net",
    inputs: { a: "mm1024.a", b: "mm1024.b" },
    numbers: undefined,
    transfer: false,
    flops: 2147483648,
  },
  conv_64x56: {
    ...forward,
    net: "conv_64x56.net",
    inputs: { x: "cv64.x" },
    numbers: () => ({ name: "cv64.w", scale: he(64 * 9) }),
    transfer: false,
    flops: 231211008,
  },
  conv_256x28: {
    ...forward,
    net: "conv_256x28.net",
    inputs: { x: "cv256.x" },
    numbers: () => ({ name: "cv256.w", scale: he(256 * 9) }),
    transfer: false,
    flops: 924844032,
  },
  vgg16_224: {
    ...forward,
    net: "vgg16.net",
    inputs: { image: "vgg224.x" },
    numbers: vggNumbers,
    transfer: true,
    flops: 30940528640,
  },
  resnet50_224: {
    ...forward,
    net: "resnet50.net",
    inputs: { image: "rn.x" },
    numbers: resnetNumbers,
    transfer: true,
    flops: 8178368512,
  },
  nonlocal: {
    ...forward,
    net: "nonlocal.net",
    inputs: { a: "nl.xa", b: "nl.xb" },
    numbers: nonlocalNumbers,
    transfer: true,
    flops: 465633280,
  },
  train_step: {
    kind: "train",
    batch: 8,
    limit: 1e-2,
    net: "train_step.net",
    inputs: { spatial: "tr.x0", temporal: "tr.x1" },
    numbers: trainNumbers,
    transfer: true,
    flops: 9071271936,
  },
};

/** What of an input or parameter is asked for, as an array. */
export const numbersOf = (entry, shape) => fill(new Float32Array(count(shape)), entry);

/** What a training step's own inputs hold: example i is of class i mod 6; SGD with rate 0.05. */
export function stepInput(name, shape) {
  const values = new Float32Array(count(shape)).fill(1);
  if (name === "step.target") {
    const classes = shape[1];
    for (let i = 0; i < values.length; i++) values[i] = i % classes === Math.floor(i / classes) % classes ? 1 : 0;
  } else if (name === "step.rates") {
    for (let i = 0; i < values.length; i += 3) values[i] = 0.05;
  }
  return values;
}

// ---------------------------------------------------------------------------------------------------------- references

/** At most this many numbers of a result are kept as its reference. */
const KEPT = 1000;

/** A result as its reference keeps it: evenly spaced numbers, and the norm of all. */
export function sampleOf(values) {
  const stride = Math.max(1, Math.floor(values.length / KEPT));
  const places = Array.from({ length: Math.min(KEPT, values.length) }, (_, i) => i * stride);
  let squares = 0;
  for (const value of values) squares += value * value;
  return { length: values.length, norm: Math.sqrt(squares), values: places.map((i) => values[i]) };
}

export function readReferences() {
  return JSON.parse(readFileSync(new URL("./fixtures/references.json", import.meta.url), "utf8"));
}

/**
 * Relative errors of a result against its reference: over the numbers kept, of the norm of all, and of the loss.
 * Throws where one is over the limit or a number is not finite.
 */
export function check(id, { values, loss }, reference, limit) {
  const got = sampleOf(values);
  if (got.length !== reference.length) throw new Error(`${id}: ${got.length} numbers instead of ${reference.length}`);
  let [difference, size] = [0, 0];
  for (const [i, want] of reference.values.entries()) {
    difference += (got.values[i] - want) ** 2;
    size += want * want;
  }
  const errors = {
    relative: Math.sqrt(difference / size),
    norm: Math.abs(got.norm - reference.norm) / reference.norm,
    ...(reference.loss === undefined ? {} : { loss: Math.abs(loss - reference.loss) / Math.abs(reference.loss) }),
  };
  for (const [what, error] of Object.entries(errors))
    if (!(error < limit)) throw new Error(`${id} is wrong: its ${what} error is ${error}, and ${limit} is allowed`);
  return errors;
}
