/** Triangular factors of small symmetric matrices, row by row in one array, and systems solved with them. */

/**
 * The lower factor L with L Lᵀ = A; undefined if A is not positive definite.
 * @param matrix `size` × `size`, of which the lower half is read
 */
export function cholesky(matrix: Float64Array, size: number): Float64Array | undefined {
  const lower = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    const row = i * size;
    for (let j = 0; j <= i; j++) {
      const other = j * size;
      let sum = matrix[row + j] ?? 0;
      for (let k = 0; k < j; k++) sum -= (lower[row + k] ?? 0) * (lower[other + k] ?? 0);
      if (j < i) lower[row + j] = sum / (lower[other + j] ?? 1);
      else {
        if (!(sum > 0)) return undefined;
        lower[row + i] = Math.sqrt(sum);
      }
    }
  }
  return lower;
}

/**
 * Solves L X = B in place for many right-hand sides.
 * @param right `used` rows of `columns` values each
 * @param used how many rows of L to use, at most `size`
 */
export function solveLower(
  lower: Float64Array,
  size: number,
  used: number,
  right: Float64Array,
  columns: number,
): void {
  for (let i = 0; i < used; i++) {
    const own = right.subarray(i * columns, (i + 1) * columns);
    for (let j = 0; j < i; j++) {
      const factor = lower[i * size + j] ?? 0;
      if (factor === 0) continue;
      const at = j * columns;
      for (let c = 0; c < columns; c++) own[c] = (own[c] ?? 0) - factor * (right[at + c] ?? 0);
    }
    const diagonal = lower[i * size + i] ?? 1;
    for (let c = 0; c < columns; c++) own[c] = (own[c] ?? 0) / diagonal;
  }
}

/** Solves Lᵀ x = b in place. */
export function solveUpper(lower: Float64Array, size: number, used: number, right: Float64Array): void {
  for (let i = used - 1; i >= 0; i--) {
    let sum = right[i] ?? 0;
    for (let j = i + 1; j < used; j++) sum -= (lower[j * size + i] ?? 0) * (right[j] ?? 0);
    right[i] = sum / (lower[i * size + i] ?? 1);
  }
}
