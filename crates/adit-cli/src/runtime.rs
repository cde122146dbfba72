//! The runtime of a command, and the signals that end it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use adit::system::descriptors::{OF_A_RUNTIME, find_room};
use adit::system::process::{catch, caught, end_by_signal, has_terminal, is_ignored};
use adit::{Blame, Code, Error, Result};

use crate::exit::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Runs a command on this thread.
pub(crate) fn block_on<T>(command: impl Future<Output = T>) -> Result<T> {
    let runtime = find_room(OF_A_RUNTIME)
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = runtime.map_err(|error| {
        let code = adit::code_of(&error);
        let failed = Error::new(code, Blame::Local, "cannot start").with_source(error);
        match code {
            Code::NoDescriptors => failed.with_hint("a larger limit on open files: ulimit -n 1024"),
            _ => failed,
        }
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
    reloads: Receiver<()>,
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The end, by the signal of this number.
    End(i32),
    /// Counts are wanted.
    Report,
    /// Files are to be read again.
    Reload,
}

impl Signals {
    /// The signals that end a command.
    pub(crate) fn ends(patience: Patience) -> Self {
        let (_nobody_asks, reports) = channel(1);
        let (_nobody_asks, reloads) = channel(1);
        let (ends, watch) = Watch::new(patience);
        Self { ends, reports, reloads }.heard_by(watch, false)
    }

    /// Those of a server: SIGUSR1 too, and SIGHUP as `--reload` says. Without a terminal there is nobody
    /// who could hang up, so that it means what it means to every server there.
    pub(crate) fn of_server(patience: Patience, asks_to_reload: bool) -> Self {
        let (report, reports) = channel(1);
        let (reload, reloads) = channel(1);
        let (ends, mut watch) = Watch::new(patience);
        watch.reports = Some(report);
        watch.reloads = (asks_to_reload || !has_terminal()).then_some(reload);
        Self { ends, reports, reloads }.heard_by(watch, asks_to_reload)
    }

    /// Has a thread listen. Where SIGHUP is ignored it stays so, unless it `has_use` all the same.
    fn heard_by(self, watch: Watch, has_use: bool) -> Self {
        let report = watch.reports.is_some().then_some(SIGUSR1);
        let thread = std::thread::Builder::new().name("adit signals".to_owned());
        // Without the thread, signals keep their default effect, which ends the process too; so does one
        // that cannot be caught.
        if thread.spawn(move || watch.run()).is_ok() {
            let hangup = (has_use || !is_ignored(SIGHUP)).then_some(SIGHUP);
            for number in [Some(SIGINT), Some(SIGTERM), hangup, report].into_iter().flatten() {
                drop(catch(number));
            }
        }
        self
    }

    /// Waits for the next signal.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Heard {
        tokio::select! {
            Some(number) = self.ends.recv() => Heard::End(number),
            Some(()) = self.reports.recv() => Heard::Report,
            Some(()) = self.reloads.recv() => Heard::Reload,
            else => std::future::pending().await,
        }
    }

    /// Waits for a signal that ends the command; gives its number.
    pub(crate) async fn end(&mut self) -> i32 {
        loop {
            if let Heard::End(number) = self.next().await {
                return number;
            }
        }
    }
}

/// What the thread does: hands signals on, and sees to it that they are heeded.
struct Watch {
    patience: Patience,
    ends: Sender<i32>,
    reports: Option<Sender<()>>,
    /// None where SIGHUP is an end.
    reloads: Option<Sender<()>>,
}

impl Watch {
    fn new(patience: Patience) -> (Receiver<i32>, Self) {
        // The first one, and the second; more are not listened to.
        let (ends, heard) = channel(2);
        (heard, Self { patience, ends, reports: None, reloads: None })
    }

    fn run(self) {
        let first = loop {
            if let Some(number) = caught(None).and_then(|number| self.end(number)) {
                break number;
            }
        };
        // There is room for two, and a command that has ended already hears neither.
        let _told = self.ends.try_send(first);
        let last = match self.end_within(self.patience.of(first).saturating_add(LAST_WORDS)) {
            Some(second) => {
                let _told = self.ends.try_send(second);
                std::thread::sleep(AT_ONCE);
                second
            }
            None => first,
        };
        // It returns only if the signal has no such effect, and then there is nothing left to try.
        drop(end_by_signal(last));
    }

    /// Hands on a signal that is no end; gives the number of one that is.
    fn end(&self, number: i32) -> Option<i32> {
        let asked = match number {
            SIGUSR1 => self.reports.as_ref(),
            SIGHUP => self.reloads.as_ref(),
            _ => None,
        };
        match asked {
            // One that waits to be done is enough.
            Some(asked) => {
                let _asked = asked.try_send(());
                None
            }
            None => Some(number),
        }
    }

    /// A signal that ends the command, if one comes in time.
    fn end_within(&self, time: Duration) -> Option<i32> {
        let end = Instant::now().checked_add(time);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            if let Some(number) = caught(left).and_then(|number| self.end(number)) {
                return Some(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Patience, Watch, channel};
    use crate::exit::{SIGHUP, SIGTERM, SIGUSR1};

    #[test]
    fn a_signal_that_asks_for_something_is_no_end_and_asks_once() {
        let (_ends, mut watch) = Watch::new(Patience::NONE);
        assert_eq!((watch.end(SIGHUP), watch.end(SIGTERM)), (Some(SIGHUP), Some(SIGTERM)));
        let (report, mut reports) = channel(1);
        let (reload, mut reloads) = channel(1);
        (watch.reports, watch.reloads) = (Some(report), Some(reload));
        for number in [SIGHUP, SIGUSR1, SIGHUP, SIGUSR1] {
            assert_eq!(watch.end(number), None);
        }
        assert_eq!(watch.end(SIGTERM), Some(SIGTERM));
        assert!(reloads.try_recv().is_ok() && reports.try_recv().is_ok());
        assert!(reloads.try_recv().is_err() && reports.try_recv().is_err());
    }
}
