//! adit's TLS: one more transport over any stream of bytes.
//!
//! [`ServerTls`] and [`ClientTls`] are settings: cheap to clone, shared by all threads. Each turns a
//! stream into a [`TlsStream`] that reads, writes and half-closes as the stream beneath does, and whose
//! errors are those of adit, with their stable words. Who opens, limits and closes connections is the
//! crate `adit`.
//!
//! TLS 1.3 and 1.2 (there only with the extended master secret, RFC 7627), by rustls over aws-lc, key
//! exchange with post-quantum preferred. Nothing is resumed: a server sends no tickets, a client keeps
//! no sessions. A ticket that a client does not read before it closes turns its close into a reset, which
//! can overtake its last bytes; and with a full handshake each time, what was exchanged or has expired is
//! found at the next connection. The price is a signature per connection. No type of rustls is in a
//! public signature. Everything that waits needs a runtime of tokio with its clock.
//!
//! ```
//! # async fn f(io: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! use adit_tls::ClientTls;
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! let tls = ClientTls::ca("ca.pem")?;
//! let mut stream = tls.connect(io, "db.example", "db.example:443", Duration::from_secs(10)).await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?; // our direction ends; the peer may go on
//! let mut answer = Vec::new();
//! stream.read_to_end(&mut answer).await?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]
// No peer may end the program. The modules that decode are held to more: they neither index nor
// calculate without a check. Tests may panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::as_conversions,
        clippy::expect_used,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod auto;
mod certificate;
mod client;
mod date;
mod der;
mod failure;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod info;
mod pin;
mod provider;
mod secret;
mod server;
mod stream;
mod trust;
mod wire;

pub use certificate::Certificate;
pub use client::ClientTls;
pub use handshake::HandshakeError;
pub use info::Info;
pub use pin::Pin;
pub use server::ServerTls;
pub use stream::TlsStream;
