/**
 * How wide a text stands in a terminal.
 *
 * Underlines must sit under what they mean, so a drawn source line has its tabs replaced by blanks, its control
 * characters by visible ones (a file must not be able to steer the terminal), and its wide characters counted as two.
 */

const TAB = 4;

/** Characters of no width: combining marks, joiners, variation selectors. */
const NO_WIDTH = /^(?:\p{Mn}|\p{Me}|[\u200b-\u200d]|[\ufe00-\ufe0f])$/u;
/** Characters two columns wide: East Asian letters and full-width forms, emoji. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1faff}\u{20000}-\u{3fffd}]$/u;
/** Marks that turn the direction of writing, and could make a line look like another. */
const TURNING = /^[\u202a-\u202e\u2066-\u2069]$/u;

function charWidth(char: string, column: number): number {
  if (char === "\t") return TAB - (column % TAB);
  if (NO_WIDTH.test(char)) return 0;
  return WIDE.test(char) ? 2 : 1;
}

/** Columns that `text` takes when it begins at the left edge. */
export function displayWidth(text: string): number {
  let column = 0;
  for (const char of text) column += charWidth(char, column);
  return column;
}

/** `text` (one line) as it can be printed, taking `displayWidth(text)` columns. */
export function printable(text: string): string {
  // Almost every line is plain ASCII.
  if (/^[ -~]*$/.test(text)) return text;
  let shown = "";
  let column = 0;
  for (const char of text) {
    const width = charWidth(char, column);
    if (char === "\t") shown += " ".repeat(width);
    else if (char < " ") shown += String.fromCodePoint(0x2400 + (char.codePointAt(0) ?? 0));
    else if (char === "\u007f") shown += "\u2421";
    else if (/^[\u0080-\u009f\ud800-\udfff\u2028\u2029]$/u.test(char) || TURNING.test(char)) shown += "\ufffd";
    else shown += char;
    column += width;
  }
  return shown;
}
