/** sharp, loaded when the first picture needs it. (Decoder processes import it at once.) */
import { requirePackage } from '../runtime/package-files.ts';

type Sharp = typeof import('sharp').default;

let loaded: Sharp | undefined;

/** @throws MomeError `MOME_NOT_FOUND` where the package is not installed */
export function sharpLibrary(): Sharp {
  loaded ??= requirePackage('sharp') as Sharp;
  return loaded;
}
