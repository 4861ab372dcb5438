/**
 * `netc check` of a file with searches: everything but the enumeration.
 */
import { describe, expect, test } from "vitest";
import { checkSearches } from "../../compiler/search/elaborate.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { resolveWith } from "../elaborate/programs.ts";
import { NET, searchIn, sourceOf, tiny } from "./programs.ts";

const checked = (text: string): ReturnType<typeof checkSearches> => checkSearches(sourceOf(text), resolveWith({}));

describe("searches are checked", () => {
  test.each(["examples/search.net", "examples/placement.net"])("in %s", (file) => {
    const { source, resolve } = openEntry(file);
    const { searches, diagnostics } = checkSearches(source, resolve);
    expect(renderDiagnostics(diagnostics)).toBe("");
    expect(searches.length).toBe(file === "examples/search.net" ? 3 : 1);
    expect(searches.at(-1)?.choices).toEqual(["spots"]);
  });

  test("all of a file, each with what is wrong with it", () => {
    const search = (name: string, lines: string): string => `search ${name} {\n${lines}\n}\n`;
    const spots = "choose spots in subsets({@conv1, @conv2})";
    const model = `model = ${tiny("with STIA at spots")}`;
    const { diagnostics } = checked(
      NET +
        search("One", `${spots}\n${model}\nspend = 0`) +
        search("Two", `${spots}\n${model}\nrecipe = Trian`) +
        search("Three", `${spots}\n${model}\nrungs = [9]`) +
        search("Four", `choose r in {3, 5}\nmodel = ${tiny("with STIA(reduction=r) at conv2")}`),
    );
    expect(diagnostics.map(({ code }) => code)).toEqual(["E0703", "E0709", "E0802", "E0311"]);
  });

  test("a space where only some points are models is no error", () => {
    const { searches, diagnostics } = checked(
      searchIn(`choose spots in subsets({@conv1, @conv22})\nmodel = ${tiny("with STIA at spots")}`),
    );
    expect(diagnostics.map(({ code }) => code)).toEqual(["W0802"]);
    expect(searches).toEqual([{ name: "S", choices: ["spots"] }]);
  });

  test("what is not given yet is not asked for", () => {
    const { searches, diagnostics } = checked(
      "search S(base: block) {\n  choose spots in subsets(@conv1..@conv3)\n  model = base ×2 with STIA at spots\n}\n",
    );
    expect(diagnostics).toEqual([]);
    expect(searches).toEqual([{ name: "S", choices: ["spots"] }]);
  });

  test("a space is not enumerated for it", () => {
    const begun = process.cpuUsage();
    const { diagnostics } = checked(
      searchIn(
        `${"abcdefgh"
          .split("")
          .map((name) => `choose ${name} in 1..99`)
          .join("\n")}\nmodel = ${tiny("", "(width=a + b + c + d + e + f + g + h)")}`,
      ),
    );
    expect(diagnostics).toEqual([]);
    const { user, system } = process.cpuUsage(begun);
    expect((user + system) / 1e6).toBeLessThan(2);
  });
});
