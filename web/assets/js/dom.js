// Elements and texts. Whatever the daemon tells goes into text nodes and attributes,
// never into markup.

/** The element of an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. Properties: `class`, `text`, `on` (event handlers by name), and
 * attributes; null, undefined and false leave an attribute out.
 */
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') e.className = value;
    else if (name === 'text') e.textContent = value;
    else if (name === 'on') for (const [type, f] of Object.entries(value)) e.addEventListener(type, f);
    else e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

/** Sets a text where it differs: what is selected or read out stays. */
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

/** Sets a class that depends on a condition. */
export function setClass(e, name, on) {
  if (e.classList.contains(name) !== on) e.classList.toggle(name, on);
}

/** Sets an attribute, or removes it when the value is null. */
export function setAttr(e, name, value) {
  if (value === null) {
    if (e.hasAttribute(name)) e.removeAttribute(name);
  } else if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}

/** A small label with a colour: good, bad, warn or plain. */
export const badge = (text, kind = 'plain') => el('span', { class: `badge ${kind}`, text });

/** Shows a badge in e, made anew only when it differs. */
export function setBadge(e, text, kind) {
  const b = e.firstElementChild;
  if (b && b.textContent === text && b.className === `badge ${kind}`) return;
  e.replaceChildren(badge(text, kind));
}

/** Reads a text out to who cannot see it. */
export function say(text) {
  const log = byId('spoken');
  log.append(el('p', { text }));
  while (log.childElementCount > 20) log.firstElementChild.remove();
}
