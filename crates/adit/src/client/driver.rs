//! The task behind a client: owns the connection, makes it again, keeps the deadlines.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use adit_proto::backoff::{RetryBudget, TRIES_BEFORE, first_try};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::call::ClientOptions;
use super::datagrams::Datagrams;
use super::exchange::{Broken, Exchange};
use crate::{Address, Blame, Code, Codec, Conn, Error, Result};

/// First wait before an idempotent datagram is sent again; it doubles.
const RESEND: Duration = Duration::from_millis(250);

/// What a client tells its task.
pub(super) enum Command {
    Call(Request),
    Finish { until: Instant, done: oneshot::Sender<Result<()>> },
}

/// A call on its way.
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) until: Instant,
    pub(super) within: Duration,
    pub(super) idempotent: bool,
    pub(super) reply: oneshot::Sender<Result<Bytes>>,
}

impl Request {
    /// Answers with an error; nobody may be listening any more.
    fn fail(self, error: Error) {
        drop(self.reply.send(Err(error)));
    }

    fn expire(self, peer: &str, was_sent: bool, why: Option<&Error>) {
        let mut what = format!("no answer from {peer} within {:?}", self.within);
        if let Some(why) = why {
            what = format!("{what}: {why}");
        }
        let code = why.map_or(Code::Deadline, Error::code);
        let error = Error::new(code, Blame::Peer, what).with_peer(peer).with_limit("deadline");
        self.fail(if was_sent { error.after_sending() } else { error });
    }
}

/// Calls over a stream.
struct StreamDriver<C> {
    commands: mpsc::Receiver<Command>,
    exchange: Option<Exchange<C>>,
    codec: C,
    address: Address,
    peer: String,
    options: ClientOptions,
    /// Calls that wait for a connection.
    waiting: VecDeque<Request>,
    tries: u32,
    /// Since the connection was lost.
    has_tried: bool,
    budget: RetryBudget,
    retry_at: Instant,
    last_failure: Option<Error>,
}

/// Serves the calls of a client over a stream until every handle is gone.
pub(super) async fn stream<C: Codec + Clone + Send>(
    commands: mpsc::Receiver<Command>,
    conn: Conn,
    codec: C,
    address: Address,
    mut options: ClientOptions,
) {
    options.dial = options.dial.unexplained();
    let mut driver = StreamDriver {
        commands,
        exchange: Some(Exchange::new(conn, codec.clone(), options.reply_bytes)),
        codec,
        peer: address.spoken(),
        address,
        options,
        waiting: VecDeque::new(),
        tries: 0,
        has_tried: false,
        budget: RetryBudget::default(),
        retry_at: Instant::now(),
        last_failure: None,
    };
    while driver.turn().await {}
}

impl<C: Codec + Clone + Send> StreamDriver<C> {
    /// One wait and what follows from it; false once every handle is gone.
    async fn turn(&mut self) -> bool {
        self.expire();
        let calls = self.exchange.as_ref().map_or(0, Exchange::calls) + self.waiting.len();
        let has_place = calls < self.options.in_flight.max(1);
        let deadline = self.next_deadline();
        let (is_connected, wants_connection) =
            (self.exchange.is_some(), self.exchange.is_none() && !self.waiting.is_empty());
        tokio::select! {
            command = self.commands.recv(), if has_place => match command {
                Some(Command::Call(request)) => {
                    self.budget.call();
                    self.start(request);
                }
                Some(Command::Finish { until, done }) => {
                    let finished = timeout_at(until, self.finish()).await;
                    let expired = || {
                        let what = format!("{} did not end in time", self.peer);
                        Error::new(Code::LingerTimeout, Blame::Peer, what)
                    };
                    drop(done.send(finished.unwrap_or_else(|_| Err(expired()))));
                    return false;
                }
                None => return false,
            },
            broken = run(&mut self.exchange), if is_connected => {
                if let Err(why) = broken {
                    self.broke(why);
                }
            }
            () = sleep_until(self.retry_at), if wants_connection => self.connect().await,
            () = sleep_until(deadline.unwrap_or(self.retry_at)), if deadline.is_some() => {}
        }
        true
    }

    fn start(&mut self, request: Request) {
        let Some(exchange) = &mut self.exchange else {
            // Once a try has failed, only the backoff counts.
            if !self.has_tried {
                self.retry_at = self.retry_at.min(halfway(&request));
            }
            return self.waiting.push_back(request);
        };
        if let Err((request, error)) = exchange.push(request) {
            let what = format!("the request cannot be framed: {error}");
            request.fail(Error::new(Code::BadFrame, Blame::Caller, what));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sent = self.exchange.as_ref().and_then(Exchange::next_deadline);
        self.waiting.iter().map(|request| request.until).chain(sent).min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let peer = &self.peer;
        for request in std::mem::take(&mut self.waiting) {
            if request.until <= now {
                request.expire(peer, false, self.last_failure.as_ref());
            } else if !request.reply.is_closed() {
                self.waiting.push_back(request);
            }
        }
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        exchange.expire(now, |request| request.expire(peer, true, None));
        if exchange.is_hopeless(now, self.options.in_flight) {
            self.broke((Code::Deadline, "replies are missing".to_owned()));
        }
    }

    /// The connection is lost: calls that may be repeated wait for the next one, the others fail.
    fn broke(&mut self, why: (Code, String)) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        let Broken { code, text, calls } = exchange.into_broken(why);
        let now = Instant::now();
        let left = |request: &Request| request.until.saturating_duration_since(now);
        // Nobody waits: the next call comes when it comes, and finds a server or not.
        let wait = calls.iter().map(left).min().map(|left| first_try(left, adit_net::jitter_u64()));
        self.retry_at = now + wait.unwrap_or_default();
        self.tries = if wait.is_some() { TRIES_BEFORE } else { 0 };
        self.has_tried = false;
        for request in calls.into_iter().rev() {
            if request.idempotent && self.budget.retry() {
                self.waiting.push_front(request);
            } else {
                let spent = if request.idempotent { "; no retry is left" } else { "" };
                let what = format!("the connection to {} was lost: {text}{spent}", self.peer);
                let error = Error::new(code, Blame::Peer, what).with_peer(&self.peer);
                request.fail(error.after_sending());
            }
        }
    }

    async fn connect(&mut self) {
        let Some(until) = self.waiting.iter().map(|request| request.until).max() else {
            return;
        };
        self.has_tried = true;
        let connected = timeout_at(until, self.options.dial.connect(&self.address)).await;
        match connected {
            Ok(Ok(conn)) => {
                let exchange = Exchange::new(conn, self.codec.clone(), self.options.reply_bytes);
                self.exchange = Some(exchange);
                (self.tries, self.last_failure) = (0, None);
                for request in std::mem::take(&mut self.waiting) {
                    self.start(request);
                }
            }
            Ok(Err(error)) => {
                let random = adit_net::jitter_u64();
                self.retry_at = Instant::now() + self.options.backoff.wait(self.tries, random);
                self.tries = self.tries.saturating_add(1);
                self.last_failure = Some(error);
            }
            // Whoever waited longest has expired.
            Err(_) => {}
        }
    }

    async fn finish(&mut self) -> Result<()> {
        let peer = self.peer.clone();
        let lost = |code, text: &str| {
            let what = format!("the connection to {peer} was lost: {text}");
            Error::new(code, Blame::Peer, what).with_peer(&peer)
        };
        loop {
            self.expire();
            if self.exchange.as_ref().is_none_or(Exchange::is_idle) {
                break;
            }
            let deadline = self.next_deadline().unwrap_or_else(Instant::now);
            let ran = tokio::select! {
                ran = run(&mut self.exchange) => ran,
                () = sleep_until(deadline) => Ok(()),
            };
            if let Err((code, text)) = ran {
                let error = lost(code, &text);
                self.broke((code, text));
                return Err(error);
            }
        }
        match self.exchange.take() {
            Some(exchange) => exchange
                .finish()
                .await
                .map_err(|error| lost(crate::code_of(&error), &error.to_string())),
            None => Ok(()),
        }
    }
}

/// Half of the time that a call has left.
fn halfway(request: &Request) -> Instant {
    let now = Instant::now();
    now + request.until.saturating_duration_since(now) / 2
}

async fn run<C: Codec>(exchange: &mut Option<Exchange<C>>) -> Result<(), (Code, String)> {
    match exchange {
        Some(exchange) => exchange.run().await,
        None => std::future::pending().await,
    }
}

/// Serves the calls of a client over datagrams, one at a time, until every handle is gone.
pub(super) async fn datagrams(
    mut commands: mpsc::Receiver<Command>,
    socket: Datagrams,
    address: Address,
    mut options: ClientOptions,
) {
    options.dial = options.dial.unexplained();
    let mut socket = Some(socket);
    let mut budget = RetryBudget::default();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Finish { done, .. } => {
                // There is no end to announce. Nobody may be listening.
                drop(done.send(Ok(())));
                return;
            }
            Command::Call(request) => {
                budget.call();
                let keep = call(&mut socket, &mut budget, request, &address, &options).await;
                // Nothing in a datagram says whose answer it is: after a call that is still owed
                // one the socket is replaced, so that the late answer finds nobody.
                if !keep {
                    socket = None;
                }
            }
        }
    }
}

/// Makes one call; false if an answer to it may still come.
async fn call(
    socket: &mut Option<Datagrams>,
    budget: &mut RetryBudget,
    mut request: Request,
    address: &Address,
    options: &ClientOptions,
) -> bool {
    let peer = address.spoken();
    let opened = match socket.take() {
        Some(socket) => Ok(socket),
        None => options.dial.datagrams(address).await,
    };
    let socket = match opened {
        Ok(opened) => socket.insert(opened),
        Err(error) => {
            request.fail(error);
            return false;
        }
    };
    let until = request.until;
    let budget = request.idempotent.then_some(budget);
    let refused = AtomicBool::new(false);
    let answer = tokio::select! {
        answer = timeout_at(until, ask(socket, &request.body, budget, &refused)) => answer,
        () = request.reply.closed() => return false,
    };
    match answer {
        Ok(Ok((answer, was_sent_once))) => {
            drop(request.reply.send(Ok(answer)));
            was_sent_once
        }
        Ok(Err(error)) => {
            let code = crate::code_of(&error);
            let blame = if code == Code::TooBig { Blame::Caller } else { Blame::Peer };
            let what = match code {
                Code::Refused => format!("nothing is listening on {peer}"),
                Code::TooBig => format!(
                    "a datagram of {} B exceeds the limit {} B",
                    request.body.len(),
                    adit_net::datagram::UDP_BYTES_MAX
                ),
                _ => format!("{peer}: {error}"),
            };
            request.fail(Error::new(code, blame, what).with_peer(&peer));
            false
        }
        // Nobody was there at the last try: nobody has executed it.
        Err(_) if refused.load(Relaxed) => {
            let what = format!("nothing is listening on {peer}");
            let refusal = Error::new(Code::Refused, Blame::Peer, what);
            request.expire(&peer, false, Some(&refusal));
            false
        }
        Err(_) => {
            request.expire(&peer, true, None);
            false
        }
    }
}

/// Sends a datagram and waits for the next one; again and again if it may be repeated, as far as the
/// budget reaches.
///
/// Says too whether it was sent only once: what was sent twice may be answered twice. `refused` tells
/// whoever gives up whether every try was refused.
async fn ask(
    socket: &Datagrams,
    body: &[u8],
    budget: Option<&mut RetryBudget>,
    refused: &AtomicBool,
) -> io::Result<(Bytes, bool)> {
    socket.send(body).await?;
    let Some(budget) = budget else {
        return Ok((socket.recv().await?, true));
    };
    let mut wait = RESEND;
    let mut is_first = true;
    loop {
        match tokio::time::timeout(wait, socket.recv()).await {
            // A server that is just starting refuses; asking again is what this is about.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                refused.fetch_or(is_first, Relaxed);
                tokio::time::sleep(wait).await;
            }
            Ok(answer) => return Ok((answer?, is_first)),
            Err(_) => refused.store(false, Relaxed),
        }
        if !budget.retry() {
            return Ok((socket.recv().await?, is_first));
        }
        is_first = false;
        wait *= 2;
        match socket.send(body).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            sent => sent?,
        }
    }
}
