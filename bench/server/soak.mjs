/** A day's worth of requests of every kind: memory and descriptors stay what they were. */
import { connection, growth, pictureFiles, round, startHost, text, watch } from './load.mjs';

const connections = 24;
const deadline = 60_000;

export const title = 'memory over many requests';
const mostGrowth = 32 * 2 ** 20;

export async function measure({ model, count = 200_000, log }) {
  const host = await startHost({ model, options: { cacheBytes: 4 * 2 ** 20 } });
  const files = await pictureFiles(64);
  const file = (i) => files[i % files.length];
  /** Most are texts; of each sixteen some show pictures, and one is refused. */
  const requests = [
    (i) => ['/v1/embed', { images: [file(i)], encoding_format: 'base64' }, 200],
    (i) => ['/v1/match', { images: [file(i)], texts: [text(), text()] }, 200],
    (i) => ['/v1/rerank', { query: text(), documents: [{ image: file(i) }, { image: file(i + 1) }] }, 200],
    () => ['/v1/embeddings', { model: 'mome', input: [text(), text()], encoding_format: 'float' }, 200],
    () => ['/v1/embed', { texts: [text()], wrong: true }, 422],
  ];
  const usual = () => ['/v1/embed', { texts: [text(), text()], priority: 'bulk', encoding_format: 'base64' }, 200];
  const paths = ['/v1/embed', '/v1/match', '/v1/rerank', '/v1/embeddings'];
  let sent = 0;
  const worker = async () => {
    const open = new Map(paths.map((path) => [path, connection(host.url, path, { 'x-timeout-ms': `${deadline}` })]));
    while (sent < count) {
      const number = sent++;
      const [path, body, wanted] = (requests[number % 16] ?? usual)(number);
      const { status, answer } = await open.get(path).post(JSON.stringify(body));
      if (status !== wanted) throw new Error(`${path}: expected ${wanted}, got ${status}: ${answer.slice(0, 200)}`);
      JSON.parse(answer);
    }
    for (const { close } of open.values()) close();
  };
  try {
    const before = await host.ask({ look: true });
    const stop = watch(host);
    const begun = performance.now();
    await Promise.all(Array.from({ length: connections }, worker));
    const perSecond = (1000 * count) / (performance.now() - begun);
    const seen = stop();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const after = await host.ask({ look: true });
    const row = {
      count,
      perSecond: round(perSecond, 0),
      growthMiB: round(growth(seen.map(({ rss }) => rss)) / 2 ** 20, 1),
      heapMiB: [before, after].map(({ heapUsed }) => round(heapUsed / 2 ** 20, 1)),
      externalMiB: [before, after].map(({ external }) => round(external / 2 ** 20, 1)),
      descriptors: [before.descriptors, after.descriptors],
      gap: round(Math.max(...seen.map(({ gap }) => gap)), 1),
    };
    log(JSON.stringify(row));
    return {
      rows: [row],
      passed: row.growthMiB * 2 ** 20 < mostGrowth && after.descriptors <= before.descriptors + 16,
    };
  } finally {
    await host.end();
  }
}
