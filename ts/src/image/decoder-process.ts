/** One decoder process, seen from the process that asks. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ChildProcess } from '../runtime/child-process.ts';
import { type ErrorCode, errorCodes, MomeError } from '../runtime/errors.ts';
import { isSingleExecutable, packageRoot } from '../runtime/package-files.ts';
import { type DecodeReply, type DecodeRequest, FrameReader, frameHeader } from './frames.ts';
import { clockFactor, decodeMilliseconds, millisecondsFor } from './limits.ts';
import type { RgbImage } from './pixels.ts';

export interface DecodeJob {
  readonly request: DecodeRequest;
  readonly bytes: Uint8Array | undefined;
  /** The call it belongs to, and whose call it is, where that is known. */
  readonly call: object;
  readonly client: string | undefined;
  resolve(picture: RgbImage): void;
  reject(error: unknown): void;
}

/** Told to the pool. */
interface DecoderEvents {
  /** A job is done, or takes long. */
  changed(): void;
  /** The process is gone. */
  ended(): void;
}

/** A job that runs longer takes long. */
const slowMilliseconds = 250;
/** Time to start: Node, sharp and the addon. */
const startMilliseconds = 60_000;
/** A decoder with nothing to do ends after this. */
const idleMilliseconds = 10_000;
/** Bytes written between two looks at other events. */
const pieceLength = 2 ** 18;
/** Units of processor time in /proc, in milliseconds. */
const tick = 10;

/** Does one job at a time. Keeps this process alive only while it has one. */
export class Decoder {
  /** Undefined where none could be started. */
  readonly #child: ChildProcess | undefined;
  readonly #events: DecoderEvents;
  readonly #reader = new FrameReader();
  #job: DecodeJob | undefined;
  #slow = false;
  #ready = false;
  #ended = false;
  #slowTimer: NodeJS.Timeout | undefined;
  /** Of the limit while there is a job, else of idleness. */
  #timer: NodeJS.Timeout | undefined;
  /** Since the job began: on the clock, and processor time of the child until then, in milliseconds. */
  #began = { clock: 0, processor: 0 };
  #limit = 0;

  constructor(events: DecoderEvents) {
    this.#events = events;
    try {
      const program = join(packageRoot(), 'dist', 'decoder.mjs');
      this.#child = new ChildProcess(nodeProgram(), [program], environment(), (code, signal) =>
        this.#exited(code, signal),
      );
    } catch (error) {
      // Later, when the decoder has its job.
      setImmediate(() => this.#stopped(`could not start one (${(error as Error).message})`, error));
      return;
    }
    this.#child.stdout.on('data', (piece: Buffer) => {
      for (const { header, bytes } of this.#reader.push(piece)) this.#hear(header as DecodeReply, bytes);
    });
    this.#child.keepAlive(false);
  }

  get job(): DecodeJob | undefined {
    return this.#job;
  }

  /** Whether the present job takes long. */
  get slow(): boolean {
    return this.#slow;
  }

  take(job: DecodeJob): void {
    this.#job = job;
    this.#child?.keepAlive(true);
    this.#slowTimer = setTimeout(() => {
      this.#slow = true;
      this.#events.changed();
    }, slowMilliseconds);
    this.#allow(this.#ready ? decodeMilliseconds : startMilliseconds);
    void this.#send(job);
  }

  /** In pieces: a pipe takes all it is given at once while the other side reads, and other events would wait. */
  async #send(job: DecodeJob): Promise<void> {
    const stdin = this.#child?.stdin;
    if (!stdin) return;
    const bytes = job.bytes ?? new Uint8Array(0);
    stdin.write(frameHeader(job.request, bytes.length));
    for (let at = 0; at < bytes.length && this.#job === job; at += pieceLength) {
      await new Promise((written) => stdin.write(bytes.subarray(at, at + pieceLength), written));
    }
  }

  /** Ends the process, whatever it is doing. Its job is left to the caller. */
  end(): void {
    this.#leaveJob();
    clearTimeout(this.#timer);
    this.#ended = true;
    this.#child?.kill();
  }

  #hear(reply: DecodeReply, bytes: Uint8Array): void {
    if (this.#ended) return;
    if (reply.kind === 'ready') {
      this.#ready = true;
      if (this.#job) this.#allow(decodeMilliseconds);
    } else if (reply.kind === 'pixels') {
      this.#limit = millisecondsFor(reply.count);
    } else {
      const job = this.#leaveJob();
      if (reply.kind === 'picture') job?.resolve({ data: bytes, width: reply.width, height: reply.height });
      else job?.reject(errorOf(reply));
      this.#child?.keepAlive(false);
      this.#timer = setTimeout(() => {
        this.end();
        this.#events.ended();
      }, idleMilliseconds);
      this.#timer.unref();
      this.#events.changed();
    }
  }

  #leaveJob(): DecodeJob | undefined {
    const job = this.#job;
    this.#job = undefined;
    this.#slow = false;
    clearTimeout(this.#slowTimer);
    clearTimeout(this.#timer);
    return job;
  }

  /** Gives the job so many milliseconds from now. */
  #allow(milliseconds: number): void {
    this.#limit = milliseconds;
    this.#began = { clock: performance.now(), processor: processorTime(this.#child?.pid) };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#checkTime(), milliseconds);
  }

  /** Where the processor is shared, waiting for it does not count, up to a point. */
  #checkTime(): void {
    const clock = performance.now() - this.#began.clock;
    const used = processorTime(this.#child?.pid) - this.#began.processor;
    const left = Math.min(this.#limit - used, clockFactor * this.#limit - clock);
    if (left > tick) {
      this.#timer = setTimeout(() => this.#checkTime(), left);
      return;
    }
    const job = this.#leaveJob();
    this.end();
    job?.reject(
      new MomeError(
        'MOME_TOO_LARGE',
        `${job.request.name}: expected a picture that decodes in ${Math.round(this.#limit / 1000)} s, it took longer`,
      ),
    );
    this.#events.ended();
  }

  #exited(code: number | null, signal: string | null): void {
    if (this.#ended) return;
    const { name } = this.#job?.request ?? { name: 'picture' };
    if (!this.#ready) {
      this.#stopped(`one ended while it started (${signal ?? `exit code ${code}`})`);
      return;
    }
    // What allocates memory and gets none aborts, or is ended by the system.
    const memory = signal === 'SIGABRT' || signal === 'SIGTRAP' || signal === 'SIGKILL' || signal === 'SIGILL';
    this.#stop(
      memory
        ? new MomeError(
            'MOME_TOO_LARGE',
            `${name}: expected a picture that decodes in the memory a decoder has, it needed more`,
          )
        : new MomeError(
            'MOME_INVALID_IMAGE',
            `${name}: expected a picture that can be decoded, its decoder crashed (${signal ?? `exit code ${code}`})`,
          ),
    );
  }

  #stopped(why: string, cause?: unknown): void {
    const name = this.#job?.request.name ?? 'picture';
    const message = `${name}: expected a decoder process, ${why}`;
    this.#stop(new MomeError('MOME_IO', message, { cause }));
  }

  #stop(error: MomeError): void {
    if (this.#ended) return;
    const job = this.#leaveJob();
    this.end();
    job?.reject(error);
    this.#events.ended();
  }
}

/** The program that runs a decoder: this one's, where it is Node or, as Electron, can be. A single executable application would start itself. */
function nodeProgram(): string {
  const { MOME_NODE: chosen } = process.env;
  if (chosen !== undefined && chosen !== '') return chosen;
  if (isSingleExecutable())
    throw new Error('and this program is a single executable application: set MOME_NODE to the path of a Node program');
  return process.execPath;
}

/** A debugger of this process is none of a decoder's. */
function environment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: options = '', ...others } = process.env;
  const electron = process.versions.electron === undefined ? {} : { ELECTRON_RUN_AS_NODE: '1' };
  return { ...others, ...electron, NODE_OPTIONS: options.replace(/--inspect\S*/g, '') };
}

function errorOf({ code, message, reason }: Extract<DecodeReply, { kind: 'error' }>): MomeError {
  const known = (errorCodes as readonly string[]).includes(code) ? (code as ErrorCode) : 'MOME_INTERNAL';
  return new MomeError(known, message, reason === undefined ? {} : { cause: new Error(reason) });
}

/** Milliseconds of processor time a process has used; 0 where nothing tells. */
function processorTime(pid: number | undefined): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return tick * (Number(fields[11]) + Number(fields[12]));
  } catch {
    return 0;
  }
}
