//! File descriptors: how many there may be, and handing a line of text to one of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on open file descriptors of this process (getrlimit(2), `RLIMIT_NOFILE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescriptorLimit {
    /// What the kernel enforces.
    pub soft: u64,
    /// How far the soft limit may be raised.
    pub hard: u64,
}

/// The limit in force.
///
/// # Errors
/// None in practice; kept for systems that refuse to tell.
pub fn limit() -> io::Result<DescriptorLimit> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    Ok(DescriptorLimit { soft: current.unwrap_or(u64::MAX), hard: maximum.unwrap_or(u64::MAX) })
}

/// Descriptors this process has open (proc(5), `/proc/self/fd`).
///
/// # Errors
/// There is no /proc, or no descriptor is left to look into it.
pub fn in_use() -> io::Result<usize> {
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    // One of them is the one that looked.
    Ok(open.saturating_sub(1))
}

/// Descriptors that a runtime of tokio takes when it is made: for epoll two, for its waker one, for signals
/// a pair of sockets and one more.
pub const OF_A_RUNTIME: usize = 6;

/// Finds out whether so many descriptors could be opened now, by opening them. Whoever opens them next finds
/// them, unless another thread is faster.
///
/// To be asked before a runtime is made: where the pair of sockets for signals cannot be opened, tokio
/// panics.
///
/// # Errors
/// There are not so many left.
pub fn find_room(count: usize) -> io::Result<()> {
    let open = |_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?);
    (0..count).map(open).collect::<io::Result<Vec<_>>>().map(drop)
}

/// The number of the next descriptor, which is the lowest that is free: all below are in use. Two calls
/// of the kernel, whatever is open.
///
/// # Errors
/// There is none (`EMFILE`).
pub fn next() -> io::Result<RawFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?.as_raw_fd())
}

/// Raises the soft limit to the hard one; gives the limit as it was before.
///
/// # Errors
/// The system refuses, as a sandbox may.
pub fn raise_limit() -> io::Result<DescriptorLimit> {
    let before = limit()?;
    let _the_first_counts = AT_START.set(before);
    if before.soft < before.hard {
        let hard = Some(before.hard);
        setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    }
    Ok(before)
}

/// The limit as it was before it was raised, which children are given back: whoever still uses
/// select(2) would write beyond its tables with a descriptor above 1,023.
static AT_START: OnceLock<DescriptorLimit> = OnceLock::new();

/// The limit this process was started with; none as long as it was not raised.
pub(crate) fn at_start() -> Option<DescriptorLimit> {
    AT_START.get().copied()
}

/// A descriptor that this process inherited, and where it says that it is ready.
#[derive(Debug)]
pub struct Inherited(File);

impl Inherited {
    /// Takes the descriptor over. To be done first of all: a number that nothing was inherited under is
    /// given to the next file or socket this process opens, and would be taken for it.
    ///
    /// # Errors
    /// The descriptor is one of the standard three, or is not open.
    pub fn take(descriptor: RawFd) -> io::Result<Self> {
        crate::sys::take_descriptor(descriptor).map(Self)
    }

    /// Writes `text` and closes the descriptor: whoever waits at the other end goes on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn tell_and_close(mut self, text: &[u8]) -> io::Result<()> {
        self.0.write_all(text)
    }
}

/// Keeps a descriptor that was inherited open from reaching the children of this process.
///
/// # Errors
/// The descriptor is not open.
pub fn check_inherited(descriptor: RawFd) -> io::Result<()> {
    crate::sys::close_on_exec(descriptor)
}

// Miri duplicates no descriptors and knows no limits.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::{Inherited, check_inherited, in_use, limit, next, raise_limit};
    use std::io::Read as _;
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let before = raise_limit().unwrap();
        let after = limit().unwrap();
        assert_eq!(after.soft, before.hard);
    }

    #[test]
    fn the_standard_three_and_closed_descriptors_are_refused() {
        for descriptor in [-1, 0, 1, 2, 1_000_000] {
            assert!(Inherited::take(descriptor).is_err(), "descriptor {descriptor}");
        }
    }

    #[test]
    fn the_word_arrives_and_the_descriptor_is_closed_behind_it() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let inherited = Inherited::take(writer.into_raw_fd()).unwrap();
        inherited.tell_and_close(b"ready\n").unwrap();
        let mut text = String::new();
        // The end comes only if the writing side is closed.
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ready\n");
    }

    #[test]
    fn open_descriptors_are_counted_and_looked_at() {
        let pipe = std::io::pipe().unwrap();
        // Other tests open and close theirs meanwhile.
        assert!(in_use().unwrap() >= 5 && next().unwrap() > 2);
        check_inherited(pipe.0.as_raw_fd()).unwrap();
        assert!(check_inherited(1_000_000).is_err());
    }
}
