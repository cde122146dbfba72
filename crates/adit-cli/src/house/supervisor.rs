//! Supervisor: the service manager that has started us, and what it is told (`sd_notify(3)`).

use std::time::Duration;

use adit::Running;
use adit::system::supervisor::{self, monotonic_us};

use crate::say::Voice;

/// Whoever waits at `NOTIFY_SOCKET`; nobody where there is none.
pub(crate) struct Supervisor {
    socket: Option<supervisor::Supervisor>,
    /// How often it wants to hear that all is well.
    watchdog: Option<Duration>,
    voice: Voice,
}

/// Nobody checks more often; and an interval of nothing would be no interval.
const WATCHDOG_MIN: Duration = Duration::from_millis(2);

impl Supervisor {
    /// As the environment says.
    pub(super) fn of_environment(voice: &Voice) -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let found = supervisor::Supervisor::at(&address);
            found.map_err(|error| complain(voice, &error)).ok()
        });
        let watchdog = watchdog().filter(|_| socket.is_some());
        Self { socket, watchdog, voice: voice.clone() }
    }

    /// Every socket listens.
    pub(super) fn ready(&self, status: &str) {
        // A line break in it, as the path of a socket may have, would begin another word.
        let status = adit::escape::escape_line(status.as_bytes(), STATUS_CHARS_MAX);
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Files are being read again; [`ready`](Self::ready) says when that is done.
    pub(super) fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_us()));
    }

    /// Nobody new is let in any more.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what there is\n");
    }

    /// Feeds the watchdog, for ever; each time only once every I/O thread has answered, so that one
    /// that is held up is found.
    pub(super) async fn watch(&self, servers: &[Running]) -> ! {
        let Some(every) = self.watchdog else {
            loop {
                std::future::pending::<()>().await;
            }
        };
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            for server in servers {
                server.pulse().await;
            }
            self.tell("WATCHDOG=1\n");
        }
    }

    /// One datagram; nothing where nobody waits for it.
    fn tell(&self, lines: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.tell(lines)) {
            complain(&self.voice, &error);
        }
    }
}

/// How often the watchdog is to be fed: twice in its time, as `sd_watchdog_enabled(3)` says.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let is_ours = std::env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(std::process::id().into());
    let within_us = number("WATCHDOG_USEC").filter(|within_us| *within_us > 0 && is_ours)?;
    Some(Duration::from_micros(within_us).max(WATCHDOG_MIN) / 2)
}

fn complain(voice: &Voice, error: &std::io::Error) {
    voice.warn(&format!("the service manager at NOTIFY_SOCKET cannot be told: {error}"));
}

/// Characters of a status: systemctl shows one line of it.
const STATUS_CHARS_MAX: usize = 300;
