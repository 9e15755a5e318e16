// The open channel's timeline: pulls pages and keeps the held rows.

import type { Anchor, ChannelId, Message, Page } from "../door";
import { ask } from "../runtime";
import { channelKey, messageKey } from "./keys";
import { arrived, EMPTY, firstUnread, HELD, late, newer, older, PAGE, replaced } from "./rows";

/** The timeline of at most one channel. */
export class Timeline {
  channel = $state.raw<ChannelId | null>(null);
  rows = $state.raw(EMPTY);
  /** Whether the first page is here. */
  loaded = $state(false);
  /** The message that "New" stands above, for as long as the channel is open. */
  unreadFrom = $state<string | null>(null);
  /** Unread messages above what is held. */
  unreadAbove = $state(0);
  /** Messages that arrived late, above others. */
  late = $state(0);
  /** The last message of someone else that arrived while looking, to be announced. */
  announced = $state.raw<Message | null>(null);

  #opened = 0;
  #busy = false;
  #stale = false;
  #marked = "";

  /** Opens a channel at its newest messages; `unread` of them are new. */
  async open(channel: ChannelId, unread: number): Promise<void> {
    this.close();
    this.channel = channel;
    const opened = this.#opened;
    const count = Math.min(HELD, Math.max(PAGE, unread + PAGE / 2));
    const page = await this.#page({ at: "newest" }, count);
    if (opened !== this.#opened) return;
    this.rows = replaced(page);
    this.unreadFrom = firstUnread(this.rows, unread);
    this.unreadAbove = this.unreadFrom === null ? unread : 0;
    this.loaded = true;
  }

  /** Holds nothing. */
  close(): void {
    this.#opened += 1;
    this.#stale = false;
    this.channel = null;
    this.rows = EMPTY;
    this.loaded = false;
    this.unreadFrom = null;
    this.unreadAbove = 0;
    this.late = 0;
    this.announced = null;
    this.#marked = "";
  }

  /** Something in a channel changed. */
  async changed(channel: ChannelId): Promise<void> {
    if (!this.channel || channelKey(channel) !== channelKey(this.channel)) return;
    this.#stale = true;
    await this.#alone(async () => {});
  }

  /** Pulls the page above the held messages. */
  async older(): Promise<void> {
    const first = this.rows.messages[0];
    if (!first || !this.rows.moreBefore) return;
    await this.#alone(async (opened) => {
      const page = await this.#page({ at: "before", id: first.id }, PAGE);
      if (opened === this.#opened) this.rows = older(this.rows, page);
    });
  }

  /** Pulls the page below the held messages. */
  async newer(): Promise<void> {
    const last = this.rows.messages.at(-1);
    if (!last || !this.rows.moreAfter) return;
    await this.#alone(async (opened) => {
      const page = await this.#page({ at: "after", id: last.id }, PAGE);
      if (opened === this.#opened) this.rows = newer(this.rows, page);
    });
  }

  /** Goes to the newest messages. */
  async newest(): Promise<void> {
    if (!this.rows.moreAfter) return;
    await this.#alone(async (opened) => {
      const page = await this.#page({ at: "newest" }, PAGE);
      if (opened === this.#opened) this.rows = replaced(page);
    });
  }

  /** Goes up until the oldest unread message is held, or as far as pages are held. */
  async toUnread(): Promise<void> {
    while (this.unreadAbove > 0 && this.rows.moreBefore) {
      const before = this.rows.messages[0];
      await this.older();
      if (this.rows.messages[0] === before) break;
      const others = this.rows.messages.filter((message) => !message.own);
      if (others.length >= this.unreadAbove || this.rows.moreAfter) {
        const first = others.at(-this.unreadAbove) ?? others[0];
        this.unreadFrom = first ? messageKey(first.id) : null;
        this.unreadAbove = 0;
      }
    }
  }

  /** The newest held message was seen. */
  async seen(): Promise<void> {
    const newest = this.rows.messages.at(-1);
    if (!newest || this.rows.moreAfter) return;
    const key = messageKey(newest.id);
    if (key === this.#marked) return;
    this.#marked = key;
    await ask({ command: "markRead", upTo: newest.id });
  }

  /** One pull at a time; what changed meanwhile is pulled once more afterwards. */
  async #alone(pull: (opened: number) => Promise<void>): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      await pull(this.#opened);
      while (this.#stale && this.channel) {
        this.#stale = false;
        await this.#refresh();
      }
    } finally {
      this.#busy = false;
    }
  }

  async #refresh(): Promise<void> {
    const opened = this.#opened;
    const { messages, moreAfter } = this.rows;
    const first = messages[0];
    const follow = !moreAfter || !first;
    const count = Math.min(HELD, Math.max(PAGE, messages.length + PAGE / 2));
    const page = follow
      ? await this.#page({ at: "newest" }, count)
      : await this.#page({ at: "after", id: first.id }, HELD - 1);
    if (opened !== this.#opened) return;
    const fresh = follow
      ? replaced(page)
      : { ...replaced(page), messages: [first, ...page.messages], moreBefore: this.rows.moreBefore, earlier: this.rows.earlier };
    this.late += late(this.rows, fresh);
    this.announced = arrived(this.rows, fresh).at(-1) ?? this.announced;
    this.rows = fresh;
  }

  #page(anchor: Anchor, count: number): Promise<Page> {
    if (!this.channel) throw new Error("no channel is open");
    return ask({ command: "timeline", channel: this.channel, anchor, count });
  }
}
