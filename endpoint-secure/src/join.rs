//! Coming into a team: invites, key packages, and the welcome.
//!
//! The invite names the admin by a full fingerprint, and the welcome is taken from nobody else. The
//! other direction, the admin's check of this device's fingerprint, is in `commit`. Source:
//! docs/architecture.md, "Devices, joining".

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use endpoint_secure_api::{
    Answer, Code, Invite as ApiInvite, JoinStage, Suite, Team as ApiTeam, TeamId,
};
use proto::limits::{DAY_MS, KEY_PACKAGE_LIFE_MS, SMALL_FRAGMENTS};
use proto::{
    Chunk, Fields, Fingerprint, Grant, GrantId, Name, Prefix, PublicKey, Verbs, split_with_key,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::commit::{Bundle, TREE_RUN, WELCOME_BITS, open_tree, seal_package};
use crate::device::session::{Failure, Session, refuse};
use crate::group::{self, Group, GroupError, Leaf, LeafSigner, Provider};
use crate::naming::{self, Credential, FOUNDER};
use crate::pending::Taken;
use crate::states::{State, Used};
use crate::store::outbox::NO_MESSAGE;
use crate::store::{Kind, StoreError, decode};
use crate::team::{Member, Seed, Team};

const INVITE_HEAD: &str = "treeline-invite-";
const INVITE_VERSION: u8 = 1;
/// The longest invite text, in bytes.
const INVITE_BYTES: usize = 8 * 1024;
/// How long a key package stands at relays, in milliseconds: below their limit, for clocks differ.
const PACKAGE_LIFE_MS: u64 = KEY_PACKAGE_LIFE_MS - DAY_MS;
/// How long a key package is kept after it has led into a team, in milliseconds: as long as the branch
/// of its welcome may lose.
const KEY_KEPT_MS: u64 = 7 * DAY_MS;

/// What an invite says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The origin's public key.
    pub origin: [u8; 32],
    /// The organisation's number.
    pub org: u32,
    /// The team's number.
    pub team: u32,
    /// The team's cipher suite.
    pub suite: Suite,
    /// The whole fingerprint of the admin's device.
    pub admin: [u8; 32],
    /// Seals the key package.
    pub key: Seed,
    /// The organisation's name.
    pub organisation: String,
    /// The team's name.
    pub team_name: String,
    /// Relays to try.
    pub relays: Vec<String>,
}

impl Invite {
    fn id(&self) -> TeamId {
        TeamId {
            origin: PublicKey(self.origin).origin_id().get(),
            org: self.org,
            team: self.team,
        }
    }

    fn to_text(&self) -> String {
        let suite: u16 = match self.suite {
            Suite::PostQuantum => 0x004F,
            Suite::Classic => 0x0001,
        };
        let mut out = vec![INVITE_VERSION];
        out.extend_from_slice(&self.origin);
        out.extend_from_slice(&self.org.to_be_bytes());
        out.extend_from_slice(&self.team.to_be_bytes());
        out.extend_from_slice(&suite.to_be_bytes());
        out.extend_from_slice(&self.admin);
        out.extend_from_slice(&self.key.0);
        let names = [&self.organisation, &self.team_name];
        for text in names.into_iter().chain(&self.relays) {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&checksum(&out));
        format!("{INVITE_HEAD}{}", BASE64URL_NOPAD.encode(&out))
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let body = text.strip_prefix(INVITE_HEAD)?;
        if body.len() > INVITE_BYTES {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
        let (fields, sum) = bytes.split_last_chunk()?;
        if checksum(fields) != *sum {
            return None;
        }
        let (version, rest) = fields.split_first()?;
        let (origin, rest) = rest.split_first_chunk()?;
        let (org, rest) = rest.split_first_chunk()?;
        let (team, rest) = rest.split_first_chunk()?;
        let (suite, rest) = rest.split_first_chunk()?;
        let (admin, rest) = rest.split_first_chunk()?;
        let (key, mut rest) = rest.split_first_chunk()?;
        let mut texts = std::collections::VecDeque::new();
        while let Some((length, tail)) = rest.split_first_chunk() {
            let (text, tail) = tail.split_at_checked(u16::from_be_bytes(*length).into())?;
            texts.push_back(String::from_utf8(text.to_vec()).ok()?);
            rest = tail;
        }
        let this = Self {
            origin: *origin,
            org: u32::from_be_bytes(*org),
            team: u32::from_be_bytes(*team),
            suite: match u16::from_be_bytes(*suite) {
                0x004F => Suite::PostQuantum,
                0x0001 => Suite::Classic,
                _ => return None,
            },
            admin: *admin,
            key: Seed(*key),
            organisation: texts.pop_front()?,
            team_name: texts.pop_front()?,
            relays: texts.into(),
        };
        let fits = *version == INVITE_VERSION
            && this.org <= proto::Place::ORG_MAX
            && this.team <= proto::Place::TEAM_MAX;
        // Exactly one text for an invite: what was cut, or has something behind it, is none.
        (fits && this.to_text() == text).then_some(this)
    }

    fn answer(&self, text: String) -> ApiInvite {
        ApiInvite {
            text,
            team: self.id(),
            organisation: self.organisation.clone(),
            team_name: self.team_name.clone(),
            admin: Fingerprint(self.admin).to_hex(),
            relays: self.relays.clone(),
        }
    }
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
    /// Where the key package's private half lies.
    pub namespace: i64,
    /// When relays drop the key package.
    pub expires_ms: u64,
    /// The welcome, when it has come.
    pub welcome: Vec<u8>,
    /// The blob with its tree: whose, and its first number.
    pub tree: (u32, u32),
    /// The key of that blob.
    pub tree_key: Seed,
    /// Whether that blob is yet to come.
    pub fetching: bool,
    /// Which welcome of that admin's it is; the last one counts.
    pub turn: u32,
    /// When this device came in; 0 before.
    pub in_ms: u64,
}

impl Joining {
    pub(crate) fn answer(&self) -> ApiTeam {
        ApiTeam {
            id: self.team,
            name: String::new(),
            organisation: String::new(),
            epoch: 0,
            devices: 0,
            suite: self.invite.suite,
            admin: false,
            stage: if self.welcome.is_empty() {
                JoinStage::WaitingForAdmin
            } else {
                JoinStage::Fetching
            },
            own_device: self.device().unwrap_or(0),
            removed: false,
            waiting: 0,
            code: String::new(),
        }
    }

    fn device(&self) -> Option<u32> {
        let signing = LeafSigner::from_seed(&self.seed.0).public();
        naming::device_number(self.team, &signing, &self.salt)
    }
}

impl Session {
    pub(crate) fn create_invite(&self, id: TeamId) -> Result<Answer, Failure> {
        let team = self.team(id)?;
        let roles = &self.tip(team)?.roles;
        // An admin's invite leads to that admin, a member's to the owner.
        let owner = roles.admins.first().copied().unwrap_or(FOUNDER);
        let admin = if roles.rank(team.device).is_some() {
            team.device
        } else {
            owner
        };
        let admin = team.members.get(&admin).ok_or(StoreError::Corrupt)?;
        let invite = Invite {
            origin: team.origin,
            org: id.org,
            team: id.team,
            suite: team.suite,
            admin: PublicKey(admin.publishing).fingerprint().0,
            key: team.invite_key.clone(),
            organisation: team.organisation.clone(),
            team_name: team.name.clone(),
            relays: self.memory.network.relays.clone(),
        };
        let text = invite.to_text();
        Ok(Answer::Invite(invite.answer(text)))
    }

    pub(crate) fn read_invite(&self, text: &str) -> Result<Answer, Failure> {
        let invite = parse(text)?;
        Ok(Answer::Invite(invite.answer(text.trim().into())))
    }

    pub(crate) fn join(&mut self, text: &str) -> Result<Answer, Failure> {
        let invite = parse(text)?;
        let id = invite.id();
        if let Some(team) = self.memory.teams.get(&id) {
            return Ok(Answer::Team(self.team_answer(team)));
        }
        if let Some(joining) = self.memory.joining.get(&id) {
            return Ok(Answer::Team(joining.answer()));
        }
        self.configure_with(PublicKey(invite.origin), &invite.relays)?;
        let mut joining = Joining {
            team: id,
            invite,
            seed: Seed::random()?,
            salt: [0; 16],
            namespace: 0,
            expires_ms: 0,
            welcome: Vec::new(),
            tree: (0, 0),
            tree_key: Seed([0; 32]),
            fetching: false,
            turn: 0,
            in_ms: 0,
        };
        while joining.device().is_none() || joining.salt == [0; 16] {
            getrandom::fill(&mut joining.salt).map_err(|_| StoreError::Random)?;
        }
        let answer = joining.answer();
        self.offer(joining)?;
        self.subscribe(self.welcome_prefix(id))?;
        self.told.teams = true;
        Ok(Answer::Team(answer))
    }

    /// Makes and publishes a key package.
    fn offer(&mut self, mut joining: Joining) -> Result<(), Failure> {
        joining.namespace = self.new_namespace()?;
        joining.expires_ms = self.now.millis() + PACKAGE_LIFE_MS;
        let signer = LeafSigner::from_seed(&joining.seed.0);
        let identity = &self.memory.identity;
        let credential = Credential::bind(
            (&identity.user, &identity.device),
            &self.memory.signer,
            joining.salt,
            joining.team,
            &signer.public(),
        );
        let provider = Provider::new(&self.store, &self.crypto, joining.namespace);
        let package = group::key_package(&provider, joining.invite.suite, &signer, &credential)?;
        let package = seal_package(&joining.invite.key, &package)?;
        let key = self.memory.signer.public_key();
        let Ok(parts) = split_with_key(&package, SMALL_FRAGMENTS, &key) else {
            return refuse(Code::Usage, "the key package is too long for its name");
        };
        let first = Name::new(
            naming::place(joining.team),
            Fields::KeyPackage {
                fingerprint: key.fingerprint().name_bits(),
                fragment: 0,
            },
        );
        let expiry = proto::Timestamp::from_millis(joining.expires_ms);
        for (index, part) in parts.iter().enumerate() {
            let chunk = first.offset(index as u32).and_then(|name| {
                Chunk::sign(name, expiry, GrantId::NONE, part, &self.memory.signer).ok()
            });
            let chunk = chunk.ok_or(StoreError::Corrupt)?;
            self.store.forget_posted(chunk.name().to_bytes())?;
            self.store.post(&chunk, (NO_MESSAGE, 0, 0))?;
        }
        self.put_joining(joining)
    }

    fn put_joining(&mut self, joining: Joining) -> Result<(), Failure> {
        let key = naming::team_bytes(joining.team);
        self.store.put(Kind::Joining, &key, &joining)?;
        self.memory.joining.insert(joining.team, joining);
        Ok(())
    }

    pub(crate) fn key_packages_expire_ms(&self) -> Option<u64> {
        let waiting = self.memory.joining.values();
        waiting
            .filter(|joining| joining.welcome.is_empty())
            .map(|joining| joining.expires_ms)
            .min()
    }

    /// Publishes new key packages for those that relays have dropped.
    pub(crate) fn renew_key_packages(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        let expired: Vec<Joining> = self
            .memory
            .joining
            .values()
            .filter(|joining| joining.welcome.is_empty() && joining.expires_ms <= now)
            .cloned()
            .collect();
        for joining in expired {
            self.store.delete_mls(joining.namespace)?;
            self.offer(joining)?;
        }
        Ok(())
    }

    pub(crate) fn take_welcome(&mut self, id: TeamId, object: &[u8]) -> Result<Taken, Failure> {
        let Some(mut joining) = self.memory.joining.get(&id).cloned() else {
            return Ok(Taken::Done);
        };
        let provider = Provider::new(&self.store, &self.crypto, joining.namespace);
        let bundle = match group::look_into(&provider, object) {
            Ok(bundle) => decode::<Bundle>(&bundle),
            Err(GroupError::Store(error)) => return Err(error.into()),
            // For an older key package of ours, or nobody's: not a word to the person.
            Err(_) => return Ok(Taken::Done),
        };
        let Ok(bundle) = bundle else {
            return Ok(Taken::Done);
        };
        if bundle.turn <= joining.turn {
            // Welcomes come in any order, and the last one counts.
            return Ok(Taken::Done);
        }
        if bundle.version != 1 || !bundle.tree.1.is_multiple_of(TREE_RUN) {
            self.notice("a welcome has come that this version cannot read; update the program");
            return Ok(Taken::Done);
        }
        if joining.fetching {
            self.unsubscribe(tree_prefix(&joining))?;
        }
        joining.welcome = object.to_vec();
        joining.fetching = true;
        joining.turn = bundle.turn;
        joining.tree = bundle.tree;
        joining.tree_key = bundle.tree_key;
        self.subscribe(tree_prefix(&joining))?;
        self.put_joining(joining)?;
        self.told.teams = true;
        Ok(Taken::Done)
    }

    pub(crate) fn take_tree(
        &mut self,
        id: TeamId,
        first: Name,
        object: &[u8],
    ) -> Result<Taken, Failure> {
        let Some(joining) = self.memory.joining.get(&id).cloned() else {
            return Ok(Taken::Done);
        };
        let expected = Fields::Blob {
            device: joining.tree.0,
            number: joining.tree.1,
        };
        if first.fields() != expected || !joining.fetching {
            return Ok(Taken::Done);
        }
        let Some(tree) = open_tree(&joining.tree_key.0, object) else {
            return Ok(Taken::Done);
        };
        // In a copy: the key package may be needed for another welcome, if this one's branch loses.
        let namespace = self.new_namespace()?;
        self.store.copy_mls(joining.namespace, namespace)?;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let joined = group::join(&provider, id, &joining.welcome, &tree);
        match joined.and_then(|joined| self.judge(&joining, joined)) {
            Ok((group, bundle)) => self.come_in(joining, (group, namespace), bundle)?,
            Err(GroupError::Store(error)) => return Err(error.into()),
            Err(_) => {
                self.store.delete_mls(namespace)?;
                self.reject(joining)?;
            }
        }
        Ok(Taken::Done)
    }

    /// Takes a welcome from nobody but the admin that the invite names in full.
    fn judge(
        &self,
        joining: &Joining,
        (group, author, bundle): (Group, Leaf, Vec<u8>),
    ) -> Result<(Group, Bundle), GroupError> {
        let admin = author.credential.publishing_key().fingerprint();
        let is_admin = group.roles()?.rank(author.device).is_some();
        // Who is in already is welcomed again by any admin whom it knows.
        let known = self.states(joining.team).any(|state| {
            state.roles.rank(author.device).is_some()
                && state.used.key(author.device) == Some(author.credential.publishing)
        });
        if !is_admin || (admin.0 != joining.invite.admin && !known) {
            return Err(GroupError::Invalid("the welcome's author"));
        }
        let bundle: Bundle = decode(&bundle).map_err(|_| GroupError::Invalid("the welcome"))?;
        let own = self.memory.signer.public_key();
        if !grants_hold(&bundle.chain, joining, own) {
            return Err(GroupError::Invalid("the grant in the welcome"));
        }
        Ok((group, bundle))
    }

    /// A welcome that somebody else than the admin sent: everything but the key package is dropped.
    fn reject(&mut self, mut joining: Joining) -> Result<(), Failure> {
        self.notice("a welcome has come that is not from the admin of the invite; it is ignored");
        self.unsubscribe(tree_prefix(&joining))?;
        joining.welcome.clear();
        joining.fetching = false;
        let entered = self.states(joining.team).map(|state| state.turn);
        joining.turn = entered.max().unwrap_or(0);
        self.put_joining(joining)
    }

    fn come_in(
        &mut self,
        mut joining: Joining,
        (group, namespace): (Group, i64),
        bundle: Bundle,
    ) -> Result<(), Failure> {
        let id = joining.team;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        group.forget_key_package(&provider)?;
        let state = State {
            devices: group.leaves().iter().map(|leaf| leaf.device).collect(),
            used: Used::default().with(bundle.members.iter().copied()),
            turn: joining.turn,
            ..State::root(id, &group, namespace, self.now)?
        };
        self.groups.insert(namespace, group);
        self.unsubscribe(tree_prefix(&joining))?;
        joining.fetching = false;
        joining.in_ms = self.now.millis();
        // First: what waits for the new state must not find the welcome unused.
        self.put_joining(joining.clone())?;
        match self.memory.teams.get(&id).cloned() {
            Some(mut team) => {
                team.take_chain(&bundle.chain);
                self.put_team(team)?;
                self.return_to(state)?;
            }
            None => self.enter(self.newcomers_team(&joining, &bundle, &state)?, state)?,
        }
        for (channel, name) in &bundle.channels {
            self.know_channel(id, *channel, name)?;
        }
        Ok(())
    }

    /// The team as the welcome tells it.
    fn newcomers_team(
        &self,
        joining: &Joining,
        bundle: &Bundle,
        state: &State,
    ) -> Result<Team, Failure> {
        let since = state.epoch;
        let members = bundle.members.iter();
        let member = |(device, publishing): &(u32, [u8; 32])| {
            let publishing = *publishing;
            (*device, Member { publishing, since })
        };
        let last = bundle.chain.last();
        let last = last.and_then(|bytes| Chunk::decode(bytes.clone().into()).ok());
        Ok(Team {
            id: joining.team,
            name: bundle.team.clone(),
            organisation: bundle.organisation.clone(),
            origin: joining.invite.origin,
            suite: joining.invite.suite,
            seed: joining.seed.clone(),
            device: joining.device().ok_or(StoreError::Corrupt)?,
            chain: bundle.chain.clone(),
            not_after_ms: last.map_or(0, |chunk| chunk.expiry().millis()),
            invite_key: bundle.invite_key.clone(),
            tip: state.id,
            joined_epoch: since,
            members: members.map(member).collect(),
            next_blob: 0,
            former: Vec::new(),
            lost: BTreeSet::new(),
            removed: false,
            renewed_ms: self.now.millis(),
        })
    }

    /// Key packages are forgotten when their welcome needs no second one any more.
    pub(crate) fn forget_joinings(&mut self) -> Result<(), Failure> {
        let limit = self.now.millis().saturating_sub(KEY_KEPT_MS);
        let done: Vec<Joining> = self
            .memory
            .joining
            .values()
            .filter(|one| one.in_ms > 0 && one.in_ms < limit)
            .cloned()
            .collect();
        for joining in done {
            self.store.delete_mls(joining.namespace)?;
            self.unsubscribe(self.welcome_prefix(joining.team))?;
            self.store
                .delete(Kind::Joining, &naming::team_bytes(joining.team))?;
            self.memory.joining.remove(&joining.team);
        }
        Ok(())
    }

    fn welcome_prefix(&self, team: TeamId) -> Prefix {
        let fingerprint = self.memory.signer.public_key().fingerprint();
        let fields = Fields::Welcome {
            fingerprint: fingerprint.name_bits(),
            fragment: 0,
        };
        let bits = 128 - 4 - (46 - WELCOME_BITS);
        Prefix::of(Name::new(naming::place(team), fields), bits)
    }
}

fn tree_prefix(joining: &Joining) -> Prefix {
    let fields = Fields::Blob {
        device: joining.tree.0,
        number: joining.tree.1,
    };
    let name = Name::new(naming::place(joining.team), fields);
    Prefix::of(name, 128 - TREE_RUN.trailing_zeros() as u8)
}

/// Finds a text that was cut or mistyped; it proves nothing.
fn checksum(fields: &[u8]) -> [u8; 4] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"treeline invite")
        .chain_update(fields)
        .finalize()
        .into();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn parse(text: &str) -> Result<Invite, Failure> {
    match Invite::from_text(text) {
        Some(invite) => Ok(invite),
        None => refuse(
            Code::Configuration,
            "this is not an invite; copy the whole text that begins with treeline-invite-",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            origin: [1; 32],
            org: 2,
            team: 3,
            suite: Suite::Classic,
            admin: [4; 32],
            key: Seed([5; 32]),
            organisation: "Harbour".into(),
            team_name: "Night shift".into(),
            relays: vec![format!("127.0.0.1:7000#{}", "ab".repeat(32))],
        }
    }

    #[test]
    fn an_invite_comes_back_and_no_other_text_is_one() {
        let text = invite().to_text();
        assert_eq!(Invite::from_text(&format!(" {text}\n")), Some(invite()));
        for end in 0..text.len() {
            assert_eq!(Invite::from_text(&text[..end]), None, "{end}");
        }
        assert_eq!(Invite::from_text(&format!("{text}AA")), None);
        assert_eq!(Invite::from_text("treeline-org-AAAA"), None);
    }
}
