//! Standard input and output: what they are, and reading and writing them beside sockets.
//!
//! The three standard descriptors are shared with the shell and with other programs, so they are never
//! made nonblocking: that would change them for everybody. Somebody else may have done it, though, and
//! then a read or write that would block is waited for.

use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tokio::sync::mpsc::{Receiver, Sender};

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
    /// `/dev/null`.
    Null,
    /// Another device.
    Device,
    /// Not open. Rust opens `/dev/null` in place of a standard descriptor that is closed when the
    /// program starts, so those are [`Null`](Self::Null).
    Closed,
}

/// What a descriptor is.
pub fn kind(descriptor: &impl AsFd) -> Kind {
    if descriptor.as_fd().is_terminal() {
        return Kind::Terminal;
    }
    let Ok(stat) = fstat(descriptor) else {
        return Kind::Closed;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Kind::Pipe,
        FileType::RegularFile => Kind::File,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice if stat.st_rdev == rustix::fs::makedev(1, 3) => Kind::Null,
        _ => Kind::Device,
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
pub fn read_on_thread(source: impl Read + AsFd + Send + 'static) -> Pieces {
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    let items = sender.clone();
    let thread = std::thread::Builder::new().name("adit-in".to_owned());
    if let Err(error) = thread.spawn(move || read_all(source, &items)) {
        // Without a thread this would look like an empty input. The channel is empty: there is room.
        drop(sender.try_send(Err(error)));
    }
    receiver
}

fn read_all(mut source: impl Read + AsFd, items: &Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = loop {
            match source.read(&mut piece) {
                Err(error) if may_repeat(&error, &source, PollFlags::IN) => {}
                read => break read,
            }
        };
        let item = match read {
            Ok(0) => return,
            Ok(bytes) => {
                piece.truncate(bytes);
                Ok(piece)
            }
            Err(error) => Err(error),
        };
        let is_last = item.is_err();
        if items.blocking_send(item).is_err() || is_last {
            return;
        }
    }
}

/// Is a failed call to be made again? Waits for the descriptor where it would have blocked: another
/// program has made the description nonblocking that it shares with us.
fn may_repeat(error: &io::Error, descriptor: &impl AsFd, events: PollFlags) -> bool {
    match error.kind() {
        io::ErrorKind::Interrupted => true,
        io::ErrorKind::WouldBlock => {
            let mut wanted = [PollFd::new(descriptor, events)];
            matches!(poll(&mut wanted, None), Ok(_) | Err(Errno::INTR))
        }
        _ => false,
    }
}

/// What a reading thread hands over.
pub type Pieces = Receiver<io::Result<Vec<u8>>>;

/// An output that is waited for where a write would block: its description is shared, and somebody may
/// have made it nonblocking.
#[derive(Debug)]
pub struct Patient<W>(W);

impl<W: Write + AsFd> Patient<W> {
    /// An output over this one.
    pub const fn new(sink: W) -> Self {
        Self(sink)
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if may_repeat(&error, &self.0, PollFlags::OUT) => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.0.flush() {
                Err(error) if may_repeat(&error, &self.0, PollFlags::OUT) => {}
                flushed => return flushed,
            }
        }
    }
}

/// Writes a descriptor on a thread of its own, in order.
#[derive(Debug)]
pub struct Writer {
    pieces: Option<Sender<Vec<u8>>>,
    result: tokio::sync::watch::Receiver<Option<Result<(), io::ErrorKind>>>,
}

impl Writer {
    /// Starts the thread.
    pub fn new(sink: impl Write + AsFd + Send + 'static) -> Self {
        let mut sink = Patient::new(sink);
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

    /// Hands over all of `outbox` and leaves it empty; waits while the sink is slow.
    ///
    /// # Errors
    /// The sink has failed: `BrokenPipe` if its reader has left.
    ///
    /// # Cancel safety
    /// Cancel safe: what a dropped call has not handed over is still in `outbox`.
    pub async fn write_from(&self, outbox: &mut Vec<u8>) -> io::Result<()> {
        if let Some(pieces) = &self.pieces
            && let Ok(room) = pieces.reserve().await
        {
            room.send(std::mem::take(outbox));
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

#[cfg(test)]
mod tests {
    use super::{Kind, PIECE, Pieces, Writer, file_bytes_left, kind, read_on_thread};
    use std::fs::File;
    use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Seek as _, Write as _};
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_secs(20);
        runtime.block_on(async { tokio::time::timeout(limit, test).await.unwrap() })
    }

    fn pipe() -> (PipeReader, PipeWriter) {
        std::io::pipe().unwrap()
    }

    /// As another program does that shares the description.
    fn make_nonblocking(descriptor: &impl AsFd) {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let flags = fcntl_getfl(descriptor).unwrap();
        fcntl_setfl(descriptor, flags | OFlags::NONBLOCK).unwrap();
    }

    fn file(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("adit-stdio-{}", unique()));
        let options = File::options().read(true).write(true).create_new(true).open(&path);
        std::fs::remove_file(&path).unwrap();
        let mut file = options.unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn unique() -> u64 {
        crate::random_u64().unwrap()
    }

    async fn all(mut pieces: Pieces) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.recv().await {
            let piece = piece.unwrap();
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            bytes.extend(piece);
        }
        bytes
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the kind nor the readiness of a descriptor")]
    fn every_kind_of_descriptor_is_told_apart() {
        assert_eq!(kind(&pipe().0), Kind::Pipe);
        assert_eq!(kind(&file(b"")), Kind::File);
        assert_eq!(kind(&File::open("/dev/null").unwrap()), Kind::Null);
        assert_eq!(kind(&File::open("/dev/zero").unwrap()), Kind::Device);
        let pair = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(kind(&pair.0), Kind::Socket);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the kind nor the readiness of a descriptor")]
    fn what_is_left_of_a_file_is_known_and_of_a_pipe_not() {
        let mut file = file(b"0123456789");
        file.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(file_bytes_left(&file), Some(6));
        assert_eq!(file_bytes_left(&pipe().0), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the kind nor the readiness of a descriptor")]
    fn a_file_a_pipe_and_nothing_are_read_to_their_end() {
        let long: Vec<u8> = (0..=255).cycle().take(3 * PIECE + 1).collect();
        block_on(async {
            assert_eq!(all(read_on_thread(file(&long))).await, long);
            assert_eq!(all(read_on_thread(File::open("/dev/null").unwrap())).await, b"");
            let (reader, mut writer) = pipe();
            let sent = long.clone();
            let feeder = std::thread::spawn(move || writer.write_all(&sent));
            assert_eq!(all(read_on_thread(reader)).await, long);
            feeder.join().unwrap().unwrap();
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the kind nor the readiness of a descriptor")]
    fn an_input_that_another_program_made_nonblocking_is_waited_for() {
        let (reader, mut writer) = pipe();
        make_nonblocking(&reader);
        block_on(async {
            let mut pieces = read_on_thread(reader);
            // Nothing is there yet: the first read would block.
            let nothing = tokio::time::timeout(Duration::from_millis(20), pieces.recv()).await;
            assert!(nothing.is_err());
            writer.write_all(b"late").unwrap();
            assert_eq!(pieces.recv().await.unwrap().unwrap(), b"late");
            drop(writer);
            assert!(pieces.recv().await.is_none());
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the kind nor the readiness of a descriptor")]
    fn an_output_that_another_program_made_nonblocking_loses_nothing() {
        let (mut reader, sink) = pipe();
        make_nonblocking(&sink);
        let long: Vec<u8> = (0..=255).cycle().take(PIECE).collect();
        block_on(async {
            let mut writer = Writer::new(sink);
            // Far more than a pipe holds, so the reader has to come first.
            let taker = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map(|_| bytes)
            });
            for _ in 0..8 {
                writer.write(long.clone()).await.unwrap();
            }
            writer.finish().await.unwrap();
            drop(writer);
            assert_eq!(taker.join().unwrap().unwrap(), long.repeat(8));
        });
    }

    #[test]
    fn a_reader_that_left_is_told_to_the_writer() {
        let (reader, sink) = pipe();
        block_on(async {
            let mut writer = Writer::new(sink);
            drop(reader);
            drop(writer.write(b"nobody reads this".to_vec()).await);
            assert_eq!(writer.failed().await.kind(), ErrorKind::BrokenPipe);
            assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn an_input_that_cannot_be_read_ends_with_its_error() {
        block_on(async {
            let directory = File::open("/").unwrap();
            let mut pieces = read_on_thread(directory);
            assert_eq!(pieces.recv().await.unwrap().unwrap_err().kind(), ErrorKind::IsADirectory);
            assert!(pieces.recv().await.is_none());
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the kind nor the readiness of a descriptor")]
    fn a_blocked_input_holds_up_nothing_else() {
        let (reader, writer) = pipe();
        let pieces = block_on(async { read_on_thread(reader) });
        drop(pieces);
        // The thread is still in its read; what ends it is the end of the input, or of the process.
        drop(OwnedFd::from(writer));
    }
}
