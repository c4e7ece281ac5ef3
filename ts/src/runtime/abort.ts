/** Listening to abort signals: one listener for each signal, however many calls it stops. */

const listening = new WeakMap<AbortSignal, { readonly callbacks: Set<() => void>; readonly listener: () => void }>();

/**
 * Calls `callback` when the signal fires. Node warns of a leak when a signal has more than ten listeners, and a service may stop hundreds
 * of calls with one: they share a listener, which goes with the last of them.
 *
 * @returns ends the listening
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined) return () => {};
  const own = () => callback(); // the same callback may be given twice
  const { callbacks, listener } = listening.get(signal) ?? listenTo(signal);
  callbacks.add(own);
  return () => {
    if (!callbacks.delete(own) || callbacks.size > 0) return;
    signal.removeEventListener('abort', listener);
    listening.delete(signal);
  };
}

function listenTo(signal: AbortSignal) {
  const callbacks = new Set<() => void>();
  const listener = () => {
    for (const each of [...callbacks]) each();
  };
  const shared = { callbacks, listener };
  signal.addEventListener('abort', listener, { once: true });
  listening.set(signal, shared);
  return shared;
}

/** Whether `value` is an abort signal, also one of another realm or of a library. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  if (typeof value !== 'object' || value === null) return false;
  const signal = value as Partial<AbortSignal>;
  return (
    typeof signal.aborted === 'boolean' &&
    typeof signal.addEventListener === 'function' &&
    typeof signal.removeEventListener === 'function'
  );
}
