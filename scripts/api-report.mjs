/**
 * Reports the public types of the package: every exported declaration of `dist/*.d.mts`, and those that they mention, without comments, in
 * `api/<entry>.api.txt`. A change of a public type changes a report, and is acknowledged by committing it.
 *
 *   node scripts/api-report.mjs           fails where a report differs from the types
 *   node scripts/api-report.mjs --write   writes the reports
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const printer = ts.createPrinter({ removeComments: true });

/** Names that the bundler made different within a file, as the source has them. */
const plain = (text) => text.replace(/\b([A-Za-z_]\w*)\$\d+\b/g, '$1');

/** A declaration without comments and private members. */
function printed(declaration) {
  const file = declaration.getSourceFile();
  const { transformed } = ts.transform(declaration, [
    (context) => (node) => {
      const visit = (each) => {
        const isPrivate =
          (ts.canHaveModifiers(each) &&
            ts.getModifiers(each)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword)) ||
          (each.name && ts.isPrivateIdentifier(each.name));
        return isPrivate ? undefined : ordered(ts.visitEachChild(each, visit, context), file);
      };
      return ts.visitNode(node, visit);
    },
  ]);
  const statement = printer.printNode(ts.EmitHint.Unspecified, transformed[0], file);
  return plain(ts.isVariableDeclaration(declaration) ? `const ${statement};` : statement).replace(/^export /, '');
}

/** Types that the compiler infers have their properties, and their alternatives, in an order that changes from build to build. */
function ordered(node, file) {
  const text = (each) => printer.printNode(ts.EmitHint.Unspecified, each, file);
  const sorted = (nodes) =>
    nodes
      .map((each) => [text(each), each])
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, each]) => each);
  if (ts.isTypeLiteralNode(node) && node.members.every(ts.isPropertySignature))
    return ts.factory.updateTypeLiteralNode(node, ts.factory.createNodeArray(sorted(node.members)));
  if (ts.isUnionTypeNode(node) && node.types.every(ts.isLiteralTypeNode))
    return ts.factory.updateUnionTypeNode(node, ts.factory.createNodeArray(sorted(node.types)));
  return node;
}

/** The symbols that a declaration mentions. */
function mentioned(declaration, checker) {
  const found = new Set();
  const visit = (node) => {
    if (ts.isIdentifier(node)) {
      let symbol = checker.getSymbolAtLocation(node);
      if (symbol && symbol.flags & ts.SymbolFlags.Alias) symbol = checker.getAliasedSymbol(symbol);
      if (symbol) found.add(symbol);
    }
    ts.forEachChild(node, visit);
  };
  visit(declaration);
  return found;
}

/** Whether a declaration stands at the top of a file of ours, and is no import. */
function isOwn(declaration) {
  const { parent } = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
  return (
    parent !== undefined && ts.isSourceFile(parent) && !declaration.getSourceFile().fileName.includes('/node_modules/')
  );
}

/**
 * The report of one file of declarations.
 *
 * @param file path of a `.d.mts` or `.d.ts` file
 * @returns the exported declarations by name, then those that they mention, each without comments
 * @throws Error where the file cannot be read as a module
 */
export function apiReport(file) {
  const program = ts.createProgram([file], {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    skipLibCheck: true,
    noLib: true,
    types: [],
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`expected ${file} to be a module with declarations; npm run build:ts writes it`);
  const exported = new Map();
  for (const each of checker.getExportsOfModule(module)) {
    const symbol = each.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(each) : each;
    exported.set(each.name, symbol);
  }
  const seen = new Set(exported.values());
  const inner = [];
  for (const symbol of seen) {
    for (const declaration of (symbol.declarations ?? []).filter(isOwn))
      for (const other of mentioned(declaration, checker))
        if (!seen.has(other) && other.declarations?.some(isOwn)) {
          seen.add(other);
          inner.push(other);
        }
  }
  const texts = ({ declarations = [] }) => declarations.map(printed).join('\n');
  const sorted = (entries) => entries.sort((a, b) => (a.join('\n') < b.join('\n') ? -1 : 1)).map(([, text]) => text);
  const outer = [...exported].map(([name, symbol]) => [name, `export ${name}\n${texts(symbol)}`]);
  const others = inner.map((symbol) => [plain(symbol.name), texts(symbol)]);
  return `${[...sorted(outer), '// Mentioned by these, and not exported:', ...sorted(others)].join('\n\n')}\n`;
}

/** The first line in which two texts differ, for a message; undefined where they are equal. */
export function firstDifference(expected, got) {
  const [before, after] = [expected.split('\n'), got.split('\n')];
  const line = after.findIndex((text, i) => text !== before[i]);
  if (line < 0 && before.length === after.length) return undefined;
  const at = line < 0 ? after.length : line;
  return `line ${at + 1}: expected "${before[at] ?? 'the end'}", got "${after[at] ?? 'the end'}"`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problems = [];
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const [name, target] of Object.entries(exports)) {
    const types = target.import?.types ?? target.types;
    if (!types) continue;
    if (!existsSync(join(root, types))) {
      problems.push(`${types} is missing: npm run build:ts writes it`);
      continue;
    }
    const entry = name === '.' ? 'index' : name.slice(2).replaceAll('/', '-');
    const path = join(root, 'api', `${entry}.api.txt`);
    const report = apiReport(join(root, types));
    if (process.argv.includes('--write')) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, report);
      continue;
    }
    const difference = firstDifference(existsSync(path) ? readFileSync(path, 'utf8') : '', report);
    if (difference) problems.push(`api/${entry}.api.txt: ${difference}`);
  }
  if (problems.length > 0) {
    const remedy =
      'A public type has changed. Where that is meant, run node scripts/api-report.mjs --write, commit api, and say it in CHANGELOG.md.';
    process.stderr.write(`${problems.join('\n')}\n${remedy}\n`);
    process.exit(1);
  }
  process.stdout.write('api: the public types are as the reports say\n');
}
