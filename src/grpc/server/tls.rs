//! TLS for the TCP listener: a client certificate is required, and tells who it is.
//!
//! Deliberately absent: reload, revocation lists.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::grpc::auth::Principal;

/// Bytes of a name in a certificate that is taken for a principal.
const NAME_BYTES_MAX: usize = 512;

/// The contents of the three PEM files that mutual TLS needs.
#[derive(Clone)]
pub struct TlsFiles {
    /// The server's certificate, followed by intermediate ones.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The authorities that vouch for clients.
    pub client_ca: Vec<u8>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file has no such thing, or a broken one.
    #[error("{file}: {problem}; give it in PEM form")]
    Pem {
        /// Which of the three.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// They do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

// === impl TlsFiles ===

impl TlsFiles {
    /// The listener's configuration: TLS 1.2 or 1.3, HTTP/2, client certificate
    /// required.
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates("certificate", &self.certificates)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|e| TlsError::Pem {
            file: "private key",
            problem: e.to_string(),
        })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates("client CA", &self.client_ca)? {
            roots.add(authority).map_err(|e| TlsError::Pem {
                file: "client CA",
                problem: e.to_string(),
            })?;
        }
        let setup = |e: &dyn std::fmt::Display| TlsError::Setup(e.to_string());
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|e| setup(&e))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| setup(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| setup(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The key stays out of every log.
impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |problem: String| TlsError::Pem { file, problem };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|e| failed(e.to_string()))?;
    if found.is_empty() {
        return Err(failed("it has no certificate".into()));
    }
    Ok(found)
}

/// Whom a verified client certificate names: its first URI (a SPIFFE ID), else its
/// first DNS name, else its common name. The latter two, and a URI that could pass
/// for another kind of principal, are told apart by a prefix.
pub(super) fn principal(certificate: &CertificateDer<'_>) -> Option<Principal> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map_or(&[][..], |names| &names.value.general_names);
    let uri = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(uri_principal(uri)),
        _ => None,
    });
    let dns = || {
        names.iter().find_map(|name| match name {
            GeneralName::DNSName(dns) => Some(format!("dns:{dns}")),
            _ => None,
        })
    };
    let common_name = || {
        let found = certificate.subject().iter_common_name().next()?;
        Some(format!("cn:{}", found.as_str().ok()?))
    };
    let name = uri.or_else(dns).or_else(common_name)?;
    is_plain(&name).then(|| Principal(name.into()))
}

fn uri_principal(uri: &str) -> String {
    // `spiffe://...` and the like stand by themselves: no other kind of principal
    // has `://` after a plain scheme.
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match uri.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => uri.to_owned(),
        _ => format!("uri:{uri}"),
    }
}

/// Whether it may stand in a log line and in an error.
fn is_plain(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(change: impl FnOnce(&mut CertificateParams)) -> Option<Principal> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        principal(certificate.der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn uri_comes_before_dns_before_common_name() {
        let dns = || SanType::DnsName("web.example".try_into().unwrap());
        let name = |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, "ann");
        };
        let all = named(|p| {
            name(p);
            p.subject_alt_names = vec![dns(), uri("spiffe://a/b"), uri("spiffe://c/d")];
        });
        assert_eq!(all, Some(Principal("spiffe://a/b".into())));
        let two = named(|p| {
            name(p);
            p.subject_alt_names = vec![dns()];
        });
        assert_eq!(two, Some(Principal("dns:web.example".into())));
        assert_eq!(named(name), Some(Principal("cn:ann".into())));
        assert_eq!(named(|_| ()), None);
    }

    #[test]
    fn no_certificate_passes_for_a_local_user() {
        for text in ["uid:0", "uid:0://x"] {
            let fake = named(|p| p.subject_alt_names = vec![uri(text)]);
            assert_eq!(fake, Some(Principal(format!("uri:{text}").into())));
        }
        let fake = named(|p| p.distinguished_name.push(DnType::CommonName, "uid:0"));
        assert_eq!(fake, Some(Principal("cn:uid:0".into())));
    }

    #[test]
    fn names_with_control_characters_name_nobody() {
        let odd = named(|p| p.distinguished_name.push(DnType::CommonName, "a\nb"));
        assert_eq!(odd, None);
    }

    #[test]
    fn files_without_their_content_are_named() {
        let files = TlsFiles {
            certificates: b"nothing".to_vec(),
            key: Vec::new(),
            client_ca: Vec::new(),
        };
        let error = files.server_config().unwrap_err().to_string();
        assert!(
            error.contains("certificate: it has no certificate"),
            "{error}"
        );
        assert_eq!(format!("{files:?}"), "TlsFiles { .. }");
    }
}
