/** Drawings of diagnostics, compared with drawings made by hand, and the form for other programs. */
import { describe, expect, it } from "vitest";
import { type DiagnosticParts, diagnostic } from "../../grammar/diagnostic.ts";
import { ansiStyle, diagnosticToJson, renderDiagnostic, renderDiagnostics } from "../../grammar/render.ts";
import type { Source, Span } from "../../grammar/source.ts";

/** The place of `text` in `source`, or of its `nth` occurrence. */
function at(source: Source, text: string, nth = 1): Span {
  let start = -1;
  for (let i = 0; i < nth; i++) start = source.text.indexOf(text, start + 1);
  if (start < 0) throw new Error(`no ${text}`);
  return { source, start, end: start + text.length };
}

function drawing(code: string, message: string, span: Span, parts: DiagnosticParts = {}): string {
  return `\n${renderDiagnostic(diagnostic(code, message, span, parts))}`;
}

describe("the drawing", () => {
  it("shows lines in order, and what is left out", () => {
    const source = {
      path: "res.net",
      text: `block Down(c: int)(x: [N, C, H, W]) -> [N, c, H', W'] {
  main = x -> Conv(c, stride=2)
  return main + x -> ReLU
}
model Net(image: f32[N, 64, 56, 56]) = Down(128)
`,
    };
    expect(
      drawing("E0301", "`+` needs shapes that broadcast, and these do not", at(source, "main + x"), {
        label: "axis 1: 128 and 64",
        secondary: [
          { span: at(source, "Down(128)"), text: "in this use of `Down`, with c = 128" },
          { span: at(source, "main"), text: "f32[N, 128, 28, 28]" },
          { span: at(source, "x"), text: "f32[N, 64, 56, 56]" },
        ],
        helps: ["a skip past a stride needs a projection:\n`skip = x -> Conv(c, k=1, stride=2)`"],
      }),
    ).toBe(`
error[E0301]: \`+\` needs shapes that broadcast, and these do not
   ┌─ res.net:3:10
   │
1  │ block Down(c: int)(x: [N, C, H, W]) -> [N, c, H', W'] {
   │                    - f32[N, 64, 56, 56]
2  │   main = x -> Conv(c, stride=2)
   │   ---- f32[N, 128, 28, 28]
3  │   return main + x -> ReLU
   │          ^^^^^^^^ axis 1: 128 and 64
   ·
5  │ model Net(image: f32[N, 64, 56, 56]) = Down(128)
   │                                        --------- in this use of \`Down\`, with c = 128
   │
   = help: a skip past a stride needs a projection:
           \`skip = x -> Conv(c, k=1, stride=2)\``);
  });

  it("stacks the labels of one line", () => {
    const source = { path: "a.net", text: "\n".repeat(98) + "VGG16 with STIA at conv3, conv4" };
    const parts = {
      label: "one stream",
      secondary: [
        { span: at(source, "STIA"), text: "takes (spatial, temporal)" },
        { span: at(source, "conv4"), text: "here" },
        { span: at(source, "with"), text: "" },
      ],
      notes: ["a fact"],
      helps: ["`VGG16 ×2 with STIA at conv3, conv4`", "or nothing"],
    };
    expect(drawing("E0505", "`STIA` joins 2 streams, but this model has 1", at(source, "VGG16"), parts)).toBe(
      `
error[E0505]: \`STIA\` joins 2 streams, but this model has 1
    ┌─ a.net:99:1
    │
99  │ VGG16 with STIA at conv3, conv4
    │ ^^^^^ ---- ----           ----- here
    │ │          takes (spatial, temporal)
    │ one stream
    │
    = note: a fact
    = help: \`VGG16 ×2 with STIA at conv3, conv4\`
    = help: or nothing`,
    );
  });

  it("puts labels of other files below, each with its place", () => {
    const here = { path: "a.net", text: "model A = B(3)" };
    const there = { path: "std/nn", text: "\n\nblock B(c: int)\n" };
    expect(
      drawing("E0401", "no", at(here, "B(3)"), { secondary: [{ span: at(there, "c: int"), text: "defined here" }] }),
    ).toBe(`
error[E0401]: no
   ┌─ a.net:1:11
   │
1  │ model A = B(3)
   │           ^^^^
   │
   ┌─ std/nn:3:9
   │
3  │ block B(c: int)
   │         ------ defined here`);
  });

  it("keeps underlines under what they mean: tabs, wide and combining characters, long lines", () => {
    const source = { path: "w.net", text: '\tf("日本é👍e\u0301", bad)' };
    expect(drawing("E0201", "no", at(source, "bad"), { label: "here" })).toBe(`
error[E0201]: no
   ┌─ w.net:1:15
   │
1  │     f("日本é👍e\u0301", bad)
   │                   ^^^ here`);
    const long = { path: "l.net", text: `${"a + ".repeat(500)}bad${" + c".repeat(500)}` };
    const lines = drawing("E0201", "no", at(long, "bad")).split("\n");
    expect(lines[4]?.startsWith("1  │ …")).toBe(true);
    expect(lines[4]?.length).toBeLessThan(180);
    expect(lines[4]?.indexOf("bad")).toBe(lines[5]?.indexOf("^^^"));
  });

  it("does not let a text steer the terminal", () => {
    const source = { path: "e\u001b.net", text: "a \u001b[31m b \u202e c \u0007\u009b d" };
    const drawn = drawing("E0108", "bad \u001b[2J", at(source, "d"), { label: "\u001b", notes: ["\u001b"] });
    // oxlint-disable-next-line no-control-regex
    expect(drawn).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });

  it("marks an empty place once, and the first line of a long one", () => {
    const source = { path: "m.net", text: "f(a,\n  b)" };
    expect(drawing("E0112", "no", { source, start: 9, end: 9 })).toContain("2  │   b)\n   │     ^");
    expect(drawing("E0112", "no", { source, start: 0, end: 9 })).toContain("1  │ f(a,\n   │ ^^^^");
  });

  it("is possible in ASCII, in colour, and without a place", () => {
    const source = { path: "a.net", text: "a\nb\nc\n" };
    const parts = { secondary: [{ span: at(source, "c"), text: "two" }] };
    const found = diagnostic("W0203", "name it", at(source, "a"), parts);
    expect(renderDiagnostic(found, { ascii: true })).toBe(
      "warning[W0203]: name it\n   --> a.net:1:1\n   |\n1  | a\n   | ^\n   :\n3  | c\n   | - two",
    );
    // oxlint-disable-next-line no-control-regex
    expect(renderDiagnostic(found, { style: ansiStyle }).replaceAll(/\u001b\[[\d;]*m/g, "")).toBe(
      renderDiagnostic(found),
    );
    expect(renderDiagnostic({ ...found, labels: [], notes: ["x"] })).toBe("warning[W0203]: name it\n   = note: x");
  });
});

describe("a list", () => {
  const source = { path: "a.net", text: "x" };
  const error = diagnostic("E0201", "no", at(source, "x"));
  const warning = diagnostic("W0203", "hm", at(source, "x"));

  it("ends with the counts", () => {
    expect(renderDiagnostics([])).toBe("");
    expect(renderDiagnostics([error, warning, error]).split("\n").at(-1)).toBe("2 errors, 1 warning");
    expect(renderDiagnostics([error]).split("\n").at(-1)).toBe("1 error");
  });

  it("draws twenty errors of a file and counts the rest", () => {
    const other = diagnostic("E0201", "no", at({ path: "b.net", text: "x" }, "x"));
    const drawn = renderDiagnostics([...Array.from({ length: 23 }, () => error), other]);
    expect(drawn.split("error[")).toHaveLength(22);
    expect(drawn).toContain("and 3 more errors in a.net\n\n24 errors");
  });
});

describe("the form for other programs", () => {
  it("gives offsets in UTF-16 units and in bytes", () => {
    const source = { path: "a.net", text: "// 👍é\nfoo ×2" };
    const edit = { span: at(source, "foo"), replacement: "bar" };
    const found = diagnostic("E0201", "no", at(source, "×2"), {
      label: "l",
      notes: ["n"],
      helps: [{ text: "h", edits: [edit] }],
    });
    expect(JSON.parse(JSON.stringify(diagnosticToJson(found)))).toEqual({
      code: "E0201",
      severity: "error",
      message: "no",
      labels: [
        {
          path: "a.net",
          start: { offset: 11, byte: 14, line: 2, column: 5 },
          end: { offset: 13, byte: 17, line: 2, column: 7 },
          text: "l",
          primary: true,
        },
      ],
      notes: ["n"],
      helps: [
        {
          text: "h",
          edits: [
            {
              path: "a.net",
              start: { offset: 7, byte: 10, line: 2, column: 1 },
              end: { offset: 10, byte: 13, line: 2, column: 4 },
              replacement: "bar",
            },
          ],
        },
      ],
    });
  });
});
