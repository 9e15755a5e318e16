//! What the code makes of a vector's input: a value as JSON, or the name of the error. One function
//! for each kind of vector, so that files, generator and flips are all judged the same way.

use data_encoding::HEXLOWER;
use proto::{
    Chunk, Fields, Frame, FrameDecoder, Grant, GrantId, Holds, Join, Joined, Listed, Name, Order,
    Outcome, Part, Prefix, PublicKey, Reconcile, Registration, Span, Start, Timestamp, Verbs,
    limits,
};
use serde_json::{Value, json};

/// A value, or the name of what is wrong.
pub type Judged = Result<Value, String>;

/// Judges the input of a vector of this kind.
pub fn judge(kind: &str, input: &Value) -> Judged {
    match kind {
        "names" => Ok(name(input)),
        "texts" => text(input),
        "keys" => keys(input),
        "chunks" => chunk(input),
        "key-packages" => key_package(input),
        "grants" => chain(input),
        "fragments" => fragments(input),
        "frames" => frames(input),
        "registrations" => registration(input),
        other => panic!("no kind of vector is called {other}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn key(value: &Value) -> PublicKey {
    PublicKey(bytes(value).try_into().unwrap())
}

fn now(input: &Value) -> Timestamp {
    Timestamp::from_millis(input["now"].as_u64().unwrap())
}

/// The variant's name alone.
fn named(error: impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(', '{']).next().unwrap().to_owned()
}

fn name(input: &Value) -> Value {
    let name = Name(u128::from_be_bytes(
        bytes(&input["name"]).try_into().unwrap(),
    ));
    let place = name.place();
    let fields = match name.fields() {
        Fields::Message {
            channel,
            device,
            number,
        } => json!({"channel": channel, "device": device, "number": number}),
        Fields::KeyPackage {
            fingerprint,
            fragment,
        }
        | Fields::Welcome {
            fingerprint,
            fragment,
        } => json!({"fingerprint": fingerprint, "fragment": fragment}),
        Fields::Commit {
            epoch,
            tag,
            fragment,
        } => json!({"epoch": epoch, "tag": tag, "fragment": fragment}),
        Fields::Blob { device, number } => json!({"device": device, "number": number}),
        Fields::Grant { device, serial } => json!({"device": device, "serial": serial}),
        Fields::Record { kind, serial } => json!({"kind": kind, "serial": serial}),
        Fields::Other { bits, .. } => json!({"bits": bits}),
    };
    json!({
        "text": name.to_string(), "origin": place.origin.get(), "app": name.app(),
        "path": name.path().number(), "org": place.org, "team": place.team, "fields": fields,
    })
}

fn text(input: &Value) -> Judged {
    let prefix: Prefix = input["text"].as_str().unwrap().parse().map_err(named)?;
    Ok(json!({
        "first": hex(&prefix.first().to_bytes()), "bits": prefix.bits(), "text": prefix.to_string(),
    }))
}

fn keys(input: &Value) -> Judged {
    let key = key(&input["key"]);
    let fingerprint = key.fingerprint();
    Ok(json!({
        "fingerprint": fingerprint.to_hex(), "name_bits": fingerprint.name_bits(),
        "digits": fingerprint.digits(),
        "origin": key.origin_id().get(),
    }))
}

fn chunk_value(chunk: &Chunk) -> Value {
    json!({
        "name": hex(&chunk.name().to_bytes()), "expiry": chunk.expiry().millis(),
        "grant": hex(&chunk.grant().0), "data": hex(&chunk.data()),
        "signature": hex(&chunk.signature()),
    })
}

fn chunk(input: &Value) -> Judged {
    let chunk = Chunk::decode(bytes(&input["chunk"]).into()).map_err(named)?;
    if chunk.verifies(&key(&input["key"])) {
        Ok(chunk_value(&chunk))
    } else {
        Err("BadSignature".into())
    }
}

fn key_package(input: &Value) -> Judged {
    let chunk = Chunk::decode(bytes(&input["chunk"]).into()).map_err(named)?;
    let key = chunk.check_key_package(now(input)).map_err(named)?;
    if chunk.verifies(&key) {
        Ok(json!({"key": key.to_hex(), "chunk": chunk_value(&chunk)}))
    } else {
        Err("BadSignature".into())
    }
}

fn grant_value(grant: &Grant, id: GrantId) -> Value {
    let verbs = |verbs: Verbs| {
        [
            (Verbs::PUBLISH, 1),
            (Verbs::SUBSCRIBE, 2),
            (Verbs::GRANT, 4),
        ]
        .into_iter()
        .filter(|(verb, _)| verbs.contains(*verb))
        .map(|(_, number)| number)
        .sum::<u8>()
    };
    let rules: Vec<Value> = grant
        .rules
        .iter()
        .map(|rule| {
            json!({
                "verbs": verbs(rule.verbs),
                "value": hex(&rule.pattern.value().to_be_bytes()),
                "mask": hex(&rule.pattern.mask().to_be_bytes()),
            })
        })
        .collect();
    json!({
        "id": hex(&id.0), "subject": grant.subject.to_hex(), "not_after": grant.not_after.millis(),
        "subscription_bits": grant.limits.subscription_bits,
        "chunks_per_second": grant.limits.chunks_per_second,
        "byte_seconds": grant.limits.byte_seconds, "life_ms": grant.limits.life_ms, "rules": rules,
    })
}

/// A chain of grants, the origin's first, and a chunk that relies on the last.
fn chain(input: &Value) -> Judged {
    let origin = key(&input["origin"]);
    let mut held: Option<(Grant, GrantId)> = None;
    for chunk in input["chain"].as_array().unwrap() {
        let chunk = Chunk::decode(bytes(chunk).into()).map_err(named)?;
        let grant = match &held {
            None => Grant::from_origin(&chunk, &origin).map_err(named)?,
            Some((_, id)) if chunk.grant() != *id => return Err("NoGrant".into()),
            Some((parent, _)) => Grant::from_issuer(&chunk, parent).map_err(named)?,
        };
        held = Some((grant, GrantId::of(&chunk)));
    }
    let (grant, id) = held.unwrap();
    if let Some(text) = input.get("chunk") {
        let chunk = Chunk::decode(bytes(text).into()).map_err(named)?;
        if chunk.grant() != id {
            return Err("NoGrant".into());
        }
        grant.check(&chunk, now(input)).map_err(named)?;
        if !chunk.verifies(&grant.subject) {
            return Err("BadSignature".into());
        }
    }
    Ok(grant_value(&grant, id))
}

fn fragments(input: &Value) -> Judged {
    let mut join = Join::default();
    let mut object = None;
    for part in input["fragments"].as_array().unwrap() {
        match join
            .push(&bytes(part), limits::OBJECT_BYTES)
            .map_err(named)?
        {
            Joined::More => {}
            Joined::Object(bytes) => object = Some(bytes),
        }
    }
    let object = object.ok_or("Unfinished")?;
    Ok(json!({"object": hex(&object)}))
}

fn registration(input: &Value) -> Judged {
    let text = input["text"].as_str().unwrap();
    let read = Registration::from_text(text).map_err(named)?;
    Ok(json!({
        "origin": read.origin.to_hex(), "org": read.org, "seed": hex(&*read.seed),
        "grant": hex(read.grant.encoded()),
    }))
}

/// All frames of a stream, which must end with one.
fn frames(input: &Value) -> Judged {
    let mut decoder = FrameDecoder::default();
    let stream = bytes(&input["stream"]);
    decoder.push(&stream);
    let (mut found, mut length) = (Vec::new(), 0);
    while let Some(frame) = decoder.next_frame().map_err(named)? {
        length += frame.to_bytes().len();
        found.push(frame_value(&frame));
    }
    if found.is_empty() || (length != stream.len() && input.get("skips").is_none()) {
        return Err("Unfinished".into());
    }
    Ok(found.into())
}

fn chunks_value(chunks: &[Chunk]) -> Value {
    chunks
        .iter()
        .map(|chunk| hex(chunk.encoded()))
        .collect::<Vec<_>>()
        .into()
}

fn names_value(names: &[Name]) -> Value {
    let names = names.iter().map(|name| hex(&name.to_bytes()));
    names.collect::<Vec<_>>().into()
}

fn acks_value(acks: &[(Name, Outcome)]) -> Value {
    let one = |(name, outcome): &(Name, Outcome)| {
        let name = hex(&name.to_bytes());
        match outcome {
            Outcome::Stored(tier) => json!({"name": name, "stored": tier.word()}),
            Outcome::Refused(reason) => json!({"name": name, "refused": named(reason)}),
        }
    };
    acks.iter().map(one).collect::<Vec<_>>().into()
}

fn start_value(start: &Start) -> Value {
    match start {
        Start::All => json!("all"),
        Start::Newest(count) => json!({"newest": count}),
        Start::After(cursor) => json!({"after": hex(cursor.as_bytes())}),
    }
}

fn frame_value(frame: &Frame) -> Value {
    match frame {
        Frame::Hello(hello) => json!({"hello": {
            "oldest": hello.oldest, "newest": hello.newest, "features": hello.features,
            "tier": hello.tier.word(), "time": hello.time.millis(), "store": hex(&hello.store),
        }}),
        Frame::Grant(chunks) => json!({"grant": chunks_value(chunks)}),
        Frame::Publish(chunks) => json!({"publish": chunks_value(chunks)}),
        Frame::Ack(acks) => json!({"ack": acks_value(acks)}),
        Frame::Subscribe {
            id,
            prefix,
            start,
            order,
        } => json!({"subscribe": {
            "id": id, "first": hex(&prefix.first().to_bytes()), "bits": prefix.bits(),
            "newest_first": *order == Order::NewestFirst, "start": start_value(start),
        }}),
        Frame::Chunks { id, chunks } => {
            json!({"chunk": {"id": id, "chunks": chunks_value(chunks)}})
        }
        Frame::CaughtUp { id, cursor, live } => {
            json!({"caught_up": {"id": id, "live": live, "cursor": hex(cursor.as_bytes())}})
        }
        Frame::Unsubscribe { id } => json!({"unsubscribe": {"id": id}}),
        Frame::Fetch { id, names } => json!({"fetch": {"id": id, "names": names_value(names)}}),
        Frame::Reconcile(said) => json!({"reconcile": reconcile_value(said)}),
        Frame::Reach { tier, relay } => json!({"reach": {"tier": tier.word(), "relay": relay}}),
        Frame::Close { reason } => json!({"close": {"reason": reason}}),
    }
}

fn reconcile_value(said: &Reconcile) -> Value {
    let spans =
        |spans: &[Span]| -> Vec<Value> { spans.iter().map(|span| span_value(*span)).collect() };
    match said {
        Reconcile::Ask { id, spans: of } => json!({"ask": {"id": id, "spans": spans(of)}}),
        Reconcile::Want { id, spans: of } => json!({"want": {"id": id, "spans": spans(of)}}),
        Reconcile::Tell { id, parts } => {
            let parts: Vec<Value> = parts.iter().map(part_value).collect();
            json!({"tell": {"id": id, "parts": parts}})
        }
    }
}

fn span_value(span: Span) -> Value {
    json!([hex(&span.first().to_bytes()), hex(&span.last().to_bytes())])
}

fn part_value(part: &Part) -> Value {
    let span = span_value(part.span);
    match &part.holds {
        Holds::Summary(held) => {
            json!({"span": span, "count": held.count, "sum": hex(&held.sum.to_be_bytes())})
        }
        Holds::Names(names) => {
            let name = |listed: &Listed| {
                json!([
                    hex(&listed.name.to_bytes()),
                    hex(&listed.check.to_be_bytes())
                ])
            };
            let names: Vec<Value> = names.iter().map(name).collect();
            json!({"span": span, "names": names})
        }
    }
}
