/**
 * Programs as files: `program.json` and one file per kernel (specs/program.md).
 *
 * Writing gives names and contents, reading takes a function that fetches a name, so that a folder, a server and a test
 * are the same to it. The manifest carries a checksum of itself and of every kernel: a truncated, edited or foreign file
 * is refused with words that say which.
 */
import type { Program, ProgramKernel } from "../../compiler/program.ts";

/** The manifest's file name. */
export const MANIFEST = "program.json";

interface KernelEntry extends Omit<ProgramKernel, "code"> {
  readonly file: string;
  readonly sha256: string;
}
interface Manifest extends Omit<Program, "kernels"> {
  readonly kernels: readonly KernelEntry[];
}

async function sha256(data: string | Uint8Array): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const digest = await crypto.subtle.digest("SHA-256", new Uint8Array(bytes));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Files of `program`: name to contents. Names use `/`. The weights file is the caller's to write. */
export async function encodeProgram(program: Program): Promise<ReadonlyMap<string, string | Uint8Array>> {
  const files = new Map<string, string | Uint8Array>();
  const kernels: KernelEntry[] = [];
  for (const { code, ...rest } of program.kernels) {
    const file = `kernels/${rest.name}.${typeof code === "string" ? "wgsl" : "wasm"}`;
    files.set(file, code);
    kernels.push({ ...rest, file, sha256: await sha256(code) });
  }
  const manifest: Manifest = { ...program, kernels };
  const body = JSON.stringify(manifest);
  files.set(
    MANIFEST,
    `${JSON.stringify({ format: program.format, version: program.version, checksum: await sha256(body), program: manifest }, undefined, 1)}\n`,
  );
  return files;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The checksum covers every field, so a manifest that matches it has the shape that `encodeProgram` gave it. */
function isManifest(value: unknown): value is Manifest {
  return (
    isRecord(value) &&
    Array.isArray(value["kernels"]) &&
    Array.isArray(value["run"]) &&
    Array.isArray(value["allocations"])
  );
}

/**
 * Reads a program. `fetchFile` gives the bytes of a name, or undefined if there is none.
 * @returns the program, or a sentence that says what is wrong with which file
 */
export async function decodeProgram(
  fetchFile: (name: string) => Promise<Uint8Array | undefined>,
): Promise<{ readonly program: Program } | { readonly error: string }> {
  const bytes = await fetchFile(MANIFEST);
  if (bytes === undefined) return { error: `there is no ${MANIFEST}: this is not a compiled program` };
  let outer: unknown;
  try {
    outer = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return {
      error: `${MANIFEST} is not complete JSON (${bytes.length} bytes): it was cut short or is another kind of file`,
    };
  }
  if (!isRecord(outer) || outer["format"] !== "netc-program") return { error: `${MANIFEST} was not written by netc` };
  if (outer["version"] !== 1) {
    return {
      error: `${MANIFEST} has format version ${String(outer["version"])}; this netc reads version 1: compile the model again`,
    };
  }
  const manifest = outer["program"];
  if (!isManifest(manifest) || outer["checksum"] !== (await sha256(JSON.stringify(manifest)))) {
    return {
      error: `${MANIFEST} was changed after it was written (its checksum does not match): compile the model again`,
    };
  }
  const kernels: ProgramKernel[] = [];
  for (const { file, sha256: expected, ...rest } of manifest.kernels) {
    const code = await fetchFile(file);
    if (code === undefined) return { error: `${file} is missing: compile the model again` };
    if ((await sha256(code)) !== expected)
      return { error: `${file} was cut short or changed (its checksum does not match): compile the model again` };
    kernels.push({ ...rest, code: file.endsWith(".wgsl") ? new TextDecoder().decode(code) : code });
  }
  return { program: { ...manifest, kernels } };
}
