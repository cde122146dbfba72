//! The runtime of a command, and the signals that end it.

use tokio::signal::unix::{SignalKind, signal};

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

/// Waits for SIGINT, SIGTERM or SIGHUP; gives its number.
pub(crate) async fn end_signal() -> i32 {
    tokio::select! {
        number = caught(SignalKind::interrupt(), SIGINT) => number,
        number = caught(SignalKind::terminate(), SIGTERM) => number,
        number = caught(SignalKind::hangup(), SIGHUP) => number,
    }
}

/// Waits for one signal, again and again.
async fn caught(kind: SignalKind, number: i32) -> i32 {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
            number
        }
        // Not caught, it keeps its default effect, which ends the process too.
        Err(_) => std::future::pending().await,
    }
}

/// Waits for SIGUSR1.
pub(crate) async fn report_signal() {
    caught(SignalKind::user_defined1(), 0).await;
}
