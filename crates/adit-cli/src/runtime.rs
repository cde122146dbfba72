//! The runtime of a command, and the signals that end it.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep};

use adit::system::process::{end_by_signal, is_ignored};
use adit::{Blame, Code, Error, Result};

use crate::exit::{SIGHUP, SIGINT, SIGTERM};

/// Runs a command on this thread.
pub(crate) fn block_on<T>(command: impl Future<Output = T>) -> Result<T> {
    let runtime = runtime().map_err(|error| {
        Error::new(Code::Internal, Blame::Local, "cannot start").with_source(error)
    })?;
    let result = runtime.block_on(command);
    // A read of standard input that cannot be cancelled must not keep the process.
    runtime.shutdown_background();
    Ok(result)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
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
        let (ready, is_ready) = sync_channel(1);
        let watch = move || {
            let Ok(runtime) = runtime() else { return };
            runtime.block_on(watch(patience, (told, asked), with_report, ready));
        };
        let thread = std::thread::Builder::new().name("adit signals".to_owned());
        // Without the thread, signals keep their default effect, which ends the process too.
        if thread.spawn(watch).is_ok() {
            let _none_if_they_cannot_be_caught = is_ready.recv();
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
async fn watch(
    patience: Patience,
    (told, asked): (Sender<i32>, Sender<()>),
    with_report: bool,
    ready: SyncSender<()>,
) {
    let mut caught = Caught::new(with_report);
    let _who_waits_for_it_has_not_gone = ready.send(());
    let first = loop {
        match caught.next().await {
            Some(number) => break number,
            None => {
                let _none_if_one_waits = asked.try_send(());
            }
        }
    };
    // There is room for two, and a command that has ended already hears neither.
    let _told = told.try_send(first);
    let deadline = Instant::now().checked_add(patience.of(first) + LAST_WORDS);
    let last = tokio::select! {
        second = caught.end() => {
            let _told = told.try_send(second);
            sleep(AT_ONCE).await;
            second
        }
        () = until(deadline) => first,
    };
    // It returns only if the signal has no such effect, and then there is nothing left to try.
    drop(end_by_signal(last));
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What the system tells.
struct Caught {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
    report: Option<Signal>,
}

impl Caught {
    fn new(with_report: bool) -> Self {
        // One that cannot be caught keeps its default effect, which ends the process too.
        let caught = |kind| signal(kind).ok();
        let hangup = !is_ignored(SIGHUP);
        Self {
            interrupt: caught(SignalKind::interrupt()),
            terminate: caught(SignalKind::terminate()),
            hangup: hangup.then(|| caught(SignalKind::hangup())).flatten(),
            report: with_report.then(|| caught(SignalKind::user_defined1())).flatten(),
        }
    }

    async fn next(&mut self) -> Option<i32> {
        tokio::select! {
            () = come(&mut self.interrupt) => Some(SIGINT),
            () = come(&mut self.terminate) => Some(SIGTERM),
            () = come(&mut self.hangup) => Some(SIGHUP),
            () = come(&mut self.report) => None,
        }
    }

    async fn end(&mut self) -> i32 {
        loop {
            if let Some(number) = self.next().await {
                return number;
            }
        }
    }
}

async fn come(signal: &mut Option<Signal>) {
    let came = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if came.is_none() {
        std::future::pending::<()>().await;
    }
}
