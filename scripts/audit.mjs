/**
 * Asks the registry for known weaknesses of the packages that mome brings with it, and fails for those of high severity. Where no registry
 * answers nothing is checked, and that is said.
 */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Milliseconds that the registry has. */
const patience = 60_000;

/**
 * What the answer of `npm audit --json` means.
 *
 * @returns `unreachable` with the reason, or the packages with weaknesses of high or critical severity
 */
export function auditResult(text) {
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    return { unreachable: 'npm gave no answer' };
  }
  if (!report.vulnerabilities) return { unreachable: report.message ?? report.error?.summary ?? 'npm gave no report' };
  const bad = Object.values(report.vulnerabilities).filter(
    ({ severity }) => severity === 'high' || severity === 'critical',
  );
  return { problems: bad.map(({ name, severity, range }) => `${name} ${range}: ${severity}`) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--audit-level=high', '--json'], {
    cwd: root,
    encoding: 'utf8',
    timeout: patience,
  });
  const { unreachable, problems } = auditResult(stdout ?? '');
  if (unreachable !== undefined) {
    process.stdout.write(`audit: skipped, no registry answers (${unreachable})\n`);
  } else if (problems.length > 0) {
    process.stderr.write(`audit: packages with known weaknesses\n${problems.join('\n')}\n`);
    process.exit(1);
  } else process.stdout.write('audit: no known weakness of high severity\n');
}
