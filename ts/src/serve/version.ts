/** The version of this package. */
export { packageVersion } from '../runtime/package-files.ts';
