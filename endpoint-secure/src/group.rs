//! The MLS group of a team at one state: the only file that calls openmls.
//!
//! It holds no policy about who may do what (`commit`), no names of chunks (`naming`) and no
//! rows (`store`). Each value here is one state in one storage namespace; a commit makes a child in
//! another namespace and leaves the parent as it was. Sources: RFC 9420; docs/architecture.md,
//! "State, commits".

use endpoint_secure_api::{Suite, TeamId};
use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::naming::{self, Credential};
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

/// Names one state of one team's group.
pub type StateId = [u8; 8];

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

/// What adding a device made.
pub struct Added {
    /// The group after the commit, in the child's namespace.
    pub group: Group,
    /// The commit, an MLS public message.
    pub commit: Vec<u8>,
    /// The welcome, without the tree.
    pub welcome: Vec<u8>,
    /// The tree that belongs to the welcome.
    pub tree: Vec<u8>,
}

/// What a commit of somebody else does.
pub struct Committed {
    /// The group after it, in the child's namespace.
    pub group: Group,
    /// Who committed.
    pub author: Leaf,
    /// Devices that it adds.
    pub added: Vec<Leaf>,
    /// Whether it does anything besides adding devices.
    pub does_more: bool,
}

/// A key package that verifies.
pub struct Candidate {
    package: KeyPackage,
    /// Whose it is.
    pub leaf: Leaf,
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

/// Makes a key package and stores its private half in the provider's namespace.
///
/// # Errors
/// [`GroupError`].
pub fn key_package(
    provider: &Provider<'_>,
    suite: Suite,
    signer: &LeafSigner,
    credential: &Credential,
) -> Result<Vec<u8>, GroupError> {
    let bundle = KeyPackage::builder()
        .key_package_lifetime(Lifetime::new(LIFETIME_SECONDS))
        .leaf_node_capabilities(capabilities(suite))
        // It stays until its namespace is deleted: the welcome is looked into before it is used.
        .mark_as_last_resort()
        .build(
            ciphersuite(suite),
            provider,
            &signer.0,
            signer.with(credential),
        )
        .map_err(|_| GroupError::Refused("make a key package"))?;
    bundle
        .key_package()
        .tls_serialize_detached()
        .map_err(|_| GroupError::Refused("write a key package"))
}

impl Candidate {
    /// Reads and verifies a key package for a team.
    ///
    /// # Errors
    /// [`GroupError::Invalid`].
    pub fn read(
        crypto: &Crypto,
        team: TeamId,
        suite: Suite,
        bytes: &[u8],
    ) -> Result<Self, GroupError> {
        let invalid = GroupError::Invalid("the key package");
        let package = KeyPackageIn::tls_deserialize_exact(bytes)
            .ok()
            .and_then(|package| package.validate(&crypto.0, ProtocolVersion::Mls10).ok());
        let Some(package) = package else {
            return Err(invalid);
        };
        // openmls does not enforce lifetimes, and one expired leaf can brick joining.
        let lifetime = package.life_time();
        if package.ciphersuite() != ciphersuite(suite)
            || !lifetime.has_acceptable_range()
            || lifetime.validate().is_err()
        {
            return Err(invalid);
        }
        let node = package.leaf_node();
        let leaf = read_leaf(
            team,
            node.credential(),
            node.signature_key().as_slice(),
            false,
        )
        .ok_or(invalid)?;
        Ok(Self { package, leaf })
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

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.mls.epoch().as_u64()
    }

    /// The cipher suite.
    pub fn suite(&self) -> Suite {
        match self.mls.ciphersuite() {
            Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 => Suite::Classic,
            _ => Suite::PostQuantum,
        }
    }

    /// All leaves whose credential holds; others can neither write nor be shown.
    pub fn leaves(&self) -> Vec<Leaf> {
        self.mls
            .members()
            .filter_map(|member| {
                let first = member.index.u32() == 0;
                read_leaf(self.team, &member.credential, &member.signature_key, first)
            })
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

    /// Adds a device. The group must be loaded from the child's namespace, a copy of the parent's.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn add(
        mut self,
        provider: &Provider<'_>,
        signer: &LeafSigner,
        candidate: Candidate,
        bundle: Vec<u8>,
    ) -> Result<Added, GroupError> {
        let refused = || GroupError::Refused("add the device");
        let parent = self.state_id();
        self.mls.set_aad(parent.to_vec());
        let bundle = Extension::Unknown(BUNDLE_EXTENSION, UnknownExtension(bundle));
        let messages = self
            .mls
            .commit_builder()
            .propose_adds([candidate.package])
            .load_psks(provider.storage())
            .map_err(|_| refused())?
            .use_ratchet_tree_extension(false)
            .create_group_info_with_extensions([bundle])
            .map_err(|_| refused())?
            .build(provider.rand(), provider.crypto(), &signer.0, |_| true)
            .map_err(|_| refused())?
            .stage_commit(provider)
            .map_err(|_| refused())?;
        self.mls
            .merge_pending_commit(provider)
            .map_err(|_| refused())?;
        let (commit, welcome, _) = messages.into_messages();
        let tree = self.mls.export_ratchet_tree();
        Ok(Added {
            commit: commit.to_bytes().map_err(|_| refused())?,
            welcome: welcome
                .and_then(|welcome| welcome.to_bytes().ok())
                .ok_or_else(refused)?,
            tree: tree.tls_serialize_detached().map_err(|_| refused())?,
            group: self,
        })
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
        let author = self.sender(processed.sender()).ok_or_else(invalid)?;
        if processed.aad() != parent {
            return Err(invalid());
        }
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(invalid());
        };
        let mut added = Vec::new();
        for add in staged.add_proposals() {
            let node = add.add_proposal().key_package().leaf_node();
            let key = node.signature_key().as_slice();
            added.push(read_leaf(self.team, node.credential(), key, false).ok_or_else(invalid)?);
        }
        let does_more = staged.queued_proposals().count() != added.len()
            || staged.update_path_leaf_node().is_some_and(|node| {
                node.credential().serialized_content() != author.credential.encode()
            });
        self.mls
            .merge_staged_commit(provider, *staged)
            .map_err(|_| invalid())?;
        Ok(Committed {
            group: self,
            author,
            added,
            does_more,
        })
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
        let Sender::Member(index) = sender else {
            return None;
        };
        let member = self.mls.member_at(*index)?;
        let first = index.u32() == 0;
        read_leaf(self.team, &member.credential, &member.signature_key, first)
    }
}

/// Looks into a welcome: the bundle that its author put beside the MLS state. It is not verified
/// before [`join`].
///
/// # Errors
/// [`GroupError::Invalid`] if it is for another key package or cannot be read.
pub fn look_into(provider: &Provider<'_>, welcome: &[u8]) -> Result<Vec<u8>, GroupError> {
    let processed =
        ProcessedWelcome::new_from_welcome(provider, &join_config(), read_welcome(welcome)?)
            .map_err(|_| GroupError::Invalid("the welcome"))?;
    bundle_of(processed.unverified_group_info().extensions())
}

/// Joins a group. Gives the group, the leaf of the welcome's author, and the verified bundle.
///
/// # Errors
/// [`GroupError::Invalid`].
pub fn join(
    provider: &Provider<'_>,
    team: TeamId,
    welcome: &[u8],
    tree: &[u8],
) -> Result<(Group, Leaf, Vec<u8>), GroupError> {
    let invalid = || GroupError::Invalid("the welcome");
    let tree = RatchetTreeIn::tls_deserialize_exact(tree).map_err(|_| invalid())?;
    let builder =
        StagedWelcome::build_from_welcome(provider, &join_config(), read_welcome(welcome)?)
            .map_err(|_| invalid())?
            .with_ratchet_tree(tree)
            .skip_lifetime_validation();
    let info = builder.processed_welcome().unverified_group_info();
    let bundle = bundle_of(info.extensions())?;
    // Building verifies the group info, and with it the bundle, against its author's leaf.
    let staged = builder.build().map_err(|_| invalid())?;
    if staged.group_context().group_id().as_slice() != naming::team_bytes(team) {
        return Err(invalid());
    }
    let index = staged.welcome_sender_index();
    let node = staged.welcome_sender().map_err(|_| invalid())?;
    let key = node.signature_key().as_slice();
    let author = read_leaf(team, node.credential(), key, index.u32() == 0).ok_or_else(invalid)?;
    let mls = staged.into_group(provider).map_err(|_| invalid())?;
    Ok((Group { mls, team }, author, bundle))
}

/// Deletes what joining has left in a namespace, apart from the key package.
///
/// # Errors
/// [`GroupError::Store`].
pub fn drop_group(provider: &Provider<'_>, team: TeamId) -> Result<(), GroupError> {
    let id = GroupId::from_slice(&naming::team_bytes(team));
    if let Some(mut group) = MlsGroup::load(provider.storage(), &id)? {
        group.delete(provider.storage())?;
    }
    Ok(())
}

fn read_leaf(
    team: TeamId,
    credential: &openmls::prelude::Credential,
    signing: &[u8],
    first: bool,
) -> Option<Leaf> {
    let credential = Credential::decode(credential.serialized_content())?;
    if !credential.is_bound(team, signing) {
        return None;
    }
    // The founder's leaf is the first and is never given to anybody else.
    let device = if first {
        naming::FOUNDER
    } else {
        naming::device_number(team, signing, &credential.salt)?
    };
    Some(Leaf { credential, device })
}

fn bundle_of<T>(extensions: &Extensions<T>) -> Result<Vec<u8>, GroupError> {
    extensions
        .unknown(BUNDLE_EXTENSION)
        .map(|extension| extension.0.clone())
        .ok_or(GroupError::Invalid("the welcome"))
}

fn read_welcome(bytes: &[u8]) -> Result<Welcome, GroupError> {
    let message = MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract);
    match message {
        Ok(MlsMessageBodyIn::Welcome(welcome)) => Ok(welcome),
        _ => Err(GroupError::Invalid("the welcome")),
    }
}

fn protocol_message(bytes: &[u8]) -> Option<ProtocolMessage> {
    MlsMessageIn::tls_deserialize_exact(bytes)
        .ok()?
        .try_into_protocol_message()
        .ok()
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .max_past_epochs(0)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(ratchet())
        .build()
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
