//! The inputs of the vectors, made from fixed seeds, and which error each bad one must have. What a
//! good one means is judged by the code and then stands in the files, to be read by people.

use proto::{
    Chunk, Cursor, Fields, Frame, Grant, GrantId, Hello, Holds, Limits, Listed, Name, Order,
    OriginId, Outcome, Part, Path, Pattern, Place, Prefix, PublicKey, Reconcile, Refused,
    Registration, Rule, Signer, Span, Start, Summary, Tier, Timestamp, Verbs, limits, split,
    split_with_key,
};
use serde_json::{Value, json};

use crate::judge::hex;

const NOW: u64 = 1_800_000_000_000;
const DAY: u64 = limits::DAY_MS;

/// A vector before it is judged.
pub struct Case {
    pub ids: Vec<&'static str>,
    pub note: String,
    pub input: Value,
    pub error: Option<&'static str>,
}

fn good(ids: &[&'static str], note: &str, input: Value) -> Case {
    Case {
        ids: ids.to_vec(),
        note: note.into(),
        input,
        error: None,
    }
}

fn bad(ids: &[&'static str], note: &str, input: Value, error: &'static str) -> Case {
    Case {
        error: Some(error),
        ..good(ids, note, input)
    }
}

/// All cases by kind.
pub fn all() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("names", names()),
        ("texts", texts()),
        ("keys", keys()),
        ("chunks", chunks()),
        ("key-packages", key_packages()),
        ("grants", grants()),
        ("fragments", fragments()),
        ("frames", frames()),
        ("registrations", registrations()),
    ]
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

fn origin() -> Signer {
    signer(1)
}

fn place(team: u32) -> Place {
    Place {
        origin: origin().public_key().origin_id(),
        org: 7,
        team,
    }
}

fn message(device: u32, number: u32) -> Name {
    let fields = Fields::Message {
        channel: 1,
        device,
        number,
    };
    Name::new(place(2), fields)
}

fn names() -> Vec<Case> {
    let fields = [
        Fields::Message {
            channel: 1,
            device: 2,
            number: 3,
        },
        Fields::Message {
            channel: u16::MAX,
            device: u32::MAX,
            number: u32::MAX,
        },
        Fields::KeyPackage {
            fingerprint: 0x2abc_def0_1234,
            fragment: 15,
        },
        Fields::Welcome {
            fingerprint: 1,
            fragment: 0,
        },
        Fields::Commit {
            epoch: 0xff_ffff,
            tag: 1,
            fragment: 255,
        },
        Fields::Blob {
            device: 1,
            number: 0x3fff_ffff,
        },
        Fields::Grant {
            device: 0,
            serial: 5,
        },
        Fields::Record {
            kind: 1023,
            serial: 1,
        },
        Fields::Other { path: 5, bits: 1 },
    ];
    let highest = Place {
        origin: OriginId::new(0xff_ffff),
        org: Place::ORG_MAX,
        team: Place::TEAM_MAX,
    };
    let mut cases = Vec::new();
    for (which, fields) in fields.into_iter().enumerate() {
        for place in [place(2), highest] {
            let name = hex(&Name::new(place, fields).to_bytes());
            let note = format!("layout {which}");
            cases.push(good(&["P-NAME-1"], &note, json!({"name": name})));
        }
    }
    for (note, name) in [
        ("the lowest name", 0),
        ("the highest name, of another app", u128::MAX),
    ] {
        let name = hex(&Name(name).to_bytes());
        cases.push(good(&["P-NAME-1", "P-NAME-2"], note, json!({"name": name})));
    }
    cases
}

fn texts() -> Vec<Case> {
    let whole = "treeline://000abc/message/org-2/team-3/ch-4/dev-5/6";
    let ids = &["P-TEXT-1", "P-PREFIX-1"];
    let mut cases: Vec<Case> = (18..=whole.len())
        .filter(|end| *end == whole.len() || whole.as_bytes()[*end] == b'/')
        .map(|end| good(ids, "a prefix in parts", json!({"text": &whole[..end]})))
        .collect();
    for text in [
        "treeline://000abc/key-package/org-2/team-3/key-0000000000ff/15",
        "treeline://000abc/commit/org-262143/team-1048575/epoch-16777215/tag-262143/255",
        "treeline://000abc/record/org-0/team-0/kind-1023/1099511627775",
        "treeline:00000000000000000000000000000000/0",
        "treeline:ffffffffffffffffffffffffffffffff/128",
        "treeline:000abc01800000000000000000000000/33",
    ] {
        cases.push(good(ids, "the one form", json!({"text": text})));
    }
    let ids = &["P-TEXT-2", "P-PREFIX-1"];
    for (text, error) in [
        ("", "Beginning"),
        ("http://000abc", "Beginning"),
        ("treeline://abc", "Part"),
        ("treeline://000abc/nothing", "Part"),
        ("treeline://000abc/message/org-02", "Part"),
        ("treeline://000abc/message/team-3", "Part"),
        ("treeline://000abc/message/org-262144", "TooLarge"),
        (
            "treeline://000abc/message/org-2/team-3/ch-4/dev-5/6/7",
            "Part",
        ),
        (
            "treeline://000abc/welcome/org-2/team-3/key-ABC000000000",
            "Part",
        ),
        (
            "treeline://000abc/welcome/org-2/team-3/key-400000000000",
            "TooLarge",
        ),
        ("treeline:00/3", "Part"),
        ("treeline:ffffffffffffffffffffffffffffffff/3", "Part"),
        ("treeline:00000000000000000000000000000000/129", "Part"),
        ("treeline:00000000000000000000000000000000/256", "TooLarge"),
    ] {
        cases.push(bad(ids, "not a prefix", json!({"text": text}), error));
    }
    cases
}

fn keys() -> Vec<Case> {
    let key = |key: PublicKey| json!({"key": key.to_hex()});
    [signer(1).public_key(), PublicKey([0xff; 32])]
        .map(|of| good(&["P-KEY-1", "P-KEY-2"], "any 32 bytes", key(of)))
        .into()
}

fn chunks() -> Vec<Case> {
    let key = signer(3);
    let sign = |data: &[u8], expiry: Timestamp| {
        Chunk::sign(message(5, 0), expiry, GrantId([9; 8]), data, &key).unwrap()
    };
    let input = |bytes: &[u8]| json!({"key": key.public_key().to_hex(), "chunk": hex(bytes)});
    let ids = &["P-CHUNK-1", "P-CHUNK-2"];
    let mut cases = vec![
        good(ids, "no data", input(sign(b"", at(NOW)).encoded())),
        good(ids, "some data", input(sign(b"hello", at(NOW)).encoded())),
        good(
            ids,
            "the most data and the latest expiry",
            input(sign(&[0xab; 1024], Timestamp::MAX).encoded()),
        ),
    ];
    let whole = sign(b"hello", at(NOW)).encoded().to_vec();
    let with = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        bytes
    };
    for (note, bytes, error) in [
        ("nothing", Vec::new(), "Truncated"),
        (
            "a byte missing",
            whole[..whole.len() - 1].to_vec(),
            "Truncated",
        ),
        ("a byte left over", [&whole[..], &[0]].concat(), "Trailing"),
        ("version 2", with(0, 2), "Version"),
        ("a flag", with(1, 1), "Undefined"),
        ("1025 bytes of data", with(32, 4), "TooLong"),
        (
            "another signature",
            with(whole.len() - 1, 0xff),
            "BadSignature",
        ),
    ] {
        cases.push(bad(&["P-CHUNK-1", "P-CODE-1"], note, input(&bytes), error));
    }
    cases.push(bad(
        &["P-CHUNK-2"],
        "another key",
        json!({"key": signer(4).public_key().to_hex(), "chunk": hex(&whole)}),
        "BadSignature",
    ));
    // A = the identity and R = the identity with S = 0 verify everything unless that is forbidden.
    let mut forged = whole[..whole.len() - 64].to_vec();
    forged.extend([&[1][..], &[0; 63]].concat());
    let small = hex(&[&[1][..], &[0; 31]].concat());
    cases.push(bad(
        &["P-KEY-3"],
        "a key of small order",
        json!({"key": small, "chunk": hex(&forged)}),
        "BadSignature",
    ));
    cases
}

fn key_packages() -> Vec<Case> {
    let key = signer(5);
    let ids = &["P-CHUNK-6"];
    let sign = |fingerprint: u64, life: u64, by: &Signer| {
        let fields = Fields::KeyPackage {
            fingerprint,
            fragment: 0,
        };
        let data = split_with_key(&[7; 20], 16, &key.public_key()).unwrap();
        let expiry = at(NOW + life);
        let name = Name::new(place(1), fields);
        let chunk = Chunk::sign(name, expiry, GrantId::NONE, &data[0], by).unwrap();
        json!({"now": NOW, "chunk": hex(chunk.encoded())})
    };
    let own = key.public_key().fingerprint().name_bits();
    let (life, skew) = (limits::KEY_PACKAGE_LIFE_MS, limits::CLOCK_SKEW_MS);
    vec![
        good(ids, "with the longest life", sign(own, life + skew, &key)),
        bad(ids, "another name", sign(own ^ 1, 1, &key), "OutsideGrant"),
        bad(
            ids,
            "another signer",
            sign(own, 1, &signer(6)),
            "BadSignature",
        ),
        bad(
            &["P-CHUNK-6", "P-CHUNK-5"],
            "too long a life",
            sign(own, life + skew + 1, &key),
            "TooLongLived",
        ),
        bad(&["P-CHUNK-4"], "it ends now", sign(own, 0, &key), "Expired"),
    ]
}

/// The grant of an organisation's key, and one of a device by that key.
struct Chain {
    org: Chunk,
    device: Chunk,
    grant: Grant,
}

fn device_grant() -> Grant {
    Grant {
        subject: signer(3).public_key(),
        not_after: at(NOW + 10 * DAY),
        limits: Limits {
            life_ms: DAY,
            subscription_bits: 40,
            chunks_per_second: 100,
            byte_seconds: 1 << 40,
        },
        rules: vec![Rule {
            verbs: Verbs::PUBLISH.and(Verbs::SUBSCRIBE),
            pattern: Pattern::of_device(place(2), Path::Message, 5),
        }],
    }
}

fn org_grant() -> Chunk {
    let registration = Registration::issue(&origin(), 7, [2; 32], at(NOW + 100 * DAY)).unwrap();
    registration.grant
}

fn chain(grant: Grant) -> Chain {
    let org = org_grant();
    let device = grant.sign(place(2), 5, GrantId::of(&org), &signer(2));
    Chain {
        device: device.unwrap(),
        org,
        grant,
    }
}

fn chain_input(chain: &[&Chunk], chunk: Option<&Chunk>) -> Value {
    let texts: Vec<String> = chain.iter().map(|chunk| hex(chunk.encoded())).collect();
    let mut input = json!({"origin": origin().public_key().to_hex(), "chain": texts});
    if let Some(chunk) = chunk {
        input["now"] = NOW.into();
        input["chunk"] = hex(chunk.encoded()).into();
    }
    input
}

fn grants() -> Vec<Case> {
    let Chain { org, device, grant } = chain(device_grant());
    let mut cases = vec![
        good(
            &["P-GRANT-1", "P-GRANT-2", "P-GRANT-3", "P-PATTERN-1"],
            "an organisation's",
            chain_input(&[&org], None),
        ),
        good(
            &["P-GRANT-1", "P-GRANT-4", "P-GRANT-5"],
            "a device's",
            chain_input(&[&org, &device], None),
        ),
    ];
    cases.extend(wider());
    cases.extend(misformed(&org, &grant));
    cases.extend(relying(&org, &device));
    cases
}

/// Chains that hand on what the parent may not.
fn wider() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |note: &str, change: &dyn Fn(&mut Grant)| {
        let mut grant = device_grant();
        change(&mut grant);
        let Chain { org, device, .. } = chain(grant);
        let input = chain_input(&[&org, &device], None);
        cases.push(bad(&["P-GRANT-5"], note, input, "Wider"));
    };
    add("another organisation", &|grant| {
        grant.rules[0].pattern = Pattern::of_org(place(0).origin, 8);
    });
    add("a longer time", &|grant| {
        grant.not_after = at(NOW + 101 * DAY)
    });
    add("a longer life", &|grant| {
        grant.limits.life_ms = limits::LIFE_MS + 1;
    });
    cases
}

/// Chains whose parts are not what they should be.
fn misformed(org: &Chunk, grant: &Grant) -> Vec<Case> {
    let parent = GrantId::of(org);
    let signed = |by: u8, parent| grant.sign(place(2), 5, parent, &signer(by)).unwrap();
    let device = signed(2, parent);
    let foreign = signed(2, GrantId([1; 8]));
    let again = |name: Name, expiry: Timestamp, data: &[u8]| {
        Chunk::sign(name, expiry, parent, data, &signer(2)).unwrap()
    };
    let elsewhere = again(Name(device.name().0 ^ 1), device.expiry(), &device.data());
    let longer = again(device.name(), at(NOW), &device.data());
    let message = again(message(5, 0), device.expiry(), &device.data());
    let cut = again(device.name(), device.expiry(), &device.data()[..40]);
    let input = |chunk: &Chunk| chain_input(&[org, chunk], None);
    let by_other = {
        let other = grant.sign(place(2), 5, GrantId::NONE, &signer(9));
        chain_input(&[&other.unwrap()], None)
    };
    let mut loose = device.data().to_vec();
    loose[60] = 4;
    let at_value = loose.len() - 32;
    loose[at_value + 15] |= 1;
    let loose = again(device.name(), device.expiry(), &loose);
    vec![
        bad(
            &["P-GRANT-4"],
            "another signer",
            input(&signed(8, parent)),
            "Signature",
        ),
        bad(&["P-GRANT-4"], "another parent", input(&foreign), "NoGrant"),
        bad(&["P-GRANT-2"], "another serial", input(&elsewhere), "Name"),
        bad(&["P-GRANT-2"], "another expiry", input(&longer), "Name"),
        bad(&["P-GRANT-1"], "on another path", input(&message), "Path"),
        bad(&["P-GRANT-1", "P-CODE-1"], "cut", input(&cut), "Decode"),
        bad(
            &["P-PATTERN-1"],
            "a value outside its mask",
            input(&loose),
            "Decode",
        ),
        bad(&["P-GRANT-3"], "not by the origin", by_other, "Signature"),
    ]
}

/// Chunks that rely on a grant.
fn relying(org: &Chunk, device: &Chunk) -> Vec<Case> {
    let id = GrantId::of(device);
    let input = |device_number, expiry, by: u8| {
        let name = message(device_number, 0);
        let chunk = Chunk::sign(name, at(expiry), id, b"x", &signer(by)).unwrap();
        chain_input(&[org, device], Some(&chunk))
    };
    let longest = NOW + DAY + limits::CLOCK_SKEW_MS;
    vec![
        good(
            &["P-GRANT-7", "P-CHUNK-5"],
            "a chunk with the longest life",
            input(5, longest, 3),
        ),
        bad(
            &["P-GRANT-7"],
            "another device",
            input(6, NOW + 1, 3),
            "OutsideGrant",
        ),
        bad(
            &["P-CHUNK-5"],
            "too long a life",
            input(5, longest + 1, 3),
            "TooLongLived",
        ),
        bad(&["P-CHUNK-4"], "it ends now", input(5, NOW, 3), "Expired"),
        bad(
            &["P-CHUNK-2"],
            "another signer",
            input(5, NOW + 1, 4),
            "BadSignature",
        ),
    ]
}

fn fragments() -> Vec<Case> {
    let object = |length: usize| -> Vec<u8> { (0..length).map(|i| (i * 7 % 251) as u8).collect() };
    let input = |parts: &[Vec<u8>]| {
        let parts: Vec<String> = parts.iter().map(|part| hex(part)).collect();
        json!({"fragments": parts})
    };
    let mut cases: Vec<Case> = [0, 1, 1023, 1024, 2010, 2011]
        .into_iter()
        .map(|length| {
            let parts = split(&object(length), limits::MESSAGE_FRAGMENTS).unwrap();
            good(
                &["P-FRAG-1"],
                &format!("{length} bytes in {}", parts.len()),
                input(&parts),
            )
        })
        .collect();
    let parts = split(&object(2011), limits::MESSAGE_FRAGMENTS).unwrap();
    let mut flipped = parts.clone();
    flipped[1][5] ^= 1;
    let mut longer = parts.clone();
    longer[2].push(0);
    for (ids, note, parts, error) in [
        ("P-FRAG-3", "a flipped byte", flipped, "Hash"),
        ("P-FRAG-2", "too many bytes", longer, "Unexpected"),
        ("P-FRAG-2", "no first", parts[1..].to_vec(), "Unexpected"),
        (
            "P-FRAG-2",
            "an undefined kind",
            vec![vec![3, 1]],
            "Unexpected",
        ),
        ("P-FRAG-2", "an empty fragment", vec![vec![]], "Unexpected"),
        (
            "P-FRAG-2",
            "not all of it",
            parts[..2].to_vec(),
            "Unfinished",
        ),
        (
            "P-FRAG-2",
            "an announced length above the limit",
            vec![[&[1, 4, 0, 0, 1][..], &[0; 33]].concat()],
            "TooLong",
        ),
    ] {
        cases.push(bad(&[ids], note, input(&parts), error));
    }
    cases
}

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

fn frames() -> Vec<Case> {
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
        ("a question", Reconcile::Ask { id: 7, spans: vec![own] }),
        ("a question about nothing", Reconcile::Ask { id: 7, spans: vec![] }),
        ("a list, and a fingerprint of 33 chunks", Reconcile::Tell { id: 7, parts }),
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
    let five = [&length[..], grant.encoded()].concat().repeat(5);
    let five = [&[0, 5][..], &five].concat();
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
            "a chain of five",
            raw(2, &five),
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
        ("P-REC-1", "1025 parts", body(1, [4, 1], &[]), "FrameTooLong"),
        ("P-REC-1", "1025 wishes", body(2, [4, 1], &[]), "FrameTooLong"),
        ("P-REC-1", "an undefined kind", body(3, [0, 0], &[]), MALFORMED),
        (
            "P-REC-1",
            "a longer form of a number",
            body(0, [0, 1], &[0x80, 0, 0]),
            MALFORMED,
        ),
        ("P-REC-1", "a number of 129 bits", body(0, [0, 1], &[&[0xff; 18][..], &[7, 0]].concat()), MALFORMED),
        ("P-REC-1", "a span beyond the highest name", body(0, [0, 1], &beyond), MALFORMED),
        ("P-REC-1", "a span behind the highest name", body(0, [0, 2], &behind), MALFORMED),
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

fn registrations() -> Vec<Case> {
    let until = at(NOW + 100 * DAY);
    let issue = |org| Registration::issue(&origin(), org, [2; 32], until).unwrap();
    let input = |registration: &Registration| json!({"text": *registration.to_text()});
    let mut other_org = issue(7);
    other_org.org = 8;
    let mut other_seed = issue(7);
    *other_seed.seed = [3; 32];
    let mut other_origin = issue(7);
    other_origin.origin = signer(9).public_key();
    let cut = json!({"text": issue(7).to_text()[..100].to_owned()});
    let ids = &["P-REG-1"];
    vec![
        good(ids, "organisation 7", input(&issue(7))),
        good(
            ids,
            "the highest organisation",
            input(&issue(Place::ORG_MAX)),
        ),
        bad(ids, "another organisation", input(&other_org), "Grant"),
        bad(ids, "another seed", input(&other_seed), "Grant"),
        bad(ids, "another origin", input(&other_origin), "Grant"),
        bad(ids, "cut", cut, "Text"),
        bad(
            ids,
            "another beginning",
            json!({"text": "treeline-x-AA"}),
            "Text",
        ),
    ]
}
