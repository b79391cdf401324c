// Who is logged in.

import { el, setText } from '../dom.js';
import { Table, number } from '../table.js';
import { age, si, rate, time } from '../format.js';
import { total } from '../rates.js';
import { nexusKey } from '../store.js';
import { disconnect } from '../actions.js';
import { filterBox, actions, actorHref, named } from './parts.js';

export const title = () => 'Sessions';
export const topics = ['status', 'targets', 'sessions'];

const SHOWN = 200;

/** Where a session comes from, and how. */
function fillPeer(td, s) {
  if (!td.firstElementChild) td.append(el('span', {}, el('span'), el('small', { class: 'under' })));
  const [at, how] = td.firstElementChild.children;
  const digests = [s.header_digest ? 'header' : '', s.data_digest ? 'data' : ''].filter(Boolean).join(' and ');
  setText(at, s.peer);
  setText(how, [s.transport, s.user ? `user ${s.user}` : 'no CHAP', ...(digests ? [`${digests} digests`] : [])].join(', '));
}

export function mount(main, store) {
  const flows = new Map(); // of sessions, over their LUNs
  const flow = (s) => flows.get(s.tsih);
  const table = new Table({
    caption: 'Sessions', key: (s) => s.tsih, limit: SHOWN, empty: 'Nobody is logged in.', sort: { id: 'iops', down: true },
    columns: [
      named('initiator', 'Initiator', (s) => s.initiator || '(no name)', (s) => actorHref(s.actor), { head: true }),
      named('target', 'Target', (s) => s.target || 'discovery'),
      { id: 'peer', title: 'From', value: (s) => s.peer, wide: true, fill: fillPeer },
      number('age', 'For', (s) => (Date.now() - new Date(s.since)) / 1000, age),
      number('iops', 'IOPS', (s) => flow(s)?.iops, si),
      number('rd', 'Read', (s) => flow(s)?.readBytes, rate),
      number('wr', 'Written', (s) => flow(s)?.writeBytes, rate),
      number('p99', 'p99', (s) => flow(s)?.p99, time),
      actions(store, 'Action', () => 'Disconnect', disconnect),
    ],
  });
  const filter = filterBox('Filter sessions', () => view.update());
  const note = el('p', { class: 'empty' });
  main.append(filter.element, note, table.element);

  const view = {
    update() {
      const all = store.sessions;
      note.hidden = all !== null;
      table.element.hidden = all === null;
      if (all === null) {
        setText(note, 'Waiting for the daemon …');
        return;
      }
      flows.clear();
      for (const s of all) {
        const parts = (s.luns || []).map((l) => store.nexuses.flows.get(nexusKey(s.tsih, l.lun))).filter(Boolean);
        if (parts.length) flows.set(s.tsih, total(parts));
      }
      table.update(all.filter((s) => filter.matches(s.initiator, s.target, s.peer, s.transport, s.user || '', String(s.tsih))));
    },
    leave() {},
  };
  return view;
}
