//! Scenes: short lives of the command, with peers that do nothing wrong.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{DEADLINE, Ran, bounded};
use crate::traced::{Fault, Traced};

/// One life.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Fault) -> Life,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) ran: Ran,
    /// The calls that were made to fail, as strace writes them.
    pub(crate) failed: String,
    /// Did the first client get all of its answer? Without `--once`: all clients?
    pub(crate) is_whole: bool,
    /// Was it told to end? A server is, once it has served its last client.
    pub(crate) was_stopped: bool,
}

const ASKED: &[u8] = b"hello\n";
const ANSWERED: &[u8] = b"HELLO\n";
/// A fault may cost one client; the next ones are served.
const CLIENTS: usize = 3;

pub(crate) fn serve_once(fault: &Fault) -> Life {
    let words = ["serve", "upper", "127.0.0.1:0", "--once", "--print-addr", "--idle=10s"];
    once(Traced::start(fault, &words), ANSWERED)
}

pub(crate) fn forward(fault: &Fault) -> Life {
    let target = echo().to_string();
    let words = ["forward", "127.0.0.1:0", &target, "--once", "--print-addr", "--idle=10s"];
    once(Traced::start(fault, &words), ASKED)
}

fn once(mut traced: Traced, expected: &[u8]) -> Life {
    let mut last = None;
    if let Some(place) = place(&traced, "tcp") {
        // Where the fault kept a client out, the next one is the one that is served.
        for _ in 0..CLIENTS {
            let Ok(answer) = exchange(place) else { break };
            let is_served = !answer.is_empty();
            last = Some(answer);
            if is_served {
                break;
            }
        }
    }
    let (ran, failed) = traced.wait();
    let is_whole = last.is_some_and(|answer| answer == expected);
    Life { ran, failed, is_whole, was_stopped: false }
}

pub(crate) fn serve_many(fault: &Fault) -> Life {
    let traced =
        Traced::start(fault, &["serve", "upper", "127.0.0.1:0", "--print-addr", "--drain=5s"]);
    many(traced, "tcp", |place| exchange(place).is_ok_and(|answer| answer == ANSWERED))
}

pub(crate) fn serve_datagrams(fault: &Fault) -> Life {
    let words = ["serve", "upper", "udp://127.0.0.1:0", "--print-addr", "--drain=5s"];
    many(Traced::start(fault, &words), "udp", |place| {
        ask(place).is_ok_and(|answer| answer == ANSWERED)
    })
}

fn many(mut traced: Traced, transport: &str, is_served: impl Fn(SocketAddr) -> bool) -> Life {
    let place = place(&traced, transport);
    let served: Vec<bool> =
        place.map_or_else(Vec::new, |at| (0..CLIENTS).map(|_| is_served(at)).collect());
    // Each thread counts its own calls, so that the fault may meet the last of these and more of them.
    let serves_on = place.is_some_and(|at| (0..CLIENTS).any(|_| is_served(at)));
    // One that serves nobody any more has to end by itself.
    if serves_on {
        traced.program.signal(Signal::TERM);
    }
    let (ran, failed) = traced.wait();
    let is_whole = !served.is_empty() && served.iter().all(|is_served| *is_served);
    Life { ran, failed, is_whole, was_stopped: serves_on }
}

pub(crate) fn connect(fault: &Fault) -> Life {
    let target = echo().to_string();
    let mut traced = Traced::start(fault, &["connect", &target, "--idle=10s"]);
    traced.program.feed(ASKED.to_vec());
    let (ran, failed) = traced.wait();
    let is_whole = ran.out == ASKED;
    Life { ran, failed, is_whole, was_stopped: false }
}

/// Where it listens, if it got that far.
fn place(traced: &Traced, transport: &str) -> Option<SocketAddr> {
    let line = traced.program.out.first_line()?;
    line.strip_prefix(transport)?.trim().parse().ok()
}

/// Asks and reads the answer to its end, or as far as it comes.
fn exchange(place: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = bounded(TcpStream::connect(place)?);
    let mut answer = Vec::new();
    let asked = stream.write_all(ASKED).and_then(|()| stream.shutdown(Shutdown::Write));
    // What came before an error is an answer too, though no whole one.
    if asked.is_err() || stream.read_to_end(&mut answer).is_err() {
        answer.pop();
    }
    Ok(answer)
}

/// Asks until an answer comes, as any program over UDP has to.
fn ask(place: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(place)?;
    let mut answer = [0; 100];
    let mut result = Ok(0);
    for _ in 0..3 {
        socket.send(ASKED)?;
        result = socket.recv(&mut answer);
        if result.is_ok() {
            break;
        }
    }
    result.map(|bytes| answer[..bytes].to_vec())
}

/// A server of the test's own that gives back what it gets, for as long as the test runs.
fn echo() -> SocketAddr {
    static PLACE: OnceLock<SocketAddr> = OnceLock::new();
    *PLACE.get_or_init(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let place = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut back = bounded(stream.try_clone()?);
                    io::copy(&mut bounded(stream), &mut back)?;
                    back.shutdown(Shutdown::Write)
                });
            }
        });
        place
    })
}

const _: () = assert!(DEADLINE.as_secs() > 10, "a hang ends the command before it ends the test");
