// Targets and their LUNs.

import { el, setText, setBadge } from '../dom.js';
import { Table } from '../table.js';
import { count } from '../format.js';
import { switchLUN } from '../actions.js';
import { lunColumns, lunRowKey, filterBox, actions } from './parts.js';

export const title = () => 'Targets and LUNs';
export const topics = ['status', 'targets'];

const SHOWN = 100; // targets

/** A target with its table. */
class Section {
  constructor(store) {
    this.alias = el('span', { class: 'alias' });
    this.name = el('span', { class: 'iqn' });
    this.badge = el('span');
    this.facts = el('p', { class: 'soft' });
    this.table = new Table({
      caption: 'LUNs', key: lunRowKey, empty: 'This target has no LUN.',
      columns: [...lunColumns(store),
        actions(store, 'Action', (r) => (r.lun.state === 'online' ? 'Take offline' : r.lun.state === 'gone' ? null : 'Take online'),
          (r) => switchLUN(r.target, r.lun, r.lun.state === 'online'))],
    });
    this.element = el('section', { class: 'target' },
      el('h2', {}, this.name, ' ', this.alias, ' ', this.badge), this.facts, this.table.element);
  }

  show(t) {
    setText(this.name, t.name);
    setText(this.alias, t.alias || '');
    setBadge(this.badge, t.offline ? 'offline' : 'online', t.offline ? 'warn' : 'good');
    const names = t.initiators.length;
    setText(this.facts, [
      `${count(t.sessions)} ${t.sessions === 1 ? 'session' : 'sessions'}`,
      t.auth === 'none' ? 'no CHAP' : t.auth === 'chap' ? 'CHAP' : 'mutual CHAP',
      names ? `${count(names)} ${names === 1 ? 'initiator' : 'initiators'} admitted by name` : 'initiators not limited by name',
      t.portal_groups.length ? `portal groups ${t.portal_groups.join(', ')}` : 'all portal groups',
      ...(t.origin === 'api' ? ['made through the API: gone after a restart'] : []),
    ].join(' · '));
    this.table.update(t.luns.map((lun) => ({ target: t, lun })));
  }
}

export function mount(main, store) {
  const sections = new Map();
  const list = el('div');
  const none = el('p', { class: 'empty' });
  const filter = filterBox('Filter targets', () => view.update());
  main.append(filter.element, none, list);

  const view = {
    update() {
      const found = store.targets.filter((t) => filter.matches(t.name, t.alias || '', ...t.luns.map((l) => l.backend)));
      const shown = found.slice(0, SHOWN);
      const keep = new Set(shown.map((t) => t.name));
      shown.forEach((t, i) => {
        let s = sections.get(t.name);
        if (!s) sections.set(t.name, s = new Section(store));
        s.show(t);
        if (list.children[i] !== s.element) list.insertBefore(s.element, list.children[i] || null);
      });
      for (const [name, s] of sections) {
        if (!keep.has(name)) {
          s.element.remove();
          sections.delete(name);
        }
      }
      none.hidden = shown.length > 0 && shown.length === found.length;
      setText(none, found.length > SHOWN ? `Showing ${SHOWN} of ${count(found.length)} targets. Filter to find others.`
        : store.targets.length ? 'No target matches.' : store.status ? 'There is no target. Add one to the configuration and reload it.' : '');
    },
    leave() {},
  };
  return view;
}
