/**
 * Memory over a long training: `node test/bench/memory.mjs [UPDATES]`. Figures for people, never for tests.
 *
 * Trains a small two-stream network with STIA through the built command, evaluating and saving after every epoch of four
 * updates, and prints what the run's own records say: memory of the process, and bytes of device memory.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/runtime/cli/main.js", import.meta.url));
const updates = Number(process.argv[2] ?? 2000);
const UPDATES_IN_EPOCH = 4;

const NET = `
const L = 4
block ConvBN(c: int, stride: int = 1) = Conv(c, stride=stride, use_bias=false) @conv -> BatchNorm @bn -> ReLU
block Eyes(classes: int = 2)(x: [N, C, H, W]) -> [N, classes]
default over x: f32[N, 3, 32, 32]
  = ConvBN(8, stride=2) @conv1 -> ConvBN(16, stride=2) @conv2 -> GlobalAvgPool -> Dropout(0.3) -> Linear(classes) @fc
model Tiny = Eyes(classes=2) ×2 over spatial: f32[N, 3, 32, 32], temporal: f32[N, 2 * L, 32, 32]
  with STIA at conv2 fuse Average
recipe Learn(epochs: int) for Tiny {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = 4
  }
  epochs = epochs
  optimizer = AdamW(lr=0.001)
  schedule = Constant
  ema = 0.99
  mixup = 0.3
}
`;

const at = mkdtempSync(join(tmpdir(), "netc-memory-"));
function netc(...args) {
  const ran = spawnSync(process.execPath, [MAIN, ...args], { cwd: at, encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`netc ${args.join(" ")}:\n${ran.stdout}${ran.stderr}`);
}

try {
  writeFileSync(join(at, "net.json"), "{}");
  writeFileSync(join(at, "tiny.net"), NET);
  netc(..."data make set --layout association --subjects 3 --clips 8 --frames 12 --size 48x40".split(" "));
  const epochs = Math.ceil(updates / UPDATES_IN_EPOCH);
  const began = performance.now();
  netc(
    "train",
    "tiny.net",
    "--data",
    "set",
    "--run",
    "run",
    "--device",
    "wasm",
    "--no-test",
    "--set",
    `epochs=${epochs}`,
  );
  const seconds = (performance.now() - began) / 1000;
  const lines = readFileSync(join(at, "run/metrics.jsonl"), "utf8").trim().split("\n").map(JSON.parse);
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1).padStart(7)} MiB`;
  for (const { step, residentBytes, deviceBytes } of lines.filter(({ kind }) => kind === "epoch"))
    if ([100, 500, 1000, updates].includes(step))
      console.log(`update ${String(step).padStart(5)}: resident ${mib(residentBytes)}, device ${mib(deviceBytes)}`);
  console.log(`${epochs} epochs, ${updates} updates in ${seconds.toFixed(0)} s`);
} finally {
  rmSync(at, { recursive: true, force: true });
}
