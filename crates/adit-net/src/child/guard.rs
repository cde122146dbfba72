//! The guard: a process of its own between this one and the programs it starts.
//!
//! It is a fork of this process, made once, with one thread, next to no memory of its own and none of
//! our descriptors. It is the parent of every program and the reaper of all their descendants
//! (prctl(2), `PR_SET_CHILD_SUBREAPER`), so that none of them can get away from it by a second fork or
//! a session of its own. It watches this process by a pidfd: whatever ends it, `kill -9` included, the
//! guard ends everything that was started, and itself. Should the guard be killed, the programs die by
//! their `PR_SET_PDEATHSIG`, which the guard's only thread is the one to trip.
//!
//! Why not the death signal alone: it does not reach grandchildren, and it goes off when the thread
//! that spawned ends, not the process. Why not a watcher beside us that kills process groups: whoever
//! calls setsid(2) is in no group that it knows. Why a fork and not a second adit: a program that uses
//! the library has no command line of ours, and its file may be gone. That the fork runs on without an
//! exec is the price: from then on nothing may be allocated, locked or panicked (`within`).
//!
//! And it makes starting cheap: the guard forks its few pages, however large the server has grown.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, waitpid,
};

use super::launch::{Launch, VARIABLES_BYTES_MAX};
use super::{GRACE, in_silence, within};

/// How long the end of the guard is waited for: its programs have their grace, then it kills.
const END: Duration = GRACE.saturating_add(Duration::from_secs(1));

/// A running guard. Dropping it ends every program it has started, and waits for that.
#[derive(Debug)]
pub struct Guard {
    /// Requests, one packet each. None once it was dropped.
    requests: Option<OwnedFd>,
    pid: Pid,
    end: OwnedFd,
}

impl Guard {
    /// Forks the guard.
    ///
    /// # Errors
    /// There is no process, no memory or no descriptor left.
    pub fn start(launch: &Launch) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let server = pidfd_open(getpid(), PidfdFlags::empty())?;
        let pid = within::fork_guard(launch, theirs, server)?;
        let end = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { requests: Some(ours), pid, end })
    }

    /// Has the guard start a program with these variables, `NAME=VALUE` with a NUL behind each.
    ///
    /// # Errors
    /// `WouldBlock` if the guard has much to do: ask again. Anything else means that it is gone, but
    /// for `InvalidInput`: the variables are too long.
    pub fn ask(&self, unborn: &Unborn, variables: &[u8]) -> io::Result<()> {
        if variables.len() > VARIABLES_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let Some(requests) = &self.requests else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let descriptors = [unborn.program.as_fd(), unborn.records.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        // A packet of no bytes would look like the end.
        let text = [IoSlice::new(b"\n"), IoSlice::new(variables)];
        sendmsg(requests, &text, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Is it still there?
    pub fn is_alive(&self) -> bool {
        !has_ended(self.end.as_fd(), Duration::ZERO)
    }

    /// Number of its process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }
}

fn has_ended(process: BorrowedFd<'_>, patience: Duration) -> bool {
    let limit = Timespec::try_from(patience).ok();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0)
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The end of the requests is the order to end.
        self.requests = None;
        // One that was stopped would not hear it.
        in_silence(pidfd_send_signal(&self.end, Signal::CONT));
        if has_ended(self.end.as_fd(), END) {
            // Somebody who waits for all children of this process may have been faster.
            in_silence(waitpid(Some(self.pid), WaitOptions::NOHANG));
        }
    }
}

/// What a program and its server will talk over, before there is a program.
#[derive(Debug)]
pub struct Unborn {
    /// None if the program has a socket of somebody else.
    ours: Option<UnixStream>,
    program: OwnedFd,
    told: UnixStream,
    records: OwnedFd,
}

impl Unborn {
    /// A program whose standard input and output are one end of a socket of adit's own.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new() -> io::Result<Self> {
        let (ours, program) = UnixStream::pair()?;
        let (told, records) = UnixStream::pair()?;
        Ok(Self { ours: Some(ours), program: program.into(), told, records: records.into() })
    }

    /// A program whose standard input and output are this socket.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn with_socket(program: OwnedFd) -> io::Result<Self> {
        let (told, records) = UnixStream::pair()?;
        Ok(Self { ours: None, program, told, records: records.into() })
    }

    /// The other end of the program's input and output, if it is ours, and where the guard tells of its end. The
    /// program, with its group, is told to end when our direction of the latter ends.
    pub fn born(self) -> (Option<UnixStream>, UnixStream) {
        (self.ours, self.told)
    }
}
