/** `mome embed --input`: a bulk job, or one shard of it. */
import { type Command, Option } from 'commander';
import { type BulkProgress, type Format, formats, openInputs, parseShard, runBulkJob } from '../bulk/index.ts';
import { check } from '../runtime/errors.ts';
import { packageVersion } from '../runtime/package-files.ts';
import { countNumber, type ModelFlags, wholeNumber, withModel } from './context.ts';
import { exitCodes, note, print, printJson } from './output.ts';
import { progressBar } from './terminal.ts';

export interface EmbedJobFlags extends ModelFlags {
  readonly input?: readonly string[];
  readonly output?: string;
  readonly shard?: string;
  readonly format?: Format;
  readonly partSize?: number;
  readonly maxErrors?: number;
  readonly column?: string;
  readonly id?: string;
}

/** Flags of a job that mean nothing without `--input`. */
const jobFlags = ['shard', 'partSize', 'maxErrors', 'column', 'id'] as const;
/** Milliseconds between two changes of the progress bar. */
const barMilliseconds = 100;
const defaultPartSize = 4096;

export function addEmbedJobOptions(command: Command): Command {
  return command
    .option(
      '--input <path...>',
      'embed all of it into files: folders of pictures, tar files of WebDataset, Parquet files, or text files (.txt, .jsonl); {000..999}, * and ? are patterns',
    )
    .option('-o, --output <path>', 'folder for the files of --input; otherwise a file, in place of standard output')
    .option('--shard <i/n>', 'do the i-th of n shards of --input, counted from 0; default: 0/1')
    .addOption(
      new Option(
        '--format <name>',
        'default: parquet with --input, otherwise the ending of --output or plain numbers',
      ).choices(formats),
    )
    .option('--part-size <n>', `inputs of a file; default: ${defaultPartSize}`, countNumber)
    .option('--max-errors <n>', 'inputs that may fail before the job ends; default: any number', wholeNumber)
    .option('--column <name>', 'column of Parquet files that holds pictures or texts')
    .option('--id <name>', 'column of Parquet files, or field of lines of JSON, that names the rows');
}

/** Whether the command asks for a job. @throws MomeError `MOME_INVALID_ARGUMENT` for flags that do not go together */
export function isEmbedJob(
  flags: EmbedJobFlags & { readonly text?: unknown; readonly image?: unknown; readonly imagesFrom?: unknown },
): boolean {
  const stray = jobFlags.find((flag) => flags[flag] !== undefined);
  const hasInput = flags.input !== undefined;
  check(hasInput || stray === undefined, 'MOME_INVALID_ARGUMENT', `embed: expected --input with ${nameOf(stray)}`);
  check(
    !hasInput || (flags.text ?? flags.image ?? flags.imagesFrom) === undefined,
    'MOME_INVALID_ARGUMENT',
    'embed: expected --input, or --text, --image and --images-from, got both',
  );
  check(
    !hasInput || flags.output !== undefined,
    'MOME_INVALID_ARGUMENT',
    'embed: expected --output, the folder to write to',
  );
  return hasInput;
}

const nameOf = (flag = ''): string => `--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

export async function embedJob(flags: EmbedJobFlags): Promise<void> {
  const { output = '', column, id } = flags;
  const shard = parseShard(flags.shard ?? '0/1');
  const stop = stopOnSignal();
  await withModel(flags, async (model) => {
    const inputs = await openInputs(flags.input ?? [], {
      ...(column !== undefined && { column }),
      ...(id !== undefined && { id }),
      signal: stop,
    });
    if (inputs.leftOut.length > 0 && !flags.quiet) {
      const more = inputs.leftOut.length > 1 ? `, and ${inputs.leftOut.length - 1} more` : '';
      note(`left out ${inputs.leftOut[0]}${more}`);
    }
    const progress = progressOf(flags.quiet);
    try {
      const { folder, state, rows, seconds } = await runBulkJob(model, inputs, {
        output,
        shard,
        format: flags.format ?? 'parquet',
        partSize: flags.partSize ?? defaultPartSize,
        maxErrors: flags.maxErrors ?? Number.POSITIVE_INFINITY,
        version: packageVersion(),
        id: id ?? '',
        stop,
        onProgress: progress.update,
      });
      progress.stop();
      const { parts, rows: all, errors, done } = state;
      if (flags.json) printJson({ folder, parts, rows: all, errors, done, embedded: rows, seconds });
      else {
        const speed =
          rows > 0 ? `; ${rows} now, ${(rows / seconds).toFixed(1)} per second` : '; nothing was left to do';
        print(`${folder}: ${all} rows in ${parts} parts, ${errors} failed${speed}`);
      }
      if (!done) {
        note('stopped behind a finished part; the same command goes on there');
        process.exitCode = exitCodes.interrupted;
      }
    } finally {
      progress.stop();
      inputs.close();
    }
  });
}

/** SIGTERM and Ctrl-C end the job when the part under way is finished; a second one ends the process at once. */
function stopOnSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    note(`${signal}: ending when the part under way is finished; once more ends at once and loses it`);
    controller.abort(new Error('interrupted'));
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  return controller.signal;
}

/** A bar on a terminal; elsewhere, such as in the log of a batch scheduler, a line for each part. */
function progressOf(quiet = false): { readonly update: (progress: BulkProgress) => void; readonly stop: () => void } {
  if (quiet) return { update: () => {}, stop: () => {} };
  const bar = progressBar('embedding');
  let shown = 0;
  return {
    update(progress) {
      const { rows, share, isPart } = progress;
      const now = performance.now();
      if (isPart && !process.stderr.isTTY) note(lineOf(progress));
      if (now - shown < barMilliseconds && !isPart) return;
      shown = now;
      bar.update(rows, share > 0 ? Math.max(rows, Math.round(rows / share)) : rows);
    },
    stop: bar.stop,
  };
}

function lineOf({ parts, rows, errors, lastError, share, perSecond, secondsLeft }: BulkProgress): string {
  const failed = errors > 0 ? `, ${errors} failed${lastError === undefined ? '' : ` (${lastError})`}` : '';
  const left = share < 1 ? `, ${duration(secondsLeft)} left` : '';
  return `${parts} parts, ${rows} rows${failed}, ${(100 * share).toFixed(1)} %, ${perSecond.toFixed(1)} per second${left}`;
}

function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'unknown time';
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return `${Math.ceil(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
