// Keys and their actions, and small formats.

import { expect, test } from "vitest";
import { bytes, dayHead, fingerprint, hue, initials } from "../src/state/format";
import { actionOf, SHORTCUTS } from "../src/state/shortcuts";
import { strings } from "../src/strings";

test("no two actions have one key, and each is in the sheet", () => {
  const keys = SHORTCUTS.map((s) => s.keys.join("+"));
  expect(new Set(keys).size).toBe(keys.length);
  for (const s of SHORTCUTS) {
    const pressed = { code: s.code, ctrlKey: s.ctrl, metaKey: false, altKey: s.alt, shiftKey: s.shift };
    expect(actionOf(pressed)).toBe(s.action);
    expect(strings.actions[s.action]).not.toBe("");
  }
});

test("a plain letter is nobody's shortcut", () => {
  const pressed = { code: "KeyK", ctrlKey: false, metaKey: false, altKey: false, shiftKey: false };
  expect(actionOf(pressed)).toBeNull();
});

test("names, fingerprints and sizes", () => {
  expect(initials("Alice Moreau")).toBe("AM");
  expect(initials("  ")).toBe("");
  expect(initials("éva 🦉")).toBe("É🦉");
  expect(fingerprint("0123456789abcdef")).toEqual(["0123", "4567", "89ab", "cdef"]);
  expect(bytes("é🦉")).toBe(6);
  expect(hue("Alice")).toBe(hue("Alice"));
  expect(hue("Alice")).not.toBe(hue("Bob"));
});

test("days near now have words", () => {
  const now = new Date(2026, 4, 20, 12).getTime();
  const day = 86_400_000;
  expect(dayHead(now, now)).not.toBe(dayHead(now - day, now));
  expect(dayHead(now - 400 * day, now)).toContain("2025");
});
