//! TLS over TCP and Unix sockets: settings of servers and clients (feature `tls`).
//!
//! A server has a certificate, a client knows whom to trust; the rest of both is as without:
//!
//! ```no_run
//! use adit::prelude::*;
//! use adit::tls::{ClientTls, ServerTls};
//!
//! # fn main() -> adit::Result {
//! let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
//! let server = Server::new(upper)
//!     .tls(ServerTls::files("cert.pem", "key.pem")?)
//!     .listen("tls://:7000", Lines::new())
//!     .start()?;
//!
//! let dial = Dial::new().tls(ClientTls::ca("ca.pem")?);
//! let options = ClientOptions { dial, ..ClientOptions::default() };
//! let client = BlockingClient::connect_with("tls://localhost:7000", Lines::new(), options)?;
//! assert_eq!(client.call("hello").send()?, "HELLO");
//! # Ok(()) }
//! ```
//!
//! Without [`Dial::tls`](crate::Dial::tls) a client trusts the authorities of its system. Settings may
//! also stand in an address: `tls://db:443,ca=ca.pem`, `tls://:443,cert=cert.pem,key=key.pem`.

mod handshake;
mod settings;
mod wire;

pub use adit_tls::{Certificate, ClientTls, Info, Pin, ServerTls};

pub(crate) use handshake::secured;
pub(crate) use settings::{Handshakes, server};
pub(crate) use wire::TlsIo;
