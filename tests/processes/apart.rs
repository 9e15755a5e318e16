//! Two local networks of machines that this test makes, each with its own relay and its own admin. Cut
//! off from each other, both admins add and remove people; when they meet again, all agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use endpoint_secure_api::{Anchor, Answer, ChannelId, Command, Device, Message, Passphrase, Team};
use endpoint_secure_client::Endpoint;
use tempfile::TempDir;
use xtask::people::{CHANNEL, Person, TEAM, admit};
use xtask::process::Process;
use xtask::tree;

use crate::machine::Machine;
use crate::scene::built;

/// Time for what takes several rounds between relays that lose and find each other.
const PATIENCE: Duration = Duration::from_secs(120);

/// The machines: a wide network, two local ones with a relay each, and their laptops.
struct Networks {
    wide: Machine,
    relays: [Machine; 2],
    laptops: [Machine; 2],
}

impl Networks {
    fn new() -> Self {
        let this = Self {
            wide: Machine::new(),
            relays: [Machine::new(), Machine::new()],
            laptops: [Machine::new(), Machine::new()],
        };
        for lan in 0..2 {
            let (near, far) = (3 + lan, 1 + lan);
            let relay = &this.relays[lan];
            this.wide
                .cable(&format!("lan{lan}"), relay, "wan", &format!("10.99.{far}"));
            relay.cable("lan", &this.laptops[lan], "lan", &format!("10.99.{near}"));
        }
        this.heal();
        this
    }

    fn cut(&self) {
        for lan in 0..2 {
            self.wide.run(&format!("ip link set lan{lan} down"));
        }
    }

    fn heal(&self) {
        for lan in 0..2 {
            let (near, far) = (3 + lan, 1 + lan);
            self.wide.run(&format!("ip link set lan{lan} up"));
            // A link that goes down takes its routes along.
            self.wide.run(&format!(
                "ip route replace 10.99.{near}.0/24 via 10.99.{far}.2"
            ));
        }
    }
}

/// Relays, and the folder that people's profiles are in.
struct Apart {
    networks: Networks,
    origin: PathBuf,
    local: [String; 2],
    _relays: Vec<Process>,
    folder: TempDir,
}

impl Apart {
    fn new() -> Self {
        built();
        let networks = Networks::new();
        let folder = tempfile::tempdir().unwrap();
        let wide = folder.path().join("wide");
        fs::create_dir(&wide).unwrap();
        let (origin, above, key) = networks
            .wide
            .within(|| tree::relay(&wide, "origin", "0.0.0.0:4470", &[]).unwrap());
        let mut relays = vec![origin];
        let local = [0, 1].map(|lan| {
            let at = folder.path().join(format!("lan{lan}"));
            fs::create_dir(&at).unwrap();
            let listen = format!("10.99.{}.1:4470", 3 + lan);
            let above = above.replace("0.0.0.0", &format!("10.99.{}.1", 1 + lan));
            let more = ["--parent", &above, "--origin", &key];
            let start = || tree::relay(&at, "local", &listen, &more).unwrap();
            let (relay, address, _) = networks.relays[lan].within(start);
            relays.push(relay);
            address
        });
        Self {
            networks,
            origin: wide.join("origin"),
            local,
            _relays: relays,
            folder,
        }
    }

    /// Somebody with a laptop in one of the local networks.
    fn person(&self, name: &'static str, lan: usize) -> Laptop<'_> {
        Laptop {
            person: Person::new(name, name, self.folder.path()).unwrap(),
            machine: &self.networks.laptops[lan],
        }
    }

    /// An organisation with a team, both of which somebody owns.
    fn found(&self, owner: &Laptop<'_>) {
        let registration = self.folder.path().join("registration");
        fs::write(&registration, tree::register(&self.origin).unwrap()).unwrap();
        let file = registration.to_string_lossy();
        let [near, far] = &self.local;
        let mut found = vec!["org", "create", "Harbour", "--registration-file", &file];
        found.extend(["--relay", near, "--relay", far, "--user", owner.person.user]);
        owner.administer(&found);
        owner.administer(&["team", "create", TEAM]);
    }
}

/// A person's device on a machine.
struct Laptop<'a> {
    person: Person,
    machine: &'a Machine,
}

impl Laptop<'_> {
    fn administer(&self, arguments: &[&str]) -> String {
        let tool = || self.person.tool("treeline-member", arguments);
        self.machine.within(tool).unwrap()
    }

    fn admit(&self, newcomer: &Self) {
        // On one machine: they sit next to each other.
        let admit = || admit(&self.person, &newcomer.person);
        self.machine.within(admit).unwrap();
    }

    /// The number of somebody's device.
    fn number_of(&self, user: &str) -> String {
        let list = self.administer(&["--json", "device", "list", TEAM]);
        let devices = list.lines().map(serde_json::from_str::<Device>);
        let mut found = devices.map(Result::unwrap).filter(|one| one.user == user);
        found.next().unwrap().device.to_string()
    }

    fn remove(&self, user: &str) {
        let number = self.number_of(user);
        self.administer(&["device", "remove", TEAM, &number]);
    }

    fn say(&self, text: &str) {
        let arguments = ["send", "--channel", CHANNEL, text, "--wait", "lan"];
        let tool = || self.person.tool("treeline-chat", &arguments);
        self.machine.within(tool).unwrap();
    }

    /// Keeps the device running: Secure, Net, and a door.
    fn open(&self) -> Open {
        let endpoint = self.machine.within(|| {
            let endpoint = Endpoint::start_for_test(&self.person.directory).unwrap();
            let passphrase = Passphrase::new(self.person.passphrase().unwrap());
            endpoint.unlock(passphrase).unwrap();
            endpoint
        });
        Open {
            name: self.person.name,
            endpoint,
        }
    }
}

/// A device that runs.
struct Open {
    name: &'static str,
    endpoint: Endpoint,
}

impl Open {
    fn ask(&self, command: &Command) -> Answer {
        self.endpoint.call_when_back(command, PATIENCE).unwrap()
    }

    fn team(&self) -> Team {
        let Answer::Teams(teams) = self.ask(&Command::Teams) else {
            panic!("no teams");
        };
        teams.into_iter().find(|team| team.name == TEAM).unwrap()
    }

    /// The users in the team, and its code.
    fn view(&self) -> (BTreeSet<String>, String) {
        let team = self.team();
        let Ok(Answer::Devices(devices)) = self.endpoint.call(&Command::Devices { team: team.id })
        else {
            return Default::default();
        };
        (devices.into_iter().map(|one| one.user).collect(), team.code)
    }

    fn channel(&self) -> ChannelId {
        ChannelId {
            team: self.team().id,
            channel: 1,
        }
    }

    fn say(&self, text: &str) {
        self.ask(&Command::Send {
            channel: self.channel(),
            text: text.into(),
            token: text.len() as u64,
        });
    }

    fn messages(&self) -> Vec<Message> {
        let timeline = Command::Timeline {
            channel: self.channel(),
            anchor: Anchor::Oldest,
            count: Command::PAGE_LIMIT,
        };
        let Answer::Page(page) = self.ask(&timeline) else {
            panic!("no page");
        };
        page.messages
    }

    fn reads(&self, text: &str) -> bool {
        self.messages().iter().any(|message| message.text == text)
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn two_admins_who_were_apart_agree_on_members_and_code_after_they_meet() {
    let apart = Apart::new();
    let [alice, carol, erin] = ["alice", "carol", "erin"].map(|name| apart.person(name, 0));
    let [bob, dave, frank] = ["bob", "dave", "frank"].map(|name| apart.person(name, 1));
    apart.found(&alice);
    // They meet at Alice's, and then some go home.
    for other in [&bob, &carol, &dave] {
        alice.admit(other);
    }
    alice.administer(&["admin", "add", TEAM, &alice.number_of("bob")]);
    let [at_carols, at_daves] = [carol.open(), dave.open()];
    until("Carol knows Dave", || at_carols.view().0.len() == 4);
    let at_bobs = bob.open();
    until("Bob and Dave know as much", || {
        [&at_bobs, &at_daves]
            .iter()
            .all(|one| one.team().epoch == at_carols.team().epoch)
    });
    at_bobs.say("bob is here");
    until("Bob is heard", || {
        [&at_carols, &at_daves]
            .iter()
            .all(|one| one.reads("bob is here"))
    });
    drop(at_bobs);

    apart.networks.cut();
    alice.remove("dave");
    bob.remove("carol");
    alice.admit(&erin);
    bob.admit(&frank);
    for laptop in [&alice, &erin, &bob, &frank] {
        laptop.say(&format!("{} apart", laptop.person.name));
    }
    // Neither of those who were removed is told: they are on the wrong sides.
    assert!(at_carols.reads("alice apart") && !at_carols.team().removed);
    assert!(at_daves.reads("bob apart") && !at_daves.team().removed);

    apart.networks.heal();
    let lasting = [&alice, &bob, &erin, &frank].map(Laptop::open);
    let names: BTreeSet<String> = lasting.iter().map(|one| one.name.to_owned()).collect();
    until("all agree", || {
        let views: BTreeSet<_> = lasting.iter().map(Open::view).collect();
        let waiting = lasting.iter().map(|one| one.team().waiting).sum::<u32>();
        let [(members, code)] = &Vec::from_iter(&views)[..] else {
            return false;
        };
        *members == names && code.len() == 35 && waiting == 0
    });
    until("those who were removed know", || {
        at_carols.team().removed && at_daves.team().removed
    });
    lasting
        .iter()
        .for_each(|one| one.say(&format!("{} after", one.name)));
    for name in &names {
        until("all read what is new", || {
            lasting
                .iter()
                .all(|one| one.reads(&format!("{name} after")))
        });
        let apart = format!("{name} apart");
        until("those who were there read what was said apart", || {
            lasting[..2].iter().all(|one| one.reads(&apart))
        });
        for removed in [&at_carols, &at_daves] {
            assert!(!removed.reads(&format!("{name} after")), "{}", removed.name);
        }
    }
    drop(lasting);
    compare(&[&alice, &bob, &erin, &frank]);
}

/// Compares what people compare.
fn compare(all: &[&Laptop<'_>]) {
    let codes: Vec<String> = all
        .iter()
        .map(|laptop| {
            let list = laptop.administer(&["device", "list", TEAM]);
            list.lines().last().unwrap().to_owned()
        })
        .collect();
    println!("{}", codes[0]);
    assert_eq!(codes[0].replace(' ', "").len(), "code".len() + 30);
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
}
