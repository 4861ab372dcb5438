/**
 * Mixed precision: which products multiply halves.
 *
 * A product of which one factor is stored as halves multiplies halves: the other factor is rounded too, as weights are
 * (Micikevicius et al. 2018, "Mixed Precision Training", section 3.1), and sums stay f32. It is said in the loops, so the
 * oracle and every device round at the same places, whether they have hardware for such products or not.
 */
import { type Scalar, unary } from "../scalar.ts";
import { bufferAt, loadAt, loadsOf } from "./access.ts";
import { classify } from "./contraction.ts";
import type { Draft } from "./draft.ts";
import type { Buffer, Kernel } from "./loops.ts";

/** The draft with both factors of such products rounded. Comes behind fusion, once it is known what is stored. */
export function halveFactors(draft: Draft): Draft {
  return { ...draft, run: draft.run.map((kernel) => halved(kernel, draft.buffers)) };
}

function halved(kernel: Kernel, buffers: readonly Buffer[]): Kernel {
  const [body] = kernel.body;
  if (classify(kernel, buffers) === undefined || body?.kind !== "binary") return kernel;
  const isHalf = (load: number): boolean => bufferAt(buffers, loadAt(kernel, load).buffer).dtype === "f16";
  if (!loadsOf(body).some(isHalf)) return kernel;
  const rounded = (factor: Scalar): Scalar => {
    // Zero, as padding is, is a half.
    const already = factor.kind === "load" && isHalf(factor.index) && loadAt(kernel, factor.index).otherwise === 0;
    return already ? factor : unary("half", factor);
  };
  return { ...kernel, body: [{ ...body, left: rounded(body.left), right: rounded(body.right) }] };
}
