//! The MLS group of a team at one state: only this room calls openmls.
//!
//! It holds no policy about who may do what (`commit`), no names of chunks (`naming`) and no
//! rows (`store`). Each value here is one state in one storage namespace; a commit makes a child in
//! another namespace and leaves the parent as it was. Sources: RFC 9420; docs/architecture.md,
//! "State, commits".

mod entrance;

use endpoint_secure_api::{Suite, TeamId};
use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::naming::{self, Credential};
use crate::roles::Roles;
use crate::store::mls::Namespace;
use crate::store::{Store, StoreError};

/// Messages of one device that may arrive in another order than they were written.
const OUT_OF_ORDER: u32 = 1024;
/// How far a device's feed may have moved on between two messages that arrive.
const FORWARD: u32 = 1 << 20;
/// How long a key package and the leaf made of it are good, in seconds: 84 days.
const LIFETIME_SECONDS: u64 = 84 * 24 * 60 * 60;
/// The extension of a group info that carries what a newcomer needs beside the MLS state.
const BUNDLE_EXTENSION: u16 = 0xF54C;
/// The group context extension for roles, which leaves announce so that a group may have it.
const ROLES_EXTENSION: u16 = 0xF54D;

pub use crate::branch::StateId;
pub use entrance::{Candidate, join, key_package, look_into};

/// Why an MLS operation failed. No text of openmls is carried: it may hold names.
#[derive(Debug, Error)]
pub enum GroupError {
    /// The store failed: the event has to be rolled back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes are not what they should be, or do not verify.
    #[error("{0} does not verify")]
    Invalid(&'static str),
    /// openmls refused an operation of our own.
    #[error("the group could not {0}")]
    Refused(&'static str),
}

/// What every operation needs: the store, the namespace, and the cryptography.
pub struct Provider<'a> {
    crypto: &'a RustCrypto,
    namespace: Namespace<'a>,
}

impl<'a> Provider<'a> {
    /// Looks at one namespace of the store.
    pub fn new(store: &'a Store, crypto: &'a Crypto, namespace: i64) -> Self {
        Self {
            crypto: &crypto.0,
            namespace: Namespace::new(store, namespace),
        }
    }
}

impl<'a> OpenMlsProvider for Provider<'a> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Namespace<'a>;

    fn storage(&self) -> &Namespace<'a> {
        &self.namespace
    }

    fn crypto(&self) -> &RustCrypto {
        self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.crypto
    }
}

/// The cryptographic primitives, one per process.
#[derive(Default)]
pub struct Crypto(RustCrypto);

/// The key that signs inside MLS, one per team. `Debug` is openmls', which hides it.
pub struct LeafSigner(SignatureKeyPair);

impl LeafSigner {
    /// The key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let public = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key();
        Self(SignatureKeyPair::from_raw(
            SignatureScheme::ED25519,
            seed.to_vec(),
            public.to_bytes().to_vec(),
        ))
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public());
        key
    }

    fn with(&self, credential: &Credential) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(credential.encode()).into(),
            signature_key: self.0.public().into(),
        }
    }
}

/// A leaf: who it is, and which number its device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// What it says about itself, its binding checked.
    pub credential: Credential,
    /// The number of its device in the team.
    pub device: u32,
}

/// One state of a team's group, loaded.
pub struct Group {
    mls: MlsGroup,
    team: TeamId,
}

/// A message as it came out of the group.
pub struct Opened {
    /// Who signed it inside MLS.
    pub leaf: Leaf,
    /// The plaintext.
    pub plain: Zeroizing<Vec<u8>>,
}

/// What a commit of ours is to do.
#[derive(Default)]
pub struct Change {
    /// Devices to add.
    pub add: Vec<Candidate>,
    /// Devices to remove.
    pub remove: Vec<u32>,
    /// New roles.
    pub roles: Option<Roles>,
}

/// What a commit of ours made.
pub struct Made {
    /// The group after the commit, in the child's namespace.
    pub group: Group,
    /// The commit, an MLS public message.
    pub commit: Vec<u8>,
    /// The welcome, without the tree, if somebody was added.
    pub welcome: Option<Vec<u8>>,
    /// The tree that belongs to the welcome.
    pub tree: Vec<u8>,
}

/// What a commit of somebody else does.
pub struct Committed {
    /// The group after it, in the child's namespace; none if this device is no longer in it.
    pub group: Option<Group>,
    /// Who committed.
    pub author: Leaf,
    /// Devices that it adds.
    pub added: Vec<Leaf>,
    /// Their key packages.
    pub packages: Vec<Vec<u8>>,
    /// Devices that it removes.
    pub removed: Vec<u32>,
    /// The roles after it.
    pub roles: Roles,
    /// What its author wrote beside it.
    pub notes: Vec<u8>,
}

/// Reads what stands in the clear on a private message: its epoch and its AAD.
pub fn peek(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    match protocol_message(bytes)? {
        ProtocolMessage::PrivateMessage(message) => {
            Some((message.epoch().as_u64(), message.aad().to_vec()))
        }
        ProtocolMessage::PublicMessage(_) => None,
    }
}

impl Group {
    /// Founds a group of one.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn found(
        provider: &Provider<'_>,
        team: TeamId,
        suite: Suite,
        signer: &LeafSigner,
        credential: &Credential,
    ) -> Result<Self, GroupError> {
        let config = MlsGroupCreateConfig::builder()
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .ciphersuite(ciphersuite(suite))
            .capabilities(capabilities(suite))
            .max_past_epochs(0)
            .use_ratchet_tree_extension(false)
            .sender_ratchet_configuration(ratchet())
            .lifetime(Lifetime::new(LIFETIME_SECONDS))
            .with_group_context_extensions(context_of(&Roles::founded())?)
            .build();
        let mls = MlsGroup::new_with_group_id(
            provider,
            &signer.0,
            &config,
            GroupId::from_slice(&naming::team_bytes(team)),
            signer.with(credential),
        )
        .map_err(|_| GroupError::Refused("be founded"))?;
        Ok(Self { mls, team })
    }

    /// Loads a state from its namespace.
    ///
    /// # Errors
    /// [`GroupError::Store`] with [`StoreError::Corrupt`] if there is none.
    pub fn load(provider: &Provider<'_>, team: TeamId) -> Result<Self, GroupError> {
        let id = GroupId::from_slice(&naming::team_bytes(team));
        let mls = MlsGroup::load(provider.storage(), &id)?.ok_or(StoreError::Corrupt)?;
        Ok(Self { mls, team })
    }

    /// Names this state.
    pub fn state_id(&self) -> StateId {
        let context = self.mls.public_group().group_context();
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"treeline state")
            .chain_update(context.group_id().as_slice())
            .chain_update(context.confirmed_transcript_hash())
            .finalize()
            .into();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        id
    }

    /// Equal for all who are in the same state with the same secrets.
    pub fn auth_tag(&self) -> [u8; 8] {
        let hash: [u8; 32] = Sha256::digest(self.mls.epoch_authenticator().as_slice()).into();
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash[..8]);
        tag
    }

    /// The same for people, 30 digits: who is in another state, or has other secrets, sees another.
    pub fn code(&self) -> String {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"treeline team code 1")
            .chain_update(self.mls.epoch_authenticator().as_slice())
            .finalize()
            .into();
        let fives = hash.chunks_exact(5).take(6).map(|part| {
            let number = part
                .iter()
                .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
            format!("{:05}", number % 100_000)
        });
        fives.collect::<Vec<_>>().join(" ")
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.mls.epoch().as_u64()
    }

    /// All leaves whose credential holds; others can neither write nor be shown.
    pub fn leaves(&self) -> Vec<Leaf> {
        self.mls
            .members()
            .filter_map(|member| read_leaf(self.team, &member.credential, &member.signature_key))
            .collect()
    }

    /// A secret that all who are in this state can derive.
    ///
    /// # Errors
    /// [`GroupError::Refused`].
    pub fn export(&self, crypto: &Crypto, label: &str) -> Result<Zeroizing<[u8; 32]>, GroupError> {
        let secret = self
            .mls
            .export_secret(&crypto.0, label, &self.state_id(), 32)
            .map(Zeroizing::new)
            .map_err(|_| GroupError::Refused("export a secret"))?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&secret);
        Ok(key)
    }

    /// Encrypts and signs a message.
    ///
    /// # Errors
    /// [`GroupError::Refused`].
    pub fn encrypt(
        &mut self,
        provider: &Provider<'_>,
        signer: &LeafSigner,
        aad: Vec<u8>,
        plain: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        self.mls.set_aad(aad);
        self.mls
            .create_message(provider, &signer.0, plain)
            .ok()
            .and_then(|message| message.to_bytes().ok())
            .ok_or(GroupError::Refused("encrypt a message"))
    }

    /// Decrypts a message of another device and verifies its signature.
    ///
    /// # Errors
    /// [`GroupError::Invalid`], also for one that was decrypted before.
    pub fn decrypt(&mut self, provider: &Provider<'_>, bytes: &[u8]) -> Result<Opened, GroupError> {
        let invalid = GroupError::Invalid("the message");
        let Some(message) = protocol_message(bytes) else {
            return Err(invalid);
        };
        let Ok(processed) = self.mls.process_message(provider, message) else {
            return Err(invalid);
        };
        let leaf = self.sender(processed.sender());
        match (leaf, processed.into_content()) {
            (Some(leaf), ProcessedMessageContent::ApplicationMessage(message)) => Ok(Opened {
                leaf,
                plain: Zeroizing::new(message.into_bytes()),
            }),
            _ => Err(invalid),
        }
    }

    /// The roles in this state.
    ///
    /// # Errors
    /// [`GroupError::Invalid`] if the group has none.
    pub fn roles(&self) -> Result<Roles, GroupError> {
        read_roles(self.mls.public_group().group_context().extensions())
            .ok_or(GroupError::Invalid("the roles of the group"))
    }

    /// Commits a change, or without one a new leaf of this device. The group must be loaded from
    /// the child's namespace, a copy of the parent's. `notes` travel signed beside the commit, `bundle` inside
    /// the welcome.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn commit(
        mut self,
        provider: &Provider<'_>,
        signer: &LeafSigner,
        change: Change,
        (notes, bundle): (&[u8], Option<Vec<u8>>),
    ) -> Result<Made, GroupError> {
        let refused = || GroupError::Refused("make the commit");
        let gone = self.indices(&change.remove)?;
        self.mls.set_aad([&self.state_id()[..], notes].concat());
        let mut builder = self
            .mls
            .commit_builder()
            .force_self_update(change.add.is_empty() && change.roles.is_none())
            .propose_removals(gone)
            .propose_adds(change.add.into_iter().map(|one| one.package));
        if let Some(roles) = &change.roles {
            let context = context_of(roles)?;
            builder = builder
                .propose_group_context_extensions(context)
                .map_err(|_| refused())?;
        }
        let mut builder = builder
            .load_psks(provider.storage())
            .map_err(|_| refused())?
            .use_ratchet_tree_extension(false);
        if let Some(bytes) = bundle {
            let extension = Extension::Unknown(BUNDLE_EXTENSION, UnknownExtension(bytes));
            builder = builder
                .create_group_info_with_extensions([extension])
                .map_err(|_| refused())?;
        }
        let messages = builder
            .build(provider.rand(), provider.crypto(), &signer.0, |_| true)
            .map_err(|_| refused())?
            .stage_commit(provider)
            .map_err(|_| refused())?;
        self.mls
            .merge_pending_commit(provider)
            .map_err(|_| refused())?;
        let (commit, welcome, _) = messages.into_messages();
        let tree = self.mls.export_ratchet_tree();
        Ok(Made {
            commit: commit.to_bytes().map_err(|_| refused())?,
            welcome: welcome.and_then(|welcome| welcome.to_bytes().ok()),
            tree: tree.tls_serialize_detached().map_err(|_| refused())?,
            group: self,
        })
    }

    fn indices(&self, devices: &[u32]) -> Result<Vec<LeafNodeIndex>, GroupError> {
        let find = |device: &u32| {
            let mut members = self.mls.members();
            let found = members.find(|one| self.number_of(one) == Some(*device));
            found.map(|one| one.index)
        };
        let all: Option<Vec<_>> = devices.iter().map(find).collect();
        all.ok_or(GroupError::Refused("find a device to remove"))
    }

    fn number_of(&self, member: &openmls::prelude::Member) -> Option<u32> {
        let leaf = read_leaf(self.team, &member.credential, &member.signature_key);
        leaf.map(|leaf| leaf.device)
    }

    /// Applies a commit of another device. The group must be loaded from the child's namespace, a
    /// copy of the parent's, which the caller deletes again when it refuses the commit.
    ///
    /// # Errors
    /// [`GroupError::Invalid`].
    pub fn apply(
        mut self,
        provider: &Provider<'_>,
        commit: &[u8],
    ) -> Result<Committed, GroupError> {
        let invalid = || GroupError::Invalid("the commit");
        let parent = self.state_id();
        let message = protocol_message(commit).ok_or_else(invalid)?;
        let processed = self
            .mls
            .process_message(provider, message)
            .map_err(|_| invalid())?;
        let Sender::Member(index) = *processed.sender() else {
            return Err(invalid());
        };
        let author = self.leaf_at(index).ok_or_else(invalid)?;
        let aad = processed.aad().to_vec();
        let Some((told, notes)) = aad.split_first_chunk::<8>() else {
            return Err(invalid());
        };
        if *told != parent {
            return Err(invalid());
        }
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(invalid());
        };
        let (added, removed) = self.changes(index, &staged).ok_or_else(invalid)?;
        let packages: Option<Vec<_>> = staged
            .add_proposals()
            .map(|add| {
                add.add_proposal()
                    .key_package()
                    .tls_serialize_detached()
                    .ok()
            })
            .collect();
        let context = staged.group_context();
        let roles = read_roles(context.extensions()).ok_or_else(invalid)?;
        if context.extensions() != &context_of(&roles)? {
            return Err(invalid());
        }
        let group = if staged.self_removed() {
            None
        } else {
            self.mls
                .merge_staged_commit(provider, *staged)
                .map_err(|_| invalid())?;
            Some(self)
        };
        Ok(Committed {
            group,
            author,
            added,
            packages: packages.ok_or_else(invalid)?,
            removed,
            roles,
            notes: notes.to_vec(),
        })
    }

    /// Who comes and who goes, if the commit does nothing but what teams do.
    fn changes(
        &self,
        author: LeafNodeIndex,
        staged: &StagedCommit,
    ) -> Option<(Vec<Leaf>, Vec<u32>)> {
        let mut added = Vec::new();
        for add in staged.add_proposals() {
            let node = add.add_proposal().key_package().leaf_node();
            let key = node.signature_key().as_slice();
            added.push(read_leaf(self.team, node.credential(), key)?);
        }
        let mut removed = Vec::new();
        for remove in staged.remove_proposals() {
            let index = remove.remove_proposal().removed();
            removed.push(self.leaf_at(index)?.device);
        }
        let contexts = staged
            .queued_proposals()
            .filter(|one| matches!(one.proposal(), Proposal::GroupContextExtensions(_)))
            .count();
        let known = added.len() + removed.len() + contexts;
        let own = self.mls.member_at(author)?;
        let same_leaf = staged.update_path_leaf_node().is_none_or(|node| {
            node.credential() == &own.credential
                && node.signature_key().as_slice() == own.signature_key
        });
        let plain = staged.queued_proposals().count() == known && contexts <= 1 && same_leaf;
        plain.then_some((added, removed))
    }

    /// Deletes the private half of the key package that this device has joined with.
    ///
    /// # Errors
    /// [`GroupError::Store`].
    pub fn forget_key_package(&self, provider: &Provider<'_>) -> Result<(), GroupError> {
        provider.storage().delete_key_packages()?;
        Ok(())
    }

    fn sender(&self, sender: &Sender) -> Option<Leaf> {
        match sender {
            Sender::Member(index) => self.leaf_at(*index),
            _ => None,
        }
    }

    fn leaf_at(&self, index: LeafNodeIndex) -> Option<Leaf> {
        let member = self.mls.member_at(index)?;
        read_leaf(self.team, &member.credential, &member.signature_key)
    }
}

fn read_leaf(
    team: TeamId,
    credential: &openmls::prelude::Credential,
    signing: &[u8],
) -> Option<Leaf> {
    let credential = Credential::decode(credential.serialized_content())?;
    if !credential.is_bound(team, signing) {
        return None;
    }
    let device = naming::device_number(team, signing, &credential.salt)?;
    Some(Leaf { credential, device })
}

fn read_roles<T>(extensions: &Extensions<T>) -> Option<Roles> {
    Roles::decode(&extensions.unknown(ROLES_EXTENSION)?.0)
}

/// The extensions of a group's context: exactly these, so that a commit changes nothing but roles.
fn context_of(roles: &Roles) -> Result<Extensions<GroupContext>, GroupError> {
    let kinds = [ExtensionType::Unknown(ROLES_EXTENSION)];
    let required = RequiredCapabilitiesExtension::new(&kinds, &[], &[CredentialType::Basic]);
    let roles = UnknownExtension(roles.encode());
    Extensions::from_vec(vec![
        Extension::RequiredCapabilities(required),
        Extension::Unknown(ROLES_EXTENSION, roles),
    ])
    .map_err(|_| GroupError::Refused("write the roles"))
}

fn protocol_message(bytes: &[u8]) -> Option<ProtocolMessage> {
    MlsMessageIn::tls_deserialize_exact(bytes)
        .ok()?
        .try_into_protocol_message()
        .ok()
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD)
}

fn ciphersuite(suite: Suite) -> Ciphersuite {
    match suite {
        Suite::PostQuantum => Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519,
        Suite::Classic => Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
    }
}

fn capabilities(suite: Suite) -> Capabilities {
    Capabilities::new(
        None,
        Some(&[ciphersuite(suite)]),
        Some(&[
            ExtensionType::LastResort,
            ExtensionType::Unknown(ROLES_EXTENSION),
        ]),
        None,
        Some(&[CredentialType::Basic]),
    )
}
