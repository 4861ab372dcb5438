/**
 * The confusion matrix as two figures side by side: counts, and shares of each row. A row is a true class, a column what
 * it was taken for; the darker a cell, the larger its share of the row, in both.
 */
import { type Confusion, countAt, supportOf } from "../metrics/scores.ts";
import { type Figure, label, tag, textWidth } from "./svg.ts";

const PANEL = 470;
const GAP = 30;
/** Below this size a number does not fit into a cell, and is left to the caption. */
const READABLE = 24;

/** The share from which a cell is dark enough for white numbers; below it, dark ones have the better contrast. */
const WHITE_ABOVE = 0.75;

function shorten(text: string, width: number, font: number): string {
  if (textWidth(text, font) <= width) return text;
  let kept = Array.from(text);
  while (kept.length > 1 && textWidth(`${kept.join("")}…`, font) > width) kept = kept.slice(0, -1);
  return `${kept.join("")}…`;
}

/** Draws the matrix. `name` is that of the file, `title` of the set of clips. */
export function confusionFigure(name: string, title: string, confusion: Confusion): Figure {
  const { classes } = confusion;
  const failures = classes.some((_, k) => countAt(confusion, k, "none") > 0);
  const columns: readonly (number | "none")[] = [...classes.keys(), ...(failures ? (["none"] as const) : [])];
  const left = Math.min(140, Math.max(...classes.map((text) => textWidth(text)), 40) + 16);
  const extra = 40; // the column of supports
  const size = Math.min(64, (PANEL - left - extra) / columns.length);
  // Names shrink with the cells; below the least size they would lie on each other, and the table of classes has them.
  const font = Math.min(12, size * 0.8);
  const legible = font >= 5.5;
  const seam = Math.min(1, size / 20);
  const titles = columns.map((column) => (column === "none" ? "none" : (classes[column] ?? "")));
  // Names that are wider than a column are written upwards.
  const steep = titles.some((text) => textWidth(text, font) > size - 4);
  const head = steep ? Math.min(96, Math.max(...titles.map((text) => textWidth(text, font)))) + 12 : 24;
  const top = 44 + head;
  const height = top + size * classes.length + 12;

  const panel = (x0: number, heading: string, write: (count: number, support: number) => string): string => {
    const parts = [
      label(x0, 14, heading, { fill: "var(--ink)", "font-weight": 600, "font-size": 13 }),
      label(x0 + left, 36, "predicted →"),
      label(x0 + left - 10, top - 8, "true ↓", { "text-anchor": "end" }),
      label(x0 + left + size * columns.length + 8, top - 8, "clips"),
    ];
    for (const [column, text] of titles.entries()) {
      if (!legible) break;
      const x = x0 + left + (column + 0.5) * size;
      const fill = columns[column] === "none" ? "var(--muted)" : "var(--ink)";
      const shown = shorten(text, steep ? 96 : size - 2, font);
      parts.push(
        steep
          ? tag(
              "g",
              { transform: `translate(${x + 4} ${top - 8}) rotate(-60)` },
              label(0, 0, shown, { fill, "font-size": font }),
            )
          : label(x, top - 8, shown, { "text-anchor": "middle", fill }),
      );
    }
    for (const [truth, text] of classes.entries()) {
      const support = supportOf(confusion, truth);
      const y = top + truth * size;
      const middle = y + size / 2 + font / 3;
      if (legible) {
        const name = shorten(text, left - 14, font);
        parts.push(
          label(x0 + left - 10, middle, name, { "text-anchor": "end", fill: "var(--ink)", "font-size": font }),
        );
        parts.push(label(x0 + left + size * columns.length + 8, middle, String(support), { "font-size": font }));
      }
      for (const [column, predicted] of columns.entries()) {
        const value = countAt(confusion, truth, predicted);
        const share = support === 0 ? 0 : value / support;
        const x = x0 + left + column * size;
        const own = predicted === truth;
        parts.push(
          tag("rect", {
            x: x + seam,
            y: y + seam,
            width: size - 2 * seam,
            height: size - 2 * seam,
            rx: 3 * seam,
            fill: share === 0 ? "var(--raised)" : predicted === "none" ? "var(--muted)" : "var(--cell)",
            "fill-opacity": share === 0 ? undefined : 0.1 + 0.9 * share,
          }),
        );
        if (size >= READABLE && (value > 0 || own))
          parts.push(
            label(x + size / 2, y + size / 2 + 4, write(value, support), {
              "text-anchor": "middle",
              fill: share > WHITE_ABOVE ? "var(--onCell)" : "var(--ink)",
              "font-weight": own ? 600 : undefined,
            }),
          );
      }
    }
    return parts.join("");
  };
  const percents = (count: number, support: number): string =>
    support === 0 ? "–" : String(Math.round((100 * count) / support));
  return {
    name,
    title: `Confusion matrix, ${title}`,
    caption: `Rows are true classes, columns what they were taken for${failures ? ", “none” where there was no prediction" : ""}. Left: clips. Right: percent of the row; the diagonal is the recall of each class, and its mean is the UAR.`,
    width: 2 * PANEL + GAP,
    height,
    body: panel(0, "Clips", String) + panel(PANEL + GAP, "Percent of the row", percents),
  };
}
