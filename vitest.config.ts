import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/cli/build.ts"],
    // Devices and worker threads live in their own processes, so that a crash in one test file stays there.
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
