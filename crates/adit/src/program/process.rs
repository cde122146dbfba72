//! One process of a program, from its start to the word of the guard that nothing is left of its group.

use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use adit_net::child::{GRACE, Unborn};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::{Ended, Failed, Program, variables};
use crate::conn::{Io, Wire};
use crate::endpoint::{Place, Transport};
use crate::{Blame, Conn, Dial, Endpoint, Error, Result};

/// How long a guard that has much to do is left alone.
const PAUSE: Duration = Duration::from_millis(1);
/// How often a guard that is killed is replaced for the sake of one process.
const TRIES_MAX: usize = 100;
/// How long a guard may take to start or to end a program. One that lives and takes longer was stopped.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How often who waits for a place looks whether it is a silent guard that keeps it taken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A running process of a [`Program`]; made by [`Program::start`]. Dropping it ends the process and
/// whatever is in its group.
#[derive(Debug)]
pub struct Process {
    io: Option<StdUnixStream>,
    /// None once nothing of it is left.
    rest: Option<Rest>,
    ended: Option<Ended>,
    /// Until when the rest of its group may be quiet.
    quiet_until: Option<Pin<Box<Sleep>>>,
    /// Nobody waits any more for a guard to take it.
    is_given_up: bool,
}

/// What has to be heard of a process until it is gone.
#[derive(Debug)]
struct Rest {
    told: UnixStream,
    records: Vec<u8>,
    seat: Seat,
}

/// The place of one that runs: the next one may run when this one is gone.
#[derive(Debug)]
struct Seat {
    _permit: OwnedSemaphorePermit,
    /// Places that the guard keeps taken, though it was asked to start or to end somebody long ago.
    unanswered: Arc<AtomicUsize>,
}

/// One of those places, for as long as it lives.
struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Program {
    /// Starts a process for a connection, whose addresses are in its environment. Its standard input
    /// and output are [`Process::take_io`]: carrying bytes is the caller's part.
    ///
    /// Waits while as many run as may.
    ///
    /// # Errors
    /// It does not run. Whether it is there is seen when it is started: [`Process::ended`].
    ///
    /// # Cancel safety
    /// A dropped call has started nothing, or what it has started is ended.
    pub async fn start(&self, conn: &Conn) -> Result<Process> {
        let variables = variables::of_wire(conn.wire());
        let process = self.process(&variables, None).await;
        process.map_err(|failed| Error::new(failed.code, Blame::Local, failed.text))
    }

    /// Why a process that was started is no success; nothing if it is one. A peer without a name is not
    /// named.
    ///
    /// # Errors
    /// `handler` for every status but 0; `not-found` and `cannot-run` if it never ran.
    pub fn verdict(&self, ended: Ended, peer: impl std::fmt::Display) -> Result<()> {
        let judged = self.judge(ended, peer);
        judged.map_err(|failed| Error::new(failed.code, Blame::Local, failed.text))
    }

    /// Starts a process, with this socket as its input and output, or with one of ours.
    pub(super) async fn process(
        &self,
        variables: &[u8],
        socket: Option<&OwnedFd>,
    ) -> Result<Process, Failed> {
        let mut seat = self.seat().await?;
        let until = Instant::now() + ANSWERED_WITHIN;
        let unanswered = || self.unanswered(socket);
        for _ in 0..TRIES_MAX {
            let asked = timeout_at(until, self.ask((variables, socket), seat)).await;
            let mut process = asked.map_err(|_late| unanswered())??;
            match timeout_at(until, poll_fn(|cx| process.poll_taken(cx))).await {
                Ok(true) => return Ok(process),
                Ok(false) => {}
                Err(_late) => {
                    process.is_given_up = true;
                    return Err(unanswered());
                }
            }
            // The guard has died with the request: nothing was started.
            let Some(rest) = process.rest.take() else { return Ok(process) };
            seat = rest.seat;
        }
        let text = format!("cannot run {}: its guard is killed each time", self.shown());
        Err(Failed { code: crate::Code::CannotRun, text })
    }

    /// Waits until one more may run; not for long where it is a silent guard that keeps places taken.
    async fn seat(&self) -> Result<Seat, Failed> {
        let mut permit = pin!(Arc::clone(&self.permits().running).acquire_owned());
        let unanswered = Arc::clone(&self.at_work.unanswered);
        loop {
            match timeout(LOOK_EVERY, permit.as_mut()).await {
                Ok(Ok(permit)) => return Ok(Seat { _permit: permit, unanswered }),
                // Nobody closes it.
                Ok(Err(_closed)) => {
                    return Err(Failed {
                        code: crate::Code::Internal,
                        text: "no program is started any more".to_owned(),
                    });
                }
                Err(_late) if unanswered.load(Relaxed) > 0 => return Err(self.unanswered(None)),
                Err(_late) => {}
            }
        }
    }

    /// A guard that lives does nothing. Among what waits for it is the peer's socket, if the program was to
    /// have that: it would stay open.
    fn unanswered(&self, socket: Option<&OwnedFd>) -> Failed {
        if let Some(socket) = socket {
            // One that is broken has ended already.
            drop((adit_net::stream::finish(socket), adit_net::stream::shut_in(socket)));
        }
        let guard = self.guard().map_or(0, |guard| guard.pid());
        let why = format!("its guard, process {guard}, does not answer; was it stopped?");
        let text = format!("cannot run {}: {why}", self.shown());
        Failed { code: crate::Code::CannotRun, text }
    }

    /// Hands the request to a guard that lives.
    async fn ask(
        &self,
        (variables, socket): (&[u8], Option<&OwnedFd>),
        seat: Seat,
    ) -> Result<Process, Failed> {
        let unborn = match socket {
            Some(socket) => socket.try_clone().and_then(Unborn::with_socket),
            None => Unborn::new(),
        };
        let unborn = unborn.map_err(|error| self.cannot_run(&error))?;
        let mut guard = self.guard()?;
        let mut tries = 0;
        loop {
            let error = match guard.ask(&unborn, variables) {
                Ok(()) => break,
                Err(error) => error,
            };
            match error.kind() {
                // The kernel says nothing when there is room again.
                io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
                io::ErrorKind::InvalidInput => return Err(self.cannot_run(&error)),
                // It is dying: in a moment that can be seen.
                _ if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                    guard = self.guard()?;
                }
                _ => return Err(self.cannot_run(&error)),
            }
        }
        let process = Process::born(unborn, seat);
        process.map_err(|error| self.cannot_run(&error))
    }
}

impl Dial {
    /// Starts a process of a program and connects to it: what is sent is its standard input, what it
    /// writes to its standard output comes back. Its environment tells of nobody. Dropping the process
    /// ends it; how it ended says [`Process::ended`].
    ///
    /// # Errors
    /// It does not run.
    ///
    /// # Cancel safety
    /// A dropped call has started nothing, or what it has started is ended.
    pub async fn program(&self, program: &Program) -> Result<(Conn, Process)> {
        let named = |failed: Failed| Error::new(failed.code, Blame::Local, failed.text);
        let mut process = program.process(&[], None).await.map_err(named)?;
        let io = process.take_io().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        let io = io.and_then(|io| {
            io.set_nonblocking(true)?;
            UnixStream::from_std(io)
        });
        let io = io.map_err(|error| named(program.cannot_run(&error)))?;
        let path = program.plan.program.as_os_str().as_encoded_bytes();
        let remote = Endpoint::named(Transport::Unix, Place::Path(path.into()));
        let (observers, number) = self.tap();
        Ok((Conn::new(Wire::tapped(Io::unix(io), (remote, None, number), &observers)), process))
    }
}

impl Process {
    fn born(unborn: Unborn, seat: Seat) -> io::Result<Self> {
        let (io, told) = unborn.born();
        told.set_nonblocking(true)?;
        let rest = Rest { told: UnixStream::from_std(told)?, records: Vec::new(), seat };
        let (ended, quiet_until) = (None, None);
        Ok(Self { io, rest: Some(rest), ended, quiet_until, is_given_up: false })
    }

    /// The other end of its standard input and output, a blocking socket; once. Ending our direction of
    /// it (`shutdown`) is the end of its input.
    pub fn take_io(&mut self) -> Option<StdUnixStream> {
        self.io.take()
    }

    /// Waits for its end. What it has started may still run and write: [`silent`](Self::silent).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) -> Ended {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    /// Waits for its end, and then until nothing is left in its group, or a second has passed without a
    /// word: `heard` says whether anything has come from it since it was last asked, or waits to be
    /// taken. Whoever still holds its output by then has a session of its own, or nothing to say.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn silent(&mut self, mut heard: impl FnMut() -> bool) -> Ended {
        poll_fn(|cx| self.poll_silent(cx, &mut heard)).await
    }

    /// Has a guard taken it? Not if that guard died first.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.rest {
            Some(rest) if rest.records.is_empty() => {
                Poll::Ready(ready!(rest.poll_record(cx)).is_some())
            }
            _ => Poll::Ready(true),
        }
    }

    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.ended.is_none() {
            self.ended = Some(match &mut self.rest {
                Some(rest) => ready!(rest.poll_ended(cx)),
                None => Ended::Unguarded,
            });
        }
        self.ended.map_or(Poll::Pending, Poll::Ready)
    }

    pub(super) fn poll_silent(
        &mut self,
        cx: &mut Context<'_>,
        mut heard: impl FnMut() -> bool,
    ) -> Poll<Ended> {
        let ended = ready!(self.poll_ended(cx));
        let Some(rest) = &mut self.rest else { return Poll::Ready(ended) };
        if rest.poll_gone(cx).is_ready() {
            self.rest = None;
            return Poll::Ready(ended);
        }
        let in_time = || Instant::now() + GRACE;
        let quiet = self.quiet_until.get_or_insert_with(|| Box::pin(sleep_until(in_time())));
        loop {
            ready!(quiet.as_mut().poll(cx));
            if !heard() {
                return Poll::Ready(ended);
            }
            quiet.as_mut().reset(in_time());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut rest) = self.rest.take() else { return };
        if rest.poll_gone(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        // The guard takes the end of our direction for the order to end the group.
        drop(adit_net::stream::finish(&rest.told));
        let patience = if self.is_given_up { Duration::ZERO } else { ANSWERED_WITHIN };
        // Its place is taken until it is gone. A runtime that ends meanwhile ends the server with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if timeout(patience, poll_fn(|cx| rest.poll_gone(cx))).await.is_err() {
                    let _silent = Unanswered::new(&rest.seat.unanswered);
                    poll_fn(|cx| rest.poll_gone(cx)).await;
                }
            });
        }
    }
}

impl Rest {
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if let Some(ended) = Ended::of_records(&self.records) {
                return Poll::Ready(ended);
            }
            if ready!(self.poll_record(cx)).is_none() {
                return Poll::Ready(Ended::Unguarded);
            }
        }
    }

    /// The guard closes it when nothing is left of the group; or it is gone itself.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_record(cx)).is_some() {}
        Poll::Ready(())
    }

    /// Waits for another word of the guard; none at the end.
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        let mut piece = [0; 64];
        loop {
            let read = match ready!(self.told.poll_read_ready(cx)) {
                Ok(()) => self.told.try_read(&mut piece),
                Err(error) => Err(error),
            };
            match read {
                Ok(bytes @ 1..) => {
                    self.records.extend_from_slice(&piece[..bytes]);
                    return Poll::Ready(Some(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Poll::Ready(None),
            }
        }
    }
}
