/**
 * The server of the benches in a process of its own, which also makes direct calls, so that both sides have the same process, threads and
 * memory. It is told what to do by messages: `{ call, inputs, seconds }`, `{ one }`, `{ look }`, `{ end }`.
 */
import { readdirSync } from 'node:fs';
import { Vlmo } from '../../dist/index.mjs';
import { createServer } from '../../dist/server.mjs';

const { model, options } = JSON.parse(process.argv[2]);
const vlmo = await Vlmo.load(model);
const app = await createServer(vlmo, options);
const url = await app.listen({ host: '127.0.0.1', port: 0 });

const filesOf = (images) => images.map((image) => Buffer.from(image, 'base64'));
const calls = {
  texts: ({ texts }) => vlmo.embedTexts(texts),
  images: ({ images }) => vlmo.embedImages(images),
  mixed: ({ texts, images }) => vlmo.mixed({ texts, images }),
};

/** Items each second of calls one after the other, for so many seconds; every call takes the next of the inputs. */
async function direct({ call, inputs, seconds }) {
  const given = inputs.map(({ texts = [], images = [] }) => ({ texts, images: filesOf(images) }));
  await calls[call](given[0]);
  const begun = performance.now();
  let items = 0;
  for (let i = 0; performance.now() - begun < 1000 * seconds; i++) {
    const { texts, images } = given[i % given.length];
    await calls[call]({ texts, images });
    items += texts.length + images.length;
  }
  return (1000 * items) / (performance.now() - begun);
}

/** Milliseconds of one text. */
async function one(text) {
  const begun = performance.now();
  await vlmo.embedTexts([text]);
  return performance.now() - begun;
}

/** Memory after a collection where that can be asked for, and open descriptors. */
function look() {
  globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heapUsed, external, descriptors: readdirSync('/proc/self/fd').length };
}

process.on('message', async (message) => {
  if (message.end) {
    await app.close();
    await vlmo.dispose();
    process.disconnect();
    return;
  }
  const result = message.call ? await direct(message) : message.one ? await one(message.one) : look();
  process.send({ result });
});
process.send({ result: { url, config: vlmo.config, threads: process.env.MOME_THREADS } });
