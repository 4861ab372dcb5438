/** The commands of `netc search`: options in, exit code out. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { ExitCode } from "./exit.ts";

/** What main.ts shares with all commands. */
export interface SearchParsers {
  readonly positive: (text: string) => number;
  readonly assignments: (
    text: string,
    sofar: readonly (readonly [string, number | string | boolean])[],
  ) => readonly (readonly [string, number | string | boolean])[];
  readonly json: (command: Command) => Command;
  readonly tune: (command: Command) => Command;
  readonly version: string;
  readonly done: (exit: ExitCode) => void;
}

const FORMATS = ["md", "csv", "latex", "html", "json"] as const;

function numbers(text: string, sofar: readonly number[] | undefined): readonly number[] {
  const number = Number(text.replace(/^#/, ""));
  if (!Number.isSafeInteger(number) || number < 1) throw new InvalidArgumentError("numbers of trials are wanted.");
  return [...(sofar ?? []), number];
}

function formats(text: string): readonly (typeof FORMATS)[number][] {
  return text.split(",").map((word) => {
    const known = FORMATS.find((format) => format === word);
    if (known === undefined) throw new InvalidArgumentError(`choose from ${FORMATS.join(", ")}, with commas.`);
    return known;
  });
}

/** Adds `search` and what belongs to it. */
export function addSearchCommands(program: Command, parsers: SearchParsers): void {
  const { positive, assignments, json, tune, version, done } = parsers;
  const search = program.command("search").description("search where attention belongs: plan, run and report a study");
  const store = (command: Command): Command =>
    command.addOption(
      new Option("--store <address>", "where studies are kept: a folder, a file, or postgres://…")
        .env("NETC_STORE")
        .default("studies"),
    );
  const queue = (command: Command): Command =>
    command.addOption(
      new Option("--queue <address>", "tell workers on other machines: redis://… or postgres://…").env("NETC_QUEUE"),
    );
  const space = (command: Command): Command =>
    command
      .argument("<file>", "a .net file with a search")
      .option("--search <name>", "which search of the file (default: the last one)")
      .addOption(
        new Option("--set <name=value>", "a parameter of the search, for example epochs=12 (repeat for more)")
          .argParser(assignments)
          .default([], "none"),
      )
      .option("--data <folder>", "the set of clips, with its manifest (default: what the recipe says)")
      .addOption(new Option("--spend <n>", "full trainings to search and confirm with").argParser(positive));
  const device = (command: Command): Command =>
    command
      .addOption(
        new Option("--device <name>", "where to train: auto is a hardware WebGPU adapter, else wasm")
          .choices(["auto", "webgpu", "wasm"])
          .default("auto"),
      )
      .addOption(new Option("--threads <n>", "threads of each trial on wasm").argParser(positive));
  const study = (command: Command): Command =>
    command.argument("[study]", "name of a study, or the beginning of its id (default: the newest)");

  const deviceName = (command: Command): Command =>
    command.addOption(
      new Option("--device <name>", "where latencies are measured: auto is a hardware WebGPU adapter, else wasm")
        .choices(["auto", "webgpu", "wasm"])
        .default("auto"),
    );
  deviceName(store(json(space(search.command("plan").description("show what a search would do, without a training")))))
    .option("--refused", "say of each model that may not be trained why")
    .option("--measure", "measure the latencies that the search asks for on this machine, as a run does first")
    .action(async (file, options) => {
      done(await (await import("./commands/search/plan.ts")).searchPlan(file, options));
    });

  tune(device(queue(store(json(space(search.command("run").description("begin a study, or go on with it")))))))
    .addOption(new Option("--workers <n>", "trials at once on this machine").argParser(positive))
    .option("--fork", "begin another study although one of this name holds another search")
    .option("--emit <file>", "write the winner as a .net file")
    .action(async (file, options) => {
      done(await (await import("./commands/search/run.ts")).searchRun(file, { ...options, version }));
    });

  tune(device(queue(store(json(search.command("worker").description("train trials of a study that runs elsewhere"))))))
    .option("--study <name>", "which study (default: the newest that runs)")
    .addOption(new Option("--concurrency <n>", "trials at once").argParser(positive))
    .option("--data <folder>", "the set of clips on this machine")
    .addOption(new Option("--drain [seconds]", "leave when nothing waits any more").argParser(positive))
    .action(async (options) => {
      done(await (await import("./commands/search/worker.ts")).searchWorker({ ...options, version }));
    });

  store(json(study(search.command("status").description("how a study stands")))).action(async (name, options) => {
    done(await (await import("./commands/search/look.ts")).searchStatus(name, options));
  });

  store(json(study(search.command("watch").description("show a study while others run it"))))
    .addOption(new Option("--every <seconds>", "how often to look").argParser(positive).default(2))
    .action(async (name, options) => {
      done(await (await import("./commands/search/look.ts")).searchWatch(name, options));
    });

  store(
    json(study(search.command("pause").description("have trials saved and handed back, and begin no more"))),
  ).action(async (name, options) => {
    done(await (await import("./commands/search/control.ts")).searchPause(name, options));
  });

  store(json(study(search.command("resume").description("take a pause or a cancellation back")))).action(
    async (name, options) => {
      done(await (await import("./commands/search/control.ts")).searchResume(name, options));
    },
  );

  store(json(search.command("cancel").description("drop trials, or a whole study")))
    .addArgument(search.createArgument("[trials...]", "numbers of trials").argParser(numbers))
    .option("--study <name>", "of which study (default: the newest)")
    .option("--all", "the whole study")
    .action(async (trials: readonly number[] | undefined, options) => {
      done(await (await import("./commands/search/control.ts")).searchCancel(trials ?? [], options));
    });

  store(json(search.command("retry").description("try failed or cancelled trials again")))
    .addArgument(search.createArgument("[trials...]", "numbers of trials").argParser(numbers))
    .option("--study <name>", "of which study (default: the newest)")
    .option("--failed", "all that have failed")
    .action(async (trials: readonly number[] | undefined, options) => {
      done(await (await import("./commands/search/control.ts")).searchRetry(trials ?? [], options));
    });

  store(json(study(search.command("report").description("print a study's report, or write it to a folder"))))
    .option("-o, --output <folder>", "the folder to write")
    .addOption(
      new Option("--format <list>", "which files: md, csv, latex, html, json")
        .argParser(formats)
        .default(["md", "html"], "md,html"),
    )
    .action(async (name, options) => {
      done(await (await import("./commands/search/look.ts")).searchReport(name, options));
    });

  store(json(study(search.command("export").description("write a study for another program"))))
    .option("--optuna <file>", "the journal of Optuna to write")
    .option("--sources <folder>", "the sources that the study keeps, to do it again")
    .action(async (name, options) => {
      done(await (await import("./commands/search/look.ts")).searchExport(name, options));
    });

  store(json(study(search.command("replay").description("make every decision of a study again, and compare")))).action(
    async (name, options) => {
      done(await (await import("./commands/search/check.ts")).searchReplay(name, options));
    },
  );

  store(json(search.command("verify").description("read everything that a store keeps, and check it"))).action(
    async (options) => {
      done(await (await import("./commands/search/check.ts")).searchVerify(options));
    },
  );

  store(json(search.command("gc").description("remove what no trial needs any more from a store"))).action(
    async (options) => {
      done(await (await import("./commands/search/check.ts")).searchGc(options));
    },
  );
}
