//! The runtime of a command, and the signals that end it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use adit::system::process::{catch, caught, end_by_signal, is_ignored};
use adit::{Blame, Code, Error, Result};

use crate::exit::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Runs a command on this thread.
pub(crate) fn block_on<T>(command: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::new(Code::Internal, Blame::Local, "cannot start").with_source(error)
    })?;
    let result = runtime.block_on(command);
    // A read of standard input that cannot be cancelled must not keep the process.
    runtime.shutdown_background();
    Ok(result)
}

/// How long a command may take to end after its first signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) terminate: Duration,
    pub(crate) otherwise: Duration,
}

impl Patience {
    /// It has nothing to finish.
    pub(crate) const NONE: Self = Self { terminate: Duration::ZERO, otherwise: Duration::ZERO };

    const fn of(self, number: i32) -> Duration {
        match number {
            SIGTERM => self.terminate,
            _ => self.otherwise,
        }
    }
}

/// Beyond its patience: what a command needs to say that it ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// After the second signal: what it needs to leave no socket's file behind.
const AT_ONCE: Duration = Duration::from_millis(250);

/// The signals a command listens to. Caught from the moment this is made, one after the other: none
/// that comes while another is dealt with is lost.
///
/// They arrive on a thread of their own, made when the command begins. Whatever the command waits for,
/// a reader that reads nothing for instance, that thread ends the process when it does not end itself:
/// some time after the first signal, at once after the second.
pub(crate) struct Signals {
    ends: Receiver<i32>,
    reports: Receiver<()>,
}

impl Signals {
    /// The signals that end a command.
    pub(crate) fn ends(patience: Patience) -> Self {
        Self::new(patience, false)
    }

    /// Those, and SIGUSR1.
    pub(crate) fn ends_and_report(patience: Patience) -> Self {
        Self::new(patience, true)
    }

    fn new(patience: Patience, with_report: bool) -> Self {
        // The first one, and the second; more are not listened to.
        let (told, ends) = channel(2);
        let (asked, reports) = channel(1);
        let watch = move || watch(patience, &told, &asked);
        let thread = std::thread::Builder::new().name("adit signals".to_owned());
        // Without the thread, signals keep their default effect, which ends the process too; so does one
        // that cannot be caught.
        if thread.spawn(watch).is_ok() {
            let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
            let report = with_report.then_some(SIGUSR1);
            for number in [Some(SIGINT), Some(SIGTERM), hangup, report].into_iter().flatten() {
                drop(catch(number));
            }
        }
        Self { ends, reports }
    }

    /// Waits for the next signal; gives its number, or none for SIGUSR1.
    pub(crate) async fn next(&mut self) -> Option<i32> {
        tokio::select! {
            Some(number) = self.ends.recv() => Some(number),
            Some(()) = self.reports.recv() => None,
            else => std::future::pending().await,
        }
    }

    /// Waits for a signal that ends the command; gives its number.
    pub(crate) async fn end(&mut self) -> i32 {
        loop {
            if let Some(number) = self.next().await {
                return number;
            }
        }
    }
}

/// What the thread does: hands signals on, and sees to it that they are heeded.
fn watch(patience: Patience, told: &Sender<i32>, asked: &Sender<()>) {
    let first = loop {
        match caught(None) {
            // One that waits to be made is enough.
            Some(SIGUSR1) => {
                let _asked = asked.try_send(());
            }
            Some(number) => break number,
            None => {}
        }
    };
    // There is room for two, and a command that has ended already hears neither.
    let _told = told.try_send(first);
    let last = match end_within(patience.of(first).saturating_add(LAST_WORDS)) {
        Some(second) => {
            let _told = told.try_send(second);
            std::thread::sleep(AT_ONCE);
            second
        }
        None => first,
    };
    // It returns only if the signal has no such effect, and then there is nothing left to try.
    drop(end_by_signal(last));
}

/// A signal that ends the command, if one comes in time.
fn end_within(time: Duration) -> Option<i32> {
    let end = Instant::now().checked_add(time);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return None;
        }
        if let Some(number) = caught(left)
            && number != SIGUSR1
        {
            return Some(number);
        }
    }
}
