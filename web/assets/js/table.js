// Tables that are brought up to date in place: what is focused or selected stays so.

import { el, setText, setAttr, setBadge } from './dom.js';
import { count } from './format.js';

/**
 * A table of rows. A column has an id, a title and fill(td, row); `num` aligns it to
 * the right, `value(row)` makes it sortable, `head` makes it the heading of its row,
 * `wide` gives it a line of its own on a phone, the class `rare` hides it there.
 */
export class Table {
  #o;
  #rows = new Map();
  #body = el('tbody');
  #heads = new Map();
  #more;
  #empty;
  #last = [];
  #sort;

  /** Options: caption, columns, key(row), empty (text), sort ({id, down}), limit (rows shown). */
  constructor(o) {
    this.#o = o;
    this.#sort = o.sort || null;
    // The roles are said again: on a phone the parts are laid out as blocks.
    const heads = o.columns.map((c) => this.#head(c));
    this.#more = el('p', { class: 'more', hidden: true });
    this.#empty = el('p', { class: 'empty', text: o.empty || 'Nothing.' });
    this.table = el('table', { role: 'table', class: o.class || null },
      el('caption', { text: o.caption, class: o.showCaption ? null : 'hidden' }),
      el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...heads)), this.#body);
    setAttr(this.#body, 'role', 'rowgroup');
    this.element = el('div', { class: 'table' }, this.table, this.#empty, this.#more);
  }

  #head(c) {
    const th = el('th', { scope: 'col', role: 'columnheader', class: c.headClass || (c.num ? 'num' : null) });
    if (!c.value) {
      th.append(c.title);
      return th;
    }
    th.append(el('button', { type: 'button', class: 'sort', text: c.title, on: { click: () => this.#by(c) } }));
    this.#heads.set(c.id, th);
    return th;
  }

  #by(c) {
    const down = this.#sort?.id === c.id ? !this.#sort.down : Boolean(c.num);
    this.#sort = { id: c.id, down };
    this.update(this.#last);
  }

  #sorted(rows) {
    for (const [id, th] of this.#heads) {
      setAttr(th, 'aria-sort', this.#sort?.id !== id ? null : this.#sort.down ? 'descending' : 'ascending');
    }
    const c = this.#sort && this.#o.columns.find((x) => x.id === this.#sort.id);
    if (!c) return rows;
    const sign = this.#sort.down ? -1 : 1;
    return rows.map((row) => ({ row, v: c.value(row) })).sort((a, b) =>
      sign * (typeof a.v === 'string' ? a.v.localeCompare(b.v, 'en', { numeric: true }) : a.v - b.v)).map((x) => x.row);
  }

  /** Shows rows. */
  update(rows) {
    this.#last = rows;
    const limit = this.#o.limit || Infinity;
    const shown = this.#sorted(rows).slice(0, limit);
    const focused = document.activeElement;
    const keep = new Set();
    shown.forEach((row, i) => {
      const key = String(this.#o.key(row));
      keep.add(key);
      let tr = this.#rows.get(key);
      if (!tr) this.#rows.set(key, tr = this.#row());
      this.#o.columns.forEach((c, n) => c.fill(tr.children[n], row));
      this.#o.row?.(tr, row);
      if (this.#body.children[i] !== tr) this.#body.insertBefore(tr, this.#body.children[i] || null);
    });
    for (const [key, tr] of this.#rows) {
      if (!keep.has(key)) {
        tr.remove();
        this.#rows.delete(key);
      }
    }
    if (focused !== document.activeElement && focused?.isConnected && this.#body.contains(focused)) focused.focus();
    this.#empty.hidden = rows.length > 0;
    this.table.hidden = rows.length === 0;
    this.#more.hidden = rows.length <= limit;
    setText(this.#more, `Showing ${count(shown.length)} of ${count(rows.length)}. Filter to find others.`);
  }

  #row() {
    return el('tr', { role: 'row' }, ...this.#o.columns.map((c) => el(c.head ? 'th' : 'td', {
      scope: c.head ? 'row' : null, role: c.head ? 'rowheader' : 'cell', 'data-label': c.title,
      class: [c.num ? 'num' : '', c.wide ? 'wide' : '', c.class || ''].join(' ').trim() || null,
    })));
  }
}

/** A column of texts. */
export const text = (id, title, f, more = {}) => ({ id, title, fill: (td, row) => setText(td, f(row)), ...more });

/** A column of numbers: value(row) for sorting, shown by format. */
export const number = (id, title, value, format, more = {}) =>
  ({ id, title, num: true, value: (row) => value(row) ?? -1, fill: (td, row) => setText(td, format(value(row))), ...more });

/** A column of names that lead to another view. */
export const link = (id, title, f, href, more = {}) => ({
  id, title, value: f,
  fill: (td, row) => {
    const a = td.firstElementChild || td.appendChild(el('a'));
    setText(a, f(row));
    setAttr(a, 'href', href(row));
    if (more.hint) setAttr(a, 'title', more.hint(row));
  },
  ...more,
});

/** A column of badges: f(row) returns text and kind. */
export const state = (id, title, f, more = {}) => ({
  id, title, value: (row) => f(row)[0], fill: (td, row) => setBadge(td, ...f(row)), ...more,
});
