/**
 * The checklist for papers on architecture search (Lindauer and Hutter 2020, JMLR 21(243)), answered from the study.
 *
 * The questions are theirs in short words. What a study cannot know is said to be for the author.
 */
import { count, duration } from "../../report/text.ts";
import type { StudyReport } from "./model.ts";

type Known = Omit<StudyReport, "checklist">;

const AUTHOR = "For the author to say.";

export function checklistOf(report: Known): StudyReport["checklist"] {
  const { seeds, budget, rows, method, bestRandom, randomCurve, band, devices, choice } = report;
  const final = rows.reduce((sum, row) => sum + row.seeds.length, 0);
  const chosen = rows.find((row) => row.candidate === choice);
  const random =
    randomCurve.length > 0
      ? `Yes: ${count(randomCurve.length, "training")} at random with an equal budget.`
      : band.length > 0
        ? "An estimate: what the largest of as many random trainings would be expected to score, with its interval."
        : "No.";
  const trained = new Set(report.trials.map(({ phase }) => phase));
  return [
    {
      question: "Is there code for the training of the final models?",
      answer: `netc ${report.netc} and the study's sources, which its store keeps; search hash ${report.searchHash}.`,
    },
    { question: "Is there code for the search space?", answer: "The search block among the same sources." },
    {
      question: "Are the hyperparameters of the final training and its seeds given?",
      answer: `In the recipe of the same sources; ${count(seeds.replicates.final, "fresh seed")} for every row of the table, listed in trials.csv.`,
    },
    {
      question: "Is there code for the search method, with its hyperparameters and seeds?",
      answer: `netc's ${method.asked}; seed ${seeds.study}. The journal of ${count(report.journal.decisions, "decision")} can be checked with netc search replay.`,
    },
    {
      question: "Do all methods that are compared use the same data, space, training code and hyperparameters?",
      answer: "Within this study, yes: every trial is of one search on one data set, whose hashes are above.",
    },
    {
      question: "Are confounders controlled: hardware, versions, run time?",
      answer:
        devices.length === 1
          ? `All trials ran on ${devices[0] ?? ""}.`
          : devices.length === 0
            ? "No trial has ended yet."
            : `Trials ran on ${count(devices.length, "kind")} of device, which a column of trials.csv names: ${devices.join("; ")}.`,
    },
    {
      question: "Are there ablations?",
      answer: `${count(rows.length, "candidate")} on fresh seeds, among them ${rows.flatMap(({ roles }) => roles).filter((role) => /^(?:none|all|only|without)/.test(role)).length} of: none, all, one position only, all positions but one.`,
    },
    {
      question: "Is everything that is compared evaluated in the same way?",
      answer: `Yes: the ${report.metric.side} side, the same fresh seeds for every row, retrained from scratch.`,
    },
    {
      question: "Is performance over time compared?",
      answer: report.searchCurve.length > 0 ? "Yes: the search curve." : "No full training has ended yet.",
    },
    {
      question: "Is it compared with search at random?",
      answer: `${random}${bestRandom === undefined || !rows.some((row) => row.candidate === bestRandom.candidate) ? "" : " Its best is a row of the table."}`,
    },
    {
      question: "Were there several runs, and are the seeds reported?",
      answer: `${count(final, "final training")}${chosen === undefined ? "" : `, ${chosen.seeds.length} of the choice`}. The search itself ran once, with seed ${seeds.study}: how much its choice depends on that is not measured here.`,
    },
    {
      question: "Was the method evaluated on tabular or surrogate benchmarks?",
      answer: "Not in this study. netc's own benchmarks of its methods are on synthetic response surfaces.",
    },
    {
      question: "How were hyperparameters tuned, and what did that cost?",
      answer: trained.has("search")
        ? `Those that the search varies, by the search, within its cost. Others: ${AUTHOR.toLowerCase()}`
        : AUTHOR,
    },
    {
      question: "Is the time of the whole method reported, not of the search alone?",
      answer: `${duration(budget.deviceSeconds)} of training over all phases, ${duration(budget.overheadSeconds)} beside it, ${duration(budget.wallSeconds)} from the first start to the last end.`,
    },
    {
      question: "Are all details of the set-up reported?",
      answer: `Sources, data hash, devices, versions, seeds and every trial are in the store and in this report. Of the data: ${report.note === "" ? AUTHOR.toLowerCase() : report.note}`,
    },
  ];
}
