/**
 * A decoder process: reads requests from standard input, decodes and resizes one picture at a time, and answers on standard output.
 *
 * Libraries that decode cannot be interrupted inside a thread, so the process that asked ends this one when time is up or nobody waits any
 * more. It ends by itself when its input does.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import sharp from 'sharp';
import { native } from '../runtime/addon.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { decodeFile } from './decode.ts';
import { type DecodeReply, type DecodeRequest, FrameReader, frameHeader } from './frames.ts';
import { bytesPerPixel, decodeBytes, maxFileBytes, pixelsInTime } from './limits.ts';
import { resized } from './resize.ts';
import { transformed } from './transform.ts';

/** At once: `process.exit` would wait for the thread that decodes. */
const end = () => process.kill(process.pid, 'SIGKILL');

function reply(header: DecodeReply, bytes: Uint8Array = new Uint8Array(0)): void {
  process.stdout.write(frameHeader(header, bytes.length));
  if (bytes.length > 0) process.stdout.write(bytes);
}

async function decode(request: DecodeRequest, bytes: Uint8Array): Promise<void> {
  const { name, path, size, fit, transform, rules, maxPixels } = request;
  try {
    limitMemory(0);
    forgetMost();
    const file = path === undefined ? bytes : await fileBytes(name, path);
    const onSize = (pixels: number) => {
      limitMemory(pixels);
      if (pixels > pixelsInTime) reply({ kind: 'pixels', count: pixels });
    };
    const picture = await decodeFile(name, file, size, onSize, rules, maxPixels);
    const made = transform ? transformed(picture, size, transform) : resized(picture, size, fit);
    const { data, width, height } = await made;
    reply({ kind: 'picture', width, height }, data);
  } catch (error) {
    reply(errorReply(name, error));
  }
}

function errorReply(name: string, error: unknown): DecodeReply {
  // Some libraries do not say that they got no memory; then nearly all of it was in use.
  const short = !(error instanceof MomeError) || (error.code === 'MOME_INVALID_IMAGE' && mostBytes() > 0.8 * limit);
  if (short) {
    const message = `${name}: expected a picture that decodes in the memory a decoder has, it needed more`;
    return { kind: 'error', code: 'MOME_TOO_LARGE', message, reason: String(error) };
  }
  const reason = error.cause === undefined ? {} : { reason: String(error.cause) };
  return { kind: 'error', code: error.code, message: error.message, ...reason };
}

/** Memory of the process before it decodes anything: private and writable, as the limit counts it. */
const ownBytes = memoryOf('VmData');
let limit = 0;

/** Lets the process have so much more memory than at the start as a picture may take. Beyond that allocations fail. */
function limitMemory(pixels: number): void {
  limit = ownBytes + decodeBytes + bytesPerPixel * Math.ceil(pixels);
  native((addon) => addon.limitMemory(limit));
}

/** The most memory in use since `forgetMost`. */
const mostBytes = () => memoryOf('VmHWM');

function forgetMost(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // Then the most of all pictures counts, and a damaged one may be called too large.
  }
}

function memoryOf(field: 'VmData' | 'VmHWM'): number {
  const status = readFileSync('/proc/self/status', 'latin1');
  return 1024 * Number(new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
}

async function fileBytes(name: string, path: string): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    check(
      info.isFile(),
      'MOME_INVALID_IMAGE',
      `${name}: expected a picture file, got a ${info.isDirectory() ? 'folder' : 'pipe or device'}`,
    );
    check(
      info.size <= maxFileBytes,
      'MOME_TOO_LARGE',
      `${name}: expected at most ${maxFileBytes} bytes, got ${info.size}`,
    );
    return await readFile(path);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const missing = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(String(code));
    throw missing
      ? new MomeError('MOME_NOT_FOUND', `${name}: expected a picture file, found none`, { cause: error })
      : new MomeError('MOME_IO', `${name}: expected a picture file, could not read it (${code})`, { cause: error });
  }
}

// Pictures differ: what sharp would keep of one is no use for the next. Each decoder is one of several.
sharp.cache(false);
sharp.concurrency(1);
// A terminal sends these to all processes of a program, which decides by itself when to end.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.stdout.on('error', end);
process.stdin.on('error', end);
process.stdin.on('close', end);
process.stdin.on('end', end);
const reader = new FrameReader();
let work = Promise.resolve();
process.stdin.on('data', (piece: Buffer) => {
  for (const { header, bytes } of reader.push(piece)) {
    work = work.then(() => decode(header as DecodeRequest, bytes));
  }
});
reply({ kind: 'ready' });
