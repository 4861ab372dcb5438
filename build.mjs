/**
 * Builds the package: `dist/` from the sources, the standard library beside it with its syntax trees, and the
 * `netc` command.
 *
 * tsc writes every module and its types; then the entry points are written over by bundles of what they reach, in a few
 * chunks under dist/chunks. The command would otherwise open some 800 small files to read one line, most of them the
 * parser library's. The single modules stay for tests and benchmarks; the published package is bundles and types.
 *
 * npm links the commands of installed packages but not those of the package it stands in, so `npx netc` inside a clone
 * would fetch a stranger of that name; the link in node_modules/.bin keeps it at home.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { rolldown } from "rolldown";

const root = fileURLToPath(new URL(".", import.meta.url));
const dist = join(root, "dist");
const main = join(dist, "runtime/cli/main.js");

/** Loaded where they are used, from node_modules: native code, a compiler of 13 MB, drivers of databases. */
const EXTERNAL = [/^node:/, "webgpu", "node-av", "sharp", "ts-morph", "libsql", "pg", "bullmq", "ioredis"];

/** Entry points of the command and the library, and of the engine, which runs in browsers too and shares no chunk. */
const BUNDLES = [
  { entries: ["runtime/cli/main", "runtime/index", "runtime/search/trial/child"], platform: "node", chunks: "chunks" },
  { entries: ["runtime/engine/index"], platform: "neutral", chunks: "chunks/engine" },
];

/** Modules that hand functions to threads or pages as text, which calls them by their names. */
const HANDS_OVER_TEXT =
  /runtime\/(?:data\/(?:flow|sample|nodeav)|data\/loader\/(?:worker|cache|rows|strip)|report\/attention\/probe)\.js$/;

const posix = (path) => path.split(sep).join("/");

/** Where `import.meta.url` stands in a program, not in a text of it. */
function addressesIn(node, found = []) {
  if (Array.isArray(node)) for (const item of node) addressesIn(item, found);
  else if (typeof node === "object" && node !== null) {
    if (node.type === "MemberExpression" && node.object.type === "MetaProperty" && node.property.name === "url")
      found.push(node);
    else for (const value of Object.values(node)) addressesIn(value, found);
  }
  return found;
}

/** Keeps `import.meta.url` what it was in the module, wherever the chunk lies that the module ends up in. */
function ownAddresses() {
  return {
    name: "own-addresses",
    transform(code, id) {
      if (!id.startsWith(dist) || !code.includes("import.meta.url")) return null;
      const mark = `__netc_address(${JSON.stringify(posix(relative(dist, id)))})`;
      let marked = code;
      for (const { start, end } of addressesIn(this.parse(code)).reverse())
        marked = marked.slice(0, start) + mark + marked.slice(end);
      return { code: marked, map: null };
    },
    renderChunk(code, chunk) {
      if (!code.includes("__netc_address(")) return null;
      return code.replaceAll(/__netc_address\("([^"]+)"\)/g, (_, module) => {
        const way = posix(relative(dirname(join(dist, chunk.fileName)), join(dist, module)));
        return `new URL(${JSON.stringify(way)}, import.meta.url).href`;
      });
    },
  };
}

/** Fails where the bundler has changed a name that a text calls, because two modules of a chunk have it. */
function checkNames(chunk) {
  for (const id of chunk.moduleIds.filter((module) => HANDS_OVER_TEXT.test(posix(module)))) {
    for (const [, name] of readFileSync(id, "utf8").matchAll(/^(?:export )?(?:function|const) (\w+)/gm)) {
      if (chunk.code.includes(` ${name}$`))
        throw new Error(`two names \`${name}\` meet in a chunk: rename the one that is not of ${relative(root, id)}`);
    }
  }
}

/** Licences of the packages whose code is in the bundles, as their terms ask. */
function licences(modules) {
  const packages = new Set();
  for (const id of modules) {
    const found = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(posix(id))?.[0];
    if (found !== undefined) packages.add(found);
  }
  return [...packages]
    .sort((a, b) => a.localeCompare(b))
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
      const text = file === undefined ? "" : `\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
      return `${name} ${version} (${license})\n${text}`;
    })
    .join(`\n${"-".repeat(80)}\n\n`);
}

async function bundle() {
  const modules = new Set();
  const written = await Promise.all(
    BUNDLES.map(async ({ entries, platform, chunks }) => {
      const build = await rolldown({
        cwd: root,
        platform,
        input: Object.fromEntries(entries.map((entry) => [entry, join(dist, `${entry}.js`)])),
        external: EXTERNAL,
        plugins: [ownAddresses()],
        onLog(level, log) {
          if (level === "warn") throw new Error(`bundling: ${log.message}`);
        },
      });
      const { output } = await build.generate({
        format: "esm",
        entryFileNames: "[name].js",
        chunkFileNames: `${chunks}/[name].js`,
      });
      await build.close();
      return output;
    }),
  );
  for (const chunk of written.flat()) checkNames(chunk);
  for (const chunk of written.flat()) {
    for (const id of chunk.moduleIds) modules.add(id);
    const file = join(dist, chunk.fileName);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, chunk.code);
    rmSync(`${file}.map`, { force: true });
  }
  writeFileSync(join(dist, "chunks/LICENSES.txt"), licences(modules));
}

/** Puts the syntax tree of every module of the standard library beside it: reading JSON is ten times as fast. */
async function parseLibrary() {
  const { parse } = await import(pathToFileURL(join(dist, "grammar/parser.js")).href);
  const folder = join(dist, "compiler/std");
  for (const name of readdirSync(folder)) {
    const text = readFileSync(join(folder, name), "utf8");
    const { file, diagnostics } = parse({ path: `std/${name}`, text });
    for (const { message } of diagnostics) throw new Error(`compiler/std/${name}: ${message}`);
    writeFileSync(join(folder, name.replace(/\.net$/, ".json")), JSON.stringify(file));
  }
}

rmSync(dist, { recursive: true, force: true });
const tsc = spawnSync(
  process.execPath,
  [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json")],
  { stdio: "inherit" },
);
if (tsc.status !== 0) process.exit(1);
cpSync(join(root, "compiler/std"), join(dist, "compiler/std"), { recursive: true });
await parseLibrary();
await bundle();
chmodSync(main, 0o755);

const commands = join(root, "node_modules/.bin");
if (existsSync(join(root, "node_modules"))) {
  mkdirSync(commands, { recursive: true });
  const link = join(commands, "netc");
  rmSync(link, { force: true });
  if (process.platform === "win32") writeFileSync(`${link}.cmd`, `@node "${main}" %*\r\n`);
  else symlinkSync("../../dist/runtime/cli/main.js", link);
}
