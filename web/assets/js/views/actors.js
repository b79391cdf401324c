// The tree of actors, and one of them.

import { el, setText, setAttr, setClass } from '../dom.js';
import { Table, text, number, state } from '../table.js';
import { age, count } from '../format.js';
import { get } from '../api.js';
import { actorHref, filterBox, Facts } from './parts.js';

export const title = () => 'Actors';
export const topics = ['status', 'targets', 'actors'];

const SHOWN = 400;
const MANY = 40; // children: more are folded until they are asked for

const parent = (path) => path.slice(0, Math.max(0, path.lastIndexOf('/')));
const last = (path) => path.slice(path.lastIndexOf('/') + 1);
const depth = (path) => path.split('/').length - 1;
const fixed = { value: null }; // the tree has an order of its own

export function mount(main, store, [selected]) {
  const open = new Map(); // by path, where somebody has decided
  const children = new Map();
  const folded = (path) => !(open.get(path) ?? (children.get(path) || 0) <= MANY);
  const name = {
    id: 'path', title: 'Actor', head: true, class: 'actor',
    fill: (td, a) => {
      if (!td.firstElementChild) {
        td.append(
          el('button', { type: 'button', class: 'fold', on: { click: () => { open.set(td.path, folded(td.path)); view.update(); } } }), el('a'));
      }
      td.path = a.path;
      const [fold, link] = td.children;
      const n = children.get(a.path) || 0;
      fold.hidden = n === 0;
      setText(fold, folded(a.path) ? '▸' : '▾');
      setAttr(fold, 'aria-expanded', String(!folded(a.path)));
      setAttr(fold, 'aria-label', `${count(n)} below ${last(a.path)}`);
      setText(link, last(a.path));
      setAttr(link, 'href', actorHref(a.path));
      setAttr(link, 'aria-current', a.path === selected ? 'true' : null);
      const d = `d${Math.min(depth(a.path), 4)}`;
      if (!td.classList.contains(d)) td.className = `actor ${d}`;
    },
  };
  const table = new Table({
    caption: 'Actors', key: (a) => a.path, limit: SHOWN, empty: 'No actor matches.', class: 'tree',
    row: (tr, a) => setClass(tr, 'chosen', a.path === selected),
    columns: [
      name,
      state('state', 'Behaviour', (a) => [a.state === 'running' ? a.behaviour || 'running' : a.state, a.state === 'running' ? 'plain' : 'warn'], fixed),
      number('queued', 'Mailbox', (a) => a.queued, count, fixed),
      number('max', 'Longest', (a) => a.max_queued, count, { ...fixed, class: 'rare' }),
      number('done', 'Messages', (a) => a.processed, count, { ...fixed, class: 'rare' }),
      { id: 'restarts', title: 'Restarts', num: true, fill: (td, a) => { setText(td, count(a.restarts)); setClass(td, 'bad', a.restarts > 0); } },
      number('age', 'Age', (a) => a.age, age, fixed),
      text('last', 'Last message', (a) => last(a.last_message.replaceAll('.', '/')) || '–', { class: 'soft rare' }),
    ],
  });

  const detail = el('section', { class: 'detail', hidden: true, tabindex: '-1' });
  const heading = el('h2');
  const facts = new Facts();
  const dump = el('pre');
  detail.append(el('p', { class: 'path' }, el('a', { href: '#/actors', text: 'Close' })), heading, facts.element, dump);
  const filter = filterBox('Filter actors', () => view.update());
  const note = el('p', { class: 'empty', text: 'Waiting for the daemon …' });
  main.append(detail, filter.element, note, table.element);

  async function describe() {
    try {
      const a = await get(`v1/actors/${selected.split('/').map(encodeURIComponent).join('/')}`);
      facts.set('Kind', a.kind);
      facts.set('State', a.behaviour ? `${a.state}, ${a.behaviour}` : a.state);
      facts.set('Mailbox', `${count(a.queued)} now, ${count(a.max_queued)} at most`);
      facts.set('Messages', count(a.processed));
      facts.set('Failures', `${count(a.failures)}, restarted ${count(a.restarts)} times`);
      facts.set('Last message', a.last_message || '–');
      setText(dump, a.details ? JSON.stringify(a.details, null, 2) : 'It shows nothing of its state.');
    } catch (e) {
      setText(dump, e.message);
    }
  }

  const view = {
    update() {
      note.hidden = store.actors !== null;
      table.element.hidden = store.actors === null;
      if (store.actors === null) return;
      const all = [...store.actors].sort(byPath);
      children.clear();
      for (const a of all) children.set(parent(a.path), (children.get(parent(a.path)) || 0) + 1);
      const searching = !filter.matches('');
      table.update(all.filter((a) => (searching ? filter.matches(a.path, a.behaviour, a.state) : !hidden(a.path))));
    },
    document(nameOf) {
      if (selected && nameOf === 'actors') describe();
    },
    leave() {},
  };
  const hidden = (path) => {
    for (let p = parent(path); p; p = parent(p)) if (folded(p)) return true;
    return false;
  };
  if (selected) {
    detail.hidden = false;
    setText(heading, selected);
    describe();
  }
  return view;
}

const segments = (path) => path.split('/');

/** Parents before their children, children by name. */
function byPath(a, b) {
  const [x, y] = [segments(a.path), segments(b.path)];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const c = x[i].localeCompare(y[i], 'en', { numeric: true });
    if (c) return c;
  }
  return x.length - y.length;
}
