/**
 * The identity of a network: SHA-256 over what it computes.
 *
 * Two graphs have one hash if they apply the same operators with the same attributes to values of the same shapes and
 * parameters of the same paths. Node ids, the order of independent nodes, names of layers and of outputs, origins and
 * the file's formatting play no part. Used for caches, result tables and to tell whether weights fit.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { canonicalText } from "./builder.ts";
import type { Graph, GraphNode } from "./graph.ts";

/** 64 hexadecimal digits. */
export function graphHash(graph: Graph): string {
  // A node's digest contains those of its inputs, so the digests of the outputs say everything.
  const digests = new Map<GraphNode, string>();
  const of = (node: GraphNode): string => digests.get(node) ?? "";
  for (const node of graph.nodes) {
    const { op, attrs, shape, dtype } = node;
    digests.set(node, digest([op, attrs, shape, dtype, node.inputs.map(of)]));
  }
  return digest([graph.inputs.map(of), graph.outputs.map((o) => of(o.node))]);
}

function digest(content: unknown): string {
  return bytesToHex(sha256(utf8ToBytes(canonicalText(content))));
}
