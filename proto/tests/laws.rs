//! Laws of the encodings, over arbitrary values and arbitrary bytes.

use proptest::prelude::*;
use proto::{
    Chunk, Fields, Frame, FrameDecoder, GrantId, Name, OriginId, Path, Pattern, Place, Prefix,
    Signer, Timestamp,
};

fn name() -> impl Strategy<Value = Name> {
    any::<u128>().prop_map(Name)
}

fn messenger_name() -> impl Strategy<Value = Name> {
    (any::<u128>(), 1..=8u8)
        .prop_map(|(bits, path)| Name(bits & !(0xffff << 88) | 1 << 96 | u128::from(path) << 88))
}

proptest! {
    #[test]
    fn a_name_is_its_place_and_fields(name in messenger_name()) {
        prop_assert_eq!(Name::new(name.place(), name.fields()), name);
    }

    #[test]
    fn a_prefix_is_its_text(name in prop_oneof![name(), messenger_name()], bits in 0..=128u8) {
        let prefix = Prefix::of(name, bits);
        prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
    }

    #[test]
    fn containing_is_lying_between_first_and_last(a in name(), b in name(), bits in 0..=128u8) {
        let prefix = Prefix::of(a, bits);
        prop_assert_eq!(prefix.contains(b), prefix.first() <= b && b <= prefix.last());
        prop_assert_eq!(Pattern::of_prefix(prefix).matches(b), prefix.contains(b));
    }

    #[test]
    fn any_text_is_a_prefix_or_an_error(text in "(treeline:)?(//)?[0-9a-f/a-z-]{0,60}") {
        if let Ok(prefix) = text.parse::<Prefix>() {
            prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
        }
    }

    #[test]
    fn a_chunk_comes_back(bits in name(), expiry in any::<u64>(), data in prop::collection::vec(any::<u8>(), 0..=1024)) {
        let signer = Signer::from_seed(&[3; 32]);
        let expiry = Timestamp::from_millis(expiry);
        let chunk = Chunk::sign(bits, expiry, GrantId([1; 8]), &data, &signer).unwrap();
        let back = Chunk::decode(chunk.encoded().clone()).unwrap();
        prop_assert!(back.verifies(&signer.public_key()));
        prop_assert_eq!(&back.data()[..], &data[..]);
        prop_assert_eq!((back.name(), back.expiry()), (bits, expiry));
    }

    #[test]
    fn arbitrary_bytes_are_frames_with_one_encoding_or_misbehaviour(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1..=12u8) {
        let mut decoder = FrameDecoder::default();
        let head = [&[kind][..], &(bytes.len() as u32).to_be_bytes()].concat();
        decoder.push(&head);
        decoder.push(&bytes);
        if let Ok(Some(frame)) = decoder.next_frame() {
            let again = frame.to_bytes();
            let later_hello = matches!(&frame, Frame::Hello(hello) if hello.newest > 1);
            prop_assert!(later_hello || again[..] == [&head[..], &bytes].concat()[..]);
        }
    }

    #[test]
    fn fragments_join(object in prop::collection::vec(any::<u8>(), 0..5000)) {
        let mut join = proto::Join::default();
        let parts = proto::split(&object, 255).unwrap();
        let last = parts.iter().map(|part| join.push(part, 5000)).last();
        prop_assert_eq!(last, Some(Ok(proto::Joined::Object(object))));
    }
}

#[test]
fn consecutive_fragments_have_consecutive_names() {
    let place = Place {
        origin: OriginId::new(1),
        org: 1,
        team: 1,
    };
    let first = Name::new(
        place,
        Fields::Commit {
            epoch: 1,
            tag: 2,
            fragment: 0,
        },
    );
    let third = first.offset(2).unwrap();
    assert_eq!(
        third.fields(),
        Fields::Commit {
            epoch: 1,
            tag: 2,
            fragment: 2
        }
    );
    assert_eq!(third.path(), Path::Commit);
    assert_eq!(first.offset(256), None);
}
