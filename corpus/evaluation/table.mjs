/** How an evaluation is shown. */

/** The report as a table of Markdown. */
export function tableOf({ rows }) {
  const number = (value) =>
    value === null || value === undefined
      ? '-'
      : [value]
          .flat()
          .map((each) => each.toFixed(3))
          .join(', ');
  const lines = [
    '| test | count | figure | dual | re-ranked | chance | search by name | best possible | bound |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
  ];
  for (const { title, count, metrics, missing, bound } of rows) {
    if (missing) {
      lines.push(`| ${title} | ${missing} | | | | | | | |`);
      continue;
    }
    for (const [i, [name, metric]] of Object.entries(metrics).entries()) {
      const { dual, reranked, chance, byName, best } = metric;
      const cells = [
        i === 0 ? title : '',
        i === 0 ? count : '',
        name,
        ...[dual, reranked, chance, byName, best].map(number),
        i === 0 ? bound : '',
      ];
      lines.push(`| ${cells.join(' | ')} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}
