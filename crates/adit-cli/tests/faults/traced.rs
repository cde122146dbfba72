//! Traced: the command under strace, which makes calls of it fail.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::common::{Heard, Program, Ran, Scratch, skipped};

/// Which calls fail, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    pub(crate) error: &'static str,
    /// The first and the last that fail, counted from 1 in each thread.
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, error, first, last } = self;
        write!(f, "inject={call}:error={error}:when={first}..{last}")
    }
}

/// The command, and what strace says of it.
pub(crate) struct Traced {
    pub(crate) program: Program,
    log: Heard,
    _scratch: Scratch,
}

impl Traced {
    /// Starts the command with these words.
    pub(crate) fn start(fault: &Fault, words: &[&str]) -> Self {
        Self::of(&[env!("CARGO_BIN_EXE_adit")], fault, words)
    }

    fn of(program: &[&str], fault: &Fault, words: &[&str]) -> Self {
        let scratch = Scratch::new();
        let pipe = scratch.path().join("log");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // The tracer is a grandchild, so that the child is the command: its signals and its status are
        // its own, and it does not outlive the test. The log is over when the tracer is.
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-yy", "-qqq", "-e", "signal=none", "-o"]).arg(&pipe);
        command.args(["-e", &format!("trace={}", fault.call), "-e", &fault.to_string()]);
        let (reader, writer) = io::pipe().unwrap();
        if fault.call == "write" {
            // Only standard output: a write that wakes a thread, to a counter, fails on no kernel.
            let name = std::fs::read_link(format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap();
            command.arg("-P").arg(name);
        }
        command.args(program).args(words).env_remove("RUST_BACKTRACE").stdout(writer);
        command.stdin(Stdio::piped());
        let log = Heard::of(Pipe::Closed(pipe));
        let mut program = Program::start_with_output(&mut command);
        program.out = Heard::of(reader);
        Self { program, log, _scratch: scratch }
    }

    /// Waits for the end, which is made to come if it does not; also gives the calls that failed.
    pub(crate) fn wait(&mut self) -> (Ran, String) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.program.wait()));
        let ran = ended.unwrap_or_else(|_still_running| {
            self.program.signal(Signal::KILL);
            self.program.wait()
        });
        let log = String::from_utf8_lossy(&self.log.to_end()).into_owned();
        let failed = log.lines().filter(|line| line.ends_with("(INJECTED)"));
        (ran, failed.collect::<Vec<_>>().join("\n"))
    }
}

/// Whether strace may trace here; if not, the test says so and is skipped.
pub(crate) fn may_trace() -> bool {
    let fault = Fault { call: "openat", error: "EINTR", first: 1000, last: 1000 };
    let (ran, _) = Traced::of(&["true"], &fault, &[]).wait();
    if ran.status != 0 {
        skipped(&format!("strace may not trace here: {}", ran.err));
    }
    ran.status == 0
}

/// A pipe with a name, opened when it is first read: opening waits for its writer.
enum Pipe {
    Closed(PathBuf),
    Open(File),
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Self::Closed(path) = self {
            *self = Self::Open(File::open(path)?);
        }
        match self {
            Self::Open(file) => file.read(buf),
            Self::Closed(_) => Ok(0),
        }
    }
}
