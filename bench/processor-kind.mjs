/** What a processor is called. */

/** Kinds of server processors by vendor, family and ranges of models. Virtual machines name them no more than "AMD EPYC". */
const kinds = [
  [
    'AuthenticAMD',
    23,
    [
      [0x00, 0x2f, 'Zen'],
      [0x30, 0xff, 'Zen 2'],
    ],
  ],
  [
    'AuthenticAMD',
    25,
    [
      [0x00, 0x0f, 'Zen 3'],
      [0x10, 0x1f, 'Zen 4'],
      [0x20, 0x5f, 'Zen 3'],
      [0x60, 0xaf, 'Zen 4'],
    ],
  ],
  ['AuthenticAMD', 26, [[0x00, 0xff, 'Zen 5']]],
  [
    'GenuineIntel',
    6,
    [
      [0x3f, 0x3f, 'Haswell'],
      [0x4f, 0x4f, 'Broadwell'],
      [0x55, 0x55, 'Skylake'],
      [0x6a, 0x6c, 'Ice Lake'],
      [0x8f, 0x8f, 'Sapphire Rapids'],
      [0xcf, 0xcf, 'Emerald Rapids'],
      [0xad, 0xae, 'Granite Rapids'],
      [0xaf, 0xaf, 'Sierra Forest'],
    ],
  ],
];

/**
 * The kind of a processor; one that is not known is named by its numbers.
 *
 * @param {string} cpuinfo text of /proc/cpuinfo
 * @returns {string | undefined} such as "Zen 5", or "family 6 model 183"
 */
export function processorKind(cpuinfo) {
  const field = (name) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1]?.trim();
  const [vendor, family, model] = [field('vendor_id'), Number(field('cpu family')), Number(field('model'))];
  if (vendor === undefined || !Number.isInteger(family) || !Number.isInteger(model)) return undefined;
  const ranges = kinds.find(([made, number]) => made === vendor && number === family)?.[2] ?? [];
  const known = ranges.find(([from, to]) => model >= from && model <= to);
  return known?.[2] ?? `family ${family} model ${model}`;
}

/** Name of a processor and kernel set. */
export function machineName({ cpu, kind, target }) {
  return `${kind && !cpu.includes(kind) ? `${cpu}, ${kind}` : cpu}, ${target}`;
}

/** File-name form of it. */
export function slugOf(machine) {
  return machineName(machine)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-');
}
