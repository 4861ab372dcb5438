/** Stores in memory and in SQLite's files: the common behaviour. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { openStore } from "../../runtime/search/store/open.ts";
import { behavesAsAStore } from "./store-behaviour.ts";

const at = mkdtempSync(join(tmpdir(), "netc-store-"));
afterAll(() => rmSync(at, { recursive: true, force: true }));

behavesAsAStore("SQLite", {
  fresh: async () => {
    const address = mkdtempSync(join(at, "store-"));
    return { address, open: (options) => openStore(address, options) };
  },
  runs: 20,
});
