// Loads Grafana's own code for data frames and their transformations into Node, which it is not made for.
'use strict';

const Module = require('node:module');

// Before version 20.19 Node cannot require() ES modules. @grafana/data has three of these, for Markdown and colours, which
// no transformation uses: there something stands in their place that can be taken apart and called, and is worth nothing.
const nothing = new Proxy(class {}, {
  get: (target, name) => (name === 'prototype' ? target.prototype : name === Symbol.toPrimitive ? () => '' : nothing),
  apply: () => nothing,
});
const load = Module._load;
Module._load = function (...request) {
  try {
    return load.apply(this, request);
  } catch (error) {
    if (error.code === 'ERR_REQUIRE_ESM') return nothing;
    throw error;
  }
};

const data = require('@grafana/data');

// Looked at while transforming and listing units; while loading they would be taken for a browser.
globalThis.window = globalThis;
globalThis.navigator ??= { languages: ['en'] };

const known = new Map(Object.values(data.standardTransformers).map((transformer) => [transformer.id, transformer]));
data.standardTransformersRegistry.setInit(() =>
  [...known].map(([id, transformer]) => ({
    id,
    name: transformer.name,
    transformation: () => Promise.resolve(transformer),
  }))
);

// The frames of Prometheus's answers, {refId: vector}, in the format "table": one a query, with a column for each label.
function framesOf(answers) {
  return Object.entries(answers).map(([refId, samples]) => {
    const labels = [...new Set(samples.flatMap((sample) => Object.keys(sample.metric)))].sort();
    const value = Object.keys(answers).length > 1 ? `Value #${refId}` : 'Value';
    return data.toDataFrame({
      refId,
      fields: [
        { name: 'Time', type: data.FieldType.time, values: samples.map((sample) => sample.value[0] * 1000) },
        ...labels.map((name) => ({
          name,
          type: data.FieldType.string,
          values: samples.map((sample) => sample.metric[name] ?? ''),
        })),
        { name: value, type: data.FieldType.number, values: samples.map((sample) => Number(sample.value[1])) },
      ],
    });
  });
}

// What a panel with these transformations shows of the answers.
function transformed(transformations, answers) {
  return new Promise((resolve, reject) => {
    data.transformDataFrame(transformations, framesOf(answers)).subscribe({ next: resolve, error: reject });
  });
}

module.exports = {
  FieldType: data.FieldType,
  // The names of a frame's fields as a panel shows them.
  namesOf: (frame) => frame.fields.map((field) => data.getFieldDisplayName(field, frame)),
  transformed,
  transformationIds: new Set(known.keys()),
  unitIds: new Set(data.getValueFormats().flatMap((group) => group.submenu.map((unit) => unit.value))),
};
