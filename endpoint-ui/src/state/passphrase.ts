// A passphrase that is chosen, and changed.

import { ask, Refused } from "../runtime";
import { strings } from "../strings";

const LEAST = 8;

/** Fails with what is wrong with a new passphrase; Secure may ask for more. */
export function check(fresh: string, again: string): void {
  if ([...fresh].length < LEAST) throw new Error(strings.profile.short);
  if (fresh !== again) throw new Error(strings.profile.differ);
}

/** Sets another passphrase; fails with a line for a person. */
export async function change(old: string, fresh: string, again: string): Promise<void> {
  check(fresh, again);
  try {
    await ask({ command: "changePassphrase", old, new: fresh });
  } catch (refusal) {
    // Secure's own line says how long to wait after too many.
    const wrong = refusal instanceof Refused && refusal.code === "wrongPassphrase";
    throw wrong && !refusal.message.includes("try again in") ? new Error(strings.security.wrong) : refusal;
  }
}
