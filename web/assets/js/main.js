// Starts the page: views by the address, the stream, colours, and who may operate.

import { byId, el, say, setAttr, setText } from './dom.js';
import { request, get, hasToken, keepToken } from './api.js';
import { Live } from './live.js';
import { Store, fault, refusal, reload, connection } from './store.js';
import { clock } from './format.js';
import * as overview from './views/overview.js';
import * as luns from './views/luns.js';
import * as lun from './views/lun.js';
import * as sessions from './views/sessions.js';
import * as actors from './views/actors.js';
import * as events from './views/events.js';
import * as config from './views/config.js';

const VIEWS = { overview, luns, lun, sessions, actors, events, config };
const MENU = [['overview', 'Overview'], ['luns', 'LUNs'], ['sessions', 'Sessions'], ['actors', 'Actors'], ['events', 'Events'], ['config', 'Configuration']];

const store = new Store();
const main = byId('content');
let current = null;
let started = ''; // of the daemon, when it was seen first
let version = '';

/* Views. */

const route = () => {
  const [name, ...args] = location.hash.replace(/^#\//, '').split('/');
  return Object.hasOwn(VIEWS, name) ? [name, args.map(decode)] : ['overview', []];
};

function decode(s) {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}

function show(focus) {
  const [name, args] = route();
  const view = VIEWS[name];
  current?.leave();
  for (const a of byId('views').querySelectorAll('a')) {
    const mine = a.dataset.view === (name === 'lun' ? 'luns' : name);
    setAttr(a, 'aria-current', mine ? 'page' : null);
  }
  const heading = el('h1', { text: view.title(args), tabindex: '-1' });
  main.replaceChildren(heading);
  main.dataset.view = name;
  document.title = `${view.title(args)} – iserd`;
  current = view.mount(main, store, args);
  live.want(view.topics);
  current.update();
  if (focus) {
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/* The stream. */

const live = new Live({
  document(name, value, ms) {
    if (name === 'status') sawStatus(value);
    store.document(name, value, ms);
    current?.document?.(name);
  },
  event(name, value) {
    if (name === 'fault') told(fault(value));
    else if (name === 'refusal') told(refusal(value));
    else if (name === 'config') told(reload(value));
    else if (name === 'lost') recall();
  },
  up() {
    if (store.lost) {
      told(connection('The daemon answers again', `It did not since ${clock(store.lost)}.`));
      store.lost = null;
      byId('banner').hidden = true;
      document.body.classList.remove('stale');
    }
    askAccess();
    recall();
  },
  down() {
    if (store.lost) return;
    store.lost = new Date();
    document.body.classList.add('stale');
    banner(`The daemon does not answer since ${clock(store.lost)}. What is shown is from before. Trying again …`, 'bad');
    store.note(connection('The daemon does not answer', 'It was stopped, or the way to it is interrupted.'));
  },
});

function sawStatus(s) {
  setText(byId('node'), s.node || '');
  setText(byId('foot'), `iserd ${s.version}`);
  if (started && started !== s.started) {
    store.restarted();
    told(connection('The daemon was restarted', `It runs since ${clock(new Date(s.started))}. Initiators log in again by themselves.`));
    if (version !== s.version) banner(`The daemon is another version now (${s.version}).`, 'warn', el('button', { type: 'button', text: 'Load its page', on: { click: () => location.reload() } }));
    else banner(`The daemon was restarted at ${clock(new Date(s.started))}. Initiators log in again by themselves.`, 'warn', closing());
  }
  started = s.started;
  version ||= s.version;
}

function told(e) {
  if (store.note(e)) say(`${e.title}. ${e.text}`);
}

function recall() {
  store.recall().catch(() => { /* the stream will tell that nobody answers */ });
}

function banner(text, kind, ...more) {
  const b = byId('banner');
  b.className = `banner ${kind}`;
  b.replaceChildren(el('span', { text }), ...more);
  b.hidden = false;
}

const closing = () => el('button', { type: 'button', text: 'Close', on: { click: () => { byId('banner').hidden = true; } } });

store.watch((what) => {
  if (what === 'status' || what === 'targets' || what === 'sessions' || what === 'actors' || what === 'portals' || what === 'events' || what === 'access') current?.update();
});

/* Who may operate. */

async function askAccess() {
  try {
    setAccess(await get('v1/access'));
  } catch (e) {
    if (e.status === 403 && hasToken()) { // it was changed
      keepToken('');
      askAccess();
    }
  }
}

function setAccess(a) {
  store.access = a;
  const b = byId('access');
  b.hidden = false;
  b.disabled = a.scope === 'read' && !a.token;
  setText(b, a.scope !== 'read' ? (a.scope === 'operate' ? 'Sign out' : 'Administrator') : a.token ? 'Sign in' : 'Read-only');
  b.title = b.disabled ? 'The http block of the configuration has no secret: nothing can be changed here.' : a.scope === 'read' ? 'Read-only until you sign in' : '';
  document.body.classList.toggle('reader', a.scope === 'read');
  b.classList.toggle('on', a.scope !== 'read');
  if (a.scope === 'admin') b.disabled = true;
  store.changed('access');
}

byId('access').addEventListener('click', () => {
  if (store.access.scope === 'operate') {
    keepToken('');
    askAccess();
    return;
  }
  setText(byId('signin-wrong'), '');
  byId('token').value = '';
  byId('signin').showModal();
  byId('token').focus();
});
byId('signin-no').addEventListener('click', () => byId('signin').close());
byId('signin-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const token = byId('token').value.trim();
  try {
    setAccess(await request('GET', 'v1/access', token));
    keepToken(token);
    byId('signin').close();
  } catch (err) {
    setText(byId('signin-wrong'), err.status === 403 ? 'This is not the token.' : err.message);
    byId('token').select();
  }
});

/* Colours. */

const theme = byId('theme');
theme.value = document.documentElement.dataset.theme || 'auto';
theme.addEventListener('change', () => {
  if (theme.value === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  try {
    localStorage.setItem('iserd-theme', theme.value);
  } catch { /* storage is switched off: it lasts as long as the page */ }
  dispatchEvent(new Event('themechange'));
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => dispatchEvent(new Event('themechange')));

/* Begin. */

byId('views').append(...MENU.map(([name, text]) => el('li', {}, el('a', { href: `#/${name}`, 'data-view': name, text }))));
byId('skip').addEventListener('click', (e) => {
  e.preventDefault();
  main.focus();
});
addEventListener('hashchange', () => show(true));
byId('access').hidden = true;
show(false);
