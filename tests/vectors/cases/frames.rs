//! The inputs of the frames' vectors: one of each frame, and what no frame may look like.

use proto::{
    Chunk, Cursor, Frame, GrantId, Hello, Holds, Listed, Name, Order, Outcome, Part, Path, Prefix,
    Reconcile, Refused, Span, Start, Summary, Tier,
};
use serde_json::{Value, json};

use super::{
    Case, Chain, NOW, at, bad, chain, device_grant, good, message, org_grant, place, signer,
};
use crate::judge::hex;

fn hello(oldest: u16, newest: u16) -> Frame {
    Frame::Hello(Hello {
        oldest,
        newest,
        features: 5,
        tier: Tier::Cloud,
        time: at(NOW),
        store: [8; 16],
    })
}

fn one_of_each() -> Vec<Frame> {
    let Chain { org, device, .. } = chain(device_grant());
    let chunk = Chunk::sign(
        message(5, 1),
        at(NOW),
        GrantId::of(&device),
        b"x",
        &signer(3),
    )
    .unwrap();
    let cursor = |length: usize| Cursor::new(vec![3; length]).unwrap();
    let prefix = Name::team_prefix(place(2), Path::Message);
    let subscribe = |start, order| Frame::Subscribe {
        id: 1,
        prefix,
        start,
        order,
    };
    let mut frames = vec![
        hello(1, 1),
        Frame::Grant(vec![org, device]),
        Frame::Publish(vec![chunk.clone(), chunk.clone()]),
        Frame::Publish(vec![]),
        Frame::Ack(acks()),
        subscribe(Start::All, Order::OldestFirst),
        subscribe(Start::Newest(u32::MAX), Order::NewestFirst),
        subscribe(Start::After(cursor(160)), Order::OldestFirst),
        Frame::Subscribe {
            id: u32::MAX,
            prefix: Prefix::ALL,
            start: Start::After(cursor(0)),
            order: Order::OldestFirst,
        },
        Frame::Chunks {
            id: 1,
            chunks: vec![chunk],
        },
        Frame::Unsubscribe { id: 1 },
        Frame::Fetch {
            id: 2,
            names: vec![message(5, 1), Name(u128::MAX)],
        },
        Frame::Reach {
            tier: Tier::Origin,
            relay: "relay.example.org:4470".into(),
        },
        Frame::Close {
            reason: "done – für heute".into(),
        },
    ];
    frames.extend([true, false].map(|live| Frame::CaughtUp {
        id: 1,
        cursor: cursor(24),
        live,
    }));
    frames
}

fn acks() -> Vec<(Name, Outcome)> {
    let stored = [Tier::Device, Tier::Local, Tier::Cloud, Tier::Origin].map(Outcome::Stored);
    let refused = [
        Refused::NoGrant,
        Refused::OutsideGrant,
        Refused::GrantExpired,
        Refused::BadSignature,
        Refused::Expired,
        Refused::TooLongLived,
        Refused::Conflict,
        Refused::StoreFull,
        Refused::Quota,
        Refused::UnknownOrigin,
        Refused::BadGrant,
    ]
    .map(Outcome::Refused);
    let outcomes = stored.into_iter().chain(refused);
    outcomes.map(|outcome| (message(5, 1), outcome)).collect()
}

fn stream(bytes: &[u8]) -> Value {
    json!({"stream": hex(bytes)})
}

/// A frame of any type with any body.
fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32).to_be_bytes(), body].concat()
}

pub(super) fn frames() -> Vec<Case> {
    let ids = &["P-FRAME-1", "P-FRAME-2"];
    let mut cases: Vec<Case> = one_of_each()
        .iter()
        .map(|frame| good(ids, "one frame", stream(&frame.to_bytes())))
        .collect();
    let later = [&hello(1, 2).to_bytes()[5..], b"later"].concat();
    let skipped = [raw(0x80, &[1, 2]), raw(8, &[0, 0, 0, 1])].concat();
    for (id, note, bytes) in [
        (
            "P-HELLO-3",
            "a longer HELLO of a later version",
            raw(1, &later),
        ),
        ("P-FRAME-3", "an optional type before UNSUBSCRIBE", skipped),
    ] {
        let mut input = stream(&bytes);
        input["skips"] = true.into();
        cases.push(good(&[id], note, input));
    }
    let ids = &["P-FRAME-2", "P-REC-1"];
    cases.extend(
        reconciles()
            .into_iter()
            .map(|(note, said)| good(ids, note, stream(&Frame::Reconcile(said).to_bytes()))),
    );
    cases.extend(bad_frames());
    cases
}

fn reconciles() -> Vec<(&'static str, Reconcile)> {
    let span = |first, last| Span::new(first, last).unwrap();
    let own: Span = Name::team_prefix(place(2), Path::Message).into();
    let (one, end) = (message(5, 1), Name(u128::MAX));
    let listed = |name, seed: u8| {
        let chunk = Chunk::sign(name, at(NOW), GrantId::NONE, b"x", &signer(seed)).unwrap();
        Listed::new(name, chunk.digest())
    };
    let mut held = Summary::default();
    for number in 0..33 {
        let name = message(5, number);
        let chunk = Chunk::sign(name, at(NOW), GrantId::NONE, b"x", &signer(3)).unwrap();
        held.add(chunk.digest());
    }
    let parts = vec![
        Part {
            span: span(own.first(), one),
            holds: Holds::Names(vec![listed(message(5, 0), 3), listed(one, 4)]),
        },
        Part {
            span: span(message(5, 2), own.last()),
            holds: Holds::Summary(held),
        },
    ];
    vec![
        (
            "a question",
            Reconcile::Ask {
                id: 7,
                spans: vec![own],
            },
        ),
        (
            "a question about nothing",
            Reconcile::Ask {
                id: 7,
                spans: vec![],
            },
        ),
        (
            "a list, and a fingerprint of 33 chunks",
            Reconcile::Tell { id: 7, parts },
        ),
        (
            "one name, and all from another to the highest",
            Reconcile::Want {
                id: 8,
                spans: vec![span(one, one), span(message(5, 9), end)],
            },
        ),
    ]
}

/// An id, a note, the bytes, and what they are refused as.
type BadFrame = (&'static str, &'static str, Vec<u8>, &'static str);

const MALFORMED: &str = "MalformedFrame";

fn bad_frames() -> Vec<Case> {
    let all = frames_of_wrong_length().into_iter();
    all.chain(frames_of_undefined_values())
        .chain(bad_reconciles())
        .map(|(id, note, bytes, error)| bad(&[id, "P-CODE-1"], note, stream(&bytes), error))
        .collect()
}

fn frames_of_wrong_length() -> Vec<BadFrame> {
    let grant = org_grant();
    let length = (grant.encoded().len() as u16).to_be_bytes();
    let longer = [&hello(1, 1).to_bytes()[5..], &[0]].concat();
    let nine = [&length[..], grant.encoded()].concat().repeat(9);
    let nine = [&[0, 9][..], &nine].concat();
    vec![
        (
            "P-FRAME-1",
            "a body above the limit",
            vec![3, 0, 1, 0, 1],
            "FrameTooLong",
        ),
        (
            "P-FRAME-1",
            "a head and half a body",
            vec![8, 0, 0, 0, 4, 0, 0],
            "Unfinished",
        ),
        ("P-FRAME-2", "a byte left over", raw(8, &[0; 5]), MALFORMED),
        ("P-FRAME-2", "a byte missing", raw(8, &[0; 3]), MALFORMED),
        (
            "P-FRAME-2",
            "a longer HELLO of version 1",
            raw(1, &longer),
            MALFORMED,
        ),
        ("P-FRAME-2", "33 chunks", raw(3, &[0, 33]), "FrameTooLong"),
        (
            "P-GRANT-6",
            "a chain of nine",
            raw(2, &nine),
            "FrameTooLong",
        ),
    ]
}

fn bad_reconciles() -> Vec<BadFrame> {
    let body = |kind: u8, count: [u8; 2], rest: &[u8]| {
        raw(10, &[&[kind, 0, 0, 0, 1][..], &count, rest].concat())
    };
    let highest = [&[0xff; 18][..], &[3]].concat();
    let beyond = [&highest[..], &[1]].concat();
    let behind = [&highest[..], &[0, 0, 0]].concat();
    vec![
        ("P-REC-1", "65 spans", body(0, [0, 65], &[]), "FrameTooLong"),
        (
            "P-REC-1",
            "1025 parts",
            body(1, [4, 1], &[]),
            "FrameTooLong",
        ),
        (
            "P-REC-1",
            "1025 wishes",
            body(2, [4, 1], &[]),
            "FrameTooLong",
        ),
        (
            "P-REC-1",
            "an undefined kind",
            body(3, [0, 0], &[]),
            MALFORMED,
        ),
        (
            "P-REC-1",
            "a longer form of a number",
            body(0, [0, 1], &[0x80, 0, 0]),
            MALFORMED,
        ),
        (
            "P-REC-1",
            "a number of 129 bits",
            body(0, [0, 1], &[&[0xff; 18][..], &[7, 0]].concat()),
            MALFORMED,
        ),
        (
            "P-REC-1",
            "a span beyond the highest name",
            body(0, [0, 1], &beyond),
            MALFORMED,
        ),
        (
            "P-REC-1",
            "a span behind the highest name",
            body(0, [0, 2], &behind),
            MALFORMED,
        ),
        (
            "P-REC-1",
            "33 names",
            body(1, [0, 1], &[0, 99, 1, 33]),
            "FrameTooLong",
        ),
        (
            "P-REC-1",
            "a name outside its part",
            body(1, [0, 1], &[0, 3, 1, 1, 4, 0, 0, 0, 0]),
            MALFORMED,
        ),
        (
            "P-REC-1",
            "a part that holds neither",
            body(1, [0, 1], &[0, 3, 2]),
            MALFORMED,
        ),
    ]
}

fn frames_of_undefined_values() -> Vec<BadFrame> {
    let subscribe = |bits: u8, order: u8, start: u8| {
        let name = message(5, 1).to_bytes();
        raw(
            5,
            &[&[0, 0, 0, 1][..], &name, &[bits, order, start]].concat(),
        )
    };
    let ack = |outcome: [u8; 2]| raw(4, &[&[0, 1][..], &[0; 16], &outcome].concat());
    vec![
        ("P-FRAME-2", "an undefined tier", ack([0, 4]), MALFORMED),
        ("P-FRAME-2", "an undefined refusal", ack([1, 12]), MALFORMED),
        (
            "P-FRAME-2",
            "an undefined start",
            subscribe(128, 0, 3),
            MALFORMED,
        ),
        (
            "P-FRAME-2",
            "a flag that is 2",
            subscribe(128, 2, 0),
            MALFORMED,
        ),
        (
            "P-PREFIX-1",
            "bits behind the prefix",
            subscribe(40, 0, 0),
            MALFORMED,
        ),
        (
            "P-PREFIX-1",
            "a prefix of 129 bits",
            subscribe(129, 0, 0),
            MALFORMED,
        ),
        (
            "P-FRAME-2",
            "text that is not UTF-8",
            raw(12, &[1, 0xff]),
            MALFORMED,
        ),
        (
            "P-FRAME-2",
            "a cursor of 161 bytes",
            raw(7, &[&[0, 0, 0, 1, 1, 161][..], &[0; 161]].concat()),
            "FrameTooLong",
        ),
        (
            "P-FRAME-3",
            "a type that must be known",
            raw(0x7f, &[]),
            MALFORMED,
        ),
        ("P-FRAME-3", "type 0", raw(0, &[]), MALFORMED),
        (
            "P-HELLO-2",
            "oldest above newest",
            hello(2, 1).to_bytes().to_vec(),
            MALFORMED,
        ),
    ]
}
