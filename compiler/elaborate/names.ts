import type { Module, Program } from "./modules.ts";
export function checkNames(_program: Program, _module: Module): void {}
