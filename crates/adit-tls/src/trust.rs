//! Trust: whom a client believes, and whom a server that wants certificates.

use std::sync::OnceLock;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed};

use adit_proto::error::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::files::{Roots, wrong};
use crate::provider::provider;
use crate::{Certificate, Pin};

/// Whom a client believes.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Whoever these authorities vouch for, or who is one of these certificates himself.
    Roots { verifier: Arc<WebPkiServerVerifier>, certificates: Vec<CertificateDer<'static>> },
    /// The holder of this very certificate, whatever it says.
    Pin(Pin),
    /// Anybody.
    Anybody,
}

impl Trust {
    pub(crate) fn in_roots(roots: Roots) -> Result<Self, Error> {
        let store = Arc::new(roots.store);
        let verifier = WebPkiServerVerifier::builder_with_provider(store, provider()).build();
        let verifier = verifier.map_err(|error| wrong("no usable authority").with_source(error))?;
        Ok(Self::Roots { verifier, certificates: roots.certificates })
    }
}

/// The verifier of one connection: it remembers what it has seen, for the sentence about it.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) trust: Arc<Trust>,
    pub(crate) seen: OnceLock<CertificateDer<'static>>,
}

impl ServerCertVerifier for Watch {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.get_or_init(|| end_entity.clone().into_owned());
        let refused = rustls::Error::from(CertificateError::ApplicationVerificationFailure);
        match &*self.trust {
            Trust::Anybody => Ok(ServerCertVerified::assertion()),
            Trust::Pin(pin) if Pin::of(end_entity) == *pin => Ok(ServerCertVerified::assertion()),
            Trust::Pin(_) => Err(refused),
            Trust::Roots { certificates, .. } if certificates.contains(end_entity) => {
                check_validity(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Trust::Roots { verifier, .. } => verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The clients a server believes: those that its authorities vouch for, and the holders of a
/// certificate that stands in the file itself.
#[derive(Debug)]
pub(crate) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Clients {
    pub(crate) fn in_roots(roots: Roots) -> Result<Self, Error> {
        let store = Arc::new(roots.store);
        let verifier = WebPkiClientVerifier::builder_with_provider(store, provider()).build();
        let verifier = verifier.map_err(|error| wrong("no usable authority").with_source(error))?;
        Ok(Self { verifier, certificates: roots.certificates })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.certificates.contains(end_entity) {
            check_validity(end_entity, now)?;
            return Ok(ClientCertVerified::assertion());
        }
        self.verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Gives a server our certificate, and remembers that it was asked for.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) key: Option<Arc<CertifiedKey>>,
    pub(crate) asked: AtomicBool,
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// A certificate that stands in the file of authorities needs nobody else to vouch for it, even where
/// it calls itself an authority, as those of `openssl req -x509` do, which webpki takes for no server's
/// at all. Its dates count all the same.
fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let read = Certificate::of(certificate);
    let (Some(from), Some(until)) = (read.not_before_s, read.not_after_s) else {
        return Err(CertificateError::BadEncoding);
    };
    let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    if now.as_secs() < from {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: at(from) });
    }
    if now.as_secs() > until {
        return Err(CertificateError::ExpiredContext { time: now, not_after: at(until) });
    }
    Ok(())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
