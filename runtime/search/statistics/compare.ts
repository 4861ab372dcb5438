/** The final table's tests: every finalist against a reference, on the same seeds, corrected for their number. */
import { holm, type SeedDifference, seedDifference } from "../../metrics/intervals.ts";

/** Values of one candidate on the final seeds, by replicate. */
export interface Arm {
  readonly name: string;
  readonly values: ReadonlyMap<number, number>;
}

export interface ArmDifference {
  readonly name: string;
  readonly reference: string;
  /** Arm minus reference, paired by replicate. */
  readonly difference: SeedDifference;
  /** p after Holm's correction over all comparisons asked for; NaN with fewer than two pairs. */
  readonly corrected: number;
}

/**
 * Paired differences of every arm to every reference (`none`, the best of random search), with t intervals, and p values
 * corrected over all of them together. Replicates that either lacks are left out; an arm is not compared with itself.
 */
export function compareArms(arms: readonly Arm[], references: readonly Arm[]): readonly ArmDifference[] {
  const compared = references.flatMap((reference) =>
    arms
      .filter(({ name }) => name !== reference.name)
      .map((arm) => {
        const shared = [...arm.values.keys()].filter((replicate) => reference.values.has(replicate));
        const of = ({ values }: Arm): readonly number[] =>
          shared.map((replicate) => values.get(replicate) ?? Number.NaN);
        return { name: arm.name, reference: reference.name, difference: seedDifference(of(reference), of(arm)) };
      }),
  );
  const corrected = holm(compared.map(({ difference }) => difference.p));
  return compared.map((each, index) => ({ ...each, corrected: corrected[index] ?? Number.NaN }));
}
