//! A `connect` over datagrams: every message keeps its edges, and nothing says that it is over.

use std::io;
use std::time::Duration;

use adit::{Address, Blame, Code, Datagrams, Dial, Error, What};
use tokio::time::{Instant, sleep_until};

use super::input::Input;
use super::output::Output;
use crate::args::Connect;
use crate::exit::Exit;
use crate::frame::{Frame, Splitter};
use crate::say::Voice;

/// How long the first answer may take after the end of input.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// After this much quiet nothing more is expected.
const QUIET: Duration = Duration::from_secs(1);

/// What has happened so far.
#[derive(Default)]
struct Count {
    sent: u64,
    received: u64,
    bytes_out: u64,
    bytes_in: u64,
    /// Messages with a newline inside, which `line` prints as it is.
    with_newline: u64,
}

/// Talks to a datagram server until the input is over and nothing more comes.
pub(super) async fn talk(
    args: &Connect,
    address: &Address,
    dial: &Dial,
    voice: &Voice,
) -> adit::Result<Exit> {
    let frame = match &args.frame {
        Some(text) => Frame::parse(text)?,
        None => Frame::Line,
    };
    let socket = dial.datagrams(address).await?;
    voice.emit(
        Some((socket.number(), socket.remote())),
        What::Open { local: socket.local().as_ref(), via: None, tls: None },
    );
    if voice.is_verbose() {
        let local = socket.local().map_or_else(String::new, |local| local.place_text());
        voice.note(&format!("sending to {} from {local}", socket.remote()));
    }
    let mut talk = Talk {
        args,
        voice,
        socket: &socket,
        count: Count::default(),
        output: Output::new(voice, args.talk.raw),
        frame: frame.clone(),
        last: Instant::now(),
    };
    let began = Instant::now();
    let mut ended = talk.run(Splitter::new(frame)).await;
    if let Err(code) = talk.output.finish().await {
        ended = Ok(Exit::of(code));
    }
    let Count { bytes_in, bytes_out, .. } = talk.count;
    let code = ended.as_ref().map_or_else(Error::code, |exit| exit.code);
    let lasted = began.elapsed();
    voice.emit(
        Some((socket.number(), socket.remote())),
        What::Close { code, bytes_in: Some(bytes_in), bytes_out: Some(bytes_out), lasted },
    );
    ended
}

struct Talk<'a> {
    args: &'a Connect,
    voice: &'a Voice,
    socket: &'a Datagrams,
    count: Count,
    output: Output,
    frame: Frame,
    last: Instant,
}

impl Talk<'_> {
    async fn run(&mut self, mut splitter: Splitter) -> adit::Result<Exit> {
        let mut input = Input::new(self.args);
        let began = Instant::now();
        let mut is_over = false;
        loop {
            while let Some(msg) = splitter.next(is_over)? {
                self.send(&msg).await?;
            }
            if is_over && self.args.send_only {
                return self.after_sending().await;
            }
            let limit = self.deadline(began, is_over);
            let socket = self.socket;
            tokio::select! {
                received = socket.recv() => {
                    let received = received.map_err(|error| self.failed(&error))?;
                    if let Some(exit) = self.receive(&received).await {
                        return Ok(exit);
                    }
                }
                piece = input.next(), if !is_over => {
                    let piece = piece.map_err(|error| {
                        let what = format!("cannot read standard input: {error}");
                        Error::new(Code::Internal, Blame::Local, what)
                    })?;
                    let bytes = piece.len();
                    splitter.push(piece);
                    input.took(bytes);
                    if bytes == 0 {
                        is_over = true;
                        self.last = Instant::now();
                    }
                }
                code = self.output.failed() => return Ok(Exit::of(code)),
                () = sleep_until(limit.map_or_else(Instant::now, |(at, _)| at)), if limit.is_some() => {
                    if let Some((_, exit)) = limit {
                        return self.quiet(exit);
                    }
                }
            }
        }
    }

    /// When to stop waiting, and what that means.
    fn deadline(&self, began: Instant, is_over: bool) -> Option<(Instant, Exit)> {
        let limits = &self.args.limits;
        let at = |from: Instant, limit: Option<adit::Limit<Duration>>, code| {
            let limit = limit.and_then(adit::Limit::at)?;
            Some((from + limit, Exit::limit(code, true)))
        };
        let after_input = is_over.then(|| {
            let answered = self.count.received > 0;
            let wait = match self.args.linger {
                Some(linger) if !answered => linger,
                None if !answered => FIRST_ANSWER,
                _ => QUIET,
            };
            let exit = if answered { Exit::OK } else { Exit::of(Code::NoAnswer) };
            (self.last + wait, exit)
        });
        [
            after_input,
            at(self.last, limits.idle, Code::IdleTimeout),
            at(began, limits.max_time, Code::MaxTime),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    async fn send(&mut self, msg: &[u8]) -> adit::Result<()> {
        // The network may report the fate of an earlier datagram here; this one was not tried then.
        if let Err(error) = self.socket.send(msg).await {
            return Err(self.failed(&error));
        }
        self.count.sent += 1;
        self.count.bytes_out += msg.len() as u64;
        self.last = Instant::now();
        Ok(())
    }

    async fn receive(&mut self, msg: &[u8]) -> Option<Exit> {
        self.count.received += 1;
        self.count.bytes_in += msg.len() as u64;
        // At its end a newline looks like the one that is added where there is none.
        let inside = msg.strip_suffix(b"\n").unwrap_or(msg);
        self.count.with_newline += u64::from(inside.contains(&b'\n'));
        self.last = Instant::now();
        if self.args.send_only {
            // It is received all the same: with it come the errors of what was sent.
            return None;
        }
        self.output.write(self.frame.output(msg)).await.err().map(Exit::of)
    }

    /// Everything is handed over; an error that comes back at once is still heard.
    async fn after_sending(&self) -> adit::Result<Exit> {
        let heard = tokio::time::timeout(Duration::ZERO, self.socket.recv()).await;
        match heard {
            Ok(Err(error)) => Err(self.failed(&error)),
            _ => Ok(Exit::OK),
        }
    }

    /// Nothing more came in time.
    fn quiet(&self, exit: Exit) -> adit::Result<Exit> {
        let remote = self.socket.remote();
        if self.count.with_newline > 0 && self.frame == Frame::Line {
            let count = counted(self.count.with_newline, "message");
            self.voice.note(&format!(
                "{count} with a newline inside; exact copies: --frame len32 or --json=stdout"
            ));
        }
        match exit.code {
            Code::NoAnswer => {
                let wait = self.args.linger.unwrap_or(FIRST_ANSWER);
                let sent = counted(self.count.sent, "datagram");
                let what = format!("{remote}: sent {sent}, no answer in {wait:?}");
                let hint = match self.count.sent {
                    // Nobody was asked.
                    0 => "the input was empty; an empty line is an empty datagram",
                    _ => "open or filtered, cannot tell; no answer expected: --send-only",
                };
                Err(Error::new(Code::NoAnswer, Blame::Peer, what).with_hint(hint))
            }
            Code::IdleTimeout | Code::MaxTime => {
                self.voice.warn(&format!("time is over for {remote} (code={})", exit.code));
                Ok(exit)
            }
            _ => Ok(exit),
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        let remote = self.socket.remote();
        match adit::code_of(error) {
            Code::Refused | Code::Denied => self.socket.explain(error),
            code => Error::new(code, Blame::Peer, format!("{remote}: {error}")).with_peer(remote),
        }
    }
}

/// `1 datagram`, `2 datagrams`.
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
