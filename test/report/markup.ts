/** What tests ask of markup: that it is well formed, and what a reader sees of it. */
import { expect } from "vitest";

const VOID = new Set(["meta", "br"]);

/**
 * The names of the open elements at the end of `markup` must be none: every tag is closed by its own name. Fails on a
 * stray `<`, an unquoted attribute, or an `&` that begins no reference.
 */
export function expectWellFormed(markup: string): void {
  const open: string[] = [];
  let rest = markup.replace(/^<!DOCTYPE html>\n/, "").replace(/<style>[^<]*<\/style>/g, "");
  while (rest !== "") {
    const text = /^[^<]+/.exec(rest)?.[0];
    if (text !== undefined) {
      expect(text.replace(/&(?:amp|lt|gt|quot|#39);/g, "")).not.toMatch(/[&>]/);
      rest = rest.slice(text.length);
      continue;
    }
    const tag = /^<(\/?)([a-zA-Z][\w-]*)((?: [\w:-]+="[^"<]*")*)(\/?)>/.exec(rest);
    if (tag === null) throw new Error(`not well formed: ${rest.slice(0, 80)}`);
    const [whole, closes, name = "", , empty] = tag;
    if (closes === "/") expect(open.pop(), `</${name}>`).toBe(name);
    else if (empty !== "/" && !VOID.has(name)) open.push(name);
    rest = rest.slice(whole.length);
  }
  expect(open).toEqual([]);
}

/** The text that a reader sees, with single spaces. */
export function visible(html: string): string {
  return html
    .replace(/<style>[^<]*<\/style>/g, "")
    .replace(/<[^>]*>/g, " ")
    .replaceAll("&#39;", "'")
    .replace(/\s+/g, " ");
}
