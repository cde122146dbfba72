//! A running server: its threads, its addresses, its end.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use adit_net::listen::SocketFile;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::admission::Invited;
use crate::context::{Context, Totals};
use crate::drain::{self, Report};
use crate::event::{Call, What};
use crate::listen::{Door, usage};
use crate::listening::{Kind, Listening, Part};
use crate::observe::Observers;
use crate::tls::ServerTls;
use crate::worker::{MAILBOX, Mail, Shared, Worker};
use crate::{AccessList, Blame, Code, Endpoint, Error, Limits, Result, code_of, room, runtime};

/// How long a server drains after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);
/// How long it drains after SIGINT: somebody sits at the keyboard and waits.
const DRAIN_AT_KEYBOARD: Duration = Duration::from_secs(2);

/// A server that runs beside its caller. Dropping it stops the server at once.
#[derive(Debug)]
pub struct Running {
    endpoints: Vec<Vec<Endpoint>>,
    /// For each listener its settings of TLS, if it speaks that.
    tls: Vec<Option<ServerTls>>,
    /// To where a forward shakes hands, and how.
    #[cfg(feature = "tls")]
    pub(crate) target: Option<(crate::Address, crate::tls::Handshakes)>,
    doors: Vec<Door>,
    shared: Arc<Shared>,
    totals: Arc<Totals>,
    observers: Observers,
    threads: Vec<Thread>,
    #[expect(dead_code, reason = "removed from the file system when dropped")]
    files: Vec<SocketFile>,
}

#[derive(Debug)]
struct Thread {
    /// Dropping it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<()>>,
}

/// Counts of a server since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Conversations that are open now.
    pub open: u64,
    /// Conversations in all.
    pub conversations: u64,
    /// Conversations that have ended.
    pub closed: u64,
    /// Those that did not end cleanly.
    pub failed: u64,
    /// Connections turned away, and datagrams of those whom the access list does not allow.
    pub refused: u64,
    /// Messages and datagrams dropped for want of room or by a limit.
    pub dropped: u64,
    /// Attempts to connect that found no room in the kernel's queue, as far as it was looked at; peers
    /// try again by themselves, so one client may count several times.
    pub overflowed: u64,
    /// Bytes that conversations hold in buffers now; see [`Limits::memory`].
    pub held: u64,
    /// How late the I/O thread is that is latest: the 99th percentile of the last seconds with connections,
    /// or for how long it has been held up now; see [`Limits::lag`].
    pub lag: Duration,
    /// Bytes received and written by conversations that have ended; none if programs had their sockets, whose
    /// bytes nobody counts.
    pub bytes: Option<(u64, u64)>,
}

/// A server whose sockets are bound and which has no threads yet.
pub(crate) struct Bound<K: Kind> {
    pub(crate) kind: K,
    pub(crate) listeners: Vec<Box<dyn Listening<K::Thread>>>,
    pub(crate) endpoints: Vec<Vec<Endpoint>>,
    pub(crate) threads: usize,
    pub(crate) once: bool,
    pub(crate) limits: Arc<Limits>,
    pub(crate) invited: Invited,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) observers: Observers,
}

impl<K: Kind> Bound<K> {
    /// Binds every address.
    pub(crate) fn bind(&mut self) -> Result<()> {
        if self.listeners.is_empty() {
            return Err(Error::new(Code::Usage, Blame::Caller, "the server listens nowhere")
                .with_hint("add .listen(\"tcp://127.0.0.1:7000\", Lines::new())"));
        }
        for listener in &mut self.listeners {
            listener.secure(self.tls.as_ref())?;
        }
        let listeners = self.listeners.iter_mut();
        self.endpoints =
            listeners.map(|listener| listener.bind(self.threads)).collect::<Result<_>>()?;
        self.check_proxies()
    }

    /// Proxies have to be somewhere, and datagrams come without a header.
    fn check_proxies(&self) -> Result<()> {
        let Some(proxies) = &self.invited.proxies else { return Ok(()) };
        if proxies.is_empty() {
            return Err(usage(&"proxy_from has no network: nobody could connect")
                .with_hint("name the proxies: .proxy_from([\"10.0.0.0/8\".parse()?])"));
        }
        let mut endpoints = self.endpoints.iter().flatten();
        match endpoints.find(|endpoint| endpoint.transport().is_datagram()) {
            Some(endpoint) => {
                Err(usage(&format!("no PROXY header comes with datagrams to {endpoint}"))
                    .with_hint("serve datagrams with a server of their own"))
            }
            None => Ok(()),
        }
    }

    /// Starts the threads.
    pub(crate) fn start(self) -> Result<Running> {
        let Self {
            kind, mut listeners, endpoints, threads, once, limits, invited, observers, ..
        } = self;
        if observers.is_watched() {
            for (endpoint, fd) in listeners.iter().flat_map(|listener| listener.sockets()) {
                tell_door(&observers, &endpoint, fd);
            }
        }
        let doors = listeners.iter().flat_map(|listener| listener.describe(&limits)).collect();
        let secured = listeners.iter().any(|listener| listener.tls().is_some());
        let (mailboxes, letters): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::channel(MAILBOX)).unzip();
        let shared = Arc::new(Shared::new(mailboxes, &limits, once, secured, invited));
        let mut running = Running {
            tls: listeners.iter().map(|listener| listener.tls().cloned()).collect(),
            #[cfg(feature = "tls")]
            target: None,
            endpoints,
            doors,
            shared,
            totals: Arc::default(),
            observers: observers.clone(),
            threads: Vec::with_capacity(threads),
            files: listeners.iter_mut().flat_map(|listener| listener.files()).collect(),
        };
        for (index, mailbox) in letters.into_iter().enumerate() {
            let parts = listeners.iter_mut().map(|listener| listener.part(index));
            let thread = ThreadParts {
                index,
                kind: kind.clone(),
                parts: parts.collect(),
                mailbox,
                limits: Limits::clone(&limits),
                observers: observers.clone(),
                shared: Arc::clone(&running.shared),
                totals: Arc::clone(&running.totals),
            };
            running.threads.push(thread.spawn()?);
        }
        for endpoint in running.endpoints.iter().flatten() {
            observers.emit(|| What::Listen { addr: endpoint, reach: endpoint.reach() });
        }
        Ok(running)
    }
}

/// Tells of the calls that made a listening socket.
fn tell_door(observers: &Observers, endpoint: &Endpoint, fd: i32) {
    let calls = [Call::Socket, Call::Bind, Call::Listen];
    // Datagrams come without anybody listening for connections.
    let count = if endpoint.transport().is_datagram() { 2 } else { 3 };
    for call in calls.into_iter().take(count) {
        observers.call(None, (call, Some(fd)), Some(endpoint));
    }
}

/// What a thread is given.
struct ThreadParts<K: Kind> {
    index: usize,
    kind: K,
    parts: Vec<Part<K::Thread>>,
    mailbox: mpsc::Receiver<Mail>,
    limits: Limits,
    observers: Observers,
    shared: Arc<Shared>,
    totals: Arc<Totals>,
}

impl<K: Kind> ThreadParts<K> {
    fn spawn(self) -> Result<Thread> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let blocking = self.limits.blocking_threads.div_ceil(self.shared.loads.len()).max(1);
        let run = move || {
            let runtime = runtime::make(|builder| {
                builder.max_blocking_threads(blocking);
            });
            let runtime = match runtime {
                Ok(runtime) => runtime,
                // The receiver waits for exactly this word.
                Err(error) => return drop(ready.send(Err(error))),
            };
            LocalSet::new().block_on(&runtime, self.serve(stopped, ready));
            // What blocks on the pool is left behind, not waited for.
            runtime.shutdown_background();
        };
        let name = "adit".to_owned();
        let failed = |error: std::io::Error| {
            Error::new(code_of(&error), Blame::Local, "cannot start an I/O thread")
                .with_source(error)
        };
        let handle = std::thread::Builder::new().name(name).spawn(run).map_err(failed)?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Thread { stop: Some(stop), handle: Some(handle) }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Error::new(Code::Panic, Blame::Caller, "the service's maker panicked")),
        }
    }

    async fn serve(
        self,
        stopped: oneshot::Receiver<()>,
        ready: std::sync::mpsc::SyncSender<std::io::Result<()>>,
    ) {
        room::attend(self.shared.mailboxes[self.index].clone());
        let context = Context::new(self.limits, self.observers, self.totals);
        let worker = Worker::new(self.index, self.shared, Rc::new(context));
        tokio::task::spawn_local(Rc::clone(&worker).keep_time());
        let service = Rc::new(self.kind.thread());
        let parts = self.parts.into_iter().enumerate();
        let welcomes = parts.map(|(index, part)| part(index, &service, &worker)).collect();
        // Nobody listens to the word if the start was given up.
        drop(ready.send(Ok(())));
        tokio::select! {
            () = worker.read_mail(self.mailbox, welcomes) => {}
            () = worker.relieve() => {}
            _ = stopped => {}
        }
    }
}

impl Running {
    /// The first real address of the `index`-th listen call, in order of the calls; its port is the
    /// one the system chose for port 0.
    ///
    /// # Panics
    /// There were not so many listen calls.
    pub fn addr(&self, index: usize) -> &Endpoint {
        &self.endpoints[index][0]
    }

    /// Every address the server listens on.
    pub fn addrs(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().flatten()
    }

    /// The sockets the server listens on, as they really are.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Most connections at once: what the limits say, or what descriptors allow if that is less.
    pub fn conversations_max(&self) -> usize {
        self.shared.permits_max
    }

    /// Takes what is queued, closes the doors and finishes what there is; cuts the rest after
    /// `within`.
    ///
    /// # Cancel safety
    /// A dropped call stops the server at once.
    pub async fn drain(self, within: Duration) -> Report {
        self.drain_with_stats(within).await.0
    }

    /// The settings of TLS at one of the server's addresses: its certificate and that certificate's pin.
    #[cfg(feature = "tls")]
    pub fn tls(&self, endpoint: &Endpoint) -> Option<&ServerTls> {
        let at = self.endpoints.iter().position(|listener| listener.contains(endpoint))?;
        self.tls.get(at)?.as_ref()
    }

    /// Reads certificates, keys and authorities again, for connections to come; those there are keep what
    /// they have. Gives how many listeners have new ones.
    ///
    /// # Errors
    /// The first that failed. That listener keeps what it has, whole; the others have new ones.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self) -> Result<usize> {
        let mut failure = None;
        let mut reloaded = 0;
        for tls in self.tls.iter().flatten() {
            match tls.reload() {
                Ok(()) => reloaded += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(reloaded), Err)
    }

    /// As [`drain`](Self::drain), with the counts at the end.
    ///
    /// # Cancel safety
    /// A dropped call stops the server at once.
    pub async fn drain_with_stats(self, within: Duration) -> (Report, Stats) {
        self.observers.emit(|| What::Drain);
        let mut this = self;
        let report = drain::drain(&this.shared, &this.totals, within).await;
        this.shared.admission.tell_rest(&this.observers);
        // What is cut counts too.
        this.stop();
        (report, this.stats())
    }

    /// Says anew who may come, as [`Server::access`](crate::Server::access) said first; none is
    /// everybody. Returns when every I/O thread goes by it.
    ///
    /// It is for those who come: conversations that have begun go on, whoever they are with, and so do
    /// datagram peers until they have been silent for `limits.datagram_peer`.
    ///
    /// ```
    /// # async fn f() -> adit::Result {
    /// use adit::{AccessList, prelude::*};
    /// let echo = Server::new(fast(|msg, out| out.send(msg)));
    /// let running = echo.listen("tcp://127.0.0.1:0", Lines::new()).start()?;
    /// let office = AccessList::allow_only(["10.0.0.0/8".parse().unwrap()]);
    /// running.set_access(Some(office)).await;
    /// # Ok(()) }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(f()).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// After a dropped call some threads may go by the new list and others by the old one.
    pub async fn set_access(&self, list: Option<AccessList>) {
        let list = list.map(Arc::new);
        for mailbox in &self.shared.mailboxes {
            // A thread that is gone lets nobody in.
            drop(mailbox.send(Mail::Access(list.clone())).await);
        }
        self.pulse().await;
    }

    /// Waits until every I/O thread has answered: none is held up by a handler. A watchdog can be fed
    /// behind it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn pulse(&self) {
        let mut answers = Vec::with_capacity(self.shared.mailboxes.len());
        for mailbox in &self.shared.mailboxes {
            let (answer, answered) = oneshot::channel();
            if mailbox.send(Mail::Ask(answer)).await.is_ok() {
                answers.push(answered);
            }
        }
        for answered in answers {
            // A thread that has ended meanwhile is held up by nothing.
            drop(answered.await);
        }
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        let totals = &self.totals;
        Stats {
            open: self.shared.live() as u64,
            conversations: totals.opened.load(Relaxed),
            closed: totals.closed.load(Relaxed),
            failed: totals.failed.load(Relaxed),
            refused: totals.refused.load(Relaxed),
            dropped: totals.dropped.load(Relaxed),
            overflowed: totals.overflowed.load(Relaxed),
            held: self.shared.budget.held() as u64,
            lag: self.shared.lag(),
            bytes: totals.bytes(),
        }
    }

    /// Conversations on each I/O thread.
    pub fn loads(&self) -> Vec<usize> {
        self.shared.loads.iter().map(|load| load.load(Relaxed)).collect()
    }

    /// Lets the server run on without this handle, until the process ends.
    pub fn detach(mut self) {
        for thread in &mut self.threads {
            thread.handle = None;
            if let Some(stop) = thread.stop.take() {
                // The thread must never see it dropped.
                Box::leak(Box::new(stop));
            }
        }
    }

    /// Waits until a listening socket breaks, which is a bug or somebody closing foreign descriptors.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn broken(&self) -> Error {
        self.shared.broken().await
    }

    /// Stops the threads, and with them what still goes on.
    fn stop(&mut self) {
        for thread in &mut self.threads {
            thread.stop = None;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // Its panics were reported where they happened.
                drop(handle.join());
            }
        }
    }

    /// Runs until a signal, then drains.
    pub(crate) fn until(self, signals: Signals) -> Result<()> {
        let Signals { runtime, mut heard } = signals;
        runtime.block_on(async {
            let within = tokio::select! {
                within = heard.next() => within,
                error = self.broken() => {
                    self.drain(DRAIN).await;
                    return Err(error);
                }
            };
            tokio::select! {
                _ = self.drain(within) => {}
                _ = heard.next() => {}
            }
            Ok(())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the signals that end a server arrive.
pub(crate) struct Signals {
    runtime: Runtime,
    heard: Heard,
}

struct Heard {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on the signals end the server instead of the process.
    pub(crate) fn hear() -> Result<Self> {
        let hear = || {
            let runtime = runtime::make(|_| {})?;
            let entered = runtime.enter();
            let heard = Heard::new()?;
            drop(entered);
            Ok(Self { runtime, heard })
        };
        hear().map_err(|error: std::io::Error| {
            Error::new(code_of(&error), Blame::Local, "cannot listen for signals")
                .with_source(error)
        })
    }
}

impl Heard {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal; gives how long to drain.
    async fn next(&mut self) -> Duration {
        tokio::select! {
            _ = self.interrupt.recv() => DRAIN_AT_KEYBOARD,
            _ = self.terminate.recv() => DRAIN,
            _ = self.hangup.recv() => DRAIN,
        }
    }
}
