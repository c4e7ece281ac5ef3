/** One row for each kind of processor and kernel set: the main figures of the model table beside each other. */

const [image8, image1] = ['image, batch 8', 'image, batch 1'];
const [fusion, text32, text1] = ['fusion, batch 8', 'text, batch 32 (12', 'text, batch 1 '];
const unpadded = 'onnxruntime, to the longest';
const int8Peer = 'onnxruntime int8';

/** Ratios to these peers, in this order, of a row in a type. */
const against =
  (...peers) =>
  (row) => {
    const ratios = peers.map((peer) => row?.peers[peer]?.ratio).filter((ratio) => ratio !== undefined);
    return ratios.map((ratio) => `${ratio.toFixed(2)} x`).join(', ');
  };
const median = (row) => row?.ours.seconds.median;

/** Title of each column, and what stands there: `find` gives the row of a name and type. */
const columns = [
  ['image b8, float32: ms', (find) => milliseconds(find(image8, 'float32'))],
  ['of FMA peak', (find) => percent(find(image8, 'float32')?.shareOfPeak)],
  ['against onnxruntime', (find) => against('onnxruntime')(find(image8, 'float32'))],
  ['image b1', (find) => against('onnxruntime')(find(image1, 'float32'))],
  ['fusion b8: padded, not', (find) => against('onnxruntime', unpadded)(find(fusion, 'float32'))],
  ['text b32: padded, not', (find) => against('onnxruntime', unpadded)(find(text32, 'float32'))],
  ['text b1: padded, not', (find) => against('onnxruntime', unpadded)(find(text1, 'float32'))],
  ['image b8: int8 over float32', (find) => over(find(image8, 'int8'), find(image8, 'float32'))],
  ['bfloat16 over float32', (find) => over(find(image8, 'bfloat16'), find(image8, 'float32'))],
  ['text b1, int8, against float32 not padded', (find) => against(unpadded)(find(text1, 'int8'))],
  ["image b8, int8, against onnxruntime's", (find) => against(int8Peer)(find(image8, 'int8'))],
  ['fusion b8, bfloat16: padded, not', (find) => against('onnxruntime', unpadded)(find(fusion, 'bfloat16'))],
];

const milliseconds = (row) => (row ? String(Number((1000 * median(row)).toPrecision(3))) : '');
const percent = (share) => (share ? `${(100 * share.fastDecile).toFixed(0)} %` : '');
const over = (fast, slow) => (fast && slow ? `${(median(slow) / median(fast)).toFixed(2)} x` : '');

/** @param {readonly any[]} models results of the model table */
export function processorsSection(models) {
  if (models.length === 0) return 'Not measured yet.';
  const header = ['processor', 'kernel set', ...columns.map(([title]) => title)];
  const rows = models.map(({ machine, rows }) => {
    const find = (name, dtype) => rows.find((row) => row.name.startsWith(name) && row.dtype === dtype);
    const name = machine.kind ? `${machine.cpu} (${machine.kind})` : machine.cpu;
    const cells = columns.map(([, cell]) => cell(find));
    return `| ${[`${name}, ${machine.cores} cores`, machine.target, ...cells].join(' | ')} |`;
  });
  return [`| ${header.join(' | ')} |`, `|${' --- |'.repeat(header.length)}`, ...rows].join('\n');
}
