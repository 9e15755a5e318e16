//! The inputs of the vectors, made from fixed seeds, and which error each bad one must have. What a
//! good one means is judged by the code and then stands in the files, to be read by people.

mod frames;

use proto::{
    Chunk, Fields, Grant, GrantId, Limits, Name, OriginId, Path, Pattern, Place, PublicKey,
    Registration, Rule, Signer, Timestamp, Verbs, limits, split, split_with_key,
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
        ("frames", frames::frames()),
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
        good(ids, "another tag", sign(own ^ 0xffff, 1, &key)),
        bad(
            ids,
            "another name",
            sign(own ^ 1 << 16, 1, &key),
            "OutsideGrant",
        ),
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
