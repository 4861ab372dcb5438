import { configDefaults, defineConfig } from "vitest/config";

// Tests that need servers are asked for: `vitest run --mode cluster`.
export default defineConfig(({ mode }) => ({
  test: {
    include: mode === "cluster" ? ["test/cluster/**/*.test.ts"] : ["test/**/*.test.ts"],
    exclude: mode === "cluster" ? configDefaults.exclude : [...configDefaults.exclude, "test/cluster/**"],
    globalSetup: ["test/cli/build.ts"],
    // Devices and worker threads live in their own processes, so that a crash in one test file stays there.
    pool: "forks",
    // Many tests wait for others' threads and processes: two files at once leave no core idle.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
}));
