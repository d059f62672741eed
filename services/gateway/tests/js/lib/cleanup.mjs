// What a test file opened and has not closed, so that nothing outlives it, whatever failed.

const open = new Set();

/** Remembers how to close something; returns a function that forgets it. */
export function onEnd(close) {
  open.add(close);
  return () => open.delete(close);
}

export async function closeAll() {
  const all = [...open];
  open.clear();
  await Promise.all(all.map((close) => close()));
}
