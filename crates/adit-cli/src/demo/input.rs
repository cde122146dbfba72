//! The lines of the demo: the user's own, or a built-in text when there are none.

use std::io;
use std::time::{Duration, Instant};

use adit::Result;
use adit::system::stdio::{self, Kind};

use super::table::thousands;

/// Lines when nobody gives any.
const BUILT_IN: &[u8] = b"hello world\nsecond line\nsockets are doors\n";
/// How long the input may be silent.
const SILENCE: Duration = Duration::from_secs(1);
/// How much of an endless input is taken.
const BYTES_MAX: usize = 64 << 20;
const TIME_MAX: Duration = Duration::from_secs(5);

/// What the clients will say.
pub(super) struct Input {
    /// As it was read, with its line ends.
    pub(super) bytes: Vec<u8>,
    /// Line by line, without `\n`.
    pub(super) lines: Vec<Vec<u8>>,
    origin: Origin,
}

enum Origin {
    StandardInput { cut: bool },
    BuiltIn(&'static str),
}

impl Input {
    /// Reads standard input if it is a pipe or a file and speaks within a second.
    pub(super) fn read() -> Result<Self> {
        let built_in = |why| Ok(Self::new(BUILT_IN.to_vec(), Origin::BuiltIn(why)));
        let stdin = io::stdin();
        match stdio::kind(&stdin) {
            Kind::Terminal => return built_in("standard input is a terminal"),
            Kind::Closed => return built_in("standard input is closed"),
            _ => {}
        }
        let (bytes, end) = collect(stdio::read_on_thread(stdin));
        match (bytes.is_empty(), end) {
            (true, End::Silent) => built_in("standard input is silent"),
            (true, _) => built_in("standard input is empty"),
            (false, end) => {
                let cut = !matches!(end, End::Over);
                Ok(Self::new(bytes, Origin::StandardInput { cut }))
            }
        }
    }

    fn new(bytes: Vec<u8>, origin: Origin) -> Self {
        let mut lines: Vec<Vec<u8>> =
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        // What follows the last newline is a line only if there is something.
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        Self { bytes, lines, origin }
    }

    /// `3 lines, 42 bytes from standard input`
    pub(super) fn description(&self) -> String {
        let (lines, bytes) = (thousands(self.lines.len()), thousands(self.bytes.len()));
        let s = if self.lines.len() == 1 { "" } else { "s" };
        match self.origin {
            Origin::StandardInput { cut: false } => {
                format!("{lines} line{s}, {bytes} bytes from standard input")
            }
            Origin::StandardInput { cut: true } => {
                format!("{lines} line{s}, {bytes} bytes from standard input, which goes on")
            }
            Origin::BuiltIn(why) => format!("{lines} built-in lines ({why})"),
        }
    }
}

/// How reading stopped.
enum End {
    Over,
    Silent,
    Enough,
}

fn collect(mut pieces: stdio::Pieces) -> (Vec<u8>, End) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let mut spoke = began;
    loop {
        match pieces.try_recv() {
            // An error ends the input as its end does: the demo shows what it has.
            Ok(Err(_)) => return (bytes, End::Over),
            Ok(Ok(piece)) => {
                bytes.extend_from_slice(&piece);
                spoke = Instant::now();
                if bytes.len() >= BYTES_MAX || began.elapsed() > TIME_MAX {
                    return (bytes, End::Enough);
                }
            }
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return (bytes, End::Over),
            Err(tokio::sync::mpsc::error::TryRecvError::Empty) => {
                if spoke.elapsed() > SILENCE {
                    return (bytes, End::Silent);
                }
                // The pieces come from another thread and this one has nothing else to do.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}
