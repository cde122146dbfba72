//! Standard input and output: what they are, and reading and writing them beside sockets.
//!
//! The three standard descriptors are shared with the shell and with other programs, so they are never
//! made nonblocking: that would change them for everybody.

use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{FileType, fstat};

/// What a standard descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A terminal: a person.
    Terminal,
    /// A pipe.
    Pipe,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// `/dev/null` or another device.
    Device,
    /// Not open.
    Closed,
}

/// What a descriptor is.
pub fn kind(descriptor: &impl AsFd) -> Kind {
    if descriptor.as_fd().is_terminal() {
        return Kind::Terminal;
    }
    match fstat(descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Fifo) => Kind::Pipe,
        Ok(FileType::RegularFile) => Kind::File,
        Ok(FileType::Socket) => Kind::Socket,
        Ok(_) => Kind::Device,
        Err(_) => Kind::Closed,
    }
}

/// Length of what is left of a regular file, from where it will be read next.
pub fn file_bytes_left(descriptor: &impl AsFd) -> Option<u64> {
    let stat = fstat(descriptor).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let at = rustix::fs::tell(descriptor).ok()?;
    u64::try_from(stat.st_size).ok()?.checked_sub(at)
}

/// Bytes of one piece of standard input or output.
pub const PIECE: usize = 128 << 10;
/// Pieces that wait between the threads.
const WAITING: usize = 4;

/// Reads a descriptor on a thread of its own and hands over pieces in order.
///
/// A read of a terminal or pipe cannot be cancelled; the thread is left behind when the receiver is
/// dropped, and ends with the process. An empty piece never comes; the end of input is the end of the
/// channel, an error is its last item.
pub fn read_on_thread(mut source: impl Read + Send + 'static) -> Pieces {
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    let read = move || {
        loop {
            let mut piece = vec![0; PIECE];
            match source.read(&mut piece) {
                Ok(0) => return,
                Ok(bytes) => {
                    piece.truncate(bytes);
                    if sender.blocking_send(Ok(piece)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Nobody is left to hear it if this fails.
                    drop(sender.blocking_send(Err(error)));
                    return;
                }
            }
        }
    };
    drop(std::thread::Builder::new().name("adit-in".to_owned()).spawn(read));
    receiver
}

/// What a reading thread hands over.
pub type Pieces = tokio::sync::mpsc::Receiver<io::Result<Vec<u8>>>;

/// Writes a descriptor on a thread of its own, in order.
#[derive(Debug)]
pub struct Writer {
    pieces: Option<tokio::sync::mpsc::Sender<Vec<u8>>>,
    result: tokio::sync::watch::Receiver<Option<Result<(), io::ErrorKind>>>,
}

impl Writer {
    /// Starts the thread.
    pub fn new(mut sink: impl Write + Send + 'static) -> Self {
        let (pieces, mut waiting) = tokio::sync::mpsc::channel::<Vec<u8>>(WAITING);
        let (report, result) = tokio::sync::watch::channel(None);
        let write = move || {
            let mut written = Ok(());
            while let Some(piece) = waiting.blocking_recv() {
                written = sink.write_all(&piece).and_then(|()| sink.flush());
                if written.is_err() {
                    break;
                }
            }
            report.send_replace(Some(written.map_err(|error| error.kind())));
        };
        drop(std::thread::Builder::new().name("adit-out".to_owned()).spawn(write));
        Self { pieces: Some(pieces), result }
    }

    /// Hands over a piece; waits while the sink is slow.
    ///
    /// # Errors
    /// The sink has failed: `BrokenPipe` if its reader has left.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has handed over nothing.
    pub async fn write(&self, piece: Vec<u8>) -> io::Result<()> {
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).await.is_ok()
        {
            return Ok(());
        }
        Err(self.failure().await)
    }

    /// Waits until the sink fails; for ever if it does not.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn failed(&self) -> io::Error {
        let mut result = self.result.clone();
        match result.wait_for(|result| matches!(result, Some(Err(_)))).await {
            Ok(result) => result.and_then(Result::err).unwrap_or(io::ErrorKind::Other).into(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until everything handed over is written.
    ///
    /// # Errors
    /// The sink has failed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.pieces = None;
        match self.result.wait_for(Option::is_some).await {
            Ok(result) => result.unwrap_or(Ok(())).map_err(Into::into),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn failure(&self) -> io::Error {
        let mut result = self.result.clone();
        match result.wait_for(Option::is_some).await {
            Ok(result) => result.and_then(Result::err).unwrap_or(io::ErrorKind::BrokenPipe).into(),
            Err(_) => io::ErrorKind::BrokenPipe.into(),
        }
    }
}
