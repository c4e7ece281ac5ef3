/** Throughput through HTTP by that of direct calls with large batches: texts, pictures, and both. Both sides in turns. */
import { generate, median, pictureFiles, round, startHost, steadyRate, texts } from './load.mjs';

/** Requests under way at the same time. */
const connections = 16;
const requestsOfConnection = 64;
/** Of the shipped model; a run of the base model is a hundred times as long. */
const itemsOf = {
  shipped: { texts: [32, 0], images: [0, 8], mixed: [16, 4] },
  base: { texts: [16, 0], images: [0, 2], mixed: [8, 1] },
};
/** Items of a direct call: many runs, so that the next is prepared while one goes on. */
const callsOf = {
  shipped: { texts: [1024, 0], images: [0, 256], mixed: [512, 128] },
  base: { texts: [512, 0], images: [0, 32], mixed: [192, 24] },
};

export const title = 'throughput through HTTP by that of direct calls';
export const bound = 0.92;

export async function measure({
  model,
  kind,
  runsAhead = 0,
  only,
  rounds = 5,
  seconds = kind === 'base' ? 10 : 4,
  log,
}) {
  const host = await startHost({ model, options: { runsAhead } });
  const files = await pictureFiles(512);
  const rows = [];
  try {
    for (const [name, [textCount, imageCount]] of Object.entries(itemsOf[kind])) {
      if (only && !only.includes(name)) continue;
      for (const format of textCount > 0 && kind === 'shipped' ? ['base64', 'float'] : ['base64']) {
        const inputs = callsOf[kind][name];
        const ratios = [];
        const rates = [];
        for (let turn = 0; turn < rounds; turn++) {
          const direct = await host.ask({ call: name, inputs: callInputs(inputs, files), seconds });
          // Each connection has inputs of its own: what several ask for at the same time is computed once.
          const bodies = (connection) =>
            Array.from({ length: requestsOfConnection }, (_, i) => {
              // All pictures under way at a time differ: equal ones would be computed once.
              const first = (i * connections + connection) * imageCount;
              const images = Array.from({ length: imageCount }, (_, k) => files[(first + k) % files.length]);
              return JSON.stringify({ texts: texts(textCount), images, encoding_format: format });
            });
          const { answers, failures } = await generate({ url: host.url, seconds, connections, bodies });
          const refused = failures + answers.filter(({ status }) => status !== 200).length;
          if (refused > 0) throw new Error(`expected no failures, got ${refused}`);
          const served = (textCount + imageCount) * steadyRate(answers);
          ratios.push(round(served / direct));
          rates.push(round(direct, 1));
        }
        log(`${name}, ${format}: ${median(ratios)} (${ratios.join(' ')})`);
        rows.push({ name, format, ratio: median(ratios), ratios, directPerSecond: median(rates), bound });
      }
    }
  } finally {
    await host.end();
  }
  return { rows, passed: rows.filter(({ format }) => format === 'base64').every(({ ratio }) => ratio >= bound) };
}

/** Several calls of inputs that are all different. */
function callInputs([textCount, imageCount], files) {
  return Array.from({ length: imageCount > 0 ? Math.floor(files.length / imageCount) : 8 }, (_, i) => ({
    texts: texts(textCount),
    images: files.slice(i * imageCount, (i + 1) * imageCount),
  }));
}
