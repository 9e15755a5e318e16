// A person is there: told at a bounded rate, however fast the pointer moves.

import { PRESENCE_MS } from "../door";

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
