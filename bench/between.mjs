/** Generated parts of pages, between markers that stay. */

/** Puts `content` between the markers of `name`. @throws Error for a page without them */
export function replaceBetween(text, name, content) {
  const begin = `<!-- generated: ${name} -->`;
  const end = `<!-- end: ${name} -->`;
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from < 0 || to < from) throw new Error(`expected the markers of ${name}`);
  return `${text.slice(0, from + begin.length)}\n\n${content}\n\n${text.slice(to)}`;
}
