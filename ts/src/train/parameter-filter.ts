/** Patterns for names of parameters: which of them learn. */
import { RE2JS } from 're2js';
import { check, MomeError } from '../runtime/errors.ts';

/** Most characters of a pattern for names of parameters. */
export const maxPatternLength = 500;

/**
 * Whether a parameter's name contains a match of `pattern`. The syntax is that of RE2, whose time grows with the length of the name alone:
 * no lookahead and no references back. Counted repetition such as `a{9}` is refused too: it makes large programs of short patterns.
 *
 * @throws MomeError `MOME_INVALID_CONFIG` for a text that is no such pattern
 */
export function parameterFilter(pattern: string): (name: string) => boolean {
  check(
    pattern.length <= maxPatternLength && !/\{\d/.test(pattern),
    'MOME_INVALID_CONFIG',
    `trainable: expected at most ${maxPatternLength} characters and no counted repetition`,
  );
  const known = new Map<string, boolean>();
  try {
    const compiled = RE2JS.compile(pattern);
    return (name) => {
      const answer = known.get(name) ?? compiled.matcher(name).find();
      known.set(name, answer);
      return answer;
    };
  } catch (error) {
    throw new MomeError('MOME_INVALID_CONFIG', 'trainable: expected a regular expression in the syntax of RE2', {
      cause: error,
    });
  }
}

/** Whether {@link parameterFilter} takes a text. */
export function isParameterPattern(text: string): boolean {
  try {
    return Boolean(parameterFilter(text));
  } catch {
    return false;
  }
}
