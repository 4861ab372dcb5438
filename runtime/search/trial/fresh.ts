/** Parameters of a model that nobody has trained. */
import type { Model } from "../../../compiler/model.ts";
import { initialise } from "../../engine/init.ts";
import type { Values } from "../../train/trainer.ts";

/** Parameters from the seed, as a run without `--weights` has them. */
export function freshValues(model: Model, seed: number): Values {
  const parameters = new Map(model.parameters.map((parameter) => [parameter.path, parameter]));
  return (path) => {
    const parameter = parameters.get(path);
    if (parameter === undefined) return undefined;
    const { init, node } = parameter;
    const shape = node.shape.map(Number);
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    const upload = { path, shape, dtype: node.dtype, init, rows: undefined, order: undefined, allocation: 0 };
    initialise(upload, seed, values);
    return values;
  };
}
