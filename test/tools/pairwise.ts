/**
 * Pairwise covering sets: few combinations in which every two values of different parameters meet.
 *
 * Most faults need two circumstances at once (an odd size and a certain plan), hardly any needs three (Kuhn, Wallace and
 * Gallo 2004), so this is what a test of many parameters can afford.
 */

/** Rows that together hold every pair of values; deterministic. */
export function pairwise<T extends Record<string, readonly unknown[]>>(
  parameters: T,
): { readonly [K in keyof T]: T[K][number] }[] {
  const names = Object.keys(parameters);
  const choices = names.map((name) => parameters[name] ?? []);
  const open = new Set<string>();
  const pair = (a: number, x: number, b: number, y: number): string => `${a}:${x},${b}:${y}`;
  choices.forEach((xs, a) =>
    choices.slice(0, a).forEach((ys, b) => xs.forEach((_, x) => ys.forEach((__, y) => open.add(pair(a, x, b, y))))),
  );
  const rows: number[][] = [];
  while (open.size > 0) {
    // Start from a pair that is still missing, then give every other parameter the value that closes most pairs.
    const [first = ""] = open;
    const fixed = new Map(first.split(",").map((part) => part.split(":").map(Number) as [number, number]));
    const row = choices.map((_, a) => fixed.get(a) ?? -1);
    choices.forEach((xs, a) => {
      if (row[a] !== -1) return;
      const gain = (x: number): number =>
        row.filter((y, b) => y !== -1 && open.has(b < a ? pair(a, x, b, y) : pair(b, y, a, x))).length;
      const start = rows.length % xs.length;
      row[a] = xs.map((_, x) => (x + start) % xs.length).reduce((best, x) => (gain(x) > gain(best) ? x : best));
    });
    row.forEach((x, a) => row.slice(0, a).forEach((y, b) => open.delete(pair(a, x, b, y))));
    rows.push(row);
  }
  return rows.map(
    (row) =>
      Object.fromEntries(names.map((name, a) => [name, choices[a]?.[row[a] ?? 0]])) as { [K in keyof T]: T[K][number] },
  );
}
