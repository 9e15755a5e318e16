// A person is there: told at a bounded rate, however fast the pointer moves.

/** Between two times that it is told, at least, in milliseconds: as `Command::PRESENCE_MS` says. */
export const PRESENCE_MS = 20_000;

/** Calls `tell` at once, and then at most once in [`PRESENCE_MS`]. */
export function bounded(tell: () => void, now: () => number = () => performance.now()): () => void {
  let told = -Infinity;
  return () => {
    const at = now();
    if (at - told < PRESENCE_MS) return;
    told = at;
    tell();
  };
}
