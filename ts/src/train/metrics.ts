/**
 * Metrics of a run: one JSON object per line in a file, and a progress line for people.
 */
import { appendFile } from 'node:fs/promises';
import { SingleBar } from 'cli-progress';

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

  write(line: MetricsLine): Promise<void> {
    const text = `${JSON.stringify(line)}\n`;
    this.#pending = this.#pending.then(() => appendFile(this.#path, text));
    return this.#pending;
  }
}

/** A progress line on standard error: a bar on a terminal, a plain line now and then elsewhere. */
export class ProgressLine {
  readonly #bar: SingleBar | undefined;
  readonly #total: number;
  readonly #every: number;
  readonly #quiet: boolean;

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
    if (this.#bar) this.#bar.update(step, shown);
    else if (!this.#quiet && step % this.#every === 0) {
      process.stderr.write(
        `step ${step}/${this.#total}  loss ${shown.loss}  lr ${shown.rate}  ${shown.speed} samples/s\n`,
      );
    }
  }

  stop(): void {
    this.#bar?.stop();
  }
}
