/** `mome doctor`: lists this machine's devices and kernel sets, and checks whether the addon runs on it. */
import { addon, type Blocking, type CpuInfo } from './addon.ts';
import { cudaInfo, deviceName, resolveDevice } from './device.ts';
import { Engine, type EngineOptions } from './engine.ts';
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
const probeProgram = `mome-program 1
dims n
input x f32 n
buffer 0 f32 n live 0 0
output y 0
op add.forward a=$x b=$x y=%0 count=n
`;

/** Checks the addon, every kernel set this processor has, and every CUDA device. */
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
      detail: `${cpu.model}, ${cpu.availableCores} cores for this process, fastest kernels: ${fastest(cpu)}`,
    });
    checks.push({ name: 'blocking', ok: true, detail: blockingDetail(addon().blocking()) });
    for (const target of cpu.targets) checks.push(await probeTarget(target));
    checks.push(...(await probeCuda()));
    checks.push(mpi());
  } catch (error) {
    checks.push({ name: 'addon', ok: false, detail: (error as Error).message });
  }
  return { ok: checks.every(({ ok }) => ok), checks, cpu };
}

/** The kernels that models run on, and which are left out for them. */
function fastest({ best, rejected }: CpuInfo): string {
  const names = rejected.map(({ target }) => target).join(', ');
  return names === '' ? best : `${best}, because the self-check failed for ${names}`;
}

/** How work is cut on this processor. */
function blockingDetail({ fields, source }: Blocking): string {
  const numbers = Object.entries(fields).map(([name, value]) => `${name} ${value}`);
  return `${source}: ${numbers.join(', ')}`;
}

/** Kernel sets that were checked by emulation alone: no run on a processor that has them is recorded. */
const unrecorded: ReadonlySet<string> = new Set(['amx']);

/** What is said of a kernel set that runs and whose self-check took so long. */
export function targetDetail(target: string, milliseconds: number): string {
  const checked = target === 'ref' ? '' : `, self-check passed in ${milliseconds.toFixed(1)} ms`;
  const record = unrecorded.has(target) ? '; no run of these kernels on such a processor was recorded before' : '';
  return `runs${checked}${record}`;
}

async function probeTarget(target: string): Promise<DoctorCheck> {
  const name = `target ${target}`;
  const { passed, wrong, milliseconds } = addon().checkTarget(target);
  if (!passed) return { name, ok: false, detail: `the self-check failed: ${wrong}` };
  const { ok, detail } = await probe(name, { target });
  return { name, ok, detail: ok ? targetDetail(target, milliseconds) : detail };
}

/** Each CUDA device, or why there is none. None, or one that is too old, is no failure: models run elsewhere then. */
async function probeCuda(): Promise<DoctorCheck[]> {
  const { library, reason, devices } = cudaInfo();
  if (library === null)
    return [{ name: 'cuda', ok: true, detail: `models run on the CPU: no CUDA library: ${reason}` }];
  if (devices.length === 0) return [{ name: 'cuda', ok: true, detail: `models run on the CPU: ${reason}` }];
  const auto = resolveDevice();
  const elsewhere = auto.kind === 'cpu' ? 'the CPU' : deviceName(auto);
  const checks: DoctorCheck[] = [];
  for (const [index, device] of devices.entries()) {
    const name = `cuda:${index}`;
    if (device.capability > 0 && device.unfit !== '') {
      checks.push({ name, ok: true, detail: `${device.name}: models run on ${elsewhere}: ${device.unfit}` });
      continue;
    }
    const { ok, detail } = await probe(name, { device: { kind: 'cuda', index } });
    const gigabytes = (device.memoryBytes / 2 ** 30).toFixed(0);
    checks.push({
      name,
      ok,
      detail: `${device.name}, ${gigabytes} GiB, compute capability ${device.capability.toFixed(1)}, ${device.runtime}: ${detail}`,
    });
  }
  return checks;
}

/** Whether processes can train together. Without MPI one process trains alone, which is no failure. */
function mpi(): DoctorCheck {
  const { library, reason } = addon().communicatorInfo();
  const detail = library === null ? `training runs in one process: ${reason}` : `usable with mpirun: ${library}`;
  return { name: 'mpi', ok: true, detail };
}

async function probe(name: string, options: EngineOptions): Promise<DoctorCheck> {
  let engine: Engine | undefined;
  try {
    engine = new Engine(options);
    const program = engine.createProgram(engine.createWeights(), probeProgram);
    const { y } = await program.run({ dims: { n: 3 }, inputs: { x: Float32Array.of(1, 2, 3) } });
    const right = y?.join() === '2,4,6';
    return { name, ok: right, detail: right ? 'runs' : `expected 2,4,6, got ${y?.join()}` };
  } catch (error) {
    if (!(error instanceof MomeError)) throw error;
    return { name, ok: false, detail: error.message };
  } finally {
    engine?.dispose();
  }
}
