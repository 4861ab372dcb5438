/**
 * The ablation table and that of positions as LaTeX, to be `\input` into a paper: booktabs, `\pm`, and bold only where the paired test survives
 * Holm's correction.
 *
 * Dots are `\bullet` and `\circ`, so that no font has to have them. Whatever else is not plain ASCII and has no name here is
 * left as UTF-8, which LaTeX reads since 2018.
 */
import type { StudyReport } from "./model.ts";
import { EMPTY, PLACED } from "./notation.ts";
import {
  ablationNotes,
  ablationTable,
  headerRows,
  importanceTable,
  leadOf,
  syntheticWords,
  type TextColumn,
  type TextTable,
} from "./words.ts";

const NAMED: Readonly<Record<string, string>> = {
  "\\": String.raw`\textbackslash{}`,
  "{": String.raw`\{`,
  "}": String.raw`\}`,
  $: String.raw`\$`,
  "&": String.raw`\&`,
  "#": String.raw`\#`,
  "%": String.raw`\%`,
  _: String.raw`\_`,
  "~": String.raw`\textasciitilde{}`,
  "^": String.raw`\textasciicircum{}`,
  "<": "$<$",
  ">": "$>$",
  "|": "$|$",
  "±": String.raw`$\pm$`,
  "−": "$-$",
  "–": "--",
  "…": String.raw`\dots{}`,
  Δ: String.raw`$\Delta$`,
  τ: String.raw`$\tau$`,
  "→": String.raw`$\to$`,
  "÷": String.raw`$\div$`,
  "×": String.raw`$\times$`,
  "“": "``",
  "”": "''",
  [PLACED]: String.raw`$\bullet$`,
  [EMPTY]: String.raw`$\circ$`,
};

/** Plain text in LaTeX. */
export function escapeLatex(text: string): string {
  let written = "";
  for (const letter of text.replaceAll(/\s*[\r\n]+\s*/g, " ")) written += NAMED[letter] ?? letter;
  // One formula for neighbours: dots stand closer together.
  return written.replaceAll(/(\\(?:bullet|circ))\$\$/g, "$1");
}

/** A line that LaTeX does not read. */
const comment = (text: string): string => `% ${text.replaceAll(/\s*[\r\n]+\s*/g, " ")}`;

/** A cell with numbers in mathematics: `$+1.18 \pm 0.25$`. */
function cell(text: string): string {
  return /^[+−]?[\d.]+ ± [\d.]+$/.test(text)
    ? `$${text.replace("−", "-").replace("±", String.raw`\pm`)}$`
    : escapeLatex(text);
}

const ALIGN: Readonly<Record<TextColumn["align"], string>> = { left: "l", right: "r", dots: "c" };

/** In mathematics bold is another command, and the sign goes with the number. */
function bold(written: string): string {
  const [, inside] = /^\$([^$]*)\$$/.exec(written) ?? [];
  return inside === undefined ? String.raw`\textbf{${written}}` : String.raw`$\mathbf{${inside}}$`;
}

/** A table in an environment of its own, with notes below it. */
function floating(
  environment: "table" | "table*",
  { columns, rows }: TextTable,
  words: { readonly caption: string; readonly label: string; readonly notes: readonly string[] },
): readonly string[] {
  const line = (cells: readonly string[]): string => `    ${cells.join(" & ")} ${String.raw`\\`}`;
  const wide = environment === "table*";
  return [
    String.raw`\begin{${environment}}[t]`,
    String.raw`  \centering`,
    String.raw`  \caption{${escapeLatex(words.caption)}}`,
    String.raw`  \label{tab:${words.label}}`,
    ...(wide ? [String.raw`  \resizebox{\linewidth}{!}{%`] : []),
    String.raw`  \begin{tabular}{${columns.map(({ align }) => ALIGN[align]).join("")}}`,
    String.raw`    \toprule`,
    line(columns.map(({ title }) => escapeLatex(title))),
    String.raw`    \midrule`,
    ...rows.map(({ cells, bold: strong }) =>
      line(cells.map((text, index) => (strong.has(index) ? bold(cell(text)) : cell(text)))),
    ),
    String.raw`    \bottomrule`,
    String.raw`  \end{tabular}${wide ? "}" : ""}`,
    String.raw`  \par\smallskip\raggedright\footnotesize`,
    ...words.notes.map((note) => `  ${escapeLatex(note)}`),
    String.raw`\end{${environment}}`,
  ];
}

/** The ablation table and that of positions, with their captions; need the packages booktabs and graphicx. */
export function renderLatex(report: StudyReport): string {
  const ablation = ablationTable(report);
  const importance = importanceTable(report);
  const synthetic = syntheticWords(report);
  const label = report.name.replaceAll(/[^A-Za-z0-9]+/g, "-").toLowerCase();
  const marked = (words: string): string =>
    [...(synthetic === undefined ? [] : [`SYNTHETIC: ${synthetic.join(". ").replace(/^\. /, "")}`]), words].join(" ");
  return [
    comment(`Written by netc ${report.netc} for the study ${report.id}. Needs \\usepackage{booktabs,graphicx}.`),
    ...leadOf(report).map(comment),
    ...headerRows(report).map(([name, text]) => comment(`${name}: ${text}`)),
    ...(ablation.rows.length === 0
      ? ["% No training on fresh seeds has ended yet: there is no table."]
      : floating("table*", ablation, {
          caption: marked(`${report.name}: placements on fresh seeds.`),
          label,
          notes: ablationNotes(report),
        })),
    ...(importance === undefined
      ? []
      : floating("table", importance.table, {
          caption: marked(`${report.name}: what each position contributes, by the search's model.`),
          label: `${label}-positions`,
          notes: [...importance.notes, ...importance.varianceNotes],
        })),
    "",
  ].join("\n");
}
