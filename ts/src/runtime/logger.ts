/** What the library tells a program's log. */
import { isObject, type Kind } from './arguments.ts';

const levels = ['debug', 'info', 'warn', 'error'] as const;
type Level = (typeof levels)[number];

/** Facts of a line, by name: numbers in the units that their names say. */
export type LogFields = Readonly<Record<string, string | number | boolean>>;

/** A log of the program: `console` is one. Levels that it lacks are left out. What it throws is ignored: no result is lost over a line. */
export interface Logger {
  debug?(message: string, fields: LogFields): void;
  info?(message: string, fields: LogFields): void;
  warn?(message: string, fields: LogFields): void;
  error?(message: string, fields: LogFields): void;
}

export type Log = (level: Level, message: string, fields: () => LogFields) => void;

export const loggerKind: Kind = {
  expected: `an object with some of the methods ${levels.join(', ')}`,
  accepts: (value) => isObject(value) && levels.some((level) => typeof (value as Logger)[level] === 'function'),
};

/** @param logger of the caller; without one nothing is written, and the fields of no line are made */
export function logTo(logger: Logger | undefined): Log {
  if (logger === undefined) return () => {};
  return (level, message, fields) => {
    try {
      const written: unknown = logger[level]?.(`mome: ${message}`, fields());
      if (written instanceof Promise) written.catch(() => {});
    } catch {
      // The program's log is no reason to lose its results.
    }
  };
}
