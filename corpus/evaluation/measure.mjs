/** Measures a loaded model on the rows of a split. */
import { rowsOf } from './rows.mjs';

/**
 * @param options `split`, `corpus`, `scenes`, `k` candidates that are re-ranked (none where the model cannot match), `rows` to measure, all
 *   unless given, and `shown`, the model's name in commands
 * @returns the rows in order; one without data or head says so in `missing`
 */
export async function measureRows(model, { split, corpus, scenes, k, rows: wanted, shown }) {
  const all = rowsOf(split, { corpus, scenes });
  const unknown = wanted?.find((id) => !all.some((row) => row.id === id));
  if (unknown) throw new Error(`evaluate: expected rows of ${all.map(({ id }) => id).join(', ')}, got ${unknown}`);
  const reranked = model.abilities.has('match') ? k : 0;
  const rows = [];
  for (const { id, title, measure, folder, needs, isThere } of all) {
    if (wanted && !wanted.includes(id)) continue;
    const started = performance.now();
    let row = { missing: `no data in ${folder}` };
    if (isThere && needs && !model.abilities.has(needs)) row = { missing: `the model has no head to ${needs}` };
    else if (isThere) row = await measure({ model, k: reranked, folder, split });
    const { command, ...rest } = row;
    const again = command && { command: shown ? `${command} -m ${shown}` : command };
    rows.push({ id, title, ...rest, ...again, seconds: Math.round((performance.now() - started) / 1000) });
    process.stderr.write(`${id}: ${JSON.stringify(row.missing ?? row.metrics)}\n`);
  }
  return rows;
}
