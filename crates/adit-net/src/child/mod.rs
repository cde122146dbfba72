//! Child processes that do not outlive this one.
#![expect(unsafe_code, reason = "what runs between fork and exec has no safe face")]

mod calls;
mod exec;
mod guard;
mod launch;
mod sandbox;
mod user;
mod within;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

pub use calls::refuse_calls;
pub use guard::{Guard, Unborn};
pub use launch::{Launch, VARIABLES_BYTES_MAX, find};
pub use sandbox::Sandbox;
pub use user::{User, is_root, uid};

/// How long a program and its group may take to end after SIGTERM; then comes SIGKILL.
pub const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "wait(2) knows no fourth end, and a guard two more")]
pub enum Ended {
    /// It ended by itself, with this status.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It never ran, by this error number.
    NotRun(i32),
    /// Its guard is gone, and it with its guard.
    Unguarded,
}

/// Bytes of a record of the guard: what it tells, and a number.
const RECORD_BYTES: usize = 5;
/// The guard has taken the request, and nobody else will: the number is the process.
const TAG_TAKEN: u8 = 3;
/// The number is that of wait(2).
const TAG_ENDED: u8 = 1;
/// The number is an error of execve(2) or of what comes before it.
const TAG_NOT_RUN: u8 = 2;

impl Ended {
    /// What all that a guard has told of a program means; nothing as long as it runs.
    pub fn of_records(told: &[u8]) -> Option<Self> {
        let (records, _) = told.as_chunks::<RECORD_BYTES>();
        let [tag, number @ ..] = *records.iter().find(|[tag, ..]| *tag != TAG_TAKEN)?;
        let number = i32::from_ne_bytes(number);
        Some(match tag {
            TAG_NOT_RUN => Self::NotRun(number),
            _ if libc::WIFSIGNALED(number) => Self::Signal(libc::WTERMSIG(number)),
            _ => Self::Exit(libc::WEXITSTATUS(number)),
        })
    }
}

/// For what is tried, and can only be given up in silence.
fn in_silence<T>(_result: T) {}

/// A record as it goes over the wire.
fn record(tag: u8, number: i32) -> [u8; RECORD_BYTES] {
    let [a, b, c, d] = number.to_ne_bytes();
    [tag, a, b, c, d]
}

/// Makes the child end by SIGTERM when this process ends, however it ends (prctl(2),
/// `PR_SET_PDEATHSIG`).
///
/// The kernel watches the thread that spawns the child: it has to be one that lives to the end.
pub fn ends_with_us(command: &mut Command) -> &mut Command {
    let arm = || -> io::Result<()> { Ok(set_parent_process_death_signal(Some(Signal::TERM))?) };
    // SAFETY: between fork and exec only one system call is made, which touches no memory of the
    // parent, takes no lock and allocates nothing.
    unsafe { command.pre_exec(arm) }
}
