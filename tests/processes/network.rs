//! A LAN, a cloud and an origin as network namespaces, with three relays and twelve endpoints, while the
//! LAN is cut off again and again, packets are lost, late, and overtake each other.
//!
//! `TREELINE_NETWORK_MINUTES=5 cargo test -p tests --test processes the_lan_is_cut -- --nocapture` cuts
//! it every 30 seconds for so long.

pub mod machines;
pub mod members;
mod proxy;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::{Answer, ChannelId, Command};
use tempfile::TempDir;
use xtask::process::Process;
use xtask::tree;

use crate::scene::{built, until};
use machines::Wan;
use members::Member;
use proxy::Proxy;

/// Rounds of the short run.
const ROUNDS: u64 = 4;
/// How long a cut lasts in a short run, and how long what follows: links notice a cut after 5 s.
const SHORT: [Duration; 2] = [Duration::from_secs(7), Duration::ZERO];
/// The same in a long run.
const LONG: [Duration; 2] = [Duration::from_secs(15); 2];
/// On the LAN, in the cloud, and where the origin is.
const MEMBERS: [usize; 3] = [6, 4, 2];

/// How often the LAN is cut, for how long, and how long it is whole again, both at least.
fn length() -> (u64, [Duration; 2]) {
    match env::var("TREELINE_NETWORK_MINUTES") {
        Ok(minutes) => (minutes.parse::<u64>().unwrap() * 2, LONG),
        Err(_) => (ROUNDS, SHORT),
    }
}

/// The relays, the members and what they have said.
struct World {
    members: Vec<Member>,
    channel: ChannelId,
    said: BTreeSet<String>,
    proxy: Proxy,
    relays: Vec<Process>,
    wan: Wan,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let wan = Wan::new();
        let path = folder.path();
        let (top, above, key) = wan
            .origin
            .inside(|| tree::relay(path, "origin", "10.81.3.2:4470", &["--mdns", "off"]).unwrap());
        let middle = ["--parent", &above, "--origin", &key, "--mdns", "off"];
        let (middle, between, _) = wan
            .cloud
            .inside(|| tree::relay(path, "cloud", "10.81.2.2:4470", &middle).unwrap());
        let proxy = wan.on_router(|| {
            let [here, there] = ["10.81.1.1:4470", "10.81.2.2:4470"].map(|at| at.parse().unwrap());
            Proxy::start(here, there)
        });
        let (_, cloud_key) = between.split_once('#').unwrap();
        let through = format!("10.81.1.1:4470#{cloud_key}");
        let bottom = ["--parent", &through, "--origin", &key];
        let (bottom, local, _) = wan
            .server
            .inside(|| tree::relay(path, "local", "10.81.1.2:4470", &bottom).unwrap());
        let registration = tree::register(&path.join("origin")).unwrap();

        let places = [&wan.desks, &wan.cloud, &wan.origin];
        let mut members = Vec::new();
        for (place, (machine, count)) in ["lan", "cloud", "origin"]
            .iter()
            .zip(places.iter().zip(MEMBERS))
        {
            for number in 1..=count {
                let name = format!("{place}-{number}");
                members.push(Member::new(machine, path, &name));
            }
        }
        let founder = &members[MEMBERS[0]];
        let team = founder.found(&registration, &[&between]);
        let others = || members.iter().filter(|one| one.name != founder.name);
        others().for_each(|one| one.join(&founder.invite(team)));
        others().for_each(|one| founder.admit(team, one));
        let (_, local_key) = local.split_once('#').unwrap();
        members[..MEMBERS[0]]
            .iter()
            .for_each(|one| one.trust(local_key));
        for one in &members {
            one.until("all are in the team", || one.is_among(members.len()));
        }
        let Answer::Channels(channels) =
            founder.endpoint.call(&Command::Channels { team }).unwrap()
        else {
            panic!("no channels")
        };
        Self {
            channel: channels[0].id,
            members,
            said: BTreeSet::new(),
            proxy,
            relays: vec![top, middle, bottom],
            wan,
            folder,
        }
    }

    /// Everybody says something, once and then every two seconds until the time is over.
    fn talk(&mut self, length: Duration) -> BTreeSet<String> {
        let until = Instant::now() + length;
        let mut texts = BTreeSet::new();
        loop {
            for member in &mut self.members {
                texts.insert(member.say(self.channel));
            }
            if Instant::now() + Duration::from_secs(2) > until {
                self.said.extend(texts.iter().cloned());
                return texts;
            }
            thread::sleep(Duration::from_secs(2));
        }
    }

    fn await_all(&self, members: impl Fn(&Member) -> bool, texts: &BTreeSet<String>) {
        for member in self.members.iter().filter(|one| members(one)) {
            member.shows_all(self.channel, texts);
        }
    }

    /// Asserts that everybody shows exactly what was said, each once, in the same order as everybody.
    fn all_equal(&self) {
        let shown = |member: &Member| -> Vec<String> {
            let messages = member.shows(self.channel);
            messages.into_iter().map(|message| message.text).collect()
        };
        let first = shown(&self.members[0]);
        let set: BTreeSet<String> = first.iter().cloned().collect();
        assert_eq!(set.len(), first.len(), "something is shown twice");
        assert_eq!(set, self.said);
        for member in &self.members[1..] {
            assert_eq!(
                shown(member),
                first,
                "{} and {}",
                self.members[0].name,
                member.name
            );
        }
    }
}

fn is_on_lan(member: &Member) -> bool {
    member.name.starts_with("lan-")
}

/// P2, P3: a LAN that is cut off goes on, and after each heal everybody has everything, once.
#[test]
fn the_lan_is_cut_off_and_healed_again_and_again() {
    let began = Instant::now();
    let (rounds, [cut, whole]) = length();
    let mut world = World::new();
    println!("12 endpoints in one team after {:?}", began.elapsed());
    let all = world.talk(Duration::ZERO);
    world.await_all(|_| true, &all);
    for round in 1..=rounds {
        world.wan.cut();
        let texts = world.talk(cut);
        let (near, far): (BTreeSet<_>, BTreeSet<_>) =
            texts.into_iter().partition(|text| text.starts_with("lan-"));
        world.await_all(is_on_lan, &near);
        world.await_all(|one| !is_on_lan(one), &far);
        // The cut is one: nothing came through.
        let outside = world.members.iter().find(|one| !is_on_lan(one)).unwrap();
        let leaked = |text: &str| near.contains(text);
        assert!(
            !outside
                .shows(world.channel)
                .iter()
                .any(|message| leaked(&message.text))
        );
        let healed = Instant::now();
        world.wan.heal();
        world.talk(whole);
        world.await_all(|_| true, &world.said);
        world.all_equal();
        println!(
            "round {round}: {} messages each with all 12, {:?} after the heal",
            world.said.len(),
            healed.elapsed()
        );
    }
    let (carried, overtook) = world.proxy.carried();
    println!(
        "{carried} datagrams were carried, {overtook} overtook others; in {:?}",
        began.elapsed()
    );
    assert!(overtook > 0, "nothing was late");
    // The LAN's endpoints do go through its relay, and that one through the proxy.
    let log = fs::read_to_string(world.folder.path().join("local.out")).unwrap();
    assert!(log.contains("ready") && carried > 0, "{log}");
    until("all relays are there", || {
        world.relays.iter().all(|one| one.pid().is_some())
    });
}
