/** The views that `netc inspect --stage` shows, in the order of the compiler's work. */
export const STAGES = ["shapes", "positions", "cost", "recipe", "graph", "loop", "plan", "wgsl"] as const;
export type Stage = (typeof STAGES)[number];
