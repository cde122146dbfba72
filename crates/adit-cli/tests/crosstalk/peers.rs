//! The other tools: whether they are here, how they are started, and when they are ready.

use std::net::{Ipv6Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use socket2::{Domain, Socket, Type};

use crate::common::{DEADLINE, Heard, Program, Ran, Server, find, own_ip, run, skipped};

/// A command line; HOST, PORT and PATH stand for the place where it listens or connects.
pub(crate) type Words = &'static [&'static str];

/// Whether a tool is here; if not, the test says so and goes on without it.
pub(crate) fn is_here(program: &str) -> bool {
    // Several programs are called nc; they have little in common.
    find(program).is_some() && (program != "nc" || is_version("nc", "OpenBSD netcat"))
}

/// Whether a tool is here in the version whose limits were measured; another one may not have them.
pub(crate) fn is_measured(program: &str) -> bool {
    let version = match program {
        "nc" => "OpenBSD netcat (Debian patchlevel 1.219",
        "ncat" => "Ncat: Version 7.93",
        "socat" => "socat version 1.7.4",
        // They have had one version since 2000, and do not tell.
        _ => return is_here(program),
    };
    find(program).is_some() && is_version(program, version)
}

fn is_version(program: &str, version: &str) -> bool {
    let flag = match program {
        "nc" => "-h",
        "ncat" => "--version",
        _ => "-V",
    };
    let told = run(Command::new(program).arg(flag), b"");
    let is_it = told.err.contains(version) || told.text().contains(version);
    if !is_it {
        skipped(&format!("{program} is not {version}"));
    }
    is_it
}

/// A command line with its place filled in.
pub(crate) fn tool(words: &[&str], address: SocketAddr) -> Command {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    filled(words, |word| word.replace("HOST", &host).replace("PORT", &port))
}

/// A command line with the path, or abstract name, of a Unix socket filled in.
pub(crate) fn tool_on(words: &[&str], path: &str) -> Command {
    filled(words, |word| word.replace("PATH", path))
}

fn filled(words: &[&str], fill: impl Fn(&str) -> String) -> Command {
    let mut command = Command::new(words[0]);
    command.args(words[1..].iter().map(|word| fill(word)));
    command
}

/// An address of the test's own to listen on.
pub(crate) fn own_address() -> SocketAddr {
    (own_ip(), 7000).into()
}

/// A port that is free on all addresses, over TCP and UDP. It is below those that the kernel gives to
/// who asks for any, and far from that of a test in another process: nobody takes it meanwhile.
pub(crate) fn own_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 2000).unwrap();
    for _ in 0..100 {
        let port = 10_000 + process * 10 + COUNT.fetch_add(1, Relaxed);
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into();
        // Without SO_REUSEADDR, as some of theirs: an old connection that waits out its time counts.
        let is_free = |kind| Socket::new(Domain::IPV6, kind, None).unwrap().bind(&any).is_ok();
        if is_free(Type::STREAM) && is_free(Type::DGRAM) {
            return port;
        }
    }
    unreachable!("a hundred ports are in use")
}

/// The IPv6 address of this machine, with a port of the test's own.
pub(crate) fn own_address_v6() -> SocketAddr {
    (Ipv6Addr::LOCALHOST, own_port()).into()
}

/// The same port on another address.
pub(crate) fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

/// A server of theirs with all its processes: some start one for each peer, which would outlive it.
pub(crate) struct Theirs(Program);

impl Deref for Theirs {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl DerefMut for Theirs {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.0
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // One that has ended by itself has ended with its processes, and its number may be another's.
        if self.0.is_running() {
            let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
            kill_process_group(group.unwrap(), Signal::KILL).unwrap();
        }
    }
}

/// Starts a server of theirs and waits until it says that it listens.
#[track_caller]
pub(crate) fn listening(words: &[&str], address: SocketAddr) -> Theirs {
    started(words, &mut tool(words, address))
}

/// As [`listening`], on a Unix socket.
#[track_caller]
pub(crate) fn listening_on(words: &[&str], path: &str) -> Theirs {
    started(words, &mut tool_on(words, path))
}

#[track_caller]
fn started(words: &[&str], command: &mut Command) -> Theirs {
    let theirs = Theirs(Program::start(command.process_group(0)));
    wait_until_it_listens(words, &theirs);
    theirs
}

#[track_caller]
fn wait_until_it_listens(words: &[&str], program: &Program) {
    match words {
        // The number of its port, which `-1` asks for.
        ["tcpserver", ..] => program.out.wait_for("\n"),
        // Asked by `-d -d`; each kind of address has its own words, and -RECV has none.
        ["socat", rest @ ..] if rest.iter().any(|word| word.contains("-RECVFROM:")) => {
            program.err.wait_for(" receiving on ")
        }
        ["socat", rest @ ..] if rest.iter().any(|word| word.contains("-RECV:")) => {
            program.err.wait_for(" starting data transfer ")
        }
        ["socat", ..] => program.err.wait_for(" listening on "),
        ["openssl", ..] => program.out.wait_for("ACCEPT\n"),
        // Before it listens, nc says that it is bound; with datagrams there is nothing after that.
        ["nc", flags, ..] if flags.contains('u') => program.err.wait_for("Bound on "),
        _ => program.err.wait_for("Listening on "),
    };
}

/// Waits until a text was said so many times.
#[track_caller]
pub(crate) fn wait_for_count(heard: &Heard, text: &str, count: usize) {
    let end = Instant::now() + DEADLINE;
    while heard.text().matches(text).count() < count {
        assert!(Instant::now() < end, "not {count} times {text:?}: {:?}", heard.text());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// It ended with status 0 and this output. What it said besides is its own matter.
#[track_caller]
pub(crate) fn assert_done(ran: &Ran, out: &str, who: &[&str]) {
    assert_eq!((ran.status, ran.text().as_str()), (0, out), "{who:?}: {}", ran.err);
}

/// A server with `--once` ended well, and printed this.
#[track_caller]
pub(crate) fn assert_served(server: &mut Server, out: &str, who: &[&str]) {
    assert_done(&server.program.wait(), out, who);
}
