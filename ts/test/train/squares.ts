/** Writes four coloured squares with two captions each, and `pairs.jsonl` that names them. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';

export async function writeSquares(folder: string): Promise<void> {
  const lines = [];
  for (const [i, colour] of ['red', 'green', 'blue', 'white'].entries()) {
    const create = { width: 20, height: 20, channels: 3 as const, background: colour };
    await sharp({ create })
      .png()
      .toFile(join(folder, `${i}.png`));
    lines.push(JSON.stringify({ image: `${i}.png`, captions: [`a ${colour} square`, `something ${colour}`] }));
  }
  await writeFile(join(folder, 'pairs.jsonl'), lines.join('\n'));
}
