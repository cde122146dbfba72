//! One connection carried on: two directions, each with an end of its own, and no end made up.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use adit_proto::proxy::Header;
use tokio::time::Instant;

use super::Route;
use crate::conn::{Share, Wire};
use crate::event::What;
use crate::pump::{End, Pump};
use crate::transport;
use crate::{Blame, BoxError, Conn, Endpoint, Error, ProxyVersion};

/// How long the last bytes may take to be acknowledged before a reset follows them.
const SETTLE: Duration = Duration::from_secs(2);

/// Carries a connection on to the target until both directions have ended.
pub(super) async fn carry(client: Conn, route: &Route) -> Result<(), BoxError> {
    let client = client.into_wire();
    let mut guard = BadEnd(vec![Arc::clone(&client)]);
    let target = route.dial(client.number).connect(&route.target).await?.into_wire();
    guard.0.push(Arc::clone(&target));
    route.tell(client.number, &target.remote, || What::Open {
        local: target.local.as_ref(),
        via: None,
        tls: target.tls_version(),
    });

    if let Some(version) = route.proxy_header {
        announce(&client, &target, version).await?;
    }

    let (mut up, mut down) = (Pump::new(&client, &target), Pump::new(&target, &client));
    let ended = poll_fn(|cx| {
        up.poll(cx);
        down.poll(cx);
        verdict(&up, &down)
    })
    .await;
    let Err((wire, error)) = ended else {
        guard.0.clear();
        return Ok(());
    };
    let failure = describe(route, &client, &wire, &error);
    drop((up, down));
    // A reset overtakes what is still on its way: what was said before the bad end goes first. Only to
    // the other side: who broke acknowledges nothing any more.
    settle(if Arc::ptr_eq(&wire, &client) { &target } else { &client }).await;
    Err(failure.into())
}

/// Tells the target whose connection it is, before anything else. A fresh socket takes that at once.
async fn announce(client: &Wire, target: &Wire, version: ProxyVersion) -> io::Result<()> {
    let end = |end: Option<&Endpoint>| end.and_then(Endpoint::socket_addr);
    let ends = end(Some(&client.remote)).zip(end(client.local.as_ref()));
    let header = ends.map_or(Header::Unknown, |(source, here)| Header::client(source, here));
    let mut bytes = Vec::new();
    header.encode(version, &mut bytes);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        rest = &rest[poll_fn(|cx| target.poll_write(cx, rest)).await?..];
    }
    Ok(())
}

/// Are both directions over, and how?
fn verdict(up: &Pump, down: &Pump) -> Poll<Result<(), (Arc<Wire>, io::Error)>> {
    for (pump, other) in [(up, down), (down, up)] {
        match &pump.end {
            // Who cannot be read any more is gone in both directions.
            Some(End::Unreadable(error)) => {
                return Poll::Ready(Err((Arc::clone(&pump.from), copy_of(error))));
            }
            // Who cannot be written to may have said something before: that is read to its end.
            Some(End::Unwritable(error)) if other.end.is_some() => {
                return Poll::Ready(Err((Arc::clone(&pump.to), copy_of(error))));
            }
            _ => {}
        }
    }
    match (&up.end, &down.end) {
        (Some(End::Clean), Some(End::Clean)) => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => {
            let code = crate::code_of(error);
            io::Error::new(error.kind(), Error::new(code, Blame::Peer, without_code(error)))
        }
    }
}

/// An error of TLS says its code, and so will the sentence that it becomes part of.
fn without_code(error: &io::Error) -> String {
    let (mut text, code) = (error.to_string(), format!(" (code={})", crate::code_of(error)));
    if text.ends_with(&code) {
        text.truncate(text.len() - code.len());
    }
    text
}

fn describe(route: &Route, client: &Arc<Wire>, wire: &Arc<Wire>, error: &io::Error) -> Error {
    let code = transport::code_of(&Share(Arc::clone(wire)), error, route.dial.stall_limit());
    let who = if Arc::ptr_eq(client, wire) { "client" } else { "target" };
    let what =
        format!("the connection to the {who} {} broke: {}", wire.remote, without_code(error));
    Error::new(code, Blame::Peer, what).with_peer(wire.remote.to_string())
}

/// Waits until everything written is acknowledged, but not for long.
async fn settle(wire: &Wire) {
    let until = Instant::now() + SETTLE;
    let mut pause = Duration::from_micros(100);
    while wire.unacknowledged().is_ok_and(|bytes| bytes > 0) && Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Resets the connections when the conversation ends in any way but a clean one: also when a limit, or
/// the end of the server, drops it in the middle.
struct BadEnd(Vec<Arc<Wire>>);

impl Drop for BadEnd {
    fn drop(&mut self) {
        for wire in &self.0 {
            wire.abort();
        }
    }
}
