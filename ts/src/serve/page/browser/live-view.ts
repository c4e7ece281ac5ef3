/// <reference lib="dom" />
/** The view of the server's figures, and the line at the foot of the page that says them in short. */
import type { LiveSample, PageModel } from '../messages.ts';
import { type Chart, chartOf } from './chart.ts';
import { byId, duration, fill, make, mebibytes, number, plural } from './dom.ts';

/** Seconds that are shown, and those that the large numbers are of. */
const seconds = 180;
const recent = 10;

interface Figure {
  readonly title: string;
  readonly about: string;
  /** The number in large, of the last seconds; a dash where there is none. */
  readonly value: (last: readonly LiveSample[], models: number) => string;
  readonly lines: readonly {
    readonly name: string;
    readonly value: (sample: LiveSample, models: number) => number | null;
  }[];
  /** Upper end of the axis, where it is fixed. */
  readonly most?: number;
}

const none = '–';
const sum = (samples: readonly LiveSample[], of: (sample: LiveSample) => number): number =>
  samples.reduce((total, sample) => total + of(sample), 0);
const rate = (samples: readonly LiveSample[], of: (sample: LiveSample) => number): number =>
  samples.length === 0 ? 0 : sum(samples, of) / samples.length;
const shown = (value: number): string => number(value, value < 10 ? 1 : 0);
const percent = (share: number): string => `${number(share * 100)} %`;

/** The middle one of the seconds that had requests. */
function typical(samples: readonly LiveSample[], of: (sample: LiveSample) => number | null): number | undefined {
  const values = samples.map(of).filter((value) => value !== null);
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function fillOf(last: readonly LiveSample[]): number | undefined {
  const runs = sum(last, ({ runs }) => runs);
  return runs === 0 ? undefined : sum(last, ({ fill, runs }) => (fill ?? 0) * runs) / runs;
}

const durationOr = (value: number | undefined): string => (value === undefined ? none : duration(value));

const figures: readonly Figure[] = [
  {
    title: 'Requests a second',
    about: 'answered, and refused because the queue was full',
    value: (last) => shown(rate(last, ({ requests }) => requests)),
    lines: [
      { name: 'answered', value: ({ requests }) => requests },
      { name: 'refused', value: ({ refused }) => refused },
    ],
  },
  {
    title: 'Latency',
    about: 'of half the requests at most, and of 95 of 100',
    value: (last) => durationOr(typical(last, ({ p50 }) => p50)),
    lines: [
      { name: 'half, ms', value: ({ p50 }) => p50 },
      { name: '95 of 100, ms', value: ({ p95 }) => p95 },
    ],
  },
  {
    title: 'Tokens a second',
    about: 'word pieces and patches that were read',
    value: (last) => shown(rate(last, ({ tokens }) => tokens)),
    lines: [{ name: 'tokens', value: ({ tokens }) => tokens }],
  },
  {
    title: 'Queue',
    about: 'items under way, and those that wait for a run',
    value: (last) => number(last.at(-1)?.queue ?? 0),
    lines: [
      { name: 'under way', value: ({ queue }) => queue },
      { name: 'waiting', value: ({ waiting }) => waiting },
    ],
  },
  {
    title: 'Batch fill',
    about: 'tokens of a run by those that it may have',
    value: (last) => {
      const fill = fillOf(last);
      return fill === undefined ? none : percent(fill);
    },
    lines: [{ name: 'fill, %', value: ({ fill }) => (fill === null ? null : fill * 100) }],
    most: 100,
  },
  {
    title: 'Engine busy',
    about: 'share of the time in which it works',
    value: (last, models) => percent(Math.min(1, rate(last, ({ busy }) => busy) / models)),
    lines: [{ name: 'busy, %', value: ({ busy }, models) => Math.min(100, (busy / models) * 100) }],
    most: 100,
  },
];

export class LiveView {
  readonly #view = byId('view-live');
  readonly #cards: readonly { readonly figure: Figure; readonly value: HTMLElement; readonly chart: Chart }[];
  #samples: LiveSample[] = [];
  #models = 1;

  constructor() {
    this.#cards = figures.map((figure) => {
      const value = make('p', { class: 'value' }, [none]);
      const chart = chartOf(
        figure.title,
        figure.lines.map(({ name }) => name),
        figure.most,
      );
      const card = make('section', { class: 'figure', 'aria-label': figure.title }, [
        make('h2', {}, [figure.title]),
        value,
        make('p', { class: 'about-figure' }, [figure.about]),
        chart.element,
      ]);
      byId('live-cards').append(card);
      return { figure, value, chart };
    });
  }

  /** Takes new seconds. @param isWhole whether they stand in the place of all before */
  add(samples: readonly LiveSample[], isWhole: boolean): void {
    this.#samples = [...(isWhole ? [] : this.#samples), ...samples].slice(-seconds);
    const last = this.#samples.slice(-recent);
    byId('strip-text').textContent = inShort(last);
    if (!this.#view.hidden) this.draw();
  }

  /** Draws the charts: only those that are seen have a size. */
  draw(): void {
    const last = this.#samples.slice(-recent);
    const times = this.#samples.map(({ at }) => at / 1000);
    for (const { figure, value, chart } of this.#cards) {
      const text = figure.value(last, this.#models);
      value.textContent = text;
      const lines = figure.lines.map((line) => this.#samples.map((sample) => line.value(sample, this.#models)));
      chart.draw(times, lines, `${figure.title}: ${text} of late`);
    }
  }

  showModels(models: readonly PageModel[]): void {
    this.#models = models.length;
    const names: Readonly<Record<string, string>> = {
      embed: 'search',
      match: 're-rank',
      answer: 'answer',
      reason: 'judge',
      fillMask: 'fill masks',
    };
    const items = models.map((model) => {
      const { name, device, target, dtype, abilities, imageSize, width, layers, maxTextLength, memoryBytes } = model;
      const facts: [string, string][] = [
        ['Runs on', device === 'cpu' ? `processor, kernels ${target}` : device],
        ['Weights', dtype],
        ['Size', `${layers} layers, ${width} wide`],
        ['Reads', `pictures at ${imageSize} × ${imageSize}, texts of ${plural(maxTextLength, 'word piece')}`],
        ['Can', abilities.map((ability) => names[ability]).join(', ') || 'nothing'],
        ['Memory', mebibytes(memoryBytes)],
      ];
      const rows = facts.flatMap(([term, value]) => [make('dt', {}, [term]), make('dd', {}, [value])]);
      return make('section', { class: 'panel model', 'aria-label': `Model ${name}` }, [
        make('h3', {}, [name]),
        make('dl', { class: 'facts' }, rows),
      ]);
    });
    fill(byId('live-models'), make('div', { class: 'models' }, items));
  }
}

/** The figures of the last seconds in one line. */
function inShort(last: readonly LiveSample[]): string {
  const latency = typical(last, ({ p50 }) => p50);
  const parts = [
    `${shown(rate(last, ({ requests }) => requests))} requests/s`,
    `${shown(rate(last, ({ tokens }) => tokens))} tokens/s`,
    `queue ${number(last.at(-1)?.queue ?? 0)}`,
    ...(latency === undefined ? [] : [duration(latency)]),
  ];
  return parts.join(' · ');
}
