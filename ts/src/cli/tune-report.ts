/** Prints what `mome bench --tune` measures. */
import { addon } from '../runtime/addon.ts';
import { interruption, type ModelFlags } from './context.ts';
import { note, print, printJson } from './output.ts';
import { table } from './table.ts';
import { type BlockingFields, blockingText, type TunedField, type TunedValue, tune } from './tune.ts';

/** Measures and prints a table for each number, then the row for `native/core/blocking.cc`. */
export async function printTuning(
  fields: readonly string[] | undefined,
  flags: ModelFlags & { readonly rounds: number },
): Promise<void> {
  const shows = flags.json !== true;
  if (shows && flags.quiet !== true) note('this takes a few minutes and wants a quiet machine');
  const { start, best, measured } = await tune(fields, flags, flags.rounds, interruption(), (field) => {
    if (shows) print(`${tuneTable(field)}\n`);
  });
  const { model, availableCores, best: target } = addon().cpuInfo();
  const where = `${model}, ${availableCores} cores, ${flags.target ?? target}`;
  const row = tableRow(addon().blocking(), where, best);
  if (!shows) {
    printJson({ where, start, best, measured, row });
    return;
  }
  const changed = Object.keys(best).filter((field) => best[field] !== start[field]);
  print(changed.length === 0 ? 'Nothing is faster than what is used now.' : `Faster: ${changed.join(', ')}.`);
  print(`MOME_BLOCKING=${blockingText(best)}`);
  print(row);
}

/** Times over those of the value so far. */
function tuneTable({ field, values, again }: TunedField): string {
  const types = Object.keys(again.byType);
  const cells = ({ byType, mean }: TunedValue) => [...types.map((type) => byType[type]!.toFixed(3)), mean.toFixed(3)];
  return table(
    [field, ...types, 'mean'],
    [...values.map((value) => [String(value.value), ...cells(value)]), [`${again.value} again`, ...cells(again)]],
  );
}

/** A row of the table in `native/core/blocking.cc`. */
export function tableRow(
  kind: { readonly vendor: string; readonly family: number; readonly model: number },
  where: string,
  best: BlockingFields,
): string {
  const hex = `0x${kind.model.toString(16).padStart(2, '0')}`;
  const fields = Object.entries(best).map(([name, value]) => `.${name} = ${value}`);
  return `{"${kind.vendor}", ${kind.family}, ${hex}, ${hex}, ${JSON.stringify(where)}, {${fields.join(', ')}}},`;
}
