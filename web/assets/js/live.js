// The stream of events, and what becomes of it when the daemon goes away.

const EVERY = 2; // seconds between documents
const SILENT = 12e3; // after so many milliseconds without a byte the connection counts as lost
const EVENTS = ['fault', 'refusal', 'config', 'lost'];
const DOCUMENTS = ['status', 'portals', 'targets', 'sessions', 'actors'];

/**
 * Follows the daemon. The handler gets document(name, value, milliseconds),
 * event(name, value), up() each time that a stream begins, and down() when one is lost.
 */
export class Live {
  #handler;
  #topics = '';
  #source = null;
  #timer = 0;
  #attempts = 0;
  #heard = 0;

  constructor(handler) {
    this.#handler = handler;
    setInterval(() => {
      if (this.#source && performance.now() - this.#heard > SILENT) this.#lose();
    }, 1000);
    addEventListener('online', () => this.#begin());
  }

  /** Asks for other documents; those not asked for do not come. */
  want(topics) {
    const list = topics.join(',');
    if (list === this.#topics) return;
    this.#topics = list;
    this.#begin();
  }

  #begin() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#heard = performance.now();
    const s = new EventSource(`v1/events?with=${this.#topics}&every=${EVERY}`);
    this.#source = s;
    s.addEventListener('open', () => {
      this.#heard = performance.now();
      this.#attempts = 0;
      this.#handler.up();
    });
    s.addEventListener('error', () => this.#source === s && this.#lose());
    for (const name of DOCUMENTS) {
      s.addEventListener(name, (e) => {
        this.#heard = performance.now();
        this.#handler.document(name, JSON.parse(e.data), Number(e.lastEventId));
      });
    }
    for (const name of EVENTS) {
      s.addEventListener(name, (e) => {
        this.#heard = performance.now();
        this.#handler.event(name, JSON.parse(e.data));
      });
    }
  }

  #lose() {
    this.#source.close();
    this.#source = null;
    this.#handler.down();
    this.#timer = setTimeout(() => this.#begin(), Math.min(500 * 2 ** this.#attempts++, 5000));
  }
}
