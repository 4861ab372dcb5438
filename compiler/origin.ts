/**
 * Origins: where a value of the compiled network came from.
 *
 * Every value carries the source that made it and, through `parent`, the calls that led there, innermost first: the
 * `conv2d` inside `Conv`, inside `Stage`, inside `VGG16`, inside the headline. Messages walk this chain; printers show
 * its ends.
 */
import type { Span } from "../grammar/source.ts";

export interface Origin {
  readonly span: Span;
  /** What happened here, in words for a label: "halved by `stride=2`", "in this use of `Down`, with c = 128". */
  readonly note?: string;
  /** The call that this happened inside of. */
  readonly parent?: Origin;
}
