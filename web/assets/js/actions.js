// What an operator may do, each asked for once more before it is done.

import { byId, say, setText } from './dom.js';
import { request, lunPath } from './api.js';
import { count, short } from './format.js';

/** Takes the answer to the question that is asked now. */
let pending = null;

/** Asks a question in a dialog. It resolves to null when it is denied, else to whether the option was taken. */
export function ask({ title, text, yes, option }) {
  const dialog = byId('ask');
  pending?.(null);
  setText(byId('ask-title'), title);
  setText(byId('ask-text'), text);
  setText(byId('ask-yes'), yes);
  byId('ask-option').hidden = !option;
  setText(byId('ask-check-text'), option || '');
  byId('ask-check').checked = false;
  dialog.returnValue = 'no';
  dialog.showModal();
  byId('ask-no').focus();
  return new Promise((done) => { pending = done; });
}

byId('ask').addEventListener('close', (e) => {
  if (e.target.open) return; // late: this was the dialog before
  pending?.(e.target.returnValue === 'yes' ? byId('ask-check').checked : null);
  pending = null;
});

/** Shows how something went, to eyes and ears. */
export function tell(text, bad = false) {
  const toast = byId('toast');
  toast.className = bad ? 'banner bad' : 'banner good';
  toast.replaceChildren(text);
  toast.hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { toast.hidden = true; }, bad ? 20e3 : 6e3);
}

async function attempt(f, done) {
  try {
    await f();
    tell(done);
  } catch (e) {
    tell(e.message, true);
    say(e.message);
  }
}

/** Takes a LUN offline or online. */
export async function switchLUN(target, lun, offline) {
  const n = target.sessions;
  const who = n === 1 ? 'its session' : `its ${count(n)} sessions`;
  if (offline && await ask({
    title: `Take LUN ${lun.number} offline?`, yes: 'Take offline',
    text: `LUN ${lun.number} of ${target.name} answers NOT READY to ${n ? who : 'whoever asks'} until it is online again. What is under way ends first.`,
  }) === null) return;
  await attempt(() => request('POST', `${lunPath(target.name, lun.number)}/${offline ? 'offline' : 'online'}`),
    `LUN ${lun.number} of ${short(target.name)} is ${offline ? 'offline' : 'online'}.`);
}

/** Ends a session. */
export async function disconnect(s) {
  const force = await ask({
    title: 'Disconnect this session?', yes: 'Disconnect',
    text: `${s.initiator} is asked to log out of ${s.target || 'discovery'}. It may log in again at once.`,
    option: 'Close the connection without asking',
  });
  if (force === null) return;
  await attempt(() => request('DELETE', `v1/sessions/${s.tsih}${force ? '?force=true' : ''}`),
    force ? 'The connection is closed.' : 'The initiator is asked to log out.');
}
