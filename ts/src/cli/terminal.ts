/** The terminal that commands share: one progress bar at a time, lines that never run into it, widths and styles. */
import { clearLine, cursorTo } from 'node:readline';
import { styleText } from 'node:util';
import { MultiBar, type SingleBar } from 'cli-progress';

/** Columns that a bar has at most, and columns of its line that belong to label, numbers and time. */
const barColumns = 40;
const columnsBesideBar = 32;

/** The bar that is on the screen. */
let shown: MultiBar | undefined;

/** Work that a bar tells of. */
export interface Progress {
  readonly update: (done: number, total: number) => void;
  /** Takes the bar from the screen. A bar that is left there keeps the process alive. */
  readonly stop: () => void;
}

/** A progress bar on standard error, when that is a terminal and nobody asked for quiet. */
export function progressBar(label: string, quiet = false): Progress {
  if (quiet || !process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  const room = (process.stderr.columns ?? 80) - label.length - columnsBesideBar;
  let bars: MultiBar | undefined;
  let bar: SingleBar | undefined;
  return {
    update(done, total) {
      if (!bar) {
        bars = new MultiBar({
          format: `${label} {bar} {value}/{total}  eta {eta_formatted}`,
          barsize: Math.max(0, Math.min(barColumns, room)),
          stream: process.stderr,
          clearOnComplete: true,
          forceRedraw: true, // a line that was written has cleared it
        });
        bar = bars.create(total, 0);
        shown = bars;
      }
      bar.setTotal(total);
      bar.update(done);
    },
    stop() {
      if (bars === undefined) return;
      if (shown === bars) shown = undefined;
      bars.stop();
      bars = undefined;
    },
  };
}

/** Does `write` with no bar on the screen: the bar is taken away before, and stands below it afterwards. */
export function besideProgress(write: () => void): void {
  const bars = shown;
  if (bars === undefined) {
    write();
    return;
  }
  cursorTo(process.stderr, 0);
  clearLine(process.stderr, 0);
  try {
    write();
  } finally {
    if (shown === bars) bars.update();
  }
}

/** Columns of standard output, or no bound where it is no terminal. */
export const outputColumns = (): number =>
  process.stdout.isTTY && process.stdout.columns > 0 ? process.stdout.columns : Number.POSITIVE_INFINITY;

/** Styles that texts of commands have. */
export type Style = 'bold' | 'dim' | 'green' | 'red';

/**
 * `text` in a style, where the stream is a terminal with colours. `NO_COLOR` leaves styles out and `FORCE_COLOR` sets them in any case.
 * The result may only be written by `printSafe` and its like, which let control characters through.
 */
export const styled = (style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string =>
  styleText(style, text, { stream });
