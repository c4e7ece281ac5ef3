/**
 * Loaded before a program (`node --import`): stops the process at the file system call whose number `STOP_AT` says, by SIGKILL before the
 * call, or lets that call and all after it fail with the error code `FAIL_WITH`. Calls of `node:fs/promises` and of its file handles that
 * change something are counted; the count is written to the file `COUNT_IN` at the end, and the calls with their paths to `LOG_IN`.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { STOP_AT, FAIL_WITH, COUNT_IN, LOG_IN } = process.env;
const stopAt = Number(STOP_AT ?? Number.POSITIVE_INFINITY);
let count = 0;
const log = [];
/** Paths of open files. */
const paths = new WeakMap();

function step(name, path) {
  count++;
  log.push(`${name} ${path}`);
  if (count < stopAt) return;
  if (!FAIL_WITH) process.kill(process.pid, 'SIGKILL');
  // Removing and closing need no space.
  if (name === 'rm' || name === 'rmdir' || name === 'close') return;
  throw Object.assign(new Error(`${FAIL_WITH}: planted in ${name}`), { code: FAIL_WITH, path, syscall: name });
}

function counted(object, name) {
  const original = object[name];
  object[name] = async function (...args) {
    step(args[2]?.flush ? `${name}, flushed` : name, typeof args[0] === 'string' ? args[0] : paths.get(this));
    return original.apply(this, args);
  };
}

const changing = ['chmod', 'copyFile', 'link', 'mkdir', 'rename', 'rm', 'rmdir', 'unlink', 'writeFile'];
for (const name of changing) counted(fs.promises, name);
const probe = await fs.promises.open(process.execPath, 'r');
const handle = Object.getPrototypeOf(probe);
await probe.close();
for (const name of ['chmod', 'write', 'writeFile', 'sync', 'truncate']) counted(handle, name);
const { open } = fs.promises;
fs.promises.open = async (path, flags, ...rest) => {
  if (/[wa+]/.test(String(flags ?? 'r'))) step('open', path);
  const file = await open(path, flags, ...rest);
  paths.set(file, path);
  return file;
};
syncBuiltinESMExports();
process.on('exit', () => {
  if (COUNT_IN) fs.writeFileSync(COUNT_IN, String(count));
  if (LOG_IN) fs.writeFileSync(LOG_IN, JSON.stringify(log));
});
