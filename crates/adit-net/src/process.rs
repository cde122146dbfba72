//! Ending processes by signals.

use std::io;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// Ends this process by a signal it has caught before: gives the signal back its default effect and
/// raises it. Returns only if that fails.
///
/// A shell stops a loop when its program was ended by SIGINT, and goes on when it merely exits with
/// 130.
///
/// # Errors
/// The number is no signal, or its default effect is not to end the process.
pub fn end_by_signal(number: i32) -> io::Result<()> {
    let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
    crate::sys::default_signal(number)?;
    kill_process(getpid(), signal)?;
    Ok(())
}

/// Asks a process to end (SIGTERM).
///
/// # Errors
/// There is no such process, or it belongs to somebody else.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, Signal::TERM)?)
}
