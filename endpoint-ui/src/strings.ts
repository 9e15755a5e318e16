// Every word that the page shows, in one place.

import type { Connectivity, Delivery } from "./door";
import type { Action } from "./state/shortcuts";

const many = (n: number, one: string, other: string): string =>
  `${n.toLocaleString()} ${n === 1 ? one : other}`;

const delivery: Record<Delivery, string> = {
  failed: "Not delivered",
  queued: "Waiting on this device",
  lan: "On the local relay",
  cloud: "In the cloud",
  origin: "At the origin",
};

const actions: Record<Action, string> = {
  palette: "Go to a channel or a command",
  previousChannel: "Channel above",
  nextChannel: "Channel below",
  previousUnread: "Unread channel above",
  nextUnread: "Unread channel below",
  nextRegion: "Next part of the window",
  previousRegion: "Previous part of the window",
  details: "Show or hide the members",
  lock: "Lock",
  sheet: "Show all shortcuts",
};

export const strings = {
  product: "Treeline",
  tagline: "Keeps working when the internet does not.",
  starting: "Starting…",
  cancel: "Cancel",
  close: "Close",
  back: "Back",
  dismiss: "Dismiss",
  copy: "Copy",
  copied: "Copied",
  you: "you",

  profile: {
    title: "Create your profile",
    lead: "Your keys and messages are sealed on this device with a passphrase.",
    name: "Your name",
    device: "Name of this device",
    deviceHint: "For example “ward laptop”. Others see it beside your name.",
    passphrase: "Passphrase",
    again: "Passphrase again",
    hint: "Several words are best. Nobody can reset it: without it, what is stored here is lost.",
    create: "Create profile",
    differ: "The two passphrases differ.",
    short: "Take at least eight characters.",
  },
  unlock: {
    title: "Welcome back",
    passphrase: "Passphrase",
    button: "Unlock",
    busy: "Unlocking…",
    wrong: "That passphrase does not open this profile. Try again.",
  },
  start: {
    title: "Where do you want to go?",
    lead: "You are in no team yet.",
    join: "Join with an invite",
    joinLead: "An admin of a team gave you a text that begins with treeline-invite-.",
    found: "Create an organisation",
    foundLead: "You run a relay, and it gave you a registration that begins with treeline-org-.",
    team: "Create a team",
    teamLead: "A new team in your organisation, with a channel “general”.",
  },
  join: {
    title: "Join a team",
    invite: "Invite",
    read: "Look at the invite",
    check: "Is this the team?",
    organisation: "Organisation",
    team: "Team",
    admin: "Its admin’s fingerprint",
    adminHint: "Compare it with the admin, over the phone or in person, before you join.",
    relays: "Relays",
    join: "Join",
    waiting: "Waiting to be admitted",
    waitingLead: "Give this fingerprint of your device to an admin of the team, in full.",
    waitingFor: (reach: Connectivity["reach"]): string =>
      reach === "offline"
        ? "No relay can be reached at this moment; your request waits on this device."
        : "Your request is at the relay. This page goes on by itself when an admin adds you.",
    fetching: "You were admitted. The team is being fetched…",
    unnamed: "Joining…",
  },
  found: {
    title: "Create an organisation",
    name: "Name of the organisation",
    registration: "Registration",
    registrationHint: "What “treeline-relay org register” printed.",
    relays: "Relays",
    relaysHint: "One on each line, as host:port#key: what the relay printed when it started.",
    create: "Create",
  },
  team: {
    create: "Create a team",
    name: "Name of the team",
    suite: "Encryption",
    postQuantum: "Post-quantum",
    postQuantumHint: "Safe against recordings that are opened by later quantum computers.",
    classic: "Classic",
    classicHint: "Smaller; for teams of more than 100 devices.",
    button: "Create team",
  },
  channel: {
    create: "Create a channel",
    name: "Name of the channel",
    button: "Create channel",
    members: "Members",
    showMembers: "Show members",
    showTeams: "Show teams and channels",
  },
  invite: {
    title: "Invite a device",
    lead: "Give this text to the new member. It is no secret and admits nobody by itself.",
    next: "They paste it into Treeline and tell you their device’s fingerprint.",
    add: "Add a device",
    addLead: "Enter the fingerprint that the new member reads to you: all 64 digits.",
    fingerprint: "Fingerprint",
    button: "Add device",
    added: "The device is added as soon as its request arrives.",
    incomplete: (digits: number): string => `${digits} of 64 digits`,
  },
  rail: {
    label: "Teams",
    add: "Join or create",
    unread: (name: string, n: number): string =>
      n > 0 ? `${name}, ${many(n, "unread message", "unread messages")}` : name,
  },
  channels: {
    label: "Channels",
    none: "This team has no channel yet.",
    unread: (n: number): string => many(n, "unread message", "unread messages"),
    lock: "Lock",
  },
  timeline: {
    label: (channel: string): string => `Messages in ${channel}`,
    first: (channel: string): string => `This is the beginning of #${channel}.`,
    empty: "Nobody has written here yet. Say hello.",
    loading: "Loading…",
    fresh: "New",
    newest: "Newest messages",
    unreadAbove: (n: number): string => `${many(n, "unread message", "unread messages")} above`,
    late: (n: number): string => `${many(n, "message", "messages")} arrived late · show`,
    missing: (n: number, user: string): string =>
      `${many(n, "message", "messages")} of ${user} did not arrive yet`,
    pick: "Choose a channel.",
  },
  composer: {
    label: (channel: string): string => `Message to #${channel}`,
    send: "Send",
    long: (bytes: number): string =>
      `This message is too long: ${bytes.toLocaleString()} of at most 65,536 bytes.`,
  },
  delivery,
  deliveredBy: (state: Delivery, relay: string): string =>
    state === "lan" && relay !== "" ? `${delivery.lan}, ${relay}` : delivery[state],
  connectivity: {
    label: "Connection",
    cloud: "Cloud",
    lan: "LAN only",
    offline: "Offline",
    queued: (n: number): string => `${n.toLocaleString()} waiting`,
    relay: "Relay",
    none: "none answers",
    waiting: "Waiting on this device",
    isolation: "Isolation",
    version: "Version",
    explain: {
      cloud: "Messages reach everybody.",
      lan: "Messages reach everybody on this local network. The others get them when the internet is back.",
      offline: "Messages wait on this device and are sent when a relay answers.",
    },
  },
  members: {
    title: "Members",
    devices: (n: number): string => many(n, "device", "devices"),
    admin: "admin",
    fingerprint: "Fingerprint",
    epoch: "Epoch",
    suite: "Encryption",
    code: "Code",
    warning: (what: string): string => `This device ${what}.`,
    codeHint: "The same on every device of the team; compare it by voice.",
    invite: "Invite",
    add: "Add a device",
  },
  palette: {
    title: "Go to",
    placeholder: "A channel or a command",
    none: "Nothing has that name.",
  },
  sheet: { title: "Keyboard shortcuts", send: "Send the message", line: "New line" },
  actions,
} as const;
