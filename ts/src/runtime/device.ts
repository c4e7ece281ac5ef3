/**
 * Where an engine runs: this processor, or a CUDA device by its index.
 */
import { type CudaInfo, type DType, native } from './addon.ts';
import { check } from './errors.ts';

/** `auto` takes the first CUDA device that models run on, else the processor. `cuda` is `cuda:0`. */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;

/** A device that was decided on. */
export type Device = { readonly kind: 'cpu' } | { readonly kind: 'cuda'; readonly index: number };

/** The CUDA library of this package and the devices it finds. */
export function cudaInfo(): CudaInfo {
  return native((a) => a.cudaInfo());
}

/** The name a user gives a device by. */
export function deviceName(device: Device): 'cpu' | `cuda:${number}` {
  return device.kind === 'cpu' ? 'cpu' : `cuda:${device.index}`;
}

/**
 * Decides where to run.
 *
 * @param wanted the device that the user asked for; default: `auto`
 * @param options a processor's kernel set or 8-bit weights make `auto` take the processor
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a name that is none, `MOME_UNSUPPORTED` for int8 on a CUDA device
 */
export function resolveDevice(
  wanted: string = 'auto',
  { target, dtype }: { readonly target?: string | undefined; readonly dtype?: DType | undefined } = {},
): Device {
  if (wanted === 'cpu') return { kind: 'cpu' };
  if (wanted === 'auto') {
    const fits = target === undefined && !process.env.MOME_TARGET && dtype !== 'int8';
    const index = fits ? cudaInfo().devices.findIndex(({ unfit }) => unfit === '') : -1;
    return index < 0 ? { kind: 'cpu' } : { kind: 'cuda', index };
  }
  const index = /^cuda(?::(\d{1,3}))?$/.exec(wanted);
  check(index, 'MOME_INVALID_ARGUMENT', `device: expected auto, cpu, cuda or cuda:<index>, got ${wanted}`);
  check(
    target === undefined || target === 'cuda',
    'MOME_INVALID_ARGUMENT',
    `device: expected no kernel set of the processor on ${wanted}, got ${target}`,
  );
  check(dtype !== 'int8', 'MOME_UNSUPPORTED', `device: expected float32 or bfloat16 weights on ${wanted}, got int8`);
  return { kind: 'cuda', index: Number(index[1] ?? 0) };
}
