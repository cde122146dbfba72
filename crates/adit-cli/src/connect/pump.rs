//! One connection of a `connect`: both directions at once, each with an end of its own.

use std::io;
use std::pin::pin;
use std::time::Duration;

use adit::{Code, Conn, Limit, Look, ReadHalf, What, WriteHalf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use super::input::Input;
use super::output::Output;
use super::settle::{Settled, code_of, settle, unconfirmed};
use super::{HASTY, default_end};
use crate::args::{Connect, End, Eof};
use crate::exit::Exit;
use crate::say::{self, Voice};

/// What the flags say about a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    end: Option<End>,
    eof: Eof,
    linger: Option<Duration>,
    idle: Limit<Duration>,
    stall: Limit<Duration>,
    stall_by_user: bool,
    max_time: Limit<Duration>,
    discard: bool,
    receive_only: bool,
    /// A peer that ends while there is input left is a lost link, not the end.
    reconnects: bool,
}

/// How long the peer may take nothing: 120 s unless the user says otherwise.
pub(super) fn stall(args: &Connect) -> Limit<Duration> {
    args.limits.stall.unwrap_or(Limit::At(Duration::from_secs(120)))
}

impl Settings {
    pub(super) fn of(args: &Connect, reconnects: bool) -> Self {
        Self {
            end: args.end,
            eof: args.eof,
            linger: args.linger,
            idle: args.limits.idle.unwrap_or(Limit::Off),
            stall: stall(args),
            stall_by_user: args.limits.stall.is_some(),
            max_time: args.limits.max_time.unwrap_or(Limit::Off),
            discard: args.send_only,
            receive_only: args.recv_only,
            reconnects,
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// The link was lost before the conversation was over.
    pub(super) is_lost_link: bool,
    pub(super) unconfirmed: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// What happened, in words.
    pub(super) text: String,
    /// It was said where it happened.
    pub(super) is_said: bool,
}

/// One connection with the input and output it serves.
pub(super) struct Session<'a> {
    settings: Settings,
    voice: &'a Voice,
    input: &'a mut Input,
    output: &'a mut Output,
    look: Look,
}

/// Why both directions have stopped.
enum Stop {
    /// Everything that was to end has ended.
    Clean,
    /// The peer has ended although there is input left.
    PeerLeft,
    /// The connection broke.
    Broken(io::Error),
    /// A limit expired.
    Limit(Code, bool),
    /// Standard input cannot be read.
    Input(io::Error),
    /// Nobody reads standard output any more.
    Output(Code),
}

/// How our direction stopped.
enum Sent {
    /// The input is over, and so is our direction unless it is held open.
    End(Option<WriteHalf>),
    Broken(io::Error),
    Input(io::Error),
}

/// The kernel gives a peer up by its next probe after the limit, and knows more than that bytes are lost:
/// its word is waited for.
const KERNELS_DELAY: Duration = Duration::from_millis(1500);

/// How the peer's direction stopped.
enum Received {
    End,
    Broken(io::Error),
    Output(Code),
}

impl<'a> Session<'a> {
    pub(super) fn new(
        settings: Settings,
        voice: &'a Voice,
        input: &'a mut Input,
        output: &'a mut Output,
        look: Look,
    ) -> Self {
        Self { settings, voice, input, output, look }
    }

    /// Carries both directions to their ends, then makes sure that everything arrived.
    pub(super) async fn run(mut self, conn: Conn) -> Ended {
        let stop = self.carry(conn).await;
        self.end(stop).await
    }

    async fn carry(&mut self, conn: Conn) -> Stop {
        let (read, write) = conn.split();
        let Self { settings, voice, input, output, look } = self;
        let is_terminal = input.is_terminal();
        let end = settings.end.unwrap_or_else(|| default_end(is_terminal));
        let mut sending = pin!(send(input, write, settings.eof));
        // Who is still to come may say more.
        let is_last = !settings.reconnects;
        let mut receiving = pin!(receive(output, read, settings.discard, is_last));
        let mut expiring = pin!(expire(look, *settings));
        let (mut sent, mut peer_ended) = (false, false);
        // A write that fails does not end the reading: what the peer said before is still printed,
        // and reading tells whether it was a reset.
        let mut broken: Option<io::Error> = None;
        let mut input_ended: Option<Instant> = None;
        let mut held_open = None;
        loop {
            let linger = settings.linger.zip(input_ended).map(|(linger, since)| since + linger);
            tokio::select! {
                biased;
                received = &mut receiving, if !peer_ended => match received {
                    Received::Broken(error) => return Stop::Broken(broken.unwrap_or(error)),
                    Received::Output(code) => return Stop::Output(code),
                    Received::End => {
                        peer_ended = true;
                        if let Some(error) = broken {
                            return Stop::Broken(error);
                        }
                        note_hasty_close(voice, look, input_ended);
                        if is_terminal && !sent {
                            // Else the prompt of the shell would come out of the blue.
                            voice.detail(&format!("{} has ended the connection", look.remote()));
                        }
                        if sent || end == End::Peer || settings.receive_only {
                            return Stop::Clean;
                        }
                        if settings.reconnects {
                            return Stop::PeerLeft;
                        }
                    }
                },
                ended = &mut sending, if !sent => match ended {
                    Sent::Input(error) => return Stop::Input(error),
                    Sent::Broken(error) if peer_ended => return Stop::Broken(error),
                    Sent::Broken(error) => {
                        sent = true;
                        broken = Some(error);
                    }
                    Sent::End(held) => {
                        sent = true;
                        held_open = held.or(held_open);
                        input_ended = Some(Instant::now());
                        if peer_ended || end == End::Local || settings.discard {
                            drop(held_open);
                            return Stop::Clean;
                        }
                    }
                },
                (code, by_user) = &mut expiring => return Stop::Limit(code, by_user),
                () = sleep_until(linger.unwrap_or_else(Instant::now)), if linger.is_some() => {
                    return Stop::Limit(Code::LingerTimeout, true);
                }
            }
        }
    }

    /// Everything that can be known about the end, in one place.
    async fn end(self, stop: Stop) -> Ended {
        let patience = self.settings.stall.at().map(|limit| limit + KERNELS_DELAY);
        // What failed here was said where it failed; the connection is not to blame.
        let is_said = matches!(stop, Stop::Input(_) | Stop::Output(_));
        let mut broken_tls = None;
        let (exit, is_lost_link, settled) = match stop {
            Stop::Clean => {
                let settled = settle(&self.look, self.settings.stall, patience).await;
                (self.given_up(settled.code), settled.code != Code::Ok, settled)
            }
            Stop::PeerLeft => {
                let settled = settle(&self.look, self.settings.stall, Some(HASTY)).await;
                (Exit::of(settled.code), true, settled)
            }
            Stop::Broken(error) => {
                let code = code_of(&self.look, &error, self.settings.stall);
                broken_tls = tls_text(code, &error);
                (self.given_up(code), true, self.as_it_is(code))
            }
            Stop::Limit(code, by_user) => (Exit::limit(code, by_user), false, self.as_it_is(code)),
            Stop::Input(error) => {
                let text = format!("cannot read standard input: {error}");
                self.voice.failure(Code::Internal, &text, "stdin");
                (Exit::of(Code::Internal), false, self.as_it_is(Code::Internal))
            }
            Stop::Output(code) => (Exit::of(code), false, self.as_it_is(code)),
        };
        let (bytes_in, bytes_out) = self.look.bytes();
        let text = broken_tls.unwrap_or_else(|| self.text(settled));
        self.tell(settled);
        let unconfirmed = settled.unconfirmed;
        Ended { exit, is_lost_link, unconfirmed, bytes_in, bytes_out, text, is_said }
    }

    /// The end by a broken connection; the limit by which the kernel gives a peer up may be the user's.
    fn given_up(&self, code: Code) -> Exit {
        let is_by_limit = matches!(code, Code::DeadPeer | Code::StallTimeout);
        Exit::limit(code, is_by_limit && self.settings.stall_by_user)
    }

    fn as_it_is(&self, code: Code) -> Settled {
        Settled { code, unconfirmed: unconfirmed(&self.look) }
    }

    fn tell(&self, settled: Settled) {
        let Settled { code, unconfirmed } = settled;
        let ((bytes_in, bytes_out), lasted) = (self.look.bytes(), self.look.lasted());
        let of = Some((self.look.number(), self.look.remote()));
        if unconfirmed > 0 {
            self.voice.emit(of, What::Lost { code, bytes_in, bytes_out, unconfirmed });
        }
        let (bytes_in, bytes_out) = (Some(bytes_in), Some(bytes_out));
        self.voice.emit(of, What::Close { code, bytes_in, bytes_out, lasted });
    }

    fn text(&self, settled: Settled) -> String {
        let (bytes_in, bytes_out) = self.look.bytes();
        let (remote, code) = (self.look.remote(), settled.code);
        let counts = format!("after {} in, {} out", size(bytes_in), size(bytes_out));
        let counts = match settled.unconfirmed {
            0 => counts,
            unconfirmed => format!("{counts}, {} unconfirmed", size(unconfirmed)),
        };
        let what = match code {
            Code::Ok => format!("connection to {remote} ended"),
            Code::Reset => format!("connection to {remote} reset by the peer"),
            Code::Truncated => {
                format!(
                    "answer cut short: TLS stream from {remote} ended without its closing message"
                )
            }
            Code::DeadPeer => format!("{remote} does not answer any more"),
            Code::Lost => format!("{remote} ended and did not acknowledge everything"),
            Code::IdleTimeout => format!("no byte to or from {remote} for too long"),
            Code::StallTimeout => format!("{remote} takes nothing of what it is owed"),
            Code::LingerTimeout => format!("{remote} did not end after our end of input"),
            Code::MaxTime => format!("time is over for the connection to {remote}"),
            _ => format!("connection to {remote} ended"),
        };
        format!("{what} {counts} (code={code})")
    }
}

/// What TLS says of a break in the middle, such as that our certificate is not accepted.
fn tls_text(code: Code, error: &io::Error) -> Option<String> {
    let within = error.get_ref()?.downcast_ref::<adit::Error>()?;
    (code != Code::Truncated).then(|| say::error_text(within))
}

/// Carries the input to the peer.
async fn send(input: &mut Input, mut write: WriteHalf, eof: Eof) -> Sent {
    loop {
        let piece = match input.next().await {
            Ok(piece) => piece,
            Err(error) => return Sent::Input(error),
        };
        if piece.is_empty() {
            // Dropping our half announces the end; held, it is dropped when the peer has ended.
            return Sent::End((eof == Eof::Hold).then_some(write));
        }
        match write.write(piece).await {
            Ok(bytes) => input.took(bytes),
            Err(error) => return Sent::Broken(error),
        }
    }
}

/// Carries what the peer says to standard output.
async fn receive(
    output: &mut Output,
    mut read: ReadHalf,
    discard: bool,
    is_last: bool,
) -> Received {
    loop {
        let mut piece = Vec::with_capacity(adit::system::stdio::PIECE);
        tokio::select! {
            biased;
            read = read.read_buf(&mut piece) => match read {
                Ok(0) if is_last => {
                    output.peer_ended().await;
                    return Received::End;
                }
                Ok(0) => return Received::End,
                Ok(_) => {}
                Err(error) => return Received::Broken(error),
            },
            code = output.failed() => return Received::Output(code),
        }
        if !discard && let Err(code) = output.write(piece).await {
            return Received::Output(code);
        }
    }
}

/// Returns when a limit has expired, and whether the user has set it.
async fn expire(look: &Look, settings: Settings) -> (Code, bool) {
    let began = Instant::now();
    loop {
        let mut next = Duration::from_secs(3600);
        if let Some(limit) = settings.max_time.at() {
            match limit.checked_sub(began.elapsed()) {
                Some(left) => next = next.min(left),
                None => return (Code::MaxTime, true),
            }
        }
        if let Some(limit) = settings.idle.at() {
            match limit.checked_sub(look.idle_for()) {
                Some(left) => next = next.min(left),
                None => return (Code::IdleTimeout, true),
            }
        }
        if let Some(limit) = settings.stall.at() {
            match limit.checked_sub(look.stalled_for().unwrap_or_default()) {
                Some(left) => next = next.min(left.min(limit / 2)),
                None => return (Code::StallTimeout, settings.stall_by_user),
            }
        }
        tokio::time::sleep(next.max(Duration::from_millis(1))).await;
    }
}

/// Some servers take the end of our input for a hang-up: worth a word when it looks like that.
fn note_hasty_close(voice: &Voice, look: &Look, input_ended: Option<Instant>) {
    let hasty = input_ended.is_some_and(|since| since.elapsed() < HASTY);
    if hasty && look.bytes() == (0, look.bytes().1) && look.bytes().1 > 0 {
        voice.detail(
            "the peer closed at once and said nothing; if it takes an end of input for a \
             hang-up: --eof hold",
        );
    }
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (name, unit) in UNITS {
        if bytes >= unit {
            let tenths = bytes / (unit / 10);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(3_149_999), "3.1 MB");
        assert_eq!(size(1_000_000_000), "1.0 GB");
    }
}
