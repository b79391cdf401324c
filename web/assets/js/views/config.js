// The configuration in force, and what the files would make of it.

import { el, setText } from '../dom.js';
import { request, Refused } from '../api.js';
import { ask, tell } from '../actions.js';
import { Table, text } from '../table.js';
import { moment, count } from '../format.js';
import { section, Facts } from './parts.js';

export const title = () => 'Configuration';
export const topics = ['status', 'targets'];

/** The kind of a change, by the mark with which its text begins. */
const KIND = { '+': 'good', '-': 'bad', '~': 'warn', '!': 'warn' };

export function mount(main, store) {
  const facts = new Facts();
  const last = el('pre', { class: 'wrong' });
  const lastPart = section('Why the last change was refused', last);
  const said = el('p', { role: 'status' });
  const check = el('button', { type: 'button', text: 'Compare again', on: { click: () => compare() } });
  const reload = el('button', { type: 'button', class: 'primary', text: 'Reload', on: { click: () => apply() } });
  const buttons = el('p', { class: 'actions' }, check, reload);
  const changes = el('ol', { class: 'changes' });
  const notes = el('ul', { class: 'notes' });
  main.append(facts.element, lastPart, section('What a reload would change', said, buttons, changes, notes));

  function showPlan(p) {
    const n = p.changes.length;
    setText(said, n ? `${count(n)} ${n === 1 ? 'change' : 'changes'}: running (left), files (right).` : 'The files are what is running.');
    changes.replaceChildren(...p.changes.map(change));
    showNotes(p.diagnostics);
    reload.disabled = n === 0;
  }

  function change(c) {
    const mark = c.text.charAt(0);
    const table = new Table({
      caption: `Arguments of ${c.object}`, key: (d) => d.name, class: 'diff', columns: [
        text('name', 'Argument', (d) => d.name, { head: true }), text('old', 'Running', (d) => d.old || '(none)', { class: 'old' }), text('new', 'Files', (d) => d.new || '(none)', { class: 'new' })],
    });
    table.update(c.details);
    return el('li', {}, el('p', { class: 'what' }, el('span', { class: `badge ${KIND[mark] || 'plain'}`, text: c.action }), ' ', el('span', { class: 'iqn', text: c.object })),
      c.effect ? el('p', { class: 'soft', text: c.effect }) : null, c.details.length ? table.element : null);
  }

  function showNotes(list) {
    notes.replaceChildren(...list.map((d) => el('li', { class: d.severity === 'error' ? 'bad' : 'warn' },
      el('p', { class: 'what', text: `${d.summary}` }), el('p', { class: 'where', text: `${d.file}:${d.line}:${d.col}` }), el('p', { class: 'soft', text: d.detail }))));
  }

  function failed(e) {
    setText(said, e instanceof Refused && e.diagnostics.length ? 'The files are invalid: a reload would be refused and change nothing.' : e.message);
    changes.replaceChildren();
    showNotes(e.diagnostics || []);
    reload.disabled = true;
  }

  async function compare() {
    const may = store.access.scope !== 'read';
    buttons.hidden = !may;
    if (!may) {
      notes.replaceChildren();
      changes.replaceChildren();
      setText(said, store.access.token ? 'Sign in with the token to compare the files with what is running.'
        : 'To compare here, give the http block of the configuration a secret and reload it. On the host: iserd config diff.');
      return;
    }
    check.disabled = true;
    try {
      showPlan(await request('GET', 'v1/config/plan'));
    } catch (e) {
      failed(e);
    }
    check.disabled = false;
  }

  async function apply() {
    if (await ask({ title: 'Reload the configuration?', yes: 'Reload', text: 'What is listed is applied, all or nothing. Sessions of targets that do not change go on.' }) === null) return;
    reload.disabled = true;
    try {
      const n = (await request('POST', 'v1/config/reload')).changes.length;
      tell(`Reloaded: ${count(n)} ${n === 1 ? 'change' : 'changes'}.`);
    } catch (e) {
      tell(e.message.split('\n')[0], true);
    }
    await compare();
  }

  let shown = '';
  const view = {
    update() {
      const s = store.status;
      if (!s) return;
      facts.set('In force', s.config.hash);
      facts.set('Files', s.config.files?.join(', ') || 'none: the demo');
      facts.set('Last change', moment(s.config.changed));
      lastPart.hidden = !s.config.last_error;
      setText(last, s.config.last_error || '');
      const now = `${store.access.scope} ${store.access.token} ${s.config.hash} ${s.config.changed}`;
      if (now !== shown) {
        shown = now;
        compare();
      }
    },
    leave() {},
  };
  return view;
}
