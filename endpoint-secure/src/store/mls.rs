//! openmls' storage on our tables: one namespace per MLS state, values CBOR, then sealed.
//!
//! It understands no value. A namespace is a number of ours, so rolling back, keeping an older
//! state for late messages and trying a commit are all "copy the namespace and work in the copy".

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{Store, StoreError, decode, encode};

const V: u16 = CURRENT_VERSION;

impl Store {
    /// Copies all rows of one namespace into another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn copy_mls(&self, from: i64, to: i64) -> Result<(), StoreError> {
        self.flush_mls()?;
        let mut statement = self
            .db
            .prepare_cached("SELECT row, value FROM mls WHERE namespace = ?1")?;
        let mut rows = statement.query([from])?;
        while let Some(row) = rows.next()? {
            let (key, sealed): ([u8; 16], Vec<u8>) = (row.get(0)?, row.get(1)?);
            let plain = self.seal.open("mls", &place(from, &key), &sealed)?;
            self.fresh.borrow_mut().insert((to, key), Some(plain));
        }
        Ok(())
    }

    /// Deletes a namespace with all its secrets.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn delete_mls(&self, namespace: i64) -> Result<(), StoreError> {
        self.fresh.borrow_mut().retain(|key, _| key.0 != namespace);
        self.write_point()?;
        self.deletes.set(true);
        self.db
            .prepare_cached("DELETE FROM mls WHERE namespace = ?1")?
            .execute([namespace])?;
        Ok(())
    }

    /// All namespaces that hold something, for tests.
    #[cfg(test)]
    pub(crate) fn namespaces(&self) -> std::collections::BTreeSet<i64> {
        let mut statement = self
            .db
            .prepare("SELECT DISTINCT namespace FROM mls")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// The rows of a namespace as they lie on disk, for tests.
    #[cfg(test)]
    pub(crate) fn sealed_rows(&self, namespace: i64) -> Vec<Vec<u8>> {
        let mut statement = self
            .db
            .prepare("SELECT value FROM mls WHERE namespace = ?1")
            .unwrap();
        let rows = statement.query_map([namespace], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Writes the rows of this transaction.
    pub(super) fn flush_mls(&self) -> Result<(), StoreError> {
        for ((namespace, row), value) in self.fresh.borrow_mut().drain() {
            self.write_point()?;
            self.stale.set(true);
            match value {
                Some(plain) => {
                    let sealed = self.seal.seal("mls", &place(namespace, &row), &plain)?;
                    self.db
                        .prepare_cached(
                            "INSERT OR REPLACE INTO mls (namespace, row, value) VALUES (?1, ?2, ?3)",
                        )?
                        .execute(params![namespace, row, sealed])?;
                }
                None => {
                    let deleted = self
                        .db
                        .prepare_cached("DELETE FROM mls WHERE namespace = ?1 AND row = ?2")?
                        .execute(params![namespace, row])?;
                    // One that came within this transaction was never written.
                    self.deletes.set(self.deletes.get() || deleted > 0);
                }
            }
        }
        Ok(())
    }

    fn mls_row(
        &self,
        namespace: i64,
        row: [u8; 16],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if let Some(fresh) = self.fresh.borrow().get(&(namespace, row)) {
            return Ok(fresh.clone());
        }
        let sealed: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT value FROM mls WHERE namespace = ?1 AND row = ?2")?
            .query_row(params![namespace, row], |row| row.get(0))
            .optional()?;
        sealed
            .map(|sealed| self.seal.open("mls", &place(namespace, &row), &sealed))
            .transpose()
    }
}

fn place(namespace: i64, row: &[u8; 16]) -> [u8; 24] {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&namespace.to_be_bytes());
    place[8..].copy_from_slice(row);
    place
}

/// One namespace, in the form that openmls takes.
pub struct Namespace<'a> {
    store: &'a Store,
    number: i64,
}

impl<'a> Namespace<'a> {
    /// Looks at a namespace; it need not exist.
    pub fn new(store: &'a Store, number: i64) -> Self {
        Self { store, number }
    }

    /// Deletes all private halves of key packages.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delete_key_packages(&self) -> Result<(), StoreError> {
        let refs: Vec<Vec<u8>> = self.read(PACKAGE_ROWS, &())?.unwrap_or_default();
        for row in refs {
            let row = row.try_into().map_err(|_| StoreError::Corrupt)?;
            let mut fresh = self.store.fresh.borrow_mut();
            fresh.insert((self.number, row), None);
        }
        self.delete(PACKAGE_ROWS, &())
    }

    fn row<K: Serialize>(&self, label: &str, key: &K) -> Result<[u8; 16], StoreError> {
        let mut full = label.as_bytes().to_vec();
        full.push(0);
        full.extend_from_slice(&encode(key)?);
        Ok(self.store.seal.hide("mls", &full))
    }

    fn write<K: Serialize, T: Serialize>(
        &self,
        label: &str,
        key: &K,
        value: &T,
    ) -> Result<(), StoreError> {
        let row = self.row(label, key)?;
        let plain = encode(value)?;
        let mut fresh = self.store.fresh.borrow_mut();
        fresh.insert((self.number, row), Some(plain));
        Ok(())
    }

    fn read<K: Serialize, T: DeserializeOwned>(
        &self,
        label: &str,
        key: &K,
    ) -> Result<Option<T>, StoreError> {
        let row = self.row(label, key)?;
        match self.store.mls_row(self.number, row)? {
            Some(plain) => Ok(Some(decode(&plain)?)),
            None => Ok(None),
        }
    }

    fn delete<K: Serialize>(&self, label: &str, key: &K) -> Result<(), StoreError> {
        let row = self.row(label, key)?;
        let mut fresh = self.store.fresh.borrow_mut();
        fresh.insert((self.number, row), None);
        Ok(())
    }

    fn list<K: Serialize, T: DeserializeOwned>(
        &self,
        label: &str,
        key: &K,
    ) -> Result<Vec<T>, StoreError> {
        let items: Vec<Vec<u8>> = self.read(label, key)?.unwrap_or_default();
        items.iter().map(|item| decode(item)).collect()
    }

    fn append<K: Serialize, T: Serialize>(
        &self,
        label: &str,
        key: &K,
        item: &T,
    ) -> Result<(), StoreError> {
        let mut items: Vec<Vec<u8>> = self.read(label, key)?.unwrap_or_default();
        items.push(encode(item)?.to_vec());
        self.write(label, key, &items)
    }

    fn remove<K: Serialize, T: Serialize>(
        &self,
        label: &str,
        key: &K,
        item: &T,
    ) -> Result<(), StoreError> {
        let mut items: Vec<Vec<u8>> = self.read(label, key)?.unwrap_or_default();
        let gone = encode(item)?;
        items.retain(|kept| *kept != *gone);
        self.write(label, key, &items)
    }
}

const PACKAGE: &str = "key package";
/// The rows of key packages in the namespace, so that all can be deleted.
const PACKAGE_ROWS: &str = "key package rows";
const PROPOSAL: &str = "proposal";
const PROPOSAL_REFS: &str = "proposal refs";
const OWN_LEAVES: &str = "own leaf nodes";
const EPOCH_KEYS: &str = "epoch key pairs";

/// Methods that write, read or delete one value under one key.
macro_rules! values {
    ($($label:literal $key:ident $value:ident: $write:ident $read:ident $delete:ident;)*) => {$(
        fn $write<$key: traits::$key<V>, $value: traits::$value<V>>(
            &self,
            key: &$key,
            value: &$value,
        ) -> Result<(), StoreError> {
            self.write($label, key, value)
        }

        fn $read<$key: traits::$key<V>, $value: traits::$value<V>>(
            &self,
            key: &$key,
        ) -> Result<Option<$value>, StoreError> {
            self.read($label, key)
        }

        fn $delete<$key: traits::$key<V>>(&self, key: &$key) -> Result<(), StoreError> {
            self.delete($label, key)
        }
    )*};
}

/// As `values`, where openmls has the reader's type parameters the other way round.
macro_rules! values_turned {
    ($($label:literal $key:ident $value:ident: $write:ident $read:ident $delete:ident;)*) => {$(
        fn $write<$key: traits::$key<V>, $value: traits::$value<V>>(
            &self,
            key: &$key,
            value: &$value,
        ) -> Result<(), StoreError> {
            self.write($label, key, value)
        }

        fn $read<$value: traits::$value<V>, $key: traits::$key<V>>(
            &self,
            key: &$key,
        ) -> Result<Option<$value>, StoreError> {
            self.read($label, key)
        }

        fn $delete<$key: traits::$key<V>>(&self, key: &$key) -> Result<(), StoreError> {
            self.delete($label, key)
        }
    )*};
}

impl StorageProvider<V> for Namespace<'_> {
    type Error = StoreError;

    values! {
        "join config" GroupId MlsGroupJoinConfig:
            write_mls_join_config mls_group_join_config delete_group_config;
        "tree" GroupId TreeSync: write_tree tree delete_tree;
        "context" GroupId GroupContext: write_context group_context delete_context;
        "interim transcript hash" GroupId InterimTranscriptHash:
            write_interim_transcript_hash interim_transcript_hash delete_interim_transcript_hash;
        "confirmation tag" GroupId ConfirmationTag:
            write_confirmation_tag confirmation_tag delete_confirmation_tag;
        "message secrets" GroupId MessageSecrets:
            write_message_secrets message_secrets delete_message_secrets;
        "resumption psks" GroupId ResumptionPskStore:
            write_resumption_psk_store resumption_psk_store delete_all_resumption_psk_secrets;
        "own leaf index" GroupId LeafNodeIndex:
            write_own_leaf_index own_leaf_index delete_own_leaf_index;
        "epoch secrets" GroupId GroupEpochSecrets:
            write_group_epoch_secrets group_epoch_secrets delete_group_epoch_secrets;
        "signature key pair" SignaturePublicKey SignatureKeyPair:
            write_signature_key_pair signature_key_pair delete_signature_key_pair;
    }

    values_turned! {
        "encryption key pair" EncryptionKey HpkeKeyPair:
            write_encryption_key_pair encryption_key_pair delete_encryption_key_pair;
        "psk" PskId PskBundle: write_psk psk delete_psk;
    }

    fn write_key_package<
        HashReference: traits::HashReference<V>,
        KeyPackage: traits::KeyPackage<V>,
    >(
        &self,
        hash_ref: &HashReference,
        key_package: &KeyPackage,
    ) -> Result<(), StoreError> {
        let mut rows: Vec<Vec<u8>> = self.read(PACKAGE_ROWS, &())?.unwrap_or_default();
        rows.push(self.row(PACKAGE, hash_ref)?.to_vec());
        self.write(PACKAGE_ROWS, &(), &rows)?;
        self.write(PACKAGE, hash_ref, key_package)
    }

    fn key_package<HashReference: traits::HashReference<V>, KeyPackage: traits::KeyPackage<V>>(
        &self,
        hash_ref: &HashReference,
    ) -> Result<Option<KeyPackage>, StoreError> {
        self.read(PACKAGE, hash_ref)
    }

    fn delete_key_package<HashReference: traits::HashReference<V>>(
        &self,
        hash_ref: &HashReference,
    ) -> Result<(), StoreError> {
        self.delete(PACKAGE, hash_ref)
    }

    fn write_group_state<GroupState: traits::GroupState<V>, GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
        group_state: &GroupState,
    ) -> Result<(), StoreError> {
        self.write("group state", group_id, group_state)
    }

    fn group_state<GroupState: traits::GroupState<V>, GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<GroupState>, StoreError> {
        self.read("group state", group_id)
    }

    fn delete_group_state<GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StoreError> {
        self.delete("group state", group_id)
    }

    fn append_own_leaf_node<GroupId: traits::GroupId<V>, LeafNode: traits::LeafNode<V>>(
        &self,
        group_id: &GroupId,
        leaf_node: &LeafNode,
    ) -> Result<(), StoreError> {
        self.append(OWN_LEAVES, group_id, leaf_node)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<V>, LeafNode: traits::LeafNode<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<LeafNode>, StoreError> {
        self.list(OWN_LEAVES, group_id)
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StoreError> {
        self.delete(OWN_LEAVES, group_id)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<V>,
        ProposalRef: traits::ProposalRef<V>,
        QueuedProposal: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &GroupId,
        proposal_ref: &ProposalRef,
        proposal: &QueuedProposal,
    ) -> Result<(), StoreError> {
        self.write(PROPOSAL, &(group_id, proposal_ref), proposal)?;
        self.append(PROPOSAL_REFS, group_id, proposal_ref)
    }

    fn queued_proposal_refs<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<ProposalRef>, StoreError> {
        self.list(PROPOSAL_REFS, group_id)
    }

    fn queued_proposals<
        GroupId: traits::GroupId<V>,
        ProposalRef: traits::ProposalRef<V>,
        QueuedProposal: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, StoreError> {
        let refs: Vec<ProposalRef> = self.list(PROPOSAL_REFS, group_id)?;
        let mut out = Vec::with_capacity(refs.len());
        for proposal_ref in refs {
            let proposal = self.read(PROPOSAL, &(group_id, &proposal_ref))?;
            out.push((proposal_ref, proposal.ok_or(StoreError::Corrupt)?));
        }
        Ok(out)
    }

    fn remove_proposal<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
        proposal_ref: &ProposalRef,
    ) -> Result<(), StoreError> {
        self.remove(PROPOSAL_REFS, group_id, proposal_ref)?;
        self.delete(PROPOSAL, &(group_id, proposal_ref))
    }

    fn clear_proposal_queue<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StoreError> {
        for proposal_ref in self.list::<_, ProposalRef>(PROPOSAL_REFS, group_id)? {
            self.delete(PROPOSAL, &(group_id, proposal_ref))?;
        }
        self.delete(PROPOSAL_REFS, group_id)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
        HpkeKeyPair: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
        key_pairs: &[HpkeKeyPair],
    ) -> Result<(), StoreError> {
        self.write(EPOCH_KEYS, &(group_id, epoch, leaf_index), &key_pairs)
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
        HpkeKeyPair: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<Vec<HpkeKeyPair>, StoreError> {
        Ok(self
            .read(EPOCH_KEYS, &(group_id, epoch, leaf_index))?
            .unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<(), StoreError> {
        self.delete(EPOCH_KEYS, &(group_id, epoch, leaf_index))
    }
}
