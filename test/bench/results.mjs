/**
 * What the benchmark does without running anything: its command line, rows from samples, tables, ratios.
 *
 * Results are JSON: where and when, and a row for each workload and device. `--against` takes such a file, or the results
 * of other libraries on the same workloads: `{ table: { WORKLOAD: { NAME: { ok, ms, best_ms, cpu_ms, … } } } }`.
 */
import { bytes, table } from "../../dist/runtime/report/text.js";

export const USAGE = `npm run bench -- [options]
  --quick               one short round; on WebGPU only the small workloads; under a minute
  --json                print one JSON value, and progress on standard error
  --against FILE        print ratios to results of before, or of other libraries
  --workloads A,B       only these
  --devices A,B         wasm, webgpu (default: both)
  --adapter NAME        swiftshader (default: the test suite's), or system: the one that WebGPU finds here
  --rounds N            fresh processes of each workload on each device, in turns (default: 3)`;

export const DEVICES = ["wasm", "webgpu"];
export const ADAPTERS = ["swiftshader", "system"];

/** Options from the command line; throws an `Error` with what is wrong and what there is. */
export function parseArguments(words, workloads) {
  const options = {
    quick: false,
    json: false,
    against: undefined,
    workloads: undefined,
    devices: DEVICES,
    adapter: "swiftshader",
    rounds: undefined,
  };
  const chosen = (word, text, from) => {
    const names = text.split(",").filter((name) => name !== "");
    const unknown = names.find((name) => !from.includes(name));
    if (unknown !== undefined || names.length === 0)
      throw new Error(`${word}: there is no \`${unknown ?? ""}\`; choose from ${from.join(", ")}`);
    return names;
  };
  const rest = [...words];
  const value = (word) => {
    const next = rest.shift();
    if (next === undefined) throw new Error(`${word} wants a value\n\n${USAGE}`);
    return next;
  };
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    switch (word) {
      case "--quick":
      case "--json":
        options[word.slice(2)] = true;
        break;
      case "--against":
        options.against = value(word);
        break;
      case "--workloads":
        options.workloads = chosen(word, value(word), workloads);
        break;
      case "--devices":
        options.devices = chosen(word, value(word), DEVICES);
        break;
      case "--adapter":
        [options.adapter] = chosen(word, value(word), ADAPTERS);
        break;
      case "--rounds": {
        const text = value(word);
        options.rounds = Number(text);
        if (!Number.isSafeInteger(options.rounds) || options.rounds < 1)
          throw new Error(`--rounds: \`${text}\` is not a whole number from 1 up`);
        break;
      }
      default:
        throw new Error(`there is no option \`${word}\`\n\n${USAGE}`);
    }
  }
  return { ...options, rounds: options.rounds ?? (options.quick ? 1 : 3) };
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * A row from the samples of one workload on one device, one a round: medians of the rounds, and the least of all runs.
 * Times in ms. `cold` is the first run of a process, `first` the time from its start to its first result.
 */
export function rowOf(workload, device, flops, samples) {
  const good = samples.filter(({ failed }) => failed === undefined);
  const failed = samples.find((sample) => sample.failed !== undefined)?.failed;
  const [one] = good;
  if (one === undefined || failed !== undefined) return { workload, device, failed: failed ?? "no result" };
  const middle = (of) => median(good.map(of));
  const ms = middle((sample) => sample.median);
  const facts = ["kernels", "dispatches", "macs", "bytes", "deviceBytes"].map((name) => [name, one[name]]);
  return {
    workload,
    device,
    on: one.device,
    ms,
    least: Math.min(...good.map((sample) => sample.least)),
    cpu: Math.min(...good.map((sample) => sample.cpu)),
    cold: middle((sample) => sample.cold),
    first: Math.min(...good.map((sample) => sample.first)),
    compile: Math.min(...good.map((sample) => sample.compile)),
    open: Math.min(...good.map((sample) => sample.open)),
    gflops: flops / ms / 1e6,
    gbs: one.bytes / ms / 1e6,
    residentBytes: Math.max(...good.map((sample) => sample.residentBytes)),
    ...Object.fromEntries(facts),
    errors: one.errors,
    rounds: good.length,
    runs: good.reduce((sum, sample) => sum + sample.runs, 0),
  };
}

const figure = (ms) => (ms === undefined ? "" : ms >= 100 ? ms.toFixed(0) : ms.toFixed(ms >= 10 ? 1 : 2));

/** The rows as a table for people. */
export function tableOf(rows) {
  const cells = rows.map((row) =>
    row.failed === undefined
      ? [
          row.workload,
          row.device,
          figure(row.ms),
          figure(row.least),
          figure(row.cpu),
          figure(row.cold),
          figure(row.first),
          row.gflops === undefined ? "" : row.gflops.toFixed(1),
          row.gbs === undefined ? "" : row.gbs.toFixed(1),
          row.kernels === undefined ? "" : String(row.kernels),
          row.dispatches === undefined ? "" : String(row.dispatches),
          row.deviceBytes === undefined ? "" : bytes(row.deviceBytes),
          row.residentBytes === undefined ? "" : bytes(row.residentBytes),
          row.errors === undefined ? "" : row.errors.relative.toExponential(1),
        ]
      : [row.workload, row.device, `failed: ${row.failed.split("\n")[0]}`],
  );
  const header =
    "workload,device,ms,least,cpu ms,cold ms,first ms,GFLOP/s,GB/s,kernels,dispatches,device,resident,error";
  return table(header.split(","), cells, new Set([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]));
}

/** Results as a list of entries that ratios can be taken of, from a file of this benchmark or of other libraries. */
export function entriesOf(results) {
  if (Array.isArray(results.rows))
    return results.rows
      .filter(({ failed }) => failed === undefined)
      .map((row) => ({ ...row, name: `before, ${row.device}` }));
  if (typeof results.table !== "object" || results.table === null)
    throw new Error("neither results of this benchmark (`rows`) nor of other libraries (`table`)");
  return Object.entries(results.table).flatMap(([workload, names]) =>
    Object.entries(names)
      .filter(([, { ok }]) => ok)
      .map(([name, entry]) => ({
        workload,
        device: /webgpu|jsep|cuda/.test(name) ? "webgpu" : "wasm",
        name,
        ms: entry.ms,
        least: entry.best_ms,
        cpu: entry.cpu_ms,
        first: Math.min(
          entry.first_cold_ms ?? Number.POSITIVE_INFINITY,
          entry.first_warm_ms ?? Number.POSITIVE_INFINITY,
        ),
        residentBytes: entry.rss_mb === undefined ? undefined : entry.rss_mb * 2 ** 20,
      })),
  );
}

const RATIOS = ["ms", "least", "cpu", "first", "residentBytes"];

/** For each row, the others on the same workload and kind of device: theirs divided by ours, so that above 1 we lead. */
export function ratiosOf(rows, entries) {
  return rows
    .filter(({ failed }) => failed === undefined)
    .flatMap((row) =>
      entries
        .filter(({ workload, device }) => workload === row.workload && device === row.device)
        .map((entry) => ({
          workload: row.workload,
          device: row.device,
          name: entry.name,
          ...Object.fromEntries(
            RATIOS.map((what) => [what, entry[what] / row[what]]).filter(([, ratio]) => Number.isFinite(ratio)),
          ),
        })),
    );
}

export function ratioTable(ratios) {
  return table(
    ["workload", "device", "against", "time", "least", "cpu", "first result", "memory"],
    ratios.map((row) => [
      row.workload,
      row.device,
      row.name,
      ...RATIOS.map((what) => (row[what] === undefined ? "" : `${row[what].toFixed(2)}×`)),
    ]),
    new Set([3, 4, 5, 6, 7]),
  );
}
