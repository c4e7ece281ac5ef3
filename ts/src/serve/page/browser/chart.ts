/// <reference lib="dom" />
/** Small charts over time, drawn by uPlot in the colours of the page. */
import uPlot from 'uplot';
import { make } from './dom.ts';

export interface Chart {
  readonly element: HTMLElement;
  /** @param times seconds since 1970 @param lines a value of each line for each time @param words what it shows, for those who do not see it */
  draw(times: readonly number[], lines: readonly (readonly (number | null)[])[], words: string): void;
}

const height = 120;
const dark = matchMedia('(prefers-color-scheme: dark)');

const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Numbers of an axis, short: 12k, 3.4M. */
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** Makes a chart of lines. @param most upper end of the axis; default: by the values */
export function chartOf(title: string, names: readonly string[], most?: number): Chart {
  const element = make('div', { class: 'chart', role: 'img', 'aria-label': title });
  let plot: uPlot | undefined;
  let width = 0;
  dark.addEventListener('change', () => {
    plot?.destroy();
    plot = undefined;
  });
  const options = (): uPlot.Options => {
    const quiet = colour('--quiet');
    const colours = [colour('--accent'), colour('--second')];
    const axis = { stroke: quiet, font: '11px system-ui, sans-serif', ticks: { show: false } };
    return {
      width,
      height,
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      legend: { show: names.length > 1 },
      padding: [8, 4, 0, 0],
      scales: { y: { range: (_, __, max) => [0, most ?? Math.max(max ?? 0, 1) * 1.1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 24, values: (_, ticks) => ticks.map(timeOfDay) },
        {
          ...axis,
          grid: { stroke: colour('--line'), width: 1 },
          space: 34,
          size: 42,
          values: (_, ticks) => ticks.map((tick) => short.format(tick)),
        },
      ],
      series: [
        { value: (_, time) => (time === null ? '' : timeOfDay(time)) },
        ...names.map((label, i) => ({
          label,
          stroke: colours[i % colours.length]!,
          width: 1.5,
          spanGaps: false,
          points: { size: 3, width: 0, fill: colours[i % colours.length]! },
          value: (_: uPlot, value: number | null) => (value === null ? '' : short.format(value)),
          ...(i === 0 && { fill: `${colours[0]}22` }),
        })),
      ],
    };
  };
  const draw = (times: readonly number[], lines: readonly (readonly (number | null)[])[], words: string) => {
    element.setAttribute('aria-label', words);
    const data = [times, ...lines] as uPlot.AlignedData;
    const now = element.clientWidth;
    if (now === 0) return;
    if (plot && now !== width) plot.setSize({ width: now, height });
    width = now;
    if (plot) plot.setData(data);
    else plot = new uPlot(options(), data, element);
  };
  return { element, draw };
}

const timeOfDay = (seconds: number): string => new Date(seconds * 1000).toLocaleTimeString('en-GB');
