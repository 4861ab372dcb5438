export interface KillTest {
  /** How often to kill. */
  readonly kills: number;
  /** Of the moments. */
  readonly seed?: number;
  /** Of each of two stages. */
  readonly epochs?: number;
  readonly log?: (text: string) => void;
}

/** Kills training at random moments and resumes it; throws where the parameters differ from those of a peaceful run. */
export function killTest(options: KillTest): Promise<{
  readonly killed: number;
  readonly runs: number;
  readonly resumed: number;
  readonly updates: number;
}>;
