//! From a fork of the guard to the program: everything that is to be different for it.
//!
//! The same rules as in `within`: nothing is allocated, locked, printed or panicked.

use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::launch::LaidOut;
use super::user::User;
use super::within::set_signals;

/// The limit on descriptors this process was started with.
pub(super) fn descriptors_at_start() -> Rlimit {
    match crate::descriptors::at_start() {
        Some(limit) => Rlimit { current: Some(limit.soft), maximum: Some(limit.hard) },
        None => rustix::process::getrlimit(Resource::Nofile),
    }
}

/// Becomes the program. Gives why not.
///
/// In this order: its own group, its input and output, no rights by setuid files, the limit on
/// descriptors, the sandbox, whose rules are a descriptor, the end of all others, signals as at the start
/// of the world, the user, and last the death signal, which changing the user clears (prctl(2)).
pub(super) fn run(
    laid_out: &LaidOut<'_>,
    (program, records): (&OwnedFd, &OwnedFd),
    descriptors: Rlimit,
    guard: Pid,
) -> Errno {
    match prepare(laid_out, (program, records), descriptors, guard) {
        Ok(()) => {}
        Err(error) => return error,
    }
    let (arguments, variables) = (laid_out.arguments.as_ptr(), laid_out.variables.as_ptr());
    // SAFETY: the path ends with a NUL, both lists with a null pointer; all of it was laid out before.
    unsafe { libc::execve(laid_out.program.as_ptr(), arguments, variables) };
    last_error()
}

fn prepare(
    laid_out: &LaidOut<'_>,
    (program, records): (&OwnedFd, &OwnedFd),
    descriptors: Rlimit,
    guard: Pid,
) -> Result<(), Errno> {
    rustix::process::setpgid(None, None)?;
    rustix::stdio::dup2_stdin(program)?;
    rustix::stdio::dup2_stdout(program)?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::setrlimit(Resource::Nofile, descriptors)?;
    if let Some(sandbox) = laid_out.sandbox {
        sandbox.confine()?;
    }
    // What is told before the exec goes through the one that is left; the exec closes it.
    let kept = records.as_raw_fd();
    close_range(3, kept - 1);
    close_range(kept + 1, RawFd::MAX);
    default_signals();
    if let Some(user) = laid_out.user {
        become_user(user)?;
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // A guard that has died before that is not noticed by it.
    if rustix::process::getppid() != Some(guard) {
        return Err(Errno::SRCH);
    }
    Ok(())
}

/// Every signal has its default effect and none is blocked.
fn default_signals() {
    // The kernel's own structure (rt_sigaction(2)), in which all zeroes is the default effect. Asked for
    // without the C library, which keeps two signals to itself, and they can be inherited as ignored.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: the kernel reads less than `default` has, and the set of signals in it has 8 bytes.
        // What cannot be changed, as SIGKILL, has its default effect anyway.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8) };
    }
    // SAFETY: sigset_t is integers only.
    let mut none: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: `none` is a set to be emptied.
    unsafe { libc::sigemptyset(&raw mut none) };
    set_signals(&none);
}

/// Becomes a user for good, and proves that there is no way back.
fn become_user(user: &User) -> Result<(), Errno> {
    // SAFETY: the pointer and the count are those of the list.
    done(unsafe { libc::setgroups(user.groups.len(), user.groups.as_ptr()) })?;
    // SAFETY: numbers only.
    done(unsafe { libc::setresgid(user.gid, user.gid, user.gid) })?;
    // SAFETY: numbers only.
    done(unsafe { libc::setresuid(user.uid, user.uid, user.uid) })?;
    // SAFETY: numbers only; that it succeeds would be the failure.
    let is_back = user.uid != 0 && unsafe { libc::setresuid(0, 0, 0) } == 0;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let is_user = uid == user.uid && gid == user.gid;
    if is_back || !is_user { Err(Errno::PERM) } else { Ok(()) }
}

fn done(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

pub(super) fn last_error() -> Errno {
    // SAFETY: takes nothing and gives the place of this thread's number.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place is there for as long as the thread is.
    Errno::from_raw_os_error(unsafe { *place })
}

/// Closes all descriptors from the first to the last (`close_range(2)`).
pub(super) fn close_range(first: RawFd, last: RawFd) {
    let (Ok(from), Ok(to)) = (u32::try_from(first), u32::try_from(last)) else { return };
    if from > to {
        return;
    }
    // SAFETY: numbers only. In this process nobody uses the descriptors that are closed.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    if closed == 0 {
        return;
    }
    // Linux before 5.9: one by one, as far as the limit lets there be any.
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let end = u32::try_from(limit).unwrap_or(u32::MAX).min(1 << 20);
    for descriptor in from..=to.min(end) {
        // SAFETY: as above.
        unsafe { libc::close(RawFd::try_from(descriptor).unwrap_or(-1)) };
    }
}
