//! The buffers of an I/O thread, lent to one conversation for the length of a poll.
//!
//! A conversation that is idle owns no buffer at all: it reads into the thread's and writes from it.
//! Only a partial message and an unsent answer are kept.

use std::cell::Cell;

/// How much one read asks for.
pub(crate) const CHUNK: usize = 64 << 10;
/// A leftover up to here is copied in front of the next read. Beyond it the read is appended to the
/// leftover, else a message that comes in many pieces would be copied again for each.
pub(crate) const SMALL: usize = 4 << 10;

/// Where a poll reads into and collects its answers.
pub(crate) struct Scratch {
    pub(crate) input: Box<[u8]>,
    pub(crate) output: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Takes the thread's buffers. They are moved, not borrowed: a poll inside a poll, or after a
    /// panic, just makes new ones.
    pub(crate) fn take() -> Box<Self> {
        SCRATCH.take().unwrap_or_else(|| {
            let input = vec![0; SMALL + CHUNK].into_boxed_slice();
            Box::new(Self { input, output: Vec::with_capacity(CHUNK) })
        })
    }

    /// Gives the buffers back to the thread.
    pub(crate) fn give_back(mut self: Box<Self>) {
        self.output.clear();
        if self.output.capacity() > 4 * CHUNK {
            self.output = Vec::with_capacity(CHUNK);
        }
        SCRATCH.set(Some(self));
    }
}
