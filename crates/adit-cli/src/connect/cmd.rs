//! The program of `connect ADDR -- CMD`: in the place of standard input and output.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use adit::system::unread;
use adit::{Conn, Ended, Program};
use tokio::task::JoinHandle;

/// A program that talks to the peer.
pub(super) struct Cmd {
    program: Program,
    /// Gives its end; dropping it would not end the program, aborting it does.
    end: JoinHandle<Ended>,
    peer: String,
}

impl Cmd {
    /// Starts it; gives its output, which is our input, and its input.
    pub(super) async fn start(
        program: &Program,
        conn: &Conn,
    ) -> adit::Result<(Self, FromProgram, ToProgram)> {
        let mut process = program.start(conn).await?;
        let io = process.take_io().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let (from, to) = (io.try_clone()?, io.try_clone()?);
        let has_said = Arc::new(AtomicBool::new(false));
        let from = FromProgram { io: from, has_said: Arc::clone(&has_said) };
        let end = tokio::spawn(async move {
            let heard =
                || has_said.swap(false, Relaxed) || unread(&io).is_ok_and(|bytes| bytes > 0);
            let ended = process.silent(heard).await;
            // A descendant that has got away may hold the other end: it keeps nobody waiting.
            drop(io.shutdown(Shutdown::Read));
            ended
        });
        let (program, peer) = (program.clone(), conn.remote().place_text());
        Ok((Self { program, end, peer }, from, ToProgram(to)))
    }

    /// Waits for its end, and says whether it is a good one.
    pub(super) async fn finish(&mut self) -> adit::Result<()> {
        match (&mut self.end).await {
            Ok(ended) => self.program.verdict(ended, &self.peer),
            Err(_aborted) => Ok(()),
        }
    }
}

impl Drop for Cmd {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// What the program writes.
pub(super) struct FromProgram {
    io: UnixStream,
    has_said: Arc<AtomicBool>,
}

impl Read for FromProgram {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = match self.io.read(buf) {
            // It has ended without reading all of its input (unix(7)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            read => read?,
        };
        self.has_said.store(bytes > 0, Relaxed);
        Ok(bytes)
    }
}

impl AsFd for FromProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// What the program reads. Dropping it is the end of that.
pub(super) struct ToProgram(UnixStream);

impl Write for ToProgram {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.0.write(buf) {
            // It need not read, and may have ended.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(buf.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for ToProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for ToProgram {
    fn drop(&mut self) {
        // One that has ended has nothing more to read.
        drop(self.0.shutdown(Shutdown::Write));
    }
}
