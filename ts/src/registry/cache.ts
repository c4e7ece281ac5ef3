/** Where models that were downloaded lie, and what the environment says about it. */
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { MomeError } from '../runtime/errors.ts';
import type { RemoteFile } from './registry.ts';

/** `MOME_CACHE`, else `mome` in `XDG_CACHE_HOME`, else `~/.cache/mome`. */
export function cacheFolder(): string {
  const { MOME_CACHE, XDG_CACHE_HOME } = process.env;
  if (MOME_CACHE) return resolve(MOME_CACHE);
  // The rules of XDG say that a relative path is to be ignored.
  return join(XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : join(homedir(), '.cache'), 'mome');
}

/** The places of one model in the cache. */
export function placesOf(name: string, cache = cacheFolder()) {
  return {
    /** The converted model. */
    model: join(cache, 'models', name),
    /** Written last: with it the model is whole. */
    source: join(cache, 'models', name, 'source.json'),
    /** Parts and files that are not converted yet. */
    downloads: join(cache, 'downloads', name),
    lock: join(cache, 'downloads', `${name}.lock`),
    /** Checksums that the first download saw; they outlive the model. */
    seen: join(cache, 'seen', `${name}.json`),
  } as const;
}

/** Whether `MOME_OFFLINE` forbids all downloads: anything but empty, 0 and false. */
export const isOffline = (): boolean => !['', '0', 'false'].includes((process.env.MOME_OFFLINE ?? '').toLowerCase());

/** The same file at the mirror that `MOME_MIRROR` names, if it names one. @throws MomeError `MOME_INVALID_ARGUMENT` */
export function mirrored(remote: RemoteFile): RemoteFile {
  const mirror = process.env.MOME_MIRROR;
  if (!mirror) return remote;
  if (!URL.canParse(mirror) || !/^https?:$/.test(new URL(mirror).protocol))
    throw new MomeError(
      'MOME_INVALID_ARGUMENT',
      'pull: expected the address of a folder over http or https in MOME_MIRROR',
    );
  return { ...remote, url: new URL(remote.file, mirror.endsWith('/') ? mirror : `${mirror}/`).href };
}
