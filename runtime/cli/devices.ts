/**
 * Which device a command uses (`--device`), as the engine finds it, or the interpreter.
 */
import type { Capability, WebGPUCapability } from "../../compiler/capability.ts";
import { WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { type Device, findDevice } from "../engine/devices.ts";
import { EngineError } from "../engine/runner.ts";
import { CommandError, EXIT } from "./exit.ts";

export type DeviceName = "auto" | "webgpu" | "wasm" | "interp";
export const DEVICE_NAMES: readonly DeviceName[] = ["auto", "webgpu", "wasm", "interp"];

/** A device to run on, and the record to compile for. */
export type Target =
  | Device
  /** The oracle compiles as for the default WebGPU record, without its schedules. */
  | { readonly device: "interp"; readonly capability: WebGPUCapability };

/**
 * Chooses the device for `--device`; `instead` says what to do where there is none.
 * @throws CommandError (exit 3) if the machine does not have it
 */
export async function chooseTarget(
  device: DeviceName,
  instead: readonly string[] = ["`--device wasm` runs on the CPU"],
): Promise<Target> {
  if (device === "interp") return { device, capability: WEBGPU_DEFAULT };
  try {
    return await findDevice(device);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new CommandError(EXIT.machine, error.message, [...instead, "`netc doctor` shows what this machine has"]);
  }
}

/** The record that `--target` names. */
export async function targetRecord(name: "webgpu-default" | "this-device" | "wasm"): Promise<Capability> {
  switch (name) {
    case "webgpu-default":
      return WEBGPU_DEFAULT;
    case "wasm":
      return WASM_DEFAULT;
    case "this-device":
      return (await chooseTarget("auto")).capability;
    default:
      return name satisfies never;
  }
}
