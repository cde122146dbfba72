//! The blocking client: for programs without a runtime.

use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::call::{Call, Client, ClientOptions};
use crate::listen::ToAddress;
use crate::{Blame, Code, Codec, Error, Result, runtime};

/// A [`Client`] whose calls block their thread.
///
/// All blocking clients of a process share one hidden thread with a runtime, so that they notice what
/// happens between calls, and work inside other runtimes too, where they block a worker.
///
/// ```
/// use adit::{BlockingClient, prelude::*};
/// use std::time::Duration;
///
/// let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
/// let server = Server::new(upper).listen_datagrams("udp://127.0.0.1:0").start()?;
///
/// let client = BlockingClient::connect(server.addr(0))?;
/// let reply = client.call("hello").within(Duration::from_secs(2)).send()?;
/// assert_eq!(reply, "HELLO");
/// # Ok::<(), adit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockingClient {
    client: Client,
    runtime: Handle,
}

impl BlockingClient {
    /// Connects: lines over a stream, whole datagrams over UDP and Unix datagrams.
    ///
    /// # Errors
    /// As [`Dial::connect`](crate::Dial::connect).
    pub fn connect(address: impl ToAddress) -> Result<Self> {
        Self::connect_with(address, crate::codec::Lines::new(), ClientOptions::default())
    }

    /// Connects with another codec, which datagrams do not use, and other options.
    ///
    /// # Errors
    /// As [`Dial::connect`](crate::Dial::connect).
    pub fn connect_with<C: Codec + Clone + Send>(
        address: impl ToAddress,
        codec: C,
        options: ClientOptions,
    ) -> Result<Self> {
        let runtime = hidden_runtime()?;
        let address = address.to_address()?;
        let client = wait(&runtime, Client::connect_with(address, codec, options))?;
        Ok(Self { client, runtime })
    }

    /// A call; [`send`](BlockingCall::send) makes it.
    pub fn call(&self, body: impl Into<Bytes>) -> BlockingCall {
        BlockingCall { call: self.client.call(body), runtime: self.runtime.clone() }
    }

    /// As [`Client::finish`].
    ///
    /// # Errors
    /// The connection broke first.
    pub fn finish(self) -> Result<()> {
        wait(&self.runtime, self.client.finish())
    }
}

/// A call in the making.
#[derive(Clone, Debug)]
#[must_use = "a call that is not sent is not made"]
pub struct BlockingCall {
    call: Call,
    runtime: Handle,
}

impl BlockingCall {
    /// Gives up after this time.
    pub fn within(mut self, within: Duration) -> Self {
        self.call = self.call.within(within);
        self
    }

    /// Says that doing it twice does no harm, as [`Call::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.call = self.call.idempotent();
        self
    }

    /// Makes the call and waits for the reply.
    ///
    /// # Errors
    /// As [`Call::send`].
    pub fn send(self) -> Result<Bytes> {
        wait(&self.runtime, self.call.send())
    }
}

/// Runs on the hidden thread and waits here. A channel of the standard library: waiting on one of the
/// runtime's would panic on a thread of another runtime.
fn wait<T: Send + 'static>(
    runtime: &Handle,
    act: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = sync_channel(1);
    runtime.spawn(async move {
        // The receiver waits for exactly this.
        drop(sender.send(act.await));
    });
    receiver.recv().unwrap_or_else(|_| Err(no_thread("has ended")))
}

fn no_thread(why: &str) -> Error {
    Error::new(Code::Internal, Blame::Local, format!("the thread of blocking clients {why}"))
}

/// The runtime that all blocking clients of this process share.
fn hidden_runtime() -> Result<Handle> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = runtime::make(|_| {}).ok()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("adit-client".to_owned()).spawn(run).ok()?;
        Some(handle)
    };
    RUNTIME.get_or_init(start).clone().ok_or_else(|| no_thread("cannot be started"))
}
