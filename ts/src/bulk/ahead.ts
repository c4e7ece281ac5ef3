/** Work on many items at a time whose results come in the order of the items. */

/** How much may be under way. */
export interface AheadLimits<T> {
  readonly items: number;
  readonly bytes: number;
  /** Bytes that an item takes of memory while it is under way. */
  readonly bytesOf: (item: T) => number;
}

/**
 * Works on items before their turn comes, as many as the limits allow, and gives each item with its result in order. The first item that
 * fails ends it; those under way are not waited for.
 *
 * @param requireMore called before another item is begun; throws where none may be
 */
export async function* inOrderAhead<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  work: (item: T) => Promise<R>,
  limits: AheadLimits<T>,
  requireMore: () => void = () => {},
): AsyncGenerator<{ readonly item: T; readonly result: R }> {
  const source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const ahead: { readonly item: T; readonly result: Promise<R> }[] = [];
  let bytes = 0;
  let hasMore = true;
  try {
    for (;;) {
      while (hasMore && ahead.length < limits.items && (ahead.length === 0 || bytes < limits.bytes)) {
        requireMore();
        const next = await source.next();
        if (next.done) {
          hasMore = false;
          break;
        }
        const result = work(next.value);
        result.catch(() => {}); // told when its turn comes
        ahead.push({ item: next.value, result });
        bytes += limits.bytesOf(next.value);
      }
      const first = ahead.shift();
      if (!first) return;
      bytes -= limits.bytesOf(first.item);
      yield { item: first.item, result: await first.result };
    }
  } finally {
    await source.return?.(undefined);
  }
}
