// The figures around the map: each update writes texts into elements that are there from the start, so nothing moves.

import {integer, LINE_SECONDS, percent, quantile, rate, roundUp, seconds} from './history.js';

const element = (id) => document.getElementById(id);

function write(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

function drawLine(id, points, now, highest) {
  const place = ({time, value}) =>
    `${(120 * (1 - (now - time) / LINE_SECONDS)).toFixed(1)},${(27 - 26 * (value / highest)).toFixed(1)}`;
  element(id).firstElementChild.setAttribute('points', points.map(place).join(' '));
}

function showLine(id, history, valueOf) {
  const points = history.lines.map((point) => ({time: point.time, value: valueOf(point)}));
  const most = Math.max(0, ...points.map((point) => point.value));
  drawLine(id, points, points.at(-1)?.time, roundUp(most));
}

function showKvCache(engine) {
  const blocks = engine ? engine.kv_blocks_used + engine.kv_blocks_cached + engine.kv_blocks_free : 0;
  write('kv-use', percent(engine?.kv_cache_usage_ratio));
  write('kv-blocks', blocks
    ? `${integer(engine.kv_blocks_cached)} of ${integer(blocks)} cached`
    : '\u00a0');
  element('kv-used-bar').style.width = `${blocks ? (100 * engine.kv_blocks_used) / blocks : 0}%`;
  element('kv-cached-bar').style.width = `${blocks ? (100 * engine.kv_blocks_cached) / blocks : 0}%`;
}

export function showTraffic(history) {
  const engine = history.last.engine;
  write('generated-rate', rate(history.rate((numbers) => numbers.generated_tokens)));
  write('prompt-rate', rate(history.rate((numbers) => numbers.prompt_tokens)));
  showLine('generated-line', history, (point) => point.generated);
  showLine('prompt-line', history, (point) => point.prompt);
  write('running', integer(engine?.requests_running));
  write('waiting', integer(engine?.requests_waiting));
  showKvCache(engine);
  const first = history.recent((numbers) => numbers.time_to_first_token);
  const token = history.recent((numbers) => numbers.inter_token_latency);
  write('first-p50', seconds(quantile(first, 0.5)));
  write('first-p99', seconds(quantile(first, 0.99)));
  write('token-p50', seconds(quantile(token, 0.5)));
  write('token-p99', seconds(quantile(token, 0.99)));
}

// A cell with a number and a bar below it.
function addGauge(row) {
  const cell = row.insertCell();
  const number = cell.appendChild(document.createElement('span'));
  const bar = cell.appendChild(document.createElement('i'));
  return {number, bar};
}

function addBalanceRow(body) {
  const row = body.insertRow();
  const head = row.appendChild(document.createElement('th'));
  head.scope = 'row';
  return {row, head, gauges: [addGauge(row), addGauge(row), addGauge(row), addGauge(row)]};
}

// The table of all layers.
export class BalanceTable {
  #rows = [];

  show(experts) {
    const body = element('balance');
    const layers = experts?.layers ?? [];
    if (this.#rows.length !== layers.length) {
      body.replaceChildren();
      this.#rows = layers.map(() => addBalanceRow(body));
    }
    write('num-experts', experts ? `of ${experts.num_experts} experts` : 'experts');
    write('window-note', experts ? `over the last ${integer(experts.window_steps)} steps` : '\u00a0');
    layers.forEach((layer, i) => {
      const {head, gauges} = this.#rows[i];
      const most = experts.num_experts;
      head.textContent = layer.layer;
      // Imbalance and loss are 1 if all experts have the same to do, and their number at the worst.
      const fill = (value) => (most > 1 ? (value - 1) / (most - 1) : 0);
      const figures = [
        [layer.imbalance.toFixed(2), fill(layer.imbalance)],
        [layer.routing_entropy.toFixed(3), layer.routing_entropy],
        [layer.active_experts.toFixed(1), layer.active_experts / most],
        [layer.load_balance_loss.toFixed(3), fill(layer.load_balance_loss)],
      ];
      figures.forEach(([text, share], column) => {
        gauges[column].number.textContent = text;
        gauges[column].bar.style.setProperty('--share', Math.min(1, Math.max(0, share)));
      });
    });
  }

  // Marks the layer that the map's cell is in.
  mark(index) {
    this.#rows.forEach(({row}, i) => row.classList.toggle('marked', i === index));
  }
}

export function showHead(answer) {
  const model = answer.model;
  write('model', model ? model.name : '\u00a0');
  write('weights', model ? `· ${model.family} · ${model.weights}` : '');
  write('version', `version ${answer.version}`);
}

export function showState(state) {
  write('state-text', state);
  element('state').dataset.state = state;
  element('figures').classList.toggle('stale', state === 'unreachable');
  document.title = `Sluice: ${state}`;
}
