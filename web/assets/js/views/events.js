// What happened: faults, refused logins, reloads, and the connection of this page.

import { el, setText, badge } from '../dom.js';
import { moment } from '../format.js';
import { filterBox } from './parts.js';

export const title = () => 'Events';
export const topics = ['status', 'targets'];

const KINDS = { fault: ['fault', 'bad'], refusal: ['login refused', 'warn'], config: ['configuration', 'plain'], page: ['this page', 'plain'] };
const SHOWN = 200;

export function mount(main, store) {
  const kinds = el('select', { 'aria-label': 'Kind of events' }, el('option', { value: '', text: 'All kinds' }),
    ...Object.entries(KINDS).map(([value, [text]]) => el('option', { value, text })));
  kinds.addEventListener('change', () => view.update());
  const filter = filterBox('Filter events', () => view.update());
  filter.element.append(kinds);
  const list = el('ol', { class: 'events' });
  const none = el('p', { class: 'empty' });
  main.append(filter.element, none, list);
  const items = new Map();

  function item(e) {
    const [text, kind] = KINDS[e.kind] || [e.kind, 'plain'];
    return el('li', {},
      el('p', { class: 'when' }, el('time', { datetime: e.at.toISOString(), text: moment(e.at) }), ' ', badge(text, kind)),
      el('p', { class: 'what', text: e.title }), el('p', { class: 'soft', text: e.text }),
      e.more ? el('details', {}, el('summary', { text: e.kind === 'fault' ? 'Stack' : 'All of it' }), el('pre', { text: e.more })) : null);
  }

  const view = {
    update() {
      const found = store.events.filter((e) => (!kinds.value || e.kind === kinds.value) && filter.matches(e.title, e.text, KINDS[e.kind]?.[0] || e.kind));
      const shown = found.slice(0, SHOWN);
      const keep = new Set(shown.map((e) => e.key));
      shown.forEach((e, i) => {
        if (!items.has(e.key)) items.set(e.key, item(e));
        const li = items.get(e.key);
        if (list.children[i] !== li) list.insertBefore(li, list.children[i] || null);
      });
      for (const [key, li] of items) {
        if (!keep.has(key)) {
          li.remove();
          items.delete(key);
        }
      }
      none.hidden = shown.length > 0;
      setText(none, store.events.length ? 'No event matches.' : 'Nothing has failed and nobody was refused since the daemon was started.');
    },
    leave() {},
  };
  return view;
}
