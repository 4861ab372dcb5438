/**
 * Nothing a person writes may end in a thrown exception: programs with words exchanged, dropped and doubled.
 */
import { expect, test } from "vitest";
import { check } from "./programs.ts";

const PROGRAMS: readonly string[] = [
  "VGG16 ×2 over spatial: RGB, temporal: Flow(L=10) with STIA(reduction=2) at conv3, conv4..conv5 fuse Average",
  "ResNet18 ×2 over a: f32[N, 3, 64, 64], b: f32[N, 2, 64, 64] sharing layer2..layer4 with SE at layer2[*].conv2 fuse at layer4 Concat -> GlobalAvgPool -> Linear(4)",
  `block Down(c: int, f: block = ReLU)(x: [N, C, H, W]) -> [N, c, H', W'] where c % 2 == 0 {
  param scale: [c, 1, 1] = normal(std=0.1) when c > 2
  main = x -> Conv(c, stride=2) @a -> BatchNorm -> f
  skip = if C != c { x -> Conv(c, k=1, stride=2) } else { x }
  return main * scale + skip -> f
}
model Net(image: f32[N, 3, H, W]) -> f32[N, 10] where H % 8 == 0, W % 8 == 0 {
  return image -> Down(8) @down1 -> repeat i in 1..2 { Down(16 * i) @"stage{i}" } -> GlobalAvgPool -> Linear(10) @fc
}
assert params(Net) > 1000
assert shape(Net, at=@down1) == [N, 8, H / 2, W / 2]`,
  `const K = [1, 3, 5]
op scaled(x: [...S], by: float = 2.0) -> [...S] = x * by
model M(a: f32[N, 16, 8], b: f32[N, 16, 8]) -> [N, 24] {
  net = Linear(8) -> ReLU
  y, z = (a, b) -> (net, net)
  u = y -> each k in K { Linear(k) } -> Concat(axis=-1)
  v = matmul(y, transpose(z)) -> softmax(axis=-1) -> scaled(by=0.5) -> rearrange("n (a b) t -> n a (b t)", a=4)
  w = mean(v, axis=[1, 2])
  return (mean(u, axis=1), y -> mean(axis=1), reshape(w, [N, 1]) + mean(z, axis=1) -> Linear(7)) -> Concat
}`,
  `model P(spatial: f32[N, 3, 32, 32], temporal: f32[N, 3, 32, 32]) -> f32[N, 4] {
  s = ResNet18(classes=4) @spatial
  t = ResNet18(classes=4) @temporal
  a, b = (spatial -> s[..layer2], temporal -> t[..layer2]) -> STIA @stia_layer2
  return (a -> s[layer2..], b -> t[layer2..]) -> Average
}`,
];

/** A fixed stream of numbers (mulberry32), so that a failure can be seen again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function words(text: string): readonly string[] {
  return text.match(/\s+|"[^"]*"|[\w']+|->|\.\.|[^\s\w]/g) ?? [];
}

/** The text with one to three words exchanged for others of these programs, dropped or doubled. */
function mutated(text: string, next: () => number): string {
  const pool = PROGRAMS.flatMap(words).filter((word) => word.trim() !== "");
  const parts = [...words(text)];
  const pick = (n: number): number => Math.floor(next() * n);
  for (let i = 1 + pick(3); i > 0; i--) {
    const at = pick(parts.length);
    const word = pool[pick(pool.length)] ?? "";
    const how = pick(3);
    if (how === 0) parts[at] = word;
    else if (how === 1) parts.splice(at, 1);
    else parts.splice(at, 0, word, " ");
  }
  return parts.join("");
}

test("the programs themselves are right", () => {
  for (const text of PROGRAMS) expect(check(text).diagnostics, text).toEqual([]);
});

test.each([
  ["loops in loops", "model M(x: f32[N, 8]) -> f32[N, 8] = repeat 9999 { repeat 9999 { ReLU } }"],
  [
    "blocks that double",
    `${Array.from({ length: 40 }, (_, i) => `block B${i} = B${i + 1} -> B${i + 1}`).join("\n")}
block B40 = ReLU
model M(x: f32[N, 8]) -> f32[N, 8] = B0`,
  ],
])("%s end in E0206", { timeout: 60_000 }, (_, text) => {
  expect(check(text).diagnostics.map((found) => found.code)).toEqual(["E0206"]);
});

test("a very deep network is no trouble", { timeout: 60_000 }, () => {
  const { model, diagnostics } = check(
    "model M(x: f32[N, 8]) -> f32[N, 8] = repeat 3000 { Linear(8, act=ReLU) } @deep",
  );
  expect(diagnostics).toEqual([]);
  expect(model?.parameters).toHaveLength(6000);
});

test("a very deep expression is refused", () => {
  const depth = 20_000;
  const { model, diagnostics } = check(`const K = ${"(".repeat(depth)}1${")".repeat(depth)}`);
  expect(model).toBeUndefined();
  expect(diagnostics.length).toBeGreaterThan(0);
});

test("changed programs get a model or a diagnostic, never an exception", { timeout: 120_000 }, () => {
  const next = random(20_261_123);
  const rounds = Number(process.env["FUZZ_ROUNDS"] ?? 12);
  for (let round = 0; round < rounds; round++) {
    for (const program of PROGRAMS) {
      const text = mutated(program, next);
      const { model, diagnostics } = check(text);
      if (model === undefined) expect(diagnostics.length, text).toBeGreaterThan(0);
      for (const each of diagnostics) {
        for (const { span } of each.labels)
          expect(span.end, `${text}\n${each.code}`).toBeLessThanOrEqual(span.source.text.length);
      }
    }
  }
});
