//! One connection carried on, with both ways cut as planned.

use std::io;
use std::iter::Peekable;
use std::pin::pin;
use std::time::Duration;

use adit::{Blame, BoxError, Code, Conn, Error, Look, ReadHalf, WriteHalf};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::{Decided, Decision, Plan, Route, Way};

/// Bytes read at once, and most bytes joined into one write.
const PIECE: usize = 64 << 10;
/// How long bytes wait for others to be joined with: a peer that waits for an answer sends no more.
const GATHER: Duration = Duration::from_millis(10);
/// Between two writes that shall be read apart: time for the receiver to read the first one.
const APART: Duration = Duration::from_millis(1);
/// How long the bytes in front of a cut may take to be acknowledged, and a receiver to end behind one.
const SETTLE: Duration = Duration::from_secs(2);

/// How the error of a connection begins that was cut as planned.
pub(super) const PLANNED: &str = "cut on its way";

/// Carries a connection on to the target until both ways have ended or one is cut.
pub(super) async fn carry(client: Conn, route: &Route) -> Result<(), BoxError> {
    let number = client.number();
    let mut alone = BadEnd(vec![client.look()]);
    let target = route.dial.connect(&route.target).await?;
    alone.0.clear();
    let looks = [client.look(), target.look()];
    let (from_client, mut to_client) = client.split();
    let (mut from_target, mut to_target) = target.split();
    let mut from_client = from_client.reading_on();
    // Made behind the halves, so that it is dropped before them: they would end their ways cleanly.
    let mut guard = BadEnd(looks.to_vec());
    let [client, target] = &looks;

    let ended = {
        let pump = |way, from, to, receiver| Pump {
            plan: Ways::new(route, number, way),
            from,
            to,
            receiver,
            held: BytesMut::new(),
            passed: 0,
            gathers: false,
            has_ended: false,
        };
        let up = pump(Way::Up, &mut from_client, &mut to_target, target);
        both(up, pump(Way::Down, &mut from_target, &mut to_client, client)).await
    };
    match ended {
        Ok(None) => {
            guard.0.clear();
            Ok(())
        }
        Ok(Some(cut)) => {
            if cut.decision == Decision::Truncate {
                guard.0.clear();
                match cut.way {
                    Way::Up => end_early(client, &mut to_target, &mut from_target).await,
                    Way::Down => end_early(target, &mut to_client, &mut from_client).await,
                }
            }
            Err(cut.error().into())
        }
        Err(Broken { side, error }) => {
            // A reset overtakes what is still on its way: what was said before goes first.
            settle(if side == Side::Client { target } else { client }).await;
            Err(error.into())
        }
    }
}

/// Carries both ways to their ends, or to the first cut.
async fn both(mut up: Pump<'_>, mut down: Pump<'_>) -> Result<Option<Cut>, Broken> {
    let (mut up, mut down) = (pin!(up.run()), pin!(down.run()));
    let (first, is_up) = tokio::select! {
        ended = &mut up => (ended, true),
        ended = &mut down => (ended, false),
    };
    let goes_on = match &first {
        Ok(cut) => cut.is_none(),
        // Who cannot be written to may have said something before: that is read to its end.
        Err(end) => end.is_writing,
    };
    let second = match goes_on {
        false => Ok(None),
        true if is_up => down.await,
        true => up.await,
    };
    let of = |end: Unpassable| end.broken;
    Ok(first.map_err(of)?.or(second.map_err(of)?))
}

/// The receiver reads a clean end, the sender a reset; what the receiver still says is thrown away.
async fn end_early(sender: &Look, to: &mut WriteHalf, from: &mut ReadHalf) {
    sender.abort();
    if to.shutdown().await.is_err() {
        return;
    }
    let mut nowhere = tokio::io::sink();
    // It ends, breaks, or goes on saying what nobody hears.
    drop(timeout(SETTLE, tokio::io::copy(from, &mut nowhere)).await);
}

/// Waits until everything written is acknowledged, but not for long.
async fn settle(look: &Look) {
    let until = Instant::now() + SETTLE;
    while look.unacknowledged().is_ok_and(|bytes| bytes > 0) && Instant::now() < until {
        sleep(APART).await;
    }
}

/// Resets the connections when a conversation ends in any way but a clean one: also when a limit, or the
/// end of the relay, drops it in the middle.
struct BadEnd(Vec<Look>);

impl Drop for BadEnd {
    fn drop(&mut self) {
        self.0.iter().for_each(Look::abort);
    }
}

/// Where a connection is cut through.
#[derive(Clone, Copy)]
struct Cut {
    way: Way,
    behind: u64,
    decision: Decision,
}

impl Cut {
    fn error(self) -> Error {
        let code = match self.decision {
            Decision::Truncate => Code::Truncated,
            _ => Code::Reset,
        };
        let (way, behind) = (self.way.word(), self.behind);
        Error::new(code, Blame::Local, format!("{PLANNED} {way}, behind byte {behind}"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Target,
}

/// A connection that broke by itself.
struct Broken {
    side: Side,
    error: io::Error,
}

/// Why a way goes no further.
struct Unpassable {
    broken: Broken,
    /// Its receiver takes nothing any more; else its sender cannot be read.
    is_writing: bool,
}

/// The decisions of one way, told as they are carried out.
struct Ways<'a> {
    route: &'a Route,
    connection: u64,
    way: Way,
    plan: Peekable<Plan>,
    end: Option<Decision>,
}

impl<'a> Ways<'a> {
    fn new(route: &'a Route, connection: u64, way: Way) -> Self {
        let plan = match route.at {
            Some(behind) => Plan::at(route.mode, behind),
            None => Plan::new(route.mode, route.seed, connection, way),
        };
        Self { route, connection, way, end: plan.end(), plan: plan.peekable() }
    }

    /// The next decision, if it stands behind so many bytes.
    fn take(&mut self, passed: u64) -> Option<Decision> {
        let (behind, decision) = self.plan.next_if(|(behind, _)| *behind <= passed)?;
        self.tell(behind, decision);
        Some(decision)
    }

    /// How many bytes may pass before the next one.
    fn room(&mut self, passed: u64) -> usize {
        let left = self.plan.peek().map_or(u64::MAX, |(behind, _)| behind.saturating_sub(passed));
        usize::try_from(left).unwrap_or(PIECE).min(PIECE)
    }

    fn tell(&self, behind: u64, decision: Decision) {
        if let Some(tell) = &self.route.tell {
            let Self { connection, way, .. } = *self;
            tell(&Decided { seed: self.route.seed, connection, way, behind, decision });
        }
    }
}

/// One way of a connection.
struct Pump<'a> {
    plan: Ways<'a>,
    from: &'a mut ReadHalf,
    to: &'a mut WriteHalf,
    receiver: &'a Look,
    /// Read and not yet written: less than two pieces.
    held: BytesMut,
    passed: u64,
    /// Bytes wait for those behind them, up to the next decision.
    gathers: bool,
    has_ended: bool,
}

impl Pump<'_> {
    /// Carries everything to the end, or to a cut.
    async fn run(&mut self) -> Result<Option<Cut>, Unpassable> {
        loop {
            while let Some(decision) = self.plan.take(self.passed) {
                self.gathers = decision == Decision::Merge;
                match decision {
                    Decision::Split => sleep(APART).await,
                    Decision::Reset | Decision::Truncate => {
                        settle(self.receiver).await;
                        return Ok(Some(Cut { way: self.plan.way, behind: self.passed, decision }));
                    }
                    decision => sleep(decision.time().unwrap_or_default()).await,
                }
            }
            self.read().await.map_err(|error| self.unreadable(error))?;
            if self.held.is_empty() {
                self.finish().await.map_err(|error| self.unwritable(error))?;
                return Ok(None);
            }
            let bytes = self.held.len().min(self.plan.room(self.passed));
            let written = self.to.write_all(&self.held[..bytes]).await;
            written.map_err(|error| self.unwritable(error))?;
            self.held.advance(bytes);
            self.passed += bytes as u64;
        }
    }

    /// Reads until something is held, or all that belongs together; nothing is held at the end.
    async fn read(&mut self) -> io::Result<()> {
        let room = if self.gathers { self.plan.room(self.passed) } else { 1 };
        while !self.has_ended && self.held.len() < room {
            self.held.reserve(PIECE);
            let is_first = self.held.is_empty();
            let read = self.from.read_buf(&mut self.held);
            self.has_ended = if is_first {
                read.await? == 0
            } else {
                // What a dropped read would have taken is still in the socket.
                match timeout(GATHER, read).await {
                    Ok(read) => read? == 0,
                    Err(_) => break,
                }
            };
        }
        Ok(())
    }

    /// Passes the end on. A receiver that has ended or broken already tells why when it is read.
    async fn finish(&mut self) -> io::Result<()> {
        if let Some(late) = self.plan.end {
            self.plan.tell(self.passed, late);
            sleep(late.time().unwrap_or_default()).await;
        }
        match self.to.shutdown().await {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            finished => finished,
        }
    }

    fn unreadable(&self, error: io::Error) -> Unpassable {
        let side = if self.plan.way == Way::Up { Side::Client } else { Side::Target };
        Unpassable { broken: Broken { side, error }, is_writing: false }
    }

    fn unwritable(&self, error: io::Error) -> Unpassable {
        let side = if self.plan.way == Way::Up { Side::Target } else { Side::Client };
        Unpassable { broken: Broken { side, error }, is_writing: true }
    }
}
