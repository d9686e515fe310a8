// Asks for /experts.json once a second while the page is visible, and shows what came.

import {Heatmap, MODES} from './heatmap.js';
import {History, integer, percent, rate} from './history.js';
import {BalanceTable, showHead, showState, showTraffic} from './panels.js';

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 5000;

const element = (id) => document.getElementById(id);
const history = new History();
const balance = new BalanceTable();
let rows = [];

function mode() {
  return document.querySelector('input[name=mode]:checked').value;
}

function describe(cell, chosen) {
  const row = cell ? rows[cell.row] : null;
  element('cell-layer').textContent = row ? row.layer : '–';
  element('cell-expert').textContent = row ? cell.expert : '–';
  element('cell-rate').textContent = rate(row?.rate?.[cell.expert]);
  element('cell-share').textContent = percent(row?.share?.[cell.expert]);
  element('cell-total').textContent = integer(row?.total[cell.expert]);
  balance.mark(cell ? cell.row : null);
  if (chosen && row) {
    const value = MODES[mode()].write(row[mode()]?.[cell.expert]);
    element('announcement').textContent = `layer ${row.layer}, expert ${cell.expert}: ${value}, ${MODES[mode()].note}`;
  }
}

const heatmap = new Heatmap({
  canvas: element('map'),
  frame: element('map-frame'),
  legend: {canvas: element('ramp'), high: element('legend-high'), fair: element('legend-fair')},
  onCell: describe,
});

function setMode() {
  heatmap.mode = mode();
  element('mode-note').textContent = MODES[mode()].note;
}
for (const input of document.querySelectorAll('input[name=mode]')) input.addEventListener('change', setMode);
setMode();

function show(answer) {
  history.add(answer);
  rows = history.experts();
  showHead(answer);
  showState(answer.state);
  showTraffic(history);
  balance.show(answer.experts);
  heatmap.show(rows);
  describe(heatmap.cell, false);
}

async function ask() {
  let answer = null;
  try {
    const response = await fetch('experts.json', {cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS)});
    if (response.ok) answer = await response.json();
  } catch {
    // The server is gone, or too busy.
  }
  // What was seen last stays.
  if (answer) show(answer);
  else showState('unreachable');
}

let timer = null;
let isAsking = false;

async function poll() {
  timer = null;
  const start = performance.now();
  isAsking = true;
  await ask();
  isAsking = false;
  if (!document.hidden) timer = setTimeout(poll, Math.max(0, INTERVAL_MS - (performance.now() - start)));
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(timer);
  timer = null;
  if (document.hidden || isAsking) return;
  // Rates are of the time that the page is looked at.
  history.clear();
  poll();
});

poll();
