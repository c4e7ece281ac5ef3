/**
 * Downloads one file so that it can be gone on with: after a broken connection, after Ctrl-C, after the process was killed.
 *
 * `<file>.part` holds what has come, `<file>.part.json` which version of the file that is. A part is gone on with only if the server
 * confirms that version (`If-Range`); otherwise the download starts again.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { clip, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { writeError } from '../runtime/files.ts';
import type { RemoteFile } from './registry.ts';

export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with bytes there and bytes in all. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Bytes that must be free for each byte of the file, beside the file itself; default 0. */
  readonly roomFactor?: number;
  /** Milliseconds without a byte after which a connection counts as broken; default 60 000. */
  readonly timeout?: number;
  /** Attempts in a row that bring no byte, before the download fails; default 5. */
  readonly attempts?: number;
  /** Milliseconds before the first new attempt, doubled each time; default 500. */
  readonly pause?: number;
}

export interface Downloaded {
  readonly url: string;
  readonly bytes: number;
  readonly sha256: string;
}

const maxRedirects = 10;

const partSchema = z.object({
  url: z.string(),
  validator: z.string(),
  total: z.number().int().positive().max(Number.MAX_SAFE_INTEGER),
});
type Part = z.infer<typeof partSchema>;

/** A failure after which the same request may succeed. */
class Broken extends Error {}

/**
 * @param to where the file is put once it is whole
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` when length, checksum or kind differ from what is expected, `MOME_IO`,
 *   `MOME_ABORTED`; what has come stays in `<to>.part` unless it is wrong
 */
export async function download(remote: RemoteFile, to: string, options: DownloadOptions = {}): Promise<Downloaded> {
  const { signal, pause = 500, attempts = 5 } = options;
  const { EnvHttpProxyAgent } = await import('undici');
  const timeout = options.timeout ?? 60_000;
  const agent = new EnvHttpProxyAgent({ headersTimeout: timeout, bodyTimeout: timeout, connect: { timeout } });
  try {
    for (let idle = 0; ; ) {
      requireNotAborted(signal, 'pull');
      const before = await sizeOf(`${to}.part`);
      try {
        await attempt(agent, remote, to, options);
        return await finish(remote, to);
      } catch (error) {
        requireNotAborted(signal, 'pull');
        if (error instanceof MomeError) throw error;
        if (isDiskError(error)) throw writeError(error, to);
        idle = (await sizeOf(`${to}.part`)) > before ? 0 : idle + 1;
        if (idle < attempts) await setTimeout(pause * 2 ** idle, undefined, { signal }).catch(() => undefined);
        else
          throw new MomeError(
            'MOME_IO',
            `pull: expected all of ${remote.url}, the connection broke ${idle} times in a row (${clip((error as Error).message)}); what has come is kept, so the same command goes on with it`,
            { cause: error },
          );
      }
    }
  } finally {
    await agent.destroy();
  }
}

async function attempt(
  agent: Dispatcher,
  remote: RemoteFile,
  to: string,
  { signal, onProgress, roomFactor = 0 }: DownloadOptions,
): Promise<void> {
  const known = await partOf(remote, to);
  const there = known ? await sizeOf(`${to}.part`) : 0;
  if (known && there === known.total) return;
  const canGoOn = known !== undefined && there > 0 && there < known.total;
  const response = await get(agent, remote.url, {
    'accept-encoding': 'identity',
    ...(canGoOn && { range: `bytes=${there}-`, 'if-range': known.validator }),
    ...(signal && { signal }),
  });
  const { statusCode, headers, body } = response;
  const pieces = keptWhenBroken(body);
  let file: FileHandle | undefined;
  try {
    if (statusCode === 416) {
      await forget(to);
      throw new Broken('the server has no such range; starting again');
    }
    if (statusCode === 408 || statusCode === 429 || statusCode >= 500) throw new Broken(`HTTP status ${statusCode}`);
    if (statusCode !== 200 && statusCode !== 206)
      throw new MomeError(
        statusCode === 404 || statusCode === 410 ? 'MOME_NOT_FOUND' : 'MOME_IO',
        `pull: expected a file at ${remote.url}, got HTTP status ${statusCode}`,
      );
    const type = String(headers['content-type'] ?? '');
    requireFile(!/^text\/html/i.test(type), remote, `a page (${clip(type)})`);
    requireFile((headers['content-encoding'] ?? 'identity') === 'identity', remote, 'one with content-encoding');
    const range = statusCode === 206 ? rangeOf(headers['content-range']) : undefined;
    const validator = validatorOf(headers);
    const goesOn =
      canGoOn &&
      range?.begin === there &&
      range.total === known.total &&
      (validator || known.validator) === known.validator;
    if (statusCode === 206 && !goesOn) {
      await forget(to);
      throw new Broken('the server sent a part of another version; starting again');
    }
    const total = range?.total ?? Number(headers['content-length']);
    requireFile(Number.isSafeInteger(total) && total > 0, remote, 'one without a length');
    requireFile(remote.bytes === undefined || total === remote.bytes, remote, `${total} bytes for ${remote.bytes}`);
    const begin = goesOn ? there : 0;
    await requireRoom(to, total - begin + total * roomFactor);
    if (!goesOn) {
      await forget(to);
      await writeFile(`${to}.part.json`, JSON.stringify({ url: remote.url, validator, total } satisfies Part));
    }
    file = await open(`${to}.part`, goesOn ? 'a' : 'w');
    let done = begin;
    for await (const piece of pieces as AsyncIterable<Buffer>) {
      if (done === 0)
        requireFile(!/^\s*<(?:!doctype|html)/i.test(piece.subarray(0, 64).toString('latin1')), remote, 'a page');
      requireFile(done + piece.length <= total, remote, `more than the ${total} bytes that the server announced`);
      for (let at = 0; at < piece.length; ) at += (await file.write(piece, at)).bytesWritten;
      done += piece.length;
      onProgress?.(done, total);
    }
    requireNotAborted(signal, 'pull');
    if (done < total) throw new Broken(`the server ended after ${done} of ${total} bytes`);
    await file.sync();
  } catch (error) {
    if (error instanceof MomeError && error.code === 'MOME_INVALID_FILE') await forget(to);
    throw error;
  } finally {
    body.destroy();
    pieces.destroy();
    await file?.close();
  }
}

/** What comes of a body. A stream that breaks drops the pieces nobody has read yet; here they are kept, and the end comes after them. */
function keptWhenBroken(body: Readable): PassThrough {
  const pieces = new PassThrough({ highWaterMark: 2 ** 20 });
  body.on('error', () => pieces.end());
  body.pipe(pieces);
  return pieces;
}

/** Follows redirects, but never from https to http, nor to anything else. */
async function get(
  agent: Dispatcher,
  first: string,
  { signal, ...headers }: { readonly signal?: AbortSignal; readonly [header: string]: unknown },
): Promise<Dispatcher.ResponseData> {
  let url = new URL(first);
  for (let redirects = 0; ; redirects++) {
    const response = await agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: 'GET',
      headers: headers as Record<string, string>,
      signal: signal ?? null,
    });
    const { location } = response.headers;
    if (![301, 302, 303, 307, 308].includes(response.statusCode) || typeof location !== 'string') return response;
    response.body.on('error', () => {});
    response.body.destroy();
    const refuse = (got: string) => new MomeError('MOME_IO', `pull: expected a file at ${first}, got ${got}`);
    if (redirects === maxRedirects) throw refuse(`more than ${maxRedirects} redirects`);
    if (!URL.canParse(location, url.href)) throw refuse('a redirect to no address');
    const next = new URL(location, url);
    if (next.protocol !== 'https:' && next.protocol !== url.protocol) throw refuse(`a redirect to ${next.protocol}`);
    url = next;
  }
}

/** Checks the whole file and gives it its name. */
async function finish(remote: RemoteFile, to: string): Promise<Downloaded> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of createReadStream(`${to}.part`, { highWaterMark: 2 ** 20 })) {
    hash.update(piece as Buffer);
    bytes += (piece as Buffer).length;
  }
  const sha256 = hash.digest('hex');
  if (remote.sha256 !== undefined && remote.sha256 !== sha256) {
    await forget(to);
    requireFile(false, remote, `SHA-256 ${sha256} for ${remote.sha256}`);
  }
  await rename(`${to}.part`, to);
  await rm(`${to}.part.json`, { force: true });
  return { url: remote.url, bytes, sha256 };
}

async function partOf(remote: RemoteFile, to: string): Promise<Part | undefined> {
  try {
    const part = partSchema.parse(JSON.parse(await readFile(`${to}.part.json`, 'utf8')));
    return part.url === remote.url && part.validator !== '' ? part : undefined;
  } catch {
    return undefined; // Nothing has come yet, or it cannot be gone on with.
  }
}

/** A strong name of a version of the file, fit for If-Range; empty where the server gives none. */
function validatorOf(headers: Record<string, string | string[] | undefined>): string {
  const { etag } = headers;
  if (typeof etag === 'string') return etag.startsWith('W/') ? '' : etag;
  const modified = headers['last-modified'];
  return typeof modified === 'string' ? modified : '';
}

function rangeOf(
  header: string | string[] | undefined,
): { readonly begin: number; readonly total: number } | undefined {
  const found = /^bytes (\d+)-\d+\/(\d+)$/.exec(String(header));
  return found ? { begin: Number(found[1]), total: Number(found[2]) } : undefined;
}

async function requireRoom(to: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(to));
  if (bavail * bsize < bytes)
    throw new MomeError(
      'MOME_IO',
      `pull: expected ${bytes} free bytes at ${dirname(to)}, got ${bavail * bsize}; MOME_CACHE names another folder`,
    );
}

function requireFile(condition: boolean, { url }: RemoteFile, got: string): asserts condition {
  if (!condition) throw new MomeError('MOME_INVALID_FILE', `pull: expected a file at ${url}, got ${got}`);
}

const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;
const isDiskError = (error: unknown): boolean =>
  ['ENOSPC', 'EACCES', 'EROFS', 'EDQUOT', 'ENOENT', 'EISDIR'].includes(String((error as NodeJS.ErrnoException).code));

async function forget(to: string): Promise<void> {
  await rm(`${to}.part`, { force: true });
  await rm(`${to}.part.json`, { force: true });
}
