/** Weight maps: how names in a weights file become parameter paths (language 5.13). */
export interface WeightMap {
  readonly name: string;
}
