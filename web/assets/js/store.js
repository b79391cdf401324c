// What is known of the daemon.

import { History, Meter, total } from './rates.js';
import { get } from './api.js';
import { count } from './format.js';

const REMEMBERED = 500; // events

export const lunKey = (target, n) => `${target}/${n}`;
export const nexusKey = (tsih, lun) => `${tsih}/${lun}`;

/** The state, and who wants to know of its changes. */
export class Store {
  status = null;
  portals = [];
  targets = [];
  sessions = null; // until they were asked for
  actors = null;
  access = { scope: 'read', token: false };
  lost = null; // since when the daemon does not answer
  events = []; // newest first: {at, kind, title, text, more, key}
  histories = new Map(); // of LUNs
  all = new History();
  luns = new Meter();
  nexuses = new Meter();
  #watchers = new Set();

  /** Has f called with the name of what has changed. */
  watch(f) {
    this.#watchers.add(f);
    return () => this.#watchers.delete(f);
  }

  changed(what) { for (const f of this.#watchers) f(what); }

  document(name, value, ms) {
    this[name] = value;
    if (name === 'targets') this.#measure(ms);
    if (name === 'sessions') {
      const stats = new Map();
      for (const s of value) for (const l of s.luns || []) stats.set(nexusKey(s.tsih, l.lun), l.stats);
      this.nexuses.take(stats, ms);
    }
    this.changed(name);
  }

  #measure(ms) {
    const stats = new Map();
    for (const t of this.targets) for (const l of t.luns) stats.set(lunKey(t.name, l.number), l.stats);
    if (!this.luns.take(stats, ms)) return;
    for (const key of this.histories.keys()) if (!stats.has(key)) this.histories.delete(key);
    for (const key of stats.keys()) {
      if (!this.histories.has(key)) this.histories.set(key, new History());
      this.histories.get(key).push(ms, this.luns.flows.get(key) || null);
    }
    const flows = [...this.luns.flows.values()];
    this.all.push(ms, flows.length || !stats.size ? total(flows) : null);
  }

  /** The counters begin anew: no rates from what was before. */
  restarted() {
    this.luns.forget();
    this.nexuses.forget();
  }

  /** Notes an event, once. It returns whether it is new. */
  note(e) {
    if (this.events.some((x) => x.key === e.key)) return false;
    this.events.push(e);
    this.events.sort((a, b) => b.at - a.at);
    this.events.length = Math.min(this.events.length, REMEMBERED);
    this.changed('events');
    return true;
  }

  /** Asks for the records that the daemon has kept. */
  async recall() {
    const [faults, refusals] = await Promise.all([get('v1/faults'), get('v1/refusals')]);
    for (const f of faults) this.note(fault(f));
    for (const r of refusals) this.note(refusal(r));
  }
}

/** A supervision event. */
export function fault(f) {
  return {
    at: new Date(f.time), kind: 'fault', key: `fault ${f.seq} ${f.time}`,
    title: `${f.path}: ${f.action}`,
    text: `${f.panic.split('\n')[0]}${f.message ? ` (with ${f.message} in hand)` : ''}`,
    more: f.stack,
  };
}

/** A login that was refused. Equal ones are one record that counts. */
export function refusal(r) {
  const who = r.initiator || 'An initiator without a name';
  return {
    at: new Date(r.last), kind: 'refusal', key: `refusal ${r.first} ${r.initiator} ${r.address} ${r.count}`,
    title: `${who} from ${r.address}${r.count > 1 ? `, ${count(r.count)} times` : ''}`,
    text: `${r.reason} (${r.discovery ? 'discovery' : r.target || 'no target named'}; ${r.text})`,
    more: '',
  };
}

let configSeq = 0;

/** A reload. */
export function reload(c) {
  const failed = Boolean(c.error);
  const n = `${count(c.changes)} ${c.changes === 1 ? 'change' : 'changes'}`;
  return {
    at: new Date(), kind: 'config', key: `config ${++configSeq}`,
    title: failed ? 'The configuration was refused' : 'The configuration was reloaded',
    text: failed ? c.error.split('\n')[0] : n, more: failed ? c.error : '',
  };
}

/** What happened to the connection of this page. */
export function connection(title, text) {
  const at = new Date();
  return { at, kind: 'page', key: `page ${at.getTime()} ${title}`, title, text, more: '' };
}
