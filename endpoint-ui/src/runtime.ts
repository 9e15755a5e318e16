// The page's only way out: commands to Secure, and hints back. Nothing else imports Tauri; without
// Tauri (a plain browser, in `npm run dev` and in tests) a scripted backend answers instead.

import { Channel, invoke } from "@tauri-apps/api/core";
import type { Answer, Code, Command, Event } from "./door";

/** Something changed and may be asked for; `door`: Secure was started anew, ask for everything. */
export type Hint = Event | { event: "door" };

/** What a backend is. */
export interface Backend {
  call(command: Command): Promise<Answer>;
  subscribe(listener: (hint: Hint) => void): Promise<void>;
}

/** Why a command was not carried out: the kind, and one line for a person. */
export class Refused extends Error {
  override readonly name = "Refused";
  constructor(
    readonly code: Code,
    text: string,
  ) {
    super(text);
  }
}

type Kinds = {
  status: "status";
  createProfile: "profile";
  unlock: "profile";
  lock: "done";
  changePassphrase: "done";
  present: "done";
  locking: "locking";
  setLocking: "done";
  createOrganisation: "team";
  createTeam: "team";
  createChannel: "channel";
  createInvite: "invite";
  readInvite: "invite";
  invites: "invites";
  revokeInvite: "done";
  requests: "requests";
  join: "team";
  preview: "preview";
  enter: "team";
  decline: "done";
  addDevice: "done";
  removeDevice: "done";
  setRole: "done";
  setAnnounce: "done";
  teams: "teams";
  channels: "channels";
  devices: "devices";
  send: "sent";
  timeline: "page";
  markRead: "done";
  connectivity: "connectivity";
  relays: "relays";
  trustRelay: "done";
  refuseRelay: "done";
  forgetRelay: "done";
  serveLan: "done";
  createLink: "link";
  joinLink: "teams";
  linkDevice: "done";
  unlinkDevice: "done";
  createDirect: "team";
  organisation: "organisation";
  allowOrganisation: "organisation";
  revokeDevice: "done";
};
type Named<C extends Command["command"]> = Extract<Command, { command: C }>;
type Value<K extends Answer["answer"]> =
  Extract<Answer, { answer: K }> extends { value: infer V } ? V : undefined;

const tauri: Backend = {
  call: (command) => invoke<Answer>("call", { command }),
  subscribe: async (listener) => {
    const channel = new Channel<Hint>();
    channel.onmessage = listener;
    await invoke("subscribe", { channel });
  },
};

async function choose(): Promise<Backend> {
  if (import.meta.env.MODE === "scripted") {
    return (await import("./scripted/backend")).backend();
  }
  return tauri;
}

const backend = choose();

/** Carries out a command; fails with `Refused`. */
export async function ask<C extends Command["command"]>(
  command: Named<C>,
): Promise<Value<Kinds[C]>> {
  try {
    const answer = await (await backend).call(command);
    return ("value" in answer ? answer.value : undefined) as Value<Kinds[C]>;
  } catch (refusal) {
    throw refused(refusal);
  }
}

/** Listens to hints, from now on. */
export async function listen(listener: (hint: Hint) => void): Promise<void> {
  await (await backend).subscribe(listener);
}

function refused(value: unknown): Refused {
  if (typeof value === "object" && value !== null && "code" in value && "text" in value) {
    return new Refused(value.code as Code, String(value.text));
  }
  return new Refused("usage", String(value));
}
