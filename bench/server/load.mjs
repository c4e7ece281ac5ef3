/** What the benches of the server share: its process, inputs, generators of load, and its metrics. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import autocannon from 'autocannon';
import sharp from 'sharp';
import { Client } from 'undici';
import { pictures } from '../base-model.mjs';
import { root } from '../machine.mjs';
import { median } from '../statistics.mjs';

export { median };

/** One of the values, that of rank `share`. */
export const quantile = (values, share) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))];

/** Starts a server of a model. `ask` sends it a message and gives what it says; `end` ends it. */
export async function startHost({ model, options = {} }) {
  const child = fork(join(root, 'bench', 'server', 'host.mjs'), [JSON.stringify({ model, options })], {
    execArgv: ['--expose-gc'],
  });
  const ended = once(child, 'exit').then(([code]) => code);
  const answer = () =>
    new Promise((resolve, reject) => {
      child.once('message', ({ result }) => resolve(result));
      ended.then((code) => reject(new Error(`expected the server to answer, it ended with ${code}`)));
    });
  const about = await answer();
  const ask = (message) => {
    child.send(message);
    return answer();
  };
  const end = async () => {
    child.send({ end: true });
    await ended;
  };
  return { ...about, child, ask, end };
}

const words = 'red happy small old green cat dog tree car house sun moon star fish bird face'.split(' ');
let seed = 0;
/** A text that no other is equal to, of `count` words that are one piece each: equal ones would be computed once. */
export function text(count = 7) {
  const number = seed++;
  return Array.from({ length: count }, (_, place) => words[(number >> (4 * (place % 6))) & 15]).join(' ');
}
export const texts = (count, length) => Array.from({ length: count }, () => text(length));

/** Picture files, all different, as base64. */
export async function pictureFiles(count) {
  const raw = pictures(count, 1);
  const files = raw.map(({ data, width, height, channels }) =>
    // Noise would make files several times as large as those of photographs.
    sharp(data, { raw: { width, height, channels } }).blur(2).jpeg({ quality: 85 }).toBuffer(),
  );
  return (await Promise.all(files)).map((file) => file.toString('base64'));
}

/**
 * Load by autocannon for so many seconds.
 *
 * @param {{ url: string, path?: string, seconds: number, connections: number, bodies: (connection: number) => string[], rate?: number,
 *   headers?: Record<string, string> }} load `rate` is requests each second of all connections together
 * @returns times of all answers by status, [{ at, status, milliseconds }], and failures without an answer
 */
export async function generate({ url, path = '/v1/embed', seconds, connections, bodies, rate, headers = {} }) {
  let failures = 0;
  let number = 0;
  const answers = [];
  const load = autocannon({
    url: url + path,
    method: 'POST',
    connections,
    duration: seconds,
    timeout: 120,
    ...(rate && { overallRate: rate }),
    headers: { 'content-type': 'application/json', ...headers },
    setupClient: (client) => client.setRequests(bodies(number++).map((body) => ({ body }))),
  });
  load.on('response', (_, status, __, milliseconds) => answers.push({ at: performance.now(), status, milliseconds }));
  load.on('reqError', () => failures++);
  await load;
  return { answers, failures };
}

/**
 * Answers each second between the first and the last that came: what was under way at the begin and the end counts for nothing. All answers of one run
 * come together, so the first few milliseconds are left out whole.
 */
export function steadyRate(answers, together = 20) {
  const times = answers.map(({ at }) => at).sort((a, b) => a - b);
  const first = times.findIndex((time) => time > times[0] + together);
  if (first < 0) throw new Error(`expected answers of several runs, got ${times.length} together: measure longer`);
  const counted = times.length - first;
  return (1000 * counted) / (times.at(-1) - times[first - 1]);
}

/** A connection that is kept, with `post(body)` in milliseconds until the whole answer is there. */
export function connection(url, path = '/v1/embed', headers = {}) {
  const client = new Client(url);
  const post = async (body) => {
    const begun = performance.now();
    const response = await client.request({
      path,
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    });
    const answer = await response.body.text();
    return { milliseconds: performance.now() - begun, status: response.statusCode, answer };
  };
  return { post, close: () => client.destroy() };
}

/** As `connection`, by bytes written to a socket: a client that takes next to no time itself. One request at a time. */
export function bareConnection(url, path = '/v1/embed') {
  const { hostname, port } = new URL(url);
  const socket = createConnection({ host: hostname, port: Number(port), noDelay: true });
  let received = '';
  let done = () => {};
  socket.setEncoding('latin1').on('data', (data) => {
    received += data;
    const head = received.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = Number(/content-length: (\d+)/i.exec(received)?.[1]);
    if (received.length < head + 4 + length) return;
    const answer = received;
    received = '';
    done(answer);
  });
  const post = async (body) => {
    const begun = performance.now();
    const answer = await new Promise((resolve) => {
      done = resolve;
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    });
    return { milliseconds: performance.now() - begun, status: Number(answer.slice(9, 12)) };
  };
  return { post, close: () => socket.destroy() };
}

/** The metrics of a server: their values by name and labels as they stand there. */
export async function metricsOf(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

/** Sum of all values of a metric, whatever its labels. */
export const total = (metrics, name) =>
  [...metrics].filter(([key]) => key === name || key.startsWith(`${name}{`)).reduce((sum, [, value]) => sum + value, 0);

/** Looks at memory, descriptors and the event loop of a server each second until `stop` is called, which gives what was seen. */
export function watch(host) {
  const seen = [];
  const timer = setInterval(async () => {
    const metrics = await metricsOf(host.url).catch(() => undefined);
    if (metrics === undefined) return;
    seen.push({
      rss: metrics.get('mome_resident_bytes'),
      gap: 1000 * metrics.get('mome_event_loop_delay_seconds{quantile="1"}'),
    });
  }, 1000);
  return () => {
    clearInterval(timer);
    return seen;
  };
}

/** How much memory grew from the first third to the last third of what was seen, in bytes. */
export function growth(sizes) {
  const third = Math.max(1, Math.floor(sizes.length / 3));
  return median(sizes.slice(-third)) - median(sizes.slice(0, third));
}

export const round = (value, digits = 3) => Number(value.toFixed(digits));
