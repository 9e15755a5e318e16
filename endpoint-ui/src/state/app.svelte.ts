// What the page knows: whether Secure is unlocked, the network, the teams and the open channel.

import type { Channel, ChannelId, Connectivity, Lock, LockCause, Profile, Team, TeamId } from "../door";
import { ask, type Hint, listen, Refused } from "../runtime";
import { channelKey, teamKey } from "./keys";
import { bounded } from "./presence";
import { Timeline } from "./timeline.svelte";

/** A line that shows for a while. */
export interface Notice {
  id: number;
  text: string;
}

const NOTICES = 4;
const NOTICE_MS = 12_000;

class App {
  /** `null` until Secure has answered. */
  lock = $state<Lock | null>(null);
  lockCause = $state<LockCause>("start");
  profile = $state.raw<Profile | null>(null);
  isolation = $state("");
  version = $state("");
  connectivity = $state.raw<Connectivity>({ reach: "offline", relay: "", queued: 0 });
  teams = $state.raw<Team[]>([]);
  teamsLoaded = $state(false);
  channels = $state.raw<Record<string, Channel[]>>({});
  team = $state<string | null>(null);
  notices = $state.raw<Notice[]>([]);
  readonly timeline = new Timeline();
  /** The text that was begun in each channel; forgotten when locked. */
  readonly drafts = new Map<string, string>();
  readonly #asked = new Set<string>();

  #notices = 0;

  /** Begins to listen; the first hint asks for everything. */
  start(): void {
    listen((hint) => void this.#heard(hint)).catch((error) => this.tell(error));
  }

  /** The selected team. */
  get current(): Team | null {
    return this.teams.find((team) => teamKey(team.id) === this.team) ?? null;
  }

  /** The selected team's channels. */
  get currentChannels(): Channel[] {
    return this.team === null ? [] : (this.channels[this.team] ?? []);
  }

  /** The open channel. */
  get channel(): Channel | null {
    const open = this.timeline.channel;
    if (!open) return null;
    const key = channelKey(open);
    const channels = this.channels[teamKey(open.team)] ?? [];
    return channels.find((channel) => channelKey(channel.id) === key) ?? null;
  }

  /** Unread messages in a team. */
  unread(team: Team): number {
    return (this.channels[teamKey(team.id)] ?? []).reduce((sum, c) => sum + c.unread, 0);
  }

  /** Whether this device may create teams. */
  get admin(): boolean {
    return this.teams.some((team) => team.admin);
  }

  /** Shows a line. */
  tell(what: unknown): void {
    if (what instanceof Refused && what.code === "locked") return;
    const text = what instanceof Error ? what.message : String(what);
    const id = ++this.#notices;
    const others = this.notices.filter((notice) => notice.text !== text);
    this.notices = [...others, { id, text }].slice(-NOTICES);
    setTimeout(() => this.dismiss(id), NOTICE_MS);
  }

  /** Takes a line away. */
  dismiss(id: number): void {
    this.notices = this.notices.filter((notice) => notice.id !== id);
  }

  /** Asks for everything there is to show. */
  async refresh(): Promise<void> {
    const status = await ask({ command: "status" });
    this.profile = status.profile;
    this.lockCause = status.lockCause;
    this.isolation = status.isolation;
    this.version = status.version;
    this.connectivity = status.connectivity;
    this.#locked(status.lock);
    if (status.lock === "unlocked") {
      await this.refreshTeams();
      const open = this.timeline.channel;
      if (open) await this.timeline.changed(open);
    }
  }

  /** Asks for the teams and all their channels. */
  async refreshTeams(): Promise<void> {
    const teams = await ask({ command: "teams" });
    // An organisation's administration is where one rarely goes: it comes last.
    this.teams = teams.toSorted((a, b) => Number(isAdministration(a)) - Number(isAdministration(b)));
    const joined = this.teams.filter((team) => team.stage === "joined");
    await Promise.all(joined.map((team) => this.#refreshChannels(team.id)));
    this.teamsLoaded = true;
    if (!this.current) await this.#selectSome();
    else if (!this.timeline.channel) await this.#openSome();
  }

  /** Selects a team, and opens its first unread channel, or its first. */
  async select(team: Team): Promise<void> {
    if (this.team === teamKey(team.id) && this.timeline.channel) return;
    this.team = teamKey(team.id);
    this.timeline.close();
    await this.#openSome();
  }

  /** Opens a channel. */
  async open(channel: Channel): Promise<void> {
    this.team = teamKey(channel.id.team);
    await this.timeline.open(channel.id, channel.unread).catch((error) => this.tell(error));
  }

  /** Opens the channel before or after the open one; `unread`: the next that has unread messages. */
  async step(by: 1 | -1, unread: boolean): Promise<void> {
    const all = this.teams.flatMap((team) => this.channels[teamKey(team.id)] ?? []);
    const open = this.timeline.channel ? channelKey(this.timeline.channel) : "";
    const at = all.findIndex((channel) => channelKey(channel.id) === open);
    for (let n = 1; n <= all.length; n += 1) {
      const channel = all[(at + by * n + all.length * 2) % all.length];
      if (channel && (!unread || channel.unread > 0)) {
        await this.open(channel);
        return;
      }
    }
  }

  /** Locks. */
  async lockNow(): Promise<void> {
    await ask({ command: "lock" }).catch((error) => this.tell(error));
  }

  /** A key, the pointer, scrolling: who only reads is not to be locked out. Told now and then. */
  readonly present = bounded(() => {
    // One that is locked needs nobody, and one that is started again is asked later.
    if (this.lock === "unlocked") ask({ command: "present" }).catch(() => {});
  });

  /** Everything of the current profile that is still shown goes when it locks. */
  #locked(lock: Lock): void {
    this.lock = lock;
    if (lock === "unlocked") return;
    this.profile = null;
    this.teams = [];
    this.teamsLoaded = false;
    this.channels = {};
    this.team = null;
    this.drafts.clear();
    this.timeline.close();
  }

  async #heard(hint: Hint): Promise<void> {
    try {
      await this.#follow(hint);
    } catch (error) {
      this.tell(error);
    }
  }

  async #follow(hint: Hint): Promise<void> {
    switch (hint.event) {
      case "door":
        return this.refresh();
      case "lock":
        this.#locked(hint.value);
        return this.refresh();
      case "teams":
        return this.refreshTeams();
      case "channels":
        return this.#refreshChannels(hint.value);
      case "messages":
        await Promise.all([this.timeline.changed(hint.value), this.#refreshChannels(hint.value.team)]);
        return;
      case "connectivity":
        this.connectivity = hint.value;
        return;
      case "relays":
        return this.#askAboutRelays();
      case "notice":
        this.tell(hint.value);
    }
  }

  /** A relay that nobody has judged is said once; it is judged in the terminal client. */
  async #askAboutRelays(): Promise<void> {
    for (const relay of await ask({ command: "relays" })) {
      if (relay.standing === "unknown" && !this.#asked.has(relay.key)) {
        this.tell(`Found a relay on your network: ${relay.words}. Compare the words, then: treeline-chat relays trust`);
      } else if (relay.standing === "changed" && !this.#asked.has(relay.key)) {
        this.tell(`The relay ${relay.name} shows another key than before. It is not used.`);
      }
      this.#asked.add(relay.key);
    }
  }

  async #refreshChannels(team: TeamId): Promise<void> {
    const channels = await ask({ command: "channels", team });
    this.channels = { ...this.channels, [teamKey(team)]: channels };
    if (this.team === teamKey(team) && !this.timeline.channel) await this.#openSome();
  }

  async #selectSome(): Promise<void> {
    const usable = (team: Team) => (this.channels[teamKey(team.id)] ?? []).length > 0;
    const team = this.teams.find(usable) ?? this.teams[0];
    if (team) await this.select(team);
  }

  async #openSome(): Promise<void> {
    const channels = this.currentChannels;
    const channel = channels.find((c) => c.unread > 0) ?? channels[0];
    if (channel) await this.open(channel);
  }
}

/** Whether a team is its organisation's administration. */
export const isAdministration = (team: Team): boolean => team.id.team === 1;

/** The one state of the page. */
export const app = new App();

/** Whether a channel is the open one. */
export function isOpen(id: ChannelId): boolean {
  const open = app.timeline.channel;
  return open !== null && channelKey(open) === channelKey(id);
}
