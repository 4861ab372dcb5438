/** What a survey of latencies will do, and what it found, in words: for a plan, a run and a report. */
import type { LatencySurvey, Search } from "../../../compiler/search/search.ts";
import { count, grouped, percent, significant } from "../../report/text.ts";
import { isShared } from "./quiet.ts";
import type { Survey } from "./survey.ts";

/** `9 models, 30 passes of one example each at least` */
export function surveyText({ models, fit, check, each }: Survey): string {
  const passes = "30 passes of one example each at least";
  return each
    ? `${count(models.length, "model")}, ${passes}`
    : `${fit.length + check.length} of ${grouped(models.length)} models, ${passes}, and predicts the others from ${fit.length} of these (the other ${check.length} check the predictions)`;
}

/** How good the predictions are; empty where there are none. */
function checkText({ check }: LatencySurvey): string {
  return check === undefined
    ? ""
    : `; the others are predicted, ${percent(check.median)} off in the median and ${percent(check.most)} at most on ${count(check.models, "model")} that the predictions had not seen`;
}

/** `9 models measured on NVIDIA H100, 30 passes each at least; …` */
export function foundText(survey: LatencySurvey): string {
  const { device, measured, models, busy } = survey;
  const runs = Math.min(...measured.map((one) => one.runs));
  const of = measured.length === models ? count(models, "model") : `${measured.length} of ${grouped(models)} models`;
  const shared = isShared(busy)
    ? `; other programs took ${percent(busy)} of the processors meanwhile, so times may be too long`
    : "";
  return `${of} measured on ${device} before any training, ${runs} passes of one example each at least${checkText(survey)}${shared}`;
}

/** What a person reads once latencies are known. */
export function latencyLines({ latency, space, latencyLimit }: Search): readonly string[] {
  if (latency === undefined) return [];
  const known = space.candidates.flatMap(({ latency: own }) => (own === undefined ? [] : [own]));
  const times = known.map(({ milliseconds }) => milliseconds);
  const slow = known.filter(({ refuses }) => refuses).length;
  const limit =
    latencyLimit === undefined
      ? ""
      : `; ${slow === 0 ? "none is" : `${grouped(slow)} of ${grouped(known.length)} candidates are`} above the limit of ${significant(latencyLimit, 3)} ms`;
  return [
    `latency ${significant(Math.min(...times), 3)} to ${significant(Math.max(...times), 3)} ms${limit}`,
    foundText(latency),
  ];
}
