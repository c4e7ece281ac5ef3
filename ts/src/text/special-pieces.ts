/** The special pieces of a vocabulary. */
import { check } from '../runtime/errors.ts';
import { specials } from './vocabulary.ts';

const required = ['[CLS]', '[SEP]', '[MASK]', '[UNK]'] as const;

/** Ids of CLS, SEP, PAD, UNK and MASK. */
export class SpecialPieces {
  readonly cls: number;
  readonly sep: number;
  readonly mask: number;
  readonly #ids: ReadonlySet<number>;

  /** @throws MomeError `MOME_INVALID_FILE` for a vocabulary that lacks one of them; PAD may be missing */
  constructor(idOf: (piece: string) => number | undefined, where: string) {
    const ids = new Map<string, number>();
    for (const piece of specials) {
      const id = idOf(piece);
      if (id !== undefined) ids.set(piece, id);
    }
    const missing = required.filter((piece) => !ids.has(piece));
    check(
      missing.length === 0,
      'MOME_INVALID_FILE',
      `${where}: expected the pieces ${required.join(' ')}, found no ${missing.join(' ')}`,
    );
    this.cls = ids.get('[CLS]')!;
    this.sep = ids.get('[SEP]')!;
    this.mask = ids.get('[MASK]')!;
    this.#ids = new Set(ids.values());
  }

  has(id: number): boolean {
    return this.#ids.has(id);
  }

  /** A text's pieces with CLS before and SEP behind them. */
  around(pieces: readonly number[]): Int32Array {
    return Int32Array.from([this.cls, ...pieces, this.sep]);
  }
}
