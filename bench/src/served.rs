//! A server in a process of its own, on a processor of its own: what is measured is the server, and not
//! how the threads of those who ask it share a processor with it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use adit::prelude::*;
use adit::tls::ServerTls;
use adit::{Running, WhenFull};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The word that makes this program a server.
const WORD: &str = "--serve";
/// What a request of a service with work takes of a processor.
pub(crate) const WORK: Duration = Duration::from_millis(1);
/// Conversations of a service with few of them.
pub(crate) const FEW: usize = 16;
/// What a service with little memory may spend.
pub(crate) const MEMORY: usize = 64 << 20;

/// Servers to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each line is 1 ms of work; newcomers wait where there is no room.
    Waiting,
    /// The same; newcomers are turned away where there is no room.
    Refusing,
    /// The same with few conversations.
    Few,
    /// Little memory, and messages that may be long.
    Narrow,
    /// Answers lines at once, over TLS.
    Secured,
    /// Answers lines at once; nobody is exempt from the limits of a source.
    Guarded,
}

const KINDS: [(&str, Kind); 6] = [
    ("waiting", Kind::Waiting),
    ("refusing", Kind::Refusing),
    ("few", Kind::Few),
    ("narrow", Kind::Narrow),
    ("secured", Kind::Secured),
    ("guarded", Kind::Guarded),
];

impl Kind {
    fn limits(self) -> Limits {
        let limits = Limits::default();
        match self {
            Self::Waiting | Self::Secured => limits,
            Self::Guarded => Limits { exempt_loopback: false, ..limits },
            Self::Refusing => Limits { when_full: WhenFull::Refuse, ..limits },
            Self::Few => {
                Limits { when_full: WhenFull::Refuse, conversations: Limit::At(FEW), ..limits }
            }
            Self::Narrow => {
                Limits { memory: Limit::At(MEMORY), conversations: Limit::At(1000), ..limits }
            }
        }
    }

    fn works(self) -> bool {
        matches!(self, Self::Waiting | Self::Refusing | Self::Few)
    }

    fn start(self) -> Running {
        let works = self.works();
        let upper = fast(move |msg, out| {
            if works {
                work();
            }
            out.send(msg.to_ascii_uppercase());
        });
        let server = Server::new(upper).limits(self.limits()).threads(1);
        if self != Self::Secured {
            return server.listen("tcp://0.0.0.0:0", Lines::new()).start().unwrap();
        }
        let folder = std::env::temp_dir().join(format!("adit-bench-{}", std::process::id()));
        let server = server.tls(ServerTls::auto(&folder).unwrap());
        // It has been read.
        std::fs::remove_dir_all(&folder).unwrap();
        server.listen("tls://0.0.0.0:0", Lines::new()).start().unwrap()
    }
}

/// Time of the processor, not of the clock: what others do on this machine meanwhile is no work of ours.
fn work() {
    let spent = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let end = spent() + WORK;
    while spent() < end {}
}

/// Serves until standard input ends, if that is what the words ask for.
pub(crate) fn serve(words: &[String]) -> bool {
    let [word, name] = words else { return false };
    let kind = KINDS.iter().find(|(known, _)| name == known);
    let Some((_, kind)) = kind.filter(|_| word == WORD) else { return false };
    pin(0);
    let server = kind.start();
    println!("{}", server.addr(0).socket_addr().unwrap().port());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    println!("{}", server.stats().refused);
    true
}

/// Keeps this process to one of the processors; where there is only one, both ends share it.
pub(crate) fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // One that is not there, or is not ours, is refused.
    let _refused = sched_setaffinity(None, &set);
}

/// A server that runs; ended when dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: SocketAddr,
    said: BufReader<ChildStdout>,
}

impl Served {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_as(kind, |program| Command::new(program))
    }

    /// Starts it by a command that is made of the program's name.
    pub(crate) fn start_as(kind: Kind, command: impl FnOnce(&OsStr) -> Command) -> Self {
        let (name, _) = KINDS.iter().find(|(_, known)| *known == kind).unwrap();
        let mut command = command(std::env::current_exe().unwrap().as_os_str());
        command.args([WORD, name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        Self { child, address, said }
    }

    /// Ends it; gives how many it has turned away.
    pub(crate) fn refused(mut self) -> u64 {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    /// What it has taken of a processor so far.
    pub(crate) fn spent(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// For how long it has waited for its processor, which others had (proc(5), `schedstat`).
    pub(crate) fn waited(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok();
        let texts = tasks.flatten().filter_map(|task| of(task.path()));
        let fields = texts.filter_map(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
        Duration::from_nanos(fields.sum())
    }

    /// What it holds of memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Its input ends, and it with that.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}
