//! What every [`Store`] has to do, as one suite that each store's tests run. Not part of the node.

use proto::{
    Chunk, Fields, GrantId, Name, OriginId, Path, Place, Prefix, Signer, Span, Tier, Timestamp,
};

use super::{
    Account, Batch, Direction, Held, Insert, Page, Progress, Put, ResumePoint, Scan, Store,
    StoreId, Usage,
};

const FAR: Timestamp = Timestamp::MAX;

fn name(team: u32, number: u32) -> Name {
    let place = Place {
        origin: OriginId::new(7),
        org: 1,
        team,
    };
    Name::new(
        place,
        Fields::Message {
            channel: 1,
            device: 2,
            number,
        },
    )
}

fn chunk(name: Name, expiry: Timestamp, data: &[u8]) -> Chunk {
    let signer = Signer::from_seed(&[3; 32]);
    Chunk::sign(name, expiry, GrantId([1; 8]), data, &signer).expect("the data is short")
}

/// So many chunks of one feed.
pub fn chunks(count: u32) -> Vec<Chunk> {
    (0..count)
        .map(|number| chunk(name(2, number), FAR, &number.to_be_bytes()))
        .collect()
}

fn batch(chunks: &[Chunk]) -> Batch {
    let insert = |chunk: &Chunk| Insert::new(chunk.clone(), Tier::Local, true);
    Batch {
        inserts: chunks.iter().map(insert).collect(),
        ..Batch::default()
    }
}

fn team(team: u32) -> Prefix {
    Prefix::of(name(team, 0), Name::TEAM_BITS)
}

/// Reads a prefix to its end, page by page.
fn read(store: &mut impl Store, prefix: Prefix, direction: Direction, limit: usize) -> Vec<Chunk> {
    let mut scan = Scan {
        prefix,
        direction,
        limit,
        now: Timestamp::default(),
    };
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let Page {
            chunks,
            position,
            end,
        } = store.scan(&scan).expect("a scan");
        assert!(chunks.len() <= limit);
        all.extend(chunks.into_iter().map(|(_, chunk)| chunk));
        if end {
            return all;
        }
        scan.direction = match direction {
            Direction::Above(_) => Direction::Above(position),
            Direction::Below(_) => Direction::Below(position),
        };
    }
    panic!("the scan never ends");
}

/// Runs the suite over stores that `fresh` makes, each empty.
///
/// # Panics
/// When the store does not conform.
pub fn check<S: Store>(mut fresh: impl FnMut() -> S) {
    names_are_filled_once(&mut fresh());
    scans_yield_everything_once_in_order(&mut fresh());
    scans_find_a_rare_prefix(&mut fresh());
    scans_go_on_behind_what_has_expired(&mut fresh());
    ranges_follow_the_names(&mut fresh());
    names_are_listed_without_what_has_expired(&mut fresh());
    what_the_parent_lacks_goes_up_again(&mut fresh());
    usage_follows_what_is_kept(&mut fresh());
    retention_and_eviction_leave_what_has_to_go_up(&mut fresh());
    progress_is_kept(&mut fresh());
    what_comes_from_below_goes_up_whoever_had_it(&mut fresh());
    resume_points_are_kept(&mut fresh());
    expired_chunks_go_and_their_numbers_stay_used(&mut fresh());
}

fn what_comes_from_below_goes_up_whoever_had_it(store: &mut impl Store) {
    let chunk = chunk(name(2, 1), FAR, b"first");
    for (reached, upward, due) in [
        (Tier::Cloud, false, 0),
        (Tier::Local, true, 1),
        (Tier::Origin, true, 0),
    ] {
        let mut again = batch(std::slice::from_ref(&chunk));
        (again.inserts[0].reached, again.inserts[0].upward) = (reached, upward);
        store.put_if_absent(&again).expect("room");
        let stored = store.upward(Tier::Origin, 0, 9).expect("readable");
        assert_eq!(stored.len(), due);
    }
}

fn names_are_filled_once(store: &mut impl Store) {
    let first = chunk(name(2, 1), FAR, b"first");
    let other = chunk(name(2, 1), FAR, b"other");
    let puts = store.put_if_absent(&batch(&[first.clone(), first.clone(), other.clone()]));
    let puts = puts.expect("room");
    assert_eq!(
        puts,
        [Put::New(1), Put::Same(Tier::Local, 1), Put::Conflict]
    );
    assert_eq!(
        store.put_if_absent(&batch(&[other])),
        Ok(vec![Put::Conflict])
    );
    let mut again = batch(std::slice::from_ref(&first));
    again.inserts[0].reached = Tier::Cloud;
    assert_eq!(
        store.put_if_absent(&again),
        Ok(vec![Put::Same(Tier::Cloud, 1)])
    );
    let stored = store.get(first.name()).expect("readable").expect("present");
    assert_eq!((stored.chunk, stored.reached), (first, Tier::Cloud));
    assert_eq!(store.get(name(2, 2)), Ok(None));
    assert_eq!(store.last_sequence(), 1);
}

fn scans_yield_everything_once_in_order(store: &mut impl Store) {
    let all = chunks(100);
    store.put_if_absent(&batch(&all)).expect("room");
    let reversed: Vec<Chunk> = all.iter().rev().cloned().collect();
    for prefix in [team(2), Prefix::ALL, Prefix::of(name(2, 0), 60)] {
        for limit in [1, 7, 100, 1000] {
            assert_eq!(read(store, prefix, Direction::Above(0), limit), all);
            assert_eq!(
                read(store, prefix, Direction::Below(u64::MAX), limit),
                reversed
            );
        }
        assert_eq!(read(store, prefix, Direction::Above(90), 7), all[90..]);
        assert_eq!(read(store, prefix, Direction::Above(100), 7), []);
        assert_eq!(read(store, prefix, Direction::Above(u64::MAX), 7), []);
        assert_eq!(read(store, prefix, Direction::Below(4), 7), reversed[97..]);
    }
    assert_eq!(
        read(store, Prefix::of(name(2, 42), 128), Direction::Above(0), 9),
        all[42..43]
    );
    assert_eq!(read(store, team(3), Direction::Above(0), 9), []);
}

fn scans_find_a_rare_prefix(store: &mut impl Store) {
    let rare = chunk(name(3, 0), FAR, b"rare");
    store
        .put_if_absent(&batch(std::slice::from_ref(&rare)))
        .expect("room");
    for part in chunks(6000).chunks(1000) {
        store.put_if_absent(&batch(part)).expect("room");
    }
    let late = chunk(name(3, 1), FAR, b"late");
    store
        .put_if_absent(&batch(std::slice::from_ref(&late)))
        .expect("room");
    for bits in [77, 78, 128] {
        let found = read(store, Prefix::of(name(3, 0), bits), Direction::Above(0), 32);
        assert_eq!(found.iter().filter(|chunk| **chunk == rare).count(), 1);
    }
    let both = [rare, late];
    assert_eq!(read(store, team(3), Direction::Above(0), 32), both);
    assert_eq!(
        read(store, team(3), Direction::Below(u64::MAX), 32),
        [both[1].clone(), both[0].clone()]
    );
}

fn scans_go_on_behind_what_has_expired(store: &mut impl Store) {
    let mut all = chunks(20);
    let soon = Timestamp::from_millis(1000);
    for dead in &mut all[3..13] {
        *dead = chunk(dead.name(), soon, b"soon");
    }
    store.put_if_absent(&batch(&all)).expect("room");
    all.drain(3..13);
    for bits in [24, 78] {
        let mut scan = Scan {
            prefix: Prefix::of(all[0].name(), bits),
            direction: Direction::Above(0),
            limit: 4,
            now: soon,
        };
        let mut found = Vec::new();
        loop {
            let page = store.scan(&scan).expect("a scan");
            found.extend(page.chunks.into_iter().map(|(_, chunk)| chunk));
            if page.end {
                break;
            }
            scan.direction = Direction::Above(page.position);
        }
        assert_eq!(found, all);
    }
}

fn ranges_follow_the_names(store: &mut impl Store) {
    let mut all = chunks(10);
    all.reverse();
    store.put_if_absent(&batch(&all)).expect("room");
    all.reverse();
    let span = Span::from(team(2));
    assert_eq!(store.range(span, 4), Ok(all[..4].to_vec()));
    let rest = span.behind(all[3].name()).expect("there is more");
    assert_eq!(store.range(rest, 100), Ok(all[4..].to_vec()));
    assert_eq!(store.range(team(3).into(), 100), Ok(Vec::new()));
    let last = Span::new(Name(u128::MAX), Name(u128::MAX)).expect("one name");
    assert_eq!(store.range(last, 100), Ok(Vec::new()));
}

fn names_are_listed_without_what_has_expired(store: &mut impl Store) {
    let soon = Timestamp::from_millis(1000);
    let mut all = chunks(10);
    all[4] = chunk(all[4].name(), soon, b"soon");
    all.reverse();
    store.put_if_absent(&batch(&all)).expect("room");
    all.reverse();
    let held = |at: usize| Held {
        name: all[at].name(),
        sequence: 10 - at as u64,
        digest: all[at].digest(),
    };
    let span = Span::from(team(2));
    let early = Timestamp::from_millis(999);
    assert_eq!(
        store.names(span, 3, early),
        Ok([0, 1, 2].map(held).to_vec())
    );
    let rest = span.behind(all[2].name()).expect("there is more");
    assert_eq!(store.names(rest, 2, early), Ok([3, 4].map(held).to_vec()));
    assert_eq!(store.names(rest, 2, soon), Ok([3, 5].map(held).to_vec()));
    let one = Span::new(all[9].name(), all[9].name()).expect("one name");
    assert_eq!(store.names(one, 9, soon), Ok(vec![held(9)]));
    assert_eq!(store.names(team(3).into(), 9, soon), Ok(vec![]));
    assert_eq!(store.names(Span::ALL, 99, soon).map(|all| all.len()), Ok(9));
}

fn what_the_parent_lacks_goes_up_again(store: &mut impl Store) {
    let all = chunks(3);
    let mut first = batch(&all);
    first.inserts[0].upward = false;
    store.put_if_absent(&first).expect("room");
    let progress = |progress: &[(Name, Progress)]| Batch {
        progress: progress.to_vec(),
        ..Batch::default()
    };
    let up = [0, 1].map(|at: usize| (all[at].name(), Progress::Reached(Tier::Origin)));
    store.put_if_absent(&progress(&up)).expect("room");
    let lacking = [0, 1].map(|at: usize| (all[at].name(), Progress::Lacking(Tier::Local)));
    store.put_if_absent(&progress(&lacking)).expect("room");
    let due = store.upward(Tier::Cloud, 0, 9).expect("readable");
    let due: Vec<Name> = due.iter().map(|stored| stored.chunk.name()).collect();
    assert_eq!(due, [0, 1, 2].map(|at: usize| all[at].name()));
    assert_eq!(store.in_step(), Ok(None));
    let mut step = Batch {
        in_step: Some(StoreId([3; 16])),
        ..Batch::default()
    };
    assert!(!step.is_empty());
    store.put_if_absent(&step).expect("room");
    step.in_step = None;
    store.put_if_absent(&step).expect("room");
    assert_eq!(store.in_step(), Ok(Some(StoreId([3; 16]))));
}

fn usage_follows_what_is_kept(store: &mut impl Store) {
    let at = Timestamp::from_millis;
    let all = [1, 2].map(|n: u32| chunk(name(2, n), at(u64::from(n) * 10_000), b"data"));
    let key_package = {
        let fields = Fields::KeyPackage {
            fingerprint: 5,
            fragment: 0,
        };
        let name = Name::new(name(1, 0).place(), fields);
        let signer = Signer::from_seed(&[3; 32]);
        Chunk::sign(name, at(30_000), GrantId::NONE, b"package", &signer).expect("short")
    };
    let again = all[0].clone();
    let inserts = [&all[..], &[key_package.clone(), again]].concat();
    store.put_if_absent(&batch(&inserts)).expect("room");
    let (grant, org) = (
        Account::Grant(GrantId([1; 8])),
        Account::Org(OriginId::new(7), 1),
    );
    let mut both = Usage::of(102, at(10_000));
    both.add(Usage::of(102, at(20_000)));
    assert_eq!(both.byte_seconds(at(5_000)), 102 * 5 + 102 * 15);
    assert_eq!(store.usage(grant), Ok(both));
    assert_eq!(store.usage(org), Ok(both));
    let packages = Account::KeyPackages(OriginId::new(7), 1);
    assert_eq!(store.usage(packages), Ok(Usage::of(105, at(30_000))));
    assert_eq!(
        store.usage(Account::Org(OriginId::new(7), 2)),
        Ok(Usage::default())
    );
    assert_eq!(store.bytes(), 102 * 2 + 105);
    assert_eq!(store.expire(at(10_000), 9), Ok(1));
    assert_eq!(store.usage(grant), Ok(Usage::of(102, at(20_000))));
    assert_eq!(store.expire(at(30_000), 9), Ok(2));
    assert_eq!((store.usage(org), store.bytes()), (Ok(Usage::default()), 0));
}

fn retention_and_eviction_leave_what_has_to_go_up(store: &mut impl Store) {
    let all = chunks(6);
    let bytes = all[0].encoded().len() as u64;
    let mut first = batch(&all);
    let soon = Timestamp::from_millis(1000);
    for at in [1, 3, 4, 5] {
        first.inserts[at].upward = false;
    }
    first.inserts[2].until = soon;
    first.inserts[3].until = soon;
    let place = name(2, 0).place();
    let grant = Fields::Grant {
        device: 1,
        serial: 1,
    };
    let record = Fields::Record { kind: 2, serial: 1 };
    let trust = [grant, record].map(|fields| chunk(Name::new(place, fields), FAR, b""));
    let mut kept = batch(&trust);
    for insert in &mut kept.inserts {
        insert.upward = false;
    }
    store.put_if_absent(&kept).expect("room");
    store.put_if_absent(&first).expect("room");
    assert_eq!(store.expire(soon, 9), Ok(1));
    assert_eq!(store.get(all[3].name()), Ok(None));
    let before = store.bytes();
    assert_eq!(store.evict(before, 9), Ok(0));
    assert_eq!(store.evict(before - 1, 9), Ok(1));
    assert_eq!(store.bytes(), before - bytes);
    assert_eq!(store.get(all[1].name()), Ok(None), "the oldest goes first");
    assert_eq!(store.evict(0, 1), Ok(1));
    assert_eq!(store.evict(0, 9), Ok(1));
    assert_eq!(store.evict(0, 9), Ok(0));
    let left: Vec<Name> = store
        .names(team(2).into(), 9, soon)
        .expect("readable")
        .iter()
        .map(|held| held.name)
        .collect();
    assert_eq!(left, [0, 2].map(|at: usize| all[at].name()));
    for chunk in trust {
        assert!(store.get(chunk.name()).expect("readable").is_some());
    }
    let progress = vec![(all[2].name(), Progress::Reached(Tier::Origin))];
    let done = Batch {
        progress,
        ..Batch::default()
    };
    store.put_if_absent(&done).expect("room");
    assert_eq!(store.expire(soon, 9), Ok(1), "it need not go up any more");
}

fn progress_is_kept(store: &mut impl Store) {
    let all = chunks(4);
    let mut first = batch(&all);
    first.inserts[3].upward = false;
    store.put_if_absent(&first).expect("room");
    let due = |store: &mut dyn FnMut(Tier, u64) -> Vec<u64>, goal, above| store(goal, above);
    let mut upward = |goal, above| {
        let found = store.upward(goal, above, 100).expect("readable");
        found.into_iter().map(|stored| stored.sequence).collect()
    };
    assert_eq!(due(&mut upward, Tier::Origin, 0), [1, 2, 3]);
    assert_eq!(due(&mut upward, Tier::Origin, 2), [3]);
    assert_eq!(due(&mut upward, Tier::Local, 0), [] as [u64; 0]);
    let progress = vec![
        (all[0].name(), Progress::Reached(Tier::Cloud)),
        (all[1].name(), Progress::Stopped),
        (all[2].name(), Progress::Reached(Tier::Origin)),
        (all[2].name(), Progress::Reached(Tier::Cloud)),
        (name(9, 9), Progress::Reached(Tier::Cloud)),
    ];
    store
        .put_if_absent(&Batch {
            progress,
            ..Batch::default()
        })
        .expect("room");
    let sequences = |found: Vec<super::Stored>| -> Vec<u64> {
        found.into_iter().map(|stored| stored.sequence).collect()
    };
    assert_eq!(
        store.upward(Tier::Origin, 0, 100).map(sequences),
        Ok(vec![1])
    );
    assert_eq!(store.upward(Tier::Cloud, 0, 100).map(sequences), Ok(vec![]));
    let last = store
        .get(all[2].name())
        .expect("readable")
        .expect("present");
    assert_eq!(last.reached, Tier::Origin);
}

fn resume_points_are_kept(store: &mut impl Store) {
    let upstream = StoreId([8; 16]);
    let point = |position| ResumePoint {
        upstream,
        prefix: team(2),
        cursor: upstream.cursor(position),
    };
    let write = Batch {
        resume: vec![point(1), point(5)],
        ..Batch::default()
    };
    store.put_if_absent(&write).expect("room");
    assert_eq!(
        store.resume_point(upstream, team(2)),
        Ok(Some(upstream.cursor(5)))
    );
    assert_eq!(store.resume_point(upstream, team(3)), Ok(None));
    assert_eq!(store.resume_point(StoreId([9; 16]), team(2)), Ok(None));
    assert_eq!(upstream.position(&upstream.cursor(5)), Some(5));
    assert_eq!(store.id().position(&upstream.cursor(5)), None);
}

fn expired_chunks_go_and_their_numbers_stay_used(store: &mut impl Store) {
    let soon = Timestamp::from_millis(1000);
    let mortal = chunk(name(2, 0), soon, b"mortal");
    store
        .put_if_absent(&batch(std::slice::from_ref(&mortal)))
        .expect("room");
    let scan = |now| Scan {
        prefix: team(2),
        direction: Direction::Above(0),
        limit: 9,
        now,
    };
    assert_eq!(store.scan(&scan(soon)).map(|page| page.chunks), Ok(vec![]));
    assert_eq!(store.expire(Timestamp::from_millis(999), 10), Ok(0));
    assert_eq!(store.expire(soon, 10), Ok(1));
    assert_eq!(store.get(mortal.name()), Ok(None));
    let next = chunk(name(2, 1), FAR, b"next");
    assert_eq!(store.put_if_absent(&batch(&[next])), Ok(vec![Put::New(2)]));
    let path = Name::team_prefix(name(2, 0).place(), Path::Message);
    assert_eq!(read(store, path, Direction::Above(1), 9).len(), 1);
}
