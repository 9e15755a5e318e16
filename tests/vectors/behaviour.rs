//! What docs/protocol.md demands of a relay, tried on one node with a store in memory. Time stands
//! still; trees of nodes, crashes and slow readers are tried next to the node's own code.

use std::collections::BTreeMap;

use proto::{
    Chunk, Cursor, Fields, Frame, FrameDecoder, Grant, GrantId, Hello, Holds, Listed, Misbehaved,
    Name, Order, Outcome, Part, Path, Pattern, Place, Prefix, Reconcile, Refused, Registration,
    Revocation, Rule, Signer, Span, Start, Summary, Tier, Timestamp, Verbs,
};
use relay_core::store::{MemoryStore, Store, StoreId};
use relay_core::{Closed, Config, Effect, Event, Limits, LinkId, Node, Role};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: u64 = proto::limits::DAY_MS;

/// How many bytes were sent on a link, each time.
type Sent = Vec<(LinkId, usize)>;

/// What a peer of the node hears.
#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Frame(Frame),
    Closed(Closed),
}

struct Bench {
    node: Node<MemoryStore>,
    decoders: BTreeMap<LinkId, FrameDecoder>,
    registration: Registration,
    links: u64,
}

impl Bench {
    fn new(tier: Tier) -> Self {
        let origin = Signer::from_seed(&[1; 32]);
        let registration =
            Registration::issue(&origin, 7, [2; 32], NOW.plus_millis(9 * DAY)).unwrap();
        let config = Config {
            tier,
            origins: vec![origin.public_key()],
            limits: Limits::default(),
        };
        let store = MemoryStore::new(StoreId([1; 16]));
        Self {
            node: Node::new(config, store, NOW).unwrap(),
            decoders: BTreeMap::new(),
            registration,
            links: 0,
        }
    }

    fn join(&mut self, role: Role) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        self.node.handle(Event::Connected { link, role }, NOW);
        link
    }

    /// A downstream that has greeted and shown its grant.
    fn client(&mut self) -> LinkId {
        let link = self.join(Role::Downstream);
        self.say(link, hello(1, 1));
        self.say(link, Frame::Grant(vec![self.registration.grant.clone()]));
        link
    }

    /// A connection to an origin, and what that hears at once.
    fn parent(&mut self, features: u64, store: [u8; 16]) -> (LinkId, Vec<Heard>) {
        let relay = "above".into();
        let key = proto::PublicKey([7; 32]);
        let link = self.join(Role::Upstream { relay, key });
        let Frame::Hello(mut greeting) = hello(1, 1) else {
            panic!("a HELLO")
        };
        (greeting.tier, greeting.features, greeting.store) = (Tier::Origin, features, store);
        (link, self.say(link, Frame::Hello(greeting)))
    }

    fn tell(&mut self, link: LinkId, frame: Frame) {
        self.node.handle(Event::Received { link, frame }, NOW);
    }

    /// Tells the node a frame, lets it do all it has to do, and returns what this link hears.
    fn say(&mut self, link: LinkId, frame: Frame) -> Vec<Heard> {
        self.tell(link, frame);
        self.settle()
            .into_iter()
            .filter(|(to, _)| *to == link)
            .map(|(_, heard)| heard)
            .collect()
    }

    fn settle(&mut self) -> Vec<(LinkId, Heard)> {
        let mut heard = Vec::new();
        for _ in 0..1000 {
            self.node.commit(NOW);
            let (new, sent) = self.effects();
            heard.extend(new);
            for (link, bytes) in sent {
                self.node.handle(
                    Event::Drained {
                        link,
                        bytes,
                        sends: 1,
                    },
                    NOW,
                );
            }
            if self.node.next_timeout().is_none_or(|at| at > NOW) {
                return heard;
            }
            self.node.handle_timeout(NOW);
        }
        panic!("the node never comes to rest");
    }

    fn effects(&mut self) -> (Vec<(LinkId, Heard)>, Sent) {
        let (mut heard, mut sent) = (Vec::new(), Vec::new());
        while let Some(effect) = self.node.next_effect() {
            match effect {
                Effect::Send { link, bytes } => {
                    let decoder = self.decoders.entry(link).or_default();
                    decoder.push(&bytes);
                    while let Some(frame) = decoder.next_frame().unwrap() {
                        heard.push((link, Heard::Frame(frame)));
                    }
                    sent.push((link, bytes.len()));
                }
                Effect::Close { link, reason } => heard.push((link, Heard::Closed(reason))),
                Effect::Note(_) => {}
            }
        }
        (heard, sent)
    }

    fn chunk(&self, number: u32) -> Chunk {
        self.chunk_with(self.place(), number, b"x")
    }

    fn chunk_with(&self, place: Place, number: u32, data: &[u8]) -> Chunk {
        let fields = Fields::Message {
            channel: 1,
            device: 3,
            number,
        };
        self.signed(Name::new(place, fields), DAY, data)
    }

    fn signed(&self, name: Name, life: u64, data: &[u8]) -> Chunk {
        let signer = Signer::from_seed(&self.registration.seed);
        let grant = GrantId::of(&self.registration.grant);
        Chunk::sign(name, NOW.plus_millis(life), grant, data, &signer).unwrap()
    }

    fn place(&self) -> Place {
        Place {
            origin: self.registration.origin.origin_id(),
            org: 7,
            team: 2,
        }
    }

    fn prefix(&self) -> Prefix {
        Name::team_prefix(self.place(), Path::Message)
    }

    fn publish(&mut self, link: LinkId, chunk: &Chunk) -> Vec<(Name, Outcome)> {
        acks(&self.say(link, Frame::Publish(vec![chunk.clone()])))
    }

    fn subscribe(&mut self, link: LinkId, id: u32, prefix: Prefix, start: Start) -> Vec<Heard> {
        let order = Order::OldestFirst;
        let frame = Frame::Subscribe {
            id,
            prefix,
            start,
            order,
        };
        self.say(link, frame)
    }
}

fn hello(oldest: u16, newest: u16) -> Frame {
    Frame::Hello(Hello {
        oldest,
        newest,
        features: 0,
        tier: Tier::Device,
        time: NOW,
        store: [0; 16],
    })
}

fn acks(heard: &[Heard]) -> Vec<(Name, Outcome)> {
    let acks = heard.iter().filter_map(|heard| match heard {
        Heard::Frame(Frame::Ack(acks)) => Some(acks.clone()),
        _ => None,
    });
    acks.flatten().collect()
}

fn delivered(heard: &[Heard]) -> Vec<Chunk> {
    let chunks = heard.iter().filter_map(|heard| match heard {
        Heard::Frame(Frame::Chunks { chunks, .. }) => Some(chunks.clone()),
        _ => None,
    });
    chunks.flatten().collect()
}

fn closed(heard: &[Heard]) -> Option<Misbehaved> {
    heard.iter().find_map(|heard| match heard {
        Heard::Closed(Closed::Misbehaved(how)) => Some(*how),
        _ => None,
    })
}

fn cursor(heard: &[Heard]) -> Option<Cursor> {
    heard.iter().rev().find_map(|heard| match heard {
        Heard::Frame(Frame::CaughtUp {
            cursor, live: true, ..
        }) => Some(cursor.clone()),
        _ => None,
    })
}

/// P-HELLO-1, P-HELLO-2.
#[test]
fn a_link_begins_with_one_hello_of_a_common_version() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.join(Role::Downstream);
    let early = bench.say(link, Frame::Unsubscribe { id: 1 });
    assert_eq!(closed(&early), Some(Misbehaved::HelloMisplaced));
    let link = bench.client();
    let twice = bench.say(link, hello(1, 1));
    assert_eq!(closed(&twice), Some(Misbehaved::HelloMisplaced));
    let link = bench.join(Role::Downstream);
    let later = bench.say(link, hello(2, 3));
    assert_eq!(closed(&later), Some(Misbehaved::NoCommonVersion));
    let link = bench.join(Role::Downstream);
    assert_eq!(closed(&bench.say(link, hello(1, 9))), None);
}

/// P-LINK-1, P-LINK-3.
#[test]
fn a_frame_of_the_other_role_ends_the_link() {
    let mut bench = Bench::new(Tier::Origin);
    for (frame, how) in [
        (Frame::Ack(vec![]), Misbehaved::NotAllowed),
        (
            Frame::Reconcile(Reconcile::Tell {
                id: 1,
                parts: vec![],
            }),
            Misbehaved::NotAllowed,
        ),
    ] {
        let link = bench.client();
        let chunk = bench.chunk(0);
        bench.tell(link, Frame::Publish(vec![chunk.clone()]));
        assert_eq!(closed(&bench.say(link, frame)), Some(how));
        let link = bench.client();
        let names = vec![chunk.name()];
        let heard = bench.say(link, Frame::Fetch { id: 1, names });
        assert!(delivered(&heard).is_empty(), "dropped with its link");
    }
}

/// P-LINK-2.
#[test]
fn grants_go_before_the_chunks_that_rely_on_them() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.join(Role::Downstream);
    bench.say(link, hello(1, 1));
    let chunk = bench.chunk(0);
    let refused = Outcome::Refused(Refused::NoGrant);
    assert_eq!(bench.publish(link, &chunk), [(chunk.name(), refused)]);
    let writer = bench.client();
    bench.publish(writer, &chunk);
    let heard = bench.subscribe(link, 1, bench.prefix(), Start::All);
    let grant = heard
        .iter()
        .position(|heard| matches!(heard, Heard::Frame(Frame::Grant(_))));
    let chunks = heard
        .iter()
        .position(|heard| matches!(heard, Heard::Frame(Frame::Chunks { .. })));
    assert!(grant.unwrap() < chunks.unwrap());
}

/// P-ACK-1: not before the store has it. P-ACK-3: once more, and stored once.
#[test]
fn an_answer_comes_after_the_write_and_again_for_a_known_chunk() {
    let mut bench = Bench::new(Tier::Cloud);
    let link = bench.client();
    let chunk = bench.chunk(0);
    bench.tell(link, Frame::Publish(vec![chunk.clone()]));
    assert!(bench.effects().0.is_empty(), "nothing is written yet");
    let heard: Vec<Heard> = bench.settle().into_iter().map(|(_, heard)| heard).collect();
    let stored = [(chunk.name(), Outcome::Stored(Tier::Cloud))];
    assert_eq!(acks(&heard), stored);
    assert_eq!(bench.publish(link, &chunk), stored);
    let heard = bench.subscribe(link, 1, bench.prefix(), Start::All);
    assert_eq!(delivered(&heard), [chunk]);
}

/// P-ACK-2, and P-ACK-3 with the farthest tier.
#[test]
fn a_later_tier_is_passed_down() {
    let mut bench = Bench::new(Tier::Local);
    let (up, _) = bench.parent(0, [0; 16]);
    let link = bench.client();
    let chunk = bench.chunk(0);
    let name = chunk.name();
    let local = (name, Outcome::Stored(Tier::Local));
    let origin = (name, Outcome::Stored(Tier::Origin));
    assert_eq!(bench.publish(link, &chunk), [local]);
    bench.tell(up, Frame::Ack(vec![origin]));
    let heard: Vec<Heard> = bench
        .settle()
        .into_iter()
        .filter(|(to, _)| *to == link)
        .map(|(_, heard)| heard)
        .collect();
    assert_eq!(acks(&heard), [origin]);
    assert_eq!(bench.publish(link, &chunk), [origin]);
}

/// P-ACK-4.
#[test]
fn what_a_parent_may_take_another_time_is_not_given_up() {
    use Refused::{BadSignature, Conflict, Expired, TooLongLived, UnknownOrigin};
    for reason in [UnknownOrigin, TooLongLived, Expired, BadSignature, Conflict] {
        let mut bench = Bench::new(Tier::Local);
        let ((up, _), link) = (bench.parent(0, [0; 16]), bench.client());
        let chunk = bench.chunk(0);
        let refused = (chunk.name(), Outcome::Refused(reason));
        bench.publish(link, &chunk);
        bench.tell(up, Frame::Ack(vec![refused]));
        let told = bench.settle().into_iter().filter(|(to, _)| *to == link);
        let told = acks(&told.map(|(_, heard)| heard).collect::<Vec<_>>());
        bench.node.handle(Event::Disconnected { link: up }, NOW);
        let (_, heard) = bench.parent(0, [0; 16]);
        let again = heard.iter().any(|heard| {
            matches!(heard, Heard::Frame(Frame::Publish(chunks)) if chunks.contains(&chunk))
        });
        let kept = reason != Conflict;
        assert_eq!((again, told.is_empty()), (kept, kept));
    }
}

/// P-CHUNK-3, P-CHUNK-4, P-CHUNK-5, P-NAME-2.
#[test]
fn chunks_are_immutable_alive_and_of_any_path() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    let first = bench.chunk(0);
    bench.publish(link, &first);
    let other = bench.chunk_with(bench.place(), 0, b"y");
    let refused = |reason| Outcome::Refused(reason);
    assert_eq!(
        bench.publish(link, &other),
        [(other.name(), refused(Refused::Conflict))]
    );
    let dead = bench.signed(bench.chunk(1).name(), 0, b"x");
    assert_eq!(
        bench.publish(link, &dead),
        [(dead.name(), refused(Refused::Expired))]
    );
    let life = proto::limits::LIFE_MS + proto::limits::CLOCK_SKEW_MS + 1;
    let eternal = bench.signed(bench.chunk(1).name(), life, b"x");
    assert_eq!(
        bench.publish(link, &eternal),
        [(eternal.name(), refused(Refused::TooLongLived))]
    );
    let name = Name::new(bench.place(), Fields::Other { path: 200, bits: 5 });
    let unknown = bench.signed(name, DAY, b"x");
    assert_eq!(
        bench.publish(link, &unknown),
        [(name, Outcome::Stored(Tier::Origin))]
    );
}

/// P-SUB-1, P-SUB-2, P-SUB-3.
#[test]
fn a_subscription_has_no_seam_and_resumes_by_cursor() {
    let mut bench = Bench::new(Tier::Origin);
    let (writer, reader) = (bench.client(), bench.client());
    let chunks: Vec<Chunk> = (0..80).map(|number| bench.chunk(number)).collect();
    for chunk in &chunks[..70] {
        bench.publish(writer, chunk);
    }
    let heard = bench.subscribe(reader, 1, bench.prefix(), Start::All);
    assert_eq!(delivered(&heard), chunks[..70]);
    let resume = cursor(&heard).unwrap();
    for chunk in &chunks[70..] {
        bench.tell(writer, Frame::Publish(vec![chunk.clone()]));
    }
    let live: Vec<Heard> = bench
        .settle()
        .into_iter()
        .filter(|(to, _)| *to == reader)
        .map(|(_, heard)| heard)
        .collect();
    assert_eq!(delivered(&live), chunks[70..]);
    let heard = bench.subscribe(reader, 2, bench.prefix(), Start::After(resume));
    assert_eq!(delivered(&heard), chunks[70..]);
    let foreign = Cursor::new(vec![9; 24]).unwrap();
    let heard = bench.subscribe(reader, 3, bench.prefix(), Start::After(foreign));
    assert_eq!(delivered(&heard), chunks);
}

/// P-SUB-4, P-SUB-5.
#[test]
fn ids_are_used_once_and_prefixes_have_a_least_length() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    bench.subscribe(link, 1, bench.prefix(), Start::All);
    let again = bench.subscribe(link, 1, bench.prefix(), Start::All);
    assert_eq!(closed(&again), Some(Misbehaved::IdReused));
    let link = bench.client();
    let wide = bench.subscribe(link, 1, Prefix::ALL, Start::All);
    assert_eq!(closed(&wide), Some(Misbehaved::PrefixTooShort));
}

/// P-SUB-6, P-SUB-7: what the origin's grants of an organisation say holds for everybody, by SUBSCRIBE and by
/// RECONCILE; of several the least; and for nobody else's names.
#[test]
fn an_organisations_grant_says_how_short_a_prefix_may_be() {
    let mut bench = Bench::new(Tier::Origin);
    let origin = Signer::from_seed(&[1; 32]);
    let grant = |org: u32, bits: u8| {
        let limits = proto::Limits {
            subscription_bits: bits,
            ..proto::Limits::default()
        };
        let end = NOW.plus_millis(9 * DAY);
        Registration::issue_with(&origin, org, [bits; 32], end, limits)
            .unwrap()
            .grant
    };
    let knows = bench.client();
    bench.say(knows, Frame::Grant(vec![grant(9, 78)]));
    let place = |org| Place {
        org,
        ..bench.place()
    };
    let team = |org| Name::team_prefix(place(org), Path::Message);
    let (own, other) = (team(9), team(7));
    let records = Name::team_prefix(place(9), Path::Record);
    let wide = |of: Prefix, bits| Prefix::of(of.first(), bits);
    let mut ends = |prefix| {
        let link = bench.client();
        let asked = Frame::Reconcile(Reconcile::Want {
            id: 2,
            spans: vec![Span::from(prefix)],
        });
        let wanted = closed(&bench.say(link, asked));
        let link = bench.client();
        let heard = bench.subscribe(link, 1, prefix, Start::All);
        let subscribed = closed(&heard);
        assert_eq!(subscribed, wanted);
        // P-SUB-7: whoever asks for too much learns why.
        let shown = heard.iter().any(|heard| {
            matches!(heard, Heard::Frame(Frame::Grant(chain)) if chain[..] == [grant(9, 78)])
        });
        assert_eq!(shown, subscribed.is_some());
        subscribed
    };
    let short = Some(Misbehaved::PrefixTooShort);
    assert_eq!(ends(own), None);
    assert_eq!(ends(wide(own, 77)), short);
    assert_eq!(ends(wide(own, 58)), short);
    assert_eq!(ends(wide(other, 58)), None);
    assert_eq!(ends(wide(records, 58)), None);
    // More than one organisation's names are the relay's own business.
    assert_eq!(ends(wide(own, 57)), None);
    bench.say(knows, Frame::Grant(vec![grant(9, 60)]));
    let link = bench.client();
    let heard = bench.subscribe(link, 1, wide(own, 60), Start::All);
    assert_eq!(closed(&heard), None);
}

/// P-FETCH-1.
#[test]
fn a_fetch_is_answered_once() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    let (here, missing) = (bench.chunk(0), bench.chunk(1));
    bench.publish(link, &here);
    let names = vec![here.name(), missing.name()];
    let heard = bench.say(link, Frame::Fetch { id: 4, names });
    assert_eq!(delivered(&heard), [here]);
    let ends = heard
        .iter()
        .filter(|heard| matches!(heard, Heard::Frame(Frame::CaughtUp { id: 4, .. })));
    assert_eq!(ends.count(), 1);
}

/// P-GRANT-7: a grant whose time is over.
#[test]
fn an_expired_grant_allows_nothing() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    let chunk = bench.signed(bench.chunk(0).name(), 30 * DAY, b"x");
    let late = NOW.plus_millis(10 * DAY);
    let frame = Frame::Publish(vec![chunk.clone()]);
    bench.node.handle(Event::Received { link, frame }, late);
    bench.node.commit(late);
    let (heard, _) = bench.effects();
    let heard: Vec<Heard> = heard.into_iter().map(|(_, heard)| heard).collect();
    let refused = Outcome::Refused(Refused::GrantExpired);
    assert_eq!(acks(&heard), [(chunk.name(), refused)]);
}

fn told(heard: &[Heard]) -> Vec<Part> {
    let parts = heard.iter().find_map(|heard| match heard {
        Heard::Frame(Frame::Reconcile(Reconcile::Tell { parts, .. })) => Some(parts.clone()),
        _ => None,
    });
    parts.unwrap()
}

/// P-REC-2, P-REC-3, P-REC-4, P-REC-5.
#[test]
fn a_question_is_answered_in_parts_that_fill_its_spans() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    let chunks: Vec<Chunk> = (0..100).map(|number| bench.chunk(number)).collect();
    for chunk in &chunks {
        bench.publish(link, chunk);
    }
    let dead = bench.signed(bench.chunk(500).name(), 0, b"x");
    bench.publish(link, &dead);
    let whole = Span::from(bench.prefix());
    let few = Span::new(chunks[10].name(), chunks[41].name()).unwrap();
    let ask = |id, span| {
        let spans = vec![span];
        Frame::Reconcile(Reconcile::Ask { id, spans })
    };
    let listed: Vec<Listed> = chunks[10..42]
        .iter()
        .map(|chunk| Listed::new(chunk.name(), chunk.digest()))
        .collect();
    let expected = Part {
        span: few,
        holds: Holds::Names(listed),
    };
    assert_eq!(told(&bench.say(link, ask(1, few))), [expected]);
    let parts = told(&bench.say(link, ask(1, whole)));
    assert!((2..=16).contains(&parts.len()));
    let mut next = whole.first();
    let mut most = 0;
    for part in &parts {
        assert_eq!(part.span.first(), next);
        next = Name(part.span.last().0 + 1);
        let mut own = Summary::default();
        let within = chunks
            .iter()
            .filter(|chunk| part.span.contains(chunk.name()));
        within.for_each(|chunk| own.add(chunk.digest()));
        assert_eq!(part.holds, Holds::Summary(own));
        most = most.max(own.count);
    }
    assert_eq!(parts[parts.len() - 1].span.last(), whole.last());
    assert!(most <= 50, "at most half");
    let spans = vec![few];
    let heard = bench.say(link, Frame::Reconcile(Reconcile::Want { id: 1, spans }));
    assert_eq!(delivered(&heard), chunks[10..42]);
    assert!(cursor(&heard).is_some());
}

/// P-REC-3: one question at a time, and no wider than a subscription.
#[test]
fn questions_have_limits() {
    let mut bench = Bench::new(Tier::Origin);
    let ask = |id, span| {
        let spans = vec![span];
        Frame::Reconcile(Reconcile::Ask { id, spans })
    };
    let link = bench.client();
    let wide = bench.say(link, ask(1, Span::ALL));
    assert_eq!(closed(&wide), Some(Misbehaved::PrefixTooShort));
    let link = bench.client();
    let own = Span::from(bench.prefix());
    bench.tell(link, ask(1, own));
    let second = bench.say(link, ask(2, own));
    assert_eq!(closed(&second), Some(Misbehaved::OverLimit));
}

/// P-REC-6, P-REC-7: a child asks a parent that is new to it, believes only what fits its question,
/// and sends up what the parent lacks, also what another origin had acknowledged.
#[test]
fn a_new_parent_is_asked_and_gets_what_it_lacks() {
    for honest in [true, false] {
        let mut bench = Bench::new(Tier::Local);
        let writer = bench.client();
        let chunk = bench.chunk(0);
        bench.publish(writer, &chunk);
        for (number, store) in [[4; 16], [5; 16]].into_iter().enumerate() {
            let (up, heard) = bench.parent(Hello::RECONCILES, store);
            let published = heard
                .iter()
                .any(|heard| matches!(heard, Heard::Frame(Frame::Publish(_))));
            let asked = heard.iter().find_map(|heard| match heard {
                Heard::Frame(Frame::Reconcile(Reconcile::Ask { id, spans })) => {
                    Some((*id, spans.clone()))
                }
                _ => None,
            });
            assert_eq!((published, asked.is_some()), (number == 0, number == 1));
            let Some((id, spans)) = asked else {
                let names = [chunk.name(), bench.registration.grant.name()];
                let acks = names.map(|name| (name, Outcome::Stored(Tier::Origin)));
                bench.say(up, Frame::Ack(acks.into()));
                continue;
            };
            let part = |span: &Span| Part {
                span: *span,
                holds: Holds::Names(Vec::new()),
            };
            let mut parts: Vec<Part> = spans.iter().map(part).collect();
            if !honest {
                parts.pop();
            }
            let heard = bench.say(up, Frame::Reconcile(Reconcile::Tell { id, parts }));
            let published = heard.iter().any(|heard| match heard {
                Heard::Frame(Frame::Publish(chunks)) => chunks.contains(&chunk),
                _ => false,
            });
            assert_eq!(published, honest);
            let expected = (!honest).then_some(Misbehaved::NotAsked);
            assert_eq!(closed(&heard), expected);
        }
    }
}

/// P-GRANT-8.
#[test]
fn a_grant_keeps_no_more_than_it_says() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    let key = Signer::from_seed(&[9; 32]);
    let grant = Grant {
        subject: key.public_key(),
        not_after: NOW.plus_millis(DAY),
        limits: proto::Limits {
            byte_seconds: 1000 * 1500,
            ..proto::Limits::default()
        },
        rules: vec![Rule {
            verbs: Verbs::PUBLISH,
            pattern: Pattern::of_device(bench.place(), Path::Message, 3),
        }],
    };
    let parent = GrantId::of(&bench.registration.grant);
    let issuer = Signer::from_seed(&bench.registration.seed);
    let grant = grant.sign(bench.place(), 3, parent, &issuer).unwrap();
    let chain = vec![bench.registration.grant.clone(), grant.clone()];
    bench.say(link, Frame::Grant(chain));
    let chunk = |bench: &Bench, number| {
        let (name, until) = (bench.chunk(number).name(), NOW.plus_millis(1_000_000));
        Chunk::sign(name, until, GrantId::of(&grant), &[7; 902], &key).unwrap()
    };
    let (first, second) = (chunk(&bench, 0), chunk(&bench, 1));
    let stored = Outcome::Stored(Tier::Origin);
    assert_eq!(bench.publish(link, &first), [(first.name(), stored)]);
    let quota = Outcome::Refused(Refused::Quota);
    assert_eq!(bench.publish(link, &second), [(second.name(), quota)]);
    assert_eq!(bench.publish(link, &first), [(first.name(), stored)]);
}

/// P-FIND-7: to its own Secure a device counts as the LAN only while another device is connected.
#[test]
fn a_device_that_serves_its_lan_says_what_is_on_it() {
    let mut bench = Bench::new(Tier::Device);
    let secure = bench.client();
    let chunks: Vec<Chunk> = (0..3).map(|number| bench.chunk(number)).collect();
    let acks = |heard: &[(LinkId, Heard)]| -> Vec<(Name, Outcome)> {
        let to_secure = heard.iter().filter(|(link, _)| *link == secure);
        let frames = to_secure.filter_map(|(_, heard)| match heard {
            Heard::Frame(Frame::Ack(acks)) => Some(acks.clone()),
            _ => None,
        });
        frames.flatten().collect()
    };
    let reach = |tier| {
        let relay = String::new();
        (secure, Heard::Frame(Frame::Reach { tier, relay }))
    };
    let [device, local] = [Tier::Device, Tier::Local].map(Outcome::Stored);
    bench.tell(secure, Frame::Publish(vec![chunks[0].clone()]));
    assert_eq!(acks(&bench.settle()), [(chunks[0].name(), device)]);

    let other = bench.join(Role::Neighbour);
    assert!(acks(&bench.settle()).is_empty(), "it has not greeted");
    bench.tell(other, hello(1, 1));
    let heard = bench.settle();
    assert!(heard.contains(&reach(Tier::Local)));
    assert_eq!(acks(&heard), [(chunks[0].name(), local)]);
    bench.tell(secure, Frame::Publish(chunks[1..2].to_vec()));
    assert_eq!(acks(&bench.settle()), [(chunks[1].name(), local)]);
    // A relay that comes later gets them all the same.
    let stored = bench.node.store().upward(Tier::Local, 0, 9).unwrap();
    assert_eq!(stored.len(), 3, "and their grant");

    bench.node.handle(Event::Disconnected { link: other }, NOW);
    assert!(bench.settle().contains(&reach(Tier::Device)));
    bench.tell(secure, Frame::Publish(chunks[2..].to_vec()));
    assert_eq!(acks(&bench.settle()), [(chunks[2].name(), device)]);
}

/// A device with a grant over its own messages, and over records if it is to have that; it has shown it.
fn granted(bench: &mut Bench, link: LinkId, (device, seed): (u32, u8)) -> (GrantId, Signer) {
    let key = Signer::from_seed(&[seed; 32]);
    let records = Prefix::of(
        Name::new(bench.place(), Fields::Record { kind: 0, serial: 0 }),
        Name::TEAM_BITS,
    );
    let patterns = [
        Pattern::of_device(bench.place(), Path::Message, device),
        Pattern::of_prefix(records),
    ];
    let grant = Grant {
        subject: key.public_key(),
        not_after: NOW.plus_millis(DAY),
        limits: proto::Limits::default(),
        rules: patterns
            .map(|pattern| Rule {
                verbs: Verbs::PUBLISH,
                pattern,
            })
            .into(),
    };
    let parent = GrantId::of(&bench.registration.grant);
    let issuer = Signer::from_seed(&bench.registration.seed);
    let grant = grant.sign(bench.place(), device, parent, &issuer).unwrap();
    let chain = vec![bench.registration.grant.clone(), grant.clone()];
    bench.say(link, Frame::Grant(chain));
    (GrantId::of(&grant), key)
}

/// P-REV-1, P-REV-2.
#[test]
fn a_record_ends_grants_that_hang_from_its_issuers() {
    let mut bench = Bench::new(Tier::Origin);
    let link = bench.client();
    let all = [(3, 9), (4, 10), (5, 11)].map(|one| granted(&mut bench, link, one));
    let chunk = |bench: &Bench, at: usize, number| {
        let fields = Fields::Message {
            channel: 1,
            device: at as u32 + 3,
            number,
        };
        let (name, until) = (Name::new(bench.place(), fields), NOW.plus_millis(1_000_000));
        Chunk::sign(name, until, all[at].0, b"x", &all[at].1).unwrap()
    };
    let stored = Outcome::Stored(Tier::Origin);
    let ended = Outcome::Refused(Refused::GrantExpired);
    let first = [0, 1, 2].map(|at| chunk(&bench, at, 0));
    for one in &first {
        assert_eq!(bench.publish(link, one), [(one.name(), stored)]);
    }
    let until = NOW.plus_millis(1_000_000);
    let own = Signer::from_seed(&bench.registration.seed);
    let own = (GrantId::of(&bench.registration.grant), &own);
    let place = bench.place();
    let device = Revocation::Device(3).sign(place, until, own).unwrap();
    let org = Place { team: 0, ..place };
    let key = Revocation::Key {
        device: all[1].1.public_key().fingerprint(),
        at: NOW,
    };
    let key = key.sign(org, until, own).unwrap();
    // Somebody who may publish records, and from whom nothing hangs.
    let junk = Revocation::Device(5).sign(place, until, (all[1].0, &all[1].1));
    for record in [&junk.unwrap(), &device, &key] {
        assert_eq!(bench.publish(link, record), [(record.name(), stored)]);
    }
    let after = [ended, ended, stored];
    for (at, expected) in after.into_iter().enumerate() {
        let new = chunk(&bench, at, 1);
        assert_eq!(bench.publish(link, &new), [(new.name(), expected)], "{at}");
        // What was accepted before stays.
        assert_eq!(
            bench.publish(link, &first[at]),
            [(first[at].name(), stored)]
        );
    }
    // Also for a grant that is shown only afterwards.
    let (grant, key) = granted(&mut bench, link, (3, 12));
    let name = chunk(&bench, 0, 2).name();
    let late = Chunk::sign(name, until, grant, b"x", &key).unwrap();
    assert_eq!(bench.publish(link, &late), [(name, ended)]);
}
