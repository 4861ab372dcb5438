/**
 * Packs the benchmark for a machine that has nothing: `npm run pack [-- FOLDER] [-- --no-archive]`.
 *
 * The folder (by default pack/netc-bench) holds this Node, the built package, Dawn's binding for Linux on x86-64, and the
 * workloads with what they must give. It runs on any such machine with a GPU's driver and a Vulkan loader, by
 * `sh run.sh`, which takes the options of `npm run bench`. Beside it comes the same folder as one compressed file, to be
 * carried there.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const words = process.argv.slice(2);
const archive = !words.includes("--no-archive");
const folder = resolve(words.find((word) => !word.startsWith("-")) ?? join(root, "pack/netc-bench"));
/** What may be carried: bytes of the compressed file. */
const MOST = 60 * 2 ** 20;

const RUN = `#!/bin/sh
# The benchmark of netc. Options: sh run.sh --help
set -eu
case "$0" in */*) cd "\${0%/*}" ;; esac
adapter="--adapter system"
for word in "$@"; do
  if [ "$word" = "--adapter" ]; then adapter=""; fi
done
exec ./bin/node test/bench/run.mjs $adapter "$@"
`;

const README = `The benchmark of netc, with all that it needs but a GPU's driver and a Vulkan loader (libvulkan.so.1).

  sh run.sh --quick             a first look, about a minute
  sh run.sh --json > out.json   everything; keep what it prints
  sh run.sh --help              the options

Node's licence is in bin/LICENSE, those of the packages in node_modules and dist/chunks/LICENSES.txt.
`;

function fail(message) {
  console.error(message);
  process.exit(1);
}

if (process.platform !== "linux" || process.arch !== "x64")
  fail("the package is for Linux on x86-64 and is made there");
if (!existsSync(join(root, "dist/runtime/cli/main.js"))) fail("there is no built package: npm run build");
if (existsSync(folder) && !existsSync(join(folder, "run.sh"))) fail(`${folder} is there and is none of ours`);
rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, "bin"), { recursive: true });

/** Copies what the filter lets through. */
const copy = (from, to = from, wanted = () => true) =>
  cpSync(join(root, from), join(folder, to), { recursive: true, filter: (path) => wanted(path) });
const run = (command, args, options = {}) =>
  spawnSync(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });

const node = join(folder, "bin/node");
cpSync(realpathSync(process.execPath), node);
// Symbols are a sixth of it; where there is no `strip`, they come along.
run("strip", [node]);
chmodSync(node, 0o755);
for (const place of ["../LICENSE", "../share/doc/nodejs/LICENSE", "../share/doc/nodejs/copyright"]) {
  const licence = join(dirname(realpathSync(process.execPath)), place);
  if (!existsSync(licence)) continue;
  cpSync(licence, join(folder, "bin/LICENSE"));
  break;
}
copy("dist", "dist", (path) => !/\.(?:d\.ts|map|tsbuildinfo)$/.test(path));
for (const file of ["package.json", "LICENSE"]) copy(file);
copy("examples/headline.net");
copy("test/bench", "test/bench", (path) => !/\.(?:ts|mts)$/.test(path));
copy("test/tools/swiftshader.mjs");
for (const file of ["index.js", "package.json", "LICENSE", "dist/linux-x64/dawn.node"])
  if (existsSync(join(root, "node_modules/webgpu", file))) copy(join("node_modules/webgpu", file));
writeFileSync(join(folder, "run.sh"), RUN, { mode: 0o755 });
writeFileSync(join(folder, "README"), README);

/** Bytes of all files. */
const { stdout: listed } = run("du", ["-sk", folder]);
console.log(`${folder}: ${Math.round(Number.parseInt(listed, 10) / 1024)} MiB`);
if (archive) {
  const file = `${folder}.tar.xz`;
  const made = run("tar", ["-cJf", file, "-C", dirname(folder), basename(folder)], {
    env: { ...process.env, XZ_OPT: "-6 -T1" },
  });
  if (made.status !== 0) fail(`tar: ${String(made.stderr)}`);
  const { size } = statSync(file);
  console.log(`${file}: ${(size / 2 ** 20).toFixed(1)} MiB`);
  if (size > MOST) fail(`that is more than ${MOST / 2 ** 20} MiB`);
}
const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
console.log(`netc ${version}; there: sh ${basename(folder)}/run.sh --quick`);
