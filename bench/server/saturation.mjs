/** Twice as many requests as can be answered: nothing but 429, in memory that stays flat, and accepted requests within their time. */
import { generate, growth, quantile, round, startHost, steadyRate, texts, watch } from './load.mjs';

const textsOfRequest = 32;
const deadline = 2000;

export const title = 'requests at twice saturation';
export const bound = 50;
const mostGrowth = 32 * 2 ** 20;

export async function measure({ model, kind, seconds = 300, log }) {
  const host = await startHost({ model });
  const each = kind === 'base' ? 4 : textsOfRequest;
  const bodies = () =>
    Array.from({ length: 64 }, () => JSON.stringify({ texts: texts(each), encoding_format: 'base64' }));
  const headers = { 'x-timeout-ms': String(deadline) };
  try {
    const first = await generate({ url: host.url, seconds: 8, connections: 32, bodies });
    const capacity = steadyRate(first.answers);
    const before = await host.ask({ look: true });
    const stop = watch(host);
    const rate = Math.ceil(2 * capacity);
    // So many connections that they send as fast as asked while answers take up to their deadline.
    const connections = Math.min(2000, Math.ceil((2 * rate * deadline) / 1000));
    const { answers, failures } = await generate({ url: host.url, seconds, connections, bodies, rate, headers });
    const seen = stop();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const after = await host.ask({ look: true });
    const counts = Object.fromEntries(counted(answers));
    const accepted = answers.filter(({ status }) => status === 200).map(({ milliseconds }) => milliseconds);
    const row = {
      capacity: round(capacity, 1),
      sent: round(answers.length / seconds, 1),
      accepted: round(accepted.length / seconds, 1),
      statuses: counts,
      failures,
      p99: round(quantile(accepted, 0.99), 1),
      deadline,
      gap: round(Math.max(...seen.map(({ gap }) => gap)), 1),
      growthMiB: round(growth(seen.map(({ rss }) => rss)) / 2 ** 20, 1),
      descriptors: [before.descriptors, after.descriptors],
      heapMiB: [before, after].map(({ heapUsed }) => round(heapUsed / 2 ** 20, 1)),
    };
    log(JSON.stringify(row));
    const others = Object.keys(counts).filter((status) => status !== '200' && status !== '429');
    const passed =
      others.length === 0 &&
      failures === 0 &&
      row.p99 <= deadline &&
      row.gap < bound &&
      row.growthMiB * 2 ** 20 < mostGrowth;
    return { rows: [row], passed };
  } finally {
    await host.end();
  }
}

/** How many answers have each status. */
function counted(answers) {
  const counts = new Map();
  for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
  return counts;
}
