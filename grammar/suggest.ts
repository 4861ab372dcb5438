/**
 * "Did you mean …?": finds the known name that a wrong one was probably meant to be.
 *
 * Used for words of the language, names, parameters, positions and settings alike.
 */

/**
 * The candidate most like `word`, or undefined if none is near enough.
 *
 * Nearness is the Damerau-Levenshtein distance (letters added, left out, changed, or two neighbours swapped) between the
 * lower-case spellings, with half an edit for a difference in case. A longer candidate that begins with `word` counts
 * as near. Among equals the first given wins. `word` itself is never suggested.
 */
export function suggest(word: string, candidates: Iterable<string>): string | undefined {
  const lower = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    if (candidate === word) continue;
    const other = candidate.toLowerCase();
    const longest = Math.max(lower.length, other.length);
    const limit = longest <= 3 ? 1 : longest <= 7 ? 2 : 3;
    const isPrefix = lower.length >= 3 && other.startsWith(lower);
    if (!isPrefix && Math.abs(lower.length - other.length) > limit) continue;
    const edits = editDistance(lower, other);
    if (edits > limit && !isPrefix) continue;
    // A prefix is a better guess than any two edits, however much of the name is missing.
    const distance = (isPrefix ? Math.min(edits, 1.5) : edits) + (edits === 0 || sameCase(word, candidate) ? 0 : 0.5);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** True if both begin with a capital or neither does: `Conv` is more like `Cone` than like `cone`. */
function sameCase(a: string, b: string): boolean {
  return /^[A-Z]/.test(a) === /^[A-Z]/.test(b);
}

/** Damerau-Levenshtein distance in its restricted form: no letter takes part in two edits. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
