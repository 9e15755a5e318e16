//! Every limit of the wire (docs/protocol.md, "Limits"), asserted against each other here.

/// Bytes of data in a chunk, at most.
pub const CHUNK_DATA_BYTES: usize = 1024;
/// Bytes of a chunk before its data: version, flags, name, expiry, grant, length.
pub const CHUNK_HEAD_BYTES: usize = 1 + 1 + 16 + 6 + 8 + 2;
/// Bytes of a chunk after its data: an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of a chunk, at most.
pub const CHUNK_BYTES: usize = CHUNK_HEAD_BYTES + CHUNK_DATA_BYTES + SIGNATURE_BYTES;
/// Bytes of a frame's head: type and length.
pub const FRAME_HEAD_BYTES: usize = 1 + 4;
/// Bytes of a frame after its head, at most.
pub const FRAME_BODY_BYTES: usize = 64 * 1024;
/// Chunks in one PUBLISH or CHUNK frame, at most.
pub const CHUNKS_PER_FRAME: usize = 32;
/// Grants in one GRANT frame, at most: the longest chain from the origin key to a device. Between the
/// organisation's key and a device stand the founder, and admins that admins have made.
pub const GRANT_CHAIN: usize = 8;
/// Acknowledgements in one ACK frame, at most.
pub const ACKS_PER_FRAME: usize = 512;
/// Names in one FETCH frame, at most.
pub const NAMES_PER_FETCH: usize = 512;
/// Spans in one question of RECONCILE, at most.
pub const SPANS_PER_ASK: usize = 64;
/// Parts into which the answer divides a span, at most.
pub const PARTS_PER_SPAN: usize = 16;
/// Names in a part, at most: more are summed up.
pub const NAMES_PER_PART: usize = 32;
/// Spans in one wish of RECONCILE, at most.
pub const SPANS_PER_WANT: usize = 1024;
/// Bytes of a cursor, at most.
pub const CURSOR_BYTES: usize = 160;
/// Bytes of text in REACH and CLOSE, at most.
pub const TEXT_BYTES: usize = 255;
/// Rules in a grant, at most.
pub const RULES_PER_GRANT: usize = 16;
/// Fragments of a message, at most.
pub const MESSAGE_FRAGMENTS: usize = 255;
/// Fragments of a key package or a welcome, at most: their fragment number has 4 bits.
pub const SMALL_FRAGMENTS: usize = 1 << 4;
/// Fragments of a commit, at most: its fragment number has 8 bits.
pub const COMMIT_FRAGMENTS: usize = 1 << 8;
/// Bytes of a joined object, at most: a blob of 64 MiB.
pub const OBJECT_BYTES: usize = 64 * 1024 * 1024;
/// The longest life of a key package, in milliseconds: 84 days.
pub const KEY_PACKAGE_LIFE_MS: u64 = 84 * DAY_MS;
/// The life that devices ask for their messages, in milliseconds: a year.
pub const MESSAGE_LIFE_MS: u64 = 365 * DAY_MS;
/// The longest life of any chunk, in milliseconds: 400 days.
pub const LIFE_MS: u64 = 400 * DAY_MS;
/// How far a chunk's expiry may lie beyond a limit because clocks differ, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;
/// A day in milliseconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

const _: () = {
    assert!(CHUNK_BYTES == 98 + 1024);
    // A chunk and its frame stay below one QUIC packet on a path of 1,200 bytes.
    assert!(CHUNK_BYTES + FRAME_HEAD_BYTES + 16 < 1200);
    assert!(CHUNKS_PER_FRAME * (CHUNK_BYTES + 2) + 16 <= FRAME_BODY_BYTES);
    assert!(ACKS_PER_FRAME * 18 + 16 <= FRAME_BODY_BYTES);
    assert!(NAMES_PER_FETCH * 16 + 16 <= FRAME_BODY_BYTES);
    // A varint has at most 19 bytes. Only the first part of a span begins away from the one before.
    assert!(
        SPANS_PER_ASK * (PARTS_PER_SPAN * (1 + 19 + 1 + 10 + 16) + 18) + 16 <= FRAME_BODY_BYTES
    );
    assert!(SPANS_PER_ASK * (38 + 2 + NAMES_PER_PART * (19 + 4)) + 16 <= FRAME_BODY_BYTES);
    assert!(SPANS_PER_WANT * 38 + 16 <= FRAME_BODY_BYTES);
    assert!(GRANT_CHAIN <= CHUNKS_PER_FRAME);
    assert!(LIFE_MS >= KEY_PACKAGE_LIFE_MS);
};
