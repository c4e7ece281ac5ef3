/** The one source of randomness of training: a small, fast generator whose state can be saved and restored exactly. */
import { describe, type Kind, withMethods } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';

/** The whole state of a {@link Random}: four unsigned 32-bit words, not all zero. Plain JSON. */
export type RandomState = readonly [number, number, number, number];

/**
 * xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021): period 2^128 - 1, four words of
 * state, the same numbers on every machine. Not for secrets.
 */
export class Random {
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;

  constructor(...seed: readonly number[]) {
    this.reseed(...seed);
  }

  /**
   * Starts again from `seed` without allocating. Several numbers name a stream, such as (seed, epoch, index), so that what
   * one item draws does not depend on how many items were drawn before it.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` unless there is a seed and all of it are safe integers.
   */
  reseed(...seed: readonly number[]): this {
    check(seed.length > 0, 'MOME_INVALID_ARGUMENT', 'Random.reseed: expected at least one seed, got none');
    let hash = 0x9e3779b9;
    for (const part of seed) {
      check(
        Number.isSafeInteger(part),
        'MOME_INVALID_ARGUMENT',
        `Random.reseed: expected integer seeds, got ${describe(part)}`,
      );
      hash = mix(hash ^ (part >>> 0));
      hash = mix((hash + 0x632be5ab) ^ (Math.floor(part / 4294967296) >>> 0));
    }
    // Four outputs of a counter passed through the same bijection: at most one of them is zero.
    this.#a = mix(hash + 0x9e3779b9);
    this.#b = mix(hash + 0x3c6ef372);
    this.#c = mix(hash + 0xdaa66d2b);
    this.#d = mix(hash + 0x78dde6e4);
    return this;
  }

  /** The next 32 random bits as an unsigned integer. */
  bits(): number {
    const scrambled = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = rotate(this.#d, 11);
    return scrambled;
  }

  /** A number in [low, high); [0, 1) where nothing is named. 32 bits of resolution. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.bits() * 2 ** -32);
  }

  /**
   * An integer in [0, bound), every one equally likely (values of the incomplete last cycle are drawn again).
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` unless `bound` is an integer in [1, 2^32].
   */
  integer(bound: number): number {
    check(
      Number.isInteger(bound) && bound >= 1 && bound <= 4294967296,
      'MOME_INVALID_ARGUMENT',
      `Random.integer: expected a bound in [1, 2^32], got ${describe(bound)}`,
    );
    const limit = 4294967296 - (4294967296 % bound);
    for (;;) {
      const drawn = this.bits();
      if (drawn < limit) return drawn % bound;
    }
  }

  /** True with the given probability. Draws nothing where the probability is 0 or less. */
  chance(probability: number): boolean {
    return probability > 0 && this.uniform() < probability;
  }

  /** A normally distributed number (Box and Muller; the second of the pair is not kept, so that the state stays four words). */
  normal(mean = 0, deviation = 1): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return mean + deviation * radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** One element of a list that is not empty. */
  pick<T>(list: readonly T[]): T {
    return list[this.integer(list.length)] as T;
  }

  /** Shuffles an array in place (Fisher and Yates) and returns it. */
  shuffle<T extends { readonly length: number; [index: number]: unknown }>(list: T): T {
    for (let last = list.length - 1; last > 0; last--) {
      const other = this.integer(last + 1);
      const held = list[last];
      list[last] = list[other];
      list[other] = held;
    }
    return list;
  }

  /** The state to hand to {@link Random.restore} for the same numbers again. */
  save(): RandomState {
    return [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0];
  }

  /**
   * Goes on where {@link Random.save} was called.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` for anything that is not such a state.
   */
  restore(state: RandomState): this {
    check(
      Array.isArray(state) &&
        state.length === 4 &&
        state.every((word) => Number.isInteger(word) && word >= 0 && word <= 0xffffffff) &&
        state.some((word) => word !== 0),
      'MOME_INVALID_ARGUMENT',
      `Random.restore: expected four unsigned 32-bit words, not all zero, got ${Array.isArray(state) ? `[${state.map(describe).join(', ')}]` : describe(state)}`,
    );
    [this.#a, this.#b, this.#c, this.#d] = state;
    return this;
  }
}

/** A generator among the arguments of a call. */
export const randomKind: Kind = withMethods('a generator of createRandom', 'uniform', 'integer', 'shuffle');

/**
 * A generator started from a seed, or from a stream named by several numbers.
 *
 * @example
 * const random = createRandom(7);
 * const state = random.save();
 * random.uniform() === random.restore(state).uniform(); // true
 */
export function createRandom(...seed: readonly number[]): Random {
  return new Random(...seed);
}

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}

/** A bijection on 32-bit words with full avalanche (two multiply-xorshift rounds). */
function mix(word: number): number {
  let mixed = word | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
