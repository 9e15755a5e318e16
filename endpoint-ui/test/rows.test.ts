// How pages change the held part of a timeline.

import { describe, expect, test } from "vitest";
import type { Message, Page } from "../src/door";
import { messageKey } from "../src/state/keys";
import { arrived, days, EMPTY, firstUnread, HELD, late, newer, older, PAGE, replaced } from "../src/state/rows";

const channel = { team: { origin: 1, org: 2, team: 3 }, channel: 1 };

function message(number: number, more: Partial<Message> = {}): Message {
  const device = more.id?.device ?? 1;
  return {
    id: { channel, device, number },
    user: `user ${device}`,
    deviceName: "desk",
    sentMs: number * 1000,
    text: `message ${number}`,
    own: false,
    delivery: "origin",
    failure: "",
    missingBefore: 0,
    disconnected: false,
    ...more,
  };
}

const numbers = (messages: readonly Message[]) => messages.map((m) => m.id.number);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n);

function page(from: number, to: number, total: number): Page {
  const messages = range(from, to).map((n) => message(n));
  const earlier = from > 0 ? null : { joinedMs: 5, messages: 312 };
  return { channel, messages, moreBefore: from > 0, moreAfter: to < total, total, earlier };
}

describe("pages", () => {
  test("walking up and down a long history never leaves a hole, and holds no more than allowed", () => {
    const total = 1000;
    let rows = replaced(page(total - PAGE, total, total));
    while (rows.moreBefore) {
      const first = rows.messages[0]!.id.number;
      rows = older(rows, page(Math.max(0, first - PAGE), first, total));
      expect(rows.messages.length).toBeLessThanOrEqual(HELD);
      const from = rows.messages[0]!.id.number;
      expect(numbers(rows.messages)).toEqual(range(from, from + rows.messages.length));
    }
    expect(rows.messages[0]!.id.number).toBe(0);
    expect(rows.moreAfter).toBe(true);
    while (rows.moreAfter) {
      const next = rows.messages.at(-1)!.id.number + 1;
      rows = newer(rows, page(next, Math.min(total, next + PAGE), total));
      expect(rows.messages.length).toBeLessThanOrEqual(HELD);
    }
    expect(numbers(rows.messages)).toEqual(range(total - HELD, total));
    expect(rows.moreBefore).toBe(true);
  });

  test("messages that slipped in above are late, those below have arrived", () => {
    const before = replaced({ ...page(0, 0, 0), messages: [message(1), message(5), message(9)] });
    const fresh = { ...before, messages: [message(1), message(3), message(5), message(9), message(12)] };
    expect(late(before, fresh)).toBe(1);
    expect(numbers(arrived(before, fresh))).toEqual([12]);
    expect(late(EMPTY, fresh)).toBe(0);
    const own = { ...before, messages: [message(1), message(3, { own: true }), message(5)] };
    expect(late(before, own)).toBe(0);
  });
});

describe("unread", () => {
  const rows = {
    ...EMPTY,
    messages: [message(1), message(2, { own: true }), message(3), message(4, { own: true }), message(5)],
  };
  test("counts only messages of others", () => {
    expect(firstUnread(rows, 2)).toBe(messageKey(message(3).id));
    expect(firstUnread(rows, 0)).toBeNull();
  });
  test("is nowhere when it is above what is held", () => {
    expect(firstUnread(rows, 4)).toBeNull();
    expect(firstUnread({ ...rows, moreAfter: true }, 1)).toBeNull();
  });
});

describe("days", () => {
  const dayOf = (ms: number) => String(Math.floor(ms / 86_400_000));
  const minute = 60_000;
  test("a head stands above each author, after five minutes, and on each day", () => {
    const at = (number: number, sentMs: number, device = 1) =>
      message(number, { sentMs, id: { channel, device, number }, user: `user ${device}` });
    const all = [
      at(1, 0),
      at(2, 2 * minute),
      at(3, 8 * minute),
      at(4, 8 * minute, 2),
      at(5, 86_400_000, 2),
    ];
    const shown = days(all, null, dayOf);
    expect(shown.map((day) => day.rows.length)).toEqual([4, 1]);
    const heads = shown.flatMap((day) => day.rows.map((row) => row.head));
    expect(heads).toEqual([true, false, true, true, true]);
  });
  test("New begins a group", () => {
    const all = [message(1), message(2)];
    const key = messageKey(all[1]!.id);
    const [day] = days(all, key, dayOf);
    expect(day!.rows.map((row) => [row.head, row.unreadFrom])).toEqual([
      [true, false],
      [true, true],
    ]);
  });
});
