import { writeFileSync } from "node:fs";
import { it } from "vitest";
import { exportOptuna } from "../../runtime/search/report/optuna.ts";
import { REPORT_FORMATS, renderReport, reportFiles } from "../../runtime/search/report/render.ts";
import { reportOf } from "../../runtime/search/report/report.ts";
import { fakeFindings, fakeStudy } from "./fake-study.ts";

it("x", () => {
  const full = reportOf(fakeStudy(), fakeFindings());
  for (const [name, text] of reportFiles(full, REPORT_FORMATS))
    writeFileSync(`/tmp/srep/${name.replace("/", "-").replace("report.html", "full.html")}`, text);
  writeFileSync("/tmp/srep/running.html", renderReport(reportOf(fakeStudy({ state: "running" })), "html"));
  writeFileSync("/tmp/srep/running.md", renderReport(reportOf(fakeStudy({ state: "running" })), "md"));
  writeFileSync("/tmp/srep/study.log", exportOptuna(fakeStudy()));
  writeFileSync("/tmp/srep/running.log", exportOptuna(fakeStudy({ state: "running" })));
});
