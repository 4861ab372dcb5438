/**
 * The checked model: what elaboration hands to the rest of the compiler.
 *
 * A model is a graph with the names a person uses for it: inputs, streams, positions, parameter paths, and how
 * weights files map onto them.
 */
import type { Diagnostic } from "../grammar/diagnostic.ts";
import type { Source } from "../grammar/source.ts";
import type { Graph, GraphNode, Init, NodeOf } from "./graph/graph.ts";
import type { WeightMap } from "./weights/map.ts";

/** A named place in a network (language 5.6): a region, the value that leaves it and the values that enter it. */
export interface Position {
  /** Full dotted path: `temporal.conv3.conv3_1`, `layer3[2].conv2`. */
  readonly path: string;
  /** Other full paths of the same position. */
  readonly aliases: readonly string[];
  /** The value that leaves; undefined if nothing after it uses the value and it was dropped from the graph. */
  readonly node: GraphNode;
  /** Name of the block instantiated there (`Conv`, `Stage`), empty for a named value. */
  readonly block: string;
}

export interface Parameter {
  /** `spatial.conv3.conv3_1.weight`. */
  readonly path: string;
  readonly node: NodeOf<"param">;
  readonly init: Init;
  readonly kind: "param" | "state";
}

export interface Model {
  readonly name: string;
  readonly graph: Graph;
  /** Stream names in order; empty for a single stream. */
  readonly streams: readonly string[];
  /**
   * What each stream gives before the streams are fused, in the order of `streams`; empty for a single stream, and where
   * the output does not need them all. A loss on the streams is taken here.
   */
  readonly streamOutputs: readonly GraphNode[];
  /** Paths of the grafted units: `stia_conv3`, `spatial.se_conv4`. The rest is the backbone. */
  readonly units: readonly string[];
  /** In order of execution, outer before inner. */
  readonly positions: readonly Position[];
  readonly parameters: readonly Parameter[];
  /** Name maps from the standard library and the file's own `weights` blocks that fit this model. */
  readonly weightMaps: readonly WeightMap[];
  /** Class names where the source gives them (`const CLASSES = […]` with as many entries as the output has). */
  readonly classes: readonly string[] | undefined;
}

/** Reads a module: the path as `import` wrote it, made absolute by `from`. `undefined`: there is no such module. */
export type Resolve = (path: string, from: Source) => Source | { readonly error: string } | undefined;

export interface Elaboration {
  /** Undefined if there were errors. */
  readonly model: Model | undefined;
  readonly diagnostics: readonly Diagnostic[];
}
