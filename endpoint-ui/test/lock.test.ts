// Locked and unlocked, by whom and why, against the scripted backend.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PRESENCE_MS } from "../src/door";
import { bounded } from "../src/state/presence";
import { strings } from "../src/strings";

vi.stubEnv("MODE", "scripted");
vi.stubGlobal("location", { search: "" });
const OLD = "seven grey herons over the weir";
const NEW = "eleven herons over the frozen weir";

/** A page that has just begun, and what it asks. */
async function page(search = "") {
  vi.stubGlobal("location", { search });
  vi.resetModules();
  const { app } = await import("../src/state/app.svelte");
  const { ask } = await import("../src/runtime");
  const { change } = await import("../src/state/passphrase");
  app.start();
  await vi.waitFor(() => expect(app.lock).not.toBeNull());
  return { app, ask, change };
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

test("a lock takes everything off the page and says who locked", async () => {
  const { app, ask } = await page();
  await vi.waitFor(() => expect(app.teamsLoaded).toBe(true));
  expect(app.teams.length).toBeGreaterThan(0);
  app.drafts.set("a", "begun");
  await app.lockNow();
  await vi.waitFor(() => expect(app.lockCause).toBe("person"));
  expect([app.lock, app.profile, app.teams.length, app.drafts.size]).toEqual(["locked", null, 0, 0]);
  expect(app.timeline.channel).toBeNull();
  await ask({ command: "unlock", passphrase: OLD });
  await app.refresh();
  expect(app.lock).toBe("unlocked");
  expect(app.teams.length).toBeGreaterThan(0);
});

test.each(["start", "person", "idle", "sleep"] as const)("a page that finds it locked says why: %s", async (cause) => {
  const { app } = await page(`?lock=locked&cause=${cause}`);
  expect([app.lock, app.lockCause]).toEqual(["locked", cause]);
  expect(strings.unlock.cause[app.lockCause]).not.toBe("");
});

test("who is there is not locked out, and who has left is", async () => {
  const { app, ask } = await page();
  await ask({ command: "setLocking", locking: { idleMinutes: 1, onSuspend: true } });
  for (let seconds = 0; seconds < 300; seconds += 1) {
    // The pointer moves all the time.
    app.present();
    await vi.advanceTimersByTimeAsync(1000);
  }
  expect(app.lock).toBe("unlocked");
  await vi.advanceTimersByTimeAsync(61_000);
  expect([app.lock, app.lockCause]).toEqual(["locked", "idle"]);
  app.present();
  await vi.advanceTimersByTimeAsync(61_000);
  expect(app.lock).toBe("locked");
});

test("a person is told of at a bounded rate", () => {
  let now = 0;
  let told = 0;
  const here = bounded(
    () => (told += 1),
    () => now,
  );
  for (now = 0; now < 10 * PRESENCE_MS; now += 10) here();
  expect(told).toBe(10);
});

test("a passphrase is changed: only the new one opens", async () => {
  const { app, ask, change } = await page();
  await expect(change("wrong", NEW, NEW)).rejects.toThrow(strings.security.wrong);
  await expect(change(OLD, "short", "short")).rejects.toThrow(strings.profile.short);
  await expect(change(OLD, NEW, OLD)).rejects.toThrow(strings.profile.differ);
  await change(OLD, NEW, NEW);
  await app.lockNow();
  await expect(ask({ command: "unlock", passphrase: OLD })).rejects.toThrow("does not open");
  await ask({ command: "unlock", passphrase: NEW });
  await app.refresh();
  expect(app.lock).toBe("unlocked");
});
