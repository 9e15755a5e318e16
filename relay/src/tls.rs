//! TLS 1.3 with raw Ed25519 public keys on both sides (RFC 7250): no certificates, no names, no
//! authorities. A client pins the one key it expects; a server learns the client's key, which gives
//! no rights by itself: rights come from grants. Keys are read and made here and leave only as
//! rustls configurations.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use proto::{PublicKey, Signer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use thiserror::Error as ThisError;

/// The protocol's name in the handshake: version 1.
pub const ALPN: &[u8] = b"treeline/1";

/// What stands before the 32 key bytes in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// What stands before the 32 seed bytes in a PKCS#8 private key (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why a key file is no use. One line: what, where, what to do.
#[derive(Debug, ThisError)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("cannot use the key file {path}: {source}; give its owner read and write access")]
    File {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not 32 bytes.
    #[error("the key file {0} is damaged: it must hold 32 bytes; restore it from a backup")]
    Length(String),
}

/// Reads a key from a file of 32 bytes; makes it at random, readable by its owner only, when there
/// is none.
///
/// # Errors
/// [`KeyError`] when the file cannot be read, made, or is not a key.
pub fn load_or_make(path: &Path) -> Result<Signer, KeyError> {
    match load(path)? {
        Some(signer) => Ok(signer),
        None => make(path),
    }
}

/// Reads a key from a file of 32 bytes; `None` when there is none.
///
/// # Errors
/// [`KeyError`] when the file cannot be read or is not a key.
pub fn load(path: &Path) -> Result<Option<Signer>, KeyError> {
    let file = |source| KeyError::File {
        path: path.display().to_string(),
        source,
    };
    let opened = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(file)?,
    };
    let mut seed = Vec::with_capacity(33);
    opened.take(33).read_to_end(&mut seed).map_err(file)?;
    let seed: [u8; 32] = seed
        .try_into()
        .map_err(|_| KeyError::Length(path.display().to_string()))?;
    Ok(Some(Signer::from_seed(&seed)))
}

fn make(path: &Path) -> Result<Signer, KeyError> {
    let file = |source| KeyError::File {
        path: path.display().to_string(),
        source,
    };
    let signer = random_signer().map_err(file)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options.open(path).map_err(file)?;
    made.write_all(&signer.seed())
        .and_then(|()| made.sync_all())
        .map_err(file)?;
    Ok(signer)
}

/// A new key.
///
/// # Errors
/// When the system has no randomness.
pub fn random_signer() -> io::Result<Signer> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(Signer::from_seed(&seed))
}

/// The server half: shows `own`, and demands that the client shows some Ed25519 key.
///
/// # Errors
/// When rustls refuses the key, which an Ed25519 key never causes.
pub fn server_config(own: &Signer) -> Result<ServerConfig, Error> {
    let provider = provider();
    let resolver = rustls::server::AlwaysResolvesServerRawPublicKeys::new(certified(own)?);
    let verifier = Arc::new(AnyRawKey(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The client half: shows `own`, and accepts the server only with the key `expected`.
///
/// # Errors
/// When rustls refuses the key, which an Ed25519 key never causes.
pub fn client_config(own: &Signer, expected: PublicKey) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = PinnedKey {
        expected,
        algorithms: provider.signature_verification_algorithms,
    };
    let resolver = rustls::client::AlwaysResolvesClientRawPublicKeys::new(certified(own)?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The key that a raw public key of the handshake holds; `None` if it is not Ed25519.
pub fn key_of(spki: &[u8]) -> Option<PublicKey> {
    let key = spki.strip_prefix(SPKI_HEAD.as_slice())?;
    key.try_into().ok().map(PublicKey)
}

/// Our suites: AES-128 first, for packets are small and the cipher is in hardware; then the others.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
    let mut provider = default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

fn certified(own: &Signer) -> Result<Arc<CertifiedKey>, Error> {
    let pkcs8 = [PKCS8_HEAD.as_slice(), &own.seed()].concat();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
    let spki = [SPKI_HEAD.as_slice(), &own.public_key().0].concat();
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(spki)],
        key,
    )))
}

fn check_handshake(
    message: &[u8],
    key: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(CertificateError::BadSignature.into());
    }
    let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
    verify_tls13_signature_with_raw_key(message, &spki, signed, algorithms)
}

#[derive(Debug)]
struct PinnedKey {
    expected: PublicKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if key_of(key) == Some(self.expected) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_handshake(message, key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct AnyRawKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyRawKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if key_of(key).is_some() {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::BadEncoding.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_handshake(message, key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.key");
        assert!(load(&path).unwrap().is_none());
        let made = load_or_make(&path).unwrap();
        assert_eq!(load_or_make(&path).unwrap().public_key(), made.public_key());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        fs::write(&path, [1; 33]).unwrap();
        assert!(matches!(load(&path), Err(KeyError::Length(_))));
    }

    #[test]
    fn keys_survive_the_way_through_a_handshake_key() {
        let signer = Signer::from_seed(&[5; 32]);
        let certified = certified(&signer).unwrap();
        assert_eq!(key_of(&certified.cert[0]), Some(signer.public_key()));
        assert_eq!(key_of(&certified.cert[0][1..]), None);
    }
}
