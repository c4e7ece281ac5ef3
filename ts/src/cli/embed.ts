/** `mome embed`: embeddings of texts and pictures, one row each. */
import { setMaxListeners } from 'node:events';
import type { Command } from 'commander';
import { type Format, inOrderAhead, itemErrors, itemsAhead } from '../bulk/index.ts';
import type { ImageInput, Vlmo } from '../inference/index.ts';
import { check, expectation, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { placeOf } from '../runtime/files.ts';
import { packageVersion } from '../runtime/package-files.ts';
import { interruption, withModel, withModelFlags } from './context.ts';
import { addEmbedJobOptions, type EmbedJobFlags, embedJob, isEmbedJob } from './embed-job.ts';
import { type EmbeddedRow, formatOf, printRows, writeRows } from './embed-output.ts';
import { exitCodes, note } from './output.ts';
import { listArgument, pictureArguments, textArguments } from './stdin.ts';
import { progressBar } from './terminal.ts';

interface EmbedFlags extends EmbedJobFlags {
  readonly text?: readonly string[];
  readonly image?: readonly string[];
  readonly imagesFrom?: string;
}

export function addEmbed(program: Command): void {
  withModelFlags(
    addEmbedJobOptions(
      program
        .command('embed')
        .description('embeddings of texts and pictures, one row each; with --input of whole collections, into files')
        .option('-t, --text <text...>', 'texts; - for the lines of standard input')
        .option('-i, --image <path...>', 'pictures; - for the bytes of one on standard input')
        .option(
          '--images-from <file>',
          'pictures whose paths a file lists, one a line or with zero bytes between; - for standard input',
        ),
    ),
  ).action(embed);
}

async function embed(flags: EmbedFlags): Promise<void> {
  if (isEmbedJob(flags)) return embedJob(flags);
  const format = formatOf(flags);
  check(
    [flags.text, flags.image, flags.imagesFrom].some((given) => given !== undefined),
    'MOME_INVALID_ARGUMENT',
    'embed: expected --text, --image, --images-from or --input, got none of them',
  );
  if (flags.output !== undefined) await placeOf(flags.output);
  const texts = await textArguments(flags.text ?? []);
  const listed = flags.imagesFrom === undefined ? [] : await listArgument(flags.imagesFrom);
  const paths = [...(flags.image ?? []), ...listed];
  const pictures: ImageInput[] = [...(await pictureArguments(flags.image ?? [])), ...listed];
  await withModel(flags, async (model) => {
    const rows = [
      ...(await embedTexts(model, texts)),
      ...(await embedPictures(
        model,
        paths.map((path, i) => ({ path, picture: pictures[i]! })),
        flags,
      )),
    ];
    await emit(rows, format, flags, model);
  });
}

async function embedTexts(model: Vlmo, texts: readonly string[]): Promise<EmbeddedRow[]> {
  const { embeddings, width } = await model.embedTexts(texts, { signal: interruption() });
  return texts.map((input, i) => ({
    kind: 'text',
    input,
    embedding: embeddings.subarray(i * width, (i + 1) * width),
  }));
}

interface NamedPicture {
  readonly path: string;
  readonly picture: ImageInput;
}

/** Embeds pictures with a progress bar. One that cannot be read is named at once, and the others go on. */
async function embedPictures(
  model: Vlmo,
  pictures: readonly NamedPicture[],
  { quiet, json }: EmbedFlags,
): Promise<EmbeddedRow[]> {
  const signal = interruption();
  setMaxListeners(0, signal); // every picture under way listens
  const batcher = model.batcher({ runsAhead: 1 });
  const limits = { items: itemsAhead, bytes: Number.POSITIVE_INFINITY, bytesOf: () => 0 };
  const work = async ({ path, picture }: NamedPicture): Promise<EmbeddedRow> => {
    try {
      const { embeddings } = await batcher.embedImages([picture], { priority: 'bulk', signal });
      return { kind: 'picture', input: path, embedding: embeddings };
    } catch (error) {
      if (!(error instanceof MomeError) || !itemErrors.includes(error.code)) throw error;
      return { kind: 'picture', input: path, error: { code: error.code, message: expectation(error) } };
    }
  };
  const rows: EmbeddedRow[] = [];
  const progress = progressBar('embedding', quiet);
  try {
    for await (const { result } of inOrderAhead(pictures, work, limits, () => requireNotAborted(signal, 'embed'))) {
      rows.push(result);
      const { input, error } = result;
      if (error && !quiet && !json) note(`${input}: ${error.message} (${error.code})`);
      progress.update(rows.length, pictures.length);
    }
  } finally {
    progress.stop(); // its timer would keep the process alive
  }
  return rows;
}

/** Writes the rows, and says how many there are not. @throws MomeError the first error, where all inputs failed */
async function emit(
  rows: readonly EmbeddedRow[],
  format: Format | undefined,
  flags: EmbedFlags,
  model: Vlmo,
): Promise<void> {
  const failed = rows.filter(({ error }) => error !== undefined);
  const first = failed[0];
  if (first?.error && failed.length === rows.length) {
    const others = failed.length > 1 ? `, and so ${failed.length - 1} more` : '';
    throw new MomeError(
      first.error.code as MomeError['code'],
      `embed: ${first.input}: ${first.error.message}${others}; nothing is left to embed`,
    );
  }
  const version = packageVersion();
  const about = {
    width: model.config.width,
    createdBy: `mome version ${version}`,
    metadata: { 'mome.version': version, 'mome.model': model.fingerprint, 'mome.dtype': model.dtype },
  };
  if (flags.output === undefined) await printRows(rows, format, about);
  else await writeRows(flags.output, rows, format ?? 'json', about);
  if (failed.length === 0) return;
  process.exitCode = exitCodes.partial;
  if (!flags.quiet && !flags.json) note(`${failed.length} of ${rows.length} inputs could not be embedded`);
}
