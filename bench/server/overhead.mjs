/**
 * What a request of one text costs beyond the call itself: a request over a connection that is kept, and the same call in the server's
 * process, in turns.
 */
import { connection, median, quantile, round, startHost, text } from './load.mjs';

const warmUp = 300;

export const title = 'milliseconds of a request of one text beyond the call itself';
export const bound = 0.4;

export async function measure({ model, count = 3000, log }) {
  const host = await startHost({ model });
  const { post, close } = connection(host.url);
  const differences = [];
  const direct = [];
  try {
    for (let i = -warmUp; i < count; i++) {
      const { milliseconds, status } = await post(JSON.stringify({ texts: [text()], encoding_format: 'base64' }));
      if (status !== 200) throw new Error(`expected 200, got ${status}`);
      const call = await host.ask({ one: text() });
      if (i < 0) continue;
      differences.push(milliseconds - call);
      direct.push(call);
    }
  } finally {
    close();
    await host.end();
  }
  const p50 = round(median(differences));
  const row = {
    p50,
    fastDecile: round(quantile(differences, 0.1)),
    slowDecile: round(quantile(differences, 0.9)),
    callP50: round(median(direct)),
    count,
    bound,
  };
  log(`p50 ${p50} ms (a tenth ${row.fastDecile}, nine tenths ${row.slowDecile}), the call itself ${row.callP50} ms`);
  return { rows: [row], passed: p50 <= bound };
}
