/**
 * The `data` section: where clips come from, who trains, and what a sample looks like.
 *
 * Streams are written one by one, but a sample has one window, one crop and one flip: a unit between the streams compares
 * places, so that a place must be the same in all of them. In: the section as it was read, and the model. Out: the one
 * record; where streams disagree, or a crop is not what the model takes, a diagnostic at the transform (E0706).
 */
import type { Setting, Settings } from "../../grammar/ast.ts";
import type { DiagnosticParts } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { spanOf } from "../elaborate/failure.ts";
import type { Context } from "../elaborate/values.ts";
import { showShape } from "../size.ts";
import type { Located } from "./kinds.ts";
import type { DataRecipe } from "./recipe.ts";
import { DATA, STREAM } from "./schema.ts";
import { type Read, readSection, say } from "./sections.ts";
import type { Input, Subject } from "./subject.ts";
import type { Sample, Transform, Window } from "./words.ts";

/** The section as it is written. */
export interface WrittenData {
  readonly at: Span;
  readonly values: Read<typeof DATA>;
  /** For all inputs. */
  readonly common: Read<typeof STREAM>;
  readonly streams: readonly { readonly name: string; readonly at: Span; readonly values: Read<typeof STREAM> }[];
}

/** Reads `data { … }` and its streams; an absent one is empty, and stands at `otherwise`. */
export function readData(section: Setting | undefined, context: Context, otherwise: Span): WrittenData {
  const at = section === undefined ? otherwise : spanOf(context, section.name);
  const empty: Settings = { kind: "Settings", items: [], start: at.start, end: at.end };
  const { values: both, sections } = readSection(
    { ...DATA, ...STREAM },
    section?.settings ?? empty,
    { title: "`data`", at, holds: ["stream"] },
    context,
  );
  const streams = sections.map((stream) => {
    const here = spanOf(context, stream.label ?? stream.name);
    const title = { title: "`stream`", at: here, holds: [] };
    const { values } = readSection(STREAM, stream.settings ?? empty, title, context);
    return { name: stream.label?.value ?? "", at: here, values };
  });
  return { at, values: both, common: both, streams };
}

/** What resolving needs besides the section. */
export interface DataSite {
  readonly subject: Subject;
  readonly evaluation: DataRecipe["evaluation"];
  /** The folder from outside, which goes before the recipe's own. */
  readonly folder: string | undefined;
  /** Whether there must be a folder: a recipe that is only checked may leave it to the command line. */
  readonly complete: boolean;
  readonly context: Context;
}

/** The record; its defaults stand for what is wrong. */
export function resolveData(written: WrittenData, site: DataSite): DataRecipe {
  const { values } = written;
  checkStreams(written, site);
  const train = geometries(written, "train", site);
  const evaluated = geometries(written, "eval", site);
  agree(train, site.context);
  agree(evaluated, site.context);
  sameSize(train[0], evaluated[0], site.context);
  const source = values.source.value;
  const folder = site.folder ?? source?.folder;
  if (folder === undefined && site.complete)
    say(site.context, "E0708", "nothing says where the clips are", written.at, {
      label: "no `source`",
      helps: ["`--data FOLDER` on the command line", '`data = Clips("folder")` in a recipe'],
    });
  const { size } = site.subject.inputs[0] ?? {};
  return {
    folder: folder ?? "",
    labels: labelsOf(written, site),
    split: { protocol: values.split.value, validation: values.validation.value },
    batch: values.batch.value,
    balance: values.balance.value,
    ...samplingOf(written, site),
    resize: (train[0] ?? evaluated[0])?.resize?.size ?? defaultResize(train.length + evaluated.length > 0, size),
    crop: train[0] === undefined ? "random" : (train[0].crop?.where ?? "centre"),
    flip: train[0]?.flip?.p ?? 0,
    jitter: train.find(({ input }) => input.feed === "picture")?.jitter?.strength ?? 0,
    evaluation: site.evaluation,
  };
}

/** Shorter side 256 where the input is 224, as in the literature. */
function defaultResize(written: boolean, size: readonly [number, number] | undefined): number | undefined {
  return written || size === undefined ? undefined : Math.round((Math.max(...size) * 256) / 224);
}

function checkStreams(written: WrittenData, { subject, context }: DataSite): void {
  const names = subject.inputs.map(({ name }) => name);
  const seen = new Map<string, Span>();
  for (const { name, at } of written.streams) {
    const first = seen.get(name);
    if (first !== undefined)
      say(context, "E0704", `\`stream "${name}"\` stands twice`, at, {
        secondary: [{ span: first, text: "the first" }],
      });
    seen.set(name, at);
    if (names.includes(name)) continue;
    const near = suggest(name, names);
    say(context, "E0501", `\`${subject.model.name}\` has no stream \`${name}\``, at, {
      label: "not a stream",
      helps:
        near === undefined
          ? []
          : [{ text: `did you mean \`"${near}"\`?`, edits: [{ span: at, replacement: `"${near}"` }] }],
      notes: [`its inputs are ${names.join(", ")}`],
    });
  }
  const [first, ...others] = subject.inputs;
  const other = others.find(({ size }) => String(size) !== String(first?.size));
  if (other !== undefined && first?.size !== undefined && other.size !== undefined)
    say(context, "E0706", `\`${first.name}\` and \`${other.name}\` differ in size, and share one crop`, written.at, {
      label: `${first.size.join("×")} and ${other.size.join("×")}`,
      helps: ["give both inputs one size with `over`"],
    });
}

/** The number of labels that a model with so many outputs has: one output tells two classes apart. */
export function classCount(subject: Subject): number | undefined {
  return subject.outputs === 1 ? 2 : subject.outputs;
}

function labelsOf(written: WrittenData, { subject, context }: DataSite): readonly string[] | undefined {
  const source = written.values.source.value;
  const { model } = subject;
  const wanted = classCount(subject);
  const labels = source?.labels;
  if (source === undefined || labels === undefined) return model.classes?.length === wanted ? model.classes : undefined;
  if (wanted !== undefined && labels.length !== wanted) {
    const [output] = model.graph.outputs;
    const gives = output === undefined ? "" : showShape(output.node.shape);
    say(
      context,
      "E0702",
      `the data has ${labels.length} ${labels.length === 1 ? "class" : "classes"}, the model gives ${subject.outputs ?? 0}`,
      spanOf(source.use.context, source.use.at("labels")),
      {
        label: `${labels.length} ${labels.length === 1 ? "label" : "labels"}`,
        secondary: [{ span: subject.at, text: `gives ${gives}` }],
        helps: [`make the network for as many: \`classes=${labels.length}\``],
      },
    );
  }
  return labels;
}

// ----------------------------------------------------------------------------------------------------------- geometry

type At<T> = T & { readonly at: Span };
type Of<K extends Transform["kind"]> = At<Extract<Transform, { readonly kind: K }>>;

/** What a list of transforms makes of the frames of one input. */
interface Geometry {
  readonly input: Input;
  /** The list. */
  readonly at: Span;
  readonly resize: Of<"resize"> | undefined;
  readonly crop: Of<"crop"> | undefined;
  readonly flip: Of<"flip"> | undefined;
  readonly jitter: Of<"jitter"> | undefined;
}

/** The geometry of every input for which a list is written; the others follow. */
function geometries(written: WrittenData, which: "train" | "eval", site: DataSite): readonly Geometry[] {
  return site.subject.inputs.flatMap((input) => {
    const own = written.streams.find(({ name }) => name === input.name)?.values[which];
    const found = own?.given === true ? own : written.common[which];
    const { value, at } = found;
    return value === undefined ? [] : [geometryOf(input, value, at, found === own, which, site.context)];
  });
}

function geometryOf(
  input: Input,
  list: readonly Located<Transform>[],
  at: Span,
  own: boolean,
  which: "train" | "eval",
  context: Context,
): Geometry {
  const found = new Map<Transform["kind"], At<Transform>>();
  for (const { value, at: node } of list) {
    const here = spanOf(context, node);
    const problem = (code: string, message: string, parts: DiagnosticParts = {}): void =>
      say(context, code, message, here, parts);
    const first = found.get(value.kind);
    if (first !== undefined)
      problem("E0704", "this is said twice", { secondary: [{ span: first.at, text: "first here" }] });
    else if (value.kind === "resize" && found.has("crop"))
      problem("E0706", "frames are resized before they are cropped", { helps: ["put `Resize` first"] });
    else if (which === "eval" && (value.kind !== "crop" || value.where === "random") && value.kind !== "resize")
      problem("E0706", "evaluation draws nothing", {
        label: value.kind === "crop" ? "a random place" : "random",
        helps: [
          value.kind === "crop"
            ? `\`CenterCrop(${value.size[0] === value.size[1] ? value.size[0] : value.size.join("x")})\``
            : "`evaluate = views(segments=25, crops=10)` averages over crops and their mirror images",
        ],
      });
    else if (own && value.kind === "flip" && (value.of === "flow") !== (input.feed === "flow"))
      problem(
        "E0706",
        value.of === "flow" ? `\`${input.name}\` is a picture, not flow` : "what is mirrored moves the other way",
        {
          label: `\`${input.name}\` has ${input.channels} channels`,
          helps: [
            value.of === "flow"
              ? `\`HorizontalFlip(${value.p})\``
              : `\`FlowFlip(${value.p})\` also changes the sign of the motion along x`,
          ],
        },
      );
    else if (own && value.kind === "jitter" && input.feed === "flow")
      problem("E0706", `\`${input.name}\` is optical flow and has no colours`, {
        label: `${input.channels} channels`,
        helps: ["leave it to the stream of the picture"],
      });
    else if (value.kind === "crop" && input.size !== undefined && String(value.size) !== String(input.size))
      problem("E0706", `the model takes ${input.size.join("×")} pixels, and this gives ${value.size.join("×")}`, {
        helps: [
          `\`${value.where === "random" ? "RandomCrop" : "CenterCrop"}(${input.size[0] === input.size[1] ? input.size[0] : input.size.join("x")})\``,
        ],
      });
    if (first === undefined) found.set(value.kind, { ...value, at: here });
  }
  const of = <K extends Transform["kind"]>(kind: K): Of<K> | undefined => found.get(kind) as Of<K> | undefined;
  const geometry = { input, at, resize: of("resize"), crop: of("crop"), flip: of("flip"), jitter: of("jitter") };
  const side = Math.min(...(geometry.crop?.size ?? input.size ?? [0]));
  if (geometry.resize !== undefined && geometry.resize.size < side)
    say(
      context,
      "E0706",
      `a crop of ${side} does not fit a picture whose shorter side is ${geometry.resize.size}`,
      geometry.resize.at,
      { helps: [`\`Resize(${Math.round((side * 256) / 224)})\``] },
    );
  return geometry;
}

const percent = (p: number): string => (p === 0 ? "never mirrored" : `mirrored with probability ${p}`);

/** One crop and one flip for all streams. */
function agree(list: readonly Geometry[], context: Context): void {
  const [first, ...others] = list;
  if (first === undefined) return;
  for (const other of others) {
    const differ = (of: "resize" | "crop" | "flip", mine: string, theirs: string): void => {
      if (mine === theirs) return;
      const [here, there] = [other[of]?.at ?? other.at, first[of]?.at ?? first.at];
      // Both follow the same list.
      if (here.start === there.start) return;
      say(context, "E0706", `\`${other.input.name}\` would not show the same places as \`${first.input.name}\``, here, {
        label: mine,
        secondary: [{ span: there, text: theirs }],
        notes: [
          "the streams of a sample share one size, one crop and one mirror, for units between them compare places",
        ],
      });
    };
    const size = ({ resize }: Geometry): string => (resize === undefined ? "not resized" : `resized to ${resize.size}`);
    differ("resize", size(other), size(first));
    const crop = (each: Geometry): string =>
      each.crop?.where === "random" ? "cropped anywhere" : "cropped in the centre";
    differ("crop", crop(other), crop(first));
    differ("flip", percent(other.flip?.p ?? 0), percent(first.flip?.p ?? 0));
  }
}

/** What is evaluated is as large as what was trained on. */
function sameSize(train: Geometry | undefined, evaluated: Geometry | undefined, context: Context): void {
  if (train === undefined || evaluated === undefined || train.resize?.size === evaluated.resize?.size) return;
  const size = ({ resize }: Geometry): string => (resize === undefined ? "not resized" : `resized to ${resize.size}`);
  say(
    context,
    "E0706",
    "training and evaluation see pictures of different sizes",
    evaluated.resize?.at ?? evaluated.at,
    {
      label: size(evaluated),
      secondary: [{ span: train.resize?.at ?? train.at, text: `${size(train)} in training` }],
    },
  );
}

// ----------------------------------------------------------------------------------------------------------- sampling

function windowText(window: Window): string {
  return window.kind === "segments"
    ? `one of ${window.count} segments`
    : `the ${window.kind} of the clip`.replace("the random", "any part");
}

function samplingOf(written: WrittenData, site: DataSite): Pick<DataRecipe, "sampling" | "flowBound"> {
  const { context, subject } = site;
  const windows: At<{ readonly window: Window; readonly input: Input }>[] = [];
  const bounds: At<{ readonly bound: number; readonly input: Input }>[] = [];
  for (const input of subject.inputs) {
    const own = written.streams.find(({ name }) => name === input.name)?.values.sample;
    const found = own?.given === true ? own : written.common.sample;
    const { value } = found;
    if (value === undefined || (found === own && !fitsFeed(value, input, context))) continue;
    const at = spanOf(context, value.use.node);
    if (value.window !== undefined) windows.push({ window: value.window, input, at });
    if (value.kind !== "flow" || input.feed !== "flow") continue;
    if (value.fields !== undefined && 2 * value.fields !== input.channels)
      say(
        context,
        "E0706",
        `\`${input.name}\` takes ${input.channels} channels, and ${value.fields} ${value.fields === 1 ? "field" : "fields"} of flow ${value.fields === 1 ? "is" : "are"} ${2 * value.fields}`,
        spanOf(context, value.use.at("L")),
        { label: "x and y of each field", helps: [`\`L=${input.channels / 2}\``] },
      );
    bounds.push({ bound: value.bound, input, at: spanOf(context, value.use.at("clip")) });
  }
  const [window] = windows;
  const otherWindow = windows.find(
    (each) => window !== undefined && windowText(each.window) !== windowText(window.window),
  );
  if (window !== undefined && otherWindow !== undefined && window.at.start !== otherWindow.at.start)
    say(
      context,
      "E0706",
      `\`${otherWindow.input.name}\` would not show the same moment as \`${window.input.name}\``,
      otherWindow.at,
      {
        label: windowText(otherWindow.window),
        secondary: [{ span: window.at, text: windowText(window.window) }],
        notes: ["the streams of a sample share one window of the clip"],
      },
    );
  const [bound] = bounds;
  const otherBound = bounds.find((each) => bound !== undefined && each.bound !== bound.bound);
  if (bound !== undefined && otherBound !== undefined)
    say(context, "E0706", "streams of flow are clipped alike", otherBound.at, {
      label: `at ${otherBound.bound} pixels`,
      secondary: [{ span: bound.at, text: `at ${bound.bound}` }],
    });
  return { sampling: window?.window ?? { kind: "random" }, flowBound: bound?.bound ?? 20 };
}

/** A picture is no flow, and flow is no picture. */
function fitsFeed(sample: Sample, input: Input, context: Context): boolean {
  const flow = sample.kind === "flow";
  if (flow === (input.feed === "flow")) return true;
  say(
    context,
    "E0706",
    flow ? `\`${input.name}\` takes a picture, not flow` : `\`${input.name}\` takes flow, not a picture`,
    spanOf(context, sample.use.node),
    {
      label: `\`${input.name}\` has ${input.channels} channels`,
      helps: [flow ? "`middle_frame`, `random_frame` or `segments(3)`" : `\`flow(L=${input.channels / 2})\``],
    },
  );
  return false;
}
