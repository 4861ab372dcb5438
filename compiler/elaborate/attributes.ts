/**
 * Attributes: `#[checkpoint]` and whatever else may stand in `#[…]` (language 5.15).
 *
 * `checkAttributes` looks at every file of the project without elaborating anything, so that a misspelt attribute is no
 * silent one: E0209 an attribute nobody knows, E0210 one that means nothing where it stands. `inRegion` is what a
 * checkpoint means to the nodes made inside of it.
 */
import type { Attribute, Documented, Item, Stmt } from "../../grammar/ast.ts";
import { type Diagnostic, diagnostic } from "../../grammar/diagnostic.ts";
import type { Source, Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import type { Region } from "../graph/region.ts";
import type { Build } from "./draft.ts";
import { isLibrary, report } from "./failure.ts";
import type { Program } from "./modules.ts";
import type { Context } from "./values.ts";

/** Every attribute there is. */
const ATTRIBUTES = ["checkpoint"] as const;

const CHECKPOINT_AT =
  "a `block`, `unit` or `op` with a body, or on a statement `name = …` or `return …` that applies layers";

/** Reports attributes that are unknown, or stand where they mean nothing. */
export function checkAttributes(program: Program): void {
  for (const { source, file } of program.modules.values()) {
    if (isLibrary(source) && source !== program.root) continue;
    const say = (found: Diagnostic): void => report(program.reports, found);
    for (const item of file.items) {
      if (item.kind === "Error") continue;
      for (const attribute of item.attributes) checkAttribute(attribute, takesCheckpoint(item), source, say);
      if (item.kind !== "Callable") continue;
      for (const statement of item.body?.statements ?? []) {
        if (statement.kind === "Error") continue;
        for (const attribute of statement.attributes)
          checkAttribute(attribute, takesCheckpoint(statement), source, say);
      }
    }
  }
}

function takesCheckpoint(at: Item | Stmt): boolean {
  if (at.kind === "Callable") return !at.extern && at.keyword !== "model";
  return at.kind === "Assign" || at.kind === "Return";
}

function checkAttribute(
  { name, args }: Attribute,
  takes: boolean,
  source: Source,
  say: (found: Diagnostic) => void,
): void {
  // The parser reported a missing name.
  if (name.name === "") return;
  const at: Span = { source, start: name.start, end: name.end };
  if (!ATTRIBUTES.some((known) => known === name.name)) {
    const near = suggest(name.name, ATTRIBUTES);
    say(
      diagnostic("E0209", `no attribute is called \`${name.name}\``, at, {
        label: "not found",
        notes: [`there is ${ATTRIBUTES.map((known) => `\`#[${known}]\``).join(", ")}`],
        helps:
          near === undefined ? [] : [{ text: `did you mean \`${near}\`?`, edits: [{ span: at, replacement: near }] }],
      }),
    );
    return;
  }
  const [first] = args;
  if (first !== undefined) {
    say(
      diagnostic(
        "E0210",
        `\`${name.name}\` takes no arguments`,
        { source, start: first.start, end: first.end },
        {
          helps: [`\`#[${name.name}]\``],
        },
      ),
    );
  } else if (!takes) {
    say(
      diagnostic("E0210", `\`#[${name.name}]\` means nothing here`, at, {
        label: "nothing is computed by this alone",
        helps: [`put it on ${CHECKPOINT_AT}`],
      }),
    );
  }
}

/** Whether the values made there are to be computed again for their gradients. */
export function isCheckpointed({ attributes }: Documented): boolean {
  return attributes.some(({ name }) => name.name === "checkpoint");
}

/** The context in which a checkpointed statement or body is evaluated: each application is a region of its own. */
export function inRegion(context: Context): Context {
  return { ...context, region: newRegion(context.build, context.region) };
}

export function newRegion(build: Build, parent: Region | undefined): Region {
  build.regions += 1;
  return { id: build.regions, ...(parent === undefined ? {} : { parent }) };
}
