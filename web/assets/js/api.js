// Requests to the daemon. Paths are relative: a proxy may serve the page below any path.

const KEY = 'iserd-token';

/** The token of an operator, empty if there is none. */
let token = '';
try {
  token = sessionStorage.getItem(KEY) || '';
} catch { /* storage is switched off: the token lasts as long as the page */ }

export const hasToken = () => token !== '';

/** Keeps a token for this tab; an empty one forgets it. */
export function keepToken(t) {
  token = t;
  try {
    if (t) sessionStorage.setItem(KEY, t);
    else sessionStorage.removeItem(KEY);
  } catch { /* see above */ }
}

/** What the daemon answered instead of doing what was asked. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.error || `HTTP ${status}`);
    this.status = status;
    this.diagnostics = problem.diagnostics || [];
  }
}

/** Sends a request; returns the answer, null if it is empty. Throws Refused, or an Error when nobody answers. */
export async function request(method, path, withToken = token) {
  let resp;
  try {
    resp = await fetch(path, {
      method, cache: 'no-store', credentials: 'same-origin',
      headers: withToken ? { 'Iserd-Token': withToken } : {},
    });
  } catch {
    throw new Error('The daemon does not answer.');
  }
  const text = await resp.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = { error: text.trim() };
  }
  if (!resp.ok) throw new Refused(resp.status, body || {});
  return body;
}

export const get = (path) => request('GET', path);

export const lunPath = (target, lun) => `v1/targets/${encodeURIComponent(target)}/luns/${lun}`;
