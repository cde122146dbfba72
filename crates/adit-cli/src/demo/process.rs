//! The processes of the demo: started from this same program, ended with it, read in the background.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use adit::system::{child, process};
use adit::{Blame, Code, Error, Result};
use serde_json::Value;

use super::internal;

/// The command line of the server, as it can be pasted.
const SERVER: [&str; 5] = ["serve", "upper", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "--json"];

/// A running server with its events.
pub(super) struct Server {
    child: Guard,
    events: Receiver<Value>,
    pub(super) tcp: String,
    pub(super) udp: String,
    opened: u64,
    closed: u64,
    summary: Option<Value>,
}

/// How the server ended.
pub(super) struct ServerEnd {
    pub(super) conversations: u64,
    pub(super) cut: u64,
    pub(super) exit: i32,
}

/// Kills the process if the demo ends early.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Guard {
    /// Waits for the end; gives the exit status.
    fn wait(&mut self, patience: Duration, who: &str) -> Result<i32> {
        let began = Instant::now();
        loop {
            let status = self.0.try_wait().map_err(|error| internal(&error.to_string()))?;
            if let Some(status) = status {
                return Ok(status.code().unwrap_or(-1));
            }
            if began.elapsed() > patience {
                return Err(internal(&format!("{who} did not end")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn spawn(
    args: &[&str],
    flags: &[String],
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
) -> Result<Guard> {
    let failed = |error: std::io::Error| {
        Error::new(Code::Internal, Blame::Local, "demo: cannot start a process").with_source(error)
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(args).args(flags).stdin(stdin).stdout(stdout).stderr(stderr);
    child::ends_with_us(&mut command).spawn().map(Guard).map_err(failed)
}

impl Server {
    /// Starts the server and waits until it listens.
    pub(super) fn start(patience: Duration, flags: &[String]) -> Result<Self> {
        let null = Stdio::null;
        let mut child = spawn(&SERVER, flags, null(), null(), Stdio::piped())?;
        let Some(stderr) = child.0.stderr.take() else { return Err(internal("no events")) };
        // Room for every event that is kept: conversations and errors of a few clients.
        let (sender, events) = sync_channel(4096);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                let kept = ["listen", "open", "close", "summary", "error"];
                let is_kept = event["ev"].as_str().is_some_and(|word| kept.contains(&word));
                if is_kept && sender.send(event).is_err() {
                    return;
                }
            }
        });
        let (tcp, udp) = (String::new(), String::new());
        let mut server = Self { child, events, tcp, udp, opened: 0, closed: 0, summary: None };
        server.tcp = server.next_listen(patience)?;
        server.udp = server.next_listen(patience)?;
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub(super) fn command(&self) -> String {
        format!("adit {}", SERVER.join(" "))
    }

    fn next(&mut self, patience: Duration) -> Result<Option<Value>> {
        match self.events.recv_timeout(patience) {
            Ok(event) => {
                match event["ev"].as_str() {
                    Some("open") => self.opened += 1,
                    Some("close") => self.closed += 1,
                    Some("summary") => self.summary = Some(event.clone()),
                    Some("error") if event["fatal"] == true => {
                        let text = event["text"].as_str().unwrap_or("the server failed");
                        return Err(internal(text));
                    }
                    _ => {}
                }
                Ok(Some(event))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(internal("the server is silent")),
        }
    }

    fn wait_for(&mut self, word: &str, patience: Duration) -> Result<Value> {
        loop {
            match self.next(patience)? {
                Some(event) if event["ev"] == word => return Ok(event),
                Some(_) => {}
                None => return Err(internal("the server has ended")),
            }
        }
    }

    fn next_listen(&mut self, patience: Duration) -> Result<String> {
        let event = self.wait_for("listen", patience)?;
        let address = event["addr"].as_str().and_then(|address| address.split(' ').nth(1));
        address.map(str::to_owned).ok_or_else(|| internal("an address is missing"))
    }

    /// The source port of the next client.
    pub(super) fn next_open(&mut self, patience: Duration) -> Result<u16> {
        let event = self.wait_for("open", patience)?;
        let port = event["peer"].as_str().and_then(|peer| peer.rsplit(':').next()?.parse().ok());
        port.ok_or_else(|| internal("a port is missing"))
    }

    /// Conversations that are open as far as events tell.
    pub(super) fn open_now(&mut self) -> u64 {
        while let Ok(Some(_)) = self.next(Duration::ZERO) {}
        self.opened - self.closed
    }

    /// Tells the server to stop.
    pub(super) fn stop(&self) -> Result<()> {
        process::terminate(self.pid()).map_err(|error| internal(&error.to_string()))
    }

    /// Waits for its end.
    pub(super) fn finish(mut self, patience: Duration) -> Result<ServerEnd> {
        while self.next(patience)?.is_some() {}
        let exit = self.child.wait(patience, "the server")?;
        let summary = self.summary.take().ok_or_else(|| internal("the summary is missing"))?;
        let conversations = summary["conns"].as_u64().unwrap_or(0);
        Ok(ServerEnd { conversations, cut: conversations.saturating_sub(self.closed), exit })
    }
}

/// A running client with its standard input and output.
pub(super) struct Client {
    child: Guard,
    stdin: Option<ChildStdin>,
    stdout: Receiver<Vec<u8>>,
    received: Vec<u8>,
}

impl Client {
    pub(super) fn start(address: &str, flags: &[String]) -> Result<Self> {
        let (piped, stderr) = (Stdio::piped, Stdio::inherit());
        let mut child = spawn(&["connect", address], flags, piped(), piped(), stderr)?;
        let stdin = child.0.stdin.take();
        let Some(mut output) = child.0.stdout.take() else { return Err(internal("no output")) };
        let (sender, stdout) = sync_channel(64);
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 << 10];
            // Ends with the client, or when nobody listens any more.
            while let Ok(bytes @ 1..) = output.read(&mut piece)
                && sender.send(piece[..bytes].to_vec()).is_ok()
            {}
        });
        Ok(Self { child, stdin, stdout, received: Vec::new() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Takes the standard input away, to write it elsewhere; dropping it ends it.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Types something.
    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(internal("input is closed")) };
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .map_err(|error| internal(&format!("a client does not listen: {error}")))
    }

    /// What it prints up to the next newline, which is removed; none if nothing comes in time.
    pub(super) fn line(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return Some(line);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout.recv_timeout(left) {
                Ok(piece) => self.received.extend_from_slice(&piece),
                Err(_) => return None,
            }
        }
    }

    /// Everything it prints until its end.
    pub(super) fn output(&mut self, patience: Duration) -> Result<Vec<u8>> {
        loop {
            match self.stdout.recv_timeout(patience) {
                Ok(piece) => self.received.extend_from_slice(&piece),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(std::mem::take(&mut self.received));
                }
                Err(RecvTimeoutError::Timeout) => return Err(internal("a client is silent")),
            }
        }
    }

    /// Ends its input and waits for a clean end.
    pub(super) fn finish(mut self, patience: Duration) -> Result<()> {
        self.stdin = None;
        match self.child.wait(patience, "a client")? {
            0 => Ok(()),
            status => Err(internal(&format!("a client ended with exit {status}"))),
        }
    }
}
