/**
 * The part of the page that shows where the streams look at each other.
 *
 * In: the record of attention. Out: markup. For each clip stand side by side what a stream sees and, over what the other
 * stream sees, how much attention each place of it receives. Every number has its unit, and closed gates are said to be
 * closed: attention that nothing lets through explains nothing.
 */
import { predictedClass } from "../../metrics/scores.ts";
import { escapeText, tag } from "../svg.ts";
import { count, percent, significant } from "../text.ts";
import { enlarge, INFERNO } from "./colours.ts";
import { drawHeat, drawWheel } from "./pictures.ts";
import { dataUri } from "./png.ts";
import { HEAT_SIDE, PROBE_SCRIPT } from "./probe.ts";
import type { AttendedClip, AttentionEdge, AttentionRecord, EdgeMap, RecordedGrid } from "./record.ts";

/** How the section looks, beside the page's own style. */
export const ATTENTION_STYLE: string = `
.looks{margin:26px 0 0;padding:16px 0 0;border-top:1px solid var(--grid);break-inside:avoid}
.looks .who{margin:0 0 10px;max-width:none}
.looks .who code{margin-right:14px}
.mood{font-weight:600}.mood.right{color:var(--c)}.mood.wrong{color:var(--b)}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:18px 34px}
.pair{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}
.pairs.many{grid-template-columns:minmax(0,1fr)}
.many .pair{grid-template-columns:repeat(auto-fill,minmax(min(48%,190px),1fr))}
.panel{min-width:0}
.panel p{margin:5px 0 0;font-size:13px;line-height:1.4;max-width:none}
.looks .says{color:var(--muted);font-size:13px}
.panel .title{font-weight:600}
.pic{position:relative;border-radius:4px;overflow:hidden;background:#000}
.pic img,.pic canvas{position:absolute;inset:0;width:100%;height:100%;display:block}
.pic::after{content:"";position:absolute;inset:0;border-radius:4px;box-shadow:inset 0 0 0 1px rgb(128 128 128/35%);pointer-events:none}
.pic .heat,.pic canvas{inset:0 auto auto 0}
.pic [hidden],.mark[hidden]{display:none}
.live{cursor:crosshair;touch-action:manipulation}
.live:focus-visible{outline:3px solid var(--a);outline-offset:2px}
.mark{position:absolute;width:16px;height:16px;margin:-8px;border:2px solid #fff;border-radius:50%;box-shadow:0 0 0 2px #000,inset 0 0 0 1px #000;pointer-events:none}
.keys{display:flex;flex-wrap:wrap;gap:10px 34px;align-items:center;margin:14px 0 4px;font-size:13px;color:var(--muted)}
.key{display:flex;gap:10px;align-items:center}
.ramp{position:relative;flex:none;width:190px;height:12px;margin:0 14px 16px 10px;border-radius:2px;background:linear-gradient(90deg,${INFERNO.map((c) => `rgb(${c.join(",")})`).join(",")})}
.ramp span{position:absolute;top:14px;transform:translateX(-50%);font-size:12px}
.wheel{width:46px;height:46px;border-radius:50%;border:1px solid var(--grid)}
@media print{.pairs:not(.many){grid-template-columns:1fr 1fr;gap:12px 18px}.many .pair{grid-template-columns:repeat(4,minmax(0,1fr))}.probe-hint,.mark{display:none}}
`;

/** Bytes that the pictures and rows of the section may take; clips beyond are left out and said to be. */
const BUDGET = 1_400_000;

const paragraph = (words: string, className = ""): string =>
  tag("p", className === "" ? {} : { class: className }, escapeText(words));

/** A stream in plain words; by its name where several see the same kind of thing. */
function wordOf(record: AttentionRecord, stream: string): string {
  const known = record.streams.find(({ name }) => name === stream);
  const alike = record.streams.filter(({ source }) => source === known?.source).length;
  if (known === undefined || alike > 1) return stream === "" ? "a stream" : `the stream ${stream}`;
  return known.source === "rgb" ? "the picture" : "the motion";
}

const capital = (words: string): string => words.charAt(0).toUpperCase() + words.slice(1);

/** `stia_conv3` as the place it was grafted at, where it says so. */
function placeOf(edge: AttentionEdge): string {
  return (
    edge.unit
      .split(".")
      .at(-1)
      ?.replace(/^(?:stia|nonlocal)_/, "") ?? edge.unit
  );
}

/** The title of the section. */
export function attentionTitle({ edges }: AttentionRecord): string {
  return edges.some(({ queries, keys }) => queries.stream !== keys.stream)
    ? "Where the streams look at each other"
    : "Where the network looks";
}

// ---------------------------------------------------------------------------------------------------------------- words

const isClosed = ({ gate }: AttentionEdge): boolean => gate !== undefined && gate < 1e-6;

const HARDLY_OPEN = 0.01;

function gateWords({ edges, trained }: AttentionRecord): string {
  const gated = edges.filter(({ gate }) => gate !== undefined);
  const closed = gated.filter(isClosed);
  const untrained = trained ? "" : "No weights were given: the network has its random start. ";
  if (closed.length > 0 && closed.length === gated.length)
    return paragraph(
      `${untrained}Every gate is closed, γ = 0: attention is there, but nothing of it reaches the answers yet.`,
      "warn",
    );
  if (closed.length > 0)
    return paragraph(
      `${untrained}Closed gates, γ = 0: ${closed.map(({ name }) => name).join(", ")}. What they look at has no influence on the answers.`,
      "warn",
    );
  if (gated.length > 0 && gated.every(({ gate = 0 }) => gate < HARDLY_OPEN))
    return paragraph(
      `${untrained}The gates have hardly opened, mean |γ| is below ${HARDLY_OPEN}: attention has little influence on the answers.`,
      "warn",
    );
  return untrained === "" ? "" : paragraph(untrained.trim(), "warn");
}

/** Over how many places a place spreads its attention, mean over places and clips; undefined for products. */
function spreadOf(record: AttentionRecord, edge: AttentionEdge): number | undefined {
  const all = record.clips.flatMap(({ maps }) => maps.find((map) => map.edge === edge.name)?.spread ?? []);
  return all.length === 0 ? undefined : all.reduce((sum, value) => sum + value, 0) / all.length;
}

const sizeWords = ({ size: [height = 0, width = 0] }: RecordedGrid): string => `${height} × ${width}`;

function edgesTable(record: AttentionRecord): string {
  const gated = record.edges.some(({ gate }) => gate !== undefined);
  const cell = (content: string, right = false): string =>
    tag("td", right ? { class: "r" } : { class: "keep" }, content);
  const head = (content: string, right = false): string => tag("th", right ? { class: "r" } : {}, escapeText(content));
  const rows = record.edges.map((edge) => {
    const { name, queries, keys, gate } = edge;
    const spread = spreadOf(record, edge);
    const [height = 0, width = 0] = keys.size;
    return tag(
      "tr",
      {},
      cell(tag("code", {}, escapeText(name))),
      tag("td", {}, escapeText(directionOf(record, edge))),
      cell(`${sizeWords(queries)} → ${sizeWords(keys)}`, true),
      cell(spread === undefined ? "–" : `${significant(spread)} of ${height * width}`, true),
      gated ? cell(gate === undefined ? "–" : significant(gate), true) : "",
    );
  });
  const columns = [
    head("edge"),
    head("who looks at what"),
    head("places", true),
    head("spread", true),
    gated ? head("gate, mean |γ|", true) : "",
  ];
  return tag(
    "div",
    { class: "wide" },
    tag("table", {}, tag("thead", {}, tag("tr", {}, ...columns)), tag("tbody", {}, ...rows)),
  );
}

function directionOf(record: AttentionRecord, { queries, keys }: AttentionEdge): string {
  const [from, to] = [wordOf(record, queries.stream), wordOf(record, keys.stream)];
  return from === to ? `${from} looks at itself` : `${from} looks at ${to}`;
}

// ------------------------------------------------------------------------------------------------------------- pictures

/** Values from `low` to `high` are drawn from dark to bright: by their logarithm, or as they are. */
interface Scale {
  readonly kind: "log" | "linear";
  readonly low: number;
  readonly high: number;
}

/** A tenth of what a place would receive from even attention is drawn as nothing. */
const LOW = 0.1;
/** What is brightest at least: even attention everywhere must stay dark, and not look like a discovery. */
const HIGH = 100;

/**
 * One scale for all maps of softmax weights, so that they can be compared; logarithmic, because attention that has found
 * its place has left all others a thousandth. Products may be negative and have a linear one for each edge.
 */
function scaleOf(record: AttentionRecord, edge: AttentionEdge): Scale {
  const names = new Set(record.edges.filter(({ weights }) => weights === "softmax").map(({ name }) => name));
  const maps = record.clips.flatMap(({ maps: all }) =>
    all.filter((map) => (edge.weights === "softmax" ? names.has(map.edge) : map.edge === edge.name)),
  );
  const values = maps.flatMap(({ received, peaks }) => [...received, ...peaks]);
  const [least, most] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [0, 0]);
  return edge.weights === "softmax"
    ? { kind: "log", low: LOW, high: Math.max(HIGH, most) }
    : { kind: "linear", low: least, high: most };
}

function shareOf(value: number, { kind, low, high }: Scale): number {
  const share = kind === "log" ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low || 1);
  return Math.min(1, Math.max(0, share));
}

const times = (value: number, { weights }: AttentionEdge): string =>
  `${value < 10 ? value.toPrecision(2) : value.toFixed(0)}${weights === "softmax" ? "× even" : ""}`;

const image = (base64: string, className: string, alt: string, style?: string): string =>
  tag("img", { class: className, src: `data:image/png;base64,${base64}`, alt, style });

/** Parts of the picture that a grid covers, in percent. */
const covered = ({ extent: [high = 1, wide = 1] }: RecordedGrid): string =>
  `width:${(100 * wide).toFixed(2)}%;height:${(100 * high).toFixed(2)}%`;

/** Where the probed places lie in the picture: `x,y x,y …` in percent. */
function probesOf({ queries, places }: AttentionEdge): string {
  const [height = 1, width = 1] = queries.size;
  const [high = 1, wide = 1] = queries.extent;
  const at = (index: number, size: number, extent: number): string =>
    String(Math.round((1000 * extent * (index + 0.5)) / size) / 10);
  return places
    .map((place) => `${at(place % width, width, wide)},${at(Math.floor(place / width), height, high)}`)
    .join(" ");
}

function targetPanel(
  record: AttentionRecord,
  clip: AttendedClip,
  edge: AttentionEdge,
  map: EdgeMap,
  scale: Scale,
): string {
  const { keys } = edge;
  const [height = 1, width = 1] = keys.size;
  const shares = map.received.map((value) => shareOf(value, scale));
  const heatPng = drawHeat(enlarge(shares, width, height, HEAT_SIDE), HEAT_SIDE);
  const seen = clip.pictures.find(({ stream }) => stream === keys.stream);
  const [from, to] = [wordOf(record, edge.queries.stream), wordOf(record, keys.stream)];
  const title = from === to ? `Where ${from} looks in itself` : `Where ${from} looks in ${to}`;
  const most = map.received.reduce((a, b) => Math.max(a, b), 0);
  return tag(
    "div",
    {
      class: "panel target",
      "data-rows": map.rows,
      "data-size": edge.rowSize.join(","),
      "data-at": probesOf(edge),
      "data-peaks": map.peaks.join(","),
      "data-weights": edge.weights,
      "data-low": String(scale.low),
      "data-high": String(scale.high),
    },
    tag(
      "div",
      { class: "pic", style: aspectOf(clip, keys.stream) },
      seen === undefined ? "" : image(seen.base, "base", ""),
      tag("img", { class: "heat", src: dataUri(heatPng), alt: `${title}, at ${placeOf(edge)}`, style: covered(keys) }),
    ),
    tag("p", { class: "title" }, escapeText(`${title}, ${placeOf(edge)}`)),
    tag(
      "p",
      { class: "says", "aria-live": "polite" },
      escapeText(`From all places together. Brightest: ${times(most, edge)}`),
    ),
  );
}

/** Width to height of a stream's picture, from its PNG's header. */
function aspectOf({ pictures }: AttendedClip, stream: string): string {
  const picture = pictures.find((one) => one.stream === stream) ?? pictures[0];
  const head = Buffer.from((picture?.png ?? "").slice(0, 64), "base64");
  return head.length < 24 ? "aspect-ratio:1" : `aspect-ratio:${head.readUInt32BE(16)}/${head.readUInt32BE(20)}`;
}

/** A stream's own picture, and beside it what it looks at. */
function pairOf(record: AttentionRecord, clip: AttendedClip, stream: string): string {
  const looking = record.edges.filter(({ queries }) => queries.stream === stream);
  const targets = looking.flatMap((edge) => {
    const map = clip.maps.find((one) => one.edge === edge.name);
    return map === undefined ? [] : [targetPanel(record, clip, edge, map, scaleOf(record, edge))];
  });
  if (targets.length === 0) return "";
  const picture = clip.pictures.find((one) => one.stream === stream);
  const word = wordOf(record, stream);
  const speed = picture?.speed === undefined ? "" : `Full colour: ${picture.speed} px a frame`;
  const label = `${capital(word)} of ${clip.path}. Arrow keys move a mark over its places; beside it is shown where the marked place looks. Escape shows all places together.`;
  return tag(
    "div",
    { class: "pair" },
    tag(
      "div",
      { class: "panel source" },
      tag(
        "div",
        { class: "pic", style: aspectOf(clip, stream), "data-label": label },
        picture === undefined ? "" : image(picture.png, "frame", `${capital(word)} of ${clip.path}`),
      ),
      tag("p", { class: "title" }, escapeText(capital(word))),
      tag("p", { class: "says" }, escapeText(speed)),
    ),
    ...targets,
  );
}

/** Whether a stream looks at more than one map: then each stream has a line of its own. */
function severalEdges({ edges }: AttentionRecord): boolean {
  return new Set(edges.map(({ queries }) => queries.stream)).size < edges.length;
}

function clipFigure(record: AttentionRecord, clip: AttendedClip): string {
  const { classes } = record;
  const { class: truth, probabilities } = clip;
  const predicted = predictedClass({ path: clip.path, subject: undefined, class: truth ?? "", probabilities });
  const answer = predicted === undefined ? undefined : classes[predicted];
  const sure = percent(probabilities[predicted ?? 0] ?? Number.NaN, 0);
  const mood =
    truth === undefined || answer === undefined
      ? ""
      : tag("span", { class: `mood ${answer === truth ? "right" : "wrong"}` }, answer === truth ? "right" : "wrong");
  const rest = classes
    .map((name, c) => ({ name, share: probabilities[c] ?? 0 }))
    .filter(({ name }) => name !== answer)
    .sort((a, b) => b.share - a.share)
    .slice(0, 2)
    .map(({ name, share }) => `${name} ${percent(share, 0)}`);
  const words = [
    ...(truth === undefined ? [] : [`Truth: ${truth}. `]),
    `Answer: ${answer ?? "none"}, ${sure}${rest.length === 0 ? "" : ` (${rest.join(", ")})`}`,
  ].join("");
  const factors = Object.entries(clip.factors ?? {}).map(([name, value]) => `${name} ${value}`);
  const mark = record.note.trimStart().startsWith("SYNTHETIC") ? "SYNTHETIC" : "";
  return tag(
    "figure",
    { class: "looks" },
    tag(
      "p",
      { class: "who" },
      tag("code", {}, escapeText(clip.path)),
      escapeText(words),
      mood === "" ? "" : ` ${mood}`,
      factors.length === 0 && mark === ""
        ? ""
        : tag("span", { class: "says" }, tag("br", {}), escapeText([mark, ...factors].filter(Boolean).join(" · "))),
    ),
    tag(
      "div",
      { class: severalEdges(record) ? "pairs many" : "pairs" },
      ...record.streams.map(({ name }) => pairOf(record, clip, name)),
    ),
  );
}

function legend(record: AttentionRecord): string {
  const softmax = record.edges.find(({ weights }) => weights === "softmax");
  const scale = softmax === undefined ? undefined : scaleOf(record, softmax);
  const ticks = scale === undefined ? [] : [0.1, 1, 10, 100, 1000].filter((tick) => tick === LOW || tick <= scale.high);
  const ramp =
    scale === undefined
      ? "attention, from least to most"
      : "attention received, as a multiple of what even attention would give (logarithmic)";
  const marks = ticks.map((tick) =>
    tag("span", { style: `left:${(100 * (scale === undefined ? 0 : shareOf(tick, scale))).toFixed(1)}%` }, `${tick}×`),
  );
  const flow = record.streams.some(({ source }) => source === "flow");
  return tag(
    "div",
    { class: "keys" },
    tag("div", { class: "key" }, tag("span", { class: "ramp" }, ...marks), escapeText(ramp)),
    flow
      ? tag(
          "div",
          { class: "key" },
          tag("img", { class: "wheel", src: dataUri(drawWheel(64)), alt: "Colour wheel of motion" }),
          escapeText("motion: the colour is its direction, white is rest"),
        )
      : "",
  );
}

/** The markup of the section, with the script that makes it answer to clicks. */
export function attentionSection(record: AttentionRecord): string {
  const figures: string[] = [];
  let bytes = 0;
  for (const clip of record.clips) {
    const figure = clipFigure(record, clip);
    if (bytes + figure.length > BUDGET && figures.length > 0) break;
    bytes += figure.length;
    figures.push(figure);
  }
  const left = record.clips.length - figures.length;
  const at = record.step === undefined ? "" : ` Parameters of update ${record.step}.`;
  return [
    paragraph(
      "Through a grafted unit every place of a stream gathers from all places that it looks at, most from those that match it. Bright is where many places look. The maps show what is gathered, not why the model answers as it does.",
    ),
    paragraph(`${record.choice}${at}`, "quiet"),
    gateWords(record),
    edgesTable(record),
    tag(
      "ul",
      { class: "quiet" },
      tag(
        "li",
        {},
        "Spread: over how many places a place spreads its attention (e to the entropy of its row), on average.",
      ),
      tag("li", {}, "Gate: γ starts at 0, where a unit changes nothing; mean |γ| says how far it has opened."),
    ),
    legend(record),
    tag(
      "p",
      { class: "probe-hint", hidden: "" },
      "Click or tap a place in the first picture of a pair to see where that place looks; again, or Esc, for all places together. With the keyboard: Tab to a picture, then the arrow keys.",
    ),
    ...figures,
    left === 0
      ? ""
      : paragraph(`${count(left, "more clip")} in attention/attention.json: the page would get too large.`, "quiet"),
    figures.length === 0 ? "" : `<script>${PROBE_SCRIPT}</script>`,
  ].join("");
}
