//! Stream services: a function that is given the raw bytes of each connection.

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};

use crate::conn::{Conn, Ending, Io, Share, Wire};
use crate::context::Context;
use crate::conversation::{is_broken, panic_text, report};
use crate::event::{Action, Call, What};
use crate::linger::{self, LingerLimits};
use crate::peer::{Closed, Peer};
use crate::program::Failed;
use crate::transport::Transport as _;
use crate::{BoxError, Code, Error, Limits, transport};

/// A service over raw bytes; made by [`stream`].
#[derive(Clone, Debug)]
pub struct Stream<F>(F);

/// Makes a service of a function over raw bytes, for what no codec fits. It cannot be bound to a
/// datagram socket.
///
/// The connection ends when the function returns: our direction is finished, what the peer still
/// sends is read away, and only then is the socket closed. An error ends it with `handler`.
///
/// ```no_run
/// use adit::prelude::*;
///
/// let echo = stream(async |conn: Conn| {
///     let (mut from_client, mut to_client) = conn.split();
///     tokio::io::copy(&mut from_client, &mut to_client).await?;
///     Ok(())
/// });
/// Server::streams(echo).listen("tcp://127.0.0.1:7000").run()?;
/// # Ok::<(), adit::Error>(())
/// ```
pub fn stream<F>(serve: F) -> Stream<F>
where
    F: AsyncFn(Conn) -> Result<(), BoxError> + Clone + Send + 'static,
{
    Stream(serve)
}

/// What serves the raw bytes of connections: a function made into a service by [`stream`], or a
/// [`Program`](crate::Program). Sealed.
pub trait StreamService: Clone + Send + 'static + sealed::Sealed {
    /// Called once, before anything is bound.
    ///
    /// # Errors
    /// It cannot serve anybody.
    fn ready(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Most connections it serves at once, if it has a bound of its own.
    fn conversations_max(&self) -> Option<usize> {
        None
    }

    /// Serves one connection.
    fn serve(&self, conn: Conn) -> impl Future<Output = Result<(), BoxError>>;

    /// Is it given the sockets themselves? Then [`serve_socket`](Self::serve_socket) is called.
    fn takes_sockets(&self) -> bool {
        false
    }

    /// Serves one connection by its socket, which is in blocking mode. Its close is the service's.
    fn serve_socket(
        &self,
        _socket: OwnedFd,
        _peer: Peer,
    ) -> impl Future<Output = Result<(), BoxError>> {
        async { Err("a service that takes no sockets".into()) }
    }
}

pub(crate) mod sealed {
    /// Keeps [`StreamService`](super::StreamService) to this crate.
    #[expect(unnameable_types, reason = "that nobody can name it is its purpose")]
    pub trait Sealed {}
}

impl<F> sealed::Sealed for Stream<F> {}

impl<F> StreamService for Stream<F>
where
    F: AsyncFn(Conn) -> Result<(), BoxError> + Clone + Send + 'static,
{
    async fn serve(&self, conn: Conn) -> Result<(), BoxError> {
        (self.0)(conn).await
    }
}

/// Serves one connection to its end, then closes it so that nothing is lost.
pub(crate) async fn run<S: StreamService>(
    service: Rc<S>,
    wire: Arc<Wire>,
    peer: Peer,
    context: Rc<Context>,
    free_slot: impl FnOnce(),
) -> Closed {
    let mut cut =
        Cut { wire: Some(Arc::clone(&wire)), code: Code::Ok, peer: &peer, context: &context };
    let code = serve(&*service, &wire, &peer, &context).await;
    cut.code = code;
    let limits = LingerLimits::after(code, &context.limits);
    let (mut share, desk) = (Share(Arc::clone(&wire)), peer.desk());
    let is_over = is_broken(code) || wire.aborted.load(Relaxed);
    let finished = !is_over
        && linger::unless_shed(desk, linger::finish(&mut share, limits))
            .await
            .is_some_and(|end| end.is_ok());
    free_slot();
    let confirmed = match finished {
        true if wire.peer_ended.load(Relaxed) => Some(0),
        true => linger::unless_shed(desk, linger::linger(&mut share, limits)).await,
        false => None,
    };
    if desk.is_shed() {
        wire.abort();
    }
    let unconfirmed = confirmed.unwrap_or_else(|| share.unacknowledged());
    if !finished {
        wire.give_up();
    }
    drop((share, cut.wire.take()));
    let closed = closed(&wire, code);
    drop(wire);
    report(&context, &peer, closed, unconfirmed)
}

fn closed(wire: &Wire, code: Code) -> Closed {
    Closed {
        code,
        bytes_in: wire.bytes_in.load(Relaxed),
        bytes_out: wire.bytes_out.load(Relaxed),
        unsent: 0,
        lasted: wire.lasted(),
    }
}

/// Tells of a conversation that the end of the server cuts in the middle, or in its close.
struct Cut<'a> {
    wire: Option<Arc<Wire>>,
    code: Code,
    peer: &'a Peer,
    context: &'a Context,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.take() {
            let code = if self.code.is_clean() { self.context.cut_code() } else { self.code };
            let closed = closed(&wire, code);
            let unconfirmed = Share(wire).unacknowledged();
            report(self.context, self.peer, closed, unconfirmed);
        }
    }
}

/// Gives one connection away: nothing is carried, counted or closed here any more.
///
/// What the kernel has counted (`TCP_INFO`) is told to who has a descriptor, and one that is kept would keep the
/// connection open when its program closes it. So nobody knows how many bytes there were.
pub(crate) async fn give_away<S: StreamService>(
    service: Rc<S>,
    io: Io,
    peer: Peer,
    context: Rc<Context>,
    free_slot: impl FnOnce(),
) {
    let began = Instant::now();
    context.totals.count_no_bytes();
    let descriptor = io.descriptor();
    if let Some(mark) = peer.desk().mark() {
        // What goes over it is not seen: it is never known to be idle.
        mark.owes(true);
    }
    let served = async {
        let socket = io.into_blocking()?;
        service.serve_socket(socket, peer.clone()).await
    };
    let expired = async {
        match context.limits.max_time.at() {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let woken = poll_fn(|cx| {
        peer.desk().attend(cx.waker());
        Poll::<()>::Pending
    });
    let emit = |what: What<'_>| {
        context.observers.emit_of(peer.number(), peer.remote(), || what);
    };
    let code = tokio::select! {
        biased;
        () = woken => Code::Ok,
        end = served => end.err().map_or(Code::Ok, |failure| {
            let code = failure.downcast_ref::<Failed>().map_or(Code::Internal, |failed| failed.code);
            let text = failure.to_string();
            emit(What::Error { code, text: &text, place: place_of(&failure), fatal: false });
            code
        }),
        code = cut(&peer) => code,
        () = expired => {
            emit(What::Limit { name: "max-time", value: 0, action: Action::Close, count: 1 });
            Code::MaxTime
        }
    };
    free_slot();
    let close = (Call::Close, Some(descriptor));
    context.observers.call(Some((peer.number(), peer.remote())), close, None);
    let lasted = began.elapsed();
    emit(What::Close { code, bytes_in: None, bytes_out: None, lasted });
    context.totals.close(&Closed { code, bytes_in: 0, bytes_out: 0, unsent: 0, lasted });
}

/// The service's own part, watched by the limits.
async fn serve<S: StreamService>(
    service: &S,
    wire: &Arc<Wire>,
    peer: &Peer,
    context: &Context,
) -> Code {
    let emit = |what: What<'_>| {
        context.observers.emit_of(peer.number(), peer.remote(), || what);
    };
    let mut served = pin!(service.serve(Conn::new(Arc::clone(wire))));
    let served = poll_fn(|cx| {
        peer.desk().attend(cx.waker());
        if peer.desk().is_ending() {
            wire.end();
        }
        let poll = catch_unwind(AssertUnwindSafe(|| served.as_mut().poll(cx)));
        poll.map_or_else(|panic| Poll::Ready(Err(panic)), |poll| poll.map(Ok))
    });
    tokio::select! {
        biased;
        end = served => match end {
            Ok(Ok(())) => Code::Ok,
            Ok(Err(failure)) => {
                let code = code_of(wire, &failure, &context.limits);
                if code != Code::Drained {
                    let text = failure.to_string();
                    // An error of adit's own says its code; the event has it.
                    let text = text.strip_suffix(&format!(" (code={code})")).unwrap_or(&text);
                    emit(What::Error { code, text, place: place_of(&failure), fatal: false });
                }
                code
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                emit(What::Error { code: Code::Panic, text: &text, place: "handler", fatal: false });
                Code::Panic
            }
        },
        code = cut(peer) => code,
        (code, name) = expire(wire, &context.limits) => {
            emit(What::Limit { name, value: 0, action: Action::Close, count: 1 });
            code
        }
    }
}

/// Where a service failed.
pub(crate) fn place_of(failure: &BoxError) -> &'static str {
    if failure.is::<Failed>() { "program" } else { "handler" }
}

/// Returns when the conversation has to make room. The task has told its desk whom to wake.
async fn cut(peer: &Peer) -> Code {
    poll_fn(|_cx| {
        let goes = peer.desk().is_shed() || peer.desk().is_chosen();
        if goes { Poll::Ready(Code::Shed) } else { Poll::Pending }
    })
    .await
}

/// Why a service failed: an error of the connection keeps its own code.
fn code_of(wire: &Arc<Wire>, failure: &BoxError, limits: &Limits) -> Code {
    if let Some(error) = failure.downcast_ref::<Error>() {
        return error.code();
    }
    if let Some(failed) = failure.downcast_ref::<Failed>() {
        return failed.code;
    }
    let Some(error) = failure.downcast_ref::<std::io::Error>() else {
        return Code::Handler;
    };
    if error.get_ref().is_some_and(|inner| inner.is::<Ending>()) {
        return Code::Drained;
    }
    match transport::code_of(&Share(Arc::clone(wire)), error, limits.stall) {
        Code::Internal | Code::Usage | Code::Refused | Code::Denied => Code::Handler,
        code => code,
    }
}

/// Returns when a limit has expired. Looks at the marks the wire leaves rather than at every byte:
/// the price is that a stall is found within one and a half times its limit.
async fn expire(wire: &Wire, limits: &Limits) -> (Code, &'static str) {
    loop {
        let now = Instant::now();
        let idle = limits.idle.at().map(|limit| wire.last_byte() + limit);
        let whole = limits.max_time.at().map(|limit| wire.began() + limit);
        let stall = limits.stall.at().map(|limit| match wire.stalled() {
            Some(since) => since + limit,
            None => now + limit / 2,
        });
        if whole.is_some_and(|at| at <= now) {
            return (Code::MaxTime, "max-time");
        }
        if wire.stalled().is_some() && stall.is_some_and(|at| at <= now) {
            return (Code::StallTimeout, "stall");
        }
        if idle.is_some_and(|at| at <= now) {
            return (Code::IdleTimeout, "idle");
        }
        match [idle, whole, stall].into_iter().flatten().min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
