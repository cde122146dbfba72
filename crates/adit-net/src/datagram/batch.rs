//! Batches of datagrams: what one system call brought, and what waits to go out together.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;

use socket2::SockAddr;

use super::{DatagramPeer, DatagramSocket, Local};
use crate::sys::{self, HEADERS, Headers, Outgoing};

/// Room for one batch of datagrams, each received whole. About 1 MiB of address space; memory only
/// for what was received.
pub struct RecvBatch(pub(super) Headers);

thread_local! {
    static LENT: Cell<Option<RecvBatch>> = const { Cell::new(None) };
}

/// One received datagram.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received<'a> {
    /// Its bytes; none for an empty datagram, which is a message like any other.
    pub data: &'a [u8],
    /// Who sent it.
    pub from: DatagramPeer,
    /// The address of ours it came to, if the socket tells.
    pub local: Option<Local>,
    /// It was broadcast or multicast: of several sockets on one port each has its own copy (udp(7)), and of
    /// the hosts of a network too.
    pub to_everybody: bool,
    /// It was longer than the longest datagram there is room for.
    pub truncated: bool,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self(Headers::new())
    }

    /// Lends the batch of this thread, so that a socket that only waits owns none.
    pub(super) fn lend<T>(use_it: impl FnOnce(&mut Self) -> T) -> T {
        // Taken, not borrowed: a panic, or a loan inside a loan, just makes a new one.
        let mut batch = LENT.take().unwrap_or_default();
        let used = use_it(&mut batch);
        LENT.set(Some(batch));
        used
    }

    /// Number of datagrams in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The datagram at `index`, in order of arrival.
    pub fn get(&self, index: usize) -> Option<Received<'_>> {
        let (data, arrived) = self.0.get(index)?;
        Some(Received {
            data,
            from: DatagramPeer::of(&arrived.from),
            local: arrived.local,
            to_everybody: arrived.to_everybody,
            truncated: arrived.truncated,
        })
    }

    /// The datagrams in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl std::fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Datagrams that wait to be sent together.
#[derive(Default)]
pub struct SendBatch {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    bytes: Range<usize>,
    to: SockAddr,
    from: Option<Local>,
}

impl SendBatch {
    /// Adds a datagram; false if its receiver has no address.
    pub fn push(&mut self, data: &[u8], to: &DatagramPeer, local: Option<Local>) -> bool {
        let Some(to) = to.to_socket2() else {
            return false;
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.items.push(Item { bytes: start..self.bytes.len(), to, from: local });
        true
    }

    /// Number of datagrams in it.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends in order what the kernel takes and keeps the rest; a datagram that cannot be sent is
    /// told to `failed` and does not hold up the others.
    ///
    /// # Errors
    /// `WouldBlock` if some are left: try again when the socket is writable.
    pub fn send(
        &mut self,
        socket: &DatagramSocket,
        mut failed: impl FnMut(DatagramPeer, io::Error),
    ) -> io::Result<()> {
        let mut done = 0;
        let mut repeated = false;
        let result = loop {
            let left = &self.items[done..];
            if left.is_empty() {
                break Ok(());
            }
            let batch: Vec<_> = left.iter().take(HEADERS).map(|item| self.outgoing(item)).collect();
            match sys::send_many(socket.as_fd(), &batch) {
                Ok(sent) => (done, repeated) = (done + sent, false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Err(error),
                // About an earlier datagram: this one has not been tried yet.
                Err(error) if !repeated && socket.is_peers_error(&error) => repeated = true,
                Err(error) => {
                    failed(DatagramPeer::of(&left[0].to), error);
                    (done, repeated) = (done + 1, false);
                }
            }
        };
        self.forget(done);
        result
    }

    fn outgoing<'a>(&'a self, item: &'a Item) -> Outgoing<'a> {
        Outgoing { bytes: &self.bytes[item.bytes.clone()], to: &item.to, from: item.from }
    }

    fn forget(&mut self, done: usize) {
        let end = done.checked_sub(1).map_or(0, |last| self.items[last].bytes.end);
        self.items.drain(..done);
        self.bytes.drain(..end);
        for item in &mut self.items {
            item.bytes = item.bytes.start - end..item.bytes.end - end;
        }
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}
