//! The page's types are these types: `endpoint-ui/src/door.ts` is written from here, and this test
//! fails when it is stale. `TREELINE_WRITE=1 cargo test -p endpoint-secure-api` writes it.

use ts_rs::{Config, TS};

use crate::*;

fn declarations() -> String {
    let config = Config::new().with_large_int("number");
    let mut out = String::from(
        "// Written by endpoint-secure/api/src/typescript.rs from the Rust types. Do not edit.\n",
    );
    out.push_str(&format!(
        "\n/** A front end says `present` at most so often, in milliseconds. */\nexport const PRESENCE_MS = {};\n",
        Command::PRESENCE_MS
    ));
    macro_rules! declare {
        ($($name:ident)*) => {$(
            out.push_str(&format!("\nexport {}\n", <$name as TS>::decl(&config)));
        )*};
    }
    declare! {
        Lock LockCause Locking Standing Relay Suite Role TeamId ChannelId MessageId Delivery Reach JoinStage Profile Connectivity Status
        Team Channel Device Organisation Invite Fate Issued Request Preview Message Anchor Earlier Page Passphrase Command Answer Code Refusal Event
    }
    out
}

#[test]
fn the_pages_types_are_these() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../endpoint-ui/src/door.ts");
    let fresh = declarations();
    if std::env::var_os("TREELINE_WRITE").is_some() {
        std::fs::write(path, &fresh).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == fresh,
        "door.ts is stale: TREELINE_WRITE=1 cargo test -p endpoint-secure-api"
    );
}
