// Rates from totals. The daemon counts; what happened lately is the difference of two
// documents. The history of each LUN is kept here, in the browser.

const KEPT = 300; // samples: ten minutes

const less = (now, old) => {
  const d = {};
  for (const k of Object.keys(now)) d[k] = now[k] - (old[k] || 0);
  return d;
};

/** What was counted after an earlier state of the same totals; null if they began anew. */
export function since(now, old) {
  if (!old) return null;
  const d = {
    ops: less(now.ops, old.ops), errors: less(now.errors, old.errors),
    bytes_read: now.bytes_read - old.bytes_read, bytes_written: now.bytes_written - old.bytes_written,
    latency: now.latency.map((l) => {
      const o = old.latency.find((x) => x.op === l.op && x.stage === l.stage);
      if (!o) return l;
      return { ...l, nanoseconds: l.nanoseconds - o.nanoseconds, counts: l.counts.map((n, i) => n - (o.counts[i] || 0)) };
    }),
  };
  const back = (o) => Object.values(o).some((n) => n < 0);
  return back(d.ops) || d.bytes_read < 0 || d.bytes_written < 0 ? null : d;
}

/** The histogram of reads and writes of one stage. */
export function histogram(stats, stage = 'total') {
  const sum = [];
  for (const l of stats.latency) {
    if (l.stage !== stage || l.op === 'other') continue;
    l.counts.forEach((n, i) => { sum[i] = (sum[i] || 0) + Math.max(0, n); });
  }
  return sum;
}

/** The upper bound of a bucket of a histogram, in nanoseconds. */
export const bound = (i) => 1024 * 2 ** i;

/** The latency below which a part of what a histogram counts lies, in nanoseconds; 0 if it is empty. */
export function quantile(counts, q) {
  let all = 0;
  for (const n of counts) all += n;
  let below = 0;
  for (let i = 0; i < counts.length; i++) {
    const n = counts[i];
    if (n > 0 && below + n >= q * all) {
      const low = i > 0 ? bound(i - 1) : 0;
      return low + (bound(i) - low) * Math.max(q * all - below, 0) / n;
    }
    below += n;
  }
  return 0;
}

/** The rates of an interval of some seconds. */
export function flow(delta, seconds) {
  const counts = histogram(delta);
  const f = {
    reads: (delta.ops.read || 0) / seconds, writes: (delta.ops.write || 0) / seconds,
    readBytes: delta.bytes_read / seconds, writeBytes: delta.bytes_written / seconds,
    p50: quantile(counts, 0.5), p99: quantile(counts, 0.99), depth: 0, stages: {},
    heat: counts.map((n) => n / seconds), errors: Object.values(delta.errors).reduce((a, b) => a + Math.max(0, b), 0),
  };
  let total = 0;
  for (const l of delta.latency) {
    if (l.stage === 'total') total += l.nanoseconds;
    else f.stages[l.stage] = (f.stages[l.stage] || 0) + l.nanoseconds;
  }
  for (const s of Object.keys(f.stages)) f.stages[s] = total > 0 ? Math.min(1, f.stages[s] / total) : 0;
  f.depth = total / 1e9 / seconds;
  f.iops = f.reads + f.writes;
  return f;
}

/** The sum of flows, with the quantiles of all of them together. */
export function total(flows) {
  const t = { reads: 0, writes: 0, readBytes: 0, writeBytes: 0, iops: 0, depth: 0, errors: 0, heat: [], stages: {} };
  for (const f of flows) {
    for (const k of ['reads', 'writes', 'readBytes', 'writeBytes', 'iops', 'depth', 'errors']) t[k] += f[k];
    f.heat.forEach((n, i) => { t.heat[i] = (t.heat[i] || 0) + n; });
  }
  t.p50 = quantile(t.heat, 0.5);
  t.p99 = quantile(t.heat, 0.99);
  return t;
}

/** Samples in the order of time: at (seconds since 1970) and a flow, or null for a gap. */
export class History {
  at = [];
  flows = [];

  push(ms, f) {
    this.at.push(ms / 1000);
    this.flows.push(f);
    if (this.at.length > KEPT) {
      this.at.shift();
      this.flows.shift();
    }
  }

  get last() { return this.flows.at(-1) || null; }

  /** One value of each sample. */
  series(pick) { return this.flows.map((f) => (f ? pick(f) : null)); }
}

/** Turns successive documents into flows: one for each key. */
export class Meter {
  #old = new Map();
  #ms = 0;
  flows = new Map();

  /** Takes totals by key, made at a time in milliseconds. It returns false for the same document again. */
  take(stats, ms) {
    const seconds = (ms - this.#ms) / 1000;
    if (seconds <= 0) return false;
    this.flows = new Map();
    for (const [key, s] of stats) {
      const d = since(s, this.#old.get(key));
      if (d && seconds < 60) this.flows.set(key, flow(d, seconds));
    }
    this.#old = stats;
    this.#ms = ms;
    return true;
  }

  forget() { this.#old = new Map(); this.flows = new Map(); }
}
