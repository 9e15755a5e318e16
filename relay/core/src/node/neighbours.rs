//! A device that serves its local network. For others it is a relay there; to its own Secure it says so
//! while another device is connected, which can have all that lies here. That is not remembered in the
//! store: a parent gets everything all the same.
//!
//! Source: docs/protocol.md, P-FIND-7.

use proto::{Name, Outcome, Tier};

use super::{LinkId, Node, Role};
use crate::store::Store;

impl<S: Store> Node<S> {
    /// What we are to ourselves: a local relay while we are a device that serves another one.
    pub(super) fn own_tier(&self) -> Tier {
        let own = self.config.tier;
        let mut links = self.links.values();
        let served = own == Tier::Device
            && links.any(|state| state.role == Role::Neighbour && state.hello.is_some());
        if served { Tier::Local } else { own }
    }

    /// A neighbour has come: what was published here is in its reach.
    pub(super) fn tell_on_lan(&mut self) {
        let waiting: Vec<(LinkId, Name)> = self.upstream.routes().collect();
        for (link, name) in waiting {
            let state = self.links.get(&link);
            if state.is_some_and(|state| state.role == Role::Downstream) {
                self.acknowledge(link, name, Outcome::Stored(Tier::Local));
            }
        }
        self.tell_reach();
    }
}
