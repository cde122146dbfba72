//! One connection carried on: two directions, each with an end of its own, and no end made up.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::Route;
use crate::buffers::{CHUNK, Scratch};
use crate::conn::{Share, Wire};
use crate::event::What;
use crate::transport;
use crate::{Blame, BoxError, Conn, Error};

/// How long the last bytes may take to be acknowledged before a reset follows them.
const SETTLE: Duration = Duration::from_secs(2);

/// Carries a connection on to the target until both directions have ended.
pub(super) async fn carry(client: Conn, route: &Route) -> Result<(), BoxError> {
    let client = client.into_wire();
    let mut guard = BadEnd(vec![Arc::clone(&client)]);
    let target = route.dial(client.number).connect(&route.target).await?.into_wire();
    guard.0.push(Arc::clone(&target));
    route.tell(client.number, &target.remote, || What::Open { local: target.local.as_ref() });

    let (mut up, mut down) = (Pump::new(&client, &target), Pump::new(&target, &client));
    let ended = poll_fn(|cx| {
        up.poll(cx);
        down.poll(cx);
        verdict(&up, &down)
    })
    .await;
    let Err((wire, error)) = ended else {
        guard.0.clear();
        return Ok(());
    };
    let failure = describe(route, &client, &wire, &error);
    drop((up, down));
    // A reset overtakes what is still on its way: what was said before the bad end goes first. Only to
    // the other side: who broke acknowledges nothing any more.
    settle(if Arc::ptr_eq(&wire, &client) { &target } else { &client }).await;
    Err(failure.into())
}

/// Are both directions over, and how?
fn verdict(up: &Pump, down: &Pump) -> Poll<Result<(), (Arc<Wire>, io::Error)>> {
    for (pump, other) in [(up, down), (down, up)] {
        match &pump.end {
            // Who cannot be read any more is gone in both directions.
            Some(End::Unreadable(error)) => {
                return Poll::Ready(Err((Arc::clone(&pump.from), copy_of(error))));
            }
            // Who cannot be written to may have said something before: that is read to its end.
            Some(End::Unwritable(error)) if other.end.is_some() => {
                return Poll::Ready(Err((Arc::clone(&pump.to), copy_of(error))));
            }
            _ => {}
        }
    }
    match (&up.end, &down.end) {
        (Some(End::Clean), Some(End::Clean)) => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn describe(route: &Route, client: &Arc<Wire>, wire: &Arc<Wire>, error: &io::Error) -> Error {
    let code = transport::code_of(&Share(Arc::clone(wire)), error, route.dial.stall_limit());
    let who = if Arc::ptr_eq(client, wire) { "client" } else { "target" };
    let what = format!("the connection to the {who} {} broke: {error}", wire.remote);
    Error::new(code, Blame::Peer, what).with_peer(wire.remote.to_string())
}

/// Waits until everything written is acknowledged, but not for long.
async fn settle(wire: &Wire) {
    let until = Instant::now() + SETTLE;
    let mut pause = Duration::from_micros(100);
    while wire.unacknowledged().is_ok_and(|bytes| bytes > 0) && Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Resets the connections when the conversation ends in any way but a clean one: also when a limit, or
/// the end of the server, drops it in the middle.
struct BadEnd(Vec<Arc<Wire>>);

impl Drop for BadEnd {
    fn drop(&mut self) {
        for wire in &self.0 {
            wire.abort();
        }
    }
}

/// How a direction ended.
enum End {
    /// The end was read and passed on.
    Clean,
    Unreadable(io::Error),
    Unwritable(io::Error),
}

/// One direction. It owns memory only while the writing side takes less than came.
struct Pump {
    from: Arc<Wire>,
    to: Arc<Wire>,
    rest: BytesMut,
    end: Option<End>,
}

impl Pump {
    fn new(from: &Arc<Wire>, to: &Arc<Wire>) -> Self {
        Self { from: Arc::clone(from), to: Arc::clone(to), rest: BytesMut::new(), end: None }
    }

    /// Carries what there is.
    fn poll(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            match self.step(cx) {
                Poll::Ready(end) => self.end = end,
                Poll::Pending => return,
            }
        }
    }

    /// One read and one write, or the end.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        while !self.rest.is_empty() {
            match ready!(self.to.poll_write(cx, &self.rest)) {
                Ok(bytes) => self.rest.advance(bytes),
                Err(error) => return Poll::Ready(Some(End::Unwritable(error))),
            }
        }
        self.rest = BytesMut::new();
        let mut scratch = Scratch::take();
        let mut piece = ReadBuf::new(&mut scratch.input[..CHUNK]);
        let end = match self.from.poll_read(cx, &mut piece) {
            Poll::Pending => {
                scratch.give_back();
                return Poll::Pending;
            }
            Poll::Ready(Err(error)) => Some(End::Unreadable(error)),
            Poll::Ready(Ok(())) if piece.filled().is_empty() => Some(self.pass_end()),
            Poll::Ready(Ok(())) => self.pass(cx, piece.filled()),
        };
        scratch.give_back();
        Poll::Ready(end)
    }

    fn pass(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Option<End> {
        let taken = match self.to.poll_write(cx, piece) {
            Poll::Ready(Ok(bytes)) => bytes,
            Poll::Ready(Err(error)) => return Some(End::Unwritable(error)),
            Poll::Pending => 0,
        };
        self.rest.extend_from_slice(&piece[taken..]);
        None
    }

    fn pass_end(&self) -> End {
        match self.to.finish() {
            Ok(()) => End::Clean,
            // It has ended or broken already; reading from there tells which.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => End::Clean,
            Err(error) => End::Unwritable(error),
        }
    }
}
