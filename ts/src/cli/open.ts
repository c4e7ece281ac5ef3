/** Opens a page with the opener of the system. */
import { once } from 'node:events';
import open from 'open';

/** Milliseconds that an opener has to fail: some end at once, others stay as long as the browser. */
const patience = 3000;

/** Whether this system has a screen that an opener could use. Openers without one start a browser in the terminal, or wait. */
function hasScreen(): boolean {
  if (process.platform !== 'linux') return true;
  const { DISPLAY, WAYLAND_DISPLAY, BROWSER, WSL_DISTRO_NAME } = process.env;
  return [DISPLAY, WAYLAND_DISPLAY, BROWSER, WSL_DISTRO_NAME].some((value) => value !== undefined && value !== '');
}

/** Opens a file in the browser. @returns whether something has opened it, as far as the system tells */
export async function openInBrowser(path: string): Promise<boolean> {
  if (!hasScreen()) return false;
  try {
    const opener = await open(path);
    if (opener.exitCode !== null) return opener.exitCode === 0;
    const ended = once(opener, 'exit', { signal: AbortSignal.timeout(patience) });
    opener.ref();
    const [code] = await ended.catch(() => [0]);
    opener.unref();
    return code === 0;
  } catch {
    return false; // there is no opener
  }
}
