/**
 * SwiftShader for Dawn: a Vulkan driver that runs on the CPU.
 *
 * Dawn looks for `libvulkan.so.1` with a plain dlopen. A shared object that is already loaded under that SONAME answers
 * such a call, so it is enough to load SwiftShader under that name once a process: no loader, no installed driver, no
 * environment variable that has to be set before Node starts. The library comes out of the archive that the npm package
 * `@sparticuz/chromium` carries; a patched copy is kept in the temporary folder.
 *
 * Plain JavaScript, so that benchmarks and scripts can use it without a build. Its types are in swiftshader.d.mts.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants, tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { brotliDecompressSync } from "node:zlib";

/** Not among Node's named constants (glibc, bits/dlfcn.h). Without it the library is unloaded again: it is no addon. */
const RTLD_NODELETE = 0x1000;
const PACKAGE = "@sparticuz/chromium";
const LIBRARY = "libvk_swiftshader.so";
/** As long as the SONAME it replaces in the string table may be. */
const SONAME = "libvulkan.so.1";

/** The bytes of one file of a tar archive. */
function fromTar(archive, name) {
  for (let at = 0; at < archive.length; ) {
    const entry = archive.toString("latin1", at, at + 100).split("\0", 1)[0];
    if (entry === "") break;
    const size = Number.parseInt(archive.toString("latin1", at + 124, at + 136), 8);
    if (entry === name) return archive.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  throw new Error(`${name} is not in the archive`);
}

/** Puts the patched library into the temporary folder, once, and returns its path. */
function unpacked() {
  const entry = createRequire(import.meta.url).resolve(PACKAGE);
  // How deep the entry lies differs between versions of the package.
  const root = entry.slice(0, entry.lastIndexOf(normalize(PACKAGE)) + PACKAGE.length);
  const version = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;
  const folder = join(tmpdir(), `netc-swiftshader-${version}`);
  const path = join(folder, "libswiftshader-as-vulkan.so");
  if (existsSync(path)) return path;
  const archive = brotliDecompressSync(readFileSync(join(root, "bin/swiftshader.tar.br")));
  const library = Buffer.from(fromTar(archive, LIBRARY));
  const at = library.indexOf(`\0${LIBRARY}\0`, 0, "latin1") + 1;
  if (at === 0) throw new Error(`${LIBRARY} does not carry its SONAME`);
  library.fill(0, at, at + LIBRARY.length).write(SONAME, at, "latin1");
  mkdirSync(folder, { recursive: true });
  // Several test processes may come here at once: each writes its own file, and renaming is atomic.
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, library);
  renameSync(mine, path);
  return path;
}

let loaded = false;

/**
 * Makes SwiftShader the Vulkan driver of this process. Call it before the first `create()` of the npm package `webgpu`.
 * Linux on x86-64 only; throws elsewhere.
 */
export function preloadSwiftShader() {
  if (loaded) return;
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error("SwiftShader is packed for Linux on x86-64 only");
  const path = unpacked();
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
  } catch (error) {
    // Expected: the library is loaded, and is not an addon.
    if (!String(error).includes("did not self-register")) throw error;
  }
  loaded = true;
}
