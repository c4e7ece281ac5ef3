/** ONNX Runtime, which judges exported files. It is large, so it belongs to `bench/`, not to the package. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from '../src/runtime/addon.ts';

interface OrtTensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

interface OrtSession {
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Readonly<Record<string, OrtTensor>>>;
  release(): Promise<void>;
}

interface Ort {
  readonly InferenceSession: { create(path: string, options: object): Promise<OrtSession> };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => OrtTensor;
}

function onnxRuntime(): Ort {
  try {
    return createRequire(join(packageRoot(), 'bench', 'package.json'))('onnxruntime-node');
  } catch (error) {
    throw new Error('ONNX Runtime is not installed: run `node scripts/setup.mjs --bench`', { cause: error });
  }
}

/** What an exported function takes. */
export interface OnnxFeeds {
  /** Token ids of each text, without padding. */
  readonly texts?: readonly Int32Array[];
  /** Tokens that every text is padded to. */
  readonly length?: number;
  /** [batch, 3, size, size] */
  readonly pixels?: Float32Array;
  readonly size?: number;
}

/** Runs an exported file on one batch. Padding holds ids that would change the result if anything read them. */
export async function runOnnx(path: string, feeds: OnnxFeeds): Promise<Readonly<Record<string, OrtTensor>>> {
  const { InferenceSession, Tensor } = onnxRuntime();
  const session = await InferenceSession.create(path, { logSeverityLevel: 3, intraOpNumThreads: 1 });
  try {
    return await session.run({
      ...(feeds.texts && textFeeds(feeds.texts, feeds.length ?? 0, Tensor)),
      ...(feeds.pixels && {
        pixels: new Tensor('float32', feeds.pixels, [
          feeds.pixels.length / (3 * feeds.size! ** 2),
          3,
          feeds.size!,
          feeds.size!,
        ]),
      }),
    });
  } finally {
    await session.release();
  }
}

function textFeeds(texts: readonly Int32Array[], length: number, Tensor: Ort['Tensor']): Record<string, OrtTensor> {
  const ids = new BigInt64Array(texts.length * length).fill(7n);
  const mask = new BigInt64Array(texts.length * length);
  for (const [i, text] of texts.entries()) {
    ids.set(BigInt64Array.from(text, BigInt), i * length);
    mask.fill(1n, i * length, i * length + text.length);
  }
  const dims = [texts.length, length];
  return { text_ids: new Tensor('int64', ids, dims), text_mask: new Tensor('int64', mask, dims) };
}
