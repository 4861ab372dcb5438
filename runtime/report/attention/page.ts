/**
 * Attention as a page of its own, for clips and models outside a run. Like a report it needs no other file.
 */
import { STYLE } from "../style.ts";
import { escapeText, tag } from "../svg.ts";
import type { AttentionRecord } from "./record.ts";
import { ATTENTION_STYLE, attentionSection, attentionTitle } from "./section.ts";

/** The page of a record. */
export function renderAttention(record: AttentionRecord): string {
  const synthetic = record.note.trimStart().startsWith("SYNTHETIC");
  const title = attentionTitle(record);
  return [
    "<!DOCTYPE html>\n",
    '<html lang="en">\n<head>\n<meta charset="utf-8">\n',
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
    tag("title", {}, escapeText(`${synthetic ? "SYNTHETIC · " : ""}${record.model} · attention · netc`)),
    `\n<style>${STYLE}${ATTENTION_STYLE}</style>\n</head>\n<body>\n`,
    tag(
      "header",
      {},
      tag("p", { class: "kind" }, "Attention"),
      tag("h1", {}, escapeText(record.model)),
      synthetic
        ? tag(
            "div",
            { class: "synthetic" },
            tag("strong", {}, "SYNTHETIC"),
            escapeText(record.note.trimStart().slice(9)),
          )
        : "",
    ),
    "\n<main>\n",
    tag("section", { id: "attention" }, tag("h2", {}, escapeText(title)), attentionSection(record)),
    "\n</main>\n",
    tag("footer", {}, "netc is research software and not a medical device."),
    "\n</body>\n</html>\n",
  ].join("");
}
