/**
 * What HTTP costs: throughput through `mome serve` by that of direct calls, and the time of a request by that of the call itself. Both sides are
 * measured in turns, each in a process of its own; the load comes from a third.
 *
 *   node bench/server.mjs [model]
 */
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { Vlmo } from '../dist/index.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const model = process.argv[2];
const textsOfRequest = 32;
const connections = 16;
const requestsOfConnection = 64;
const seconds = 4;
const rounds = 5;

const words = 'red happy small old green cat dog tree car house sun moon star fish bird face'.split(' ');
/** Texts that are all different, also as word pieces of a small vocabulary: equal ones would be computed once. */
const texts = (seed, count) =>
  Array.from({ length: count }, (_, i) => {
    const number = seed * 1024 + i;
    return Array.from({ length: 7 }, (_, place) => words[(number >> (4 * place)) & 15]).join(' ');
  });
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

async function startServer() {
  const flags = ['serve', '--port', '0', '--log-level', 'silent', ...(model ? ['--model', model] : [])];
  const child = spawn(process.execPath, [join(root, 'dist/cli.mjs'), ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const url = await new Promise((resolve, reject) => {
    let log = '';
    child.stderr.on('data', (data) => {
      log += data;
      const found = /listening at (\S+);/.exec(log);
      if (found) resolve(found[1]);
    });
    child.once('exit', () => reject(new Error(log)));
  });
  return { child, url };
}

let seed = 0;
/** Texts each second of direct calls with many texts. */
async function direct(vlmo) {
  const begun = performance.now();
  let count = 0;
  while (performance.now() - begun < 1000 * seconds) {
    await vlmo.embedTexts(texts(seed++, 1024));
    count += 1024;
  }
  return (1000 * count) / (performance.now() - begun);
}

/** Texts each second through HTTP. */
async function served(url) {
  const result = await autocannon({
    url: `${url}/v1/embed`,
    method: 'POST',
    connections,
    duration: seconds,
    headers: { 'content-type': 'application/json' },
    // Each connection has texts of its own: what several ask for at the same time is computed once.
    setupClient: (client) =>
      client.setRequests(
        Array.from({ length: requestsOfConnection }, () => ({
          body: JSON.stringify({ texts: texts(seed++, textsOfRequest), encoding_format: 'base64' }),
        })),
      ),
  });
  if (result.non2xx + result.errors > 0) throw new Error(`expected no failures, got ${result.non2xx + result.errors}`);
  return (textsOfRequest * result['2xx']) / result.duration;
}

/** Milliseconds of one text at a time: median of many. */
async function alone(call) {
  const times = [];
  for (let i = 0; i < 500; i++) {
    const [text] = texts(seed++, 1);
    const begun = performance.now();
    await call(text);
    times.push(performance.now() - begun);
  }
  return median(times);
}

const vlmo = await Vlmo.load(model);
const { child, url } = await startServer();
try {
  const ratios = [];
  const overheads = [];
  const request = async (text) => {
    const response = await fetch(`${url}/v1/embed`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ texts: [text], encoding_format: 'base64' }),
    });
    await response.text();
  };
  await alone(request);
  for (let round = 0; round < rounds; round++) {
    const own = await direct(vlmo);
    ratios.push((await served(url)) / own);
    const call = await alone((text) => vlmo.embedTexts([text]));
    overheads.push((await alone(request)) - call);
  }
  process.stdout.write(
    `throughput through HTTP by direct calls: ${median(ratios).toFixed(3)} (${ratios.map((each) => each.toFixed(2)).join(' ')})\n`,
  );
  process.stdout.write(
    `time of a request beyond the call, p50, its client's included: ${median(overheads).toFixed(2)} ms\n`,
  );
} finally {
  child.kill();
  await vlmo.dispose();
}
