//! Ending processes by signals.

use std::fs;
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

/// Was this process started with a signal ignored, as nohup(1) does with SIGHUP? Whoever did it wants
/// it to stay so.
///
/// Read from /proc (proc(5), `SigIgn`); where there is none, no.
pub fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

/// The set of ignored signals: signal n is bit n - 1.
fn ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Asks a process to end (SIGTERM).
///
/// # Errors
/// There is no such process, or it belongs to somebody else.
pub fn terminate(pid: u32) -> io::Result<()> {
    send(pid, Signal::TERM)
}

/// Ends a process that is not asked (SIGKILL).
///
/// # Errors
/// There is no such process, or it belongs to somebody else.
pub fn kill(pid: u32) -> io::Result<()> {
    send(pid, Signal::KILL)
}

fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use super::{ignored, is_ignored};

    #[test]
    fn the_set_of_ignored_signals_is_read() {
        let status = "Name:\tadit\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), Some(0x1001));
        assert_eq!(ignored("Name:\tadit\n"), None);
        // Rust programs start with SIGPIPE ignored.
        assert!(is_ignored(13) && !is_ignored(11));
    }
}
