/**
 * The tables of docs/scale.md: what bench/results measured, multiplied out by the parameters of bench/scale-parameters.json. Every figure is
 * linear in both; nothing here was measured on more cores than the results say.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { replaceBetween } from './between.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const resultNames = ['model-amd-epyc-avx512-vnni', 'model-amd-epyc-zen-5-avx512-bf16'];
const memoryName = 'memory-amd-epyc-avx512-vnni';
const rowNames = {
  image: 'image, batch 8',
  pair: 'fusion, batch 8 (12 of 40 tokens)',
  text: 'text, batch 32 (12 of 40 tokens)',
};
const oneText = 'text, batch 1 (12 of 40 tokens)';
const dtypes = ['float32', 'bfloat16', 'int8'];
const secondsOfHour = 3600;

/** Writes the page anew. @param {string} [folder] the project */
export function writeScaleReport(folder = root) {
  const page = join(folder, 'docs', 'scale.md');
  let text = readFileSync(page, 'utf8');
  for (const [name, content] of Object.entries(scaleSections(readInputs(folder))))
    text = replaceBetween(text, name, content);
  writeFileSync(page, text);
}

/** What the tables are computed from. */
export function readInputs(folder = root) {
  const json = (...path) => JSON.parse(readFileSync(join(folder, 'bench', ...path), 'utf8'));
  return {
    parameters: json('scale-parameters.json'),
    models: resultNames.map((name) => ({ name, result: json('results', `${name}.json`) })),
    memory: json('results', `${memoryName}.json`),
  };
}

/** Contents of each table of the page by the name of its markers. */
export function scaleSections({ parameters, models, memory }) {
  return {
    parameters: parameterLines(parameters),
    rates: ratesTable(models),
    embedding: embeddingTable(models, parameters),
    index: indexTable(models, parameters),
    queries: queriesTable(models, parameters),
    memory: memoryTable(memory),
  };
}

/** Items that a core does in a second: the median of the result, divided by its threads. */
export function perCore(result, row, dtype) {
  const found = result.rows.find((each) => each.name === row && each.dtype === dtype);
  return found && found.perSecond.median / found.threads;
}

/** Core hours for a million items. */
export const coreHours = (rate) => 1e6 / rate / secondsOfHour;

const three = (value) =>
  value >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
const count = (value) =>
  ({ 1e6: '1 million', 1e7: '10 million', 1e8: '100 million', 1e9: '1 billion' })[value] ?? three(value);
const table = (header, rows) =>
  [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
const nameOf = ({ machine: { cpu, kind, target } }) => `${kind ? `${cpu} (${kind})` : cpu}, ${target}`;

function* measured(models) {
  for (const { result } of models)
    for (const dtype of dtypes)
      if (perCore(result, rowNames.image, dtype)) yield { result, dtype, name: nameOf(result) };
}

function parameterLines(parameters) {
  const meanings = {
    coreHour: 'price of a core for an hour',
    memoryGibMonth: 'price of a GiB of memory for a month',
    storageGbMonth: 'price of a GB of storage for a month',
    currency: 'unit of the prices',
    coresOfMachine: 'cores of a machine',
    machines: 'machines that embed',
    memoryGibOfMachine: 'memory of a machine that holds an index, GiB',
    width: 'numbers of an embedding',
    pictureKilobytes: 'size of a picture file on average',
    reranked: 'pairs that a query re-ranks',
    utilisation: 'share of its rate that a server is planned for',
    queriesPerSecond: 'queries at the peak',
    pictures: 'pictures',
  };
  return table(
    ['parameter', 'meaning', 'value'],
    Object.entries(meanings).map(([name, meaning]) => [`\`${name}\``, meaning, [parameters[name]].flat().join(', ')]),
  );
}

function ratesTable(models) {
  return table(
    ['measured on', 'weights', 'pictures', 'pairs', 'texts', 'one text, ms'],
    [...measured(models)].map(({ result, dtype, name }) => [
      name,
      dtype,
      ...Object.values(rowNames).map((row) => three(perCore(result, row, dtype))),
      three(1000 * result.rows.find((row) => row.name === oneText && row.dtype === dtype).ours.seconds.median),
    ]),
  );
}

function embeddingTable(models, { coreHour, currency, coresOfMachine, machines, pictureKilobytes }) {
  const days = (rate, pictures) => three(pictures / (rate * coresOfMachine * machines) / secondsOfHour / 24);
  return table(
    [
      'measured on',
      'weights',
      'core hours for a million',
      `${currency} for a million`,
      `MB/s of pictures, a machine`,
      'days for 100 million',
      'days for a billion',
    ],
    [...measured(models)].map(({ result, dtype, name }) => {
      const rate = perCore(result, rowNames.image, dtype);
      return [
        name,
        dtype,
        three(coreHours(rate)),
        three(coreHours(rate) * coreHour),
        three((rate * coresOfMachine * pictureKilobytes) / 1000),
        days(rate, 1e8),
        days(rate, 1e9),
      ];
    }),
  );
}

/** Bytes of a row: float32, or int8 with a scale. */
export const rowBytes = (width) => ({ float32: 4 * width, int8: width + 4 });

function indexTable(models, parameters) {
  const { width, pictures, pictureKilobytes, memoryGibOfMachine, memoryGibMonth, storageGbMonth, currency } =
    parameters;
  // Of the slower of the two machines.
  const read = 1e9 * Math.min(...models.map(({ result }) => result.peaks.before.read_gbs.all));
  return table(
    [
      'pictures',
      'their files',
      'rows',
      'bytes',
      `machines of ${memoryGibOfMachine} GiB`,
      'memory, of a month',
      'Parquet, of a month',
      'reading all rows once, two cores',
    ],
    pictures.flatMap((number) =>
      Object.entries(rowBytes(width)).map(([kind, bytes]) => {
        const gib = (number * bytes) / 2 ** 30;
        return [
          count(number),
          size(number * pictureKilobytes * 1000),
          kind,
          size(number * bytes),
          String(Math.max(1, Math.ceil(gib / (0.8 * memoryGibOfMachine)))),
          `${three(gib * memoryGibMonth)} ${currency}`,
          `${three(((number * rowBytes(width).float32) / 1e9) * storageGbMonth)} ${currency}`,
          duration((number * bytes) / read),
        ];
      }),
    ),
  );
}

function queriesTable(models, { reranked, utilisation, queriesPerSecond, coresOfMachine, coreHour, currency }) {
  return table(
    [
      'measured on',
      'weights',
      'core ms: the text',
      `core ms: ${reranked} pairs`,
      `queries per second, a machine of ${coresOfMachine} cores`,
      `machines for ${queriesPerSecond} queries per second`,
      `${currency} for a million queries`,
      'the same without re-ranking',
    ],
    [...measured(models)].map(({ result, dtype, name }) => {
      const text = 1 / perCore(result, rowNames.text, dtype);
      const pairs = reranked / perCore(result, rowNames.pair, dtype);
      const rate = (coresOfMachine * utilisation) / (text + pairs);
      const price = (seconds) => three(((seconds * 1e6) / secondsOfHour / utilisation) * coreHour);
      return [
        name,
        dtype,
        three(1000 * text),
        three(1000 * pairs),
        three(rate),
        String(Math.ceil(queriesPerSecond / rate)),
        price(text + pairs),
        price(text),
      ];
    }),
  );
}

function memoryTable({ rows }) {
  return table(
    ['weights', 'of the model', 'of one run', 'peak of the process'],
    rows.map(({ dtype, bytes }) => [dtype, size(bytes.weights), size(bytes.arena), size(bytes.peak)]),
  );
}

function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${three(bytes / 10 ** (3 * power))} ${units[power]}`;
}

const duration = (seconds) => (seconds < 1 ? `${three(1000 * seconds)} ms` : `${three(seconds)} s`);

if (process.argv[1] === fileURLToPath(import.meta.url)) writeScaleReport();
