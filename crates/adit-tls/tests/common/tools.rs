//! Other programs that speak TLS: started, waited for, ended.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use crate::common::DEADLINE;

/// What a program left behind.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// An address of the test's own: a loopback address that no other test listens on, in this process or
/// another.
pub(crate) fn own_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = u16::try_from(std::process::id() % 0x3fff).unwrap().to_be_bytes();
    let ip = Ipv4Addr::new(127, 128 + high, low, COUNT.fetch_add(1, Relaxed));
    (IpAddr::V4(ip), 7000).into()
}

/// A command line; HOST and PORT stand for the address.
pub(crate) fn tool(words: &[&str], address: SocketAddr) -> Command {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut words = words.iter().map(|word| word.replace("HOST", &host).replace("PORT", &port));
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// Runs a program to its end, at most for the deadline, with this as its whole input.
pub(crate) async fn run(command: Command, input: &str) -> Ran {
    let mut running = Running::start(command);
    let pid = running.0.id();
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut stdin = running.0.stdin.take().unwrap();
        // A program that does not read to the end is none of our business here.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        running.finish()
    });
    if let Ok(ran) = tokio::time::timeout(DEADLINE, ran).await {
        return ran.unwrap();
    }
    adit_net::process::terminate(pid).unwrap();
    unreachable!("it did not end");
}

/// A program, killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(adit_net::child::ends_with_us(&mut command).spawn().unwrap())
    }

    fn finish(mut self) -> Ran {
        let (out, err) = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        let out = thread::spawn(|| text(out));
        let err = text(err);
        let status = self.0.wait().unwrap().code();
        Ran { status, out: out.join().unwrap(), err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn text(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    drop(from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A server of theirs that listens, with its input open.
pub(crate) struct Theirs {
    running: Running,
    lines: Receiver<String>,
}

impl Theirs {
    /// Starts it and waits for the words it says when it listens.
    pub(crate) fn listen(words: &[&str], address: SocketAddr, ready: &str) -> Self {
        Self::start(tool(words, address), ready)
    }

    /// The same with a command; empty words are not waited for.
    pub(crate) fn start(command: Command, ready: &str) -> Self {
        let mut running = Running::start(command);
        let (tell, lines) = sync_channel(10_000);
        let out = BufReader::new(running.0.stdout.take().unwrap());
        let err = BufReader::new(running.0.stderr.take().unwrap());
        let also = tell.clone();
        // They end with the program. A line that nobody awaits is dropped.
        thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        thread::spawn(move || {
            err.lines().map_while(Result::ok).try_for_each(|line| also.send(line))
        });
        let theirs = Self { running, lines };
        if !ready.is_empty() {
            theirs.wait_for(ready);
        }
        theirs
    }

    /// Waits for a line of its output with these words in it.
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => said.push(line),
                Err(_) => unreachable!("no {words:?} in {said:?}"),
            }
        }
    }

    pub(crate) fn input(&mut self) -> &mut impl std::io::Write {
        self.running.0.stdin.as_mut().unwrap()
    }

    /// Ends it at once, as kill -9 does: the kernel closes what it had open.
    pub(crate) fn kill(&mut self) {
        self.running.0.kill().unwrap();
        self.running.0.wait().unwrap();
    }
}
