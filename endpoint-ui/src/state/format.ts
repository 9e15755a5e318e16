// Times, sizes and fingerprints for people, in the language of the system.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const weekday = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
});
const dated = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** The day of a time, in local time, as a sortable name. */
export function dayOf(ms: number): string {
  const date = new Date(ms);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Hours and minutes. */
export const time = (ms: number): string => clock.format(ms);

/** Date and time in full. */
export const moment = (ms: number): string => full.format(ms);

/** A day's head: today, yesterday, the weekday, or the date in full when it is long ago. */
export function dayHead(ms: number, nowMs: number): string {
  const midnight = (at: number) => new Date(at).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(ms) - midnight(nowMs)) / 86_400_000);
  if (days === 0 || days === -1) {
    const word = relative.format(days, "day");
    return word.charAt(0).toUpperCase() + word.slice(1);
  }
  return days > -300 ? weekday.format(ms) : dated.format(ms);
}

/** The date of a time. */
export const date = (ms: number): string => dated.format(ms);

/** A fingerprint in 16 groups of four, to be compared in full. */
export const fingerprint = (hex: string): string[] => hex.match(/.{1,4}/g) ?? [];

/** One or two letters for an avatar. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/u);
  const letters = [words[0], words.length > 1 ? words.at(-1) : undefined];
  return letters.map((word) => [...(word ?? "")][0] ?? "").join("").toUpperCase();
}

/** A colour of its own for each name: a hue in degrees. */
export function hue(name: string): number {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(name)) {
    hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  }
  // Short names differ in few bits; this spreads them over all.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
  return (hash ^ (hash >>> 13)) % 360;
}

/** Bytes of a text in UTF-8. */
export const bytes = (text: string): number => new TextEncoder().encode(text).length;
