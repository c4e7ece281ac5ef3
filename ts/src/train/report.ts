/**
 * The report of a run: one HTML file with the curves of its metrics, written while the run goes on, that opens without a network.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { exists, replaceFile } from '../runtime/files.ts';
import { InputFile } from '../runtime/input-file.ts';
import { Pace } from '../runtime/pace.ts';
import { packageRoot } from '../runtime/package-files.ts';
import { splitLines } from './data/lines.ts';

/** A run, or a stage of a chain. */
export interface ReportSection {
  readonly title: string;
  /** Its `metrics.jsonl`. A run that has not begun has none. */
  readonly metrics: string;
}

/** Points of a curve: where there are more steps, each point is the mean of several. */
const maxPoints = 800;

/** A chart with one or more curves over steps. */
interface Chart {
  readonly title: string;
  readonly names: readonly string[];
  /** Steps, then the values of each curve. */
  readonly data: readonly (readonly (number | null)[])[];
}

/** Writes the report anew. @throws MomeError `MOME_IO`, `MOME_INVALID_FILE` for metrics that are no JSON lines */
export async function writeReport(file: string, sections: readonly ReportSection[]): Promise<void> {
  const parts: string[] = [];
  const charts: Chart[] = [];
  for (const { title, metrics } of sections) {
    if (!(await exists(metrics))) continue;
    const curves = await readCurves(metrics);
    parts.push(`<h2>${escaped(title)}</h2>\n${summaryOf(curves)}`);
    for (const chart of chartsOf(curves)) {
      parts.push(`<div class="chart" data-chart="${charts.length}"></div>`);
      charts.push(chart);
    }
  }
  const html = page(parts.join('\n'), charts, await plottingLibrary());
  await replaceFile(file, (temporary) => writeFile(temporary, html));
}

/** Values over steps, thinned out while they are read: the mean of each `stride` steps. */
class Curve {
  readonly steps: number[] = [];
  readonly values: number[] = [];
  last = Number.NaN;
  first = Number.NaN;
  #stride = 1;
  #sum = 0;
  #count = 0;

  add(step: number, value: number): void {
    if (this.values.length === 0 && this.#count === 0) this.first = value;
    this.last = value;
    this.#sum += value;
    if (++this.#count < this.#stride) return;
    this.steps.push(step);
    this.values.push(this.#sum / this.#count);
    [this.#sum, this.#count] = [0, 0];
    if (this.values.length === 2 * maxPoints) this.#halve();
  }

  #halve(): void {
    for (let i = 0; i < maxPoints; i++) {
      this.steps[i] = this.steps[2 * i + 1]!;
      this.values[i] = (this.values[2 * i]! + this.values[2 * i + 1]!) / 2;
    }
    this.steps.length = maxPoints;
    this.values.length = maxPoints;
    this.#stride *= 2;
  }
}

type Curves = ReadonlyMap<string, Curve>;

/** Every number of a run's metrics by its name, such as `losses.itc`. */
async function readCurves(metrics: string): Promise<Curves> {
  const curves = new Map<string, Curve>();
  const file = await InputFile.open(metrics, 'the metrics of a run');
  const pace = new Pace();
  try {
    for await (const { text } of splitLines(file.pieces(), metrics)) {
      await pace.rest();
      const line = jsonLine(text);
      if (line === undefined || typeof line.step !== 'number') continue;
      for (const [name, value] of numbersOf(line)) {
        const curve = curves.get(name) ?? new Curve();
        curves.set(name, curve);
        curve.add(line.step, value);
      }
    }
  } finally {
    file.close();
  }
  return curves;
}

/** A line of the metrics; undefined for one that a killed run left unfinished. */
function jsonLine(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function* numbersOf(line: Readonly<Record<string, unknown>>): Generator<[string, number]> {
  for (const [name, value] of Object.entries(line)) {
    if (typeof value === 'number') yield [name, value];
    if (typeof value !== 'object' || value === null) continue;
    for (const [part, each] of Object.entries(value)) if (typeof each === 'number') yield [`${name}.${part}`, each];
  }
}

function chartsOf(curves: Curves): Chart[] {
  const below = (group: string) => [...curves.keys()].filter((name) => name.startsWith(`${group}.`));
  const groups: [string, string[]][] = [
    ['Loss', below('losses').length === 1 ? ['loss'] : ['loss', ...below('losses')]],
    ['Accuracy while training', below('accuracies')],
    ['Evaluation', below('evaluation')],
    ['Norm of the gradients', ['gradientNorm']],
    ['Learning rate', ['learningRate']],
    ['Samples per second', ['samplesPerSecond']],
  ];
  return groups.flatMap(([title, names]) => {
    const known = names.filter((name) => curves.has(name));
    return known.length === 0 ? [] : [chartOf(title, known, curves)];
  });
}

function chartOf(title: string, names: readonly string[], curves: Curves): Chart {
  const steps = [...new Set(names.flatMap((name) => curves.get(name)!.steps))].sort((a, b) => a - b);
  const rows = names.map((name) => {
    const { steps: own, values } = curves.get(name)!;
    const at = new Map(own.map((step, i) => [step, values[i]!]));
    return steps.map((step) => rounded(at.get(step)));
  });
  return {
    title,
    names: names.map((name) => name.replace(/^(?:losses|accuracies|evaluation)\./, '')),
    data: [steps, ...rows],
  };
}

const rounded = (value: number | undefined) =>
  value === undefined || !Number.isFinite(value) ? null : Number(value.toPrecision(6));

/** First and last values in words. */
function summaryOf(curves: Curves): string {
  const shown = [...curves].filter(([name]) => name === 'loss' || /^(?:losses|accuracies|evaluation)\./.test(name));
  const rows = shown.map(([name, { first, last }]) => {
    const cells = [name, first.toPrecision(4), last.toPrecision(4)];
    return `<tr>${cells.map((cell) => `<td>${escaped(cell)}</td>`).join('')}</tr>`;
  });
  const steps = curves.get('step')?.last ?? 0;
  return `<p>${steps} steps.</p>\n<table><tr><th></th><th>first</th><th>last</th></tr>${rows.join('')}</table>`;
}

const escaped = (text: string) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** The script and the style of the charts, which become part of the page. */
async function plottingLibrary(): Promise<{ readonly script: string; readonly style: string }> {
  const { resolve } = createRequire(join(packageRoot(), 'package.json'));
  return {
    script: await readFile(resolve('uplot/dist/uPlot.iife.min.js'), 'utf8'),
    style: await readFile(resolve('uplot/dist/uPlot.min.css'), 'utf8'),
  };
}

const drawCharts = `
const charts = JSON.parse(document.getElementById('charts').textContent);
const colours = ['#0b62c4', '#c4450b', '#1c8a3c', '#8a1c7c', '#8a6d1c', '#1c838a', '#555555'];
for (const element of document.querySelectorAll('[data-chart]')) {
  const { title, names, data } = charts[element.dataset.chart];
  const series = [{ label: 'step' }, ...names.map((label, i) => ({
    label, stroke: colours[i % colours.length], width: 1.5, spanGaps: true, points: { show: data[0].length < 30 },
  }))];
  const axes = [{}, { size: 80, values: (_, ticks) => ticks.map((tick) => Number(tick.toPrecision(3))) }];
  new uPlot({ title, width: Math.min(900, innerWidth - 40), height: 280, scales: { x: { time: false } }, series, axes }, data, element);
}`;

function page(
  body: string,
  charts: readonly Chart[],
  library: { readonly script: string; readonly style: string },
): string {
  const data = JSON.stringify(charts).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Training report</title>
<style>${library.style}
body { font: 15px/1.5 system-ui, sans-serif; margin: 20px auto; max-width: 940px; padding: 0 20px; background: #fff; color: #222 }
table { border-collapse: collapse } td, th { padding: 2px 14px 2px 0; text-align: left; font-variant-numeric: tabular-nums }
.chart { margin: 18px 0 }
</style>
</head>
<body>
<h1>Training report</h1>
${body}
<script type="application/json" id="charts">${data}</script>
<script>${library.script}</script>
<script>${drawCharts}</script>
</body>
</html>
`;
}
