/**
 * Dead code of L3: locals that nothing reads.
 *
 * Schedules name coordinates before they know which of them an address will need; what was not needed goes here, so
 * that the rendered text shows only what runs.
 */
import { childrenOf } from "./build.ts";
import type { Expr, Stmt } from "./ir.ts";

/** The body without immutable locals that are never read. */
export function prune(body: readonly Stmt[]): readonly Stmt[] {
  const read = new Set<string>();
  const see = (e: Expr): void => {
    if (e.kind === "var") read.add(e.name);
    childrenOf(e).forEach(see);
  };
  // From the end to the start: a reader stands after what it reads.
  const block = (statements: readonly Stmt[]): readonly Stmt[] => {
    const kept: Stmt[] = [];
    for (const s of [...statements].reverse()) {
      switch (s.kind) {
        case "let":
          if (!read.has(s.name)) continue;
          see(s.value);
          kept.push(s);
          break;
        case "var":
        case "assign":
          see(s.value);
          kept.push(s);
          break;
        case "store":
          see(s.index);
          see(s.value);
          kept.push(s);
          break;
        case "for": {
          const inner = block(s.body);
          see(s.from);
          see(s.to);
          kept.push({ ...s, body: inner });
          break;
        }
        case "if": {
          const [then, otherwise] = [block(s.then), block(s.otherwise)];
          see(s.condition);
          kept.push({ ...s, then, otherwise });
          break;
        }
        case "matrix-load":
        case "matrix-store":
          see(s.index);
          kept.push(s);
          break;
        case "matrix-result":
        case "matrix-multiply":
        case "barrier":
        case "comment":
          kept.push(s);
          break;
        default:
          s satisfies never;
      }
    }
    return kept.reverse();
  };
  return block(body);
}
