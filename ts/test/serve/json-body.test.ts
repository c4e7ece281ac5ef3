/** Bodies in JSON as large as a server may take: read in several turns of the event loop, and bounded. */
import { isAscii, isUtf8 } from 'node:buffer';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { parseJson } from '../../src/runtime/json.ts';
import { jsonOf } from '../../src/serve/body.ts';
import { createServer, defaultLimits, mostJsonBytes } from '../../src/serve/index.ts';
import { expectCode } from '../helpers.ts';
import { loopGap } from '../loop-gap.ts';
import { loadTiny } from './helpers.ts';

let model: Vlmo;
beforeAll(async () => {
  model = await loadTiny();
}, 60_000);

/** Milliseconds of the longest turn of work, the shortest of three. */
async function longestTurn(work: () => unknown): Promise<number> {
  const turns: number[] = [];
  for (let run = 0; run < 3; run++) turns.push((await loopGap(work)).held);
  return Math.min(...turns);
}

describe('a body in JSON', () => {
  const limits = { ...defaultLimits, jsonBytes: 2 ** 26 };
  /** One text, which is the worst: nothing can be read of a half of it. */
  const body = Buffer.from(JSON.stringify({ texts: ['é'.repeat(2 ** 24)] }));

  it('is checked, decoded and parsed in turns of their own', async () => {
    const inOneTurn = async () => {
      if (!isUtf8(body)) throw new Error('expected UTF-8');
      const { jsonBytes: bytes } = limits;
      const text = body.toString(isAscii(body) ? 'latin1' : 'utf8');
      await parseJson(text, 'body', { bytes, depth: 8, values: 8, text: bytes });
    };
    expect(await longestTurn(() => jsonOf(body, limits))).toBeLessThan(0.8 * (await longestTurn(inOneTurn)));
    expect(await jsonOf(body, limits)).toEqual(JSON.parse(body.toString()));
  }, 120_000);

  it('may be no larger than what is read in time', async () => {
    const server = await createServer(model, { limits: { jsonBytes: mostJsonBytes } });
    await server.close();
    await expectCode(() => createServer(model, { limits: { jsonBytes: mostJsonBytes + 1 } }), 'MOME_INVALID_ARGUMENT');
  });
});
