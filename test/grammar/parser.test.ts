/** What correct programs parse to: every file of the repository, the hard cases of the grammar, precedence, places. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Item } from "../../grammar/ast.ts";
import { NetParser } from "../../grammar/parser/declarations.ts";
import { parse } from "../../grammar/parser.ts";
import { showExpr, showItem, showType } from "../tools/show-tree.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The items of a text without mistakes. */
function items(text: string): readonly Item[] {
  const { file, diagnostics } = parse({ path: "test.net", text });
  expect(diagnostics).toEqual([]);
  return file.items;
}

function only<Kind extends Item["kind"]>(text: string, kind: Kind): Extract<Item, { kind: Kind }> {
  const found = items(text).find((item): item is Extract<Item, { kind: Kind }> => item.kind === kind);
  if (found === undefined) throw new Error(`no ${kind} in ${text}`);
  return found;
}

/** The value of a one-line program. */
function model(text: string): string {
  return items(text).map(showItem).join(" || ");
}

describe("the grammar", () => {
  it("is LL(2): chevrotain finds no ambiguity in it", () => {
    expect(() => new NetParser({ validate: true })).not.toThrow();
  });

  const files = ["compiler/std", "examples"].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".net"))
      .map((name) => `${folder}/${name}`),
  );
  it.each(files)("reads %s", (path) => {
    expect(items(readFileSync(join(root, path), "utf8")).length).toBeGreaterThan(0);
  });

  it("reads every construct", () => {
    const text = `edition 2026;
import { Conv as C, ReLU } from "std/nn";
import * as vision from "std/vision"
export { Stem } from "./stem.net"
const SIZES: list<int> = [3, 4,]
type Flow(L: int = 10) = f32[N, 2 * L, 224, 224]
#[deprecated("use B", since=2027)] #[cite("x")]
private block A(k: int | (int, int) = 3, ...xs: block?)(x: [N, C=3, ...S]) -> ([N, out], "same") where C % 2 == 0, H' = H / 2 default over x: RGB = ReLU
extern op matmul(a: [...B, M, K], b: [...B, K, P]) -> [...B, M, P]
unit U()(x: [...]) -> [...] { #[checkpoint] param w: [C] = zeros() when bias; state m: f32; assert C == 3, "three"; return x }
weights W for A from "a.safetensors" { sha = "1"; skip "*.fc8"; a.b[0] from "c" via f(1); "x{p}" from "{p}"; skip x.y }
recipe R(lr: float = 1e-3) for A { data { stream "s" { a = 1 }; at = 2 } loss = A + 0.4 * B }
search S(b: block) { choose x in {A(k={1, 2}), none} when y != none; require a < 3M, b <= 4; maximize val.f1 minimize cost(m); model = b with x at conv1 }
assert params(A) == 1_000, "why"
A ×2 over a: RGB, Flow(L=5) sharing * with U between a, b at before conv1, (a.x, b.y), c[*].d..e fuse at fc7 Concat -> Linear(4) from W;
`;
    expect(items(text).map((item) => item.kind)).toEqual([
      ...["Import", "Import", "ReExport", "Const", "TypeAlias", "Callable", "Callable", "Callable"],
      ...["Weights", "Recipe", "Search", "Assert", "BareModel"],
    ]);
    const block = only(text, "Callable");
    expect(block.private).toBe(true);
    expect(block.attributes.map((attribute) => attribute.name.name)).toEqual(["deprecated", "cite"]);
    expect(block.lists.flatMap((list) => list.params).map((p) => p.type && showType(p.type))).toEqual([
      "int | (int, int)",
      "block?",
      "[N, C=3, ...S]",
    ]);
    expect(block.where.map((fact) => [showExpr(fact.left), fact.definition && showExpr(fact.definition)])).toEqual([
      ["((C % 2) == 0)", undefined],
      ["H'", "(H / 2)"],
    ]);
    expect(only(text, "Weights").rules.map((rule) => rule.kind)).toEqual([
      ...["Setting", "SkipRule", "MapRule", "MapRule", "SkipRule"],
    ]);
    expect(only(text, "Search").statements.map((statement) => statement.kind)).toEqual([
      ...["Choose", "Require", "Objective", "Objective", "Setting"],
    ]);
    expect(model(text).split(" || ").at(-1)).toBe(
      "(A × 2) {over a: RGB, _: Flow(L=5); sharing *; " +
        "with U between a, b at before conv1, (a.x, b.y), c[*].d..e; fuse at fc7 Concat -> Linear(4); from W}",
    );
  });
});

describe("the headline", () => {
  it.each([
    "VGG16 ×2 with STIA at conv3, conv4",
    "VGG16 x2 with STIA at conv3, conv4",
    "VGG16×2 with STIA at conv3,conv4",
    "VGG16 ×2 with STIA at [conv3, conv4]",
    "VGG16\n  ×2\n  with STIA at conv3,\n    conv4",
  ])("has one meaning: %j", (text) => {
    expect(model(text)).toBe("(VGG16 × 2) {with STIA at conv3, conv4}");
  });

  it.each([
    ["2 × VGG16 with SE at conv3", "(2 × VGG16) {with SE at conv3}"],
    ["VGG16 *2 with SE at conv3", "(VGG16 * 2) {with SE at conv3}"],
    ["VGG16(classes=4)x2", "(VGG16(classes=4) × 2)"],
    ["A with SE at a with CBAM at b, c[*]", "A {with SE at a; with CBAM at b, c[*]}"],
    ["f((A ×2 with U at a, b), 3)", "f(<(A × 2) {with U at a, b}>, 3)"],
    ["A with Residual(f -> g) at layers[*].mlp", "A {with Residual(f -> g) at layers[*].mlp}"],
    ["A fuse none", "A {fuse none}"],
    ["A with none at spots fuse Average", "A {with none at spots; fuse Average}"],
  ])("%s", (text, tree) => {
    expect(model(text)).toBe(tree);
  });
});

describe("hard cases", () => {
  const body = (statements: string): string => model(`block F()(x: [N]) { ${statements} }`);

  it("reads `x2` as a name at the start of the next line and as `×2` on its own", () => {
    expect(body("a = x\n x2 = a -> ReLU\n return x2")).toBe("F { a = x; x2 = a -> ReLU; return x2 }");
    expect(body("a = A x2\n x2 = a")).toBe("F { a = (A × 2); x2 = a }");
  });

  it("continues a line that the next one begins with an operator, an arrow or a bracket", () => {
    expect(body("y = x\n -> ReLU\n + x\n return y")).toBe("F { y = x -> (ReLU + x); return y }");
    expect(body("y = x\n (a, b) -> C")).toBe("F { y = x(a, b) -> C }");
  });

  it("lets words of certain places be names elsewhere", () => {
    expect(body("unit = 1; op = 2; state = 3; param = 4 where = 5; skip = x; weights, model = 2 return block")).toBe(
      "F { unit = 1; op = 2; state = 3; param = 4; where = 5; skip = x; weights, model = 2; return block }",
    );
    expect(model("shape(M, at=@conv2, from=1, in=2).with")).toBe("shape(M, at=@conv2, from=1, in=2).with");
  });

  it("tells parts of a network from an index", () => {
    expect(model("s[..c3] -> s[c3..c4] -> s[c4..] -> s[0] -> s[a + 1]")).toBe(
      "slice s[..c3] -> slice s[c3..c4] -> slice s[c4..] -> s[0] -> s[(a + 1)]",
    );
  });

  it("reads loops over counts, ranges and tuples", () => {
    expect(model('repeat n { A } -> repeat i in 1..n { B(i) @"c{i}" } -> each k, c in [(1, 2)] { C }')).toBe(
      'repeat n {A} -> repeat i in (1..n) {B(i)@"c{i}"} -> each k, c in [tuple(1, 2)] {C}',
    );
    expect(model("if a { b } else if c { d } else { e }")).toBe("if a {b} else {if c {d} else {e}}");
  });

  it("keeps groups and tuples apart", () => {
    expect(model("((a), (a,), (), (a, b))")).toBe("tuple(<a>, tuple(a), tuple(), tuple(a, b))");
  });

  it("puts several items on one line, and nothing between them", () => {
    expect(model("const A = 1 const B = A model M = V x2 model N = M")).toBe("A = 1 || B = A || M = (V × 2) || N = M");
  });

  it("reads `>=` after type arguments as two signs", () => {
    expect(only("block F(n: list<int>=[1]) = x", "Callable").lists[0]?.params[0]?.default?.kind).toBe("List");
  });

  it("reads the Unicode spellings of operators", () => {
    expect(model("a → b ≠ c → d ≤ e → f ≥ g")).toBe("a -> (b != c) -> (d <= e) -> (f >= g)");
  });
});

describe("precedence", () => {
  it.each([
    ["a + b * c", "(a + (b * c))"],
    ["a * b + c", "((a * b) + c)"],
    ["a - b - c", "((a - b) - c)"],
    ["a ^ b ^ c", "(a ^ (b ^ c))"],
    ["-a ^ 2", "(- (a ^ 2))"],
    ["a ^ -b", "(a ^ (- b))"],
    ["-a * b", "((- a) * b)"],
    ["- - a", "(- (- a))"],
    ["0..n - 1", "(0..(n - 1))"],
    ["a in 1..3 and not b == c or d", "(((a in (1..3)) and (not (b == c))) or d)"],
    ["not not a", "(not (not a))"],
    ["a is b == c", "((a is b) == c)"],
    ["main + skip -> ReLU", "(main + skip) -> ReLU"],
    ["x -> f + x", "x -> (f + x)"],
    ["a % b / c × 2", "(((a % b) / c) × 2)"],
    ["f(x)[0].y @p @q x2", "(f(x)[0].y@p@q × 2)"],
    ["a x2 * 3", "((a × 2) * 3)"],
  ])("%s is %s", (text, tree) => {
    expect(model(text)).toBe(tree);
  });
});

describe("literals", () => {
  const value = (text: string): unknown => {
    const { value } = only(`const A = ${text}`, "Const");
    return value.kind === "Size" ? value.values : "value" in value ? value.value : undefined;
  };
  it.each([
    ["138_357_544", 138_357_544],
    ["0.5", 0.5],
    ["1e-3", 1e-3],
    ["300M", 300e6],
    ["80G", 80e9],
    ["2k", 2000],
    ["7B", 7e9],
    ["1KiB", 1024],
    ["2MB", 2e6],
    ["3ms", 0.003],
    ["250us", 0.00025],
    ["2s", 2],
    ["3x3", [3, 3]],
    ["2×3×4", [2, 3, 4]],
    ['"a\\"\\\\\\n\\t\\u{1F600}{p}"', 'a"\\\n\t😀{p}'],
    ["true", true],
  ])("%s", (text, expected) => {
    expect(value(text)).toEqual(expected);
  });
});

describe("documentation", () => {
  it("belongs to the item or statement right below it", () => {
    const text = `/// About the file.

/// First line.
///   second
#[cite("x")]
block F()(x: [N]) {
  /// The result.
  y = x // not this
  //// nor this
  return y
}
/// The model.
F`;
    const block = only(text, "Callable");
    expect(block.doc).toBe("First line.\n  second");
    expect(block.body?.statements.map((s) => (s.kind === "Error" ? undefined : s.doc))).toEqual([
      "The result.",
      undefined,
    ]);
    expect(only(text, "BareModel").doc).toBe("The model.");
  });
});

describe("places", () => {
  const source = { path: "x.net", text: "block F(a: int) = Conv(64, k=3) -> x2 x2 @p // end\n" };

  it("span exactly what was read, without what follows", () => {
    const callable = only(source.text, "Callable");
    const quote = (node: { start: number; end: number } | undefined): string =>
      node === undefined ? "" : source.text.slice(node.start, node.end);
    expect(quote(callable)).toBe("block F(a: int) = Conv(64, k=3) -> x2 x2 @p");
    expect(quote(callable.name)).toBe("F");
    expect(quote(callable.lists[0])).toBe("(a: int)");
    const { value } = callable;
    if (value?.kind !== "Pipe") throw new Error("not a pipeline");
    const [conv, tap] = value.stages;
    if (conv?.kind !== "Call" || tap?.kind !== "Tap" || tap.of.kind !== "Times") throw new Error("other stages");
    expect([conv, conv.open, conv.args[1], conv.args[1]?.name].map(quote)).toEqual(["Conv(64, k=3)", "(", "k=3", "k"]);
    expect([tap, tap.name, tap.of, tap.of.opAt, tap.of.right].map(quote)).toEqual(["x2 x2 @p", "p", "x2 x2", "x", "2"]);
  });

  /** Every record of a tree that has a place. */
  function* nodes(value: unknown): Generator<{ start: number; end: number; kind?: string }> {
    if (Array.isArray(value)) for (const item of value) yield* nodes(item);
    else if (typeof value === "object" && value !== null) {
      if ("start" in value && "end" in value) yield value as { start: number; end: number };
      for (const child of Object.values(value)) yield* nodes(child);
    }
  }

  const name = fc.constantFrom("x", "Conv", "x2", "model", "H'", "conv1_1");
  const { expr } = fc.letrec<{ expr: string }>((tie) => ({
    expr: fc.oneof(
      { maxDepth: 3, withCrossShrink: false },
      name,
      fc.constantFrom("3", "300M", "1e-3", "3x3", '"a{i}"', "none", "@conv3[0].a", "f32"),
      fc
        .tuple(tie("expr"), fc.constantFrom("+", " * ", "->", "..", " in ", "^"), tie("expr"))
        .map(([a, op, b]) => `(${a}${op}${b})`),
      fc.tuple(name, tie("expr"), tie("expr")).map(([f, a, b]) => `${f}( ${a} , k = ${b})`),
      fc.tuple(tie("expr"), tie("expr")).map(([a, b]) => `if ${a} {${b}} else { ${a}}`),
      fc.tuple(name, tie("expr")).map(([a, b]) => `[${a}[..${b}], - ${b}]`),
    ),
  }));

  it("of expressions parse again to the same expression", () => {
    fc.assert(
      fc.property(expr, (text) => {
        const whole = { path: "p.net", text: `const A = ${text}` };
        const parsed = parse(whole);
        expect(parsed.diagnostics).toEqual([]);
        const kinds = new Set([
          "Name",
          "Number",
          "Size",
          "String",
          "Call",
          "Group",
          "List",
          "If",
          "Index",
          "Slice",
          "PositionLit",
        ]);
        for (const node of nodes(parsed.file)) {
          const part = whole.text.slice(node.start, node.end);
          expect(part).toBe(part.trim());
          if (!kinds.has(node.kind ?? "")) continue;
          const again = only(`const A = ${part}`, "Const").value;
          expect(showExpr(again)).toBe(showExpr(node as never));
        }
      }),
      { seed: 1, numRuns: 100, endOnFailure: true },
    );
  });
});
