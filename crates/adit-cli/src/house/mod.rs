//! The house of every command that listens: it starts, is announced, is told to stop, and drains.

mod gate;
mod log;
mod passed;
mod places;
mod ready;
mod reload;
mod supervisor;

use std::time::Duration;

use adit::{Code, Error, Event, Observer, Running, What};
use tokio::sync::mpsc;

use crate::args;
use crate::exit::{Exit, SIGTERM};
use crate::runtime::{Heard, Patience, Signals};
use crate::say::Voice;

pub(crate) use gate::Gate;
use log::Log;
pub(crate) use passed::{Passed, is_passed};
pub(crate) use places::Places;
pub(crate) use ready::{Exposure, Ready, Taken, announce};
use supervisor::Supervisor;

/// How long the close of conversations may take after SIGINT.
pub(crate) const DRAIN_AT_KEYBOARD: Duration = Duration::from_secs(2);

/// What keeps servers running until they are told to stop.
pub(crate) struct House<'a> {
    flags: &'a args::House,
    /// Limits that the user has set: one that expires is what was asked for.
    limits: UsersLimits,
    voice: &'a Voice,
    signals: Signals,
    supervisor: Supervisor,
    once: Once,
    first_end: mpsc::Receiver<(Code, String)>,
}

/// The words of limits that the user has set.
pub(crate) type UsersLimits = Vec<Code>;

/// The words of those that are set.
pub(crate) fn users_limits(set: &[(bool, Code)]) -> UsersLimits {
    set.iter().filter(|(is_set, _)| *is_set).map(|(_, code)| *code).collect()
}

/// Why a server ends.
pub(crate) enum End {
    Signal(i32),
    /// `--once`: the conversation ended with this code; or standard output is gone.
    Once(Code),
    Broken(Error),
}

impl<'a> House<'a> {
    /// From here on signals are caught: whoever is told that the server is ready may signal it at once.
    pub(crate) fn new(flags: &'a args::House, limits: UsersLimits, voice: &'a Voice) -> Self {
        let patience = Patience { terminate: flags.drain, otherwise: DRAIN_AT_KEYBOARD };
        Self::with_patience(flags, limits, voice, patience)
    }

    /// For a command that has more to do at its end than to drain.
    pub(crate) fn with_patience(
        flags: &'a args::House,
        limits: UsersLimits,
        voice: &'a Voice,
        patience: Patience,
    ) -> Self {
        let signals = Signals::of_server(patience, flags.reload);
        let supervisor = Supervisor::of_environment(voice);
        let (sender, first_end) = mpsc::channel(1);
        let once = Once(flags.once.then_some(sender));
        Self { flags, limits, voice, signals, supervisor, once, first_end }
    }

    /// What every server of the command tells: the log, the events, the end of the first conversation.
    pub(crate) fn observer(&self) -> Told {
        Told { log: Log::new(self.voice), voice: self.voice.clone(), once: self.once.clone() }
    }

    /// The same without comings and goings: for a command that draws them.
    pub(crate) fn quiet_observer(&self) -> Told {
        Told { log: Log::of_trouble(self.voice), ..self.observer() }
    }

    /// Waits for the end; meanwhile prints counts and reads files again when asked to.
    pub(crate) async fn until_told(&mut self, servers: &[Running]) -> End {
        let (supervisor, voice) = (&self.supervisor, self.voice);
        let watch = supervisor.watch(servers);
        tokio::pin!(watch);
        loop {
            tokio::select! {
                heard = self.signals.next() => match heard {
                    Heard::End(signal) => return End::Signal(signal),
                    Heard::Report => report(servers, voice),
                    Heard::Reload => {
                        supervisor.reloading();
                        reload::reload(self.flags, servers, voice).await;
                        supervisor.ready(&ready::status(servers));
                    }
                },
                () = &mut watch => {}
                // Without --once nobody sends.
                Some((code, peer)) = self.first_end.recv() => {
                    // The status is that of this conversation: it says why.
                    if !code.is_clean() {
                        let hint = "what happened: -v or --json";
                        let what = format!("conversation with {peer} ended (code={code}); {hint}");
                        self.voice.warn(&what);
                    }
                    return End::Once(code);
                }
                error = broken(servers) => return End::Broken(error),
            }
        }
    }

    /// Drains; a second signal ends it at once.
    pub(crate) async fn close(&mut self, servers: Vec<Running>, ended: End) -> adit::Result<Exit> {
        let within = match ended {
            End::Signal(SIGTERM) => self.flags.drain,
            _ => DRAIN_AT_KEYBOARD,
        };
        self.supervisor.stopping();
        tokio::select! {
            // The end has a limit of its own.
            never = self.supervisor.watch(&[]) => never,
            exit = stop(within, servers, ended, &self.limits, self.voice) => exit,
            signal = self.signals.end() => Ok(Exit::signal(signal)),
        }
    }
}

async fn broken(servers: &[Running]) -> Error {
    match servers {
        [] => std::future::pending().await,
        [one] => one.broken().await,
        [one, two, ..] => tokio::select! {
            error = one.broken() => error,
            error = two.broken() => error,
        },
    }
}

/// Says the counts of all servers together, in one line.
fn report(servers: &[Running], voice: &Voice) {
    let mut total = nothing();
    for stats in servers.iter().map(Running::stats) {
        add(&mut total, &stats);
    }
    let adit::Stats { open, conversations, failed, refused, dropped, lag, .. } = total;
    let (bytes_in, bytes_out) = total.bytes.unzip();
    if voice.is_json() {
        let errors = failed;
        return voice.emit(
            None,
            What::Counts {
                open,
                conversations,
                errors,
                refused,
                dropped,
                lag,
                bytes_in,
                bytes_out,
            },
        );
    }
    let overflowed = match total.overflowed {
        0 => String::new(),
        count => format!(" {count} found the accept queue full,"),
    };
    let late = match lag.as_millis() {
        0 => String::new(),
        late => format!(" work late by {late} ms,"),
    };
    let bytes = match total.bytes {
        Some((came, went)) => format!(", in {came} B, out {went} B"),
        None => String::new(),
    };
    voice.warn(&format!(
        "{open} open, {conversations} in all, {failed} not clean, {refused} refused,{overflowed}{late} \
         {dropped} messages dropped{bytes}"
    ));
}

fn nothing() -> adit::Stats {
    let mut nothing = adit::Stats::default();
    nothing.bytes = Some((0, 0));
    nothing
}

fn add(total: &mut adit::Stats, stats: &adit::Stats) {
    total.open += stats.open;
    total.conversations += stats.conversations;
    total.closed += stats.closed;
    total.failed += stats.failed;
    total.refused += stats.refused;
    total.overflowed += stats.overflowed;
    total.lag = total.lag.max(stats.lag);
    total.dropped += stats.dropped;
    let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
    total.bytes = total.bytes.zip(stats.bytes).map(|(all, more)| sum(all, more));
}

/// Drains and says how it went.
async fn stop(
    within: Duration,
    servers: Vec<Running>,
    end: End,
    limits: &UsersLimits,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut total = nothing();
    let (mut finished, mut cut) = (0, 0);
    for server in servers {
        let (report, stats) = server.drain_with_stats(within).await;
        cut += report.cut;
        finished += report.finished;
        add(&mut total, &stats);
    }
    let exit = match end {
        End::Signal(SIGTERM) if cut == 0 => Exit::of(Code::Drained),
        End::Signal(signal) => Exit::signal(signal),
        End::Once(code) => Exit::limit(code, limits.contains(&code)),
        End::Broken(ref error) => Exit::of(error.code()),
    };
    voice.tell_unsaid();
    if matches!(end, End::Signal(_)) && (voice.is_watched() || voice.is_verbose() || cut > 0) {
        voice.note(&format!("told to stop: finished {finished} conversations, cut {cut}"));
    }
    let (bytes_in, bytes_out) = total.bytes.unzip();
    voice.emit(
        None,
        What::Summary {
            conversations: total.conversations,
            bytes_in,
            bytes_out,
            errors: total.failed,
            dropped: total.dropped + voice.dropped(),
            exit: exit.status(),
            code: exit.code,
        },
    );
    match end {
        End::Broken(error) => Err(error),
        _ => Ok(exit),
    }
}

/// Tells the main task how the first conversation ended. Whoever only knocked with an empty datagram, as
/// `adit wait` does, has not begun one.
#[derive(Clone)]
struct Once(Option<mpsc::Sender<(Code, String)>>);

impl Observer for Once {
    fn event(&self, event: &Event<'_>) {
        if let (Some(sender), What::Close { code, bytes_in, .. }) = (&self.0, &event.what) {
            if *bytes_in == Some(0) && event.peer.is_some_and(|peer| peer.transport().is_datagram())
            {
                return;
            }
            // Full: it was not the first one, and only that counts.
            let peer = event.peer.map(ToString::to_string).unwrap_or_default();
            let _only_the_first_counts = sender.try_send((*code, peer));
        }
    }
}

/// Everybody in the house who wants to know.
#[derive(Clone)]
pub(crate) struct Told {
    log: Log,
    voice: Voice,
    once: Once,
}

impl Told {
    /// Says of a peer that speaks TLS that it has come to the wrong place.
    pub(crate) fn noticing_tls(self) -> Self {
        Self { log: self.log.noticing_tls(), ..self }
    }
}

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        self.log.event(event);
        self.voice.event(event);
        self.once.event(event);
    }
}
