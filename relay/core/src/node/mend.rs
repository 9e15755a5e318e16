//! Chunks that the store has found damaged and dropped: the operator is told, and the parent is asked
//! for them by FETCH, a few at a time, as soon as there is one. What a restart makes us forget is found
//! by reconciling, because the store has dropped its resume points with them.

use std::collections::BTreeSet;

use proto::{Frame, Name, Tier, limits};

use super::{Effect, Node, Note};
use crate::store::Store;

/// Names that wait to be asked for, at most.
const NAMES: usize = 4096;

/// What is missing, and what of it the parent has been asked for.
#[derive(Default)]
pub(super) struct Missing {
    names: BTreeSet<Name>,
    asked: Option<(u32, Vec<Name>)>,
}

impl<S: Store> Node<S> {
    /// Takes over what the store has found, and asks for the next names.
    pub(super) fn mend(&mut self) {
        let damage = self.store.take_damage();
        self.counters.damaged += damage.count;
        for name in damage.names {
            if self.notes.take(self.now) {
                let asked = self.config.tier < Tier::Origin;
                let note = Note::Damaged { name, asked };
                self.effects.push_back(Effect::Note(note));
            }
            if self.missing.names.len() < NAMES {
                self.missing.names.insert(name);
            }
        }
        if self.missing.names.is_empty() || self.missing.asked.is_some() {
            return;
        }
        let Some((link, id)) = self.upstream.begin_fetch(None) else {
            return;
        };
        let names = self.missing.names.iter().copied();
        let names: Vec<Name> = names.take(limits::NAMES_PER_FETCH).collect();
        self.missing.asked = Some((id, names.clone()));
        self.send(link, &Frame::Fetch { id, names });
    }

    /// The parent has sent what it has of them; the rest is nowhere.
    pub(super) fn mended(&mut self, id: u32) {
        let done = self.missing.asked.take_if(|(asked, _)| *asked == id);
        for name in done.into_iter().flat_map(|(_, names)| names) {
            self.missing.names.remove(&name);
        }
    }

    /// The parent is gone: another one is asked again.
    pub(super) fn not_mended(&mut self) {
        self.missing.asked = None;
    }
}
