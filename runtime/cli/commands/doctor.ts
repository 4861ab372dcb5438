/**
 * `netc doctor`: what this machine can do: adapters with their limits, WASM, decoders, and what `--device auto` takes.
 */
import { spawnSync } from "node:child_process";
import { availableParallelism, totalmem } from "node:os";
import { type AdapterReport, probeWebGPU } from "../../engine/devices.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { bytes, grouped, paint, print, table } from "../terminal.ts";

interface Decoder {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
}

async function importable(name: string, load: () => Promise<unknown>, detail: string): Promise<Decoder> {
  try {
    await load();
    return { name, available: true, detail };
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    return { name, available: false, detail: `not installed (${reason})` };
  }
}

function ffmpeg(): Decoder {
  const { status, stdout } = spawnSync("ffmpeg", ["-version"], { encoding: "utf8" });
  if (status !== 0) return { name: "ffmpeg", available: false, detail: "not on the PATH" };
  return { name: "ffmpeg", available: true, detail: stdout.split("\n")[0] ?? "" };
}

function limitRows(adapter: AdapterReport): string[][] {
  return Object.entries(adapter.capability.limits).map(([name, value]) => [
    name,
    name.endsWith("Size") && value >= 1024 ? `${grouped(value)}  (${bytes(value)})` : grouped(value),
  ]);
}

/** Prints or returns as JSON what this machine has. Always 0: a machine without a GPU is not an error. */
export async function doctor(options: { readonly json?: boolean }): Promise<ExitCode> {
  const { adapter, reason } = await probeWebGPU();
  const decoders = [
    await importable("node-av", () => import("node-av"), "decodes video in this process"),
    ffmpeg(),
    await importable("sharp", () => import("sharp"), "reads folders of JPEG frames"),
  ];
  const auto = adapter !== undefined && !adapter.capability.software ? "webgpu" : "wasm";
  const threads = availableParallelism();
  if (options.json === true) {
    printJson({
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
      auto,
      webgpu: adapter === undefined ? { available: false, reason } : { available: true, ...adapter },
      wasm: { threads, maxMemory: 4294967296 },
      memory: totalmem(),
      decoders,
    });
    return EXIT.ok;
  }
  const out = process.stdout;
  print(
    `${paint("bold", "machine", out)}   Node ${process.version}, ${process.platform} ${process.arch}, ${bytes(totalmem())} of memory`,
  );
  if (adapter === undefined) {
    print(`${paint("bold", "webgpu", out)}    none: ${reason ?? "no adapter answered"}`);
  } else {
    const kind = adapter.capability.software ? "software: runs on the CPU, only with --device webgpu" : "hardware";
    print(`${paint("bold", "webgpu", out)}    ${adapter.capability.name} (${kind})`);
    print(`          features: ${adapter.features.join(", ") || "none"}`);
    const { subgroups, matrix } = adapter.capability;
    const sizes = subgroups === undefined ? "none" : [...new Set([subgroups.min, subgroups.max])].join(" to ");
    const shapes = matrix.map(({ m, n, k, input, result }) => `${m}×${n}×${k} ${input} to ${result}`);
    print(`          subgroups: ${sizes}; matrices: ${shapes.join(", ") || "none"}`);
    print(
      table(["limit", "value"], limitRows(adapter))
        .split("\n")
        .map((line) => `          ${line}`)
        .join("\n"),
    );
  }
  print(`${paint("bold", "wasm", out)}      SIMD128, ${threads} thread${threads === 1 ? "" : "s"}, up to 4.0 GiB`);
  print(
    `${paint("bold", "decoders", out)}  ${decoders.map((d) => `${d.available ? paint("green", "✓", out) : paint("red", "✗", out)} ${d.name}: ${d.detail}`).join("\n          ")}`,
  );
  if (!decoders.slice(0, 2).some((d) => d.available))
    print("          no video can be decoded: install the optional package node-av, or put ffmpeg on the PATH");
  print(`${paint("bold", "auto", out)}      --device auto runs on ${paint("green", auto, out)}`);
  return EXIT.ok;
}
