// What the server said during the last minutes, and what follows from it: rates, shares, quantiles. No DOM here.

// Seconds that rates cover, shares and latencies, and the lines of the tiles.
export const RATE_SECONDS = 5;
export const SHARE_SECONDS = 60;
export const LINE_SECONDS = 120;

// Answers of /experts.json, oldest first.
export class History {
  #answers = [];
  #lines = [];  // {time, generated, prompt}: rates, for longer than whole answers are kept

  get last() {
    return this.#answers.at(-1);
  }

  get lines() {
    return this.#lines;
  }

  clear() {
    this.#answers = [];
    this.#lines = [];
  }

  add(answer) {
    if (this.last && !areOfOneServer(answer, this.last)) this.clear();
    this.#answers.push(answer);
    while (this.#answers.length > 2 && this.#age(1) >= SHARE_SECONDS) this.#answers.shift();
    const generated = this.rate((engine) => engine.generated_tokens);
    const prompt = this.rate((engine) => engine.prompt_tokens);
    if (generated !== null) this.#lines.push({time: answer.uptime_seconds, generated, prompt});
    while (this.#lines.length && answer.uptime_seconds - this.#lines[0].time > LINE_SECONDS) this.#lines.shift();
  }

  #age(index) {
    return this.last.uptime_seconds - this.#answers[index].uptime_seconds;
  }

  // The answer that is at least `seconds` old and the youngest such, or the oldest; null if there is only one.
  before(seconds) {
    if (this.#answers.length < 2) return null;
    for (let i = this.#answers.length - 2; i > 0; --i) {
      if (this.#age(i) >= seconds) return this.#answers[i];
    }
    return this.#answers[0];
  }

  // Growth per second of a number of the engine, or null if it is not known yet.
  rate(numberOf) {
    const from = this.before(RATE_SECONDS);
    if (!from?.engine || !this.last.engine) return null;
    const seconds = this.last.uptime_seconds - from.uptime_seconds;
    return seconds > 0 ? (numberOf(this.last.engine) - numberOf(from.engine)) / seconds : null;
  }

  // What a histogram of the engine counted in the last minute, as {bounds, counts}, or null.
  recent(histogramOf) {
    const from = this.before(SHARE_SECONDS);
    if (!from?.engine || !this.last.engine) return null;
    const now = histogramOf(this.last.engine);
    const then = histogramOf(from.engine).counts;
    return {bounds: now.bounds_seconds, counts: now.counts.map((count, i) => count - then[i])};
  }

  // Rows of {layer, rate, share, total}, the last three with a number for each expert. Shares are of the last minute's
  // tokens of the layer; without any they are null, as are rates before the second answer.
  experts() {
    const now = this.last?.experts;
    if (!now) return [];
    const recent = this.before(RATE_SECONDS);
    const minute = this.before(SHARE_SECONDS);
    const seconds = recent ? this.last.uptime_seconds - recent.uptime_seconds : 0;
    return now.layers.map((layer, row) => {
      const grown = (from) => layer.tokens.map((tokens, expert) => tokens - from.experts.layers[row].tokens[expert]);
      const routed = minute ? grown(minute) : null;
      const sum = routed ? routed.reduce((a, b) => a + b, 0) : 0;
      return {
        layer: layer.layer,
        rate: seconds > 0 ? grown(recent).map((tokens) => tokens / seconds) : null,
        share: sum > 0 ? routed.map((tokens) => tokens / sum) : null,
        total: layer.tokens,
      };
    });
  }
}

// A server that started anew counts from zero again, and may serve another model; while it loads, there is none.
function areOfOneServer(one, other) {
  return one.start_time_seconds === other.start_time_seconds && shapeOf(one) === shapeOf(other);
}

function shapeOf(answer) {
  const experts = answer.experts;
  return experts ? `${experts.layers.length}x${experts.num_experts}` : 'none';
}

// The value that a share `q` of the observations does not exceed, interpolated in its bucket; null without any.
export function quantile(histogram, q) {
  if (!histogram) return null;
  const {bounds, counts} = histogram;
  const total = counts.reduce((a, b) => a + b, 0);
  if (total === 0) return null;
  let left = q * total;
  for (let i = 0; i < counts.length; ++i) {
    if (left <= counts[i] && counts[i] > 0) {
      const low = i > 0 ? bounds[i - 1] : 0;
      return i < bounds.length ? low + (bounds[i] - low) * (left / counts[i]) : low;
    }
    left -= counts[i];
  }
  return bounds.at(-1);
}

// `value`, rounded up to a number whose first digit says it all, or 1.5 times a power of ten.
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = Math.floor(Math.log10(value));
  const factor = [1, 1.5, 2, 3, 4, 5, 6, 8].find((candidate) => value <= candidate * 10 ** power) ?? 10;
  // Written and read, so that 3 * 10 ** -1 is 0.3.
  return Number(`${factor}e${power}`);
}

const whole = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const compact = new Intl.NumberFormat('en', {notation: 'compact', maximumSignificantDigits: 3});

// How numbers are written; null, which is not known, as a dash.
const written = (format) => (value) => (value === null || value === undefined ? '–' : format(value));
export const integer = written((value) => whole.format(value));
export const rate = written((value) => {
  if (value === 0 || value >= 1e6) return compact.format(value);
  return value < 99.95 ? value.toFixed(1) : whole.format(value);
});
export const percent = written((value) => `${(100 * value).toFixed(1)} %`);
export const shortInteger = written((value) => (value < 1000 ? whole.format(value) : compact.format(value)));
export const shortRate = written((value) => (value < 99.95 ? value.toFixed(1) : compact.format(value)));
export const seconds = written((value) => {
  if (value >= 9.95) return `${whole.format(value)} s`;
  if (value >= 0.9995) return `${value.toFixed(1)} s`;
  if (value >= 0.0995) return `${whole.format(1e3 * value)} ms`;
  if (value >= 0.0009995) return `${(1e3 * value).toFixed(1)} ms`;
  return `${whole.format(1e6 * value)} µs`;
});
