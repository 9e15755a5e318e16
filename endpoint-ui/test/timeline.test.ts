// The open channel against a backend that answers late and changes meanwhile.

import { afterEach, expect, test, vi } from "vitest";
import type { Anchor, Message } from "../src/door";

const channel = { team: { origin: 1, org: 2, team: 3 }, channel: 1 };
const other = { ...channel, channel: 2 };
let history: Message[] = [];
let pulls: Anchor[] = [];
let gate: Promise<void> = Promise.resolve();

vi.mock("../src/runtime", () => ({
  ask: async (command: { command: string; anchor: Anchor; count: number }) => {
    if (command.command !== "timeline") return undefined;
    pulls.push(command.anchor);
    await gate;
    const { anchor, count } = command;
    const at = "id" in anchor ? history.findIndex((m) => m.id.number === anchor.id.number) : 0;
    const ends = { newest: history.length, oldest: count, before: at, after: at + 1 + count };
    const to = Math.min(history.length, ends[anchor.at]);
    const from = anchor.at === "after" ? at + 1 : Math.max(0, to - count);
    const messages = history.slice(from, to);
    const around = { moreBefore: from > 0, moreAfter: to < history.length };
    return { channel, messages, ...around, total: history.length, earlier: null };
  },
}));

const { Timeline } = await import("../src/state/timeline.svelte");

function say(number: number, own = false): void {
  history.push({
    id: { channel, device: own ? 0 : 1, number },
    user: "Bob",
    deviceName: "desk",
    sentMs: number,
    text: `${number}`,
    own,
    delivery: "origin",
    failure: "",
    missingBefore: 0,
    disconnected: false,
  });
}

afterEach(() => {
  history = [];
  pulls = [];
  gate = Promise.resolve();
});

test("a message that comes while looking at the end is held and announced", async () => {
  for (let n = 0; n < 100; n += 1) say(n);
  const timeline = new Timeline();
  await timeline.open(channel, 0);
  expect(timeline.rows.messages.length).toBe(60);
  say(100);
  await timeline.changed(channel);
  expect(timeline.rows.messages.at(-1)?.text).toBe("100");
  expect(timeline.announced?.text).toBe("100");
  await timeline.changed(other);
  expect(pulls.length).toBe(2);
});

test("many hints during one pull become one more pull", async () => {
  say(1);
  const timeline = new Timeline();
  await timeline.open(channel, 0);
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  const first = timeline.changed(channel);
  await new Promise((resolve) => setTimeout(resolve));
  for (let n = 2; n < 20; n += 1) {
    say(n);
    void timeline.changed(channel);
  }
  open();
  await first;
  expect(pulls.length).toBe(3);
  expect(timeline.rows.messages.length).toBe(19);
});

test("an answer for a channel that was left is dropped", async () => {
  say(1);
  const timeline = new Timeline();
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  const opening = timeline.open(channel, 0);
  timeline.close();
  open();
  await opening;
  expect(timeline.rows.messages).toEqual([]);
  expect(timeline.loaded).toBe(false);
});

test("unread messages far above are found by paging up", async () => {
  for (let n = 0; n < 600; n += 1) say(n);
  const timeline = new Timeline();
  await timeline.open(channel, 50);
  expect(timeline.unreadFrom).toContain(".550");
  await timeline.open(channel, 300);
  expect(timeline.unreadAbove).toBe(300);
  await timeline.toUnread();
  expect(timeline.unreadAbove).toBe(0);
  expect(timeline.unreadFrom).not.toBeNull();
});

test("while reading far above, a change pulls only what is held", async () => {
  for (let n = 0; n < 1000; n += 1) say(n);
  const timeline = new Timeline();
  await timeline.open(channel, 0);
  for (let n = 0; n < 8; n += 1) await timeline.older();
  const first = timeline.rows.messages[0];
  expect(timeline.rows.moreAfter).toBe(true);
  say(1000);
  await timeline.changed(channel);
  expect(timeline.rows.messages[0]).toEqual(first);
  expect(timeline.rows.messages.length).toBe(240);
  expect(timeline.rows.total).toBe(1001);
});
