// The part of a timeline that the page holds, and how pages change it. No I/O and no clock.
//
// Secure holds the history; here are at most `HELD` messages of it, without a hole.

import type { Earlier, Message, Page } from "../door";
import { messageKey } from "./keys";

/** Messages in one page. */
export const PAGE = 60;
/** The most messages that are held. */
export const HELD = 240;
/** Messages of one author within this time stand under one head. */
export const TOGETHER_MS = 5 * 60 * 1000;

/** The held messages, oldest first, and whether there are others around them. */
export interface Rows {
  messages: readonly Message[];
  moreBefore: boolean;
  moreAfter: boolean;
  total: number;
  /** What stands before the first message, where that is held. */
  earlier: Earlier | null;
}

/** Nothing is held. */
export const EMPTY: Rows = { messages: [], moreBefore: false, moreAfter: false, total: 0, earlier: null };

/** What a page from the newest, the oldest or around the held messages makes of them. */
export const replaced = (page: Page): Rows => ({
  messages: page.messages,
  moreBefore: page.moreBefore,
  moreAfter: page.moreAfter,
  total: page.total,
  earlier: page.earlier,
});

/** The page before the first held message joins; what is then too much goes at the other end. */
export function older(rows: Rows, page: Page): Rows {
  const messages = [...page.messages, ...rows.messages];
  return {
    messages: messages.slice(0, HELD),
    moreBefore: page.moreBefore,
    moreAfter: rows.moreAfter || messages.length > HELD,
    total: page.total,
    earlier: page.earlier,
  };
}

/** The page after the last held message joins. */
export function newer(rows: Rows, page: Page): Rows {
  const messages = [...rows.messages, ...page.messages];
  const surplus = Math.max(0, messages.length - HELD);
  return {
    messages: messages.slice(surplus),
    moreBefore: rows.moreBefore || surplus > 0,
    moreAfter: page.moreAfter,
    total: page.total,
    earlier: surplus > 0 ? null : rows.earlier,
  };
}

/** Messages of others in `fresh` that were not held before and stand above one that was. */
export function late(rows: Rows, fresh: Rows): number {
  const known = new Set(rows.messages.map((message) => messageKey(message.id)));
  const isKnown = (message: Message) => known.has(messageKey(message.id));
  const first = fresh.messages.findIndex(isKnown);
  const last = fresh.messages.findLastIndex(isKnown);
  if (first < 0) return 0;
  const between = fresh.messages.slice(first, last);
  return between.filter((message) => !message.own && !isKnown(message)).length;
}

/** Messages of others below the last one that was held before. */
export function arrived(rows: Rows, fresh: Rows): readonly Message[] {
  const last = rows.messages.at(-1);
  if (!last || rows.moreAfter) return [];
  const at = fresh.messages.findIndex((m) => messageKey(m.id) === messageKey(last.id));
  return at < 0 ? [] : fresh.messages.slice(at + 1).filter((message) => !message.own);
}

/** The oldest of the newest `unread` messages of others; none when not all of them are held. */
export function firstUnread(rows: Rows, unread: number): string | null {
  if (unread === 0 || rows.moreAfter) return null;
  let left = unread;
  for (const message of rows.messages.toReversed()) {
    if (!message.own) left -= 1;
    if (left === 0) return messageKey(message.id);
  }
  return null;
}

/** A message as a row: `head` when the author's name stands above it. */
export interface Row {
  key: string;
  message: Message;
  head: boolean;
  unreadFrom: boolean;
}

/** All rows of one day, under one date. */
export interface Day {
  key: string;
  ms: number;
  rows: Row[];
}

/** Gathers messages under days and authors. `dayOf` names the day of a time, in local time. */
export function days(
  messages: readonly Message[],
  unreadFrom: string | null,
  dayOf: (ms: number) => string,
): Day[] {
  const days: Day[] = [];
  let before: Message | undefined;
  for (const message of messages) {
    const name = dayOf(message.sentMs);
    let day = days.at(-1);
    if (day?.key !== name) {
      // The clock of an author is clamped, so that days never go back and forth.
      day = { key: name, ms: message.sentMs, rows: [] };
      days.push(day);
      before = undefined;
    }
    const key = messageKey(message.id);
    const goesOn =
      before !== undefined &&
      before.user === message.user &&
      before.id.device === message.id.device &&
      message.sentMs - before.sentMs < TOGETHER_MS &&
      message.missingBefore === 0 &&
      key !== unreadFrom;
    day.rows.push({ key, message, head: !goesOn, unreadFrom: key === unreadFrom });
    before = message;
  }
  return days;
}
