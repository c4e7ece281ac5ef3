/** Requests to the server that the page came from. */
import type { SearchResult } from '../../../search/search-index.ts';
import type { LiveAnswer, PageState } from '../messages.ts';

/** An answer that is none: refused, failed, or not there at all (status 0). */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  /** Milliseconds after which the server wants to be asked again. */
  readonly retryAfterMs: number | undefined;

  constructor(status: number, code: string, message: string, retryAfterMs?: number) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** One result of a search, as `/v1/search` gives it. */
export type FoundPicture = SearchResult;

const storedKey = 'mome-key';
let key: string | undefined = readKey();
let askForKey: ((wasWrong: boolean) => Promise<void>) | undefined;
let asking: Promise<void> | undefined;

/** Where the tab may keep nothing, the key is asked for again. */
function readKey(): string | undefined {
  try {
    return sessionStorage.getItem(storedKey) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Takes a key: in memory, and where `isKept` until the tab is closed. */
export function setKey(value: string, isKept: boolean): void {
  key = value;
  try {
    if (isKept) sessionStorage.setItem(storedKey, value);
    else sessionStorage.removeItem(storedKey);
  } catch {}
}

/** Names what asks the user for a key; it resolves once {@link setKey} was called. */
export function onKeyWanted(ask: (wasWrong: boolean) => Promise<void>): void {
  askForKey = ask;
}

/** Sends a request, with the key where there is one. Where the server wants another, the user is asked for it. @throws ApiError */
async function send(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    const used = key;
    const headers = new Headers(init.headers);
    if (used !== undefined) headers.set('authorization', `Bearer ${used}`);
    const response = await fetch(path, { ...init, headers, credentials: 'omit' }).catch((error: unknown) => {
      if (init.signal?.aborted) throw error;
      throw new ApiError(0, 'NO_ANSWER', 'The server does not answer.');
    });
    if (response.status === 401 && askForKey) {
      if (key !== used) continue; // another request has asked meanwhile
      asking ??= askForKey(used !== undefined).finally(() => {
        asking = undefined;
      });
      await asking;
      init.signal?.throwIfAborted();
      continue;
    }
    if (response.ok) return response;
    throw await errorOf(response);
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as { error?: { message?: unknown; code?: unknown } };
  const { message, code } = body.error ?? {};
  const milliseconds = Number(response.headers.get('retry-after-ms') ?? Number.NaN);
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  const wait = milliseconds >= 0 ? milliseconds : seconds >= 0 ? seconds * 1000 : undefined;
  return new ApiError(
    response.status,
    typeof code === 'string' ? code : 'UNKNOWN',
    typeof message === 'string' ? message : `The server answers with status ${response.status}.`,
    wait,
  );
}

const json = async <T>(response: Promise<Response>): Promise<T> => (await (await response).json()) as T;

/** Sends the fields of a form; files are sent as such. */
function post<T>(
  path: string,
  fields: Readonly<Record<string, string | Blob | readonly Blob[] | undefined>>,
  signal: AbortSignal,
): Promise<T> {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields))
    for (const each of Array.isArray(value) ? (value as readonly Blob[]) : [value as string | Blob | undefined])
      if (each instanceof Blob) form.append(name, each, 'picture');
      else if (each !== undefined) form.append(name, each);
  return json(send(path, { method: 'POST', body: form, signal }));
}

export const state = (): Promise<PageState> => json(send('page/state'));

export const live = (since: number): Promise<LiveAnswer> => json(send(`page/live?since=${since}`));

/** A copy of a picture of the index. */
export const picture = async (index: number, size: 'thumbnails' | 'pictures', signal?: AbortSignal): Promise<Blob> =>
  (await send(`page/${size}/${index}`, signal ? { signal } : {})).blob();

export async function search(
  query: { readonly text: string } | { readonly image: Blob },
  k: number,
  rerank: number,
  signal: AbortSignal,
): Promise<readonly FoundPicture[]> {
  const fields = { ...query, k: String(k), rerank: String(rerank) };
  return (await post<{ results: readonly FoundPicture[] }>('v1/search', fields, signal)).results;
}

export async function answer(image: Blob, question: string, model: string, signal: AbortSignal) {
  type Answer = { readonly answer: string; readonly score: number };
  return (await post<{ answers: readonly Answer[] }>('v1/answer', { image, question, model, k: '6' }, signal)).answers;
}

export async function reason(images: readonly Blob[], statement: string, model: string, signal: AbortSignal) {
  return (await post<{ probability: number }>('v1/reason', { images, statement, model }, signal)).probability;
}
