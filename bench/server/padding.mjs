/**
 * Ragged runs against batches that are padded to their longest text, as servers that run a framework's dense kernels do. Both on our engine:
 * a padded text is one of as many word pieces, which costs what dense kernels pay for it.
 */
import { Vlmo } from '../../dist/index.mjs';
import { median, round, text } from './load.mjs';

const batch = 32;
/** Texts that are sorted by length before they are cut into batches, as infinity does with what waits. */
const sortedTogether = 256;
const count = 512;

export const title = 'texts of mixed lengths, ragged against padded to the longest';
export const bound = 1.5;

/** Numbers of words, by a generator with a seed of its own. */
const lengths = {
  // As captions and questions are: most are short.
  skewed: (random, most) => Math.min(most, 4 + Math.floor(-7 * Math.log(1 - random()))),
  even: (random, most) => 4 + Math.floor(random() * (most - 3)),
};

export async function measure({ model, rounds = 7, log }) {
  const vlmo = await Vlmo.load(model);
  const most = vlmo.config.maxTextLength - 2;
  const rows = [];
  try {
    for (const [name, length] of Object.entries(lengths)) {
      const random = generator(7);
      const all = Array.from({ length: count }, () => length(random, most));
      const batches = (numbers) =>
        Array.from({ length: numbers.length / batch }, (_, i) => numbers.slice(i * batch, (i + 1) * batch));
      const windows = Array.from({ length: count / sortedTogether }, (_, i) =>
        all.slice(i * sortedTogether, (i + 1) * sortedTogether).sort((a, b) => a - b),
      );
      const padded = (numbers) => batches(numbers).map((of) => of.map(() => Math.max(...of)));
      const ways = { ragged: [all], arrival: padded(all), sorted: padded(windows.flat()) };
      const times = { ragged: [], arrival: [], sorted: [] };
      for (let turn = -1; turn < rounds; turn++)
        for (const [way, calls] of Object.entries(ways)) {
          const given = calls.map((numbers) => numbers.map(text));
          const begun = performance.now();
          for (const each of given) await vlmo.embedTexts(each);
          if (turn >= 0) times[way].push(performance.now() - begun);
        }
      const ratio = (way) => round(median(times[way].map((time, i) => time / times.ragged[i])));
      const row = {
        name,
        meanTokens: round(all.reduce((sum, each) => sum + each + 2, 0) / count, 1),
        inOrderOfArrival: ratio('arrival'),
        sortedWithin256: ratio('sorted'),
        bound,
      };
      log(
        `${name}: ${row.inOrderOfArrival} in order of arrival, ${row.sortedWithin256} sorted within ${sortedTogether}`,
      );
      rows.push(row);
    }
  } finally {
    await vlmo.dispose();
  }
  return { rows, passed: rows.every(({ inOrderOfArrival }) => inOrderOfArrival >= bound) };
}

/** Numbers from 0 to 1, the same for a seed (Lehmer). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}
