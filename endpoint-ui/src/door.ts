// Written by endpoint-secure/api/src/typescript.rs from the Rust types. Do not edit.

/** A front end says `present` at most so often, in milliseconds. */
export const PRESENCE_MS = 20000;

export type Lock = "empty" | "locked" | "unlocked";

export type LockCause = "start" | "person" | "idle" | "sleep";

export type Locking = { 
/**
 * After so many minutes in which nobody was there; 0 for never.
 */
idleMinutes: number, 
/**
 * When the machine has slept.
 */
onSuspend: boolean, };

export type Standing = "unknown" | "changed" | "own" | "trusted" | "refused";

export type Relay = { 
/**
 * Its name on its network.
 */
name: string, 
/**
 * Where it is, as `ip:port`; empty when it is judged and not in sight.
 */
place: string, 
/**
 * Its key: 64 lower-case hex digits.
 */
key: string, 
/**
 * The same for people who compare it by voice: six words.
 */
words: string, 
/**
 * How it stands.
 */
standing: Standing, };

export type Suite = "postQuantum" | "classic";

export type Role = "owner" | "admin" | "member" | "guest";

export type TeamId = { 
/**
 * The origin's number: the first 24 bits of the SHA-256 of its public key.
 */
origin: number, 
/**
 * The owning organisation's number at that origin, 18 bits.
 */
org: number, 
/**
 * The team's number in that organisation, 20 bits.
 */
team: number, };

export type ChannelId = { 
/**
 * The team that has it.
 */
team: TeamId, 
/**
 * 10 bits; channel 0 of a team carries its names and settings and is never shown.
 */
channel: number, };

export type MessageId = { 
/**
 * Where it was written.
 */
channel: ChannelId, 
/**
 * The author's device number in that team, 20 bits.
 */
device: number, 
/**
 * The number of the message's first chunk, 20 bits.
 */
number: number, };

export type Delivery = "failed" | "queued" | "lan" | "cloud" | "origin";

export type Reach = "offline" | "lan" | "cloud";

export type JoinStage = "waitingForAdmin" | "fetching" | "admitted" | "refused" | "joined";

export type Profile = { 
/**
 * The person's display name.
 */
user: string, 
/**
 * The device's display name.
 */
device: string, 
/**
 * SHA-256 of the device's publishing key: 64 lower-case hex digits.
 */
fingerprint: string, 
/**
 * The same for people who compare it by voice: 30 decimal digits in groups of five.
 */
digits: string, };

export type Connectivity = { 
/**
 * The farthest tier reached.
 */
reach: Reach, 
/**
 * The relay in use, as `host:port`, empty when offline.
 */
relay: string, 
/**
 * Own messages that no relay has acknowledged; a change to a team, a key package and the like
 * count as one more. At 0, nothing is lost with this device.
 */
queued: number, };

export type Status = { 
/**
 * Whether the keys are in memory.
 */
lock: Lock, 
/**
 * Why they are not, where there is a profile.
 */
lockCause: LockCause, 
/**
 * The profile, when unlocked.
 */
profile: Profile | null, 
/**
 * The version of treeline-secure.
 */
version: string, 
/**
 * `full`, `partial (what is missing)` or `none (why)`, of all parts together.
 */
isolation: string, 
/**
 * The network, as last reported.
 */
connectivity: Connectivity, };

export type Team = { 
/**
 * Its number.
 */
id: TeamId, 
/**
 * Its name; empty while joining.
 */
name: string, 
/**
 * The owning organisation's name; empty while joining.
 */
organisation: string, 
/**
 * The MLS epoch of the state in use.
 */
epoch: number, 
/**
 * Devices in the group.
 */
devices: number, 
/**
 * Its cipher suite.
 */
suite: Suite, 
/**
 * Whether this device may add others.
 */
admin: boolean, 
/**
 * Where joining stands.
 */
stage: JoinStage, 
/**
 * This device's number in the team.
 */
ownDevice: number, 
/**
 * Whether this device was removed: it reads nothing newer and cannot write.
 */
removed: boolean, 
/**
 * Changes asked for on this device that are not in effect yet.
 */
waiting: number, 
/**
 * 30 digits that are the same on all devices with the same members and secrets; empty while
 * joining and after removal.
 */
code: string, 
/**
 * Why the invite was refused, in one line; empty otherwise.
 */
refused: string, 
/**
 * Whether it is a direct conversation.
 */
direct: boolean, };

export type Channel = { 
/**
 * Its number.
 */
id: ChannelId, 
/**
 * Its name.
 */
name: string, 
/**
 * Messages in it.
 */
messages: number, 
/**
 * Messages of others newer than the read mark.
 */
unread: number, 
/**
 * When the newest message was written; 0 without one.
 */
newestMs: number, 
/**
 * Whether only admins write in it.
 */
announce: boolean, };

export type Device = { 
/**
 * Its number in the team; 0 is the founder's admin device.
 */
device: number, 
/**
 * The person's display name.
 */
user: string, 
/**
 * The device's display name.
 */
name: string, 
/**
 * SHA-256 of its publishing key: 64 lower-case hex digits.
 */
fingerprint: string, 
/**
 * The same for people who compare it by voice: 30 decimal digits in groups of five.
 */
digits: string, 
/**
 * Whether it may add others.
 */
admin: boolean, 
/**
 * Whether it is this device.
 */
own: boolean, 
/**
 * What it may do.
 */
role: Role, 
/**
 * Among admins, its rank: 0 is the owner's.
 */
rank: number | null, 
/**
 * The epoch it came with, as far as this device knows.
 */
sinceEpoch: number, 
/**
 * What it did that no honest device does, for a person to read; empty otherwise.
 */
warning: string, 
/**
 * The number of the other organisation that it is a guest of; none if it is of the team's own.
 */
guestOf: number | null, 
/**
 * When it was last heard of, as far as this device knows.
 */
lastSeenMs: number, };

export type Organisation = { 
/**
 * The number of its origin.
 */
origin: number, 
/**
 * Its number there.
 */
org: number, 
/**
 * Its name.
 */
name: string, 
/**
 * The text for admins of other organisations' teams, `treeline-organisation-…`.
 */
text: string, };

export type Invite = { 
/**
 * What its issuer knows it by: 16 hex digits.
 */
id: string, 
/**
 * The invite as text to paste, `treeline-invite-…`.
 */
text: string, 
/**
 * The same for a QR code, `TREELINE-INVITE:…`: digits and capital letters only.
 */
qr: string, 
/**
 * The same to say, about 50 words of five letters: without names, and without relays but domains.
 */
words: string, 
/**
 * The team it leads to.
 */
team: TeamId, 
/**
 * The name of the organisation; empty from words.
 */
organisation: string, 
/**
 * The name of the team; empty from words.
 */
teamName: string, 
/**
 * The admin device's full fingerprint, which the welcome must come from.
 */
admin: string, 
/**
 * The same as 30 decimal digits.
 */
adminDigits: string, 
/**
 * Relays to try, as `host:port#key`, or domains.
 */
relays: Array<string>, 
/**
 * When it ends.
 */
expiresMs: number, };

export type Fate = "open" | "used" | "expired" | "revoked";

export type Issued = { 
/**
 * What it says.
 */
invite: Invite, 
/**
 * When it was issued.
 */
createdMs: number, 
/**
 * What has become of it.
 */
fate: Fate, 
/**
 * The fingerprint of the device that was added with it; empty before.
 */
usedBy: string, };

export type Request = { 
/**
 * Its full fingerprint.
 */
fingerprint: string, 
/**
 * The same as 30 decimal digits: compare them with what it shows, before it is added.
 */
digits: string, 
/**
 * What it says its person is called.
 */
user: string, 
/**
 * What it says it is called.
 */
device: string, 
/**
 * The id of the invite that it answers.
 */
invite: string, 
/**
 * When it came.
 */
cameMs: number, 
/**
 * Whether it is to be added, as soon as it is this device's turn.
 */
adding: boolean, 
/**
 * Why it is refused, in one line; empty if it is not.
 */
refused: string, };

export type Preview = { 
/**
 * The team.
 */
team: TeamId, 
/**
 * Its name.
 */
name: string, 
/**
 * The owning organisation's name.
 */
organisation: string, 
/**
 * Who has added this device.
 */
by: Device, 
/**
 * What this device will be.
 */
role: Role, 
/**
 * All devices in the team, by number; this one is `own`.
 */
devices: Array<Device>, };

export type Message = { 
/**
 * Its name.
 */
id: MessageId, 
/**
 * The author's display name.
 */
user: string, 
/**
 * The author's device name.
 */
deviceName: string, 
/**
 * When it was written, clamped to when it arrived.
 */
sentMs: number, 
/**
 * Its text, up to 64 KiB of UTF-8.
 */
text: string, 
/**
 * Whether this device wrote it.
 */
own: boolean, 
/**
 * How far it has come; of other people's messages, always `Origin`.
 */
delivery: Delivery, 
/**
 * Why a relay refused it, in one line; empty otherwise.
 */
failure: string, 
/**
 * Messages of this author that are missing right before this one.
 */
missingBefore: number, 
/**
 * Whether it was sent while its author was cut off, on a branch of the team that lost.
 */
disconnected: boolean, };

export type Anchor = { "at": "newest" } | { "at": "oldest" } | { "at": "before", 
/**
 * The message to page back from.
 */
id: MessageId, } | { "at": "after", 
/**
 * The message to page on from.
 */
id: MessageId, };

export type Earlier = { 
/**
 * When it came in.
 */
joinedMs: number, 
/**
 * Messages before that, at most, of those who have written since: as far as their feeds tell.
 */
messages: number, };

export type Page = { 
/**
 * The channel.
 */
channel: ChannelId, 
/**
 * At most as many as were asked for.
 */
messages: Array<Message>, 
/**
 * Whether older messages than the first exist.
 */
moreBefore: boolean, 
/**
 * Whether newer messages than the last exist.
 */
moreAfter: boolean, 
/**
 * Messages in the channel.
 */
total: number, 
/**
 * What stands before the first message, where that is on this page and this device was not in
 * the team from its beginning.
 */
earlier: Earlier | null, };

export type Passphrase = string;

export type Command = { "command": "status" } | { "command": "createProfile", 
/**
 * What will unlock it.
 */
passphrase: Passphrase, 
/**
 * The person's display name, 1 to 64 characters.
 */
user: string, 
/**
 * The device's display name, 1 to 64 characters.
 */
device: string, } | { "command": "unlock", 
/**
 * What was set when it was created.
 */
passphrase: Passphrase, } | { "command": "changePassphrase", 
/**
 * The one that was set before; it counts as an attempt to unlock.
 */
old: Passphrase, 
/**
 * What will unlock it.
 */
new: Passphrase, } | { "command": "lock" } | { "command": "createOrganisation", 
/**
 * Its name, 1 to 64 characters.
 */
name: string, 
/**
 * What `treeline-relay org register` printed: `treeline-org-…`. Empty for an organisation
 * that has no origin but the names that devices and LANs exchange among themselves.
 */
registration: string, 
/**
 * Relays to use, as `host:port#key`.
 */
relays: Array<string>, } | { "command": "createTeam", 
/**
 * Its name, 1 to 64 characters.
 */
name: string, 
/**
 * Its cipher suite, for good.
 */
suite: Suite, } | { "command": "createLink" } | { "command": "joinLink", 
/**
 * The text of [`Command::CreateLink`] on another device.
 */
link: string, } | { "command": "linkDevice", 
/**
 * 64 hex digits; blanks between them are ignored.
 */
fingerprint: string, } | { "command": "unlinkDevice", 
/**
 * 64 hex digits; blanks between them are ignored.
 */
fingerprint: string, } | { "command": "createDirect", 
/**
 * Its name, 1 to 64 characters.
 */
name: string, } | { "command": "createChannel", 
/**
 * The team.
 */
team: TeamId, 
/**
 * Its name, 1 to 64 characters.
 */
name: string, } | { "command": "createInvite", 
/**
 * The team.
 */
team: TeamId, 
/**
 * How long it is good, 1 to [`Command::INVITE_HOURS`]; `null`: a week.
 */
hours: number | null, } | { "command": "invites", 
/**
 * The team.
 */
team: TeamId, } | { "command": "revokeInvite", 
/**
 * The team.
 */
team: TeamId, 
/**
 * Its id, 16 hex digits.
 */
id: string, } | { "command": "requests", 
/**
 * The team.
 */
team: TeamId, } | { "command": "readInvite", 
/**
 * The invite text.
 */
invite: string, } | { "command": "join", 
/**
 * The invite: any of its three texts.
 */
invite: string, } | { "command": "preview", 
/**
 * The team.
 */
team: TeamId, } | { "command": "enter", 
/**
 * The team.
 */
team: TeamId, } | { "command": "decline", 
/**
 * The team.
 */
team: TeamId, } | { "command": "addDevice", 
/**
 * The team.
 */
team: TeamId, 
/**
 * All 64 hex digits of it, or its 30 decimal ones; blanks between them are ignored.
 */
fingerprint: string, } | { "command": "removeDevice", 
/**
 * The team.
 */
team: TeamId, 
/**
 * Its number.
 */
device: number, } | { "command": "setRole", 
/**
 * The team.
 */
team: TeamId, 
/**
 * Its number.
 */
device: number, 
/**
 * Admin, member or guest.
 */
role: Role, } | { "command": "setAnnounce", 
/**
 * The channel.
 */
channel: ChannelId, 
/**
 * Whether only admins write.
 */
on: boolean, } | { "command": "organisation", 
/**
 * The team.
 */
team: TeamId, } | { "command": "allowOrganisation", 
/**
 * The team.
 */
team: TeamId, 
/**
 * What the other organisation gave: `treeline-organisation-…`.
 */
organisation: string, 
/**
 * Whether they may come.
 */
on: boolean, } | { "command": "revokeDevice", 
/**
 * 64 hex digits; blanks between them are ignored.
 */
fingerprint: string, } | { "command": "teams" } | { "command": "channels", 
/**
 * The team.
 */
team: TeamId, } | { "command": "devices", 
/**
 * The team.
 */
team: TeamId, } | { "command": "send", 
/**
 * Where.
 */
channel: ChannelId, 
/**
 * 1 byte to 64 KiB.
 */
text: string, 
/**
 * Chosen by the front end, below 2^53: a second `Send` with the same token in the same
 * channel sends nothing and has the same answer. Tokens of what is to stay in order count up:
 * while one was refused for want of room, so are the [`Command::SEND_WINDOW`] after it.
 */
token: number, } | { "command": "timeline", 
/**
 * Where.
 */
channel: ChannelId, 
/**
 * Where the page starts.
 */
anchor: Anchor, 
/**
 * At most [`Command::PAGE_LIMIT`].
 */
count: number, } | { "command": "markRead", 
/**
 * The newest message that was seen.
 */
upTo: MessageId, } | { "command": "relays" } | { "command": "trustRelay", 
/**
 * Its key, 64 hex digits.
 */
key: string, } | { "command": "refuseRelay", 
/**
 * Its key, 64 hex digits.
 */
key: string, } | { "command": "forgetRelay", 
/**
 * Its key, 64 hex digits.
 */
key: string, } | { "command": "serveLan", 
/**
 * `null`: only while no relay is configured.
 */
serve: boolean | null, } | { "command": "locking" } | { "command": "setLocking", 
/**
 * From now on.
 */
locking: Locking, } | { "command": "present" } | { "command": "connectivity" };

export type Answer = { "answer": "done" } | { "answer": "status", "value": Status } | { "answer": "profile", "value": Profile } | { "answer": "connectivity", "value": Connectivity } | { "answer": "team", "value": Team } | { "answer": "teams", "value": Array<Team> } | { "answer": "channel", "value": Channel } | { "answer": "channels", "value": Array<Channel> } | { "answer": "devices", "value": Array<Device> } | { "answer": "link", "value": string } | { "answer": "organisation", "value": Organisation } | { "answer": "invite", "value": Invite } | { "answer": "locking", "value": Locking } | { "answer": "invites", "value": Array<Issued> } | { "answer": "requests", "value": Array<Request> } | { "answer": "preview", "value": Preview } | { "answer": "relays", "value": Array<Relay> } | { "answer": "sent", "value": MessageId } | { "answer": "page", "value": Page };

export type Code = "usage" | "notFound" | "locked" | "wrongPassphrase" | "unreachable" | "verification" | "configuration" | "forbidden" | "storage";

export type Refusal = { 
/**
 * The kind of refusal.
 */
code: Code, 
/**
 * One line, without plaintext and keys.
 */
text: string, };

export type Event = { "event": "lock", "value": Lock } | { "event": "teams" } | { "event": "channels", "value": TeamId } | { "event": "messages", "value": ChannelId } | { "event": "connectivity", "value": Connectivity } | { "event": "relays" } | { "event": "notice", "value": string };
