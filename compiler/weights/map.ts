/**
 * Weight maps: how names in a weights file become parameter paths (language 5.13).
 *
 * In: a `weights` block of a source. Out: a plain record of rules, and the question that a rule answers: which tensor
 * fills this parameter? The first rule whose left side fits is taken. A left side is written like a position: enclosing
 * names may be left out, and what lies below it lies below the right side too. `{x}` stands for one or more segments,
 * or for a part of one; `*` is a nameless `{x}`. A map made `from` another names parameters of that map's target on its
 * right sides, so that `"temporal.{p}" from "{p}"` says "the flow stream starts as the backbone does".
 */
import type { Expr, Path, StringLit, Weights } from "../../grammar/ast.ts";
import { type Diagnostic, diagnostic, span } from "../../grammar/diagnostic.ts";
import type { Source } from "../../grammar/source.ts";

/** What is done to a tensor on its way to a parameter; shapes follow from the parameter's. */
export type Transform =
  /** Mean along `axis`, repeated to the parameter's size: an RGB kernel made ready for flow (cross-modality start). */
  | { readonly kind: "repeat_mean"; readonly axis: number }
  /** The same numbers in the parameter's shape. */
  | { readonly kind: "reshape" }
  /** The last two axes exchanged. */
  | { readonly kind: "transpose" };

export type MapRule =
  | { readonly kind: "skip"; readonly pattern: string }
  | { readonly kind: "map"; readonly to: string; readonly from: string; readonly via: readonly Transform[] };

export interface WeightMap {
  readonly name: string;
  /** Name of the block or model the map is for. */
  readonly target: string;
  /** The file it names, if it does. */
  readonly file: string | undefined;
  readonly sha256: string | undefined;
  readonly rules: readonly MapRule[];
  /** The map whose target's parameters stand on the right sides. */
  readonly base: WeightMap | undefined;
}

/** The map of a file whose names are the parameter paths themselves: what netc writes. */
export const IDENTITY_MAP: WeightMap = {
  name: "parameter paths",
  target: "",
  file: undefined,
  sha256: undefined,
  rules: [{ kind: "map", to: "{p}", from: "{p}", via: [] }],
  base: undefined,
};

/** What a map says of one parameter; `undefined` if no rule reaches it. */
export type Resolved =
  /** Left at its start on purpose; `name` is the tensor that a later rule would have taken. */
  | { readonly kind: "skip"; readonly name: string | undefined }
  | { readonly kind: "tensor"; readonly name: string; readonly via: readonly Transform[] };

// ------------------------------------------------------------------------------------------------------------- patterns

const CAPTURE = /\{(\w+)\}|\*/g;

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** Names of a pattern's captures, in order; the n-th `*` is called `*n`. */
function captureNames(pattern: string): readonly string[] {
  let stars = 0;
  return [...pattern.matchAll(CAPTURE)].map((match) => match[1] ?? `*${stars++}`);
}

function segmentSource(segment: string): string {
  const whole = segment.match(/^(?:\{\w+\}|\*)$/) !== null;
  let source = "";
  let end = 0;
  for (const match of segment.matchAll(CAPTURE)) {
    source += escapeRegExp(segment.slice(end, match.index)) + (whole ? "(.+)" : "([^.[\\]]+)");
    end = match.index + match[0].length;
  }
  return source + escapeRegExp(segment.slice(end));
}

/** Enclosing names are skipped as few as possible, so that `{p}` takes the whole path when it stands first. */
function patternRegExp(pattern: string): RegExp {
  const skipped = "(?:[^.]+\\.)*?";
  const segments = pattern.split(".").map(segmentSource);
  return new RegExp(`^${skipped}${segments.join(`\\.${skipped}`)}(?:\\.(.+))?$`);
}

/** True if `path` is what `pattern` names, or lies below it. */
export function patternTest(pattern: string): (path: string) => boolean {
  const test = patternRegExp(pattern);
  return (path) => test.test(path);
}

type RuleTest = (path: string) => Resolved | undefined;

function ruleTest(rule: MapRule): RuleTest {
  if (rule.kind === "skip") {
    const matches = patternTest(rule.pattern);
    return (path) => (matches(path) ? { kind: "skip", name: undefined } : undefined);
  }
  const left = patternRegExp(rule.to);
  const names = captureNames(rule.to);
  return (path) => {
    const match = left.exec(path);
    if (match === null) return undefined;
    const values = new Map(names.map((name, i) => [name, match[i + 1] ?? ""]));
    const below = match[names.length + 1];
    let stars = 0;
    const name = rule.from.replace(CAPTURE, (_, capture?: string) => values.get(capture ?? `*${stars++}`) ?? "");
    return { kind: "tensor", name: below === undefined ? name : `${name}.${below}`, via: rule.via };
  };
}

/** A function that tells which tensor of the file fills a parameter. The patterns are compiled once. */
export function mapResolver(map: WeightMap): (path: string) => Resolved | undefined {
  const tests = map.rules.map(ruleTest);
  const inner = map.base === undefined ? undefined : mapResolver(map.base);
  return (path) => {
    let skipped = false;
    for (const test of tests) {
      const found = test(path);
      if (found === undefined) continue;
      if (found.kind === "skip") {
        skipped = true;
        continue;
      }
      const source = inner === undefined ? found : inner(found.name);
      if (skipped || source?.kind === "skip") return { kind: "skip", name: source?.name };
      return source && { ...source, via: inner === undefined ? found.via : [...source.via, ...found.via] };
    }
    return skipped ? { kind: "skip", name: undefined } : undefined;
  };
}

/**
 * The name that torchvision gives to the layer at a position: `features.14` for `spatial.conv3.conv3_3`, read off the
 * map of the model's backbone. `undefined` if none of `maps` is torchvision's or the layer is not in it.
 */
export function torchvisionName(maps: readonly WeightMap[], position: string): string | undefined {
  for (const map of maps) {
    if (!map.name.endsWith("_torchvision")) continue;
    const found = mapResolver(map)(`${position}.weight`);
    if (found?.kind === "tensor" && found.name.endsWith(".weight")) return found.name.slice(0, -".weight".length);
  }
  return undefined;
}

// -------------------------------------------------------------------------------------------------------------- reading

function indexText(index: Expr): string {
  return index.kind === "Number" ? String(index.value) : index.kind === "Name" ? `{${index.name}}` : "";
}

function sideText(side: StringLit | Path): string {
  if (side.kind === "String") return side.value;
  return side.segments
    .map(({ name, index }) => {
      if (index === undefined) return name;
      return `${name}[${index.kind === "Every" ? "*" : indexText(index)}]`;
    })
    .join(".");
}

function transformOf(via: Expr): Transform | undefined {
  const name = via.kind === "Call" ? via.callee : via;
  const args = via.kind === "Call" ? via.args : [];
  if (name.kind !== "Name") return undefined;
  const [arg] = args;
  switch (name.name) {
    case "reshape":
    case "transpose":
      return args.length === 0 ? { kind: name.name } : undefined;
    case "repeat_mean":
      if (args.length !== 1 || arg?.value.kind !== "Number") return undefined;
      return arg.name === undefined || arg.name.name === "axis"
        ? { kind: "repeat_mean", axis: arg.value.value }
        : undefined;
    default:
      return undefined;
  }
}

/** A `weights` block as a record. `lookup` finds the map that a block is made `from`. */
export function readWeights(
  item: Weights,
  source: Source,
  lookup: (name: string) => WeightMap | undefined,
): { readonly map: WeightMap; readonly diagnostics: readonly Diagnostic[] } {
  const diagnostics: Diagnostic[] = [];
  const rules: MapRule[] = [];
  let sha256: string | undefined;
  for (const rule of item.rules) {
    switch (rule.kind) {
      case "SkipRule":
        rules.push({ kind: "skip", pattern: sideText(rule.what) });
        break;
      case "MapRule": {
        const [to, from] = [sideText(rule.to), sideText(rule.from)];
        const known = captureNames(to);
        const strange = captureNames(from).find((name) => !known.includes(name));
        if (strange !== undefined) {
          const text = strange.startsWith("*") ? "*" : `{${strange}}`;
          diagnostics.push(
            diagnostic("E0606", `\`${text}\` on the right has no counterpart on the left`, span(source, rule.from), {
              label: "what should stand here?",
              helps: [`write \`${text}\` on the left side too`],
            }),
          );
        }
        const via = rule.via === undefined ? undefined : transformOf(rule.via);
        if (rule.via !== undefined && via === undefined) {
          diagnostics.push(
            diagnostic("E0607", "a weight cannot be brought over in this way", span(source, rule.via), {
              helps: ["`via repeat_mean(axis=1)`, `via reshape` or `via transpose`"],
            }),
          );
        }
        rules.push({ kind: "map", to, from, via: via === undefined ? [] : [via] });
        break;
      }
      case "Setting":
        if (rule.name.name === "sha256" && rule.value?.kind === "String") sha256 = rule.value.value;
        else {
          diagnostics.push(
            diagnostic("E0608", `\`weights\` has no setting \`${rule.name.name}\``, span(source, rule.name), {
              helps: ['`sha256 = "…"` gives the hash of the file'],
            }),
          );
        }
        break;
      case "Error":
        break;
      default:
        rule satisfies never;
    }
  }
  const { from } = item;
  const baseName = from?.kind === "Path" ? sideText(from) : undefined;
  const base = baseName === undefined ? undefined : lookup(baseName);
  if (baseName !== undefined && base === undefined && from !== undefined) {
    diagnostics.push(
      diagnostic("E0201", `no \`weights\` here are called \`${baseName}\``, span(source, from), { label: "not found" }),
    );
  }
  const map: WeightMap = {
    name: item.name.name,
    target: item.target.kind === "Name" ? item.target.name : "",
    file: from?.kind === "String" ? from.value : undefined,
    sha256,
    rules,
    base,
  };
  return { map, diagnostics };
}
