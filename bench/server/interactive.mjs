/** Latency of single interactive texts while bulk pictures saturate the engine, by the duration of one bulk run. */
import { connection, generate, metricsOf, pictureFiles, quantile, round, startHost, text, total } from './load.mjs';

const connections = 8;
const requestsOfConnection = 16;

export const title = 'latency of interactive texts beside bulk pictures, by one bulk run';
export const bound = 1.5;

export async function measure({ model, kind, runsAhead = 0, seconds = kind === 'base' ? 240 : 30, log }) {
  const images = kind === 'base' ? 4 : 16;
  const host = await startHost({ model, options: { runsAhead } });
  const files = await pictureFiles(512);
  const bodies = (number) =>
    Array.from({ length: requestsOfConnection }, (_, i) => {
      const first = (number * requestsOfConnection + i) * images;
      const shown = Array.from({ length: images }, (_, k) => files[(first + k) % files.length]);
      return JSON.stringify({ images: shown, priority: 'bulk', encoding_format: 'base64' });
    });
  const { post, close } = connection(host.url);
  const alone = Math.max(5, seconds / 6);
  let run = Number.NaN;
  let isLoaded = true;
  const bulk = generate({ url: host.url, seconds: alone + seconds, connections, bodies }).finally(() => {
    isLoaded = false;
  });
  const latencies = [];
  try {
    await sleep(1000 * Math.min(2, alone / 3));
    const before = await metricsOf(host.url);
    await sleep(1000 * (alone - 2));
    const after = await metricsOf(host.url);
    const runs = (name) => total(after, name) - total(before, name);
    run = (1000 * runs('mome_run_duration_seconds_sum')) / runs('mome_run_duration_seconds_count');
    while (isLoaded) {
      await sleep(2 * run * Math.random());
      if (!isLoaded) break;
      const { milliseconds, status } = await post(JSON.stringify({ texts: [text()], encoding_format: 'base64' }));
      if (status !== 200) throw new Error(`expected 200, got ${status}`);
      if (isLoaded) latencies.push(milliseconds);
    }
    const { answers, failures } = await bulk;
    const refused = failures + answers.filter(({ status }) => status !== 200).length;
    if (refused > 0) throw new Error(`expected no failures of bulk requests, got ${refused}`);
  } finally {
    close();
    await host.end();
  }
  const [p50, p99] = [0.5, 0.99].map((share) => round(quantile(latencies, share), 2));
  const row = { p50, p99, bulkRun: round(run, 2), ratio: round(p99 / run), count: latencies.length, bound };
  log(`p50 ${p50} ms, p99 ${p99} ms of ${row.count} texts; a bulk run ${row.bulkRun} ms: ${row.ratio} of it`);
  return { rows: [row], passed: row.ratio <= bound };
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
