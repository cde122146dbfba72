//! adit's one door to the operating system: sockets, their options, datagrams and descriptors.
//!
//! Everything is nonblocking and closed on exec. Nothing here decides: what an error means for a
//! server, when to retry and what to tell whom is the business of the crate `adit`. Linux only.

pub mod accept;
pub mod child;
pub mod connect;
pub mod datagram;
pub mod descriptors;
pub mod diag;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod lines;
pub mod listen;
pub mod memory;
pub mod owner;
pub mod passed;
pub mod process;
pub mod stdio;
pub mod stream;
pub mod supervisor;
mod sys;
mod table;
pub mod unix;
mod unix_file;

pub use sys::{jitter_u64, random_u64};
