//! Coming into a group: key packages, and looking into and using a welcome.

use super::*;

/// A key package that verifies.
pub struct Candidate {
    pub(super) package: KeyPackage,
    /// Whose it is.
    pub leaf: Leaf,
}

/// Makes a key package and stores its private half in the provider's namespace, which is to hold
/// nothing else. One that is not the last resort is deleted there as soon as a welcome is looked into.
///
/// # Errors
/// [`GroupError`].
pub fn key_package(
    provider: &Provider<'_>,
    suite: Suite,
    signer: &LeafSigner,
    (credential, last_resort): (&Credential, bool),
) -> Result<Vec<u8>, GroupError> {
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(Lifetime::new(LIFETIME_SECONDS))
        .leaf_node_capabilities(capabilities(suite));
    if last_resort {
        builder = builder.mark_as_last_resort();
    }
    let bundle = builder
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
    /// The key package's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        // What was read can be written.
        self.package.tls_serialize_detached().unwrap_or_default()
    }

    /// Whether it may be used more than once.
    pub fn is_last_resort(&self) -> bool {
        self.package.last_resort()
    }

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
        let key = node.signature_key().as_slice();
        let leaf = read_leaf(team, node.credential(), key).ok_or(invalid)?;
        Ok(Self { package, leaf })
    }
}

/// Looks into a welcome, in a copy of a key package's namespace: the bundle that its author put beside the MLS state. It is not verified
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
    let node = staged.welcome_sender().map_err(|_| invalid())?;
    let key = node.signature_key().as_slice();
    let author = read_leaf(team, node.credential(), key).ok_or_else(invalid)?;
    let mls = staged.into_group(provider).map_err(|_| invalid())?;
    Ok((Group { mls, team }, author, bundle))
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

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .max_past_epochs(0)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(ratchet())
        .build()
}
