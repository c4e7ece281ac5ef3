/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/** Elements of the page. Texts only ever become text nodes: nothing of a file or a server is read as HTML. */
import { printable } from '../../../runtime/printable.ts';

type Child = Node | string | null | undefined | false;
type Handlers = { readonly [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };

/** The element of the document with this id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`expected an element ${id}, got none`);
  return found as T;
}

/** Makes an element. @param attributes `true` stands for an empty one, `false` and undefined for none */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | number | boolean | undefined>> = {},
  children: readonly Child[] = [],
  handlers: Handlers = {},
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : String(value));
  for (const child of children) if (child) element.append(child);
  for (const [type, handler] of Object.entries(handlers)) element.addEventListener(type, handler as EventListener);
  return element;
}

/** Replaces what an element holds. */
export function fill(element: HTMLElement, ...children: readonly Child[]): void {
  element.replaceChildren(...children.filter((child): child is Node | string => Boolean(child)));
}

/** A name from outside: in its own direction, with characters that would hide or turn something as escapes. */
export const named = (name: string): HTMLElement => make('bdi', {}, [printable(name)]);

/** A number as people write it, with at most `digits` behind the point. */
export const number = (value: number, digits = 0): string =>
  value.toLocaleString('en', { maximumFractionDigits: digits });

/** Milliseconds in words. */
export function duration(milliseconds: number): string {
  if (milliseconds >= 10_000) return `${number(milliseconds / 1000)} s`;
  if (milliseconds >= 1000) return `${number(milliseconds / 1000, 1)} s`;
  return `${number(milliseconds, milliseconds < 10 ? 1 : 0)} ms`;
}

/** Bytes in MiB. */
export const mebibytes = (bytes: number): string => `${number(bytes / 2 ** 20, bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;

/** `3` as `3rd`. */
export function ordinal(count: number): string {
  const ending = ['th', 'st', 'nd', 'rd'][count % 100 > 10 && count % 100 < 14 ? 0 : count % 10] ?? 'th';
  return `${number(count)}${ending}`;
}

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${number(count)} ${count === 1 ? one : many}`;
