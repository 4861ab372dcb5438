/**
 * Checkpointed regions: parts of a network whose inner values are not kept for the backward pass.
 *
 * Elaboration gives each application of something marked `#[checkpoint]` a region of its own, and its nodes carry it
 * through every pass, as they carry their layer; it is no part of what they compute. `differentiate` reads it
 * (checkpoint.ts).
 */

export interface Region {
  /** Unique in its model. */
  readonly id: number;
  /** The region around this one. */
  readonly parent?: Region | undefined;
}

/** Whether `region` is `outer` or lies inside it; everything lies inside of no region. */
export function isWithin(region: Region | undefined, outer: Region | undefined): boolean {
  for (let at = region; at !== undefined; at = at.parent) if (at === outer) return true;
  return outer === undefined;
}

/** The innermost region around both. */
export function commonRegion(a: Region | undefined, b: Region | undefined): Region | undefined {
  let common = a;
  while (!isWithin(b, common)) common = common?.parent;
  return common;
}
