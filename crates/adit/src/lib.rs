//! Client/server programs over TCP, UDP and Unix sockets, and TLS.
//!
//! A socket is a door between a program and the network. This crate is what stands behind the door: it
//! accepts, reads, cuts bytes into messages, answers in order, bounds what a peer can make it spend, and
//! closes without breaking off what is still on its way. You write what is said.
//!
//! # A first server
//!
//! A server is a handler and the addresses it listens on. The handler is written once and serves TCP,
//! UDP and Unix sockets alike, many clients at once:
//!
//! ```no_run
//! use adit::prelude::*;
//!
//! fn main() -> adit::Result {
//!     let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
//!     Server::new(upper)
//!         .listen("tcp://127.0.0.1:7000", Lines::new())
//!         .listen_datagrams("udp://127.0.0.1:7000")
//!         .run()
//! }
//! ```
//!
//! [`fast`] makes a service of a function that answers at once; [`each`] gives every client a [`Handler`]
//! of its own, which remembers; [`task`] is for answers that wait. Over a stream of bytes a [`Codec`] says
//! where a message ends, here [`Lines`](codec::Lines); a datagram is a message already. [`run`](Server::run)
//! serves until SIGTERM or Ctrl-C and finishes what there is; [`start`](Server::start) returns at once, for
//! tests and for programs that do more.
//!
//! # A first client
//!
//! ```
//! use adit::prelude::*;
//!
//! # fn main() -> adit::Result {
//! let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
//! let server = Server::new(upper).listen("tcp://127.0.0.1:0", Lines::new()).start()?;
//!
//! let client = BlockingClient::connect(server.addr(0))?; // or "tcp://127.0.0.1:7000"
//! assert_eq!(client.call("hello").send()?, "HELLO");
//! # Ok(()) }
//! ```
//!
//! A call has a deadline, always, and an [`Error`] says whether the server may have acted:
//! [`safe_to_retry`](Error::safe_to_retry), [`code`](Error::code). In a program with tokio, [`Client`] is
//! the same without blocking, with many calls on their way at once.
//!
//! # Where to go on
//!
//! | you want | look at |
//! |---|---|
//! | to choose how a service answers | [`fast`], [`each`], [`per_thread`], [`task`], [`blocking`], [`Answer::later`] |
//! | clients that reach each other | [`Room`] |
//! | a protocol of your own | [`Codec`], and [`testing::every_split`] to test it |
//! | bytes, not messages | [`stream()`] in a server, [`Dial`] in a client |
//! | nobody to read or change what is said | the feature `tls`: `Server::tls`, `Dial::tls`, `tls://` addresses |
//! | to pass connections or datagrams on | [`Forward`] |
//! | to see what happens | [`Observer`] in the program, [`Trace`](trace::Trace) for a file that `adit explain` draws |
//! | tests without sockets, ports and waiting | [`testing`] |
//! | to bound what a peer can make a server spend | [`Limits`], which are on without asking |
//! | how addresses are written | [`address`] |
//!
//! The guide, `docs/guide.md` in the repository, goes through all of it by programs that the tests run.
//!
//! # What to rely on
//!
//! - What goes wrong with one peer ends its conversation, never the server; so does a panic of a handler.
//! - Answers keep the order of messages. A server that is told to stop first finishes the conversations it
//!   has, within the time it is given.
//! - What is not said to be `tls://` is not encrypted. With the feature `tls` a client checks the certificate of
//!   its server always, and a server that of its clients if it is told to.
//! - The library neither logs nor prints: it tells [`Observer`]s. It runs on Linux.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "tls"),
    allow(
        dead_code,
        clippy::allow_attributes,
        reason = "what only TLS needs has its place all the same"
    )
)]

mod accept;
mod admission;
mod answers;
mod budget;
mod buffers;
mod client;
mod conn;
mod context;
mod conversation;
mod datagrams;
mod drain;
mod forward;
mod handler;
mod idle;
mod introduction;
mod lag;
mod linger;
mod listen;
mod listening;
mod lobby;
mod observe;
mod peer;
mod program;
mod pump;
mod ready;
mod relief;
mod reserve;
mod room;
mod running;
mod runtime;
mod server;
mod service;
mod stream;
pub mod testing;
mod throttle;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls/absent.rs"]
mod tls;
pub mod trace;
mod transport;
mod worker;

pub use adit_proto::access::{self, Access, AccessList, Network};
pub use adit_proto::address::{self, Address, AddressError};
pub use adit_proto::backoff::Backoff;
pub use adit_proto::code::Code;
pub use adit_proto::codec::{self, BoxError, Codec};
pub use adit_proto::endpoint::{self, Endpoint};
pub use adit_proto::error::code_of;
pub use adit_proto::error::{Blame, Error};
pub use adit_proto::event::{self, Event, What};
pub use adit_proto::limits::{Limit, Limits, Overlong, WhenFull};
pub use adit_proto::proxy::Version as ProxyVersion;
pub use adit_proto::rate::{ByteRate, Rate};
pub use bytes::Bytes;

pub use client::{
    BlockingCall, BlockingClient, Call, Client, ClientOptions, Datagrams, Dial, Family,
};
pub use conn::{Conn, Look, ReadHalf, WriteHalf};
pub use drain::Report;
pub use forward::Forward;
pub use handler::{Answer, Handler, Open, Opened, Out, Refuse, Service};
pub use listen::{Door, ToAddress};
pub use listening::{Bytestreams, Kind, Messages};
pub use observe::Observer;
pub use peer::{Closed, Peer, Sender, TrySendError};
pub use program::{Ended, Process, Program, Worker};
pub use ready::{ReadyDatagrams, ReadyListener};
pub use room::{Room, Seat};
pub use running::{Running, Stats};
pub use server::Server;
pub use service::{Each, OnThread, PerThread, blocking, each, fast, per_thread, task};
pub use stream::{Stream, StreamService, stream};

/// What fallible functions of this crate return; `main` can return it too.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What a command around the library needs of the operating system: standard input and output beside
/// sockets, descriptors, who holds a port, random bits, the end of a process.
pub mod system {
    pub use adit_net::child;
    pub use adit_net::datagram::UDP_BYTES_MAX;
    pub use adit_net::descriptors;
    pub use adit_net::diag;
    pub use adit_net::files;
    pub use adit_net::lines;
    pub use adit_net::owner;
    pub use adit_net::passed;
    pub use adit_net::process;
    pub use adit_net::stdio;
    pub use adit_net::stream::unread;
    pub use adit_net::supervisor;
    pub use adit_net::{jitter_u64, random_u64};
}

/// Making foreign bytes safe for a terminal or a line of text.
pub use adit_proto::escape;

/// What most programs need: `use adit::prelude::*;`.
pub mod prelude {
    pub use crate::codec::{Delimited, Fixed, Frame, Length32, Lines, Raw, Whole};
    pub use crate::{
        Answer, BlockingClient, BoxError, Bytes, Client, ClientOptions, Closed, Code, Codec, Conn,
        Dial, Event, Forward, Handler, Limit, Limits, Observer, Out, Peer, Program, Refuse, Room,
        Seat, Server, Service, What, blocking, each, fast, per_thread, stream, task,
    };
}

/// The programs of the README are compiled like any other example.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
