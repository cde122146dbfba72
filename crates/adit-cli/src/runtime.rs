//! The runtime of a command, and the signals that end it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use adit::{Blame, Code, Error, Result};

use crate::exit::{SIGHUP, SIGINT, SIGTERM};

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

/// The signals a command listens to. Caught from the moment this is made, one after the other: none
/// that comes while another is dealt with is lost.
pub(crate) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
    report: Option<Signal>,
}

impl Signals {
    /// The signals that end a command.
    pub(crate) fn ends() -> Self {
        // One that cannot be caught keeps its default effect, which ends the process too.
        let caught = |kind| signal(kind).ok();
        let hangup = !adit::system::process::is_ignored(SIGHUP);
        Self {
            interrupt: caught(SignalKind::interrupt()),
            terminate: caught(SignalKind::terminate()),
            hangup: hangup.then(|| caught(SignalKind::hangup())).flatten(),
            report: None,
        }
    }

    /// Those, and SIGUSR1.
    pub(crate) fn ends_and_report() -> Self {
        Self { report: signal(SignalKind::user_defined1()).ok(), ..Self::ends() }
    }

    /// Waits for the next signal; gives its number, or none for SIGUSR1.
    pub(crate) async fn next(&mut self) -> Option<i32> {
        tokio::select! {
            () = come(&mut self.interrupt) => Some(SIGINT),
            () = come(&mut self.terminate) => Some(SIGTERM),
            () = come(&mut self.hangup) => Some(SIGHUP),
            () = come(&mut self.report) => None,
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

async fn come(signal: &mut Option<Signal>) {
    let came = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if came.is_none() {
        std::future::pending::<()>().await;
    }
}
