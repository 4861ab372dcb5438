/**
 * Spaces against brute force: searches made at random, each of whose points is written out by hand as a model and a
 * recipe's values and elaborated by itself.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { costOf } from "../../compiler/graph/cost.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import type { CandidateCosts } from "../../compiler/search/search.ts";
import { modelOf } from "../elaborate/programs.ts";
import { elaborateText, NET, searchIn, tiny } from "./programs.ts";

interface Known {
  readonly hash: string;
  readonly costs: CandidateCosts;
}

const known = new Map<string, Known>();

/** A model by itself. */
function alone(text: string): Known {
  const before = known.get(text);
  if (before !== undefined) return before;
  const { graph } = modelOf(`${NET}model M = ${text}`, { bind: new Map([["N", 1]]) });
  const { parameters, macs, activationBytes } = costOf(graph).total;
  const costs = { params: Number(parameters), flops: 2 * Number(macs), memory: Number(activationBytes) };
  const found = { hash: graphHash(graph), costs };
  known.set(text, found);
  return found;
}

/** Members of a set of units: what is written, and what it stands for. */
const UNITS = {
  "STIA(reduction={2, 4})": ["STIA(reduction=2)", "STIA(reduction=4)"],
  'STIA(reduction={2, 4}, direction={"both", "to_spatial"})': [
    'STIA(reduction=2, direction="both")',
    'STIA(reduction=2, direction="to_spatial")',
    'STIA(reduction=4, direction="both")',
    'STIA(reduction=4, direction="to_spatial")',
  ],
  "SE(reduction=2)": ["SE(reduction=2)"],
  "SE(reduction={2, 4})": ["SE(reduction=2)", "SE(reduction=4)"],
  none: [undefined],
} as const;
type Unit = keyof typeof UNITS;

const POSITIONS = ["conv1", "conv2", "conv3"] as const;

interface Written {
  readonly joint: readonly Unit[];
  readonly spots: readonly string[];
  readonly size: readonly [number, number] | undefined;
  readonly conditional: boolean;
  readonly gate: readonly Unit[] | undefined;
  readonly widths: readonly number[];
  readonly rates: readonly number[];
}

const units = (members: readonly Unit[], most: number): fc.Arbitrary<readonly Unit[]> =>
  fc
    .uniqueArray(fc.constantFrom(...members), { minLength: 1, maxLength: most })
    .filter((set) => set.some((u) => u !== "none"));

const searches: fc.Arbitrary<Written> = fc
  .record({
    joint: units(
      ["STIA(reduction={2, 4})", 'STIA(reduction={2, 4}, direction={"both", "to_spatial"})', "SE(reduction=2)", "none"],
      3,
    ),
    spots: fc.subarray([...POSITIONS], { minLength: 1 }),
    size: fc.option(fc.tuple(fc.nat(2), fc.nat(2)), { nil: undefined }),
    conditional: fc.boolean(),
    gate: fc.option(units(["SE(reduction={2, 4})", "SE(reduction=2)", "none"], 2), { nil: undefined }),
    widths: fc.constantFrom([8], [4, 8]),
    rates: fc.constantFrom([0.01], [0.1, 0.01, 0.001]),
  })
  .map((each) => ({
    ...each,
    size: each.size && ([Math.min(...each.size, each.spots.length), Math.min(Math.max(...each.size), 3)] as const),
  }));

function textOf({ joint, spots, size, conditional, gate, widths, rates }: Written): string {
  const sizes = size === undefined ? "" : `, size=${size[0]}..${size[1]}`;
  return [
    `  choose joint in {${joint.join(", ")}}`,
    `  choose spots in subsets({${spots.map((p) => `@${p}`).join(", ")}}${sizes})${conditional ? " when joint != none" : ""}`,
    ...(gate === undefined ? [] : [`  choose gate in {${gate.join(", ")}}`]),
    `  choose w in {${widths.join(", ")}}`,
    `  choose lr in {${rates.join(", ")}}`,
    `  model = ${tiny(`with joint at spots${gate === undefined ? "" : " with gate at conv2"}`, "(width=w)")}`,
    "  recipe = Train(lr=lr)",
  ].join("\n");
}

const expand = (set: readonly Unit[]): readonly (string | undefined)[] => set.flatMap((unit) => [...UNITS[unit]]);

function subsets(of: readonly string[]): readonly (readonly string[])[] {
  return Array.from({ length: 1 << of.length }, (_, bits) => of.filter((_member, i) => (bits >> i) & 1));
}

const modelText = (
  unit: string | undefined,
  places: readonly string[],
  gate: string | undefined,
  width: number | undefined,
): string => {
  const first = unit === undefined || places.length === 0 ? "" : `with ${unit} at ${places.join(", ")} `;
  return tiny(`${first}${gate === undefined ? "" : `with ${gate} at conv2`}`, `(width=${width})`);
};

/** Every point, and the models without and with all grafts. */
function byHand(written: Written): { readonly points: number; readonly models: ReadonlyMap<string, CandidateCosts> } {
  const models = new Map<string, CandidateCosts>();
  const { joint, spots, size, conditional, gate, widths, rates } = written;
  const add = (text: string, rate: number | undefined): void => {
    const { hash, costs } = alone(text);
    models.set(`${hash} ${rate}`, costs);
  };
  let points = 0;
  const [least, most] = size ?? [0, spots.length];
  const chosen = subsets(spots).filter((set) => set.length >= least && set.length <= most);
  for (const unit of expand(joint))
    for (const places of conditional && unit === undefined ? [[]] : chosen)
      for (const other of gate === undefined ? [undefined] : expand(gate))
        for (const width of widths)
          for (const rate of rates) {
            points++;
            add(modelText(unit, places, other, width), rate);
          }
  const middle = (numbers: readonly number[]): number | undefined => numbers[Math.floor((numbers.length - 1) / 2)];
  const first = (set: readonly Unit[]): string | undefined => expand(set.filter((unit) => unit !== "none"))[0];
  add(modelText(undefined, [], undefined, middle(widths)), middle(rates));
  add(modelText(first(joint), spots, gate && first(gate), middle(widths)), middle(rates));
  return { points, models };
}

describe("a space has the points that are written, and the models that they make", () => {
  test("for searches made at random", () => {
    fc.assert(
      fc.property(searches, (written) => {
        const wanted = byHand(written);
        const { search, diagnostics } = elaborateText(searchIn(textOf(written)));
        expect(diagnostics).toEqual([]);
        expect(search?.space.points).toBe(wanted.points);
        const figures = ({ params, flops, memory }: CandidateCosts): string => `${params} ${flops} ${memory}`;
        const candidates = search?.space.candidates ?? [];
        expect(candidates.map(({ costs }) => figures(costs)).sort()).toEqual(
          [...wanted.models.values()].map(figures).sort(),
        );
        expect(new Set(candidates.map(({ hash }) => hash)).size).toBe(candidates.length);
        expect(new Set(candidates.map(({ label }) => label)).size).toBe(candidates.length);
        expect(candidates[search?.space.none ?? -1]?.label).toMatch(/^none, w=\d+, lr=[\d.]+$/);
        expect(candidates[search?.space.all ?? -1]?.label).toContain(`{${written.spots.join(", ")}}`);
      }),
      { numRuns: 8, seed: 20261126, endOnFailure: true },
    );
  });
});
