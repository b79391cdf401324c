// Who is logged in.

import { el, setText } from '../dom.js';
import { Table, text, number, link } from '../table.js';
import { age, si, rate, time } from '../format.js';
import { total } from '../rates.js';
import { nexusKey } from '../store.js';
import { disconnect } from '../actions.js';
import { filterBox, actions, actorHref } from './parts.js';

export const title = () => 'Sessions';
export const topics = ['status', 'targets', 'sessions'];

const SHOWN = 200;

export function mount(main, store) {
  const flows = new Map(); // of sessions, over their LUNs
  const flow = (s) => flows.get(s.tsih);
  const table = new Table({
    caption: 'Sessions', key: (s) => s.tsih, limit: SHOWN, empty: 'Nobody is logged in.', sort: { id: 'iops', down: true },
    columns: [
      link('initiator', 'Initiator', (s) => s.initiator || '(no name)', (s) => actorHref(s.actor), { head: true, class: 'iqn' }),
      text('target', 'Target', (s) => s.target || 'discovery', { class: 'iqn', wide: true, value: (s) => s.target }),
      text('peer', 'From', (s) => `${s.peer} ${s.transport}`, { value: (s) => s.peer }),
      text('user', 'CHAP user', (s) => s.user || '–', { value: (s) => s.user || '' }),
      text('digest', 'Digests', (s) => [s.header_digest ? 'header' : '', s.data_digest ? 'data' : ''].filter(Boolean).join(', ') || 'none'),
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
