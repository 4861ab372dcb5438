/**
 * What is said about mistakes, drawn as a person sees it.
 *
 * The texts are compared with the files in `errors/`; after a change on purpose, run `vitest -u` and read the
 * difference.
 */
import { describe, expect, it } from "vitest";
import { hasErrors } from "../../grammar/diagnostic.ts";
import { parse } from "../../grammar/parser.ts";
import { renderDiagnostics } from "../../grammar/render.ts";

const CASES: Readonly<Record<string, readonly string[]>> = {
  headline: [
    "VGG16 ×2 mit STIA at conv3, conv4",
    "VGG16 ×2 wiht STIA at conv3",
    "model M = VGG16 with STIA on conv3",
    "VGG16 ×2 at conv3",
    "VGG16 × with STIA at conv3",
    "VGG16 ×2 with STIA at conv3,",
    "VGG16 with at conv3",
    "VGG16 with SE at in",
    "VGG16 ×2 with STIA between rgb at conv3",
    "f(VGG16 ×2 with STIA at conv3, conv4)",
    "model A = VGG16 ×2 over rgb RGB",
  ],
  characters: [
    "",
    "// only a comment\n",
    "/* never closed\nVGG16",
    "VGG16\0",
    "const x = “abc”",
    'const x = "abc\nconst y = 1',
    'const x = "a\\qb"',
    "const größe = 3\nconst y = größe + 1",
    "const x = 3abc + 99999999999999999999\nconst y = 0x10q",
    "const x = 1.2.3",
    Array.from({ length: 9 }, (_, i) => `const c${i} = $`).join("\n"),
    "model LeNet(image: f32[N, 1, 28, 28]) -> f32[N, 10] =\n  Conv(6, k=5 x 5, pad=2, act=ReLU) @conv1 -> MaxPool(2)",
    "const s = 2 x 3 x 4",
  ],
  brackets: [
    "model Tiny(x: f32[N, 3, 8, 8]) -> f32[N, 64, 8, 8] =\n  Conv(64, k=3 -> ReLU",
    "block F()(x: [N]) {\n  a = f(x\n  b = 3\n  return g(b\n}\nblock G() = ReLU",
    "block F()(x: [N]) {\n  return x\n\nblock G() = ReLU",
    "model A(x: f32[N, 3) -> [N] = x",
    "model A = f(a]",
    "model A = f(a))\n",
    "model A = VGG16 with SE at [conv1, conv2\nmodel B = A",
    "block G() = Conv(3, -> ReLU",
    "block F()(x: [N]) = Residual(Conv(3) with SE at a",
    'const x = f("abc)\nconst y = 1',
    `model A = ${"(".repeat(201)}x${")".repeat(201)}`,
    `const A = ${"-".repeat(500)}1`,
  ],
  items: [
    "mdoel Net = VGG16",
    "VGG16\nmodel A = VGG16",
    "model A = VGG16\nfoo bar\nmodel B = VGG16",
    "model { }",
    "block in() = x",
    "edition\nmodel A = B",
    "model A = B\nedition 2026",
    'import VGG16 from "std/vision"\nmodel A = VGG16',
    "const L: = 3",
    "const A = 3\nconst B =\nconst C = 4",
    "#[checkpoint]\n",
    "-> ReLU",
    "block Stem = Conv(64, k=7, stride: 2)",
    "block F(out: int, x [N, C]) = x",
    "block F()(x: [N]) { return x } VGG16",
  ],
  statements: [
    "block F()(x: [N]) {\n  Conv(3)\n  return x\n}",
    "block F()(x: [N]) {\n  retrun x\n}",
    "block F()(x: [N]) {\n  a = x ->\n  b = 3\n  return a b\n}",
    "block F()(x: [N]) {\n  param w [N]\n  param v:\n  return x\n}",
    "block F()(x: [N]) {\n  a == x\n  return a\n}",
    "model A = repeat i in 1..3 Conv(3)",
    "model A = if x { y } else z",
    "model A = x[]",
    "model A = f(3 4)",
    "model A = a.",
    "model A = a @3",
    "search S {\n  chose x in {1}\n}",
    "search S {\n  choose x from {1}\n}",
    "recipe R {\n  epochs 5\n  lr == 3\n}",
    'weights W for M {\n  conv1 form "x"\n  conv2 from\n}',
  ],
};

function codes(text: string): readonly string[] {
  return parse({ path: "long.net", text }).diagnostics.map((found) => found.code);
}

describe("a syntax error", () => {
  it.each(Object.keys(CASES))("is explained: %s", async (group) => {
    const drawn = (CASES[group] ?? []).map((text) => {
      const { diagnostics } = parse({ path: `${group}.net`, text });
      expect(hasErrors(diagnostics), text).toBe(true);
      return renderDiagnostics(diagnostics);
    });
    await expect(`${drawn.join("\n\n\n")}\n`).toMatchFileSnapshot(`errors/${group}.txt`);
  });

  it("never speaks in chevrotain's words", () => {
    for (const text of Object.values(CASES).flat()) {
      const all = JSON.stringify(
        parse({ path: "a.net", text }).diagnostics.map(({ message, labels }) => [message, labels.map((l) => l.text)]),
      );
      expect(all).not.toMatch(/Token|token|Expecting|Redundant|NoViable|undefined|Reserved_|Soft_/);
    }
  });

  it("leaves the items after it whole", () => {
    const { file, diagnostics } = parse({
      path: "a.net",
      text: "block A()(x: [N]) {\n  y = Conv(3, k=\n  z = )\n}\n\n/// Fine.\nblock B() = ReLU\n\nmodel C = = 3\n\nsearch D { choose }\nmodel E = B\n",
    });
    expect(file.items.map((item) => ("name" in item ? [item.name.name, item.broken === true] : item.kind))).toEqual([
      ["A", false],
      ["B", false],
      ["C", true],
      ["D", false],
      ["E", false],
    ]);
    expect(diagnostics.length).toBeGreaterThanOrEqual(3);
  });

  it("has one message for one mistake on a line, and few for a file of rubbish", () => {
    const rubbish = Array.from({ length: 2000 }, (_, i) => `} ) ] = -> ${i} @ @ ] {`).join("\n");
    expect(parse({ path: "a.net", text: "model A = f(3 4 5 ; = = ]" }).diagnostics.length).toBeLessThanOrEqual(2);
    const drawn = renderDiagnostics(parse({ path: "a.net", text: rubbish }).diagnostics);
    expect(drawn.split("error[").length).toBeLessThanOrEqual(21);
  });

  it.each([
    ["parentheses", `A = ${"(".repeat(10_000)}x${")".repeat(10_000)}`],
    ["unclosed parentheses", `A = ${"(".repeat(10_000)}`],
    ["lists", `A = ${"[".repeat(10_000)}${"]".repeat(10_000)}`],
    ["signs", `A = ${"- ".repeat(10_000)}x`],
    ["powers", `A = ${"a ^ ".repeat(10_000)}x`],
    ["powers of soft words", `A = ${"type ^ ".repeat(10_000)}x`],
    ["conditions", `A = ${"if a { b } else ".repeat(10_000)}{ c }`],
    ["calls", `A = f${"()".repeat(10_000)}`],
    ["fields", `A = f${".x".repeat(10_000)}`],
    ["sums", `A = ${"a + ".repeat(10_000)}x`],
  ])("says so when %s nest ten thousand deep", (_what, text) => {
    const { diagnostics } = parse({ path: "deep.net", text: `model ${text}` });
    expect(diagnostics.map((d) => d.code)).toContain(
      text.includes("?") ? "E0112" : text.endsWith("(") ? "E0110" : "E0110",
    );
    expect(diagnostics.length).toBeLessThanOrEqual(25);
  });

  it("does not take a long file for a deep one", () => {
    const text = Array.from({ length: 1000 }, (_, i) => `unit U${i}() { return a.b + c[0](x) -> d }`).join("\n");
    expect(codes(text)).toEqual([]);
    const rules = Array.from({ length: 1000 }, (_, i) => `a.b.c${i} from d.e skip x.y`).join("\n");
    expect(codes(`weights W for M {\n${rules}\n}`)).toEqual([]);
    const pipe = `model M = ${"Conv(3, k=a + 1) @c -> ".repeat(1000)}x`;
    expect(codes(pipe)).toEqual([]);
  });
});
