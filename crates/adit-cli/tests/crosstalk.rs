//! adit and the tools it meets: nc, ncat, socat, tcpserver and tcpclient, openssl and curl, each as its server
//! and as its client. Bytes and exit statuses are compared, and what the others cannot do is shown to be so.
//!
//! A tool that is not here is skipped. Its limits are asserted for the version they were measured with.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

#[path = "crosstalk/datagrams.rs"]
mod datagrams;
#[path = "crosstalk/families.rs"]
mod families;
#[path = "crosstalk/limits.rs"]
mod limits;
#[path = "crosstalk/peers.rs"]
mod peers;
#[path = "crosstalk/programs.rs"]
mod programs;
#[path = "crosstalk/resets.rs"]
mod resets;
#[path = "crosstalk/streams.rs"]
mod streams;
#[path = "crosstalk/tls.rs"]
mod tls;
#[path = "crosstalk/unix.rs"]
mod unix;
