// What several views show in the same way.

import { el, setAttr, setText } from '../dom.js';
import { number, link, state, text } from '../table.js';
import { si, rate, time, short, size } from '../format.js';
import { lunKey } from '../store.js';

export const lunHref = (target, n) => `#/lun/${encodeURIComponent(target)}/${n}`;
export const actorHref = (path) => `#/actors/${encodeURIComponent(path)}`;

/** A column of iSCSI names: what people call it, and all of it below. */
export const named = (id, title, f, href, more = {}) => ({
  id, title, class: 'named', value: f,
  fill: (td, row) => {
    if (!td.firstElementChild) td.append(el(href ? 'a' : 'span'), el('small'));
    const [first, all] = td.children;
    const whole = f(row);
    setText(first, short(whole));
    if (href) setAttr(first, 'href', href(row));
    setText(all, whole === short(whole) ? '' : whole);
  },
  ...more,
});

/** The kind of badge for the state of a LUN. */
export const lunState = (l) => [l.state, l.state === 'online' ? 'good' : l.state === 'offline' || l.state === 'busy' ? 'warn' : 'bad'];

/** Columns with the rates of a row; flow(row) is undefined as long as there is none. */
export const rateColumns = (flow) => [
  number('reads', 'Reads/s', (r) => flow(r)?.reads, si),
  number('writes', 'Writes/s', (r) => flow(r)?.writes, si),
  number('rd', 'Read', (r) => flow(r)?.readBytes, rate),
  number('wr', 'Written', (r) => flow(r)?.writeBytes, rate),
  number('p50', 'p50', (r) => flow(r)?.p50, time),
  number('p99', 'p99', (r) => flow(r)?.p99, time),
];

/** Columns of a LUN: rows are {target, lun}. */
export const lunColumns = (store, more = {}) => [
  link('lun', 'LUN', (r) => (more.whole ? `${short(r.target.name)} / ${r.lun.number}` : `LUN ${r.lun.number}`),
    (r) => lunHref(r.target.name, r.lun.number), { head: true, hint: (r) => `${r.target.name}, LUN ${r.lun.number}` }),
  state('state', 'State', (r) => lunState(r.lun)),
  text('backend', 'Backend', (r) => r.lun.backend || '–', { class: 'soft' }),
  number('size', 'Size', (r) => r.lun.size, (v) => (v > 0 ? size(v) : '–')),
  ...rateColumns((r) => store.luns.flows.get(lunKey(r.target.name, r.lun.number))),
];

export const lunRowKey = (r) => lunKey(r.target.name, r.lun.number);

/** A list of names and values, brought up to date in place. */
export class Facts {
  element = el('dl', { class: 'facts' });
  #values = new Map();

  set(name, value) {
    let dd = this.#values.get(name);
    if (!dd) {
      dd = el('dd');
      this.#values.set(name, dd);
      this.element.append(el('div', {}, el('dt', { text: name }), dd));
    }
    setText(dd, value);
  }
}

/** A box to filter rows by what is typed. changed is called at each change. */
export function filterBox(label, changed) {
  const input = el('input', { type: 'search', placeholder: label, 'aria-label': label, autocomplete: 'off', spellcheck: 'false' });
  input.addEventListener('input', changed);
  return { element: el('div', { class: 'filter' }, input), matches: (...texts) => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = texts.join(' ').toLowerCase();
    return words.every((w) => all.includes(w));
  } };
}

/** A section with a heading. */
export const section = (title, ...children) => el('section', {}, el('h2', { text: title }), ...children);

/** A button that is there only for who may use it; f(row) is what it does for the row last shown. */
export const actions = (store, title, label, f) => ({
  id: 'act', title, class: 'act', headClass: 'act',
  fill: (td, row) => {
    td.row = row;
    const may = store.access.scope !== 'read' && label(row) !== null;
    let b = td.firstElementChild;
    if (!b) b = td.appendChild(el('button', { type: 'button', on: { click: () => f(td.row) } }));
    b.hidden = !may;
    if (may) setText(b, label(row));
  },
});
