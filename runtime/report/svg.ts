/**
 * SVG as text: elements, escaping, and the two dresses of a figure.
 *
 * A figure's body names its colours as CSS variables. On the page they follow its light or dark scheme; a file of its
 * own gets the light colours written in, because the programs that papers are set with know no variables.
 */

/** Text for HTML and SVG, in content and in quoted attributes. Characters that XML forbids become U+FFFD. */
export function escapeText(text: string): string {
  return (
    text
      // oxlint-disable-next-line no-control-regex -- the control characters that XML forbids
      .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, "\ufffd")
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      .replaceAll("'", "&#39;")
  );
}

type Attributes = Readonly<Record<string, string | number | undefined>>;

/** An element; `children` are markup already, see `escapeText`. Numbers are rounded to hundredths. */
export function tag(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${typeof value === "number" ? round(value) : escapeText(value ?? "")}"`)
    .join("");
  return children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join("")}</${name}>`;
}

/** A number with at most two decimals. */
export function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** A line of text in a figure; its content is escaped here. */
export function label(x: number, y: number, content: string, attributes: Attributes = {}): string {
  return tag("text", { x, y, fill: "var(--muted)", ...attributes }, escapeText(content));
}

/**
 * About how wide a text of 12 px is drawn: sans-serif letters are 0.56 em wide on average, circles and squares 0.87 em,
 * wide scripts 1 em.
 */
export function textWidth(text: string, size = 12): number {
  let width = 0;
  for (const letter of text) {
    const code = letter.codePointAt(0) ?? 0;
    width += code > 0x2e80 ? 1 : code >= 0x25a0 && code < 0x2600 ? 0.87 : 0.56;
  }
  return width * size;
}

/** A drawing and its words. */
export interface Figure {
  /** Of its file, without ending: `confusion-test`. */
  readonly name: string;
  readonly title: string;
  /** What is to be seen and how to read it; a sentence or two. */
  readonly caption: string;
  readonly width: number;
  readonly height: number;
  readonly body: string;
}

/** Okabe and Ito's colours (2008), which people with any colour vision tell apart; lighter ones on dark paper. */
export const COLOURS: Readonly<Record<"light" | "dark", Readonly<Record<string, string>>>> = {
  light: {
    paper: "#ffffff",
    raised: "#f6f7f9",
    ink: "#1b1f24",
    muted: "#5b6570",
    grid: "#e3e7eb",
    a: "#0072b2",
    b: "#c44e00",
    c: "#00815f",
    d: "#a8467f",
    e: "#8a6d00",
    cell: "#0072b2",
    onCell: "#ffffff",
  },
  dark: {
    paper: "#14171b",
    raised: "#1d2126",
    ink: "#e7eaee",
    muted: "#9ba5b0",
    grid: "#2c3238",
    a: "#5cb8ee",
    b: "#f0a048",
    c: "#35c99c",
    d: "#dd97c2",
    e: "#e6d34f",
    cell: "#2f8fd0",
    onCell: "#ffffff",
  },
};

export const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/** A figure inside a page: it takes the page's colours and width. */
export function inlineFigure({ title, caption, width, height, body }: Figure): string {
  return tag(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "font-size": 12,
      "aria-label": `${title}. ${caption}`,
    },
    body,
  );
}

const MARGIN = 14;

/** A figure as a file of its own, in the light colours; `mark` is what must not get lost on its way into a paper. */
export function standaloneFigure({ title, caption, width, height, body }: Figure, mark: string): string {
  const svg = tag(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      viewBox: `${-MARGIN} ${-MARGIN} ${width + 2 * MARGIN} ${height + 2 * MARGIN}`,
      width: width + 2 * MARGIN,
      height: height + 2 * MARGIN,
      "font-family": FONT,
      "font-size": 12,
    },
    tag("title", {}, escapeText(title)),
    tag("desc", {}, escapeText(caption)),
    tag("rect", {
      x: -MARGIN,
      y: -MARGIN,
      width: width + 2 * MARGIN,
      height: height + 2 * MARGIN,
      fill: "var(--paper)",
    }),
    body,
    mark === "" ? "" : label(width, 14, mark, { "text-anchor": "end", fill: "var(--b)", "font-weight": 600 }),
  );
  return `${svg.replaceAll(/var\(--(\w+)\)/g, (whole, name: string) => COLOURS.light[name] ?? whole)}\n`;
}
