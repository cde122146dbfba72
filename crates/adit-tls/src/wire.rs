//! Wire: the stream beneath TLS, which remembers the first bytes of its peer.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream beneath, until the handshake is over with an eye on what comes first.
#[derive(Debug)]
pub(crate) struct Wire<IO> {
    pub(crate) io: IO,
    pub(crate) first: Option<Arc<First>>,
}

/// The first bytes of a peer, at most [`First::BYTES_MAX`]. They are shared with who waits for the
/// handshake: a limit that expires leaves nothing else of it.
#[derive(Debug, Default)]
pub(crate) struct First {
    bytes: AtomicU64,
    count: AtomicU8,
}

impl First {
    const BYTES_MAX: u8 = 8;

    pub(crate) fn note(&self, new: &[u8]) {
        let mut count = self.count.load(Relaxed);
        let mut bytes = self.bytes.load(Relaxed).to_be_bytes();
        let room = bytes.iter_mut().skip(count.into());
        for (to, from) in room.zip(new) {
            *to = *from;
            count = count.saturating_add(1);
        }
        self.bytes.store(u64::from_be_bytes(bytes), Relaxed);
        self.count.store(count, Relaxed);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let count = usize::from(self.count.load(Relaxed).min(Self::BYTES_MAX));
        self.bytes.load(Relaxed).to_be_bytes().into_iter().take(count).collect()
    }

    /// Is this no TLS? A record begins with its type, 20 to 23, and with the 3 that all versions since
    /// SSL 3 have (RFC 8446, section 5.1).
    pub(crate) fn is_plain(&self) -> bool {
        match *self.bytes() {
            [] => false,
            [kind] => !(20..=23).contains(&kind),
            [kind, version, ..] => !(20..=23).contains(&kind) || version != 3,
        }
    }

    /// Is it a request of HTTP, whose sender shows a person what comes back?
    pub(crate) fn is_http(&self) -> bool {
        let bytes = self.bytes();
        METHODS.iter().any(|method| bytes.starts_with(method))
    }
}

impl<IO> Wire<IO> {
    /// A peer that speaks no TLS gets nothing of ours to puzzle over.
    fn is_mute(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.is_plain())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        if let (Poll::Ready(Ok(())), Some(first)) = (&poll, &self.first) {
            first.note(buf.filled().get(before..).unwrap_or_default());
        }
        poll
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_mute() {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_mute() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// How a request of HTTP/1.1 begins (RFC 9110, section 9).
const METHODS: [&[u8]; 7] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT "];

#[cfg(test)]
mod tests {
    use super::First;

    fn first(pieces: &[&[u8]]) -> First {
        let first = First::default();
        pieces.iter().for_each(|piece| first.note(piece));
        first
    }

    #[test]
    fn the_first_eight_bytes_are_kept_however_they_come() {
        assert_eq!(first(&[b"SSH", b"", b"-2.0-x", b"more"]).bytes(), b"SSH-2.0-");
        assert_eq!(first(&[b"+O"]).bytes(), b"+O");
    }

    #[test]
    fn plain_peers_are_told_from_tls() {
        for plain in [&b"G"[..], b"220 mail", b"\x80\x2e\x01", b"\x16\xfe\xff", b"\0", b"\x18\x03"]
        {
            assert!(first(&[plain]).is_plain(), "{plain:?}");
        }
        for tls in [&b""[..], b"\x16", b"\x16\x03\x01", b"\x15\x03\x03\0\x02\x02\x28"] {
            assert!(!first(&[tls]).is_plain(), "{tls:?}");
        }
        assert!(first(&[b"GET / HTTP/1.1"]).is_http());
        assert!(!first(&[b"GETTING"]).is_http());
    }
}
