// The dashboards are well formed, and their transformations turn the answers of a real Prometheus (written down by
// prometheus_test, in the file that SLUICE_ANSWERS names) into what the panels say that they show.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');

const { defaultDashboard } = require('@grafana/schema');
const grafana = require('./grafana_data.cjs');

const folder = path.join(process.env.SLUICE_SOURCE_DIR, 'deploy/grafana/dashboards');
const dashboards = fs.readdirSync(folder).map((name) => JSON.parse(fs.readFileSync(path.join(folder, name), 'utf8')));
const { answers, experts } = JSON.parse(fs.readFileSync(process.env.SLUICE_ANSWERS, 'utf8'));

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

// Names that are not chosen by job and server, with the labels that they are chosen by, and why.
const OTHER_SELECTORS = new Map([
  ['up', 'job=~"$job"'], // a server whose model is not loaded is not among those of $instance
  ['job:sluice_time_to_first_token_bad:ratio_rate1h', 'job=~"$job"'], // recorded for whole jobs
  ['job:sluice_inter_token_latency_bad:ratio_rate1h', 'job=~"$job"'],
]);

// Windows that are neither the resolution of the panel nor its whole range, and why.
const OTHER_WINDOWS = new Map([
  ['Dead experts', '1h'], // what is rare must not count as dead for having been zoomed into
  ['Drift of each layer', '15m'], // compares two pieces of the same length
  ['Drift of each expert in layer $layer', '15m'],
]);

const panelsOf = (dashboard) => dashboard.panels.filter((panel) => panel.type !== 'row');
const panelNamed = (uid, title) => {
  const dashboard = dashboards.find((candidate) => candidate.uid === uid);
  const panel = dashboard.panels.find((candidate) => candidate.title === title);
  return { panel, answers: answers[`${uid}/${panel.id}`] };
};

function assertDistinct(values, what) {
  assert.deepEqual(values, [...new Set(values)], `${what} are distinct`);
}

for (const dashboard of dashboards) {
  test(`${dashboard.uid}: as a file that Grafana provisions`, () => {
    assert.equal(dashboard.schemaVersion, defaultDashboard.schemaVersion);
    assert.equal(dashboard.id, null);
    assert.match(dashboard.uid, /^[a-z-]{8,40}$/);
    assert.equal(dashboard.editable, false);
    assert.equal(dashboard.graphTooltip, 1);
    assert.ok(dashboard.title && dashboard.description);
    // Only the import dialog resolves these.
    assert.equal(dashboard.__inputs, undefined);
    assertDistinct(dashboard.panels.map((panel) => panel.id), 'ids of panels');
    assertDistinct(dashboard.templating.list.map((variable) => variable.name), 'names of variables');
  });

  test(`${dashboard.uid}: variables`, () => {
    const [datasource, ...queries] = dashboard.templating.list;
    assert.deepEqual([datasource.name, datasource.type, datasource.query], ['datasource', 'datasource', 'prometheus']);
    for (const variable of queries) {
      assert.ok(variable.label && variable.description, variable.name);
      assert.deepEqual(variable.datasource, DATASOURCE, variable.name);
      assert.equal(variable.query.query, variable.definition, variable.name);
      assert.equal(variable.refresh, 2, `${variable.name} is asked for again when the time changes`);
    }
    const names = queries.map((variable) => variable.name);
    for (const name of ['job', 'model', 'instance']) assert.ok(names.includes(name), name);
    // Expert 3 of one model and expert 3 of another have nothing in common.
    const model = queries.find((variable) => variable.name === 'model');
    const several = dashboard.uid !== 'sluice-experts';
    assert.deepEqual([Boolean(model.multi), Boolean(model.includeAll)], [several, several]);
    // With a value of its own for All, servers of other models would be among them.
    assert.equal(queries.find((variable) => variable.name === 'instance').allValue, undefined);
  });

  test(`${dashboard.uid}: no two panels overlap`, () => {
    const taken = new Map();
    for (const { title, gridPos } of dashboard.panels) {
      assert.ok(gridPos.x >= 0 && gridPos.w > 0 && gridPos.x + gridPos.w <= 24 && gridPos.h > 0, title);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; ++x) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; ++y) {
          assert.equal(taken.get(`${x},${y}`), undefined, `'${title}' lies on another panel`);
          taken.set(`${x},${y}`, title);
        }
      }
    }
  });

  for (const panel of panelsOf(dashboard)) {
    test(`${dashboard.uid}: panel '${panel.title}'`, () => {
      assert.ok(panel.title);
      assert.match(panel.description, /^[A-Z].{20,}\.$/);
      assert.deepEqual(panel.datasource, DATASOURCE);
      const units = [panel.fieldConfig.defaults.unit];
      if (panel.type === 'heatmap') {
        units.push(panel.options.yAxis.unit);
        assert.equal(panel.options.calculate, false);
      }
      for (const unit of units) assert.ok(grafana.unitIds.has(unit), `unit ${unit}`);
      assertDistinct(panel.targets.map((target) => target.refId), 'refIds');
      for (const transformation of panel.transformations ?? []) {
        assert.ok(grafana.transformationIds.has(transformation.id), transformation.id);
      }
    });

    test(`${dashboard.uid}: queries of '${panel.title}'`, () => {
      for (const { expr, instant, format, legendFormat } of panel.targets) {
        for (const [, name, labels] of expr.matchAll(/\b((?:job:)?(?:sluice|process)_\w+(?::\w+)*|up\b)(?:\{([^}]*)\})?/g)) {
          const chosenBy = OTHER_SELECTORS.get(name) ?? 'job=~"$job",instance=~"$instance"';
          assert.ok(labels?.startsWith(chosenBy), `${name} is chosen by ${chosenBy}`);
        }
        for (const [, window, atItsEnd] of expr.matchAll(/\[([^\]]+)\]( @ end\(\))?/g)) {
          if (window === '$__range') assert.ok(instant || atItsEnd, 'the whole range is asked for once, not at each point of it');
          else assert.equal(window, OTHER_WINDOWS.get(panel.title) ?? '$__rate_interval');
        }
        // Tables and bars show one moment, and all that they say is what the transformations make of it.
        assert.equal(Boolean(instant), ['table', 'bargauge'].includes(panel.type) || /\$__range\](?! @ end)/.test(expr));
        if (panel.transformations) assert.equal(format, 'table');
        // A line or a bar for each of 256 experts or 61 layers tells nobody anything: heatmaps have room for them.
        if (/\{\{(expert|layer)\}\}/.test(legendFormat) && panel.type !== 'heatmap') assert.match(expr, /\b(top|bottom)k\(1\d, /);
      }
    });
  }
}

// {layer: {expert: value}} of a matrix whose first field names the rows.
function cellsOf(frame) {
  const [names, ...columns] = frame.fields;
  return columns.map((column) => ({
    column: column.name,
    cells: names.values.map((row, i) => ({ row, value: column.values[i] })),
  }));
}

const layers = [...new Set(experts.map(({ layer }) => layer))].sort((a, b) => a - b);
const numbers = (count) => [...Array(count).keys()];
const expertsPerLayer = experts.length / layers.length;
const tokensOf = (layer, expert) => experts.find((cell) => cell.layer === layer && cell.expert === expert).tokens;
const meanOf = (layer) => numbers(expertsPerLayer).reduce((sum, expert) => sum + tokensOf(layer, expert), 0) / expertsPerLayer;

test('the heatmap of layers and experts is the counters over the mean of their layer', async () => {
  const { panel, answers } = panelNamed('sluice-experts', 'Load of each expert in each layer');
  const [frame, ...others] = await grafana.transformed(panel.transformations, answers.one);
  assert.equal(others.length, 0);
  // The panel takes the first field as x if it is a number, and each further one as a row, in their order.
  assert.equal(frame.fields[0].type, grafana.FieldType.number);
  assert.deepEqual(frame.fields[0].values, numbers(expertsPerLayer));
  assert.deepEqual(frame.fields.slice(1).map((field) => field.name), layers.map(String));
  for (const { column, cells } of cellsOf(frame)) {
    for (const { row, value } of cells) {
      const expected = tokensOf(Number(column), row);
      assert.ok(Math.abs(value * meanOf(Number(column)) - expected) < 1e-6 * expected, `layer ${column}, expert ${row}`);
    }
  }
  // Dead experts are cells like others, and colours stay what they are when the load moves.
  assert.equal(panel.options.filterValues.le, -1);
  assert.deepEqual([panel.options.color.min, panel.options.color.max], [0, 3]);
});

test('the table of tokens is the counters', async () => {
  const { panel, answers } = panelNamed('sluice-experts', 'Tokens of each expert since the servers started');
  const [frame] = await grafana.transformed(panel.transformations, answers.one);
  assert.equal(grafana.namesOf(frame)[0], 'layer');
  assert.deepEqual(frame.fields[0].values, layers);
  assert.deepEqual(frame.fields.slice(1).map((field) => field.name), numbers(expertsPerLayer).map(String));
  for (const { column, cells } of cellsOf(frame)) {
    for (const { row, value } of cells) assert.equal(value, tokensOf(row, Number(column)), `layer ${row}, expert ${column}`);
  }
});

test('numbers of layers and experts are sorted as numbers', async () => {
  const { panel } = panelNamed('sluice-experts', 'Load of each expert in each layer');
  const samples = [10, 9, 2, 0].flatMap((layer) =>
    [11, 3, 0].map((expert) => ({ metric: { layer: `${layer}`, expert: `${expert}` }, value: [0, `${layer * 100 + expert}`] }))
  );
  samples.pop();
  const [frame] = await grafana.transformed(panel.transformations, { A: samples });
  assert.deepEqual(
    frame.fields.map((field) => [field.name, ...field.values]),
    [
      ['expert\\layer', 0, 3, 11],
      // One without an answer is no expert without tokens.
      ['0', null, 3, 11],
      ['2', 200, 203, 211],
      ['9', 900, 903, 911],
      ['10', 1000, 1003, 1011],
    ]
  );
});

test('the table of drift compares each expert with itself', async () => {
  const { panel, answers } = panelNamed('sluice-experts', 'Drift of each expert in layer $layer');
  const [frame] = await grafana.transformed(panel.transformations, answers.all);
  assert.deepEqual(grafana.namesOf(frame), ['expert', 'now', 'one hour before', 'change']);
  const [expert, now, before, change] = frame.fields.map((field) => field.values);
  const answered = (refId, number) =>
    Number(answers.all[refId].find((sample) => sample.metric.expert === String(number)).value[1]);
  assert.deepEqual([...expert].sort((a, b) => a - b), numbers(expertsPerLayer));
  assert.deepEqual(now, expert.map((number) => answered('A', number)));
  assert.deepEqual(before, expert.map((number) => answered('B', number)));
  assert.deepEqual(change, now.map((value, i) => value - before[i]));
  assert.deepEqual(change, [...change].sort((a, b) => b - a));
});

test('the table of servers has a row for each', async () => {
  const { panel, answers } = panelNamed('sluice-overview', 'Servers');
  const [frame] = await grafana.transformed(panel.transformations, answers.all);
  const names = ['Server', 'Model', 'Family', 'Weights', 'Load time', 'Version', 'Instruction set'];
  assert.deepEqual(grafana.namesOf(frame), names);
  assert.equal(frame.length, answers.all.A.length);
  for (const field of frame.fields) {
    for (const value of field.values) assert.ok(value !== '' && value != null, field.name);
  }
  assert.deepEqual(frame.fields[1].values, ['demo', 'demo']);
});

test('every panel with transformations was looked at', () => {
  const transforming = dashboards.flatMap((dashboard) =>
    panelsOf(dashboard).filter((panel) => panel.transformations).map((panel) => `${dashboard.uid}/${panel.id}`)
  );
  assert.deepEqual(Object.keys(answers).sort(), transforming.sort());
  assert.equal(transforming.length, 4);
});
