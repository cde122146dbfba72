//! Client: calls over one connection or datagram socket, each with a deadline.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use adit_proto::backoff::Backoff;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::dial::{Dial, deadline};
use super::driver::{self, Command, Request};
use crate::codec::Lines;
use crate::listen::ToAddress;
use crate::{Blame, Code, Codec, Error, Result};

/// What a client may spend.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, built with ..Default::default()")]
pub struct ClientOptions {
    /// How to connect, now and again.
    pub dial: Dial,
    /// Deadline of a call that names none; 10 s.
    pub deadline: Duration,
    /// Calls on their way at once; 32. Over datagrams always 1, since nothing in an answer says
    /// whose it is.
    pub in_flight: usize,
    /// Waits between tries to connect again; full jitter up to 100 ms doubling to 30 s. Before the first
    /// try the client waits up to 2.5 s if calls were on the way, and never for more than half of the time
    /// that they have: all clients of a server lose it in the same moment.
    pub backoff: Backoff,
    /// Longest reply; 1 MiB.
    pub reply_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            dial: Dial::new(),
            deadline: Duration::from_secs(10),
            in_flight: 32,
            backoff: Backoff::default(),
            reply_bytes: 1 << 20,
        }
    }
}

/// Calls a server: a message there, a message back, before a deadline.
///
/// The wire is plain, so that any server can be called: over a stream the n-th reply belongs to the
/// n-th request. A call that expires or is dropped leaves a mark that swallows its late reply. A lost
/// connection is made again for the next call. Cheap to clone; all clones share the connection.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// use adit::{Client, prelude::*};
/// use std::time::Duration;
///
/// let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
/// let server = Server::new(upper).listen("tcp://127.0.0.1:0", Lines::new()).start()?;
///
/// let client = Client::connect(server.addr(0)).await?;
/// let reply = client.call("hello").within(Duration::from_secs(2)).await?;
/// assert_eq!(reply, "HELLO");
/// # Ok::<(), adit::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    deadline: Duration,
    peer: std::sync::Arc<str>,
}

impl Client {
    /// Connects: lines over a stream, whole datagrams over UDP and Unix datagrams.
    ///
    /// It runs on the caller's tokio runtime.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn connect(address: impl ToAddress) -> Result<Self> {
        Self::connect_with(address, Lines::new(), ClientOptions::default()).await
    }

    /// Connects with another codec, which datagrams do not use, and other options.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn connect_with<C: Codec + Clone + Send>(
        address: impl ToAddress,
        codec: C,
        options: ClientOptions,
    ) -> Result<Self> {
        let address = address.to_address()?;
        let (deadline, peer) = (options.deadline, address.spoken().into());
        // The calls that wait for a place among those in flight are bounded by the callers.
        let (commands, receiver) = mpsc::channel(options.in_flight.max(1));
        if address.transport.is_datagram() {
            let socket = options.dial.datagrams(&address).await?;
            tokio::spawn(driver::datagrams(receiver, socket, address, options));
        } else {
            let conn = options.dial.connect(&address).await?;
            tokio::spawn(driver::stream(receiver, conn, codec, address, options));
        }
        Ok(Self { commands, deadline, peer })
    }

    /// A call, to be awaited.
    pub fn call(&self, body: impl Into<Bytes>) -> Call {
        Call { client: self.clone(), body: body.into(), within: self.deadline, idempotent: false }
    }

    /// Waits for the replies that are outstanding, ends our direction and waits for the peer's end.
    /// Calls of other clones fail from now on.
    ///
    /// # Errors
    /// The connection broke first.
    ///
    /// # Cancel safety
    /// A dropped call still ends the connection.
    pub async fn finish(self) -> Result<()> {
        let (done, finished) = oneshot::channel();
        let until = deadline(self.deadline);
        if self.commands.send(Command::Finish { until, done }).await.is_err() {
            return Err(self.gone());
        }
        finished.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> Error {
        let what = format!("the client of {} has finished", self.peer);
        Error::new(Code::Reset, Blame::Caller, what).with_peer(&self.peer)
    }
}

/// A call in the making. Awaiting it sends it.
#[derive(Clone, Debug)]
#[must_use = "a call that is not awaited is not made"]
pub struct Call {
    client: Client,
    body: Bytes,
    within: Duration,
    idempotent: bool,
}

impl Call {
    /// Gives up after this time, counted from the await; connecting again is part of it.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Says that doing it twice does no harm: it is sent again when the connection breaks, and over
    /// datagrams when no answer comes. Of all calls of a client a tenth is sent again, and a hundred
    /// beside: more would keep down a server that is just coming back.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Makes the call.
    ///
    /// # Errors
    /// `deadline`, or why there is no connection. [`Error::maybe_executed`] says whether the request
    /// may have reached the server.
    ///
    /// # Cancel safety
    /// A dropped call frees its place; the request may have been sent.
    pub async fn send(self) -> Result<Bytes> {
        let until: Instant = deadline(self.within);
        let (reply, answer) = oneshot::channel();
        let request = Request {
            body: self.body,
            until,
            within: self.within,
            idempotent: self.idempotent,
            reply,
        };
        let expired = || {
            let what =
                format!("no place for a call to {} within {:?}", self.client.peer, self.within);
            Error::new(Code::Deadline, Blame::Peer, what).with_limit("deadline")
        };
        let sent = self.client.commands.send(Command::Call(request));
        match tokio::time::timeout_at(until, sent).await {
            Ok(Ok(())) => answer.await.unwrap_or_else(|_| Err(self.client.gone())),
            Ok(Err(_)) => Err(self.client.gone()),
            Err(_) => Err(expired()),
        }
    }
}

impl IntoFuture for Call {
    type Output = Result<Bytes>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
