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
/** Processes at most: a call, and a client with all its calls, may have taken its share for pictures that take long, and others still go on. */
const mostDecoders = 2 * lanes + 4;
const mostOfCall = lanes;
const mostOfClient = mostDecoders / 2;

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
    {
      signal,
      call,
      client,
    }: { readonly signal: AbortSignal | undefined; readonly call: object; readonly client?: string | undefined },
  ): Promise<RgbImage> {
    requireNotAborted(signal, 'picture');
    let ended = () => {};
    try {
      return await new Promise<RgbImage>((resolve, reject) => {
        const job: DecodeJob = { request, bytes, call, client, resolve, reject };
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

  /** The job that waits longest of the client that has the fewest decoders, and of its calls of the one that has. */
  #nextJob(busy: readonly Decoder[]): DecodeJob | undefined {
    const running = new Map<unknown, number>();
    const count = (key: unknown) => running.get(key) ?? 0;
    for (const { job } of busy) for (const key of new Set(ownersOf(job!))) running.set(key, count(key) + 1);
    let best: DecodeJob | undefined;
    let fewest = Number.POSITIVE_INFINITY;
    for (const job of this.#waiting) {
      const [ofClient, ofCall] = ownersOf(job).map(count) as [number, number];
      if (ofClient >= mostOfClient || ofCall >= mostOfCall) continue;
      const rank = ofClient * mostDecoders + ofCall;
      if (rank < fewest) [best, fewest] = [job, rank];
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

/** Whose call a picture belongs to, and the call: one of nobody is its own. */
const ownersOf = ({ client, call }: DecodeJob) => [client ?? call, call] as const;

export const decoders = new DecoderPool();
