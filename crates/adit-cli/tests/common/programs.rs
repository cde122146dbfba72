//! Programs under test: started with pipes or on a terminal, listened to, and ended with the test.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{DEADLINE, Scratch};

/// The command under test.
pub(crate) fn adit(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.args(words);
    command
}

/// Runs a program to its end with this input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut program = Program::start(command);
    program.feed(input.to_vec());
    program.wait()
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ran {
    /// As a shell sees it: 128 + n if a signal ended it.
    pub(crate) status: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// It ended with this status and this standard output, and said nothing.
    #[track_caller]
    pub(crate) fn assert_clean(&self, out: &str) {
        assert_eq!((self.status, self.text().as_str(), self.err.as_str()), (0, out, ""));
    }

    /// It failed with this status and said why, with this code.
    #[track_caller]
    pub(crate) fn assert_failed(&self, status: i32, code: &str) {
        let said = format!("(code={code})");
        assert!(self.status == status && self.err.contains(&said), "not {status} {said}: {self:?}");
    }
}

/// A child that ends with the test.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    pub(crate) out: Heard,
    pub(crate) err: Heard,
}

impl Program {
    /// Starts with pipes in place of the standard descriptors that the command does not set itself.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped());
        Self::start_with_input(command)
    }

    /// As [`start`](Self::start), with an input that the command sets.
    pub(crate) fn start_with_input(command: &mut Command) -> Self {
        command.stdout(Stdio::piped());
        Self::start_with_output(command)
    }

    /// As [`start`](Self::start), with an input and output that the command sets.
    pub(crate) fn start_with_output(command: &mut Command) -> Self {
        let spawned = command.stderr(Stdio::piped()).spawn();
        Self::of(spawned.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// A child that was started otherwise.
    pub(crate) fn of(mut child: Child) -> Self {
        let input = child.stdin.take();
        let out = child.stdout.take().map_or_else(Heard::nothing, Heard::of);
        let err = child.stderr.take().map_or_else(Heard::nothing, Heard::of);
        Self { child, input, out, err }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Holds it up, and waits until it does nothing any more; SIGCONT lets it go on.
    pub(crate) fn hold(&self) {
        self.signal(Signal::STOP);
        // The signal is sent at once, and heeded by one thread after the other (waitpid(2), WUNTRACED).
        let (_, state) = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(state.stopped(), "it ended instead: {state:?}");
    }

    /// Writes to its input and leaves it open.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Ends its input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Its input, to be written or kept by somebody else.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.input.take().unwrap()
    }

    /// Writes its input on a thread and ends it; a program that does not want all of it may.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) {
        let mut input = self.take_input();
        std::thread::spawn(move || input.write_all(&bytes));
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Ran {
        assert!(self.ends_in_time(), "still running: {:?} {:?}", self.err.text(), self.out.text());
        let status = self.child.wait().unwrap();
        let signal = status.signal();
        Ran {
            status: status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
            signal,
            out: self.out.to_end(),
            err: String::from_utf8_lossy(&self.err.to_end()).into_owned(),
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn ends_in_time(&self) -> bool {
        let Ok(end) = pidfd_open(self.pid(), PidfdFlags::empty()) else { return true };
        let limit = Timespec::try_from(DEADLINE).unwrap();
        poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit)).unwrap() > 0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a program says, as it comes.
#[derive(Clone)]
pub(crate) struct Heard(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Heard {
    /// Reads to the end on a thread.
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> Self {
        let heard = Self::new(Said::default());
        let tell = heard.clone();
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 << 10];
            loop {
                // A terminal whose other side is gone ends with an error.
                let bytes = source.read(&mut piece).unwrap_or(0);
                let (said, changed) = &*tell.0;
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.bytes.extend_from_slice(&piece[..bytes]);
                said.is_over = bytes == 0;
                changed.notify_all();
                if said.is_over {
                    return;
                }
            }
        });
        heard
    }

    fn nothing() -> Self {
        Self::new(Said { is_over: true, ..Said::default() })
    }

    fn new(said: Said) -> Self {
        Self(Arc::new((Mutex::new(said), Condvar::new())))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until this is part of what was said; gives all of it.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let wanted = text.as_bytes();
        let heard = self.wait_until(|said| said.windows(wanted.len()).any(|part| part == wanted));
        let as_text = |heard: Vec<u8>| String::from_utf8_lossy(&heard).into_owned();
        match heard.map(as_text).map_err(as_text) {
            Ok(heard) => heard,
            Err(heard) => panic!("no {text:?} came, only {heard:?}"),
        }
    }

    /// The first line, once it is whole; none if it never will be.
    pub(crate) fn first_line(&self) -> Option<String> {
        let said = self.wait_until(|said| said.contains(&b'\n')).ok()?;
        String::from_utf8_lossy(&said).lines().next().map(str::to_owned)
    }

    /// Waits until so many bytes were said.
    #[track_caller]
    pub(crate) fn wait_for_bytes(&self, count: usize) -> Vec<u8> {
        let bytes = self.wait_until(|said| said.len() >= count);
        bytes.unwrap_or_else(|heard| panic!("only {} of {count} bytes came", heard.len()))
    }

    /// Everything, at the end.
    #[track_caller]
    pub(crate) fn to_end(&self) -> Vec<u8> {
        // The wait ends with the end, which comes first or never.
        let bytes = self.wait_until(|_| false).unwrap_err();
        assert!(self.0.0.lock().unwrap().is_over, "the output did not end in time");
        bytes
    }

    /// What was said once the condition holds; an error once it cannot hold any more.
    fn wait_until(&self, holds: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, Vec<u8>> {
        let end = Instant::now() + DEADLINE;
        let (said, changed) = &*self.0;
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if holds(&said.bytes) {
                return Ok(said.bytes.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if said.is_over || left.is_zero() {
                return Err(said.bytes.clone());
            }
            said = changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A server of the command that is ready.
pub(crate) struct Server {
    pub(crate) program: Program,
    /// What it said to `--ready-fd`, a line for each socket: `tcp 127.0.0.1:40881`.
    pub(crate) lines: Vec<String>,
}

/// Starts `adit serve` with these words and waits until it says that it is ready.
#[track_caller]
pub(crate) fn serve(words: &[&str]) -> Server {
    Server::start("exec \"$@\" 3>\"$READY\"", words)
}

impl Server {
    /// Starts by a shell script, whose words are the command and whose variable READY names a pipe.
    #[track_caller]
    pub(crate) fn start(script: &str, words: &[&str]) -> Self {
        Self::start_as(script, &[&["serve", "--ready-fd=3"], words].concat())
    }

    /// As [`start`](Self::start), with the verb and `--ready-fd=3` among the words.
    #[track_caller]
    pub(crate) fn start_as(script: &str, words: &[&str]) -> Self {
        let scratch = Scratch::new();
        let pipe = scratch.path().join("ready");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_adit")]);
        command.args(words).env("READY", &pipe);
        let program = Program::start(&mut command);
        let (sender, told) = sync_channel(1);
        std::thread::spawn(move || {
            let mut lines = String::new();
            // Opening waits for the program; its end of the pipe closes when all is said.
            let read = File::open(pipe).and_then(|mut pipe| pipe.read_to_string(&mut lines));
            sender.send(read.map(|_| lines))
        });
        let told = told.recv_timeout(DEADLINE);
        let lines = told.unwrap_or_else(|_| panic!("not ready in time: {:?}", program.err.text()));
        let lines: Vec<_> = lines.unwrap().lines().map(str::to_owned).collect();
        if lines.is_empty() {
            panic!("the server did not start: {}", String::from_utf8_lossy(&program.err.to_end()));
        }
        Self { program, lines }
    }

    /// The first address of a transport: `tcp`, `udp`, `unix`, `unix-dgram`.
    #[track_caller]
    pub(crate) fn place(&self, transport: &str) -> &str {
        let of_transport = |line: &'_ String| line.split(' ').next() == Some(transport);
        let line = self.lines.iter().find(|line| of_transport(line));
        let line = line.unwrap_or_else(|| panic!("no {transport} in {:?}", self.lines));
        &line[transport.len() + 1..]
    }

    #[track_caller]
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.place("tcp").parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn udp(&self) -> SocketAddr {
        self.place("udp").parse().unwrap()
    }

    /// Orders it to drain and waits for its end.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Ran {
        self.program.signal(Signal::TERM);
        self.program.wait()
    }
}

/// A pseudo-terminal that passes bytes as they are: the test's side, and the program's side.
pub(crate) fn terminal() -> (File, File) {
    pseudo_terminal(Termios::make_raw)
}

/// A pseudo-terminal that knows Ctrl-D and whole lines, and shows nothing of what is typed.
pub(crate) fn keyboard() -> (File, File) {
    pseudo_terminal(|settings| settings.local_modes.remove(LocalModes::ECHO))
}

fn pseudo_terminal(set: impl FnOnce(&mut Termios)) -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    let mut settings = tcgetattr(&theirs).unwrap();
    set(&mut settings);
    tcsetattr(&theirs, OptionalActions::Now, &settings).unwrap();
    (File::from(ours), theirs)
}
