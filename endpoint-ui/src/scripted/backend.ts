// A backend without Secure, for a plain browser: a small world that answers, grows and echoes.
// Only in `--mode scripted`; a product build does not contain it.

import type { Answer, Channel, Command, Device, LockCause, Locking, Message, Refusal, Team } from "../door";
import type { Backend, Hint } from "../runtime";
import { channelKey, messageKey, teamKey } from "../state/keys";

const MINUTE = 60_000;
const DIGITS = "48213 00764 91125 77310 05528 64190";
const place = { origin: 0x52c1e0, org: 7 };
const words = [
  "The generator on the third floor is running again.",
  "Good. I will move the two patients back after lunch.",
  "Does anybody know where the spare radio is?\nIt was in the cupboard last week.",
  "In the drawer under the printer.",
  "Thank you!",
  "The water is back in wing B; please boil it until tomorrow.",
];

/**
 * Makes one. `?lock=empty|locked`, `?cause=person|idle|sleep` and `?teams=0` in the address choose where
 * it begins.
 */
export function backend(): Backend {
  const query = new URLSearchParams(location.search);
  const world = new World(query.get("lock") ?? "unlocked", query.get("teams") !== "0");
  world.cause = (query.get("cause") as LockCause | null) ?? "start";
  return {
    call: (command) => {
      // As through the window's process: values, not objects that are shared.
      const copy = structuredClone(command);
      return Promise.resolve().then(() => structuredClone(world.answer(copy)));
    },
    subscribe: (listener) => {
      world.listener = listener;
      listener({ event: "door" });
      return Promise.resolve();
    },
  };
}

class World {
  listener: (hint: Hint) => void = () => {};
  cause: LockCause = "start";
  #lock: "empty" | "locked" | "unlocked";
  /** Any but `wrong`, until one is chosen. */
  #passphrase: string | null = null;
  #locking: Locking = { idleMinutes: 0, onSuspend: true };
  #idle: ReturnType<typeof setTimeout> | undefined;
  #teams: Team[] = [];
  #channels = new Map<string, Channel[]>();
  #messages = new Map<string, Message[]>();
  #sent = new Map<number, Message>();

  constructor(lock: string, teams: boolean) {
    this.#lock = lock === "empty" || lock === "locked" ? lock : "unlocked";
    if (!teams) return;
    this.#team(2, "Ward 3", ["general", "night shift", "supplies"]);
    this.#team(3, "Building services", ["general"]);
    const [general, night] = this.#channels.get(teamKey(this.#teams[0]!.id))!;
    this.#fill(general!, 500, 2);
    this.#fill(night!, 30, 12);
  }

  answer(command: Command): Answer {
    switch (command.command) {
      case "status":
        return { answer: "status", value: this.#status() };
      case "createProfile":
      case "unlock":
        this.#opens(command.passphrase);
        this.#lock = "unlocked";
        this.#present();
        return { answer: "profile", value: this.#profile() };
      case "lock":
        this.#locks("person");
        return { answer: "done" };
      case "present":
        if (this.#lock !== "unlocked") throw refusal("locked", "the profile is locked");
        this.#present();
        return { answer: "done" };
      case "changePassphrase":
        this.#opens(command.old);
        this.#passphrase = command.new;
        return { answer: "done" };
      case "setLocking":
        this.#locking = command.locking;
        this.#present();
        return { answer: "done" };
      case "teams":
        return { answer: "teams", value: this.#teams };
      case "channels":
        return { answer: "channels", value: this.#channels.get(teamKey(command.team)) ?? [] };
      case "devices":
        return { answer: "devices", value: this.#devices() };
      case "timeline":
        return { answer: "page", value: this.#page(command) };
      case "send":
        return { answer: "sent", value: this.#send(command).id };
      case "markRead":
        this.#read(command);
        return { answer: "done" };
      case "connectivity":
        return { answer: "connectivity", value: this.#status().connectivity };
      case "createInvite":
        return { answer: "invite", value: this.#invite(`treeline-invite-${"c2VlZA".repeat(40)}`) };
      case "invites":
        return { answer: "invites", value: [] };
      case "requests":
        return { answer: "requests", value: [this.#request()] };
      case "preview":
        return { answer: "preview", value: this.#preview(command.team) };
      case "enter":
        return { answer: "team", value: this.#teams.find((team) => teamKey(team.id) === teamKey(command.team))! };
      case "readInvite":
        if (!command.invite.startsWith("treeline-invite-")) {
          throw refusal("configuration", "this is no invite: it begins with treeline-invite-");
        }
        return { answer: "invite", value: this.#invite(command.invite) };
      case "join":
        return { answer: "team", value: this.#team(4, "", [], "waitingForAdmin") };
      case "createTeam":
      case "createOrganisation":
        return { answer: "team", value: this.#team(5 + this.#teams.length, command.name, ["general"]) };
      case "createDirect":
        return { answer: "team", value: { ...this.#team(9 + this.#teams.length, command.name, ["general"]), direct: true } };
      case "createLink":
        return { answer: "link", value: `treeline-link-${"c2VlZA".repeat(80)}` };
      case "joinLink":
        return { answer: "teams", value: this.#teams };
      case "organisation":
        return { answer: "organisation", value: this.#organisation(`treeline-organisation-${"c2VlZA".repeat(40)}`) };
      case "allowOrganisation":
        return { answer: "organisation", value: this.#organisation(command.organisation) };
      case "createChannel":
        return { answer: "channel", value: this.#channel(command.team, command.name) };
      case "revokeInvite":
      case "decline":
      case "addDevice":
      case "linkDevice":
      case "unlinkDevice":
      case "revokeDevice":
      case "removeDevice":
      case "setRole":
      case "setAnnounce":
      case "trustRelay":
      case "refuseRelay":
      case "forgetRelay":
      case "serveLan":
        return { answer: "done" };
      case "locking":
        return { answer: "locking", value: this.#locking };
      case "relays":
        return { answer: "relays", value: [] };
    }
  }

  #opens(passphrase: string) {
    const right = this.#passphrase === null ? passphrase !== "wrong" : passphrase === this.#passphrase;
    if (!right) throw refusal("wrongPassphrase", "the passphrase does not open this profile");
  }

  #locks(cause: LockCause) {
    clearTimeout(this.#idle);
    this.#lock = "locked";
    this.cause = cause;
    this.listener({ event: "lock", value: "locked" });
  }

  /** Somebody is there: the time of idling begins anew. */
  #present() {
    clearTimeout(this.#idle);
    const minutes = this.#locking.idleMinutes;
    if (minutes > 0) this.#idle = setTimeout(() => this.#locks("idle"), minutes * MINUTE);
  }

  #profile() {
    const fingerprint = "8f3a21c7".repeat(8);
    return { user: "Alice Moreau", device: "ward laptop", fingerprint, digits: DIGITS };
  }

  #status() {
    const unlocked = this.#lock === "unlocked";
    return {
      lock: this.#lock,
      lockCause: this.cause,
      profile: unlocked ? this.#profile() : null,
      version: "0.1.0",
      isolation: "none: a plain browser",
      connectivity: { reach: "lan" as const, relay: "10.0.4.2:4470", queued: 2 },
    };
  }

  #organisation(text: string) {
    return { origin: 1, org: 1, name: "Harbour", text };
  }

  #invite(text: string) {
    return {
      id: "0123456789abcdef",
      text,
      qr: "TREELINE-INVITE:ONSWKZA",
      words: "lusab babad gutih tugad",
      team: { ...place, team: 4 },
      organisation: "Harbour Hospital",
      teamName: "Ward 3",
      admin: "41d0c9be".repeat(8),
      adminDigits: DIGITS,
      expiresMs: Date.now() + 7 * 24 * 60 * MINUTE,
      relays: [`10.0.4.2:4470#${"0".repeat(64)}`],
    };
  }

  #request() {
    return {
      fingerprint: "77e01b5d".repeat(8),
      digits: DIGITS,
      user: "Deniz Kaya",
      device: "phone",
      invite: "0123456789abcdef",
      cameMs: Date.now(),
      adding: false,
      refused: "",
    };
  }

  #preview(team: Team["id"]) {
    const devices: Device[] = this.#devices();
    return {
      team,
      name: "Ward 3",
      organisation: "Harbour Hospital",
      by: devices[0]!,
      role: "member" as const,
      devices,
    };
  }

  #devices() {
    const names = ["Alice Moreau/ward laptop", "Bob Okafor/desk", "Chiara Lind/tablet 2"];
    return names.map((name, device) => ({
      device,
      user: name.split("/")[0]!,
      name: name.split("/")[1]!,
      fingerprint: ["8f3a21c7", "41d0c9be", "77e01b5d"][device]!.repeat(8),
      digits: DIGITS,
      admin: device === 0,
      own: device === 0,
      role: (device === 0 ? "owner" : "member") as Device["role"],
      rank: device === 0 ? 0 : null,
      sinceEpoch: device,
      warning: "",
      lastSeenMs: 0,
      guestOf: null,
    }));
  }

  #team(number: number, name: string, channels: string[], stage: Team["stage"] = "joined"): Team {
    const team: Team = {
      id: { ...place, team: number },
      name,
      organisation: name === "" ? "" : "Harbour Hospital",
      epoch: 4,
      devices: 3,
      suite: "postQuantum",
      admin: stage === "joined",
      stage,
      ownDevice: 0,
      removed: false,
      waiting: 0,
      code: stage === "joined" ? "04417 88120 31906 55273 90062 17485" : "",
      refused: "",
      direct: false,
    };
    this.#teams = [...this.#teams, team];
    this.#channels.set(teamKey(team.id), []);
    for (const channel of channels) this.#channel(team.id, channel);
    this.listener({ event: "teams" });
    return team;
  }

  #channel(team: Team["id"], name: string): Channel {
    const channels = this.#channels.get(teamKey(team)) ?? [];
    const id = { team, channel: channels.length + 1 };
    const channel = { id, name, messages: 0, unread: 0, newestMs: 0, announce: false };
    this.#channels.set(teamKey(team), [...channels, channel]);
    this.#messages.set(channelKey(id), []);
    return channel;
  }

  #fill(channel: Channel, count: number, unread: number) {
    const start = Date.now() - count * 7 * MINUTE;
    for (let n = 0; n < count; n += 1) {
      const author = this.#devices()[n === count - 1 ? 1 : [0, 0, 1, 2, 2][n % 5]!]!;
      this.#append(channel, author.device, words[n % words.length]!, start + n * 7 * MINUTE);
    }
    channel.unread = unread;
  }

  #append(channel: Channel, device: number, text: string, sentMs: number): Message {
    const messages = this.#messages.get(channelKey(channel.id))!;
    const author = this.#devices()[device]!;
    const message: Message = {
      id: { channel: channel.id, device, number: messages.length },
      user: author.user,
      deviceName: author.name,
      sentMs,
      text,
      own: device === 0,
      delivery: device === 0 ? (["origin", "cloud", "lan", "queued"] as const)[messages.length % 4]! : "origin",
      failure: "",
      missingBefore: 0,
      disconnected: false,
    };
    messages.push(message);
    channel.messages = messages.length;
    channel.newestMs = sentMs;
    return message;
  }

  #find(id: Channel["id"]): Channel {
    const channels = this.#channels.get(teamKey(id.team)) ?? [];
    const found = channels.find((channel) => channelKey(channel.id) === channelKey(id));
    if (!found) throw refusal("notFound", "there is no such channel");
    return found;
  }

  #send(command: Extract<Command, { command: "send" }>): Message {
    const known = this.#sent.get(command.token);
    if (known) return known;
    const message = this.#append(this.#find(command.channel), 0, command.text, Date.now());
    message.delivery = "queued";
    this.#sent.set(command.token, message);
    this.listener({ event: "messages", value: command.channel });
    setTimeout(() => {
      message.delivery = "lan";
      this.listener({ event: "messages", value: command.channel });
    }, 400);
    return message;
  }

  #read(command: Extract<Command, { command: "markRead" }>) {
    this.#find(command.upTo.channel).unread = 0;
    this.listener({ event: "channels", value: command.upTo.channel.team });
  }

  #page(command: Extract<Command, { command: "timeline" }>) {
    const all = this.#messages.get(channelKey(command.channel)) ?? [];
    const { anchor, count } = command;
    const key = "id" in anchor ? messageKey(anchor.id) : "";
    const at = all.findIndex((message) => messageKey(message.id) === key);
    const ends = { newest: all.length, oldest: count, before: at, after: at + 1 + count };
    const to = Math.min(all.length, ends[anchor.at]);
    const from = anchor.at === "after" ? at + 1 : Math.max(0, to - count);
    return {
      channel: command.channel,
      messages: all.slice(from, to),
      moreBefore: from > 0,
      moreAfter: to < all.length,
      total: all.length,
      // Its second team is one that this device came into later.
      earlier: from === 0 && command.channel.team.team === 3 ? { joinedMs: Date.now() - 90 * MINUTE, messages: 312 } : null,
    };
  }
}

function refusal(code: Refusal["code"], text: string): Refusal {
  return { code, text };
}
