//! Child processes that do not outlive this one.
#![expect(unsafe_code, reason = "what runs between fork and exec has no safe face")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

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
