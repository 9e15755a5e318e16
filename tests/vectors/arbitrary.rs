//! Arbitrary bytes never make a decoder panic: those that `proto` itself does not try.

use endpoint_secure_api::codec;
use proptest::prelude::*;
use proto::{
    Chunk, Fields, Fingerprint, Grant, GrantId, Join, Name, OriginId, Place, Registration, Signer,
    Timestamp,
};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #[test]
    fn a_chunk(bytes in bytes(1200), length in 0..1100u16) {
        let mut plausible = bytes.clone();
        if let Some(head) = plausible.get_mut(..2) {
            head.copy_from_slice(&[1, 0]);
        }
        if let Some(field) = plausible.get_mut(32..34) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        for bytes in [bytes, plausible] {
            if let Ok(chunk) = Chunk::decode(bytes.clone().into()) {
                prop_assert_eq!(&chunk.encoded()[..], &bytes[..]);
                let _ = (Grant::decode(&chunk), chunk.self_certifying_key(), format!("{chunk:?}"));
            }
        }
    }

    #[test]
    fn the_data_of_a_grant(mut data in bytes(700), rules in 0..20u8) {
        if data.len() > 59 {
            data[0] = 1;
            data[58..60].copy_from_slice(&[0, rules]);
        }
        let place = Place { origin: OriginId::new(1), org: 1, team: 1 };
        let name = Name::new(place, Fields::Grant { device: 1, serial: 1 });
        let signer = Signer::from_seed(&[1; 32]);
        let chunk = Chunk::sign(name, Timestamp::MAX, GrantId::NONE, &data, &signer).unwrap();
        let _ = Grant::from_origin(&chunk, &signer.public_key());
    }

    #[test]
    fn fragments(parts in prop::collection::vec((0..4u8, bytes(60)), 0..6)) {
        let mut join = Join::default();
        for (kind, part) in parts {
            let _ = join.push(&[&[kind], &part[..]].concat(), 1000);
        }
    }

    #[test]
    fn the_text_of_a_registration(body in "[A-Za-z0-9_=-]{0,400}", any in ".{0,60}") {
        let text = format!("treeline-org-{body}");
        prop_assert!(Registration::from_text(&text).is_err());
        prop_assert!(Registration::from_text(&any).is_err());
        let _ = Fingerprint::from_hex(&any);
    }

    #[test]
    fn the_door(bytes in bytes(100), kind in 0..6u8) {
        let length = (bytes.len() as u32).to_be_bytes();
        let framed = [&length[..], &[kind], bytes.get(1..).unwrap_or_default()].concat();
        for bytes in [bytes, framed] {
            if let Ok(Some(frame)) = codec::Frame::read(&mut bytes.as_slice()) {
                let _ = frame.parse::<endpoint_secure_api::Command>();
                let _ = frame.parse::<endpoint_secure_api::Event>();
            }
        }
    }
}
