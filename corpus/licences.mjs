/** Which sets the corpus may have, and why others are left out. */

/** Licences that ask for no more than to be named. */
const permissive =
  /^(?:MIT|ISC|Apache-2\.0|CC0-1\.0|CC-BY-[34]\.0|BSD-[23]-Clause|Unlicense|Unicode-3\.0|0BSD|LicenseRef-PublicDomain)$/;
const leftOutCategories = new Set(['Logos', 'Programming']);

/** Sets that are held out as a whole, with the test that has them; drawings that are near-copies of theirs do not train either. */
export const heldOutSets = new Map([
  ['noto', 'noto'],
  ['fluent-color', 'family'],
  ['healthicons', 'family'],
  ['fa7-solid', 'fontawesome'],
  ['fa7-regular', 'fontawesome-other'],
  ['fa6-solid', 'fontawesome-other'],
  ['fa6-regular', 'fontawesome-other'],
  ['fa-solid', 'fontawesome-other'],
  ['fa-regular', 'fontawesome-other'],
  ['fa', 'fontawesome-other'],
  ['la', 'fontawesome-other'],
  ['fxemoji', 'style'],
]);
/** Sets that are near to held-out ones. */
const alike = new Map([
  ['noto-v1', 'looks like the held-out noto'],
  ['fa6-brands', 'logos of the held-out Font Awesome'],
  ['fa-brands', 'logos of the held-out Font Awesome'],
]);

/** Whether a licence, by its SPDX name, is one that the corpus takes. */
export const isPermissive = (spdx) => typeof spdx === 'string' && permissive.test(spdx);

/**
 * Why a set of icons does not train.
 *
 * @param set its prefix
 * @param info as collections.json has it
 * @returns undefined where it may
 */
export function reasonToLeaveOut(set, info) {
  if (heldOutSets.has(set)) return `held out (${heldOutSets.get(set)})`;
  if (alike.has(set)) return alike.get(set);
  if (!isPermissive(info.license?.spdx)) return `licence ${info.license?.spdx ?? 'unknown'}`;
  if (leftOutCategories.has(info.category)) return info.category.toLowerCase();
  if (info.hidden && set !== 'fluent-emoji') return 'withdrawn by its authors';
  return undefined;
}
