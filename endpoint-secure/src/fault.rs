//! Faults that the simulation plants in devices, to show that each of its checks can fail. A product
//! binary has none of them: there [`planted`] is `false` when it is compiled.

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
