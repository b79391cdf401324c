// Plots over time: lines, and the heat map of latencies.

import uPlot from '../vendor/uPlot.esm.js';
import { el, setText } from './dom.js';
import { brief, clock, si, time } from './format.js';
import { bound } from './rates.js';

/** The colour of a custom property, as red, green and blue: canvases know neither var() nor light-dark(). */
function colour(name) {
  const probe = document.body.appendChild(el('i', { hidden: true }));
  probe.style.color = `var(${name})`;
  const c = getComputedStyle(probe).color;
  probe.remove();
  return c;
}

const faded = (c) => c.replace('rgb(', 'rgba(').replace(')', ', 0.1)');

/** Steps of an axis of bytes: powers of two. */
const BINARY = Array.from({ length: 62 }, (_, i) => 2 ** i);

/** The bound of a bucket on an axis, where its row is and not its value matters. */
const boundText = (i) => (i > 0 ? brief(time(Number(bound(i - 1).toPrecision(2)))) : '0');

const stamps = (u, splits) => splits.map((s) => clock(new Date(s * 1000)));

/** What a plot of any kind has: its place, its size, and its colours when they change. */
class Plot {
  #watch;
  #again = () => this.u && this.build();

  constructor(title, height) {
    this.height = height;
    this.title = title;
    this.place = el('div', { class: 'canvas', role: 'img', 'aria-label': title });
    this.legend = el('div', { class: 'legend' });
    this.element = el('figure', { class: 'plot' }, el('figcaption', { text: title }), this.place, this.legend);
    this.#watch = new ResizeObserver(() => {
      if (this.u && this.place.clientWidth > 0) this.u.setSize({ width: this.place.clientWidth, height: this.height });
    });
    this.#watch.observe(this.place);
    addEventListener('themechange', this.#again);
  }

  /** Draws with what is to be seen now. */
  build() {
    this.u?.destroy();
    this.u = new uPlot({
      width: this.place.clientWidth || 320, height: this.height, legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      padding: [8, 24, 0, 0], ...this.options(),
    }, this.data, this.place);
  }

  axis(more) {
    const line = colour('--line');
    return { stroke: colour('--faint'), font: '11px system-ui, sans-serif', grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, gap: 4, ...more };
  }

  timeAxis() { return this.axis({ values: stamps, space: 84, size: 26, incrs: [1, 2, 5, 10, 30, 60, 120, 300, 600] }); }

  set(data) {
    this.data = data;
    if (this.u) this.u.setData(data);
    else this.build();
  }

  destroy() {
    this.#watch.disconnect();
    removeEventListener('themechange', this.#again);
    this.u?.destroy();
  }
}

/** Lines. Each of them has a label and the name of a colour; format shows values, in steps of powers of two if binary. */
export class Lines extends Plot {
  #keys;

  constructor(title, lines, format, binary = false) {
    super(title, 170);
    this.binary = binary;
    this.lines = lines;
    this.format = format;
    this.#keys = lines.map((l) => {
      const value = el('b');
      const key = el('span', { class: 'key' }, el('i', { class: `dot ${l.colour}` }), `${l.label} `, value);
      this.legend.append(key);
      return value;
    });
  }

  options() {
    return {
      scales: { x: { time: true }, y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [this.timeAxis(), this.axis({ size: 72, space: 36, ...(this.binary ? { incrs: BINARY } : {}), values: (u, v) => v.map((x) => (x ? brief(this.format(x)) : '0')) })],
      series: [{}, ...this.lines.map((l) => ({ stroke: colour(`--${l.colour}`), width: 1.6, points: { show: false }, fill: l.fill ? faded(colour(`--${l.colour}`)) : undefined }))],
      hooks: { setCursor: [() => this.#values()] },
    };
  }

  set(data) {
    super.set(data);
    this.#values();
  }

  #values() {
    const i = this.u?.cursor.idx ?? this.data[0].length - 1;
    const said = this.lines.map((l, k) => {
      const v = this.data[k + 1][i];
      setText(this.#keys[k], v === null || v === undefined ? '–' : this.format(v));
      return `${l.label} ${this.#keys[k].textContent}`;
    });
    this.place.setAttribute('aria-label', `${this.title}: ${said.join(', ')}`);
  }
}

const STEPS = 6; // colours of the heat map

/** The latencies of a LUN over time: the darker a field, the more commands took so long. */
export class HeatMap extends Plot {
  #text = el('span', { class: 'key' });
  #cells = [];
  #top = 0;

  constructor(title, height = 220) {
    super(title, height);
    const scale = el('span', { class: 'scale' }, 'few', ...Array.from({ length: STEPS }, (_, i) => el('i', { class: `heat${i}` })), 'many');
    this.legend.append(this.#text, scale);
  }

  /** Shows histograms per second over time; null is a gap. */
  show(at, cells) {
    this.#cells = cells;
    let [low, high] = [Infinity, -1];
    this.#top = 0;
    for (const c of cells) {
      c?.forEach((n, i) => {
        if (n <= 0) return;
        low = Math.min(low, i);
        high = Math.max(high, i);
        this.#top = Math.max(this.#top, n);
      });
    }
    if (high < 0) [low, high] = [1, 10];
    while (high - low < 6) low > 0 ? low-- : high++; // a few rows around what there is
    const changed = this.low !== low || this.high !== high;
    this.low = low;
    this.high = high + 1;
    super.set([at, at.map(() => null)]);
    if (changed) this.build();
    this.#say();
  }

  options() {
    this.palette = Array.from({ length: STEPS }, (_, i) => colour(`--heat${i}`));
    return {
      scales: { x: { time: true }, y: { range: () => [this.low, this.high] } },
      axes: [this.timeAxis(), this.axis({
        size: 72, space: 26, grid: { show: false }, incrs: [1, 2, 4],
        values: (u, v) => v.map(boundText),
      })],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [(u) => this.#draw(u)], setCursor: [() => this.#say()] },
      cursor: { y: true, drag: { x: false, y: false }, points: { show: false } },
    };
  }

  #level(n) { return Math.min(STEPS - 1, Math.floor(Math.log1p(n) / Math.log1p(this.#top) * STEPS)); }

  #draw(u) {
    const [at] = this.data;
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    const x = (s) => Math.round(u.valToPos(s, 'x', true));
    const y = (v) => Math.round(u.valToPos(v, 'y', true));
    this.#cells.forEach((c, k) => {
      if (!c) return;
      const right = x(at[k]);
      const left = x(k > 0 && at[k] - at[k - 1] < 30 ? at[k - 1] : at[k] - 2);
      c.forEach((n, i) => {
        if (n <= 0) return;
        ctx.fillStyle = this.palette[this.#level(n)];
        ctx.fillRect(left, y(i + 1), Math.max(1, right - left), y(i) - y(i + 1));
      });
    });
    ctx.restore();
  }

  #say() {
    const { idx, top } = this.u?.cursor ?? {};
    const at = this.data?.[0] ?? [];
    let text = this.#top > 0 ? `most: ${si(this.#top)}/s in one field` : 'no commands in this time';
    if (idx !== null && idx !== undefined && top >= 0 && at[idx] !== undefined) {
      const row = Math.floor(this.u.posToVal(top, 'y'));
      const n = this.#cells[idx]?.[row] ?? 0;
      text = `${clock(new Date(at[idx] * 1000))}, ${boundText(row)} to ${boundText(row + 1)}: ${si(n)}/s`;
    }
    setText(this.#text, text);
    this.place.setAttribute('aria-label', `${this.title}: ${text}`);
  }
}
