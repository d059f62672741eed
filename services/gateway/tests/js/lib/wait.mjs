// Waiting for what must happen. Every wait has a deadline that names what was missing, so that a
// failing test says what did not arrive. Deadlines are generous: they end a hang, they never measure.

// PATIENCE multiplies them, for crowds that keep the machine busy for long.
export const DEADLINE = 20_000 * Number(process.env.PATIENCE ?? 1);

/** The value of `promise`, or an error that names `what` after `ms` milliseconds. */
export async function within(promise, what, ms = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The arguments of the next `event` of `emitter`. */
export function nextEvent(emitter, event, ms = DEADLINE) {
  return within(new Promise((resolve) => emitter.once(event, (...args) => resolve(args))), `event "${event}"`, ms);
}

/** A list that can be awaited: things are pushed as they arrive and taken in order. */
export class Inbox {
  constructor(name) {
    this.name = name;
    this.items = [];
    this.waiting = [];
  }

  push(item) {
    const take = this.waiting.shift();
    if (take) take(item);
    else this.items.push(item);
  }

  next(what = "the next item", ms = DEADLINE) {
    if (this.items.length > 0) return Promise.resolve(this.items.shift());
    let take;
    const item = new Promise((resolve) => this.waiting.push((take = resolve)));
    return within(item, `${what} on ${this.name}`, ms).catch((error) => {
      this.waiting = this.waiting.filter((other) => other !== take);
      throw error;
    });
  }

  async take(count, what) {
    const items = [];
    while (items.length < count) items.push(await this.next(`${what ?? "item"} ${items.length + 1} of ${count}`));
    return items;
  }
}

/** Asks again until `condition` holds; for what nobody announces. */
export async function until(condition, what, ms = DEADLINE) {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A promise with its resolver, for "when this has happened". */
export function deferred() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}
