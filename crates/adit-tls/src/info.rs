//! Info: what a handshake has settled.

use rustls::{CommonState, ProtocolVersion};

use crate::Certificate;

/// What a handshake has settled: [`TlsStream::info`](crate::TlsStream::info), which has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// `1.3` or `1.2`.
    pub version: &'static str,
    /// The cipher suite by its registered name: `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The key exchange by its registered name: `X25519MLKEM768`.
    pub key_exchange: String,
    /// The protocol that was agreed on, if one was.
    pub alpn: Option<Vec<u8>>,
    /// The name the client has asked for (SNI); none if it was an address. At a server it is the peer's
    /// text.
    pub server_name: Option<String>,
    /// The peer's certificate; none of a client that was not asked for one.
    pub peer: Option<Certificate>,
}

impl Info {
    pub(crate) fn of(state: &CommonState, server_name: Option<&str>) -> Self {
        let cipher = state.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = state.negotiated_key_exchange_group().map(|group| group.name());
        let peer = state.peer_certificates().and_then(|chain| chain.first());
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            },
            // The registry has TLS_, rustls TLS13_ for those of 1.3.
            cipher: cipher
                .and_then(|suite| suite.as_str())
                .unwrap_or_default()
                .replacen("TLS13_", "TLS_", 1),
            key_exchange: group.and_then(|group| group.as_str()).unwrap_or_default().to_owned(),
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            server_name: server_name.map(str::to_owned),
            peer: peer.map(|der| Certificate::of(der)),
        }
    }
}
