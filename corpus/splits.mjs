/** Which concepts train, and which are kept to choose by (validation) and to report (test). */
import { createHash } from 'node:crypto';

/** Part of every hash: another value makes another split. */
const splitName = 'mome-corpus-1';

/** A number in [0, 1) that depends on the words alone. */
export function shareOf(...words) {
  const hash = createHash('sha256')
    .update([splitName, ...words].join('\n'))
    .digest();
  return hash.readUIntBE(0, 6) / 2 ** 48;
}

/** 10 % of the concepts are tested, 3 % are looked at while choosing, the others train. */
export function splitOfConcept(concept) {
  const share = shareOf('concept', concept);
  if (share < 0.1) return 'test';
  return share < 0.13 ? 'validation' : 'train';
}

/** Items in an order by chance that does not change with the items that are beside them. */
export function shuffledBy(items, keyOf) {
  const shares = new Map(items.map((item) => [item, shareOf('order', keyOf(item))]));
  return [...items].sort((a, b) => shares.get(a) - shares.get(b));
}
