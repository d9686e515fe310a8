// The map of layers x experts: draws it, and says which cell is pointed at or chosen by keys.

import {integer, percent, rate, roundUp, shortInteger, shortRate} from './history.js';

const LEFT = 40;  // for the layers' numbers
const TOP = 22;   // for the experts' numbers
const MIN_CELL = {width: 4, height: 8};
const MAX_CELL = {width: 150, height: 40};
const HEIGHT = 520;  // that many layers share, if their rows are not too low then
const STOPS = 7;

export const MODES = {
  rate: {write: rate, inCell: shortRate, note: 'tokens per second, over the last 5 s'},
  share: {write: percent, inCell: (value) => (100 * value).toFixed(1), note: 'share of the layer’s tokens, over the last minute, in percent'},
  total: {write: integer, inCell: shortInteger, note: 'tokens since the server started'},
};

const cellSize = (space, count, {min, max}) => Math.min(max, Math.max(min, Math.floor(space / count)));

// Every how many rows or columns there is room for a number.
function stride(size, room) {
  for (const step of [1, 2, 4, 8, 16, 32, 64, 128]) {
    if (size * step >= room) return step;
  }
  return 256;
}

const parse = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// 256 colours between the stops of the style sheet.
function rampOf(style) {
  const stops = Array.from({length: STOPS}, (_, i) => parse(style.getPropertyValue(`--ramp-${i}`).trim()));
  return Array.from({length: 256}, (_, i) => {
    const at = (i / 255) * (STOPS - 1);
    const low = Math.min(Math.floor(at), STOPS - 2);
    return stops[low].map((value, c) => Math.round(value + (stops[low + 1][c] - value) * (at - low)));
  });
}

// Whether dark text on a colour has more contrast than bright text has, by WCAG's relative luminance.
function isBright(colour) {
  const [r, g, b] = colour.map((value) => ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18;
}

export class Heatmap {
  #canvas;
  #frame;
  #legend;
  #rows = [];
  #mode = 'rate';
  #scales = {};   // by mode: the value of the last colour
  #cursor = null;  // {row, expert}: chosen by keys or a click
  #pointed = null;  // under the mouse
  #cell = {width: 0, height: 0};
  #onCell;

  // `onCell(cell, chosen)`: the cell to be described has changed; `chosen`, that the user chose it for good.
  constructor({canvas, frame, legend, onCell}) {
    this.#canvas = canvas;
    this.#frame = frame;
    this.#legend = legend;
    this.#onCell = onCell;
    canvas.addEventListener('mousemove', (event) => this.#point(this.#at(event)));
    canvas.addEventListener('mouseleave', () => this.#point(null));
    canvas.addEventListener('click', (event) => this.#choose(this.#at(event)));
    canvas.addEventListener('keydown', (event) => this.#onKey(event));
    canvas.addEventListener('focus', () => {
      if (this.#rows.length) this.#choose(this.#cursor ?? {row: 0, expert: 0});
    });
    canvas.addEventListener('blur', () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(frame);
    for (const query of ['(prefers-color-scheme: dark)', '(forced-colors: active)']) {
      matchMedia(query).addEventListener('change', () => this.#draw());
    }
  }

  set mode(mode) {
    this.#mode = mode;
    this.#draw();
  }

  // The cell that is described: {row, expert} or null.
  get cell() {
    return this.#pointed ?? this.#cursor;
  }

  show(rows) {
    const isOutside = (cell) => cell && (cell.row >= rows.length || cell.expert >= rows[0].total.length);
    if (isOutside(this.#cursor)) this.#cursor = null;
    if (isOutside(this.#pointed)) this.#pointed = null;
    this.#rows = rows;
    this.#draw();
  }

  #point(cell) {
    if (cell?.row === this.#pointed?.row && cell?.expert === this.#pointed?.expert) return;
    this.#pointed = cell;
    this.#draw();
    this.#onCell(this.cell, false);
  }

  #choose(cell) {
    if (!cell) return;
    this.#cursor = cell;
    this.#scrollTo(cell);
    this.#draw();
    this.#onCell(cell, true);
  }

  #at(event) {
    const row = Math.floor((event.offsetY - TOP) / this.#cell.height);
    const expert = Math.floor((event.offsetX - LEFT) / this.#cell.width);
    const isInside = row >= 0 && row < this.#rows.length && expert >= 0 && expert < this.#rows[0].total.length;
    return isInside ? {row, expert} : null;
  }

  #onKey(event) {
    if (!this.#rows.length || event.ctrlKey || event.altKey || event.metaKey) return;
    const {row, expert} = this.#cursor ?? {row: 0, expert: 0};
    const lastRow = this.#rows.length - 1;
    const lastExpert = this.#rows[0].total.length - 1;
    const next = {
      ArrowLeft: {row, expert: Math.max(0, expert - 1)},
      ArrowRight: {row, expert: Math.min(lastExpert, expert + 1)},
      ArrowUp: {row: Math.max(0, row - 1), expert},
      ArrowDown: {row: Math.min(lastRow, row + 1), expert},
      Home: {row, expert: 0},
      End: {row, expert: lastExpert},
      PageUp: {row: 0, expert},
      PageDown: {row: lastRow, expert},
    }[event.key];
    if (!next) return;
    event.preventDefault();
    this.#pointed = null;
    this.#choose(next);
  }

  #scrollTo({expert}) {
    const left = LEFT + expert * this.#cell.width;
    const {scrollLeft, clientWidth} = this.#frame;
    if (left - LEFT < scrollLeft) this.#frame.scrollLeft = left - LEFT;
    if (left + this.#cell.width > scrollLeft + clientWidth) this.#frame.scrollLeft = left + this.#cell.width - clientWidth;
  }

  // The value of the last colour: it rises at once and falls only when much less would do, so that colours keep still.
  #scale(most) {
    const wanted = this.#mode === 'share' ? Math.min(1, roundUp(most)) : roundUp(most);
    const old = this.#scales[this.#mode] ?? 0;
    if (wanted > old || wanted < 0.6 * old) this.#scales[this.#mode] = wanted;
    return this.#scales[this.#mode];
  }

  #draw() {
    if (!this.#rows.length) {
      this.#clear();
      return;
    }
    const numRows = this.#rows.length;
    const numExperts = this.#rows[0].total.length;
    const space = this.#frame.clientWidth - LEFT - 1;
    this.#cell = {
      width: cellSize(space, numExperts, {min: MIN_CELL.width, max: MAX_CELL.width}),
      height: cellSize(HEIGHT, numRows, {min: MIN_CELL.height, max: MAX_CELL.height}),
    };
    const cell = this.#cell;
    const width = LEFT + numExperts * cell.width + 1;
    const height = TOP + numRows * cell.height + 1;
    const context = this.#resize(width, height);
    const style = getComputedStyle(this.#canvas);
    const ramp = rampOf(style);
    const colour = (name) => style.getPropertyValue(name).trim();
    const mode = MODES[this.#mode];

    let most = 0;
    for (const row of this.#rows) {
      for (const value of row[this.#mode] ?? []) most = Math.max(most, value);
    }
    const scale = this.#scale(most);

    context.clearRect(0, 0, width, height);
    context.font = `11px ${style.fontFamily}`;
    context.textBaseline = 'middle';
    context.fillStyle = colour('--quiet');
    context.textAlign = 'right';
    const rowStride = stride(cell.height, 13);
    this.#rows.forEach((row, i) => {
      if (i % rowStride === 0) context.fillText(row.layer, LEFT - 8, TOP + (i + 0.5) * cell.height);
    });
    context.textAlign = 'center';
    const expertStride = stride(cell.width, 24);
    for (let expert = 0; expert < numExperts; expert += expertStride) {
      context.fillText(expert, LEFT + (expert + 0.5) * cell.width, TOP / 2 - 1);
    }

    const gap = cell.width >= 6 && cell.height >= 8 ? 1 : 0;
    const hasText = cell.width >= 40 && cell.height >= 20;
    const bright = colour('--on-dark');
    const dark = colour('--on-bright');
    const none = colour('--none');
    this.#rows.forEach((row, i) => {
      const values = row[this.#mode];
      for (let expert = 0; expert < numExperts; ++expert) {
        const value = values ? values[expert] : 0;
        const x = LEFT + expert * cell.width;
        const y = TOP + i * cell.height;
        const shade = value > 0 ? ramp[Math.round(255 * Math.min(1, value / scale))] : null;
        context.fillStyle = shade ? `rgb(${shade.join(' ')})` : none;
        context.fillRect(x, y, cell.width - gap, cell.height - gap);
        if (!hasText) continue;
        context.fillStyle = shade ? (isBright(shade) ? dark : bright) : colour('--quiet');
        context.fillText(shade ? mode.inCell(value) : '·', x + cell.width / 2, y + cell.height / 2);
      }
    });
    this.#outline(context, this.#pointed, colour('--ink'), 1);
    if (document.activeElement === this.#canvas || !this.#pointed) {
      this.#outline(context, this.#cursor, colour('--focus'), 2);
    }
    this.#showLegend(ramp, scale, numExperts, mode);
  }

  // Without a model there is nothing to be seen; what is below stays where it is.
  #clear() {
    const context = this.#canvas.getContext('2d');
    context.resetTransform();
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#legend.high.textContent = '–';
    this.#legend.fair.textContent = '\u00a0';
  }

  // The drawing context of a canvas that is `width` x `height` pixels of the page.
  #resize(width, height) {
    const ratio = devicePixelRatio;
    const canvas = this.#canvas;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  #outline(context, cell, colour, lineWidth) {
    if (!cell) return;
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.strokeRect(LEFT + cell.expert * this.#cell.width - 0.5, TOP + cell.row * this.#cell.height - 0.5,
                       this.#cell.width, this.#cell.height);
  }

  #showLegend(ramp, scale, numExperts, mode) {
    const {canvas, high, fair} = this.#legend;
    const context = canvas.getContext('2d');
    ramp.forEach((shade, i) => {
      context.fillStyle = `rgb(${shade.join(' ')})`;
      context.fillRect(i, 0, 1, 1);
    });
    high.textContent = mode.write(scale);
    fair.textContent = this.#mode === 'share' ? `fair share ${percent(1 / numExperts)}` : '\u00a0';
  }
}
