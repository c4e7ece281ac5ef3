/**
 * The decoder processes of this process: started when pictures wait, shared by all models, ended when they have been idle for a while.
 */
import { availableParallelism } from 'node:os';
import { onAbort } from '../runtime/abort.ts';
import { requireNotAborted } from '../runtime/errors.ts';
import { type DecodeJob, Decoder } from './decoder-process.ts';
import type { DecodeRequest } from './frames.ts';
import type { RgbImage } from './pixels.ts';

/** Pictures decoded at the same time, not counting those that take long. */
export const lanes = Math.min(8, Math.max(2, availableParallelism()));
/** Processes at most: each call may have all its lanes taken by pictures that take long, and others still go on. */
const mostDecoders = 2 * lanes + 4;

/** Hands jobs to decoders. A picture that takes long keeps no other waiting: it stops counting as one of the lanes. */
class DecoderPool {
  readonly #waiting = new Set<DecodeJob>();
  readonly #decoders = new Set<Decoder>();

  /**
   * Decodes one picture.
   *
   * @param bytes the file, where the request has no path; nobody changes them until the promise settles
   * @returns the picture, in the size that the request asks for
   * @throws MomeError the decoder's error; `MOME_TOO_LARGE` beyond its time or memory; `MOME_IO` where none could be started;
   *   `MOME_ABORTED`
   */
  async decode(
    request: DecodeRequest,
    bytes: Uint8Array | undefined,
    { signal, call }: { readonly signal: AbortSignal | undefined; readonly call: object },
  ): Promise<RgbImage> {
    requireNotAborted(signal, 'picture');
    let ended = () => {};
    try {
      return await new Promise<RgbImage>((resolve, reject) => {
        const job: DecodeJob = { request, bytes, call, resolve, reject };
        ended = onAbort(signal, () => this.#abandon(job, signal?.reason));
        this.#waiting.add(job);
        this.#share();
      });
    } finally {
      ended();
    }
  }

  #abandon(job: DecodeJob, reason: unknown): void {
    this.#waiting.delete(job);
    for (const decoder of this.#decoders) if (decoder.job === job) this.#end(decoder);
    job.reject(reason);
    // Later: the other jobs of the call are about to be abandoned too, and none of them should be started.
    setImmediate(() => this.#share());
  }

  #end(decoder: Decoder): void {
    this.#decoders.delete(decoder);
    decoder.end();
  }

  /** Starts the decodings that may start now. */
  #share(): void {
    for (;;) {
      const busy = [...this.#decoders].filter(({ job }) => job);
      if (busy.filter(({ slow }) => !slow).length >= lanes) return;
      const job = this.#nextJob(busy);
      if (!job) return;
      const idle = [...this.#decoders].find((decoder) => !decoder.job);
      if (!idle && this.#decoders.size >= mostDecoders) return;
      this.#waiting.delete(job);
      (idle ?? this.#start()).take(job);
    }
  }

  /** The job that waits longest of the call that has the fewest decoders. */
  #nextJob(busy: readonly Decoder[]): DecodeJob | undefined {
    const running = new Map<object, number>();
    for (const { job } of busy) running.set(job!.call, (running.get(job!.call) ?? 0) + 1);
    let best: DecodeJob | undefined;
    let fewest = lanes;
    for (const job of this.#waiting) {
      const count = running.get(job.call) ?? 0;
      if (count < fewest) [best, fewest] = [job, count];
      if (fewest === 0) break;
    }
    return best;
  }

  #start(): Decoder {
    const decoder: Decoder = new Decoder({
      changed: () => this.#share(),
      ended: () => {
        this.#decoders.delete(decoder);
        this.#share();
      },
    });
    this.#decoders.add(decoder);
    return decoder;
  }
}

export const decoders = new DecoderPool();
