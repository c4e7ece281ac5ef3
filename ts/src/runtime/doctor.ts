/** `mome doctor`: what this machine offers, and whether the addon runs on it. */
import { addon, type CpuInfo } from './addon.ts';
import { Engine } from './engine.ts';
import { MomeError } from './errors.ts';

/** One line of the report. */
export interface DoctorCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface DoctorReport {
  readonly ok: boolean;
  readonly checks: readonly DoctorCheck[];
  readonly cpu: CpuInfo | null;
}

/** A program that adds a vector to itself. */
const probe = `mome-program 1
dims n
input x f32 n
buffer 0 f32 n live 0 0
output y 0
op add.forward a=$x b=$x y=%0 count=n
`;

/** Checks the addon, every kernel set this processor has, and CUDA's absence. */
export async function diagnose(): Promise<DoctorReport> {
  const checks: DoctorCheck[] = [
    { name: 'node', ok: true, detail: `${process.version} on ${process.platform}-${process.arch}` },
  ];
  let cpu: CpuInfo | null = null;
  try {
    cpu = addon().cpuInfo();
    checks.push({ name: 'addon', ok: true, detail: 'loaded' });
    checks.push({
      name: 'cpu',
      ok: true,
      detail: `${cpu.model}, ${cpu.availableCores} cores for this process, fastest kernels: ${cpu.best}`,
    });
    for (const target of cpu.targets) checks.push(await probeTarget(target));
    checks.push({ name: 'cuda', ok: true, detail: 'not part of this build: models run on the CPU' });
  } catch (error) {
    checks.push({ name: 'addon', ok: false, detail: (error as Error).message });
  }
  return { ok: checks.every(({ ok }) => ok), checks, cpu };
}

async function probeTarget(target: string): Promise<DoctorCheck> {
  const name = `target ${target}`;
  const engine = new Engine({ target });
  try {
    const program = engine.createProgram(engine.createWeights(), probe);
    const { y } = await program.run({ dims: { n: 3 }, inputs: { x: Float32Array.of(1, 2, 3) } });
    const right = y?.join() === '2,4,6';
    return { name, ok: right, detail: right ? 'runs' : `expected 2,4,6, got ${y?.join()}` };
  } catch (error) {
    if (!(error instanceof MomeError)) throw error;
    return { name, ok: false, detail: error.message };
  } finally {
    engine.dispose();
  }
}
