//! A status as Prometheus reads it (text format 0.0.4). Pure; no label is finer than the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

use crate::status::{CONNECTED, Parent, STANDING_BY, Status};

/// The media type of [`render`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a relay.
pub fn render(status: &Status) -> String {
    let mut page = Page(String::new());
    let info = format!(
        "{{version=\"{}\",tier=\"{}\"}}",
        status.program, status.tier
    );
    page.family(
        "treeline_relay_info",
        "gauge",
        "What runs here",
        [(info, 1)],
    );
    for (name, help, value) in gauges(status) {
        page.single(name, "gauge", help, value);
    }
    let counters = &status.counters;
    for (name, help, value) in [
        ("chunks_stored_total", "New chunks stored", counters.stored),
        (
            "chunks_duplicate_total",
            "Chunks that were here already",
            counters.duplicates,
        ),
        (
            "chunks_delivered_total",
            "Chunks sent to subscribers",
            counters.delivered,
        ),
        (
            "chunks_expired_total",
            "Chunks removed because their time was over",
            counters.expired,
        ),
        (
            "chunks_evicted_total",
            "Chunks removed because the store was above its size",
            counters.evicted,
        ),
        (
            "chunks_damaged_total",
            "Chunks dropped because their bytes in the store were damaged",
            counters.damaged,
        ),
    ] {
        page.single(name, "counter", help, value);
    }
    page.by_reason("chunks_refused_total", "Chunks refused", &counters.refused);
    page.by_reason(
        "chunks_refused_above_total",
        "Refusals of chunks by the relay above",
        &counters.refused_above,
    );
    page.by_reason(
        "links_misbehaved_total",
        "Links closed for what the peer did",
        &counters.misbehaved,
    );
    page.0
}

fn gauges(status: &Status) -> [(&'static str, &'static str, u64); 14] {
    // Two entries of the configuration may lead to the same relay.
    let relays = |state: &str| {
        let parents = status.parents.iter().filter(|p| p.state == state);
        let relays: BTreeSet<_> = parents.map(|parent| &parent.relay).collect();
        relays.len() as u64
    };
    let most = |of: fn(&Parent) -> usize| status.parents.iter().map(of).max().unwrap_or(0) as u64;
    [
        (
            "ready",
            "1 if the relay does its work",
            u64::from(status.ready),
        ),
        ("uptime_seconds", "Since it began", status.uptime_s),
        ("parents", "Relays above it", status.parents.len() as u64),
        (
            "parents_connected",
            "Relays above it through which traffic goes",
            relays(CONNECTED),
        ),
        (
            "parents_standing_by",
            "Relays above it that are connected beside that one",
            relays(STANDING_BY),
        ),
        (
            "parent_in_flight_chunks",
            "Sent up and not answered",
            most(|parent| parent.in_flight),
        ),
        (
            "parent_left_out_prefixes",
            "Prefixes wanted below that are too many to ask for above",
            most(|parent| parent.left_out),
        ),
        ("links", "Links from below", status.links as u64),
        (
            "subscriptions",
            "Subscriptions of all links",
            status.subscriptions as u64,
        ),
        (
            "waiting_bytes",
            "Bytes that wait to leave on links",
            status.waiting_bytes as u64,
        ),
        ("grants", "Grants known", status.grants as u64),
        (
            "store_bytes",
            "Bytes of the store's files",
            status.store.bytes,
        ),
        (
            "store_free_bytes",
            "Bytes free on its file system",
            status.store.free_bytes,
        ),
        (
            "store_failed",
            "1 if the last write failed",
            u64::from(status.store.failed),
        ),
    ]
}

struct Page(String);

impl Page {
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let name = format!("treeline_relay_{name}");
        self.family(&name, kind, help, [(String::new(), value)]);
    }

    fn by_reason(&mut self, name: &str, help: &str, counts: &BTreeMap<String, u64>) {
        let name = format!("treeline_relay_{name}");
        let samples = counts.iter();
        let samples = samples.map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), count));
        self.family(&name, "counter", help, samples);
    }

    fn family<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}
