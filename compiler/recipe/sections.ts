/**
 * Sections of a recipe, read by the tables of schema.ts: from `name = value` to typed values with their places.
 *
 * Every setting is read by itself, so that one mistake hides no other; one that cannot be read has its default from then
 * on and counts as not given. A name that the table lacks is E0701, with the nearest name or the section where it belongs.
 */
import type { Setting, Settings } from "../../grammar/ast.ts";
import { type DiagnosticParts, diagnostic } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { attempt, failAt, report, silent, spanOf, textOf } from "../elaborate/failure.ts";
import type { Context } from "../elaborate/values.ts";
import { readDefault, type Slot } from "./kinds.ts";
import { DATA, GROUP, RECIPE, type Row, STAGE, STREAM, type Table } from "./schema.ts";

export interface Found<T> {
  readonly value: T;
  /** The value; the section's name where it was not given. */
  readonly at: Span;
  readonly given: boolean;
}

export type Read<S extends Table> = { readonly [K in keyof S]: S[K] extends Row<infer T> ? Found<T> : never };

/** What a section is called, and the sections it may hold. */
export interface Section {
  /** In messages: "a recipe", "`data`". */
  readonly title: string;
  /** Its name: where what it does not say is missing. */
  readonly at: Span;
  readonly holds: readonly SectionName[];
  /** Settings that somebody else reads: known, and suggested. */
  readonly also?: readonly string[];
  /** What other tools call its settings. */
  readonly otherNames?: Readonly<Record<string, string>>;
}

export type SectionName = "data" | "stage" | "group" | "stream" | "limit";

/** The settings that stand in each section. */
const TABLES: readonly { readonly where: string; readonly table: Table }[] = [
  { where: "in the recipe itself", table: RECIPE },
  { where: "in the recipe itself or in a stage", table: STAGE },
  { where: "in `data { … }`", table: { ...DATA, ...STREAM } },
  { where: 'in `group "…" { … }`', table: GROUP },
];

/**
 * The settings of `table` in `settings`, and the sections among them. With `outer` a setting that is not given is as
 * outside. One that must be given and is not leaves the section (E0403).
 */
export function readSection<S extends Table>(
  table: S,
  settings: Settings,
  section: Section,
  context: Context,
  outer?: Read<S>,
): { readonly values: Read<S>; readonly sections: readonly Setting[] } {
  const { at } = section;
  const given = new Map<string, Setting>();
  const sections: Setting[] = [];
  for (const item of settings.items) {
    if (item.kind === "Error" || item.name.name === "") continue;
    const { name } = item.name;
    const isSection = section.holds.some((each) => each === name);
    if (isSection && item.settings !== undefined) sections.push(item);
    else if (isSection)
      wrongForm(
        item,
        `\`${name}\` is a section`,
        `\`${name}${name === "data" || name === "limit" ? "" : ' "…"'} { … }\``,
        context,
      );
    else if (!Object.hasOwn(table, name)) unknown(item, table, section, context);
    else if (item.value === undefined) wrongForm(item, `\`${name}\` takes a value`, `\`${name} = …\``, context);
    else if (given.has(name)) twice(item, given.get(name), context);
    else given.set(name, item);
  }
  const values = Object.entries(table).map(([name, row]) => {
    const item = given.get(name);
    const slot: Slot = { context, name: `\`${name}\`` };
    const { value } = item ?? {};
    const read = value === undefined ? undefined : attempt(() => ({ is: row.kind.read(value, slot) }));
    if (value !== undefined && read !== undefined)
      return [name, { value: read.is, at: spanOf(context, value), given: true }] as const;
    const known = outer?.[name];
    if (known !== undefined) return [name, known] as const;
    if (row.otherwise === undefined) {
      if (value !== undefined) return silent();
      return failAt(context, "E0403", `${section.title} needs \`${name}\``, at, {
        label: "not given",
        helps: [`\`${name}\` takes ${row.kind.what}`],
      });
    }
    // A default that needs what could not be read, `lr` of a group, stays silent as its cause was reported.
    const otherwise = readDefault(row.kind, row.otherwise, slot);
    return [name, { value: otherwise, at: value === undefined ? at : spanOf(context, value), given: false }] as const;
  });
  // Each entry was read by the row of its name.
  return { values: Object.fromEntries(values) as Read<S>, sections };
}

/** Reports without leaving what is being read. */
export function say(context: Context, code: string, message: string, at: Span, parts: DiagnosticParts = {}): void {
  report(context.build.program.reports, diagnostic(code, message, at, parts));
}

function wrongForm(item: Setting, message: string, help: string, context: Context): void {
  say(context, "E0703", message, spanOf(context, item.name), { helps: [help] });
}

function twice(item: Setting, first: Setting | undefined, context: Context): void {
  say(context, "E0704", `\`${item.name.name}\` is set twice`, spanOf(context, item.name), {
    label: "the second time",
    secondary: first === undefined ? [] : [{ span: spanOf(context, first.name), text: "first set here" }],
  });
}

/** Names that other tools use, and where the thing is said here. */
function elsewhere(name: string, value: string): string | undefined {
  switch (name) {
    case "lr":
    case "learning_rate":
    case "rate":
      return `the rate belongs to the optimizer: \`SGD(lr=${value}, momentum=0.9)\``;
    case "momentum":
    case "nesterov":
    case "weight_decay":
      return `it belongs to the optimizer: \`SGD(lr=1e-3, ${name}=${value})\``;
    case "label_smoothing":
    case "smoothing":
      return `it belongs to the loss: \`loss = CrossEntropy(label_smoothing=${value})\``;
    case "class_weights":
    case "weights":
      return `it belongs to the loss: \`loss = CrossEntropy(weights=${value})\``;
    case "warmup":
      return `it belongs to the schedule: \`schedule = Warmup(epochs=${value}) -> Cosine\``;
    case "milestones":
    case "gamma":
      return "it belongs to the schedule: `schedule = Step(at=[25, 45], gamma=0.1)`";
    case "early_stopping":
    case "patience":
      return "`stop = early(val.loss, patience=10)`";
    case "batch_size":
      return `\`batch = ${value}\` in \`data { … }\``;
    case "labels":
    case "folder":
      return '`source = Clips("folder", labels=[…])` in `data { … }`';
    case "folds":
      return `\`split = by_subject(folds=${value})\` in \`data { … }\``;
    case "fp16":
    case "amp":
    case "mixed_precision":
      return "`precision = mixed(f16)`";
    case "dropout":
      return "it belongs to the network: `VGG16(dropout=0.7)`";
    default:
      return undefined;
  }
}

function unknown(item: Setting, table: Table, section: Section, context: Context): void {
  const { name } = item.name;
  const at = spanOf(context, item.name);
  const value = item.value === undefined ? "…" : textOf(context, item.value);
  const kind = item.settings === undefined ? "setting" : "section";
  const all = [...(section.also ?? []), ...Object.keys(table), ...section.holds];
  const home = TABLES.find((each) => Object.hasOwn(each.table, name));
  const moved =
    section.otherNames?.[name] !== undefined
      ? undefined
      : (elsewhere(name, value) ?? (home === undefined ? undefined : `\`${name}\` stands ${home.where}`));
  const near = moved === undefined ? (section.otherNames?.[name] ?? suggest(name, all)) : undefined;
  const known = all.join(", ");
  say(context, "E0701", `${section.title} has no ${kind} \`${name}\``, at, {
    label: "unknown",
    helps:
      moved !== undefined
        ? [moved]
        : near === undefined
          ? []
          : [{ text: `did you mean \`${near}\`?`, edits: [{ span: at, replacement: near }] }],
    notes: moved === undefined && near === undefined ? [`it has ${known}`] : [],
  });
}
