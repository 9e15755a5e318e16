//! Faults that tests plant in devices, to show that each check can fail, and writes at which they end a
//! process. A product binary has none of them: there [`planted`] is `false` when it is compiled, and
//! [`write_point`] is nothing.

/// What a device does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It follows commits that the roles forbid.
    RolesUnchecked,
    /// It does not make its changes again where their branch lost.
    ChangesLost,
    /// It forgets all states but the newest.
    SecretsForgotten,
    /// Its removals do everything but remove.
    NobodyRemoved,
    /// It leaves newcomers where a branch that lost has left them.
    NobodyWelcomedAgain,
    /// Messages count for no branch.
    VoicesUnheard,
    /// It goes on showing what came from behind a fence before the fence did.
    FencesOpen,
}

#[cfg(not(test))]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether the devices of this thread have the fault.
#[cfg(test)]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Plants a fault in the devices of this thread, or none.
#[cfg(test)]
pub(crate) fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// A place at which a test may end this process: before and after each write of the store.
#[cfg(not(any(debug_assertions, test)))]
#[inline]
pub(crate) fn write_point() {}

/// The file that `TREELINE_KILL_POINT` names says after how many more writes the process ends, as if
/// it had been killed. It is read once and removed: started again, the process goes on.
#[cfg(all(debug_assertions, not(test)))]
pub(crate) fn write_point() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NEVER: u64 = u64::MAX;
    static NAMED: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    static LEFT: AtomicU64 = AtomicU64::new(NEVER);

    let named = NAMED.get_or_init(|| std::env::var_os("TREELINE_KILL_POINT").map(Into::into));
    let Some(path) = named else {
        return;
    };
    if let Ok(text) = std::fs::read_to_string(path) {
        std::fs::remove_file(path).ok();
        LEFT.store(text.trim().parse().unwrap_or(NEVER), Ordering::Relaxed);
    }
    match LEFT.load(Ordering::Relaxed) {
        NEVER => {}
        0 => std::process::abort(),
        left => LEFT.store(left - 1, Ordering::Relaxed),
    }
}
