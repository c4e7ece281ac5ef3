/**
 * What a request of one text costs beyond the call itself: a request over a connection that is kept, and the same call in the server's
 * process, in turns. Once by a client that writes to a socket, which is what the bound is about, and once by undici, whose own time counts too.
 */
import { bareConnection, connection, median, quantile, round, startHost, text } from './load.mjs';

const warmUp = 300;

export const title = 'milliseconds of a request of one text beyond the call itself';
export const bound = 0.4;

export async function measure({ model, count = 3000, log }) {
  const host = await startHost({ model });
  const clients = { socket: bareConnection(host.url), undici: connection(host.url) };
  const differences = { socket: [], undici: [] };
  const direct = [];
  try {
    for (let i = -warmUp; i < count; i++)
      for (const [name, { post }] of Object.entries(clients)) {
        const { milliseconds, status } = await post(JSON.stringify({ texts: [text()], encoding_format: 'base64' }));
        if (status !== 200) throw new Error(`expected 200, got ${status}`);
        const call = await host.ask({ one: text() });
        if (i < 0) continue;
        differences[name].push(milliseconds - call);
        direct.push(call);
      }
  } finally {
    for (const { close } of Object.values(clients)) close();
    await host.end();
  }
  const rows = Object.entries(differences).map(([client, values]) => {
    const [fastDecile, p50, slowDecile] = [0.1, 0.5, 0.9].map((share) => round(quantile(values, share)));
    log(`${client}: p50 ${p50} ms (a tenth ${fastDecile}, nine tenths ${slowDecile})`);
    return { client, p50, fastDecile, slowDecile, count, ...(client === 'socket' && { bound }) };
  });
  log(`the call itself: ${round(median(direct))} ms`);
  return { rows, callP50: round(median(direct)), passed: rows[0].p50 <= bound };
}
