//! Fuzzing: the decoders that have no public face of their own, for `adit-fuzz` alone.
//!
//! No promise: what is here changes without a word in the changelog.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::table;

/// A socket with a port, as a line of /proc/net/tcp and its like has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what is read is put together again")]
pub struct Socket {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Its state, as a number.
    pub state: u8,
    /// Whose it is.
    pub uid: u32,
    /// Its inode.
    pub inode: u64,
}

/// Longest line that is read whole, in bytes.
pub const LINE_BYTES_MAX: u64 = table::LINE_BYTES_MAX;

/// The sockets of a table, and those of it that are rows of /proc/net/unix, each with inode and name.
pub fn sockets(table: &[u8]) -> (Vec<Socket>, Vec<(u64, String)>) {
    let (mut sockets, mut names) = (Vec::new(), Vec::new());
    let read = table::read_lines(table, &mut |line| {
        sockets.extend(table::parse_row(line).map(|row| {
            let table::Row { local, remote, state, uid, inode } = row;
            Socket { local, remote, state, uid, inode }
        }));
        let named = table::parse_unix_row(line);
        names.extend(named.map(|(inode, name)| (inode, name.to_owned())));
    });
    // Bytes that are there already cannot fail to be read.
    drop(read);
    (sockets, names)
}

/// The range of `ip_local_port_range`.
pub fn range(text: &str) -> Option<RangeInclusive<u16>> {
    table::parse_range(text)
}

/// The inode of a link in `/proc/PID/fd`.
pub fn inode(link: &Path) -> Option<u64> {
    table::socket_inode(link)
}
