/** Random chains of views, and random windows: every index map against the graph's definition. */
import * as fc from "fast-check";
import { expect, it } from "vitest";
import type { GraphNode } from "../../compiler/graph/graph.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { difference, dims, Net, randomValues } from "./nets.ts";

function check(net: Net): void {
  const graph = net.graph();
  const { inputs, params } = randomValues(graph);
  const expected = evaluateGraph(graph, inputs, params);
  for (const fuse of [false, true]) {
    const loops = lowerGraph(graph, { panelWidth: fuse ? 4 : 0, maxBufferBytes: fuse ? 256 : 1 << 28, fuse });
    expect(verifyLoops(loops)).toEqual([]);
    const got = interpret(loops, inputs, params);
    graph.outputs.forEach(({ name }, i) => expect(difference(got.get(name), expected[i])).toBeLessThan(1e-11));
  }
}

/** All ways to write `total` as a product of up to four factors above 1, with now and then a 1. */
function factorisation(total: number, choices: readonly number[]): number[] {
  const shape: number[] = [];
  let rest = total;
  for (const choice of choices.slice(0, 3)) {
    const divisors = Array.from({ length: rest }, (_, i) => i + 1).filter((d) => rest % d === 0);
    const divisor = divisors[choice % divisors.length] ?? 1;
    shape.push(divisor);
    rest /= divisor;
  }
  return [...shape, rest];
}

function movement(net: Net, x: GraphNode, kind: number, choices: readonly number[]): GraphNode {
  const shape = dims(x);
  const [a = 0, b = 0] = choices;
  switch (kind) {
    case 0:
      return net.reshape(
        x,
        factorisation(
          shape.reduce((p, q) => p * q, 1),
          choices,
        ),
      );
    case 1: {
      const rest = shape.map((_, d) => d);
      const order = shape.map((_, i) => rest.splice((choices[i] ?? 0) % rest.length, 1)[0] ?? 0);
      return net.permute(x, order);
    }
    case 2: {
      const axis = a % shape.length;
      const start = b % (shape[axis] ?? 1);
      return net.slice(x, axis, start, (shape[axis] ?? 1) - start);
    }
    case 3:
      return net.concat([x, net.unary("sin", x)], a % shape.length);
    default:
      return net.unary("cos", x);
  }
}

const steps = fc.array(fc.tuple(fc.nat(4), fc.array(fc.nat(1000), { minLength: 4, maxLength: 4 })), { maxLength: 7 });

it("chains of reshapes, permutations, slices, concatenations and functions", () => {
  fc.assert(
    fc.property(fc.constantFrom([2, 3, 4, 5], [6, 10], [4, 1, 9], [36], [2, 2, 2, 6]), steps, (shape, chain) => {
      const net = new Net();
      let x = net.input("x", shape);
      for (const [kind, choices] of chain) x = movement(net, x, kind, choices);
      const [n = 1, ...rest] = dims(x);
      const flat = net.reshape(x, [n, rest.reduce((p, q) => p * q, 1)]);
      net.output("y", x).output("z", net.linear(flat, net.param("w", [5, dims(flat)[1] ?? 1])));
      check(net);
    }),
    { numRuns: 100, seed: 11 },
  );
});

it("windows of convolutions and pools", () => {
  const pair = (min: number, max: number) => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));
  fc.assert(
    fc.property(
      fc.record({
        size: pair(3, 9),
        kernel: pair(1, 3),
        stride: pair(1, 3),
        pad: pair(0, 2),
        dilation: pair(1, 2),
        groups: fc.constantFrom(1, 1, 2, 3),
        channels: fc.constantFrom(6, 12),
        outputs: fc.constantFrom(6, 18),
        batch: fc.constantFrom(1, 2),
        last: fc.boolean(),
      }),
      ({ size, kernel, stride, pad, dilation, groups, channels, outputs, batch, last }) => {
        fc.pre([0, 1].every((d) => (size[d] ?? 0) + 2 * (pad[d] ?? 0) > (dilation[d] ?? 0) * ((kernel[d] ?? 0) - 1)));
        fc.pre([0, 1].every((d) => 2 * (pad[d] ?? 0) <= (kernel[d] ?? 0)));
        const net = new Net();
        // Sometimes the picture is a view of tokens, [N, H·W, C].
        const [h, w] = size;
        const x = last
          ? net.permute(
              net.reshape(net.unary("sin", net.input("x", [batch, h * w, channels])), [batch, h, w, channels]),
              [0, 3, 1, 2],
            )
          : net.input("x", [batch, channels, h, w]);
        const weight = net.param("w", [outputs, channels / groups, ...kernel]);
        net.output(
          "conv",
          net.relu(net.conv2d(x, weight, net.param("b", [outputs]), { stride, pad, dilation, groups })),
        );
        if (h + 2 * pad[0] >= kernel[0] && w + 2 * pad[1] >= kernel[1]) {
          net.output("max", net.unary("exp", net.maxPool(x, kernel, stride, pad)));
          net.output("avg", net.avgPool(x, kernel, stride, pad, false));
        }
        check(net);
      },
    ),
    { numRuns: 60, seed: 12 },
  );
});

/** A random operator on earlier values, all [2, 6, 4, 4] again, so that any of them may meet any other. */
function anyOperator(net: Net, earlier: readonly GraphNode[], kind: number, a: number, b: number): GraphNode {
  const shape = [2, 6, 4, 4];
  const pick = (choice: number): GraphNode => earlier[choice % earlier.length] ?? net.input("x", shape);
  const [x, y] = [pick(a), pick(b)];
  const name = String(earlier.length);
  switch (kind) {
    case 0:
      return net.binary((["add", "sub", "mul", "max"] as const)[b % 4] ?? "add", x, y);
    case 1:
      return net.relu(x);
    case 2:
      return net.unary((["sin", "tanh", "neg"] as const)[b % 3] ?? "sin", x);
    case 3:
      return net.conv2d(x, net.param(`w${name}`, [6, 6, 3, 3]), net.param(`b${name}`, [6]), { pad: [1, 1] });
    case 4:
      return net.batchNorm(net.conv2d(x, net.param(`w${name}`, [6, 6, 1, 1]), undefined), `bn${name}`);
    case 5:
      return net.maxPool(x, [3, 3], [1, 1], [1, 1]);
    case 6:
      return net.softmax(x, b % 4);
    case 7:
      return net.binary("sub", x, net.reduce(y, "mean", [[1], [2, 3], [0]][b % 3] ?? [1], true));
    case 8: {
      const tokens = net.reshape(net.permute(x, [0, 2, 3, 1]), [2, 16, 6]);
      const mixed = net.matmul(net.matmul(tokens, net.permute(tokens, [0, 2, 1])), tokens);
      return net.binary("add", net.permute(net.reshape(mixed, [2, 4, 4, 6]), [0, 3, 1, 2]), y);
    }
    case 9:
      return net.concat([net.slice(x, 1, 2, 4), net.slice(y, 1, 0, 2)], 1);
    default:
      return net.permute(x, [0, 1, 3, 2]);
  }
}

it("operators on whatever came before, with several outputs", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(10), fc.nat(100), fc.nat(100)), { minLength: 2, maxLength: 10 }),
      fc.nat(100),
      (steps, other) => {
        const net = new Net();
        const values = [net.input("x", [2, 6, 4, 4])];
        for (const [kind, a, b] of steps) values.push(anyOperator(net, values, kind, a, b));
        const also = values[other % values.length];
        if (also !== undefined) net.output("also", also);
        check(net.output("y", values.at(-1) ?? net.constant(0)));
      },
    ),
    { numRuns: 50, seed: 13 },
  );
});
