/** What a caller may name as a model: a path, a registered model, or the one that ships with the library. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { pathOfModel } from '../../src/inference/load.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

afterEach(() => vi.unstubAllEnvs());

describe('pathOfModel', () => {
  it('finds the model that ships with the library by its name, unless a path has that name', async () => {
    const folder = await temporaryFolder();
    const shipped = await pathOfModel('here', 'emoji-tiny', folder);
    const [named, byDefault] = await Promise.all([Vlmo.load('emoji-tiny'), Vlmo.load(shipped)]);
    expect(named.fingerprint).toBe(byDefault.fingerprint);
    await Promise.all([named.dispose(), byDefault.dispose()]);
    await mkdir(join(folder, 'emoji-tiny'));
    expect(await pathOfModel('here', 'emoji-tiny', folder)).toBe(join(folder, 'emoji-tiny'));
  });

  it('takes paths from the folder that is given, and says how a registered model comes here', async () => {
    const folder = await temporaryFolder();
    vi.stubEnv('MOME_CACHE', join(folder, 'cache'));
    expect(await pathOfModel('here', 'weights.pt', folder)).toBe(join(folder, 'weights.pt'));
    expect(await pathOfModel('here', '/models/weights.pt', folder)).toBe('/models/weights.pt');
    const { message } = await expectCode(() => pathOfModel('here', 'vlmo-base-coco', folder), 'MOME_NOT_FOUND');
    expect(message).toContain('mome pull vlmo-base-coco');
  });
});
