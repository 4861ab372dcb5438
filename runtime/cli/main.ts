#!/usr/bin/env node
/**
 * The `netc` command: options in, exit code out. Each command is a module of its own, loaded only when it is called.
 */
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { LAYOUTS } from "../data/manifest.ts";
import { DEVICE_NAMES } from "./devices.ts";
import { CommandError, EXIT, type ExitCode, systemCode } from "./exit.ts";
import { printJsonFailure } from "./json.ts";
import { addSearchCommands } from "./search-commands.ts";
import { STAGES } from "./stages.ts";
import { paint } from "./terminal.ts";

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("a whole number from 1 up is wanted.");
  return value;
}

function natural(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("a whole number from 0 up is wanted.");
  return value;
}

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError("a number of seconds from 0 up is wanted.");
  return value;
}

function frameSize(text: string): readonly [number, number] {
  const match = /^(\d+)[x×](\d+)$/.exec(text);
  const [width, height] = [Number(match?.[1]), Number(match?.[2])];
  const fits = (side: number): boolean => side % 2 === 0 && side >= 32 && side <= 2048;
  if (match === null || !fits(width) || !fits(height))
    throw new InvalidArgumentError("write two even numbers from 32 to 2048, for example 128x128.");
  return [width, height];
}

function assignments(
  text: string,
  sofar: readonly (readonly [string, number | string | boolean])[],
): readonly (readonly [string, number | string | boolean])[] {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.+)$/s.exec(text);
  if (match === null) throw new InvalidArgumentError("write NAME=VALUE, for example lr=0.01.");
  const [, name = "", value = ""] = match;
  const parsed =
    value === "true" ? true : value === "false" ? false : Number.isNaN(Number(value)) ? value : Number(value);
  return [...sofar, [name, parsed]];
}

function checkpointName(text: string): "best" | "latest" | number {
  return text === "best" || text === "latest" ? text : natural(text);
}

function foldName(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

function bindings(text: string, sofar: readonly (readonly [string, number])[]): readonly (readonly [string, number])[] {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=(\d+)$/.exec(text);
  if (match === null || Number(match[2]) < 1) throw new InvalidArgumentError("write NAME=SIZE, for example H=224.");
  return [...sofar, [match[1] ?? "", Number(match[2])]];
}

const list = (text: string, sofar: readonly string[]): readonly string[] => [
  ...sofar,
  ...text.split(",").filter((item) => item !== ""),
];

function packageVersion(): string {
  for (const up of ["../../package.json", "../../../package.json"]) {
    try {
      const parsed: unknown = JSON.parse(readFileSync(new URL(up, import.meta.url), "utf8"));
      if (
        typeof parsed === "object" &&
        parsed !== null &&
        "version" in parsed &&
        "name" in parsed &&
        parsed.name === "netc"
      )
        return String(parsed.version);
    } catch {
      // The package file lies one folder further up in the built package than in the sources.
    }
  }
  return "unknown";
}

/**
 * Makes V8 wait longer before it optimises. Reading a model takes a fraction of a second, and by V8's own measure the
 * optimising compiler takes the processor for a third of it, for code that is about to end. Fifteen times as patient, it
 * still helps with large models. The flag is that of Node 20's V8, and others complain of what they do not know.
 */
function optimiseLater(): void {
  if (process.versions.v8.startsWith("11.")) setFlagsFromString("--interrupt-budget=1000000");
}

const AFTER_HELP = `
Exit codes: 0 fine, 1 the model or the data is wrong, 2 the command line is wrong
(or there is none), 3 this machine cannot; of searches also 4 stopped, and goes on
with the same command, 5 the store or the queue cannot be reached.

With --json a command prints one value to standard output, whatever happens:
  {"ok": true, "diagnostics": [warnings], "result": ...}
  {"ok": false, "diagnostics": [errors]}`;

const asJson = process.argv.includes("--json");

/** commander's message in our form: names in backticks, help on a line of its own. */
function usageError(text: string): string {
  if (asJson) return "";
  const { message, help } = usageMessage(text);
  return drawn(message, help);
}

function usageMessage(text: string): { readonly message: string; readonly help: readonly string[] } {
  const guess = /\(Did you mean (.*)\?\)/s.exec(text)?.[1];
  const message = text
    .replace(/\(Did you mean .*\?\)/s, "")
    .replace(/^error: /, "")
    .replace(/^option '([^']*)' argument '(.*)' is invalid\. /s, "`$1` cannot be `$2`: ")
    .replace(/'([^']*)'/g, "`$1`")
    .replace("Allowed choices are", "choose from")
    .trim()
    .replace(/\.$/, "");
  const command = process.argv[2]?.startsWith("-") === false ? `${process.argv[2]} ` : "";
  const known = /unknown command/.test(message) ? "" : command;
  return {
    message,
    help: [
      ...(guess === undefined ? [] : [`did you mean \`${guess}\`?`]),
      `\`netc ${known}--help\` shows what there is`,
    ],
  };
}

function drawn(message: string, help: readonly string[]): string {
  return `${paint("red", "error")}: ${message}\n${help.map((line) => `  ${paint("cyan", "help")}: ${line}\n`).join("")}`;
}

/** Runs the command line; resolves to the exit code. */
async function main(argv: readonly string[]): Promise<ExitCode> {
  let exit: ExitCode = EXIT.ok;
  const program = new Command("netc");
  program
    .description("Compiles neural networks written in .net files to WebGPU and WASM kernels, and runs them.")
    .version(packageVersion())
    .showSuggestionAfterError()
    .addHelpText("after", AFTER_HELP)
    .configureOutput({ outputError: (text, write) => write(usageError(text)) })
    .exitOverride();

  const sizes = (command: Command): Command =>
    command
      .addOption(
        new Option("--model <name>", "which model of the file (default: the bare last line, else the last model)"),
      )
      .addOption(new Option("--batch <n>", "batch size: fixes N").argParser(positive).default(1))
      .addOption(
        new Option("--bind <name=size>", "fix another open size, for example H=224")
          .argParser(bindings)
          .default([], "none"),
      );
  const json = (command: Command): Command =>
    command.option("--json", "print one JSON value: {ok, diagnostics, result}; result only if ok");
  const device = (command: Command): Command =>
    command.addOption(
      new Option("--device <name>", "where to run: auto is a hardware WebGPU adapter, else wasm")
        .choices(DEVICE_NAMES)
        .default("auto"),
    );
  const tune = (command: Command): Command =>
    command.addOption(
      new Option(
        "--tune <seconds>",
        "try plans of kernels on this device for so long and keep the fastest; 0 takes what is known",
      ).argParser(seconds),
    );
  const weights = (command: Command): Command =>
    command
      .addOption(
        new Option(
          "--weights <[stream=]file>",
          "weights from a .safetensors file, for all streams or one (repeat for more)",
        )
          .argParser(list)
          .default([], "none"),
      )
      .addOption(
        new Option("--skip <positions>", "positions that keep their fresh start, for example fc8")
          .argParser(list)
          .default([], "none"),
      )
      .addOption(new Option("--seed <n>", "seed of the fresh start").argParser(natural).default(0));

  json(
    program
      .command("check")
      .description("read a model, check names, shapes and assertions")
      .argument("<file>", "a .net file, or - for standard input")
      .option("--model <name>", "which model of the file"),
  ).action(async (file, options) => {
    optimiseLater();
    exit = await (await import("./commands/check.ts")).check(file, options);
  });

  weights(
    tune(
      sizes(
        json(
          program
            .command("compile")
            .description("write a compiled program: program.json and one readable kernel a file")
            .argument("<file>", "a .net file, or - for standard input")
            .requiredOption("-o, --output <folder>", "the folder to write; an earlier program there is replaced")
            .addOption(
              new Option("--target <name>", "the device to compile for")
                .choices(["webgpu-default", "this-device", "wasm"])
                .default("webgpu-default"),
            )
            .option("--materialize", "write the initial weights into the program, even without --weights")
            .addOption(
              new Option("--emit <what>", "write a typed TypeScript module beside the program").choices(["ts"]),
            ),
        ),
      ),
    ),
  ).action(async (file, options) => {
    exit = await (await import("./commands/compile.ts")).compileCommand(file, options);
  });

  sizes(
    json(
      program
        .command("inspect")
        .description("show a model at one stage of its way to kernels")
        .argument("<file>", "a .net file, or - for standard input")
        .addOption(new Option("--stage <name>", "what to show").choices(STAGES).default("shapes"))
        .addOption(new Option("--at <position>", "only this position and what lies inside it"))
        .addOption(new Option("--recipe <name>", "for recipe: which one (default: the last that is for the model)"))
        .addOption(
          new Option("--target <name>", "for loop, plan and wgsl")
            .choices(["webgpu-default", "this-device", "wasm"])
            .default("webgpu-default"),
        ),
    ),
  ).action(async (file, options) => {
    exit = await (await import("./commands/inspect.ts")).inspect(file, options);
  });

  tune(
    device(
      sizes(
        json(
          program
            .command("profile")
            .description("time every kernel of a model, beside what this device can do at best")
            .argument("<file>", "a .net file, or - for standard input")
            .option("--train", "a training step (SGD with momentum) instead of a forward pass")
            .addOption(
              new Option("--rounds <n>", "how often everything is timed; the least counts")
                .argParser(positive)
                .default(5),
            ),
        ),
      ),
    ),
  ).action(async (file, options) => {
    exit = await (await import("./commands/profile.ts")).profile(file, options);
  });

  weights(
    tune(
      device(
        json(
          program
            .command("predict")
            .description("run a model on a video: its frames and their optical flow")
            .argument("<model>", "a .net file, - for standard input, a run folder, or the folder of a compiled program")
            .argument("<clip>", "a video file, or a folder of img_%05d.jpg with flow_x_%05d.jpg and flow_y_%05d.jpg")
            .option("--model <name>", "which model of the file")
            .addOption(
              new Option("--bind <name=size>", "fix an open size, for example H=224")
                .argParser(bindings)
                .default([], "none"),
            )
            .addOption(new Option("--top <n>", "how many classes to show").argParser(positive).default(5)),
        ),
      ),
    ),
  ).action(async (model, clip, options) => {
    exit = await (await import("./commands/predict.ts")).predict(model, clip, options);
  });

  tune(
    device(
      json(
        program
          .command("train")
          .description("train a model by a recipe on a set of clips; a run folder keeps everything")
          .argument("[file]", "a .net file with a model and a recipe; not needed with --resume")
          .option("--data <folder>", "the set of clips, with its manifest (default: what the recipe says)")
          .option("--run <folder>", "the run folder to make (default: runs/<model>-<time>)")
          .option("--resume <run>", "go on with a run from its newest checkpoint")
          .option("--allow-changes", "with --resume: go on although model, recipe or data have changed")
          .option("--recipe <name>", "which recipe of the file (default: the last one for the model)")
          .option("--model <name>", "which model of the file")
          .addOption(
            new Option("--set <name=value>", "a parameter of the recipe, for example lr=0.01 (repeat for more)")
              .argParser(assignments)
              .default([], "none"),
          )
          .addOption(
            new Option("--bind <name=size>", "fix an open size, for example H=224")
              .argParser(bindings)
              .default([], "none"),
          )
          .addOption(
            new Option("--fold <fold>", "which fold is the test: its number from 1, or its name").argParser(foldName),
          )
          .addOption(new Option("--seed <n>", "seed of everything (default: the recipe's)").argParser(natural))
          .addOption(
            new Option("--weights <[stream=]file>", "start from a .safetensors file, for all streams or one")
              .argParser(list)
              .default([], "none"),
          )
          .addOption(
            new Option("--skip <positions>", "positions that keep their fresh start, for example fc8")
              .argParser(list)
              .default([], "none"),
          )
          .option("--max-time <time>", "save and leave after this time, for example 45m or 2h30m")
          .addOption(new Option("--save-every <n>", "updates between checkpoints within an epoch").argParser(positive))
          .addOption(new Option("--workers <n>", "threads that decode and augment").argParser(positive))
          .option("--no-test", "do not evaluate at the end"),
      ),
    ),
  ).action(async (file, options) => {
    const train = await import("./commands/train.ts");
    exit = await train.trainCommand(file, { ...options, version: packageVersion() });
  });

  device(
    json(
      program
        .command("eval")
        .description("evaluate a trained run on clips it has not seen, or compare runs")
        .argument("<runs...>", "run folders")
        .addOption(new Option("--side <name>", "which clips").choices(["test", "validation"]).default("test"))
        .addOption(
          new Option(
            "--checkpoint <which>",
            "best, latest, or the number of an update (default: best, or latest without validation clips)",
          ).argParser(checkpointName),
        )
        .option("--data <folder>", "the set of clips, if it has moved")
        .addOption(new Option("--segments <n>", "windows of each clip (default: the recipe's)").argParser(positive))
        .addOption(
          new Option("--crops <n>", "crops of each window: 1, or 10 with corners and mirrors")
            .choices(["1", "10"])
            .argParser((text) => {
              if (text !== "1" && text !== "10") throw new InvalidArgumentError("choose 1 or 10.");
              return Number(text);
            }),
        )
        .addOption(new Option("--bootstrap <n>", "replicates of the bootstrap").argParser(positive).default(10_000))
        .option("--compare <runs...>", "compare with these: two runs by subject, several by seed")
        .option("--stored", "use the predictions that the run folder holds"),
    ),
  ).action(async (runs, options) => {
    exit = await (await import("./commands/eval.ts")).evalCommand(runs, options);
  });

  json(
    program
      .command("report")
      .description("write a training run as one page of HTML, and its figures as SVG files")
      .argument("<run>", "the folder of a run; report.html and figures/ in it are replaced")
      .addOption(
        new Option("--bootstrap <n>", "draws of the subjects behind each interval").argParser(positive).default(10_000),
      )
      .addOption(new Option("--seed <n>", "the same seed gives the same intervals").argParser(natural).default(0)),
  ).action(async (run, options) => {
    exit = await (await import("./commands/report.ts")).report(run, options);
  });

  device(
    json(
      program
        .command("attention")
        .description("show where the streams of a network look at each other, as a page to click on")
        .argument("<run>", "the folder of a run, or a .net file")
        .argument("[clips...]", "video files (default: a few test clips of the run, right and wrong ones)")
        .option("-o, --output <folder>", "the folder to write for clips that are named (default: attention)")
        .addOption(
          new Option("--side <name>", "which clips of the run").choices(["test", "validation"]).default("test"),
        )
        .option("--data <folder>", "the run's set of clips, if it has moved")
        .option("--model <name>", "of a .net file: which model")
        .addOption(
          new Option("--bind <name=size>", "of a .net file: fix an open size, for example H=224")
            .argParser(bindings)
            .default([], "none"),
        )
        .addOption(
          new Option("--weights <[stream=]file>", "of a .net file: weights from a .safetensors file")
            .argParser(list)
            .default([], "none"),
        )
        .addOption(
          new Option("--skip <positions>", "positions that keep their fresh start, for example fc8")
            .argParser(list)
            .default([], "none"),
        )
        .addOption(new Option("--seed <n>", "seed of the fresh start").argParser(natural).default(0)),
    ),
  ).action(async (run, clips, options) => {
    exit = await (await import("./commands/attention.ts")).attentionCommand(run, clips, options);
  });

  json(
    program.command("doctor").description("show which devices and decoders this machine has, and what auto chooses"),
  ).action(async (options) => {
    exit = await (await import("./commands/doctor.ts")).doctor(options);
  });

  const data = program.command("data").description("make, scan and split sets of clips");
  const layout = (command: Command): Command =>
    command.addOption(
      new Option("--layout <name>", "how the folders are arranged").choices(LAYOUTS).makeOptionMandatory(),
    );

  layout(
    json(
      data
        .command("make")
        .description("draw a synthetic set of clips: faces that act, or the association task")
        .argument("<folder>", "the folder to write; an earlier set of netc's there is replaced")
        .addOption(new Option("--subjects <n>", "how many people").argParser(positive))
        .addOption(new Option("--clips <n>", "clips of each person for each class").argParser(positive))
        .addOption(new Option("--frames <n>", "frames of each clip").argParser(positive))
        .addOption(
          new Option("--size <WxH>", "size of a frame, both even").argParser(frameSize).default([128, 128], "128x128"),
        )
        .addOption(new Option("--seed <n>", "the same seed draws the same set").argParser(natural).default(0))
        .addOption(new Option("--format <name>", "kind of video file").choices(["mp4", "avi"]).default("avi")),
    ),
  ).action(async (folder, options) => {
    exit = await (await import("./commands/data.ts")).dataMake(folder, options);
  });

  layout(
    json(
      data
        .command("scan")
        .description("open every clip of a set, count classes and subjects, write the manifest")
        .argument("<folder>", "the folder that holds the set")
        .option("-o, --output <file>", "the manifest to write (default: manifest.jsonl in the folder)")
        .option("--complete", "exclude subjects that lack recordings (eNTERFACE'05: 1260 clips instead of 1287)"),
    ),
  ).action(async (folder, options) => {
    exit = await (await import("./commands/data.ts")).dataScan(folder, options);
  });

  json(
    data
      .command("split")
      .description("say who trains and who tests, and check that neither side knows of the other")
      .argument("<manifest>", "a manifest.jsonl, or the folder that holds it")
      .addOption(
        new Option("--by <protocol>", "folds of subjects, one subject at a time, or the sides that the set names")
          .choices(["folds", "subject", "fixed"])
          .default("folds"),
      )
      .addOption(new Option("--folds <n>", "how many folds").argParser(positive).default(5))
      .addOption(new Option("--seed <n>", "seed of the folds").argParser(natural).default(0)),
  ).action(async (manifest, options) => {
    exit = (await import("./commands/data.ts")).dataSplit(manifest, options);
  });

  addSearchCommands(program, {
    positive,
    tune,
    assignments,
    json,
    version: packageVersion(),
    done: (code) => {
      exit = code;
    },
  });

  await program.parseAsync(argv, { from: "node" });
  return exit;
}

/** Waits until what was printed has left the process, which `process.exit` alone does not. */
async function flush(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise<void>((done) => stream.write("", () => done()))),
  );
}

// A reader that has seen enough (`| head`) is no error.
process.stdout.on("error", (error) => {
  if (systemCode(error) === "EPIPE") process.exit(EXIT.ok);
  throw error;
});

let code: ExitCode;
try {
  code = await main(process.argv);
  if (asJson && code !== EXIT.ok) printJsonFailure();
} catch (error) {
  if (error instanceof CommanderError) {
    // commander has printed its message; help and version end with 0.
    code = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (asJson && code !== EXIT.ok) printJsonFailure(usageMessage(error.message));
  } else if (error instanceof CommandError) {
    if (asJson) printJsonFailure(error);
    else process.stderr.write(drawn(error.message, error.help));
    code = error.exit;
  } else {
    // A mistake of ours, never the user's: the stack is what a report needs.
    process.stderr.write(
      `${paint("red", "internal error")}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\nThis is a bug in netc. Please report it with the file and the command.\n`,
    );
    if (asJson) printJsonFailure({ message: `internal error: ${String(error)}`, help: [] });
    code = EXIT.machine;
  }
}
await flush();
// Devices and their threads would keep the process alive.
process.exit(code);
