/** Flags of countries, named by their ISO codes. */
import { readIcons } from './iconify.mjs';

export const flagSets = ['circle-flags', 'flag', 'flagpack', 'cif'];
const names = new Intl.DisplayNames(['en'], { type: 'region', fallback: 'none' });

/** The name of a region by its code of two letters, or undefined. */
export function regionName(code) {
  try {
    return names.of(code.toUpperCase());
  } catch {
    return undefined;
  }
}

/** The national flags of a set, one drawing each. */
export function flagDrawings(packages, set) {
  return readIcons(packages, set).flatMap(({ icon, svg }) => {
    const [, code, shape] = /^([a-z]{2})(?:-(\dx\d))?$/.exec(icon) ?? [];
    const region = code && shape !== '1x1' ? regionName(code) : undefined;
    if (!region) return [];
    const name = `flag of ${region.toLowerCase().replace(/&/g, 'and')}`;
    return [
      { set, icon, kind: 'flag', name, others: [], tags: ['flag', 'country', region.toLowerCase()], draw: { svg } },
    ];
  });
}
