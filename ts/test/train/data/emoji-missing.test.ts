import { expect, it, vi } from 'vitest';
import { loadEmoji, loadEmojiNames } from '../../../src/train/data/emoji.ts';

vi.mock('node:module', async (original) => ({
  ...(await original<typeof import('node:module')>()),
  createRequire: () => (name: string) => {
    throw new Error(`Cannot find module '${name}'`);
  },
}));

it('says how to install a package that is not there', () => {
  const error = expect.objectContaining({
    code: 'MOME_NOT_FOUND',
    message: expect.stringContaining('npm install emojibase-data'),
  });
  expect(() => loadEmojiNames()).toThrow(error);
  expect(() => loadEmoji({ style: 'noto' })).toThrow(error);
});
