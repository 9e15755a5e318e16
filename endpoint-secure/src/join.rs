//! Coming into a team: key packages, the welcome, a look at who is inside, and going in.
//!
//! The invite names the admin by a full fingerprint, and the welcome is taken from nobody else. The
//! other direction, the admin's check of this device's fingerprint, is in `admission`. Source:
//! docs/protocol.md, "Invite"; docs/architecture.md, "Joining".

use std::collections::{BTreeMap, BTreeSet};

use endpoint_secure_api::{
    Answer, Code, Device as ApiDevice, JoinStage, Preview, Team as ApiTeam, TeamId,
};
use proto::limits::{DAY_MS, KEY_PACKAGE_LIFE_MS, SMALL_FRAGMENTS};
use proto::{
    Chunk, Fields, Fingerprint, Grant, GrantId, Name, Prefix, PublicKey, Verbs, split_with_key,
};
use serde::{Deserialize, Serialize};

use crate::admission::{REFUSAL, Why, read_refusal, seal_package, tag};
use crate::commit::{BUNDLE_VERSION, Bundle, Luggage, TREE_RUN, open_tree};
use crate::device::session::{Failure, Session, refuse};
use crate::direct::DIRECT;
use crate::group::{self, Group, GroupError, Leaf, LeafSigner, Provider};
use crate::invite::Invite;
use crate::naming::{self, FOUNDER};
use crate::operation::{device_answer, role_of};
use crate::pending::Taken;
use crate::states::{State, Used};
use crate::store::outbox::NO_MESSAGE;
use crate::store::{Kind, StoreError, decode};
use crate::team::{Member, Seed, Team};

/// One-time key packages that stand at relays, beside the last resort.
const ONE_TIME: usize = 3;
/// How long a key package stands at relays, in milliseconds: below their limit, for clocks differ.
const PACKAGE_LIFE_MS: u64 = KEY_PACKAGE_LIFE_MS - DAY_MS;
/// How long key packages are kept after one has led into a team, in milliseconds: as long as the branch
/// of its welcome may lose.
const KEY_KEPT_MS: u64 = 7 * DAY_MS;
/// Welcomes of admins who are not known yet, at most.
const SET_ASIDE: usize = 4;

/// A key package of this device, at relays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    /// Where its private half lies, and nothing else.
    pub namespace: i64,
    /// Whether it may be used again.
    pub last_resort: bool,
    /// When relays drop it.
    pub expires_ms: u64,
}

/// A state of the team that this device was welcomed to and has not entered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Where its MLS state lies.
    pub namespace: i64,
    /// Who has welcomed this device.
    pub author: u32,
    /// What came with it.
    #[serde(with = "crate::store::bytes")]
    pub luggage: Vec<u8>,
}

/// A team this device has asked to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joining {
    /// The team.
    pub team: TeamId,
    /// The invite.
    pub invite: Invite,
    /// The seed of the leaf signing key.
    pub seed: Seed,
    /// The salt of the device number.
    pub salt: [u8; 16],
    /// The key packages that can still be used.
    pub offers: Vec<Offer>,
    /// The welcome, when it has come.
    #[serde(with = "crate::store::bytes")]
    pub welcome: Vec<u8>,
    /// Where the private half of the key package lies that it used.
    pub opens: i64,
    /// What stands in it.
    pub bundle: Option<Bundle>,
    /// Whether the blob with its tree is yet to come.
    pub fetching: bool,
    /// Which welcome it is; the last one counts.
    pub turn: u32,
    /// Welcomes of admins whom only another welcome may introduce.
    pub set_aside: Vec<Vec<u8>>,
    /// The state to enter.
    pub ready: Option<Ready>,
    /// When this device came in; 0 before.
    pub in_ms: u64,
    /// Why the invite was refused.
    pub refused: Option<Why>,
}

impl Joining {
    fn new(invite: Invite) -> Result<Self, Failure> {
        let mut this = Self {
            team: invite.team_id(),
            invite,
            seed: Seed::random()?,
            salt: [0; 16],
            offers: Vec::new(),
            welcome: Vec::new(),
            opens: 0,
            bundle: None,
            fetching: false,
            turn: 0,
            set_aside: Vec::new(),
            ready: None,
            in_ms: 0,
            refused: None,
        };
        this.salt_anew()?;
        Ok(this)
    }

    /// Draws another device number.
    fn salt_anew(&mut self) -> Result<(), Failure> {
        loop {
            getrandom::fill(&mut self.salt).map_err(|_| StoreError::Random)?;
            if self.device().is_some_and(|number| number != FOUNDER) {
                return Ok(());
            }
        }
    }

    pub(crate) fn answer(&self) -> ApiTeam {
        let stage = match (&self.refused, &self.ready, self.welcome.is_empty()) {
            (Some(_), ..) => JoinStage::Refused,
            (_, Some(_), _) => JoinStage::Admitted,
            (_, _, true) => JoinStage::WaitingForAdmin,
            _ => JoinStage::Fetching,
        };
        ApiTeam {
            id: self.team,
            name: String::new(),
            organisation: String::new(),
            epoch: 0,
            devices: 0,
            suite: self.invite.suite,
            admin: false,
            stage,
            own_device: self.device().unwrap_or(0),
            removed: false,
            waiting: 0,
            code: String::new(),
            refused: self.refused.map_or("", Why::line).into(),
            direct: self.team.team >= DIRECT,
        }
    }

    pub(crate) fn device(&self) -> Option<u32> {
        let signing = LeafSigner::from_seed(&self.seed.0).public();
        naming::device_number(self.team, &signing, &self.salt)
    }

    fn tree_prefix(&self) -> Option<Prefix> {
        let (device, number) = self.bundle.as_ref().filter(|_| self.fetching)?.tree;
        let name = Name::new(naming::place(self.team), Fields::Blob { device, number });
        Some(Prefix::of(name, 128 - TREE_RUN.trailing_zeros() as u8))
    }
}

impl Session {
    pub(crate) fn read_invite(&self, text: &str) -> Result<Answer, Failure> {
        Ok(Answer::Invite(parse(text)?.answer()))
    }

    pub(crate) fn join(&mut self, text: &str) -> Result<Answer, Failure> {
        let invite = parse(text)?;
        let id = invite.team_id();
        if let Some(team) = self.memory.teams.get(&id).filter(|team| !team.is_out()) {
            return Ok(Answer::Team(self.team_answer(team)));
        }
        let before = self.memory.joining.get(&id);
        if let Some(same) = before.filter(|one| one.in_ms == 0 && one.refused.is_none()) {
            return Ok(self.joining_answer(same));
        }
        if invite.expires_ms() <= self.now.millis() {
            return refuse(Code::Configuration, Why::Expired.line());
        }
        self.ask_to_join(invite)
    }

    /// Where this device stands on its way back into a team that it is out of.
    pub(crate) fn way_back(&self, team: &Team) -> Option<ApiTeam> {
        let joining = self.memory.joining.get(&team.id)?;
        (team.is_out() && joining.in_ms == 0).then(|| joining.answer())
    }

    fn joining_answer(&self, joining: &Joining) -> Answer {
        let known = self.memory.teams.get(&joining.team);
        Answer::Team(known.map_or_else(|| joining.answer(), |team| self.team_answer(team)))
    }

    /// Publishes key packages for a new device in the team of an invite.
    pub(crate) fn ask_to_join(&mut self, invite: Invite) -> Result<Answer, Failure> {
        let id = invite.team_id();
        self.forget_joining(id)?;
        self.configure_with(PublicKey(invite.origin), &invite.relays)?;
        let mut joining = Joining::new(invite)?;
        self.refill(&mut joining)?;
        self.put_joining(joining)?;
        self.subscribe(self.welcome_prefix(id))?;
        Ok(self.joining_answer(&self.memory.joining[&id]))
    }

    /// Makes and publishes key packages until there are as many as there should be.
    fn refill(&mut self, joining: &mut Joining) -> Result<(), Failure> {
        let count = |joining: &Joining, last| {
            let offers = joining.offers.iter();
            offers.filter(|one| one.last_resort == last).count()
        };
        while count(joining, true) < 1 {
            self.offer(joining, true)?;
        }
        while count(joining, false) < ONE_TIME {
            self.offer(joining, false)?;
        }
        Ok(())
    }

    fn offer(&mut self, joining: &mut Joining, last_resort: bool) -> Result<(), Failure> {
        let namespace = self.new_namespace()?;
        let signer = LeafSigner::from_seed(&joining.seed.0);
        let credential = self.credential(joining.team, joining.salt, &signer);
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let kind = (&credential, last_resort);
        let package = group::key_package(&provider, joining.invite.suite, &signer, kind)?;
        let key = self.memory.signer.public_key();
        let own = key.fingerprint();
        let team = naming::team_bytes(joining.team);
        let offered: Option<Vec<(u128, u64)>> = self.store.get(Kind::Offered, &team)?;
        let mut offered = offered.unwrap_or_default();
        // A relay may still have it for as long as its clock may be behind.
        let now = self.now.millis();
        offered.retain(|(_, expires_ms)| expires_ms + DAY_MS > now);
        // Sealing draws anew: no two of this device's objects have one name, not even after it has
        // asked a second time.
        let (object, first) = loop {
            let object = seal_package(&joining.invite, own, &package)?;
            let fields = Fields::KeyPackage {
                fingerprint: own.tagged(tag(&object)),
                fragment: 0,
            };
            let first = Name::new(naming::place(joining.team), fields);
            if offered.iter().all(|(known, _)| *known != first.0) {
                break (object, first);
            }
        };
        let Ok(parts) = split_with_key(&object, SMALL_FRAGMENTS, &key) else {
            return refuse(Code::Usage, "the key package is too long for its name");
        };
        let expires_ms = now + PACKAGE_LIFE_MS;
        offered.push((first.0, expires_ms));
        self.store.put(Kind::Offered, &team, &offered)?;
        let expiry = proto::Timestamp::from_millis(expires_ms);
        for (index, part) in parts.iter().enumerate() {
            let chunk = first.offset(index as u32).and_then(|name| {
                Chunk::sign(name, expiry, GrantId::NONE, part, &self.memory.signer).ok()
            });
            let chunk = chunk.ok_or(StoreError::Corrupt)?;
            self.store.forget_posted(chunk.name().to_bytes())?;
            self.store.post(&chunk, (NO_MESSAGE, 0, 0))?;
        }
        joining.offers.push(Offer {
            namespace,
            last_resort,
            expires_ms,
        });
        Ok(())
    }

    /// Deletes the private half of a key package.
    fn withdraw_offer(&mut self, joining: &mut Joining, namespace: i64) -> Result<(), Failure> {
        joining.offers.retain(|one| one.namespace != namespace);
        Ok(self.store.delete_mls(namespace)?)
    }

    fn put_joining(&mut self, joining: Joining) -> Result<(), Failure> {
        let key = naming::team_bytes(joining.team);
        self.store.put(Kind::Joining, &key, &joining)?;
        self.memory.joining.insert(joining.team, joining);
        self.told.teams = true;
        Ok(())
    }

    pub(crate) fn key_packages_expire_ms(&self) -> Option<u64> {
        let joining = self.memory.joining.values();
        let waiting = joining.filter(|one| one.in_ms == 0 && one.refused.is_none());
        let offers = waiting.flat_map(|one| &one.offers);
        offers.map(|offer| offer.expires_ms).min()
    }

    /// Publishes new key packages for those that relays have dropped.
    pub(crate) fn renew_key_packages(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        let is_due = |one: &&Joining| {
            let waits = one.in_ms == 0 && one.refused.is_none();
            waits && one.offers.iter().any(|offer| offer.expires_ms <= now)
        };
        let due: Vec<Joining> = self
            .memory
            .joining
            .values()
            .filter(is_due)
            .cloned()
            .collect();
        for mut joining in due {
            let offers = joining.offers.iter();
            let old: Vec<i64> = offers
                .filter(|offer| offer.expires_ms <= now)
                .map(|offer| offer.namespace)
                .collect();
            for namespace in old {
                self.withdraw_offer(&mut joining, namespace)?;
            }
            self.refill(&mut joining)?;
            self.put_joining(joining)?;
        }
        Ok(())
    }

    pub(crate) fn take_welcome(&mut self, id: TeamId, object: &[u8]) -> Result<Taken, Failure> {
        let Some(mut joining) = self.memory.joining.get(&id).cloned() else {
            return Ok(Taken::Done);
        };
        if object.first() == Some(&REFUSAL) {
            self.take_refusal(joining, object)?;
            return Ok(Taken::Done);
        }
        // For an older key package of ours, or nobody's: not a word to the person.
        let Some((opens, bundle)) = self.open_welcome(&joining, object)? else {
            return Ok(Taken::Done);
        };
        if bundle.turn <= joining.turn {
            // Welcomes come in any order, and the last one counts.
            return Ok(Taken::Done);
        }
        if bundle.version != BUNDLE_VERSION || !bundle.tree.1.is_multiple_of(TREE_RUN) {
            self.notice("a welcome has come that this version cannot read; update the program");
            return Ok(Taken::Done);
        }
        if let Some(prefix) = joining.tree_prefix() {
            self.unsubscribe(prefix)?;
        }
        joining.welcome = object.to_vec();
        joining.opens = opens;
        joining.fetching = true;
        joining.turn = bundle.turn;
        joining.bundle = Some(bundle);
        joining.refused = None;
        if let Some(prefix) = joining.tree_prefix() {
            self.subscribe(prefix)?;
        }
        self.put_joining(joining)?;
        Ok(Taken::Done)
    }

    /// The key package that a welcome is for, and what stands in it. In copies: looking into a welcome
    /// deletes a one-time key package, and this welcome may not be the one that is entered with.
    pub(crate) fn open_welcome(
        &mut self,
        joining: &Joining,
        object: &[u8],
    ) -> Result<Option<(i64, Bundle)>, Failure> {
        let scratch = self.new_namespace()?;
        for offer in &joining.offers {
            self.store.copy_mls(offer.namespace, scratch)?;
            let provider = Provider::new(&self.store, &self.crypto, scratch);
            let looked = group::look_into(&provider, object);
            self.store.delete_mls(scratch)?;
            match looked {
                Ok(bytes) => {
                    let bundle = decode::<Bundle>(&bytes).ok();
                    return Ok(bundle.map(|bundle| (offer.namespace, bundle)));
                }
                Err(GroupError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn take_refusal(&mut self, mut joining: Joining, object: &[u8]) -> Result<(), Failure> {
        let own = self.memory.signer.public_key().fingerprint();
        let why = read_refusal(&joining.invite, own, object);
        let Some(why) = why.filter(|_| joining.in_ms == 0 && joining.ready.is_none()) else {
            return Ok(());
        };
        for offer in joining.offers.clone() {
            self.withdraw_offer(&mut joining, offer.namespace)?;
        }
        if why == Why::Number {
            joining.salt_anew()?;
            self.refill(&mut joining)?;
        } else {
            joining.refused = Some(why);
            self.notice(why.line());
        }
        self.put_joining(joining)
    }

    pub(crate) fn take_tree(
        &mut self,
        id: TeamId,
        first: Name,
        object: &[u8],
    ) -> Result<Taken, Failure> {
        let joining = self.memory.joining.get(&id).cloned();
        let Some(joining) = joining.filter(|one| one.fetching) else {
            return Ok(Taken::Done);
        };
        let Some(bundle) = &joining.bundle else {
            return Ok(Taken::Done);
        };
        let (device, number) = bundle.tree;
        if first.fields() != (Fields::Blob { device, number }) {
            return Ok(Taken::Done);
        }
        let Some((luggage, tree)) = open_tree(bundle, object) else {
            return Ok(Taken::Done);
        };
        let namespace = self.new_namespace()?;
        self.store.copy_mls(joining.opens, namespace)?;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let joined = group::join(&provider, id, &joining.welcome, &tree);
        match joined.and_then(|joined| self.judge(&joining, joined, &luggage)) {
            Ok((group, author)) => {
                group.forget_key_package(&provider)?;
                let ready = Ready {
                    namespace,
                    author: author.device,
                    luggage,
                };
                self.be_ready(joining, group, ready)?;
            }
            Err(GroupError::Store(error)) => return Err(error.into()),
            Err(_) => {
                self.store.delete_mls(namespace)?;
                self.reject(joining)?;
            }
        }
        Ok(Taken::Done)
    }

    /// Takes a welcome from nobody but the admin that the invite names in full, or one whom that admin's
    /// welcome has made known.
    fn judge(
        &self,
        joining: &Joining,
        (group, author, bundle): (Group, Leaf, Vec<u8>),
        luggage: &[u8],
    ) -> Result<(Group, Leaf), GroupError> {
        let admin = author.credential.publishing_key().fingerprint();
        let is_admin = group.roles()?.rank(author.device).is_some();
        if !is_admin || (admin.0 != joining.invite.admin && !self.knows_admin(joining, &author)?) {
            return Err(GroupError::Invalid("the welcome's author"));
        }
        // What was looked into is what its author has signed.
        let told = joining.bundle.as_ref();
        let signed: Bundle = decode(&bundle).map_err(|_| GroupError::Invalid("the welcome"))?;
        let same = told.is_some_and(|told| told.luggage == signed.luggage);
        let luggage: Luggage = decode(luggage).map_err(|_| GroupError::Invalid("the welcome"))?;
        let own = self.memory.signer.public_key();
        if !same || !grants_hold(&luggage.chain, joining, own) {
            return Err(GroupError::Invalid("the grant in the welcome"));
        }
        Ok((group, author))
    }

    fn knows_admin(&self, joining: &Joining, author: &Leaf) -> Result<bool, GroupError> {
        let key = author.credential.publishing;
        let mut states = self.states(joining.team);
        let entered = states.any(|state| {
            let rank = state.roles.rank(author.device);
            rank.is_some() && state.used.key(author.device) == Some(key)
        });
        let Some(ready) = joining.ready.as_ref().filter(|_| !entered) else {
            return Ok(entered);
        };
        let provider = Provider::new(&self.store, &self.crypto, ready.namespace);
        let group = Group::load(&provider, joining.team)?;
        let is_admin = group.roles()?.rank(author.device).is_some();
        let mut leaves = group.leaves().into_iter();
        Ok(is_admin
            && leaves.any(|one| (one.device, one.credential.publishing) == (author.device, key)))
    }

    /// A welcome of somebody else than the admin: it is set aside, for that admin's may yet come and make
    /// its author known.
    fn reject(&mut self, mut joining: Joining) -> Result<(), Failure> {
        if let Some(prefix) = joining.tree_prefix() {
            self.unsubscribe(prefix)?;
        }
        let welcome = std::mem::take(&mut joining.welcome);
        if joining.set_aside.len() < SET_ASIDE {
            joining.set_aside.push(welcome);
        }
        joining.fetching = false;
        joining.bundle = None;
        // Of the device that this one was before, if any, it has nothing to go by.
        let entered = self.states(joining.team).filter(|_| joining.in_ms > 0);
        joining.turn = entered.map(|state| state.turn).max().unwrap_or(0);
        self.put_joining(joining)?;
        self.notice("a welcome has come that is not from the admin of the invite; it is set aside");
        Ok(())
    }

    /// The welcome holds: its one-time key package is gone, and a new one takes its place.
    fn be_ready(
        &mut self,
        mut joining: Joining,
        group: Group,
        ready: Ready,
    ) -> Result<(), Failure> {
        if let Some(prefix) = joining.tree_prefix() {
            self.unsubscribe(prefix)?;
        }
        joining.fetching = false;
        let used = joining.offers.iter();
        let mut used = used.filter(|one| one.namespace == joining.opens && !one.last_resort);
        if let Some(used) = used.next().map(|one| one.namespace) {
            self.withdraw_offer(&mut joining, used)?;
            self.refill(&mut joining)?;
        }
        if let Some(before) = joining.ready.take() {
            self.store.delete_mls(before.namespace)?;
        }
        let id = joining.team;
        let others = std::mem::take(&mut joining.set_aside);
        if joining.in_ms > 0 {
            self.come_in(joining, group, &ready)?;
        } else {
            joining.ready = Some(ready);
            self.put_joining(joining)?;
        }
        for welcome in others {
            self.take_welcome(id, &welcome)?;
        }
        Ok(())
    }

    fn admitted(&self, id: TeamId) -> Result<(&Joining, &Ready), Failure> {
        let joining = self.memory.joining.get(&id);
        match joining.and_then(|one| Some((one, one.ready.as_ref()?))) {
            Some(found) => Ok(found),
            None => refuse(
                Code::NotFound,
                "no admin has added this device to such a team yet, or it is in already",
            ),
        }
    }

    pub(crate) fn preview(&self, id: TeamId) -> Result<Answer, Failure> {
        let (joining, ready) = self.admitted(id)?;
        let provider = Provider::new(&self.store, &self.crypto, ready.namespace);
        let group = Group::load(&provider, id)?;
        let luggage: Luggage = decode(&ready.luggage)?;
        let (roles, own) = (group.roles()?, joining.device().unwrap_or(FOUNDER));
        let leaves = group.leaves().into_iter();
        let mut devices: Vec<ApiDevice> = leaves
            .map(|leaf| device_answer(leaf, &roles, own))
            .collect();
        devices.sort_by_key(|device| device.device);
        let by = devices.iter().find(|one| one.device == ready.author);
        Ok(Answer::Preview(Preview {
            team: id,
            name: luggage.team,
            organisation: luggage.organisation,
            by: by.cloned().ok_or(StoreError::Corrupt)?,
            role: role_of(&roles, own),
            devices,
        }))
    }

    pub(crate) fn enter_team(&mut self, id: TeamId) -> Result<Answer, Failure> {
        if let Some(team) = self.memory.teams.get(&id).filter(|team| !team.is_out()) {
            return Ok(Answer::Team(self.team_answer(team)));
        }
        let (joining, ready) = self.admitted(id)?;
        let (mut joining, ready) = (joining.clone(), ready.clone());
        joining.ready = None;
        let provider = Provider::new(&self.store, &self.crypto, ready.namespace);
        let group = Group::load(&provider, id)?;
        self.come_in(joining, group, &ready)?;
        Ok(Answer::Team(self.team_answer(self.team(id)?)))
    }

    fn come_in(
        &mut self,
        mut joining: Joining,
        group: Group,
        ready: &Ready,
    ) -> Result<(), Failure> {
        let (id, namespace) = (joining.team, ready.namespace);
        let luggage: Luggage = decode(&ready.luggage)?;
        let state = State {
            devices: group.leaves().iter().map(|leaf| leaf.device).collect(),
            used: Used::default().with(luggage.members.iter()),
            turn: joining.turn,
            ..State::root(id, &group, namespace, self.now)?
        };
        self.groups.insert(namespace, group);
        joining.in_ms = self.now.millis();
        // First: what waits for the new state must not find the welcome unused.
        self.put_joining(joining.clone())?;
        match self.memory.teams.get(&id).cloned() {
            Some(mut team) if Some(team.device) == joining.device() => {
                team.take_chain(&luggage.chain);
                self.put_team(team)?;
                self.return_to(state)?;
            }
            before => {
                let mut team = self.newcomers_team(&joining, &luggage, &state)?;
                if let Some(before) = before {
                    self.succeed(&before, &mut team)?;
                }
                self.enter(team, state)?;
            }
        }
        for (channel, name) in &luggage.channels {
            self.know_channel(id, *channel, name)?;
        }
        if let Some(certificate) = luggage.certificate {
            let team = self.team(id)?.clone();
            self.take_certificate(&team, certificate)?;
        }
        if let Some(founding) = luggage.direct {
            self.take_founding(founding)?;
        }
        Ok(())
    }

    /// The team as the welcome tells it.
    fn newcomers_team(
        &self,
        joining: &Joining,
        luggage: &Luggage,
        state: &State,
    ) -> Result<Team, Failure> {
        let since = state.epoch;
        let members = luggage.members.iter();
        let member = |(device, publishing)| (device, Member { publishing, since });
        let last = luggage.chain.last();
        let last = last.and_then(|bytes| Chunk::decode(bytes.clone().into()).ok());
        Ok(Team {
            id: joining.team,
            name: luggage.team.clone(),
            organisation: luggage.organisation.clone(),
            origin: joining.invite.origin,
            suite: joining.invite.suite,
            seed: joining.seed.clone(),
            device: joining.device().ok_or(StoreError::Corrupt)?,
            chain: luggage.chain.clone(),
            not_after_ms: last.map_or(0, |chunk| chunk.expiry().millis()),
            tip: state.id,
            joined_epoch: since,
            members: members.map(member).collect(),
            next_blob: 0,
            former: Vec::new(),
            lost: BTreeSet::new(),
            return_key: luggage.return_key.clone(),
            removed: false,
            copied: false,
            ended: BTreeSet::new(),
            linked: BTreeMap::new(),
            joined_ms: self.now.millis(),
            renewed_ms: self.now.millis(),
        })
    }

    pub(crate) fn decline(&mut self, id: TeamId) -> Result<Answer, Failure> {
        match self.memory.joining.get(&id) {
            Some(joining) if joining.in_ms == 0 => {
                self.forget_joining(id)?;
                self.told.teams = true;
                Ok(Answer::Done)
            }
            _ => refuse(
                Code::NotFound,
                "this device has not asked to join such a team, or it is in already",
            ),
        }
    }

    /// Forgets a request, with all its key packages.
    pub(crate) fn forget_joining(&mut self, id: TeamId) -> Result<(), Failure> {
        let Some(joining) = self.memory.joining.remove(&id) else {
            return Ok(());
        };
        let ready = joining.ready.iter().map(|one| one.namespace);
        let offers = joining.offers.iter().map(|one| one.namespace);
        for namespace in offers.chain(ready) {
            self.store.delete_mls(namespace)?;
        }
        if let Some(prefix) = joining.tree_prefix() {
            self.unsubscribe(prefix)?;
        }
        self.unsubscribe(self.welcome_prefix(id))?;
        Ok(self.store.delete(Kind::Joining, &naming::team_bytes(id))?)
    }

    /// Key packages are forgotten when their welcome needs no second one any more.
    pub(crate) fn forget_joinings(&mut self) -> Result<(), Failure> {
        let limit = self.now.millis().saturating_sub(KEY_KEPT_MS);
        let all = self.memory.joining.values();
        let done: Vec<TeamId> = all
            .filter(|one| one.in_ms > 0 && one.in_ms < limit)
            .map(|one| one.team)
            .collect();
        done.into_iter().try_for_each(|id| self.forget_joining(id))
    }

    fn welcome_prefix(&self, team: TeamId) -> Prefix {
        let fingerprint = self.memory.signer.public_key().fingerprint();
        let fields = Fields::Welcome {
            fingerprint: fingerprint.tagged(0),
            fragment: 0,
        };
        let bits = 128 - 4 - Fingerprint::TAG_BITS;
        Prefix::of(Name::new(naming::place(team), fields), bits)
    }
}

fn parse(text: &str) -> Result<Invite, Failure> {
    match Invite::from_text(text) {
        Some(invite) => Ok(invite),
        None => refuse(
            Code::Configuration,
            "this is not an invite; copy the whole text that begins with treeline-invite-, or all its words",
        ),
    }
}

/// Whether the chain leads from the invite's origin to this device's names.
fn grants_hold(chain: &[Vec<u8>], joining: &Joining, own: PublicKey) -> bool {
    let chunks: Option<Vec<Chunk>> = chain
        .iter()
        .map(|bytes| Chunk::decode(bytes.clone().into()).ok())
        .collect();
    let Some((root, rest)) = chunks.as_deref().and_then(<[Chunk]>::split_first) else {
        return false;
    };
    let origin = PublicKey(joining.invite.origin);
    let mut parent = Grant::from_origin(root, &origin).ok();
    let mut before = root;
    for chunk in rest {
        parent = parent
            .filter(|_| chunk.grant() == GrantId::of(before))
            .and_then(|parent| Grant::from_issuer(chunk, &parent).ok());
        before = chunk;
    }
    let first = Name::new(
        naming::place(joining.team),
        Fields::Message {
            channel: 1,
            device: joining.device().unwrap_or(FOUNDER),
            number: 0,
        },
    );
    parent.is_some_and(|grant| grant.subject == own && grant.permits(Verbs::PUBLISH, first))
}
