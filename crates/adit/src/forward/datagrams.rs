//! One client's datagrams carried on: a socket of its own to the target, so that answers find back.

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::AbortHandle;

use super::Route;
use crate::event::{Action, What};
use crate::handler::{Answer, Handler, Out};
use crate::peer::Sender;
use crate::{Code, Endpoint, Peer};

/// Datagrams that may wait for the socket to the target.
const WAITING_MAX: usize = 256;

/// The conversation of one client. Its socket to the target closes with it.
pub(super) struct Flow {
    onward: mpsc::Sender<Bytes>,
    client: Client,
    task: AbortHandle,
}

/// Who is forwarded, and where to.
#[derive(Clone)]
struct Client {
    route: Route,
    number: u64,
    remote: Endpoint,
}

impl Flow {
    pub(super) fn new(route: Route, peer: &Peer) -> Self {
        let (onward, waiting) = mpsc::channel(WAITING_MAX);
        let client = Client { route, number: peer.number(), remote: peer.remote().clone() };
        let task = tokio::task::spawn_local(carry(client.clone(), waiting, peer.sender()));
        Self { onward, client, task: task.abort_handle() }
    }
}

impl Handler for Flow {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        match self.onward.try_send(Bytes::copy_from_slice(msg)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.client.tell_of_drop(),
            // The target could not be reached at all: the client's next datagram tries again.
            Err(TrySendError::Closed(_)) => out.close(),
        }
        Answer::Done
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends on what comes from the client and back what comes from the target.
async fn carry(client: Client, mut waiting: mpsc::Receiver<Bytes>, back: Sender) {
    let Client { route, number, .. } = &client;
    let target = match route.dial(*number).datagrams(&route.target).await {
        Ok(target) => target,
        Err(error) => return client.tell_of_error(error.code(), &error.to_string()),
    };
    let local = target.local();
    route.tell(*number, target.remote(), || What::Open {
        local: local.as_ref(),
        via: None,
        tls: None,
    });
    loop {
        let done = tokio::select! {
            msg = waiting.recv() => match msg {
                Some(msg) => target.send(&msg).await,
                None => return,
            },
            reply = target.recv() => reply.map(|reply| {
                if back.try_send(reply).is_err() {
                    client.tell_of_drop();
                }
            }),
        };
        // What the network says of one datagram is not the end of the next.
        if let Err(error) = done {
            client.tell_of_error(crate::code_of(&error), &error.to_string());
        }
    }
}

impl Client {
    /// A datagram was dropped: one side takes them more slowly than they come from the other.
    fn tell_of_drop(&self) {
        let what = What::Limit {
            name: "waiting",
            value: WAITING_MAX as u64,
            action: Action::Drop,
            count: 1,
        };
        self.route.observers.emit_of(self.number, &self.remote, || what);
    }

    fn tell_of_error(&self, code: Code, why: &str) {
        // An error of adit's own says its code; the event has it.
        let why = why.strip_suffix(&format!(" (code={code})")).unwrap_or(why);
        let text = format!("{}: {why}", self.route.target.spoken());
        let what = What::Error { code, text: &text, place: "target", fatal: false };
        self.route.observers.emit_of(self.number, &self.remote, || what);
    }
}
