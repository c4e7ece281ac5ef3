/** Licences and known weaknesses of the packages that mome brings along: what the checks must notice. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { auditResult } from '../../scripts/audit.mjs';
import { licenceProblems } from '../../scripts/check-licences.mjs';

describe('licences', () => {
  it('are allowed, all of them', () => {
    const { packages } = JSON.parse(readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8'));
    expect(licenceProblems(packages)).toEqual([]);
  });

  it('of others are noticed', () => {
    const planted = {
      '': { license: 'GPL-3.0' },
      'node_modules/a': { license: 'GPL-3.0-only' },
      'node_modules/b/node_modules/c': {},
      'node_modules/d': { license: 'MIT AND GPL-2.0' },
      'node_modules/e': { license: '(MIT OR GPL-2.0)' },
      'node_modules/f': { license: 'GPL-2.0', dev: true },
      'node_modules/p-limit': { license: 'UNLICENSED', dev: true },
      'node_modules/g': { license: 'LGPL-3.0-or-later' },
      'node_modules/@img/sharp-libvips-linux-x64': { license: 'LGPL-3.0-or-later' },
    };
    const names = licenceProblems(planted).map((line: string) => line.split(':')[0]);
    expect(names).toEqual(['a', 'c', 'd', 'p-limit', 'g']);
  });
});

describe('an audit', () => {
  it('fails for weaknesses of high severity, and is skipped where no registry answers', () => {
    const of = (severity: string) => JSON.stringify({ vulnerabilities: { a: { name: 'a', severity, range: '<2' } } });
    expect(auditResult(of('high')).problems).toEqual(['a <2: high']);
    expect(auditResult(of('critical')).problems?.length).toBe(1);
    expect(auditResult(of('moderate')).problems).toEqual([]);
    expect(auditResult('').unreachable).toBeDefined();
    expect(auditResult('{"message":"request failed","error":{}}').unreachable).toBe('request failed');
  });
});
