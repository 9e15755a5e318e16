// Which keys do what. Matched by the physical key, so that every keyboard layout has them.

/** What a key can do anywhere. */
export type Action =
  | "nextRegion"
  | "previousRegion"
  | "palette"
  | "nextChannel"
  | "previousChannel"
  | "nextUnread"
  | "previousUnread"
  | "sheet"
  | "lock"
  | "details";

/** One line of the sheet. */
export interface Shortcut {
  action: Action;
  code: string;
  ctrl: boolean;
  alt: boolean;
  shift: boolean;
  /** How it is written for people. */
  keys: string[];
}

const shortcut = (action: Action, keys: string[], code: string): Shortcut => ({
  action,
  code,
  ctrl: keys.includes("Ctrl"),
  alt: keys.includes("Alt"),
  shift: keys.includes("Shift"),
  keys,
});

/** All of them. */
export const SHORTCUTS: readonly Shortcut[] = [
  shortcut("palette", ["Ctrl", "K"], "KeyK"),
  shortcut("previousChannel", ["Alt", "↑"], "ArrowUp"),
  shortcut("nextChannel", ["Alt", "↓"], "ArrowDown"),
  shortcut("previousUnread", ["Alt", "Shift", "↑"], "ArrowUp"),
  shortcut("nextUnread", ["Alt", "Shift", "↓"], "ArrowDown"),
  shortcut("nextRegion", ["F6"], "F6"),
  shortcut("previousRegion", ["Shift", "F6"], "F6"),
  shortcut("details", ["Ctrl", "I"], "KeyI"),
  shortcut("lock", ["Ctrl", "Shift", "L"], "KeyL"),
  shortcut("sheet", ["Ctrl", "/"], "Slash"),
];

/** The part of a keyboard event that matters. */
export interface Pressed {
  code: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

/** What a key means, if anything. */
export function actionOf(pressed: Pressed): Action | null {
  const found = SHORTCUTS.find(
    (s) =>
      s.code === pressed.code &&
      s.ctrl === (pressed.ctrlKey || pressed.metaKey) &&
      s.alt === pressed.altKey &&
      s.shift === pressed.shiftKey,
  );
  return found?.action ?? null;
}
