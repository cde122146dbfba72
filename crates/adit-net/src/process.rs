//! Ending processes by signals, hearing of them, and keeping their memory to themselves.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use rustix::fs::Timespec;
use rustix::process::{DumpableBehavior, Pid, Signal, getpid, kill_process, set_dumpable_behavior};
use rustix::thread::futex;

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

/// SIGUSR1, whose number is not the same on every kind of machine.
pub const USR1: i32 = libc::SIGUSR1;

/// Signals that have come and were not taken yet: signal n is bit n - 1.
static CAUGHT: AtomicU32 = AtomicU32::new(0);

/// From now on a signal is kept for [`caught`] instead of what it did before. Needs no descriptor.
///
/// # Errors
/// It cannot be caught (sigaction(2)), or its number is not between 1 and 31.
pub fn catch(number: i32) -> io::Result<()> {
    if !(1..32).contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    crate::sys::catch_signal(number, note)
}

/// Runs in the middle of anything: it takes no lock and allocates nothing. The system call is made without
/// the C library, so no error number of the interrupted code is lost.
extern "C" fn note(number: i32) {
    CAUGHT.fetch_or(1_u32.wrapping_shl((number - 1).cast_unsigned()), SeqCst);
    let _woken_or_nobody_waits = futex::wake(&CAUGHT, futex::Flags::PRIVATE, 1);
}

/// Waits for a signal that is [caught](catch), about as long as `within`, and gives its number. None may
/// come early: whoever waits for a time looks at the clock. One thread waits; the same signal twice before
/// it looks is one.
pub fn caught(within: Option<Duration>) -> Option<i32> {
    if CAUGHT.load(SeqCst) == 0 {
        let within = within.and_then(|within| Timespec::try_from(within).ok());
        let _whatever_woke_it = futex::wait(&CAUGHT, futex::Flags::PRIVATE, 0, within.as_ref());
    }
    let set = CAUGHT.load(SeqCst);
    if set == 0 {
        return None;
    }
    let bit = set.trailing_zeros();
    CAUGHT.fetch_and(!(1 << bit), SeqCst);
    i32::try_from(bit + 1).ok()
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

/// Has this process a controlling terminal (tty(4)), which hangs up when the person at it leaves?
pub fn has_terminal() -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Anything but "no such device or address" means that there is one, and that it is out of reach.
    !matches!(open("/dev/tty", flags, Mode::empty()), Err(rustix::io::Errno::NXIO))
}

/// What a thread has had of its processor, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turns {
    /// For how long it has run.
    pub ran: Duration,
    /// For how long it was ready to run while others had the processor.
    pub waited: Duration,
}

impl Turns {
    /// What has come since an earlier look.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// What this thread has had of its processor (proc(5), `schedstat`). Some microseconds of work, and a
/// descriptor for as long. None where that cannot be read, or the kernel does not count it.
pub fn turns() -> Option<Turns> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut numbers = told.split_ascii_whitespace().map_while(|number| number.parse().ok());
    let mut next = || numbers.next().map(Duration::from_nanos);
    Some(Turns { ran: next()?, waited: next()? }).filter(|turns| *turns != Turns::default())
}

/// From now on nobody reads this process's memory but root: no dump is written of it, and no other process of
/// its user may trace it (prctl(2), `PR_SET_DUMPABLE`). For whoever holds a secret.
///
/// A fork is kept the same way, a program that it executes is not. The price: its files in /proc belong to
/// root, so that its user cannot see which descriptors it has, or attach a debugger.
///
/// # Errors
/// None is known but a filter that forbids the call.
pub fn hide_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
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

// Miri has no /proc of its own.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::{catch, caught, getpid, ignored, is_ignored, kill_process, turns};
    use rustix::process::Signal;
    use std::time::{Duration, Instant};

    #[test]
    fn a_signal_that_is_caught_is_heard_once() {
        let signal = Signal::USR2;
        catch(signal.as_raw()).unwrap();
        let within = Some(Duration::from_secs(20));
        for _ in 0..3 {
            let waiting = std::thread::spawn(move || {
                // It may be woken for nothing; not so often.
                (0..100).find_map(|_| caught(within))
            });
            kill_process(getpid(), signal).unwrap();
            assert_eq!(waiting.join().unwrap(), Some(signal.as_raw()));
        }
        assert_eq!(caught(Some(Duration::from_millis(1))), None);
        for number in [0, -1, 32, Signal::KILL.as_raw()] {
            catch(number).unwrap_err();
        }
    }

    #[test]
    fn a_thread_knows_for_how_long_it_ran_and_for_how_long_others_had_its_processor() {
        let processors = std::thread::available_parallelism().unwrap().get();
        let busy = || {
            let (before, end) =
                (turns().unwrap_or_default(), Instant::now() + Duration::from_millis(100));
            while Instant::now() < end {}
            turns().unwrap().since(before)
        };
        let threads: Vec<_> = (0..2 * processors).map(|_| std::thread::spawn(busy)).collect();
        let had: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let (ran, waited): (Vec<_>, Vec<_>) = had.iter().map(|had| (had.ran, had.waited)).unzip();
        // Half of the time of each, if it was their processor alone.
        let (ran, waited): (Duration, Duration) = (ran.iter().sum(), waited.iter().sum());
        assert!(ran.min(waited) > Duration::from_millis(10), "{ran:?} {waited:?}");
    }

    #[test]
    fn the_set_of_ignored_signals_is_read() {
        let status = "Name:\tadit\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), Some(0x1001));
        assert_eq!(ignored("Name:\tadit\n"), None);
        // Rust programs start with SIGPIPE ignored.
        assert!(is_ignored(13) && !is_ignored(11));
    }
}
