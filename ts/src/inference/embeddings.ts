/**
 * Embeddings as a call gives them: one array of all rows, and the same rows one by one for databases that take a list each.
 */
import { check } from '../runtime/errors.ts';

/** Rows of numbers, one after the other in memory. */
export interface EmbeddingMatrix {
  /** [count, width] numbers. */
  readonly embeddings: Float32Array;
  readonly count: number;
  readonly width: number;
}

/** Rows of one call: row i belongs to input i, and every row has length 1. */
export interface Embeddings extends EmbeddingMatrix {
  /** [count] views of [width] numbers, which share the memory of `embeddings`: nothing is copied. */
  rows(): Float32Array[];
  /** [count] lists of [width] numbers, copied: what clients of vector databases and JSON take. */
  toArrays(): number[][];
}

class EmbeddingRows implements Embeddings {
  readonly embeddings: Float32Array;
  readonly count: number;
  readonly width: number;

  constructor(embeddings: Float32Array, width: number) {
    this.embeddings = embeddings;
    this.count = embeddings.length / width;
    this.width = width;
  }

  rows(): Float32Array[] {
    return EmbeddingRows.#each(this, 'rows', (row) => row);
  }

  toArrays(): number[][] {
    return EmbeddingRows.#each(this, 'toArrays', (row) => Array.from(row));
  }

  /** Also says what is wrong where a method was taken from its object. */
  static #each<T>(rows: unknown, where: string, work: (row: Float32Array) => T): T[] {
    check(
      rows instanceof EmbeddingRows,
      'MOME_INVALID_ARGUMENT',
      `${where}: expected to be called as a method of embeddings`,
    );
    const { embeddings, count, width } = rows;
    return Array.from({ length: count }, (_, i) => work(embeddings.subarray(i * width, (i + 1) * width)));
  }
}

/** @param embeddings [count, width], not copied */
export function embeddingsOf(embeddings: Float32Array, width: number): Embeddings {
  return new EmbeddingRows(embeddings, width);
}
