/**
 * Files as modules (language 5.1).
 *
 * In: a source and the function that finds other sources. Out: for every file reached, the names it defines, imports
 * and takes from the prelude. Nothing is evaluated here; a constant stays an expression until somebody asks for it.
 */
import type { Expr, File, Ident, ImportName, Item, Node, StringLit } from "../../grammar/ast.ts";
import { diagnostic, span } from "../../grammar/diagnostic.ts";
import { parse } from "../../grammar/parser.ts";
import type { Source, Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import type { Resolve } from "../model.ts";
import type { Core } from "./core.ts";
import { type Reports, report } from "./failure.ts";
import { UNKNOWN, type Value } from "./values.ts";

/** Everything one call of `elaborate` knows about files. */
export interface Program {
  readonly core: Core;
  readonly root: Source;
  /** The project's directory with its last slash, or nothing: left out where messages name files. */
  readonly directory: string;
  readonly resolve: Resolve;
  readonly reports: Reports;
  /** By path. */
  readonly modules: Map<string, Module>;
  /** Paths of the modules being read now, outermost first: an import of one of them is a cycle. */
  readonly loading: string[];
  /** Layers made and applied so far: what keeps a short text from making an endless network. */
  steps: number;
}

export interface Module {
  readonly source: Source;
  readonly file: File;
  readonly names: Map<string, Binding>;
  /** Looked up after `names`, first match wins. */
  readonly prelude: readonly Module[];
}

/** What a name at the top of a file stands for. */
export interface Binding {
  readonly at: Span;
  readonly private: boolean;
  /** Shared by everyone who imports the name, so that a constant is evaluated once. */
  readonly cell: Cell;
}

/** A value, or the expression of a constant that nobody has asked for yet. */
export interface Cell {
  /** The definition. */
  readonly at: Node;
  readonly module: Module;
  state:
    | { readonly kind: "value"; readonly value: Value }
    | { readonly kind: "expression"; readonly expr: Expr }
    | { readonly kind: "evaluating" };
}

/** What a bare headline is called. */
export const BARE = "Headline";

const PRELUDE: readonly string[] = ["std/nn", "std/attention", "std/vision"];

const parses = new WeakMap<Source, ReturnType<typeof parse>>();

/** A source never changes, and the library is asked for again and again. */
export function parseOnce(source: Source): ReturnType<typeof parse> {
  if (source.tree !== undefined) return { file: source.tree, diagnostics: [] };
  const parsed = parses.get(source) ?? parse(source);
  parses.set(source, parsed);
  return parsed;
}

/** The module of `source`, read once. Syntax errors in it are reported. */
export function loadModule(program: Program, source: Source): Module {
  const known = program.modules.get(source.path);
  if (known !== undefined) return known;
  const parsed = parseOnce(source);
  for (const found of parsed.diagnostics) report(program.reports, found);
  program.loading.push(source.path);
  const module: Module = {
    source,
    file: parsed.file,
    names: new Map(),
    prelude: preludeOf(program, source),
  };
  for (const item of parsed.file.items) define(program, module, item);
  program.loading.pop();
  program.modules.set(source.path, module);
  return module;
}

/** Each module of the prelude sees those before it; `std/prim` sees nothing. */
function preludeOf(program: Program, source: Source): readonly Module[] {
  if (source.path === "std/prim") return [];
  const index = PRELUDE.indexOf(source.path);
  const wanted = index < 0 ? PRELUDE : PRELUDE.slice(0, index);
  return wanted.flatMap((path) => {
    if (program.loading.includes(path)) return [];
    const found = program.resolve(path, source);
    return found === undefined || "error" in found ? [] : [loadModule(program, found)];
  });
}

function define(program: Program, module: Module, item: Item): void {
  const { source } = module;
  const value = (name: Ident, given: Value, isPrivate = false): void => {
    const cell: Cell = { at: name, module, state: { kind: "value", value: given } };
    bind(program, module, name, { at: span(source, name), private: isPrivate, cell });
  };
  switch (item.kind) {
    case "Import": {
      const from = importedModule(program, module, item.from);
      if (item.namespace !== undefined) {
        value(item.namespace, from === undefined ? UNKNOWN : { kind: "namespace", module: from }, true);
      }
      for (const name of item.names ?? []) importName(program, module, from, name, item.from, true);
      return;
    }
    case "ReExport": {
      const from = importedModule(program, module, item.from);
      for (const name of item.names) importName(program, module, from, name, item.from, false);
      return;
    }
    case "Const":
      bind(program, module, item.name, {
        at: span(source, item.name),
        private: false,
        cell: { at: item, module, state: { kind: "expression", expr: item.value } },
      });
      return;
    case "TypeAlias":
      return value(item.name, { kind: "type", declaration: item, module });
    case "Callable":
      return value(item.name, { kind: "block", declaration: item, module }, item.private);
    case "Weights":
      return value(item.name, {
        kind: "declaration",
        what: "weights",
        name: item.name.name,
        module,
        weights: item,
        recipe: undefined,
      });
    case "Recipe":
      return value(item.name, {
        kind: "declaration",
        what: "recipe",
        name: item.name.name,
        module,
        weights: undefined,
        recipe: item,
      });
    case "Search":
      return value(item.name, {
        kind: "declaration",
        what: "search",
        name: item.name.name,
        module,
        weights: undefined,
        recipe: undefined,
      });
    case "Assert":
    case "BareModel":
    case "Error":
      return;
    default:
      item satisfies never;
  }
}

function bind(program: Program, module: Module, name: Ident, binding: Binding): void {
  const first = module.names.get(name.name);
  if (first === undefined) {
    module.names.set(name.name, binding);
    return;
  }
  if (name.name === "") return;
  report(
    program.reports,
    diagnostic("E0204", `\`${name.name}\` already has a value`, binding.at, {
      label: "a name is given once",
      secondary: [{ span: first.at, text: "first given here" }],
      helps: ["choose another name"],
    }),
  );
}

/** Names that came by `import` are not handed on; those of `export … from` are. */
function importName(
  program: Program,
  module: Module,
  from: Module | undefined,
  name: ImportName,
  path: StringLit,
  isPrivate: boolean,
): void {
  // A name that could not be read was reported by the parser.
  if (name.name.name === "") return;
  const as = name.as ?? name.name;
  const at = span(module.source, name.name);
  const found = from?.names.get(name.name.name);
  if (found !== undefined && !found.private) {
    bind(program, module, as, { at: span(module.source, as), private: isPrivate, cell: found.cell });
    return;
  }
  const cell: Cell = { at: as, module, state: { kind: "value", value: UNKNOWN } };
  bind(program, module, as, { at: span(module.source, as), private: true, cell });
  if (from === undefined) return;
  const visible = exportedNames(from);
  const near = suggest(name.name.name, visible);
  report(
    program.reports,
    diagnostic("E0202", `\`${path.value}\` has no \`${name.name.name}\``, at, {
      label: found === undefined ? "not defined there" : "private there",
      secondary: found === undefined ? [] : [{ span: found.at, text: "`private` keeps it to its own file" }],
      helps:
        near === undefined ? [] : [{ text: `did you mean \`${near}\`?`, edits: [{ span: at, replacement: near }] }],
      notes: visible.length > 0 && visible.length <= 24 ? [`it has ${visible.join(", ")}`] : [],
    }),
  );
}

/** Names of a module that others may import. */
export function exportedNames(module: Module): readonly string[] {
  return [...module.names].filter(([, binding]) => !binding.private).map(([name]) => name);
}

function importedModule(program: Program, module: Module, path: StringLit): Module | undefined {
  const at = span(module.source, path);
  const found = program.resolve(path.value, module.source);
  if (found === undefined) return missing(program, at, path.value);
  if ("error" in found) {
    report(program.reports, diagnostic("E0202", `\`${path.value}\` cannot be imported: ${found.error}`, at));
    return undefined;
  }
  const cycle = program.loading.indexOf(found.path);
  if (cycle >= 0) {
    const { directory } = program;
    const shown = (path: string): string =>
      directory !== "" && path.startsWith(directory) ? path.slice(directory.length) : path;
    const names = [...program.loading.slice(cycle), found.path].map((name) => `\`${shown(name)}\``);
    report(
      program.reports,
      diagnostic(
        "E0203",
        names.length === 2 ? "a file cannot import itself" : "these files import each other in a circle",
        at,
        {
          label: "closes the circle",
          notes: [names.join(" imports ")],
          helps: ["move what both need into a file of its own"],
        },
      ),
    );
    return undefined;
  }
  return loadModule(program, found);
}

function missing(program: Program, at: Span, path: string): undefined {
  const helps: string[] = [];
  if (!path.startsWith("std/") && !path.startsWith(".") && !path.startsWith("/")) {
    helps.push(`a file of your own begins with \`./\`: \`"./${path}"\``);
  } else if (!path.startsWith("std/") && !path.endsWith(".net")) {
    helps.push(`\`"${path}.net"\` if the file is called so`);
  } else if (path.startsWith("std/")) {
    const near = suggest(path, ["std/nn", "std/attention", "std/vision", "std/weights", "std/prim"]);
    if (near !== undefined) helps.push(`did you mean \`"${near}"\`?`);
  }
  report(program.reports, diagnostic("E0202", `there is no module \`${path}\``, at, { label: "not found", helps }));
  return undefined;
}

/** What `name` stands for at the top of `module`: its own names and imports, then the prelude. */
export function findBinding(module: Module, name: string): Binding | undefined {
  const own = module.names.get(name);
  if (own !== undefined) return own;
  for (const other of module.prelude) {
    const found = other.names.get(name);
    if (found !== undefined && !found.private) return found;
  }
  return undefined;
}

/** Every name that can be written in `module`, for suggestions. */
export function visibleNames(module: Module): readonly string[] {
  return [...module.names.keys(), ...module.prelude.flatMap(exportedNames)];
}
