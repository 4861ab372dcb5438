/** Attributes: what is known, what is said of the rest, and which nodes a checkpoint marks. */
import { describe, expect, it } from "vitest";
import { elaborateText, modelOf } from "../tools/nets.ts";

const BLOCKS = `
block Inner(c: int) = Conv(c) -> ReLU
#[checkpoint]
block Outer(c: int)(x: [N, C, H, W]) -> [N, c, H, W] {
  #[checkpoint]
  y = x -> Inner(c)
  return y -> Inner(c)
}
`;

function messages(text: string): readonly string[] {
  return elaborateText(text).diagnostics.map(({ code, message }) => `${code} ${message}`);
}

describe("attributes", () => {
  it("that nobody knows are refused, with the nearest that is", () => {
    const text = `#[chekpoint] block A = ReLU\nmodel M(x: f32[N, 4]) -> f32[N, 4] = A -> Linear(4)`;
    const [found, ...more] = elaborateText(text).diagnostics;
    expect(more).toEqual([]);
    expect(found?.code).toBe("E0209");
    expect(found?.helps[0]?.text).toBe("did you mean `checkpoint`?");
    const edit = found?.helps[0]?.edits?.[0];
    expect(edit?.replacement).toBe("checkpoint");
    expect(text.slice(edit?.span.start, edit?.span.end)).toBe("chekpoint");
  });

  it("are checked wherever they stand, used or not", () => {
    expect(
      messages(`
        #[fast] const A = 3
        #[slow] block B(c: int)(x: [N, c]) -> [N, c] { #[odd] y = x; #[strange] return y }
        #[big] model M(x: f32[N, 4]) -> f32[N, 4] = Linear(4)
        #[checked] assert params(M) == 20`),
    ).toEqual(["fast", "slow", "odd", "strange", "big", "checked"].map((n) => `E0209 no attribute is called \`${n}\``));
  });

  it("mean nothing where nothing is computed", () => {
    const where = (text: string): readonly string[] =>
      messages(`${text}\nmodel M(x: f32[N, 4]) -> f32[N, 4] = Linear(4)`);
    for (const text of [
      "#[checkpoint] const A = 3",
      "#[checkpoint] model B(x: f32[N, 4]) -> f32[N, 4] = Linear(4)",
      "block B(c: int)(x: [N, c]) -> [N, c] { #[checkpoint] param w: [c] = zeros(); return x * w }",
      "block B(c: int)(x: [N, c]) -> [N, c] { #[checkpoint] assert c > 3; return x }",
    ])
      expect(where(text)).toEqual(["E0210 `#[checkpoint]` means nothing here"]);
    expect(where("#[checkpoint(2)] block B = ReLU")).toEqual(["E0210 `checkpoint` takes no arguments"]);
    expect(
      messages(`model M(x: f32[N, 4]) -> f32[N, 4] {
        #[checkpoint] f = Linear(4) -> ReLU
        return x -> f
      }`),
    ).toEqual(["E0210 `#[checkpoint]` has nothing to compute again here"]);
  });
});

describe("a checkpoint", () => {
  it("is a region for each application, inside of the region around it", () => {
    const model = modelOf(`${BLOCKS}model M(x: f32[N, 3, 4, 4]) -> f32[N, 4] =
      Outer(4) @a -> Outer(4) @b -> GlobalAvgPool -> Linear(4)`);
    const chains = new Map<string, Set<string>>();
    for (const { layer, op, region } of model.graph.nodes) {
      if (op !== "conv2d") {
        if (op === "param" || op === "input" || op === "constant") expect(region).toBeUndefined();
        continue;
      }
      const ids: number[] = [];
      for (let at = region; at !== undefined; at = at.parent) ids.push(at.id);
      const part = layer.split(".")[0] ?? "";
      chains.set(part, (chains.get(part) ?? new Set()).add(ids.join(" in ")));
    }
    expect([...chains].map(([part, ids]) => [part, [...ids]])).toEqual([
      ["a", ["2 in 1", "1"]],
      ["b", ["4 in 3", "3"]],
    ]);
    expect(model.graph.nodes.filter(({ layer }) => layer === "fc").every(({ region }) => region === undefined)).toBe(
      true,
    );
  });

  it("on the application of a part marks the copy, not the network it was cut from", () => {
    const model = modelOf(`${BLOCKS}model M(x: f32[N, 3, 4, 4]) -> f32[N, 4] {
      net = Inner(4) @a -> Outer(4) @b -> Inner(4) @c
      y = x -> net[..a]
      #[checkpoint] z = y -> net[a..b]
      return z -> net[b..] -> GlobalAvgPool -> Linear(4)
    }`);
    const depth = (name: string): readonly number[] =>
      model.graph.nodes.flatMap(({ op, layer, region }) => {
        if (op !== "conv2d" || !layer.startsWith(`${name}.`)) return [];
        let depth = 0;
        for (let at = region; at !== undefined; at = at.parent) depth += 1;
        return [depth];
      });
    expect([depth("a"), depth("b"), depth("c")]).toEqual([[0], [3, 2], [0]]);
  });
});
