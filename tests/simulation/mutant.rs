//! Planted faults: each breaks one promise on purpose, to show that the checks can fail. They live in
//! the wrappers around a node's store and frames, so no product binary can hold one.

/// A planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The store says that a batch is durable before it is.
    AckBeforeSync,
    /// A node subscribes at its first parent and never again.
    NoResync,
    /// A node asks its parent only for what comes from now on.
    NoBacklog,
    /// A node stores what comes without a look at signature and grant.
    GrantUnchecked,
    /// A node keeps the parent's later acknowledgements to itself.
    LaterAckDropped,
    /// A node that restarts forgets what its parent has not acknowledged.
    NotResentAfterRestart,
    /// A node that runs out of room gives up what its parent has not acknowledged.
    UnacknowledgedEvicted,
    /// Other bytes under a name take the first ones' place.
    ConflictOverwrites,
    /// The last chunk of a piece of backlog is sent again with the next one.
    SeamDuplicate,
    /// The last chunk of the backlog falls through the seam.
    SeamHole,
    /// What has expired is kept and served.
    ExpiredServed,
    /// A resume point is written although its chunks were not.
    ResumeBeforeChunks,
    /// Interest goes up once for each who asks.
    InterestTwice,
    /// A node believes that a slow reader has read.
    SlowReaderUnbounded,
    /// A node says again and again where it stands.
    NeverQuiet,
    /// A node answers a fetch with nothing.
    FetchUnanswered,
    /// A cursor counts, whichever store made it.
    ForeignCursorTrusted,
}

impl Mutant {
    pub const ALL: [Self; 17] = [
        Self::AckBeforeSync,
        Self::NoResync,
        Self::NoBacklog,
        Self::GrantUnchecked,
        Self::LaterAckDropped,
        Self::NotResentAfterRestart,
        Self::UnacknowledgedEvicted,
        Self::ConflictOverwrites,
        Self::SeamDuplicate,
        Self::SeamHole,
        Self::ExpiredServed,
        Self::ResumeBeforeChunks,
        Self::InterestTwice,
        Self::SlowReaderUnbounded,
        Self::NeverQuiet,
        Self::FetchUnanswered,
        Self::ForeignCursorTrusted,
    ];
}
