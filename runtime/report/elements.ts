/**
 * The pieces of a page: paragraphs, tables, tiles, sections, figures with their captions, and the page around them.
 *
 * In: plain text, or markup where a parameter says so. Out: markup. Plain text is escaped here.
 */
import { STYLE } from "./style.ts";
import { escapeText, type Figure, inlineFigure, tag } from "./svg.ts";

/** An element with a class, closed by its own name; `children` are markup. */
export const el = (name: string, className: string, ...children: readonly string[]): string =>
  tag(name, className === "" ? {} : { class: className }, ...children, "");

/** A number and its unit stay on one line. */
const unbroken = (words: string): string =>
  words.replaceAll(/(\d) (?=(?:%|±|(?:GiB|MiB|pt|h|min|s)\b))/g, "$1\u00a0").replaceAll("± ", "±\u00a0");

/** A paragraph of plain text. */
export const paragraph = (words: string, className = ""): string => el("p", className, escapeText(unbroken(words)));

export interface Column {
  readonly title: string;
  readonly className?: string;
}

/** A table; cells are markup. The last `sums` rows are sums. */
export function tableOf(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  className = "",
  sums = 0,
): string {
  const line = (cells: readonly string[], cell: "th" | "td", rowClass: string): string =>
    el("tr", rowClass, ...cells.map((content, index) => el(cell, columns[index]?.className ?? "", content)));
  const head = columns.some((column) => column.title !== "")
    ? tag(
        "thead",
        {},
        line(
          columns.map((column) => escapeText(column.title)),
          "th",
          "",
        ),
      )
    : "";
  const body = rows.map((row, index) => line(row, "td", index >= rows.length - sums ? "sum" : ""));
  return el("div", "wide", el("table", className, head, tag("tbody", {}, ...body)));
}

/** A column of numbers. */
export const right = (title: string): Column => ({ title, className: "r" });

/** A share as the length of a bar. */
export function bar(share: number): string {
  return tag("span", { class: "bar", style: `width:${Math.round(90 * share)}px` }, "");
}

/** Sentences below a table, a line each. */
export function remarks(sentences: readonly string[]): string {
  return el("ul", "quiet", ...sentences.map((sentence) => tag("li", {}, escapeText(unbroken(sentence)))));
}

/** Names and words, without lines. */
export function pairs(rows: readonly (readonly [string, string])[]): string {
  return tableOf(
    [{ title: "" }, { title: "" }],
    rows.map(([name, words]) => [escapeText(name), words]),
    "words",
  );
}

/** A part of the page that its navigation leads to; `content` is markup. */
function section(id: string, title: string, ...content: readonly string[]): string {
  return tag("section", { id }, el("h2", "", escapeText(title)), ...content);
}

/** Figures with their captions, side by side where there is room. */
export function figureGrid(figures: readonly Figure[]): string {
  if (figures.length === 0) return "";
  const drawn = figures.map((figure) =>
    el("figure", "", el("div", "wide", inlineFigure(figure)), el("figcaption", "", escapeText(figure.caption))),
  );
  // A figure of two panels takes the whole width.
  return el("div", figures.some((figure) => figure.width > 600) ? "figures single" : "figures", ...drawn);
}

/** A number that is to be seen first, with its name above and an aside below. */
export function tile(name: string, value: string, aside: string): string {
  const line = (className: string, content: string): string => el("div", className, escapeText(unbroken(content)));
  return el("div", "tile", line("name", name), line("value", value), line("aside", aside));
}

/** What must not be overlooked: that clips were drawn. */
export function syntheticBox(what: string, warning: string): string {
  return el("div", "synthetic", tag("strong", {}, "SYNTHETIC"), ` ${escapeText(what)}<br>`, escapeText(warning));
}

const DISCLAIMER =
  "netc is research software and not a medical device. Nothing on this page may guide the care of a person.";

export interface PageSection {
  readonly id: string;
  readonly title: string;
  /** In the navigation. */
  readonly short: string;
  /** Markup; an empty one leaves the section out. */
  readonly content: string;
}

/** A whole page; `head` is the markup between its heading and its navigation. */
export function documentOf(page: {
  /** Plain text, of the window. */
  readonly title: string;
  /** What the page is about, above its heading. */
  readonly kind: string;
  readonly heading: string;
  readonly head: string;
  readonly style?: string;
  readonly sections: readonly PageSection[];
}): string {
  const shown = page.sections.filter(({ content }) => content !== "");
  const links = shown.map(({ id, short }) => tag("a", { href: `#${id}` }, escapeText(short)));
  return [
    "<!DOCTYPE html>\n",
    '<html lang="en">\n<head>\n<meta charset="utf-8">\n',
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
    tag("title", {}, escapeText(page.title)),
    `\n<style>${STYLE}${page.style ?? ""}</style>\n</head>\n<body>\n`,
    tag(
      "header",
      {},
      el("p", "kind", escapeText(page.kind)),
      tag("h1", {}, escapeText(page.heading)),
      page.head,
      tag("nav", { "aria-label": "Sections" }, links.join(" ")),
    ),
    "\n<main>\n",
    shown.map(({ id, title, content }) => section(id, title, content)).join("\n"),
    "\n</main>\n",
    tag("footer", {}, escapeText(DISCLAIMER)),
    "\n</body>\n</html>\n",
  ].join("");
}
