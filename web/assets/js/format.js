// Numbers as people read them.

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** A count, all digits: 1,234,567. */
export const count = (n) => grouped.format(n);

const digits = (v) => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2));

/** A number per second with at most three digits: 485k. */
export function si(v) {
  if (v === null || v === undefined || !Number.isFinite(v)) return '–';
  if (v > 0 && v < 10) return v.toFixed(v < 1 ? 2 : 1);
  let i = 0;
  for (; v >= 999.5 && i < 4; i++) v /= 1000;
  return (i === 0 ? v.toFixed(0) : digits(v)) + ['', 'k', 'M', 'G', 'T'][i];
}

/** Bytes in binary units: 1.50 GiB. */
export function bytes(v) {
  if (v === null || v === undefined || !Number.isFinite(v)) return '–';
  let i = 0;
  for (; v >= 1023.5 && i < 6; i++) v /= 1024;
  return `${i === 0 ? v.toFixed(0) : digits(v)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'][i]}`;
}

/** A value on an axis: no digits that say nothing, 2.00k is 2k. */
export const brief = (text) => text.replace(/(\.\d*?)0+(?!\d)/, '$1').replace(/\.(?!\d)/, '');

/** Bytes per second. */
export const rate = (v) => (v === null || v === undefined ? '–' : `${bytes(v)}/s`);

/** A size that is a configured one: 40 GiB. */
export const size = (v) => brief(bytes(v));

/** Nanoseconds: 12.3 µs. */
export function time(ns) {
  if (!ns) return '–';
  if (ns < 999.5) return `${ns.toFixed(0)} ns`;
  if (ns < 999.5e3) return `${digits(ns / 1e3)} µs`;
  if (ns < 999.5e6) return `${digits(ns / 1e6)} ms`;
  return `${digits(ns / 1e9)} s`;
}

/** Seconds since something: 3d 04h. */
export function age(s) {
  s = Math.max(0, Math.floor(s));
  const two = (n) => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${two(Math.floor(s / 60) % 60)}m`;
  return `${count(Math.floor(s / 86400))}d ${two(Math.floor(s / 3600) % 24)}h`;
}

const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const momentFormat = new Intl.DateTimeFormat('sv-SE', { dateStyle: 'short', timeStyle: 'medium' });

/** The time of day. */
export const clock = (date) => clockFormat.format(date);

/** Day and time, or a dash for Go's zero time. */
export function moment(text) {
  const d = new Date(text);
  return d.getFullYear() > 1 ? momentFormat.format(d) : '–';
}

/** What people call an iSCSI name: what follows its last colon. */
export const short = (name) => name.slice(name.lastIndexOf(':') + 1) || name;
