//! Provider: the one cryptography of adit, always given by hand.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc. Never the default of the process: where a program has two providers, that one panics.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The versions spoken: 1.3, and 1.2 for those who know no better (RFC 8996 ended the older ones).
pub(crate) const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
