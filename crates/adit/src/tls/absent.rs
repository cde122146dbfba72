//! TLS, left out of this build: nothing can have it, and an address that asks for it is an error.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::budget::Account;
use crate::conn::{Io, Socket};
use crate::transport::Transport;
use crate::worker::Welcome;
use crate::{Address, Blame, Code, Error, Limit, Result};

/// The settings of a server. There are none.
#[derive(Clone, Debug)]
pub(crate) enum ServerTls {}

/// What no handshake has settled.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) version: &'static str,
    never: Never,
}

#[derive(Clone, Debug)]
enum Never {}

/// A stream that cannot be.
#[derive(Debug)]
pub(crate) struct TlsIo(Never);

/// What a client needs for handshakes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshakes(());

pub(crate) fn server(address: &Address, _shared: Option<&ServerTls>) -> Result<Option<ServerTls>> {
    if address.tls { Err(no_tls(address)) } else { Ok(None) }
}

pub(crate) fn secured(_inner: Rc<dyn Welcome>, tls: ServerTls) -> Rc<dyn Welcome> {
    match tls {}
}

impl Handshakes {
    pub(crate) fn ready(&self, address: &Address) -> Result<()> {
        if address.tls { Err(no_tls(address)) } else { Ok(()) }
    }

    pub(crate) async fn shake(
        &self,
        address: &Address,
        _socket: Io,
        _within: Limit<Duration>,
    ) -> Result<Io> {
        Err(no_tls(address))
    }
}

fn no_tls(address: &Address) -> Error {
    let what = format!("{address}: TLS is not in this build of the library");
    Error::new(Code::Usage, Blame::Caller, what).with_hint("build it with the feature tls")
}

impl TlsIo {
    pub(crate) fn info(&self) -> &Info {
        match self.0 {}
    }
    pub(crate) fn count_for(&self, _account: &Arc<Account>) {
        match self.0 {}
    }
    pub(crate) fn socket<T>(&self, _act: impl FnOnce(&Socket) -> T) -> T {
        match self.0 {}
    }
    pub(crate) fn decrypted(&self) -> usize {
        match self.0 {}
    }
    pub(crate) fn empty_bytes(&self) -> usize {
        match self.0 {}
    }
    pub(crate) fn is_flushed(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn poll_read(
        &self,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {}
    }
    pub(crate) fn poll_write(&self, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }
    pub(crate) fn poll_flush(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
    pub(crate) fn poll_finish(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl Transport for TlsIo {
    fn poll_read(&mut self, _cx: &mut Context<'_>, _buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
    fn poll_write(&mut self, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
    fn last_heard(&self) -> Option<(bool, Duration)> {
        match self.0 {}
    }
    fn unread(&self) -> usize {
        match self.0 {}
    }
    fn unacknowledged(&self) -> usize {
        match self.0 {}
    }
    fn descriptor(&self) -> Option<i32> {
        match self.0 {}
    }
}
