//! The close path: how a connection ends so that its last bytes arrive. There is no second way.
//!
//! A socket that is closed with unread input is reset by the kernel, and the reset overtakes bytes
//! that the peer has not read yet (RFC 2525, section 2.17). So our direction is finished first, then
//! what the peer still sends is read and thrown away until it ends too, within bounds.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, timeout_at};

use crate::buffers::Scratch;
use crate::peer::Desk;
use crate::transport::Transport;
use crate::{Code, Limits};

/// The bounds of a close.
#[derive(Clone, Copy)]
pub(crate) struct LingerLimits {
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
    pub(crate) bytes: usize,
}

impl LingerLimits {
    fn of(limits: &Limits) -> Self {
        Self { idle: limits.linger_idle, total: limits.linger, bytes: limits.linger_bytes }
    }

    /// For the end of a conversation.
    pub(crate) fn after(code: Code, limits: &Limits) -> Self {
        match code {
            // Somebody waits for its place.
            Code::Shed => Self::for_refusal(),
            // It had its time, and would go on byte by byte.
            Code::MessageTimeout => Self { total: limits.linger_idle, ..Self::of(limits) },
            _ => Self::of(limits),
        }
    }

    /// For a connection that is turned away: it may cost next to nothing.
    pub(crate) fn for_refusal() -> Self {
        let total = Duration::from_millis(200);
        Self { idle: total, total, bytes: 64 << 10 }
    }
}

/// A part of a close that holds memory which others need more: none once the conversation is cut.
pub(crate) async fn unless_shed<T>(desk: &Desk, close: impl Future<Output = T>) -> Option<T> {
    let mut close = pin!(close);
    poll_fn(|cx| {
        desk.attend(cx.waker());
        if desk.is_shed() { Poll::Ready(None) } else { close.as_mut().poll(cx).map(Some) }
    })
    .await
}

/// Ends our direction, within `limits.total`.
///
/// # Errors
/// The connection is broken, or the peer takes nothing.
pub(crate) async fn finish<T: Transport>(io: &mut T, limits: LingerLimits) -> io::Result<()> {
    let deadline = Instant::now() + limits.total;
    match timeout_at(deadline, poll_fn(|cx| io.poll_finish(cx))).await {
        Ok(finished) => finished,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Reads and discards until the peer ends, then gives the number of bytes it never acknowledged: 0
/// unless a limit or an error ended the wait.
pub(crate) async fn linger<T: Transport>(io: &mut T, limits: LingerLimits) -> usize {
    io.lift_throttle();
    let end = Instant::now() + limits.total;
    let mut discarded = 0;
    while discarded < limits.bytes {
        let deadline = end.min(Instant::now() + limits.idle);
        match timeout_at(deadline, discard(io)).await {
            Ok(Ok(0)) => return 0,
            Ok(Ok(bytes)) => discarded += bytes,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    io.unacknowledged()
}

async fn discard<T: Transport>(io: &mut T) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut scratch = Scratch::take();
        let mut buf = ReadBuf::new(&mut scratch.input);
        let read = io.poll_read(cx, &mut buf);
        let bytes = buf.filled().len();
        scratch.give_back();
        read.map_ok(|()| bytes)
    })
    .await
}
