/** Data sets whose pictures are files, listed in memory. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { check } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';
import type { AnswerTargets } from '../objectives/step.ts';
import type { Dataset } from './dataset.ts';

/** An item whose pictures are files. */
export interface FileItem {
  readonly files: readonly string[];
  readonly texts: readonly string[];
  /** "pairs.jsonl:12", for messages. */
  readonly origin: string;
  readonly answers?: AnswerTargets;
  readonly truth?: boolean;
}

/**
 * Items that show the same pictures are one group.
 *
 * @param folder what the fingerprint names pictures relative to, so that a set may move
 */
export function datasetOfFiles(items: readonly FileItem[], folder: string, picturesPerItem: 0 | 1 | 2 = 1): Dataset {
  const groups = new Map<string, number>();
  const groupOf = items.map(({ files }) => {
    const key = files.join('\0');
    if (!groups.has(key)) groups.set(key, groups.size);
    return groups.get(key)!;
  });
  const at = (index: number): FileItem => {
    const found = items[index];
    check(found, 'MOME_INVALID_ARGUMENT', `data: expected an index below ${items.length}, got ${index}`);
    return found;
  };
  return {
    length: items.length,
    picturesPerItem,
    async item(index) {
      const { files, texts, answers, truth } = at(index);
      return {
        pictures: files.map((file) => ({ file })),
        texts,
        group: groupOf[index]!,
        ...(answers && { answers }),
        ...(truth !== undefined && { truth }),
      };
    },
    origin: (index) => at(index).origin,
    async *itemTexts() {
      for (const { texts } of items) yield texts;
    },
    async fingerprint() {
      const hash = createHash('sha256').update(`${items.length}`);
      const pace = new Pace();
      for (const { files, texts, answers, truth } of items) {
        const names = files.map((file) => path.relative(path.resolve(folder), path.resolve(file)));
        const targets = answers && [Array.from(answers.labels), Array.from(answers.scores)];
        hash.update(JSON.stringify([names, texts, targets, truth]));
        await pace.rest();
      }
      return hash.digest('hex');
    },
    close() {},
  };
}
