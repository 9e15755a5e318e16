// What one message shows.

import { render } from "svelte/server";
import { expect, test } from "vitest";
import type { Message as Shown } from "../src/door";
import { strings } from "../src/strings";
import Message from "../src/view/Message.svelte";

function shown(more: Partial<Shown>): string {
  const channel = { team: { origin: 1, org: 2, team: 3 }, channel: 1 };
  const message: Shown = {
    id: { channel, device: 1, number: 0 },
    user: "Ada",
    deviceName: "desk",
    sentMs: 1000,
    text: "tea",
    own: false,
    delivery: "origin",
    failure: "",
    missingBefore: 0,
    disconnected: false,
    ...more,
  };
  return render(Message, { props: { row: { key: "a", message, head: true, unreadFrom: false } } }).body;
}

test("a message of a branch that lost says so", () => {
  expect(shown({})).not.toContain(strings.timeline.disconnected);
  expect(shown({ disconnected: true })).toContain(strings.timeline.disconnected);
});

test("a gap before a message, and why one was refused, are said", () => {
  expect(shown({ missingBefore: 3 })).toContain(strings.timeline.missing(3, "Ada"));
  expect(shown({ delivery: "failed", failure: "a quota is used up" })).toContain("a quota is used up");
});
