/** The checksums of zip archives. */
import { crc32 } from 'node:zlib';
import { check } from '../runtime/errors.ts';

/**
 * @param expected CRC-32 that the archive names; 0 for none
 * @param where names the file and the entry
 * @throws MomeError `MOME_INVALID_FILE` for bytes with another one
 */
export function requireChecksum(bytes: Uint8Array, expected: number, where: string): void {
  if (expected === 0) return;
  const got = crc32(bytes);
  check(
    got === expected,
    'MOME_INVALID_FILE',
    `${where}: expected bytes with the checksum ${expected.toString(16)}, got ${got.toString(16)}: the file is damaged`,
  );
}
