import { it } from "vitest";
import { comparisonTable, scoresTable, seedsTable } from "../../runtime/report/terminal.ts";
import { fakePredictions } from "./fake.ts";

it("x", () => {
  const t = fakePredictions({ failed: 3 });
  const t0 = performance.now();
  console.log(
    scoresTable(t.header, t.clips, { metrics: [{ kind: "auc", class: "fear" }] }).join("\n"),
    performance.now() - t0,
  );
  console.log(comparisonTable(fakePredictions({ skill: 1.2, run: "base" }), t));
  const r = comparisonTable(fakePredictions({ skill: 1.2, run: "base" }), t);
  if (!("error" in r)) console.log(r.join("\n"));
  const s = seedsTable(
    [1, 2, 3, 4, 5].map((seed) => fakePredictions({ seed, skill: 1.2, run: "base" })),
    [1, 2, 3, 4, 5].map((seed) => fakePredictions({ seed, skill: 1.4, run: "b" })),
  );
  if (!("error" in s)) console.log(s.join("\n"));
});
