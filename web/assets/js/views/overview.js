// The daemon at a glance.

import { el, setText, setClass } from '../dom.js';
import { Table, text, number } from '../table.js';
import { Lines } from '../plots.js';
import { si, rate, bytes, time, age, count, moment } from '../format.js';
import { lunColumns, lunRowKey, section } from './parts.js';
import { lunKey } from '../store.js';

const BUSIEST = 8;

class Tiles {
  element = el('dl', { class: 'tiles' });
  #tiles = new Map();

  set(name, value, note = '', bad = false) {
    let t = this.#tiles.get(name);
    if (!t) {
      t = { box: el('div', { class: 'tile' }), value: el('dd', { class: 'value' }), note: el('dd', { class: 'note' }) };
      t.box.append(el('dt', { text: name }), t.value, t.note);
      this.#tiles.set(name, t);
      this.element.append(t.box);
    }
    setText(t.value, value);
    setText(t.note, note);
    setClass(t.box, 'bad', bad);
  }
}

export const title = () => 'Overview';
export const topics = ['status', 'targets', 'portals'];

export function mount(main, store) {
  const warnings = el('ul', { class: 'warnings', 'aria-label': 'Warnings', hidden: true });
  const tiles = new Tiles();
  const iops = new Lines('Commands per second', [{ label: 'reads', colour: 'read', fill: true }, { label: 'writes', colour: 'write', fill: true }], si);
  const flow = new Lines('Throughput', [{ label: 'read', colour: 'read', fill: true }, { label: 'written', colour: 'write', fill: true }], rate, true);
  const busiest = new Table({ caption: 'Busiest LUNs', columns: lunColumns(store, { whole: true }), key: lunRowKey, empty: 'There is no LUN.' });
  const portals = new Table({
    caption: 'Portals', key: (p) => p.address, empty: 'There is no portal.',
    columns: [text('address', 'Address', (p) => p.address, { head: true }), text('group', 'Group', (p) => p.group), number('tag', 'Tag', (p) => p.tag, String)],
  });
  const up = el('p', { class: 'soft' });
  main.append(up, warnings, tiles.element, el('div', { class: 'plots' }, iops.element, flow.element),
    section('Busiest LUNs', busiest.element), section('Portals', portals.element));

  function showStatus(s) {
    warnings.hidden = s.warnings.length === 0;
    const said = [...warnings.children].map((li) => li.textContent).join('\n');
    if (said !== s.warnings.join('\n')) warnings.replaceChildren(...s.warnings.map((w) => el('li', { text: w })));
    const now = store.all.last;
    tiles.set('Commands', now ? `${si(now.iops)}/s` : '–', now ? `${si(now.reads)} reads, ${si(now.writes)} writes` : '');
    tiles.set('Throughput', now ? rate(now.readBytes + now.writeBytes) : '–', now ? `${rate(now.readBytes)} read, ${rate(now.writeBytes)} written` : '');
    tiles.set('Latency', now ? time(now.p50) : '–', now && now.p99 ? `p99 ${time(now.p99)}` : 'median of reads and writes');
    tiles.set('Sessions', count(s.sessions), `${count(s.logins)} logins, ${count(s.refused)} refused`);
    tiles.set('LUNs', count(s.luns), `on ${count(s.targets)} ${s.targets === 1 ? 'target' : 'targets'}`);
    tiles.set('Buffers', bytes(s.buffer_bytes), `of ${bytes(s.buffer_limit)}`, s.buffer_bytes > 0.9 * s.buffer_limit);
    tiles.set('Faults', count(s.faults), 'of actors since the start', s.faults > 0);
    const changed = moment(s.config.changed);
    tiles.set('Configuration', s.config.hash, s.config.last_error ? 'the last change was refused' : changed === '–' ? 'as at the start' : `since ${changed}`, Boolean(s.config.last_error));
    setText(up, `Up ${age((Date.now() - new Date(s.started)) / 1000)} · version ${s.version} · process ${s.pid}`);
  }

  function showTargets() {
    const rows = store.targets.flatMap((target) => target.luns.map((lun) => ({ target, lun })));
    const load = (r) => store.luns.flows.get(lunKey(r.target.name, r.lun.number))?.iops ?? 0;
    busiest.update(rows.map((r) => [load(r), r]).sort((a, b) => b[0] - a[0]).slice(0, BUSIEST).map((x) => x[1]));
    const h = store.all;
    iops.set([h.at, h.series((f) => f.reads), h.series((f) => f.writes)]);
    flow.set([h.at, h.series((f) => f.readBytes), h.series((f) => f.writeBytes)]);
  }

  return {
    update() {
      if (store.status) showStatus(store.status);
      if (store.all.at.length) showTargets();
      portals.update(store.portals);
    },
    leave() {
      iops.destroy();
      flow.destroy();
    },
  };
}
