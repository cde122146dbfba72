//! Program: a program of any language that serves a connection by its standard input and output.

mod datagrams;
mod process;
mod relay;
mod variables;
mod worker;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use adit_net::child::{self, Guard, Launch, Sandbox, User};
use tokio::sync::Semaphore;

use crate::stream::{StreamService, sealed};
use crate::{Blame, BoxError, Code, Conn, Error, Peer, Result, Service};

pub use adit_net::child::Ended;
pub use process::Process;
pub use worker::Worker;

/// A program that serves one peer: what the peer sends is its standard input, what it writes to its
/// standard output goes to the peer. One process for each connection, or for each datagram.
///
/// ```
/// # async fn f() -> adit::Result {
/// use adit::prelude::*;
/// let upper = Program::new("tr").args(["a-z", "A-Z"]);
/// let server = Server::streams(upper).listen("tcp://127.0.0.1:0").start()?;
///
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// let mut conn = Dial::new().connect(server.addr(0)).await?;
/// conn.write_all(b"hello").await?;
/// conn.shutdown().await?; // the end of its input
/// let mut answer = String::new();
/// conn.read_to_string(&mut answer).await?;
/// assert_eq!(answer, "HELLO");
/// # Ok(()) }
/// # tokio::runtime::Runtime::new().unwrap().block_on(f()).unwrap();
/// ```
///
/// The program has a Unix socket as descriptors 0 and 1, and adit carries bytes between it and the
/// connection: all limits, counts and events hold, and the close is adit's. The peer's end is the end
/// of its input; it may go on writing. When it ends, everything it has written is sent, then our
/// direction ends. Any status but 0 is `handler`, and told in the `error` event.
///
/// Its environment has what was given by [`env`](Self::env) and the addresses of the connection:
/// `PROTO` and, as tcpserver names them, `TCPLOCALIP TCPLOCALPORT TCPREMOTEIP TCPREMOTEPORT` (`UDP..`;
/// `UNIXLOCALPATH UNIXREMOTEEUID UNIXREMOTEEGID UNIXREMOTEPID`), and `ADIT_SCHEME ADIT_CONN
/// ADIT_PEER_ADDR ADIT_PEER_PORT ADIT_LOCAL_ADDR ADIT_LOCAL_PORT`. Nothing in it is text of the peer.
///
/// It is started with exactly the descriptors 0, 1 and 2 (standard error is ours), signals as they are
/// at the start of the world, the limit on descriptors that this process was started with, in a process
/// group of its own, and never with more rights than we have (`no_new_privs`). At the end of the
/// conversation its group ends: by SIGTERM, and after a second by SIGKILL. When the program has ended, the
/// conversation goes on for as long as others of its group write: a second without a word is the end. A
/// guard (a process named `adit-guard`) ends everything that was started when this process ends, also by
/// `kill -9`, descendants with a session of their own included.
#[derive(Clone)]
pub struct Program {
    plan: Plan,
    at_work: Arc<AtWork>,
}

/// What was asked for.
#[derive(Clone)]
struct Plan {
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    children_max: usize,
    user: Option<User>,
    /// The limits of a sandbox, and whether it runs for long.
    sandbox: Option<Sandboxed>,
    takes_sockets: bool,
}

/// How long the processes of a sandbox run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sandboxed {
    ForOnePeer,
    ForLong,
}

/// What all clones share from the first start on.
#[derive(Default)]
struct AtWork {
    guard: Mutex<Option<Arc<Guard>>>,
    permits: OnceLock<Permits>,
    /// Places that a guard keeps taken which does nothing.
    unanswered: Arc<AtomicUsize>,
}

/// Who may run, and who may wait.
struct Permits {
    running: Arc<Semaphore>,
    /// Datagrams: a connection waits in the queue of the kernel.
    waiting: Arc<Semaphore>,
}

/// Programs at once, as tcpserver has it.
const CHILDREN_MAX: usize = 40;
/// The guard has room for all of them from its start.
const CHILDREN_CEILING: usize = 1 << 16;
/// Datagrams that may wait for a program; each is at most 64 KiB.
const WAITING_MAX: usize = 1024;
/// Where programs are looked for without a `PATH` (execvp(3)).
const FOLDERS: &str = "/bin:/usr/bin";

impl Program {
    /// A program by its path, or by its name: without a slash it is looked for in the folders of the
    /// variable `PATH` that [`env`](Self::env) gives it, else in `/bin` and `/usr/bin`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let plan = Plan {
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            children_max: CHILDREN_MAX,
            user: None,
            sandbox: None,
            takes_sockets: false,
        };
        Self { plan, at_work: Arc::default() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, argument: impl Into<OsString>) -> Self {
        self.args([argument])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.with(|plan| plan.arguments.extend(arguments.into_iter().map(Into::into)))
    }

    /// Adds a variable to its environment, in which nothing is of ours otherwise.
    #[must_use]
    pub fn env(self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.with(|plan| plan.variables.push((name.into(), value.into())))
    }

    /// At most so many processes at once, from 1 to 65,536; 40. Whoever comes then waits, a connection in the
    /// queue of the kernel.
    #[must_use]
    pub fn children_max(self, children: usize) -> Self {
        self.with(|plan| plan.children_max = children.clamp(1, CHILDREN_CEILING))
    }

    /// Runs it as another user, with the groups of that user and no way back. Only root can.
    #[must_use]
    pub fn user(self, user: User) -> Self {
        self.with(|plan| plan.user = Some(user))
    }

    /// Keeps every process to limits and to a part of the machine: 60 s of a processor, 256 descriptors,
    /// 1 GiB of memory, 1,024 processes of its user; and, where the kernel has Landlock (landlock(7)), it
    /// reads `/usr /lib /lib64 /bin /etc/ssl` and itself, and writes the current folder, no other file;
    /// its signals and abstract sockets stay inside, where the kernel can do that. It is refused calls that
    /// trace, mount, make namespaces, load modules and the like (seccomp(2)), and all calls of 32-bit
    /// programs. What it comes to here says [`policy`](Self::policy). A process whose sandbox cannot be set up
    /// is not run. The server itself is not confined: that is for its program to ask for, by
    /// [`refuse_calls`](crate::system::child::refuse_calls).
    #[must_use]
    pub fn sandbox(self) -> Self {
        self.with(|plan| plan.sandbox = Some(Sandboxed::ForOnePeer))
    }

    /// What its sandbox comes to on this machine, in one line; none without one.
    ///
    /// # Errors
    /// The program is not there, or the sandbox cannot be set up.
    pub fn policy(&self) -> Result<Option<String>> {
        let sandbox = self.found().and_then(|found| self.confined(&found));
        let named = |failed: &Failed| Error::new(failed.code, Blame::Caller, failed.text.clone());
        let sandbox = sandbox.map_err(|error| named(&self.cannot_run(&error)))?;
        Ok(sandbox.map(|sandbox| sandbox.policy().to_owned()))
    }

    /// Gives every process the socket of its connection itself, as tcpserver does: nothing is relayed,
    /// which costs less, and nothing is seen of it. Nobody counts its bytes, the limits on silence, stalls
    /// and bytes do not hold, and the close is the program's: one that leaves input unread resets the
    /// connection. Others of the program's group have a second when it has ended, whether they write or not.
    /// `Limits::max_time`, the number of processes, and the end of the server hold. Connections only.
    #[must_use]
    pub fn takes_sockets(self) -> Self {
        self.with(|plan| plan.takes_sockets = true)
    }

    /// The same program for datagrams: each is the standard input of a process of its own, and what
    /// that process writes goes back to the sender as one datagram; none if it writes nothing. Many at
    /// once; answers to one peer keep the order of its datagrams. A process has 30 s.
    ///
    /// ```
    /// use adit::prelude::*;
    /// let upper = Program::new("tr").args(["a-z", "A-Z"]);
    /// let server = Server::new(upper.datagrams()).listen_datagrams("udp://127.0.0.1:0").start()?;
    /// let client = BlockingClient::connect(server.addr(0))?;
    /// assert_eq!(client.call("hello").send()?, "HELLO");
    /// # Ok::<(), adit::Error>(())
    /// ```
    pub fn datagrams(&self) -> impl Service + use<> {
        datagrams::Answers(self.clone())
    }

    /// Looks whether the program is there, and starts its guard. A server does it before it binds.
    ///
    /// # Errors
    /// `not-found` and `cannot-run`; or there is no process left for a guard.
    pub fn ready(&self) -> Result<()> {
        let named = |failed: &Failed| Error::new(failed.code, Blame::Caller, failed.text.clone());
        self.guard().map(drop).map_err(|failed| named(&failed))
    }

    fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        // What runs already was started by another plan.
        self.at_work = Arc::default();
        self
    }

    /// The guard; a new one if there is none, or it has died.
    fn guard(&self) -> Result<Arc<Guard>, Failed> {
        let mut guard = self.at_work.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guard.as_ref().filter(|guard| guard.is_alive()) {
            return Ok(Arc::clone(guard));
        }
        let launch = self.launch().map_err(|error| self.cannot_run(&error))?;
        let started = Guard::start(&launch).map_err(|error| Failed {
            code: Code::Internal,
            text: format!("cannot run {}: no guard: {error}", self.shown()),
        })?;
        Ok(Arc::clone(guard.insert(Arc::new(started))))
    }

    fn found(&self) -> io::Result<PathBuf> {
        let path = self.plan.variables.iter().rfind(|(name, _)| name == "PATH");
        let folders = path.map_or_else(|| OsStr::new(FOLDERS), |(_, folders)| folders);
        child::find(&self.plan.program, folders)
    }

    fn confined(&self, found: &Path) -> io::Result<Option<Sandbox>> {
        let Some(sandboxed) = self.plan.sandbox else { return Ok(None) };
        let is_root = self.plan.user.as_ref().map_or_else(child::is_root, |user| user.uid == 0);
        Sandbox::new(found, is_root, sandboxed == Sandboxed::ForLong).map(Some)
    }

    fn launch(&self) -> io::Result<Launch> {
        let Plan { program, arguments, variables, children_max, user, .. } = &self.plan;
        let found = self.found()?;
        let mut launch = Launch::new(&found, program.as_os_str(), *children_max)?;
        for argument in arguments {
            launch.argument(argument)?;
        }
        for (name, value) in variables {
            launch.variable(name, value)?;
        }
        if let Some(user) = user {
            launch.user(user.clone());
        }
        if let Some(sandbox) = self.confined(&found)? {
            launch.sandbox(sandbox);
        }
        Ok(launch)
    }

    fn permits(&self) -> &Permits {
        self.at_work.permits.get_or_init(|| Permits {
            running: Arc::new(Semaphore::new(self.plan.children_max)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        })
    }

    /// Its name as it is printed.
    fn shown(&self) -> String {
        let name = self.plan.program.as_os_str().as_encoded_bytes();
        adit_proto::escape::escape_line(name, 200)
    }

    /// Why it does not run.
    fn cannot_run(&self, error: &io::Error) -> Failed {
        let is_there = self.plan.program.exists();
        let (code, why) = match error.kind() {
            // What is named in its first line can be missing as well.
            io::ErrorKind::NotFound if is_there => {
                (Code::CannotRun, "its interpreter is not there".to_owned())
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                (Code::NotFound, "no such file".to_owned())
            }
            io::ErrorKind::PermissionDenied if self.plan.program.is_dir() => {
                (Code::CannotRun, "it is a directory".to_owned())
            }
            io::ErrorKind::PermissionDenied => (Code::CannotRun, "not executable".to_owned()),
            io::ErrorKind::WouldBlock => (Code::CannotRun, "too many processes".to_owned()),
            _ => (Code::CannotRun, error.to_string()),
        };
        Failed { code, text: format!("cannot run {}: {why}", self.shown()) }
    }

    /// What an end that is no success means for a peer.
    fn judge(&self, ended: Ended, peer: impl fmt::Display) -> Result<(), Failed> {
        let how = match ended {
            Ended::Exit(0) => return Ok(()),
            Ended::Exit(status) => format!("exit {status}"),
            Ended::Signal(signal) => format!("signal {signal}"),
            Ended::NotRun(number) => {
                return Err(self.cannot_run(&io::Error::from_raw_os_error(number)));
            }
            Ended::Unguarded => "its guard was killed".to_owned(),
        };
        let peer = peer.to_string();
        let whom = if peer.is_empty() { peer } else { format!(" for peer {peer}") };
        let text = format!("{} failed{whom}: {how}", self.shown());
        Err(Failed { code: Code::Handler, text })
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("program", &self.plan.program)
            .field("arguments", &self.plan.arguments)
            .finish_non_exhaustive()
    }
}

/// A conversation has the connection, the other end of the program's socket, and the word of the guard.
fn as_descriptors_allow() -> usize {
    let Ok(limit) = adit_net::descriptors::limit() else { return usize::MAX };
    let soft = usize::try_from(limit.soft).unwrap_or(usize::MAX);
    // What the threads and the program itself have open, and the ends that are given away.
    let reserve = (soft / 4).min(64) + 8;
    (soft.saturating_sub(reserve) / 3).max(1)
}

/// A program that failed; with the code of success, one that just had nothing to say.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failed {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl sealed::Sealed for Program {}

impl StreamService for Program {
    fn ready(&self) -> Result<()> {
        Self::ready(self)
    }

    fn conversations_max(&self) -> Option<usize> {
        Some(self.plan.children_max.min(as_descriptors_allow()))
    }

    async fn serve(&self, conn: Conn) -> Result<(), BoxError> {
        let wire = conn.into_wire();
        let variables = variables::of_wire(&wire);
        let process = Box::pin(self.process(&variables, None)).await?;
        let ended = relay::carry(&wire, process).await?;
        self.judge(ended, wire.remote.place_text())?;
        Ok(())
    }

    fn takes_sockets(&self) -> bool {
        self.plan.takes_sockets
    }

    async fn serve_socket(&self, socket: OwnedFd, peer: Peer) -> Result<(), BoxError> {
        let variables = variables::of_socket(&peer, &socket);
        let mut process = Box::pin(self.process(&variables, Some(&socket))).await?;
        // From here on it is the program's alone: its end is the end of the connection.
        drop(socket);
        // Nothing of it is heard here.
        let ended = process.silent(|| false).await;
        self.judge(ended, peer.remote().place_text())?;
        Ok(())
    }
}
