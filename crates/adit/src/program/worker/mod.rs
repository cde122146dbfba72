//! Worker: one process of a program that serves all peers, told apart by numbers.

mod datagrams;
mod life;
mod line;
mod table;

use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Failed, Program, Sandboxed, variables};
use crate::budget::Account;
use crate::buffers::{CHUNK, Scratch};
use crate::conn::Wire;
use crate::stream::{StreamService, sealed};
use crate::{Blame, BoxError, Code, Conn, Error, Result, Service};
use life::Life;
use line::{Line, Order, Said, Talk};

/// A program of which one process serves all peers: for one that is slow to start, or keeps something in
/// memory for all of them. Made by [`Program::worker`].
///
/// Its standard input and output are frames, one after the other. Each has the number of its
/// conversation and says one of five things:
///
/// | offset | bytes | meaning |
/// |---|---|---|
/// | 0 | 4 | length of what follows, most significant byte first: 9 and the payload, of at most 1 MiB |
/// | 4 | 8 | number of the conversation, most significant byte first |
/// | 12 | 1 | `O` open, `D` data, `E` end, `C` close, `T` taken |
/// | 13 | | payload |
///
/// | | to the worker | from the worker |
/// |---|---|---|
/// | `O` | a conversation begins; the variables of a [`Program`], each with a NUL behind it | |
/// | `D` | bytes of the peer as they come, or one datagram | to be sent: bytes, or one datagram |
/// | `E` | the peer has ended its direction and still reads | all is said: sent, then the connection is closed well |
/// | `C` | the conversation is over, however it ended; always the last of its number | it has failed, and is closed |
/// | `T` | the peer has taken so many bytes more (8 bytes) | |
///
/// What a worker says of a conversation that is over is dropped. A peer that sends faster than the worker
/// reads is not read (a datagram is dropped). A peer that reads slower than the worker writes costs no
/// other peer anything: once 1 MiB, or 4,096 frames, wait for it, its conversation ends with `too-big`. A
/// worker that sends more than that to one peer watches `T`, which comes every 64 KiB.
///
/// When its process ends, every conversation it had ends with `handler`, and it is started again: after
/// at most 100 ms, doubling to 5 s as long as it does not live for 10 s. Newcomers wait for the next one;
/// if that does not start, they end as well. Everything else is as for a [`Program`].
///
/// ```no_run
/// use adit::prelude::*;
/// let worker = Program::new("./answer").worker().on_end(|error| eprintln!("{error}"));
/// Server::streams(worker).listen("tcp://127.0.0.1:7000").run()?;
/// # Ok::<(), adit::Error>(())
/// ```
#[derive(Clone)]
pub struct Worker {
    program: Program,
    tell: Option<Tell>,
    at_work: Arc<AtWork>,
}

/// Who is told that it has ended.
type Tell = Arc<dyn Fn(&Error) + Send + Sync>;

/// What all clones share.
struct AtWork {
    running: Mutex<Option<Running>>,
    numbers: AtomicU64,
    /// For datagrams that wait, in KiB.
    room: Arc<Semaphore>,
}

impl Default for AtWork {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(datagrams::WAITING_KIB_MAX));
        Self { running: Mutex::default(), numbers: AtomicU64::default(), room }
    }
}

/// The thread that talks to the process.
struct Running {
    orders: mpsc::Sender<Order>,
    /// Dropping it is the order to end.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Frames that wait for the worker to read; each has at most 64 KiB.
const ORDERS_MAX: usize = 64;

impl Program {
    /// One process of this program for all peers, which it is told of in frames: [`Worker`] says how.
    /// `children_max` and `takes_sockets` mean nothing to it, and a sandbox does not limit its time.
    #[must_use]
    pub fn worker(&self) -> Worker {
        let program = self.clone().with(|plan| {
            (plan.children_max, plan.takes_sockets) = (1, false);
            plan.sandbox = plan.sandbox.map(|_| Sandboxed::ForLong);
        });
        Worker { program, tell: None, at_work: Arc::default() }
    }
}

impl Worker {
    /// Has a function called, on a thread of its own, whenever the process has ended and is to be started
    /// again; the error says why.
    #[must_use]
    pub fn on_end(mut self, tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.tell = Some(Arc::new(tell));
        self.at_work = Arc::default();
        self
    }

    /// The same process for datagrams: each is one frame, and each frame of it one datagram.
    pub fn datagrams(&self) -> impl Service + use<> {
        datagrams::Answers(self.clone())
    }

    /// What its sandbox comes to; as [`Program::policy`].
    ///
    /// # Errors
    /// As there.
    pub fn policy(&self) -> Result<Option<String>> {
        self.program.policy()
    }

    /// Looks whether the program is there, and starts it. A server does it before it binds.
    ///
    /// # Errors
    /// `not-found` and `cannot-run`; or there is no process or thread left for it.
    pub fn ready(&self) -> Result<()> {
        self.program.ready()?;
        let started = self.orders();
        started.map(drop).map_err(|failed| Error::new(failed.code, Blame::Local, failed.text))
    }

    /// Where frames for the process go. Starts the thread that takes them.
    fn orders(&self) -> Result<mpsc::Sender<Order>, Failed> {
        let mut running = self.at_work.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_ref() {
            return Ok(running.orders.clone());
        }
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let (stop, stopped) = oneshot::channel();
        let life = Life::new(self.program.clone(), self.tell.clone(), taken, stopped);
        let thread = std::thread::Builder::new().name("adit-worker".to_owned());
        let thread = thread.spawn(move || life.run()).map_err(|error| Failed {
            code: Code::Internal,
            text: format!("cannot run {}: no thread: {error}", self.program.shown()),
        })?;
        let started = Running { orders: orders.clone(), stop: Some(stop), thread: Some(thread) };
        *running = Some(started);
        Ok(orders)
    }

    /// Tells the worker of a new conversation, as soon as it listens.
    async fn open(
        &self,
        variables: Vec<u8>,
        peer: &str,
        account: Option<&Arc<Account>>,
    ) -> Result<Talk, Failed> {
        let number = self.at_work.numbers.fetch_add(1, Relaxed) + 1;
        let talk = Talk::open(number, variables.into(), self.orders()?, account).await;
        talk.ok_or_else(|| self.gone(peer))
    }

    /// Why the conversation with a peer has failed.
    fn failed(&self, code: Code, peer: &str, how: impl fmt::Display) -> Failed {
        Failed { code, text: format!("{} failed for peer {peer}: {how}", self.program.shown()) }
    }

    fn gone(&self, peer: &str) -> Failed {
        self.failed(Code::Handler, peer, "it has ended")
    }

    /// The next thing the worker has to say to a peer; nothing at its end.
    async fn next(
        &self,
        said: &mut mpsc::Receiver<Said>,
        line: &Line,
        peer: &str,
    ) -> Result<Option<Bytes>, Failed> {
        match said.recv().await {
            Some(Said::Data(bytes)) => Ok(Some(bytes)),
            Some(Said::End) => Ok(None),
            Some(Said::Failed(how)) => Err(self.failed(Code::Handler, peer, how)),
            None if line.is_overrun() => {
                let how = "it has sent 1 MiB more than the peer takes, and did not wait";
                Err(self.failed(Code::TooBig, peer, how))
            }
            None => Err(self.gone(peer)),
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running else { return };
        running.stop = None;
        if let Some(thread) = running.thread.take() {
            // The guard gives the process its grace, then kills it. A panic of the thread was told.
            drop(thread.join());
        }
    }
}

impl sealed::Sealed for Worker {}

impl StreamService for Worker {
    fn ready(&self) -> Result<()> {
        Self::ready(self)
    }

    async fn serve(&self, conn: Conn) -> Result<(), BoxError> {
        let wire = conn.into_wire();
        let peer = wire.remote.place_text();
        let account = wire.account.as_ref();
        let Talk { line, mut said } = self.open(variables::of_wire(&wire), &peer, account).await?;
        let gone = || self.gone(&peer);
        let up = async {
            while let Some(bytes) = read(&wire).await? {
                line.send_data(bytes).await.ok_or_else(gone)?;
            }
            line.send(Order::End(line.number)).await.ok_or_else(gone)?;
            // Whether anything follows is the worker's to say.
            pending().await
        };
        let down = async {
            while let Some(bytes) = self.next(&mut said, &line, &peer).await? {
                write(&wire, &bytes).await?;
                line.taken(bytes.len()).await.ok_or_else(gone)?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            said_all = down => said_all,
            failed = up => failed,
        }
    }
}

/// What has come, at most 64 KiB; nothing at the end.
async fn read(wire: &Wire) -> io::Result<Option<Bytes>> {
    poll_fn(|cx| {
        let mut scratch = Scratch::take();
        let mut piece = ReadBuf::new(&mut scratch.input[..CHUNK]);
        let read = wire.poll_read(cx, &mut piece);
        let bytes = Bytes::copy_from_slice(piece.filled());
        scratch.give_back();
        ready!(read)?;
        Poll::Ready(Ok((!bytes.is_empty()).then_some(bytes)))
    })
    .await
}

async fn write(wire: &Wire, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[poll_fn(|cx| wire.poll_write(cx, bytes)).await?..];
    }
    poll_fn(|cx| wire.poll_flush(cx)).await
}
