/**
 * Metrics of a run: one JSON object per line in a file, and a progress line for people.
 */
import { appendFile, writeFile } from 'node:fs/promises';
import { SingleBar } from 'cli-progress';
import { exists, replaceFile } from '../runtime/files.ts';
import { InputFile } from '../runtime/input-file.ts';
import { splitLines } from './data/lines.ts';

/** One line of `metrics.jsonl`. */
export type MetricsLine = Readonly<
  Record<string, string | number | boolean | undefined | Readonly<Record<string, number>>>
>;

/** Appends metrics to a JSONL file, in order. */
export class MetricsLog {
  readonly #path: string;
  #pending: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Removes the lines of steps after `step`, which a resumed run does again, and a line that was left unfinished.
   *
   * @returns the last of the other lines with an evaluation that was the best until then, and whether one was made after `step`
   */
  async goOnAfter(step: number): Promise<{ readonly best: MetricsLine | undefined; readonly isEvaluated: boolean }> {
    if (!(await exists(this.#path))) return { best: undefined, isEvaluated: false };
    const kept: string[] = [];
    let best: MetricsLine | undefined;
    let isEvaluated = false;
    const file = await InputFile.open(this.#path, 'the metrics of a run');
    try {
      for await (const { text } of splitLines(file.pieces(), this.#path)) {
        const line = lineOf(text);
        if (line === undefined || !(Number(line.step) <= step)) continue;
        kept.push(text);
        if (line.best) best = line;
        if (line.evaluation !== undefined && line.step === step) isEvaluated = true;
      }
    } finally {
      file.close();
    }
    await replaceFile(this.#path, (temporary) => writeFile(temporary, kept.map((line) => `${line}\n`).join('')));
    return { best, isEvaluated };
  }

  write(line: MetricsLine): Promise<void> {
    const text = `${JSON.stringify(line)}\n`;
    this.#pending = this.#pending.then(() => appendFile(this.#path, text));
    return this.#pending;
  }
}

/** Undefined for a line that is no JSON object. */
function lineOf(text: string): MetricsLine | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as MetricsLine) : undefined;
  } catch {
    return undefined;
  }
}

/** A progress line on standard error: a bar on a terminal, a plain line now and then elsewhere. */
export class ProgressLine {
  readonly #bar: SingleBar | undefined;
  readonly #total: number;
  readonly #every: number;
  readonly #quiet: boolean;
  /** When the first step of this process began, and how many were done before. */
  #started: { readonly time: number; readonly step: number } | undefined;

  constructor(total: number, options: { readonly quiet?: boolean; readonly every?: number } = {}) {
    this.#total = total;
    this.#every = options.every ?? 100;
    this.#quiet = options.quiet ?? false;
    if (process.stderr.isTTY && !this.#quiet) {
      this.#bar = new SingleBar({
        format: '{bar} {value}/{total} steps  loss {loss}  lr {rate}  {speed} samples/s  eta {eta_formatted}',
        stream: process.stderr,
        etaBuffer: 50,
      });
      this.#bar.start(total, 0, { loss: '-', rate: '-', speed: '-' });
    }
  }

  update(
    step: number,
    values: { readonly loss: number; readonly learningRate: number; readonly samplesPerSecond: number },
  ): void {
    const shown = {
      loss: values.loss.toFixed(4),
      rate: values.learningRate.toExponential(2),
      speed: values.samplesPerSecond.toFixed(0),
    };
    this.#started ??= { time: performance.now(), step };
    if (this.#bar) this.#bar.update(step, shown);
    else if (!this.#quiet && step % this.#every === 0) {
      const parts = [`step ${step}/${this.#total}`, `loss ${shown.loss}`, `lr ${shown.rate}`];
      process.stderr.write(`${[...parts, `${shown.speed} samples/s`, `eta ${this.#remaining(step)}`].join('  ')}\n`);
    }
  }

  /** The time that the steps left will take, such as 2h05m. */
  #remaining(step: number): string {
    const { time, step: from } = this.#started!;
    if (step === from) return '-';
    const seconds = Math.round((((performance.now() - time) / 1000) * (this.#total - step)) / (step - from));
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    if (hours > 0) return `${hours}h${String(minutes).padStart(2, '0')}m`;
    return minutes > 0 ? `${minutes}m${String(seconds % 60).padStart(2, '0')}s` : `${seconds}s`;
  }

  stop(): void {
    this.#bar?.stop();
  }
}
