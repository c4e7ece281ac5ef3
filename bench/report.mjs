/**
 * `npm run bench:report`: writes the tables and charts of docs/performance.md from bench/results. Text outside the markers is kept.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as vega from 'vega';
import { compile } from 'vega-lite';
import { replaceBetween } from './between.mjs';
import { boundsOf, checkBounds } from './check.mjs';
import { cudaSection } from './cuda-report.mjs';
import { processorsSection } from './processors.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

export { replaceBetween };

const tableOrder = ['model', 'training', 'kernels', 'memory'];

/** @param {string} [folder] the project, with bench/ and docs/ */
export async function writeReport(folder = root) {
  const results = readResults(join(folder, 'bench', 'results'));
  const bounds = JSON.parse(readFileSync(join(folder, 'bench', 'bounds.json'), 'utf8'));
  const charts = join(folder, 'docs', 'charts');
  mkdirSync(charts, { recursive: true });
  const page = join(folder, 'docs', 'performance.md');
  let text = readFileSync(page, 'utf8');
  for (const table of tableOrder) {
    const sections = [];
    for (const { name, result } of results.filter((each) => each.result.table === table)) {
      const chart = chartOf(result);
      if (chart) writeFileSync(join(charts, `${name}.svg`), await svgOf(chart));
      sections.push(sectionOf(name, result, bounds, chart ? `charts/${name}.svg` : undefined));
    }
    text = replaceBetween(text, table, sections.join('\n\n') || 'Not measured yet.');
  }
  const models = results.filter(({ result }) => result.table === 'model').map(({ result }) => result);
  text = replaceBetween(text, 'processors', processorsSection(models));
  writeFileSync(page, replaceBetween(text, 'cuda', cudaSection(join(folder, 'bench', 'results'))));
}

/** Every result of the suite: JSON files that name a table. */
function readResults(folder) {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => ({ name: name.slice(0, -5), result: JSON.parse(readFileSync(join(folder, name), 'utf8')) }))
    .filter(({ result }) => tableOrder.includes(result.table));
}

const percent = (value) => (value === undefined ? '' : `${(100 * value).toFixed(0)} %`);
const fine = (value) => `${(100 * value).toFixed(1)} %`;
const deciles = ({ fastDecile, median, slowDecile }) => [fastDecile, median, slowDecile];
const milliseconds = (seconds) =>
  deciles(seconds)
    .map((each) => three(1000 * each))
    .join(', ');
const three = (value) => (value >= 1000 ? value.toFixed(0) : Number(value.toPrecision(3)).toString());

/** What was measured of a machine's peaks. */
function peakOf(peaks) {
  const rates = [
    ['FMA', peaks.fma_gflops, 'GFLOP/s'],
    ['bfloat16 products', peaks.bf16_gflops, 'GFLOP/s'],
    ['bfloat16 in AMX', peaks.amx_bf16_gflops, 'GFLOP/s'],
    ['VNNI', peaks.vnni_gops, 'GOP/s'],
    ['int8 in AMX', peaks.amx_int8_gops, 'GOP/s'],
    ['vpmaddubsw', peaks.maddubs_gops, 'GOP/s'],
    ['reading', peaks.read_gbs, 'GB/s'],
  ];
  return rates
    .filter(([, rate]) => rate)
    .map(([name, { one, all }, unit]) => `${name} ${three(one)} and ${three(all)} ${unit}`)
    .join(', ');
}

/** A measured table as Markdown: machine, rows, where the time went, and the bounds of the table. */
export function sectionOf(name, result, bounds, chart) {
  const { machine, versions, peaks, date, commit, rounds, absent, partial } = result;
  const title = `${machine.kind ? `${machine.cpu} (${machine.kind})` : machine.cpu}, ${machine.cores} cores, ${machine.target}`;
  const lines = [
    `### ${title}`,
    '',
    `\`bench/results/${name}.json\`, ${date}, commit ${commit}, ${rounds} rounds; ${Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}.`,
    `One core and all: before, ${peakOf(peaks.before)}${peaks.after ? `; after, ${peakOf(peaks.after)}` : ''}.`,
    ...(machine.best ? [`The processor has ${machine.best}, and the peers use what it has.`] : []),
    ...(partial
      ? [`**Partial**: ${partial.measured} of ${partial.of} rows that were asked for: ${partial.reason}.`]
      : []),
    ...(result.rows.some(({ of }) => of)
      ? ['Rows with a date and a commit are from an older run, whose peaks they are held to.']
      : []),
    ...(absent.length > 0 ? [`Absent: ${absent.join('; ')}.`] : []),
    '',
    ...(result.table === 'memory' ? memoryLines(result) : rowLines(result)),
    ...profileLines(result),
  ];
  const verdicts = checkBounds([result], boundsOf(bounds, result.table, machine.target));
  if (verdicts.length > 0) {
    lines.push('', '| bound | figure | asked | aim | |', '| --- | --- | --- | --- | --- |');
    for (const { name, value, bound, aim, passed } of verdicts) {
      lines.push(
        `| ${name} | ${value === null ? 'not measured' : value.toFixed(2)} | ${bound} | ${aim ?? ''} | ${passed ? 'met' : '**not met**'} |`,
      );
    }
  }
  if (chart) lines.push('', `![${result.table}](${chart})`);
  return lines.join('\n');
}

function rowLines({ rows }) {
  const peers = [...new Set(rows.flatMap((row) => Object.keys(row.peers)))];
  const header = [
    'row',
    'weights',
    'ms: fast, median, slow',
    'per second: fast, median, slow',
    'of peak',
    ...peers.map((peer) => `against ${peer}: its ms, ratio of medians`),
  ];
  const lines = [`| ${header.join(' | ')} |`, `|${' --- |'.repeat(header.length)}`];
  for (const { name, dtype, ours, perSecond, unit, shareOfPeak, peers: measured, note, of } of rows) {
    const notes = [note, of && `${of.date}, ${of.commit}, ${of.rounds} rounds`].filter(Boolean);
    const cells = [
      notes.length > 0 ? `${name} (${notes.join('; ')})` : name,
      dtype,
      milliseconds(ours.seconds),
      `${deciles(perSecond).map(three).join(', ')} ${unit}`,
      shareOfPeak ? `${percent(shareOfPeak.fastDecile)} (${shareOfPeak.of})` : '',
      ...peers.map((peer) => (measured[peer] ? peerCell(measured[peer]) : '')),
    ];
    lines.push(`| ${cells.join(' | ')} |`);
  }
  return lines;
}

/** Shares of the time by op, for rows that were profiled. */
function profileLines({ rows }) {
  const profiled = rows.filter(({ profile }) => profile);
  if (profiled.length === 0) return [];
  const totalOf = ({ ops, outsideMilliseconds }) =>
    ops.reduce((sum, { milliseconds }) => sum + milliseconds, outsideMilliseconds);
  const largest = new Map();
  for (const { profile } of profiled)
    for (const { op, milliseconds } of profile.ops)
      largest.set(op, Math.max(largest.get(op) ?? 0, milliseconds / totalOf(profile)));
  const columns = [...largest].sort((a, b) => b[1] - a[1]).map(([op]) => op);
  const shown = columns.filter((op) => largest.get(op) >= 0.01);
  const lines = [
    '',
    `| share of the time | weights | ${shown.join(' | ')} | other ops | outside kernels |`,
    `|${' --- |'.repeat(shown.length + 4)}`,
  ];
  for (const { name, dtype, profile } of profiled) {
    const total = totalOf(profile);
    const timeOf = (ops) =>
      profile.ops.filter(({ op }) => ops.includes(op)).reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    const rest = columns.filter((op) => !shown.includes(op));
    const times = [...shown.map((op) => timeOf([op])), timeOf(rest), profile.outsideMilliseconds];
    lines.push(`| ${name} | ${dtype} | ${times.map((time) => fine(time / total)).join(' | ')} |`);
  }
  return lines;
}

function peerCell({ seconds, ratio, note }) {
  return `${milliseconds(seconds)}; ${ratio.toFixed(2)} x${note ? ` (${note})` : ''}`;
}

function memoryLines({ rows }) {
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const lines = [
    '| row | weights | process before | packed weights | arena | peak | limit | |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
  ];
  for (const { name, dtype, bytes, within } of rows) {
    const { baseline, weights, arena, peak, limit } = bytes;
    lines.push(
      `| ${name} | ${dtype} | ${[baseline, weights, arena, peak, limit].map(mib).join(' | ')} | ${within ? 'within' : '**over**'} |`,
    );
  }
  return lines;
}

/** Our rates and the peers' rates, and beside them our shares of the peak; undefined for a table with nothing to draw. */
function chartOf(result) {
  const drawn = result.rows.filter((row) => isDrawn(result.table, row));
  const label = ({ name }) => (result.table === 'kernels' ? name.replace(/^linear.forward | float32.*$/g, '') : name);
  const rates = drawn.flatMap((row) => [
    { row: label(row), who: `mome ${row.dtype}`, value: rateOf(row, row.ours) },
    ...Object.entries(row.peers)
      .filter(([peer]) => drawn.find((each) => sameMeasurement(each, row, peer)) === row)
      .map(([peer, measured]) => ({
        row: label(row),
        who: contestant(drawn, row, peer),
        value: rateOf(row, measured),
      })),
  ]);
  const shares = drawn
    .filter(({ shareOfPeak }) => shareOfPeak)
    .map((row) => ({ row: label(row), who: `mome ${row.dtype}`, value: 100 * row.shareOfPeak.fastDecile }));
  const distinct = (key) => [...new Set(rates.map((value) => value[key]))];
  const order = distinct('who').sort((a, b) => Number(b.startsWith('mome')) - Number(a.startsWith('mome')));
  const parts = [
    { values: rates, title: result.table === 'kernels' ? 'GFLOP/s' : 'per second' },
    { values: shares, title: '% of the peak, fast decile', domain: [0, 100] },
  ].filter(({ values }) => values.length > 0);
  if (parts.length === 0) return undefined;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    hconcat: parts.map((part) => barsOf(part, order, distinct('row'))),
    resolve: { scale: { color: 'shared' } },
    config: { font: 'sans-serif', axis: { labelFontSize: 11 }, view: { stroke: null }, concat: { spacing: 24 } },
  };
}

/** Whether a chart shows a row: of kernels only rows with peers, of other tables every row with work. */
function isDrawn(table, { work, threads, peers }) {
  if (table === 'memory' || !work) return false;
  return table !== 'kernels' || (threads > 1 && Object.keys(peers).length > 0);
}

/** Whether two rows are compared with the same measurement of a peer: most peers run once for all our weight types. */
function sameMeasurement(a, b, peer) {
  return a.name === b.name && a.peers[peer]?.seconds.median === b.peers[peer]?.seconds.median;
}

/** Name of a peer in a chart, with the weight type if the peer was measured once for each type. */
function contestant(rows, row, peer) {
  const others = rows.filter(({ name, peers }) => name === row.name && peer in peers);
  return others.every((other) => sameMeasurement(other, row, peer)) ? peer : `${peer}, ${row.dtype}`;
}

/** Horizontal bars, a group for each row. */
function barsOf({ values, title, domain }, order, rows) {
  return {
    data: { values },
    facet: {
      row: {
        field: 'row',
        type: 'nominal',
        title: null,
        sort: rows,
        header: { labelOrient: 'top', labelAnchor: 'start', labelFontWeight: 'bold', labelPadding: 2 },
      },
    },
    spacing: 14,
    resolve: { scale: { x: 'independent', y: 'independent' } },
    spec: {
      width: 300,
      height: { step: 18 },
      mark: { type: 'bar', tooltip: false },
      encoding: {
        y: { field: 'who', type: 'nominal', title: null, sort: order, axis: { labelLimit: 260 } },
        x: { field: 'value', type: 'quantitative', title, ...(domain && { scale: { domain } }) },
        color: {
          field: 'who',
          type: 'nominal',
          legend: null,
          scale: { domain: order, scheme: 'tableau10' },
        },
      },
    },
  };
}

function rateOf(row, { seconds }) {
  return (row.unit === 'calls' ? row.work.flops / 1e9 : row.items) / seconds.median;
}

async function svgOf(spec) {
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeReport();
