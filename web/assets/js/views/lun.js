// One LUN: its latencies as a heat map, its rates, and who uses it.

import { el, setText, setBadge } from '../dom.js';
import { Table, text, number } from '../table.js';
import { Lines, HeatMap } from '../plots.js';
import { si, rate, time, size, count, short } from '../format.js';
import { lunState, section, Facts, rateColumns, actorHref, named } from './parts.js';
import { switchLUN } from '../actions.js';
import { lunKey, nexusKey } from '../store.js';
import { History } from '../rates.js';

export const title = ([target, n]) => `LUN ${n} of ${short(target || '')}`;
export const topics = ['status', 'targets', 'sessions'];

export function mount(main, store, [name, n]) {
  const badge = el('span');
  const act = el('button', { type: 'button', hidden: true });
  const gone = el('p', { class: 'empty', text: 'There is no such LUN now.', hidden: true });
  const facts = new Facts();
  const heat = new HeatMap('Latency of reads and writes');
  const iops = new Lines('Commands per second', [{ label: 'reads', colour: 'read', fill: true }, { label: 'writes', colour: 'write', fill: true }], si);
  const flow = new Lines('Throughput', [{ label: 'read', colour: 'read', fill: true }, { label: 'written', colour: 'write', fill: true }], rate, true);
  const lat = new Lines('Latency', [{ label: 'p50', colour: 'read' }, { label: 'p99', colour: 'warm' }], time);
  const depth = new Lines('Commands in the target, on average', [{ label: 'commands', colour: 'read', fill: true }], si);
  const users = new Table({
    caption: 'Sessions', key: (r) => nexusKey(r.s.tsih, r.l.lun), empty: 'No initiator is logged in to it.',
    columns: [
      named('initiator', 'Initiator', (r) => r.s.initiator || '(no name)', (r) => actorHref(r.s.actor), { head: true }),
      text('lun', 'Sees it as', (r) => `LUN ${r.l.lun}${r.l.read_only ? ', read-only' : ''}`),
      text('tr', 'Transport', (r) => r.s.transport),
      ...rateColumns((r) => store.nexuses.flows.get(nexusKey(r.s.tsih, r.l.lun))),
    ],
  });
  const holders = new Table({
    caption: 'Persistent reservations', key: (g) => `${g.initiator} ${g.key}`, empty: 'None.',
    columns: [named('initiator', 'Registered', (g) => g.initiator, null, { head: true }), text('key', 'Key', (g) => g.key), text('holder', 'Holder', (g) => (g.holder ? 'yes' : ''))],
  });
  const errors = new Table({
    caption: 'Errors', key: (e) => e.name, empty: 'None since it began.',
    columns: [text('name', 'Answer', (e) => e.name, { head: true }), number('n', 'Times', (e) => e.n, count)],
  });
  const actor = el('a', { text: 'Its actor' });
  const pr = el('p', { class: 'soft' });
  main.append(
    el('p', { class: 'path' }, el('a', { href: '#/luns', text: 'Targets and LUNs' }), ' / ', el('span', { class: 'iqn', text: name })),
    el('p', { class: 'lunhead' }, badge, ' ', act, ' ', actor), gone, facts.element, heat.element,
    el('div', { class: 'plots' }, iops.element, flow.element, lat.element, depth.element),
    section('Sessions', users.element), section('Reservations', pr, holders.element), section('Errors', errors.element));

  const none = new History();
  function show(target, l) {
    setBadge(badge, ...lunState(l));
    const online = l.state === 'online';
    act.hidden = store.access.scope === 'read' || l.state === 'gone';
    setText(act, online ? 'Take offline' : 'Take online');
    act.onclick = () => switchLUN(target, l, online);
    actor.href = actorHref(l.actor);
    facts.set('Backend', l.backend || '–');
    facts.set('Size', l.size > 0 ? `${size(l.size)} (${count(l.size)} bytes)` : '–');
    facts.set('Blocks', l.block_size ? `${count(l.size / l.block_size)} of ${l.block_size} bytes` : '–');
    facts.set('Kind', [l.thin ? 'thin' : 'fully provisioned', l.read_only ? 'read-only' : 'writable'].join(', '));
    facts.set('Serial', l.serial || '–');
    facts.set('NAA', l.naa);
    facts.set('Read', size(l.stats.bytes_read));
    facts.set('Written', size(l.stats.bytes_written));
    facts.set('Commands', Object.entries(l.stats.ops).filter(([, v]) => v > 0).map(([k, v]) => `${count(v)} ${k}`).join(', ') || 'none yet');
    const f = store.luns.flows.get(lunKey(target.name, l.number));
    const stages = Object.entries(f?.stages ?? {}).filter(([, v]) => v >= 0.005).sort((a, b) => b[1] - a[1]);
    facts.set('Time is spent in', stages.map(([k, v]) => `${k} ${Math.round(v * 100)} %`).join(', ') || '–');
    for (const g of l.alua?.groups ?? []) {
      facts.set(`ALUA, portal group ${g.portal_group}`, [g.state, ...(g.preferred ? ['preferred'] : []), ...(g.set_by === 'configured' ? [] : [`set by ${g.set_by}`])].join(', '));
    }
    const r = l.reservations;
    setText(pr, !r ? '' : [r.type ? `Reserved: ${r.type}` : 'Registered, not reserved', `generation ${r.generation}`,
      ...(r.reserved ? [`RESERVE by ${r.reserved}`] : []), ...(r.lost ? ['the file with the reservations cannot be read: all access is fenced'] : [])].join(' · '));
    holders.update(r?.registered ?? []);
    const s = l.stats;
    errors.update([...Object.entries(s.errors).map(([k, v]) => ({ name: `CHECK CONDITION, ${k}`, n: v })),
      { name: 'RESERVATION CONFLICT', n: s.reservation_conflicts }, { name: 'BUSY or TASK SET FULL', n: s.busy }, { name: 'aborted', n: s.aborted }].filter((e) => e.n > 0));
  }

  function plot() {
    const h = store.histories.get(lunKey(name, n)) || none;
    heat.show(h.at, h.flows.map((f) => f && f.heat));
    iops.set([h.at, h.series((f) => f.reads), h.series((f) => f.writes)]);
    flow.set([h.at, h.series((f) => f.readBytes), h.series((f) => f.writeBytes)]);
    lat.set([h.at, h.series((f) => f.p50 || null), h.series((f) => f.p99 || null)]);
    depth.set([h.at, h.series((f) => f.depth)]);
  }

  return {
    update() {
      const target = store.targets.find((t) => t.name === name);
      const l = target?.luns.find((x) => String(x.number) === n);
      gone.hidden = Boolean(l) || !store.status;
      if (l) show(target, l);
      plot();
      users.update((store.sessions || []).filter((s) => s.target === name)
        .flatMap((s) => (s.luns || []).filter((x) => String(x.number) === n).map((x) => ({ s, l: x }))));
    },
    leave() { for (const p of [heat, iops, flow, lat, depth]) p.destroy(); },
  };
}
