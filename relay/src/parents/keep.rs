//! The shell of [`super::Parents`]: attempts, links, a clock. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{PublicKey, Signer};
use relay_core::Role;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Above, Action, Parents, Rank, Up};
use crate::address::RelayAddress;
use crate::discovery::race;
use crate::driver::{Handle, Stopped};
use crate::link::connect::{Connector, Ear, Standby};

/// How often links are looked at whether something has come.
const LOOK: Duration = Duration::from_millis(200);
/// How long a relay may take to greet on a new connection.
const GREETING: Duration = Duration::from_secs(5);
/// Reports that may wait: a few for each relay.
const REPORTS: usize = 64;

/// A relay that may be used as the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where, and its key. Several may have the same key: they are places of one relay.
    pub address: RelayAddress,
    /// Where it stands, as far as is known.
    pub rank: Rank,
}

/// The relays that may be used now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// All of them.
    pub candidates: Vec<Candidate>,
    /// Those that have lost the user's trust. A link to a relay that is only not found any more may live
    /// on; one to these must not.
    pub lost: BTreeSet<PublicKey>,
}

enum Outcome {
    Connected(Up, Ear),
    Failed(String),
    Lost,
}

/// What has become of an attempt or a link, and of which.
struct Report {
    key: PublicKey,
    number: u64,
    outcome: Outcome,
}

/// The task of a link, from the attempt to its end.
struct Task {
    number: u64,
    abort: AbortHandle,
    /// Tells it to hand the link to the node.
    go: Option<oneshot::Sender<()>>,
    ear: Option<Ear>,
    heard: u64,
}

struct Shell<'a> {
    handle: &'a Handle,
    connector: Connector,
    parents: Parents,
    places: BTreeMap<PublicKey, Vec<RelayAddress>>,
    began: Instant,
    tasks: BTreeMap<PublicKey, Task>,
    running: JoinSet<()>,
    reports: mpsc::Sender<Report>,
    above: watch::Sender<Above>,
    number: u64,
}

/// Keeps the nearest of these relays as the node's parent, and another beside it, for ever. The
/// relays may change meanwhile. How each of them is is told to `above`.
///
/// # Errors
/// [`Stopped`] when there is no node any more.
pub async fn keep(
    handle: &Handle,
    own: &Signer,
    mut offers: watch::Receiver<Offer>,
    above: watch::Sender<Above>,
) -> Result<(), Stopped> {
    let (reports, mut reported) = mpsc::channel(REPORTS);
    let mut seed = [0; 8];
    // Without randomness many clients pause alike; that is all.
    let _ = getrandom::fill(&mut seed);
    let mut shell = Shell {
        handle,
        connector: Connector::new(own.clone()),
        parents: Parents::new(u64::from_ne_bytes(seed)),
        places: BTreeMap::new(),
        began: Instant::now(),
        tasks: BTreeMap::new(),
        running: JoinSet::new(),
        reports,
        above,
        number: 0,
    };
    let offered = offers.borrow_and_update().clone();
    shell.offer(&offered);
    let mut open = true;
    loop {
        shell.act();
        tokio::select! {
            Some(report) = reported.recv() => shell.report(report),
            changed = offers.changed(), if open => {
                // When whoever finds relays has ended, these are all.
                open = changed.is_ok();
                let offered = offers.borrow_and_update().clone();
                shell.offer(&offered);
            }
            () = shell.pause() => shell.look(),
        }
        if handle.is_stopped() {
            return Err(Stopped);
        }
    }
}

impl Shell<'_> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn pause(&self) -> impl Future<Output = ()> + use<> {
        let linked = self.tasks.values().any(|task| task.ear.is_some());
        let longest = if linked {
            LOOK
        } else {
            Duration::from_secs(3600)
        };
        let due = self.parents.next_timeout().map_or(longest, |at_ms| {
            Duration::from_millis(at_ms.saturating_sub(self.now_ms())).min(longest)
        });
        sleep_until(Instant::now() + due)
    }

    fn offer(&mut self, offer: &Offer) {
        let mut ranks: BTreeMap<PublicKey, Rank> = BTreeMap::new();
        let mut places: BTreeMap<PublicKey, Vec<RelayAddress>> = BTreeMap::new();
        for Candidate { address, rank } in &offer.candidates {
            let known = ranks.entry(address.key).or_insert(*rank);
            if (rank.tier, rank.order) < (known.tier, known.order) {
                *known = *rank;
            }
            places.entry(address.key).or_default().push(address.clone());
        }
        let moved: BTreeSet<PublicKey> = places
            .iter()
            .filter(|(key, at)| self.places.get(key).is_some_and(|old| old != *at))
            .map(|(key, _)| *key)
            .collect();
        self.places = places;
        self.above
            .send_modify(|above| above.only(|key| ranks.contains_key(key)));
        self.parents.offer(&ranks, &offer.lost, self.now_ms());
        for key in moved {
            self.parents.hasten(key, self.now_ms());
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.parents.next_action() {
            match action {
                Action::Dial(key) => self.dial(key),
                Action::Use(key) => self.hand_over(key),
                Action::Drop(key) => self.drop_link(key),
            }
        }
        while self.running.try_join_next().is_some() {}
    }

    fn dial(&mut self, key: PublicKey) {
        self.number += 1;
        let number = self.number;
        let (go, told) = oneshot::channel();
        let tell = Tell {
            key,
            number,
            reports: self.reports.clone(),
        };
        let places = self.places.get(&key).cloned().unwrap_or_default();
        let link = link(
            places,
            self.connector.clone(),
            self.handle.clone(),
            told,
            tell,
        );
        let abort = self.running.spawn(link);
        self.tasks.insert(
            key,
            Task {
                number,
                abort,
                go: Some(go),
                ear: None,
                heard: 0,
            },
        );
    }

    fn report(&mut self, report: Report) {
        let now_ms = self.now_ms();
        let key = report.key;
        let Some(task) = self.tasks.get_mut(&key) else {
            return;
        };
        if task.number != report.number {
            return;
        }
        match report.outcome {
            Outcome::Connected(up, ear) => {
                task.ear = Some(ear);
                let tier = up.tier;
                self.above.send_modify(|above| above.connected(key, up));
                self.parents.connected(key, tier, now_ms);
            }
            Outcome::Failed(why) => {
                tracing::info!("{why}");
                self.above.send_modify(|above| above.failed(key, why));
                self.tasks.remove(&key);
                self.parents.failed(key, now_ms);
            }
            Outcome::Lost => {
                let why = "the link has ended; it is made again".to_owned();
                self.above.send_modify(|above| above.failed(key, why));
                self.tasks.remove(&key);
                self.parents.lost(key, now_ms);
            }
        }
    }

    fn hand_over(&mut self, key: PublicKey) {
        let go = self.tasks.get_mut(&key).and_then(|task| task.go.take());
        if let Some(go) = go {
            // If its task has just ended, that is reported next.
            let _ = go.send(());
        }
    }

    fn drop_link(&mut self, key: PublicKey) {
        if let Some(task) = self.tasks.remove(&key) {
            task.abort.abort();
            if task.ear.is_some() {
                self.above.send_modify(|above| above.dropped(key));
            }
        }
    }

    /// Tells who has been heard, and what time it is.
    fn look(&mut self) {
        let now_ms = self.now_ms();
        for (key, task) in &mut self.tasks {
            let Some(ear) = &task.ear else {
                continue;
            };
            let heard = ear.heard();
            if heard != task.heard {
                task.heard = heard;
                self.parents.heard(*key, now_ms);
            }
        }
        self.parents.handle_timeout(now_ms);
    }
}

/// The way back to the shell.
struct Tell {
    key: PublicKey,
    number: u64,
    reports: mpsc::Sender<Report>,
}

impl Tell {
    async fn say(&self, outcome: Outcome) {
        let (key, number) = (self.key, self.number);
        let report = Report {
            key,
            number,
            outcome,
        };
        // Without a shell nobody wants to know.
        let _ = self.reports.send(report).await;
    }
}

/// The whole life of a link: it is made, stands by, and is handed to the node when it is told to.
async fn link(
    places: Vec<RelayAddress>,
    connector: Connector,
    handle: Handle,
    told: oneshot::Receiver<()>,
    tell: Tell,
) {
    let mut standby = match dial(places, connector, &handle).await {
        Ok(standby) => standby,
        Err(why) => return tell.say(Outcome::Failed(why)).await,
    };
    let (RelayAddress { place, key }, tier) = (standby.relay().clone(), standby.hello().tier);
    tracing::debug!(relay = place, tier = tier.word(), "a relay stands by");
    let up = Up {
        place: place.clone(),
        tier,
    };
    tell.say(Outcome::Connected(up, standby.ear())).await;
    let go = tokio::select! {
        told = told => told.is_ok(),
        () = standby.ended() => false,
    };
    if go {
        tracing::info!(relay = place, "traffic goes through this relay now");
        let role = Role::Upstream { relay: place, key };
        // It fails only with the node.
        let _ = standby.run(&handle, role).await;
        tell.say(Outcome::Lost).await;
    } else {
        tell.say(Outcome::Lost).await;
        standby.close().await;
    }
}

/// Connects to the first of these places that answers, and greets.
async fn dial(
    places: Vec<RelayAddress>,
    connector: Connector,
    handle: &Handle,
) -> Result<Standby, String> {
    let connect = |relay: RelayAddress| {
        let connector = connector.clone();
        async move { connector.connect(&relay).await }
    };
    let connected = race(places, connect).await.map_err(|error| match error {
        Some(error) => error.to_string(),
        None => "a relay has no address".into(),
    })?;
    let place = connected.relay().place.clone();
    match timeout(GREETING, connected.greet(handle.hello())).await {
        Ok(Ok(standby)) => Ok(standby),
        Ok(Err(error)) => Err(format!("no link to the relay {place}: {error}")),
        Err(_) => Err(format!("the relay {place} does not greet")),
    }
}
