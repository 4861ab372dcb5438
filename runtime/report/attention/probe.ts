/**
 * The script of the page: a click on a place of one stream's picture shows where that place looks in the other.
 *
 * It runs in a browser, on the markup that section.ts writes, and needs nothing else. Without it the page shows all
 * places together. The drawing functions are those that made the still pictures, as text.
 */
import { enlarge, heat, INFERNO } from "./colours.ts";
import { ROW_RANGE } from "./record.ts";

/** Pixels of a heat map's side, still or probed. */
export const HEAT_SIDE = 96;

const BEHAVIOUR = `
const scale = ${JSON.stringify(INFERNO)}, side = ${HEAT_SIDE};
for (const hint of document.querySelectorAll(".probe-hint")) hint.hidden = false;
for (const pair of document.querySelectorAll(".pair")) {
  const source = pair.querySelector(".source .pic");
  const targets = [...pair.querySelectorAll(".target")].map((element) => {
    const { rows, size, at, peaks, weights, low, high } = element.dataset;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    canvas.hidden = true;
    const still = element.querySelector(".heat");
    canvas.style.cssText = still.style.cssText;
    still.after(canvas);
    return {
      canvas, still, says: element.querySelector(".says"), together: element.querySelector(".says").textContent,
      rows: Uint8Array.from(atob(rows), (letter) => letter.charCodeAt(0)),
      size: size.split(",").map(Number), peaks: peaks.split(",").map(Number),
      at: at.split(" ").map((pair) => pair.split(",").map(Number)),
      share: weights === "softmax"
        ? (byte, peak) => (byte === 0 ? 0 : Math.log((peak * ${ROW_RANGE} ** (byte / 255 - 1)) / low) / Math.log(high / low))
        : (byte, peak) => ((peak * byte) / 255 - low) / (high - low || 1),
      unit: weights === "softmax" ? "× even" : "",
    };
  });
  if (!source || targets.length === 0) continue;
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.hidden = true;
  source.append(mark);
  source.tabIndex = 0;
  source.classList.add("live");
  source.setAttribute("role", "application");
  source.setAttribute("aria-label", source.dataset.label);
  let here;
  const nearest = (at, [x, y]) =>
    at.reduce((best, [px, py], i) => (Math.hypot(px - x, py - y) < Math.hypot(at[best][0] - x, at[best][1] - y) ? i : best), 0);
  const show = (place) => {
    const first = place && targets[0].at[nearest(targets[0].at, place)];
    here = first && here && first[0] === here[0] && first[1] === here[1] && place.again ? undefined : first;
    mark.hidden = !here;
    if (here) mark.style.cssText = "left:" + here[0] + "%;top:" + here[1] + "%";
    for (const { canvas, still, says, together, rows, size: [height, width], at, peaks, share, unit } of targets) {
      canvas.hidden = !here;
      still.hidden = !!here;
      says.textContent = together;
      if (!here) continue;
      const index = nearest(at, here), length = height * width;
      const shares = Array.from(rows.subarray(index * length, (index + 1) * length), (byte) =>
        Math.min(1, Math.max(0, share(byte, peaks[index]))));
      const values = enlarge(shares, width, height, side);
      const context = canvas.getContext("2d"), image = context.createImageData(side, side);
      values.forEach((value, i) => image.data.set(heat(scale, value), 4 * i));
      context.putImageData(image, 0, 0);
      says.textContent = "From the marked place. Brightest: " + (peaks[index] < 10 ? peaks[index].toPrecision(2) : peaks[index].toFixed(0)) + unit;
    }
  };
  source.addEventListener("click", (event) => {
    const box = source.getBoundingClientRect();
    show(Object.assign([(100 * (event.clientX - box.left)) / box.width, (100 * (event.clientY - box.top)) / box.height], { again: true }));
  });
  source.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") show(undefined);
    if (!move) return;
    event.preventDefault();
    const [columns, rows] = [0, 1].map((axis) => new Set(targets[0].at.map((place) => place[axis])).size);
    show(here ? [here[0] + (move[0] * 100) / columns, here[1] + (move[1] * 100) / rows] : [50, 50]);
  });
}`;

/** The text of the script. It holds no `<`-tag and no name from a file. */
export const PROBE_SCRIPT: string = `(() => {\n"use strict";\n${heat.toString()}\n${enlarge.toString()}${BEHAVIOUR}\n})();`;
