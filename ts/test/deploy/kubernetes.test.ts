/** The manifests say what the code knows: metrics, routes, ports, flags, and times that fit each other. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { addEmbed } from '../../src/cli/embed.ts';
import { addServe } from '../../src/cli/serve.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { createServer, type MomeServer } from '../../src/serve/index.ts';
import { tinyModel } from '../helpers.ts';

const folder = 'deploy/kubernetes';
const texts = new Map(
  readdirSync(folder)
    .sort()
    .map((name) => [name, readFileSync(join(folder, name), 'utf8')] as const),
);

/** A manifest: any object of YAML. */
// biome-ignore lint/suspicious/noExplicitAny: the shape is what is tested
type Manifest = any;

const program = new Command('mome');
addServe(program);
addEmbed(program);

let model: Vlmo;
let server: MomeServer;
let metrics: ReadonlySet<string>;
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel(), { threads: 1 });
  server = await createServer(model);
  const { body } = await server.inject({ url: '/metrics' });
  metrics = new Set([...body.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name!));
});
afterAll(async () => {
  await server.close();
  await model.dispose();
});

function parse(files: ReadonlyMap<string, string>): { readonly file: string; readonly manifest: Manifest }[] {
  return [...files].flatMap(([file, text]) =>
    parseAllDocuments(text).map((document) => {
      if (document.errors.length > 0) throw document.errors[0];
      return { file, manifest: document.toJS() };
    }),
  );
}

/** Pod templates and lists of containers of a manifest. */
const podOf = ({ kind, spec }: Manifest): Manifest =>
  kind === 'Deployment' || kind === 'Job' ? spec.template.spec : kind === 'ServingRuntime' ? spec : undefined;

const hasAll = (labels: Manifest, wanted: Manifest) =>
  Object.entries(wanted ?? { none: 1 }).every(([key, value]) => labels?.[key] === value);

/** What in the manifests does not fit the code, or another manifest. */
async function problemsOf(files: ReadonlyMap<string, string>): Promise<string[]> {
  const problems: string[] = [];
  const all = parse(files);
  const find = (kind: string): Manifest => all.find(({ manifest }) => manifest.kind === kind)?.manifest;
  const deployment = find('Deployment');
  const { labels } = deployment.spec.template.metadata;
  for (const { file, manifest } of all) {
    const wrong = (what: string) => problems.push(`${file}: ${what}`);
    if (file !== 'prometheus-adapter.yaml' && !(manifest.apiVersion && manifest.kind)) wrong('apiVersion and kind');
    for (const name of JSON.stringify(manifest).match(/\bmome_[a-z_]+/g) ?? [])
      if (!metrics.has(name)) wrong(`metric ${name}`);
    const pod = podOf(manifest);
    for (const container of pod?.containers ?? []) await checkContainer(container, pod, manifest, wrong);
  }
  const wrong = (what: string) => problems.push(what);
  for (const kind of ['Service', 'PodDisruptionBudget', 'NetworkPolicy']) {
    const { selector, podSelector } = find(kind).spec;
    if (!hasAll(labels, selector?.matchLabels ?? podSelector?.matchLabels ?? selector)) wrong(`${kind}: selector`);
  }
  if (!hasAll(labels, deployment.spec.selector.matchLabels)) wrong('Deployment: selector');
  const ports: Manifest[] = deployment.spec.template.spec.containers[0].ports;
  const [port, ...others] = find('Service').spec.ports;
  for (const { targetPort } of [port, ...others])
    if (!ports.some(({ name }) => name === targetPort)) wrong(`Service: port ${targetPort}`);
  const [endpoint] = find('ServiceMonitor').spec.endpoints;
  if (endpoint.port !== port.name) wrong(`ServiceMonitor: port ${endpoint.port}`);
  if (!hasAll(find('Service').metadata.labels, find('ServiceMonitor').spec.selector.matchLabels))
    wrong('ServiceMonitor: selector');
  if ((await server.inject({ url: endpoint.path })).statusCode !== 200) wrong(`ServiceMonitor: route ${endpoint.path}`);
  for (const { port: open } of find('NetworkPolicy').spec.ingress[0].ports)
    if (!ports.some(({ containerPort }) => containerPort === open)) wrong(`NetworkPolicy: port ${open}`);
  const { scaleTargetRef } = find('HorizontalPodAutoscaler').spec;
  if (scaleTargetRef.name !== deployment.metadata.name) wrong(`HorizontalPodAutoscaler: ${scaleTargetRef.name}`);
  for (const resource of find('Kustomization').resources) if (!files.has(resource)) wrong(`Kustomization: ${resource}`);
  return problems;
}

async function checkContainer(container: Manifest, pod: Manifest, manifest: Manifest, wrong: (what: string) => void) {
  const [name, ...flags] = container.args as string[];
  const command = program.commands.find((each) => each.name() === name);
  if (!command) return wrong(`command ${name}`);
  const values: Record<string, string> = {};
  for (const flag of flags) {
    const [, long = flag, value = ''] = /^(--[a-z-]+)=(.*)$/.exec(flag) ?? [];
    if (!command.options.some((option) => option.long === long)) wrong(`flag ${long} of ${name}`);
    values[long] = value;
  }
  const ports: Manifest[] = container.ports ?? [];
  // Knative takes one port of a container: a runtime of gRPC keeps that of HTTP to itself.
  const served = ports[0]?.name === 'h2c' ? ['--grpc-port'] : ['--port', '--grpc-port'];
  for (const flag of name === 'serve' ? served : []) {
    if (flag in values && !ports.some(({ containerPort }) => `${containerPort}` === values[flag]))
      wrong(`port ${values[flag]}`);
  }
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    const { httpGet, grpc } = container[probe] ?? {};
    if (grpc && `${grpc.port}` !== values['--grpc-port']) wrong(`${probe}: ${grpc.port}`);
    const get = httpGet ?? grpc;
    if (!get) continue;
    if (httpGet && (await server.inject({ url: get.path })).statusCode !== 200) wrong(`${probe}: route ${get.path}`);
    if (!ports.some((port) => port.name === get.port || port.containerPort === get.port))
      wrong(`${probe}: ${get.port}`);
  }
  const drain = Number(values['--drain-delay'] ?? 0) + Number(values['--drain-timeout'] ?? 0);
  if (manifest.kind === 'Deployment' && pod.terminationGracePeriodSeconds * 1000 < drain + 5000)
    wrong(`terminationGracePeriodSeconds ${pod.terminationGracePeriodSeconds}`);
  const { completions } = manifest.spec;
  if (manifest.kind === 'Job' && values['--shard'] !== `$(${container.env?.[0]?.name})/${completions}`)
    wrong(`--shard ${values['--shard']} of ${completions}`);
  const { securityContext: security, resources } = container;
  if (!security?.readOnlyRootFilesystem || security.allowPrivilegeEscalation !== false) wrong('securityContext');
  if (!(pod.securityContext?.runAsNonRoot || security?.runAsNonRoot)) wrong('runAsNonRoot');
  if (resources.requests.cpu !== resources.limits.cpu || !/^\d+$/.test(resources.limits.cpu)) wrong('whole processors');
  for (const mount of container.volumeMounts)
    if (!pod.volumes.some((volume: Manifest) => volume.name === mount.name)) wrong(`volume ${mount.name}`);
}

describe('manifests', { timeout: 60_000 }, () => {
  it('fit the code and each other', async () => {
    expect(texts.size).toBeGreaterThan(8);
    expect(metrics.size).toBeGreaterThan(10);
    expect(await problemsOf(texts)).toEqual([]);
  });

  it.each([
    ['autoscaler.yaml', 'name: mome_queue_items', 'name: mome_queue_length', 'metric mome_queue_length'],
    ['prometheus-adapter.yaml', 'seriesQuery: mome_queue_items', 'seriesQuery: mome_queued', 'metric mome_queued'],
    ['deployment.yaml', '- --drain-delay', '- --drain-wait', 'flag --drain-wait'],
    ['deployment.yaml', 'path: /health/ready', 'path: /readyz', 'readinessProbe: route /readyz'],
    ['deployment.yaml', 'containerPort: 8080', 'containerPort: 8082', 'port 8080'],
    ['deployment.yaml', '- --grpc-port=8081', '- --grpc-port=8083', 'port 8083'],
    ['deployment.yaml', 'PeriodSeconds: 80', 'PeriodSeconds: 30', 'terminationGracePeriodSeconds 30'],
    ['deployment.yaml', 'cpu: "8"', 'cpu: "6"', 'whole processors'],
    ['service.yaml', 'targetPort: http', 'targetPort: web', 'Service: port web'],
    ['service.yaml', 'targetPort: grpc', 'targetPort: rpc', 'Service: port rpc'],
    ['network-policy.yaml', 'port: 8080', 'port: 80', 'NetworkPolicy: port 80'],
    ['service-monitor.yaml', '/metrics', '/metric', 'ServiceMonitor: route /metric'],
    ['bulk-job.yaml', 'completions: 64', 'completions: 32', '--shard $(SHARD)/64 of 32'],
    ['bulk-job.yaml', '- --part-size', '- --rows', 'flag --rows'],
    ['kserve.yaml', '/v2/health/ready', '/v2/ready', 'readinessProbe: route /v2/ready'],
    ['kserve.yaml', '- serve', '- server', 'command server'],
    ['kserve.yaml', 'grpc:\n          port: 9000', 'grpc:\n          port: 9001', 'readinessProbe: 9001'],
    ['kserve.yaml', 'containerPort: 9000', 'containerPort: 9001', 'port 9000'],
  ])('%s with a wrong value is noticed: %s', async (file, right, planted, problem) => {
    const text = texts.get(file)!;
    expect(text).toContain(right);
    const problems = await problemsOf(new Map([...texts, [file, text.replace(right, planted)]]));
    expect(problems.join('\n')).toContain(problem);
  });
});
