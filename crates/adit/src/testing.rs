//! Testing a service without sockets, threads or ports.
//!
//! [`memory`] runs the real conversation loop over a pair of buffers: what passes here passes over
//! TCP. [`every_split`] runs a service once per way to cut its input in two, which is how beginners'
//! servers break.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::context::{Context, Totals};
use crate::conversation::{self, Protocol};
use crate::endpoint::{Endpoint, Place, Transport};
use crate::handler::{Open, Service};
use crate::observe::Observers;
use crate::peer::{Closed, Desk, Peer};
use crate::{Code, Codec, Limits};

/// Bytes that fit between the two ends before the writer has to wait.
const PIPE_BYTES: usize = 64 << 10;

/// The client's end of a conversation in memory.
///
/// It has no task of its own: the service runs while one of these methods is awaited.
pub struct Memory<C> {
    service: Option<Pin<Box<dyn Future<Output = Closed>>>>,
    closed: Option<Closed>,
    client: Client<C>,
}

struct Client<C> {
    io: Option<DuplexStream>,
    codec: C,
    received: BytesMut,
}

/// The conversation ended before the call was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// How, as the service's side saw it, if it has got so far.
    pub closed: Option<Closed>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.closed {
            Some(closed) => write!(f, "the conversation ended (code={})", closed.code),
            None => f.write_str("the conversation ended"),
        }
    }
}

impl std::error::Error for Ended {}

/// Opens a conversation with a service, in memory.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use adit::prelude::*;
/// let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
/// let mut peer = adit::testing::memory(upper, Lines::new());
/// assert_eq!(peer.call("hello").await.unwrap(), "HELLO");
/// let closed = peer.finish().await;
/// assert_eq!(closed.code.word(), "ok");
/// # });
/// ```
pub fn memory<V: Service, C: Codec + Clone>(service: V, codec: C) -> Memory<C> {
    memory_with(service, codec, Limits::default())
}

/// As [`memory`], with other limits.
pub fn memory_with<V: Service, C: Codec + Clone>(
    service: V,
    codec: C,
    limits: Limits,
) -> Memory<C> {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let desk = Desk::new(&limits);
    let here = || Endpoint::named(Transport::Memory, Place::Unnamed);
    let peer = Peer::new((here(), None), Some(here()), 1, None, desk);
    let context = Context::new(limits, Observers::default(), Arc::new(Totals::default()));
    let context = Rc::new(context);
    let server_codec = codec.clone();
    let service = async move {
        match service.thread().open(&peer) {
            Ok(handler) => {
                let protocol = Protocol { codec: server_codec, handler };
                conversation::run(server, protocol, peer, context, || ()).await
            }
            Err(_) => Closed {
                code: Code::NotAllowed,
                bytes_in: 0,
                bytes_out: 0,
                unsent: 0,
                lasted: std::time::Duration::ZERO,
            },
        }
    };
    let client = Client { io: Some(client), codec, received: BytesMut::new() };
    Memory { service: Some(Box::pin(service)), closed: None, client }
}

impl<C: Codec> Memory<C> {
    /// Sends a message and waits for the next one.
    ///
    /// # Errors
    /// The conversation ended first.
    ///
    /// # Cancel safety
    /// A dropped call may have sent the message.
    pub async fn call(&mut self, msg: impl AsRef<[u8]>) -> Result<Bytes, Ended> {
        self.send(msg).await?;
        self.recv().await
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The conversation has ended, or the codec cannot frame the message.
    ///
    /// # Cancel safety
    /// A dropped call may have sent a part of the message.
    pub async fn send(&mut self, msg: impl AsRef<[u8]>) -> Result<(), Ended> {
        let mut framed = Vec::new();
        if self.client.codec.encode(msg.as_ref(), &mut framed).is_err() {
            return Err(Ended { closed: self.closed });
        }
        self.send_raw(framed).await
    }

    /// Sends bytes as they are, without framing.
    ///
    /// # Errors
    /// The conversation has ended.
    ///
    /// # Cancel safety
    /// A dropped call may have sent a part of the bytes.
    pub async fn send_raw(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Ended> {
        self.drive(async |client| client.io.as_mut()?.write_all(bytes.as_ref()).await.ok()).await
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// The conversation ended first.
    ///
    /// # Cancel safety
    /// Cancel safe: what was received so far is kept.
    pub async fn recv(&mut self) -> Result<Bytes, Ended> {
        self.drive(Client::recv).await
    }

    /// Ends our direction and waits for the end of the conversation; messages that still come are
    /// thrown away.
    pub async fn finish(mut self) -> Closed {
        self.read_to_end().await;
        self.closed().await
    }

    /// Ends our direction and collects the bytes the service still sends.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let bytes = self.drive(async |client| {
            let io = client.io.as_mut()?;
            io.shutdown().await.ok()?;
            let mut bytes = client.received.split().to_vec();
            io.read_to_end(&mut bytes).await.ok()?;
            Some(bytes)
        });
        bytes.await.unwrap_or_default()
    }

    /// Waits until the service has ended the conversation.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&mut self) -> Closed {
        if let Some(service) = &mut self.service {
            let closed = service.await;
            (self.service, self.closed) = (None, Some(closed));
        }
        // Set wherever the service is taken away.
        self.closed.unwrap_or(Closed {
            code: Code::Internal,
            bytes_in: 0,
            bytes_out: 0,
            unsent: 0,
            lasted: std::time::Duration::ZERO,
        })
    }

    /// Runs the service and the client's act together.
    async fn drive<T>(
        &mut self,
        act: impl AsyncFnOnce(&mut Client<C>) -> Option<T>,
    ) -> Result<T, Ended> {
        let Self { service, closed, client } = self;
        let mut act = pin!(act(client));
        let done = poll_fn(|cx| {
            if let Some(running) = service
                && let Poll::Ready(end) = running.as_mut().poll(cx)
            {
                (*service, *closed) = (None, Some(end));
            }
            act.as_mut().poll(cx)
        });
        done.await.ok_or(Ended { closed: *closed })
    }
}

impl<C: Codec> Client<C> {
    async fn recv(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.codec.decode(&self.received).ok()? {
                return Some(self.take(&frame));
            }
            if self.io.as_mut()?.read_buf(&mut self.received).await.ok()? == 0 {
                let frame = self.codec.decode_end(&self.received).ok()??;
                return Some(self.take(&frame));
            }
        }
    }

    fn take(&mut self, frame: &crate::codec::Frame) -> Bytes {
        let body = Bytes::copy_from_slice(&self.received[frame.body.clone()]);
        self.received.advance(frame.used);
        body
    }
}

impl<C> fmt::Debug for Memory<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// A way to cut the input that changed the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitMatters {
    /// Bytes in the first piece.
    pub at: usize,
    /// The answer to the whole input at once.
    pub whole: Vec<u8>,
    /// The answer to the input in two pieces.
    pub split: Vec<u8>,
}

impl fmt::Display for SplitMatters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cut after byte {}, the input was answered by \"{}\" instead of \"{}\"",
            self.at,
            self.split.escape_ascii(),
            self.whole.escape_ascii()
        )
    }
}

impl std::error::Error for SplitMatters {}

/// Sends `input` whole, then cut in two at every byte, and compares the answers, which it returns.
///
/// TCP keeps the order of bytes and nothing else: where one read ends and the next begins is chance.
/// A service whose answer depends on it is broken.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use adit::prelude::*;
/// let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
/// let answer = adit::testing::every_split(upper, Lines::new(), b"one\r\ntwo\nlast").await.unwrap();
/// assert_eq!(answer, b"ONE\nTWO\nLAST\n");
/// # });
/// ```
///
/// # Errors
/// The first cut that changed the answer.
pub async fn every_split<V: Service, C: Codec + Clone>(
    service: V,
    codec: C,
    input: &[u8],
) -> Result<Vec<u8>, SplitMatters> {
    let whole = answer_to(&service, &codec, &[input]).await;
    for at in 1..input.len() {
        let split = answer_to(&service, &codec, &[&input[..at], &input[at..]]).await;
        if split != whole {
            return Err(SplitMatters { at, whole, split });
        }
    }
    Ok(whole)
}

async fn answer_to<V: Service, C: Codec + Clone>(
    service: &V,
    codec: &C,
    pieces: &[&[u8]],
) -> Vec<u8> {
    let mut peer = memory(service.clone(), codec.clone());
    for piece in pieces {
        if peer.send_raw(piece).await.is_err() {
            break;
        }
        // The service reads this piece before the next one is sent.
        tokio::task::yield_now().await;
        let seen = peer.drive(async |_| Some(())).await;
        debug_assert!(seen.is_ok());
    }
    peer.read_to_end().await
}
