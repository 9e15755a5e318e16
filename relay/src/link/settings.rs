//! What a listening relay gives to a connection, and to all of them: the `[transport]` table of the
//! configuration. Every number bounds something that a stranger could use up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of the transports (docs/operations.md, "Transport"). The defaults are safe on the open
/// internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Connections, of both transports. Default 4,096; each costs about 50 KB and its buffers.
    pub connections: usize,
    /// Connections of one address, or of one /64 of IPv6. Default 1,024: many may share an address.
    pub connections_per_address: usize,
    /// Handshakes at the same time, and an eighth of them of one address, or of one /64 of IPv6. Default
    /// 512; each costs about 20 KB and half a millisecond of CPU.
    pub handshakes: usize,
    /// Handshakes above which a QUIC client has to show first that its address is its own (Retry),
    /// which costs it a round trip; for an address, above half of its share too. Default 64.
    pub retry_above: usize,
    /// Milliseconds that a handshake may take. Default 5,000.
    pub handshake_ms: u64,
    /// Milliseconds of silence after which a peer counts as gone. Default 5,000; peers break the
    /// silence after 600.
    pub idle_ms: u64,
    /// Milliseconds that a frame may take from its first byte to its last, and HELLO from the
    /// beginning of the link. Default 30,000: the longest frame at 2 KB/s.
    pub frame_ms: u64,
    /// Bytes in flight to us on a QUIC connection, and bytes that wait for a peer's acknowledgement
    /// there. Default 1,048,576 each way: 100 Mbit/s over 80 ms.
    pub window_bytes: u32,
    /// Bytes for the windows of all connections together. Default 268,435,456. New connections get
    /// less than `window_bytes` when that many times their number is more, but never under 65,536.
    pub windows_total_bytes: u64,
}

/// Of how many addresses at least there are handshakes when there is no room for more.
const ADDRESSES: usize = 8;
/// The least that a connection gets: one frame.
pub const LEAST_WINDOW_BYTES: u32 = 64 * 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            handshakes: 512,
            retry_above: 64,
            handshake_ms: 5000,
            idle_ms: 5000,
            frame_ms: 30_000,
            window_bytes: 1024 * 1024,
            windows_total_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Settings {
    /// What is wrong with them, in one line for people; `None` when nothing is.
    pub fn mistake(&self) -> Option<&'static str> {
        let checks = [
            (
                self.connections > 0 && self.connections_per_address > 0 && self.handshakes > 0,
                "connections, connections_per_address and handshakes must be 1 at least",
            ),
            (
                self.retry_above <= self.handshakes,
                "retry_above must not be above handshakes",
            ),
            (
                self.handshake_ms >= 100 && self.frame_ms >= 100,
                "handshake_ms and frame_ms must be 100 at least",
            ),
            (
                (2000..=60_000).contains(&self.idle_ms),
                "idle_ms must be from 2000 to 60000: peers break the silence after 600",
            ),
            (
                (LEAST_WINDOW_BYTES..=1 << 28).contains(&self.window_bytes),
                "window_bytes must be from 65536 to 268435456",
            ),
        ];
        checks
            .into_iter()
            .find_map(|(holds, mistake)| (!holds).then_some(mistake))
    }

    /// The window of the next connection when so many exist: a power of two part of the largest.
    pub fn window(&self, open: usize) -> u32 {
        let share = self.windows_total_bytes / (open as u64 + 1);
        let mut window = self.window_bytes;
        while u64::from(window) > share && window / 2 >= LEAST_WINDOW_BYTES {
            window /= 2;
        }
        window
    }

    /// Handshakes of one address at the same time.
    pub fn handshakes_per_address(&self) -> usize {
        (self.handshakes / ADDRESSES).max(1)
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(super) fn frame(&self) -> Duration {
        Duration::from_millis(self.frame_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_with_the_number_of_connections_and_stop_at_one_frame() {
        let settings = Settings::default();
        assert_eq!(settings.window(0), 1 << 20);
        assert_eq!(settings.window(255), 1 << 20);
        assert_eq!(settings.window(256), 1 << 19);
        assert_eq!(settings.window(4095), 1 << 16);
        assert_eq!(settings.window(1 << 20), LEAST_WINDOW_BYTES);
    }

    #[test]
    fn mistakes_are_found() {
        assert_eq!(Settings::default().mistake(), None);
        let change = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.mistake()
        };
        assert!(change(|s| s.connections = 0).is_some());
        assert!(change(|s| s.retry_above = 513).is_some());
        assert!(change(|s| s.frame_ms = 0).is_some());
        assert!(change(|s| s.idle_ms = 1500).is_some());
        assert!(change(|s| s.window_bytes = 1000).is_some());
    }
}
