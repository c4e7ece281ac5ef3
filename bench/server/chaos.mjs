/**
 * A server that is killed, ended and started again while clients ask, leave, and stay half open: every answer that came whole is right, what
 * was under way when the server was asked to end is answered, and memory, descriptors and processes do not gather.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { Client } from 'undici';
import { Vlmo } from '../../dist/index.mjs';
import { root } from '../machine.mjs';
import { metricsOf, pictureFiles, round, text, total } from './load.mjs';

const workers = 12;
const known = 48;

export const title = 'a server that is killed and ended while clients ask, leave and stay half open';

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const any = (list) => list[Math.floor(Math.random() * list.length)];

/** Requests whose right answers are known. */
async function questions(model) {
  const files = await pictureFiles(12);
  const vlmo = await Vlmo.load(model);
  const base64 = ({ embeddings, width }, i) =>
    Buffer.from(embeddings.buffer, 4 * i * width, 4 * width).toString('base64');
  const asked = [];
  const given = Array.from({ length: known }, () => text(3 + Math.floor(9 * Math.random())));
  const rows = await vlmo.embedTexts(given);
  for (let i = 0; i < known; i += 3) {
    const wanted = [0, 1, 2].map((k) => base64(rows, i + k));
    asked.push({
      body: { texts: given.slice(i, i + 3), encoding_format: 'base64' },
      isRight: ({ texts }) => texts.length === 3 && texts.every((row, k) => row === wanted[k]),
    });
  }
  const shown = await vlmo.embedImages(files.map((file) => Buffer.from(file, 'base64')));
  for (const [i, file] of files.entries()) {
    const wanted = base64(shown, i);
    asked.push({ body: { images: [file], encoding_format: 'base64' }, isRight: ({ images }) => images[0] === wanted });
  }
  await vlmo.dispose();
  return asked;
}

/** A server that is there again whenever it has ended. */
class Supervised {
  url = '';
  starts = 0;
  /** Whether it was asked to end, or has ended. */
  isEnding = true;
  constructor(model) {
    this.model = model;
  }

  async start(port = 0) {
    const flags = [
      'serve',
      '--port',
      String(port),
      '--log-level',
      'silent',
      ...(this.model ? ['--model', this.model] : []),
    ];
    this.child = spawn(process.execPath, [join(root, 'dist', 'cli.mjs'), ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let log = '';
    await new Promise((resolve, reject) => {
      this.child.stderr.on('data', (data) => {
        log += data;
        const found = /listening at (\S+);/.exec(log);
        if (!found) return;
        this.url = found[1];
        resolve();
      });
      this.child.once('exit', (code) =>
        reject(new Error(`expected the server to start, it ended with ${code}: ${log}`)),
      );
    });
    this.starts++;
    this.isEnding = false;
  }

  /** Ends it by a signal and starts it at the same port. @returns exit code, or the signal */
  async again(signal) {
    this.isEnding = true;
    const children = childrenOf(this.child.pid);
    this.child.kill(signal);
    const [code, by] = await once(this.child, 'exit');
    await sleep(500);
    const left = children.filter((pid) => existsSync(`/proc/${pid}`) && !isZombie(pid));
    await this.start(new URL(this.url).port);
    return { ended: code ?? by, left };
  }
}

function childrenOf(pid) {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
}

function isZombie(pid) {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true;
  }
}

const descriptorsOf = (pid) => readdirSync(`/proc/${pid}/fd`).length;
const residentOf = (pid) => 4096 * Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);

/** Asks again and again; an answer that came whole must be right. */
async function ask(server, asked, seen, isOver) {
  while (!isOver()) {
    const client = new Client(server.url, { bodyTimeout: 30_000, headersTimeout: 30_000 });
    try {
      for (let i = 0; i < 20 && !isOver(); i++) {
        const { body, isRight } = any(asked);
        const stop = new AbortController();
        const leaves = Math.random() < 0.15;
        if (leaves) setTimeout(() => stop.abort(), 30 * Math.random());
        const wasEnding = server.isEnding;
        const life = server.starts;
        const begun = performance.now();
        try {
          const response = await client.request({
            path: '/v1/embed',
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify(body),
            signal: stop.signal,
          });
          const answer = await response.body.json();
          if (response.statusCode !== 200)
            seen.refused[response.statusCode] = (seen.refused[response.statusCode] ?? 0) + 1;
          else if (isRight(answer)) seen.right++;
          else seen.wrong.push(JSON.stringify(answer).slice(0, 200));
        } catch (error) {
          if (leaves && stop.signal.aborted) seen.left++;
          else {
            seen.broken++;
            // Only an end takes an answer away.
            if (!wasEnding && !server.isEnding && server.starts === life)
              seen.lost.push(
                `${error.code ?? error.name}: ${error.message}, after ${round(performance.now() - begun, 0)} ms`,
              );
          }
          break;
        }
        await sleep(5 * Math.random());
      }
    } finally {
      await client.destroy();
    }
    await sleep(20);
  }
}

/** Opens connections that send a part of a request and stay. */
async function halfOpen(server, seen, isOver) {
  const open = new Set();
  const heads = [
    '',
    'POST /v1/embed HT',
    'POST /v1/embed HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"te',
    '\x16\x03\x01\x02',
  ];
  while (!isOver()) {
    const { hostname, port } = new URL(server.url);
    const socket = createConnection({ host: hostname, port: Number(port), allowHalfOpen: true });
    socket.on('error', () => {}).on('close', () => open.delete(socket));
    socket.write(any(heads));
    if (Math.random() < 0.3) socket.end();
    open.add(socket);
    seen.halfOpen++;
    if (open.size > 40) any([...open]).destroy();
    await sleep(50 * Math.random());
  }
  for (const socket of open) socket.destroy();
}

export async function measure({ model, minutes = 10, log }) {
  const asked = await questions(model);
  const server = new Supervised(model);
  await server.start();
  const seen = { right: 0, wrong: [], lost: [], broken: 0, left: 0, refused: {}, halfOpen: 0, ends: [] };
  const until = performance.now() + 60_000 * minutes;
  const isOver = () => performance.now() > until;
  const clients = Array.from({ length: workers }, () => ask(server, asked, seen, isOver));
  clients.push(halfOpen(server, seen, isOver));
  const lives = [];
  while (!isOver()) {
    const early = descriptorsOf(server.child.pid);
    await sleep(Math.min(until - performance.now(), 4000 + 12_000 * Math.random()));
    if (isOver()) break;
    lives.push({ descriptors: [early, descriptorsOf(server.child.pid)], rss: residentOf(server.child.pid) });
    const signal = any(['SIGKILL', 'SIGTERM']);
    const { ended, left } = await server.again(signal);
    seen.ends.push({ signal, ended, left: left.length });
  }
  await Promise.all(clients);
  // What clients left behind is closed within the time of a body.
  await sleep(1500);
  const idle = descriptorsOf(server.child.pid);
  const metrics = await metricsOf(server.url);
  const queued = total(metrics, 'mome_queue_items');
  server.child.removeAllListeners('exit');
  server.child.kill('SIGTERM');
  const [code] = await once(server.child, 'exit');
  const row = {
    minutes,
    right: seen.right,
    wrong: seen.wrong.length,
    lost: seen.lost.length,
    brokenByAnEnd: seen.broken - seen.lost.length,
    leftByClients: seen.left,
    refused: seen.refused,
    halfOpen: seen.halfOpen,
    kills: seen.ends.filter(({ signal }) => signal === 'SIGKILL').length,
    terms: seen.ends.filter(({ signal }) => signal === 'SIGTERM').length,
    endedBadly: seen.ends.filter(({ signal, ended, left }) => left > 0 || (signal === 'SIGTERM' && ended !== 0)),
    descriptorsIdle: idle,
    itemsQueuedAtTheEnd: queued,
    residentMiB: lives.map(({ rss }) => round(rss / 2 ** 20, 0)),
    examples: [...seen.wrong.slice(0, 3), ...seen.lost.slice(0, 5)],
  };
  log(JSON.stringify(row, null, 1));
  const passed =
    row.wrong === 0 &&
    row.lost === 0 &&
    row.endedBadly.length === 0 &&
    queued === 0 &&
    code === 0 &&
    idle < 60 &&
    row.right > 0;
  return { rows: [row], passed };
}
