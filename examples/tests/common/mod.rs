//! What the tests share: an example program as a child process, talked to and ended, with deadlines.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Longest time any single step of a test may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A running example. Dropping it kills this one process.
pub struct Program {
    name: String,
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Receiver<String>,
    complaints: Receiver<String>,
}

impl Program {
    /// Starts an example with these arguments.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        // All programs of the package lie side by side.
        let program = Path::new(env!("CARGO_BIN_EXE_adit_server")).with_file_name(name);
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take();
        let screen = lines_of(child.stdout.take().unwrap());
        let complaints = lines_of(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, keyboard, screen, complaints }
    }

    /// Starts a server on a free port of 127.0.0.1.
    pub fn serve(name: &str) -> Self {
        Self::start(name, &["127.0.0.1:0"])
    }

    /// The address in the next line, which says that the server listens.
    pub fn address(&self, transport: &str) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix(&format!("listening on {transport} "));
        address.unwrap_or_else(|| panic!("{}: {line}", self.name)).parse().unwrap()
    }

    /// The next line on the screen.
    pub fn line(&self) -> String {
        self.next(&self.screen).unwrap_or_else(|| {
            panic!("{} has ended: {:?}", self.name, self.complaints.try_iter().collect::<Vec<_>>())
        })
    }

    /// The next line of complaint.
    pub fn complaint(&self) -> String {
        self.next(&self.complaints).unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(text.as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    /// Ends the input, as Ctrl-D does.
    pub fn end_input(&mut self) {
        self.keyboard = None;
    }

    /// Asks the process to stop, as a service manager does.
    pub fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end of the process: what it still printed, and whether it ended well.
    pub fn end(&mut self) -> (Vec<String>, bool) {
        let rest = std::iter::from_fn(|| self.next(&self.screen)).collect();
        let complaints: Vec<_> = std::iter::from_fn(|| self.next(&self.complaints)).collect();
        // Both of its outputs have ended, so this does not wait for long.
        let status = self.child.wait().unwrap();
        if !status.success() {
            println!("{}: {status} {complaints:?}", self.name);
        }
        (rest, status.success())
    }

    /// The next line, none at the end.
    fn next(&self, lines: &Receiver<String>) -> Option<String> {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing came from {} in time", self.name),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads lines in a thread, so that waiting for one has a deadline.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(10_000);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            // The test may have heard enough.
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A TCP client that gives up after [`DEADLINE`].
pub fn tcp_client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    with_deadlines(stream)
}

/// A stream that gives up after [`DEADLINE`].
pub fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends a text and reads as many lines as it is to be answered with.
pub fn ask(stream: &mut TcpStream, text: &str, lines: usize) -> Vec<String> {
    stream.write_all(text.as_bytes()).unwrap();
    (0..lines).map(|_| read_line(stream)).collect()
}

/// Reads one line and nothing behind it.
pub fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Everything up to the end of the stream.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A socket that gives up after [`DEADLINE`].
pub fn udp_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Waits until a connection comes, no longer than [`DEADLINE`].
pub fn accept(listener: std::net::TcpListener) -> TcpStream {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || sender.send(listener.accept()));
    let (stream, _) = receiver.recv_timeout(DEADLINE).unwrap().unwrap();
    with_deadlines(stream)
}
