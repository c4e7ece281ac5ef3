/** Prometheus metrics of one server. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RunReport } from '../inference/index.ts';
import type { ServedEngine } from './engines.ts';

const seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
const powers = Array.from({ length: 14 }, (_, i) => 2 ** i);
const shares = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
/** Milliseconds between two measurements of the event loop. */
const resolution = 10;

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Counter<'route' | 'status'>;
  readonly #duration: Histogram<'route'>;
  readonly #runs: Counter<'engine' | 'heads' | 'outcome'>;
  readonly #items: Counter<'engine'>;
  readonly #tokens: Counter<'engine'>;
  readonly #busy: Counter<'engine'>;
  readonly #batchItems: Histogram<'engine'>;
  readonly #batchTokens: Histogram<'engine'>;
  readonly #fill: Histogram<'engine'>;
  readonly #queued: Histogram<'engine'>;
  readonly #run: Histogram<'engine' | 'heads'>;
  readonly #loop: IntervalHistogram = monitorEventLoopDelay({ resolution });

  constructor(engines: () => readonly ServedEngine[]) {
    const registers = [this.registry];
    const counter = <T extends string>(name: string, help: string, labelNames: readonly T[]) =>
      new Counter({ name, help, labelNames, registers });
    const histogram = <T extends string>(name: string, help: string, labelNames: readonly T[], buckets: number[]) =>
      new Histogram({ name, help, labelNames, buckets, registers });
    const gauge = (name: string, help: string, of: (engine: ServedEngine) => number) =>
      new Gauge({
        name,
        help,
        labelNames: ['engine'],
        registers,
        collect() {
          for (const engine of engines()) this.set({ engine: engine.name }, of(engine));
        },
      });
    this.#requests = counter('mome_requests_total', 'Requests by route and status, of HTTP or gRPC.', [
      'route',
      'status',
    ]);
    this.#duration = histogram('mome_request_duration_seconds', 'From head to answer.', ['route'], seconds);
    this.#runs = counter('mome_runs_total', 'Runs of an engine.', ['engine', 'heads', 'outcome']);
    this.#items = counter('mome_items_total', 'Items that runs have done.', ['engine']);
    this.#tokens = counter('mome_tokens_total', 'Token rows that runs have done; rate() gives tokens/s.', ['engine']);
    this.#busy = counter('mome_engine_busy_seconds_total', 'Time in runs; rate() gives the share.', ['engine']);
    this.#batchItems = histogram('mome_batch_items', 'Items of a run.', ['engine'], powers);
    this.#batchTokens = histogram('mome_batch_tokens', 'Token rows of a run.', ['engine'], powers);
    this.#fill = histogram('mome_batch_fill', 'Token rows of a run by those it may have.', ['engine'], shares);
    this.#queued = histogram('mome_queue_duration_seconds', 'From arrival of an item to its run.', ['engine'], seconds);
    this.#run = histogram('mome_run_duration_seconds', 'Time of a run.', ['engine', 'heads'], seconds);
    gauge('mome_queue_items', 'Items under way.', ({ batcher }) => batcher.state.items);
    gauge('mome_queue_limit_items', 'Items that may be under way.', ({ batcher }) => batcher.state.maxItems);
    gauge('mome_queue_ready_items', 'Items that wait for a run.', ({ batcher }) => batcher.state.ready);
    gauge(
      'mome_items_per_second',
      'Items done in a second, by recent runs.',
      ({ batcher }) => batcher.state.itemsPerSecond,
    );
    gauge('mome_cache_hits', 'Items found in the cache.', ({ batcher }) => batcher.state.cacheHits);
    gauge('mome_cache_misses', 'Items looked for in vain.', ({ batcher }) => batcher.state.cacheMisses);
    gauge('mome_engine_memory_bytes', 'Weights and arena of an engine.', ({ vlmo }) => {
      const { arenaBytes, weightBytes } = vlmo.memory();
      return arenaBytes + weightBytes;
    });
    this.#ofProcess();
    this.#loop.enable();
  }

  #ofProcess(): void {
    const registers = [this.registry];
    new Gauge({
      name: 'mome_resident_bytes',
      help: 'Resident memory of the process.',
      registers,
      collect() {
        this.set(process.memoryUsage.rss());
      },
    });
    const loop = this.#loop;
    new Gauge({
      name: 'mome_event_loop_delay_seconds',
      help: 'Delay of the event loop since the last time this was read.',
      labelNames: ['quantile'],
      registers,
      collect() {
        const delay = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - resolution / 1000);
        for (const quantile of [50, 99]) this.set({ quantile: `${quantile / 100}` }, delay(loop.percentile(quantile)));
        this.set({ quantile: '1' }, delay(loop.max));
        loop.reset();
      },
    });
  }

  /** Counts a request that was answered. @param status of HTTP, or the name of one of gRPC */
  request(route: string, status: number | string, milliseconds: number): void {
    this.#requests.inc({ route, status });
    this.#duration.observe({ route }, milliseconds / 1000);
  }

  /** Counts a run. */
  run(engine: string, { heads: read, items, rows, budget, milliseconds, waited, failed }: RunReport): void {
    const heads = read.join('+');
    this.#runs.inc({ engine, heads, outcome: failed ? 'failed' : 'done' });
    this.#busy.inc({ engine }, milliseconds / 1000);
    this.#run.observe({ engine, heads }, milliseconds / 1000);
    if (failed) return;
    this.#items.inc({ engine }, items);
    this.#tokens.inc({ engine }, rows);
    this.#batchItems.observe({ engine }, items);
    this.#batchTokens.observe({ engine }, rows);
    this.#fill.observe({ engine }, rows / budget);
    for (const each of waited) this.#queued.observe({ engine }, each / 1000);
  }

  close(): void {
    this.#loop.disable();
    this.registry.clear();
  }
}
