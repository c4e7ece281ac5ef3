/** What browsers are told about every answer. */
import helmet from '@fastify/helmet';
import fastify from 'fastify';

/** Headers that every answer has anyway. */
const ofEveryAnswer: ReadonlySet<string> = new Set(['connection', 'content-length', 'content-type', 'date']);

/**
 * The headers of helmet, by name. They are the same for every answer, and helmet would make them anew for each, which takes as long as
 * the rest of a small request: one answer is asked for, and its headers are kept.
 *
 * @param isSecure whether the server has TLS; only then are browsers told to use nothing else
 */
export async function securityHeaders(isSecure: boolean): Promise<Readonly<Record<string, string>>> {
  const probe = fastify();
  const contentSecurityPolicy = { directives: { upgradeInsecureRequests: isSecure ? [] : null } };
  await probe.register(helmet, { contentSecurityPolicy, strictTransportSecurity: isSecure });
  probe.get('/', async () => '');
  const { headers } = await probe.inject('/');
  await probe.close();
  const own = Object.entries(headers).filter(([name]) => !ofEveryAnswer.has(name));
  return Object.fromEntries(own.map(([name, value]) => [name, String(value)]));
}
