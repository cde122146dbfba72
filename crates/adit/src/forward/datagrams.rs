//! One client's datagrams carried on: a socket of its own to the target, so that answers find back.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::AbortHandle;

use super::Route;
use crate::event::{Action, What};
use crate::handler::{Answer, Handler, Out};
use crate::peer::Sender;
use crate::{Code, Datagrams, Endpoint, Peer};

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
    peer: Peer,
}

impl Flow {
    pub(super) fn new(route: Route, peer: &Peer) -> Self {
        let (onward, waiting) = mpsc::channel(WAITING_MAX);
        let (number, remote) = (peer.number(), peer.remote().clone());
        let client = Client { route, number, remote, peer: peer.clone() };
        let task = tokio::task::spawn_local(carry(client.clone(), waiting, peer.sender()));
        Self { onward, client, task: task.abort_handle() }
    }
}

impl Handler for Flow {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        match self.onward.try_send(Bytes::copy_from_slice(msg)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.client.tell_of_drop(),
            // The target is not there, and the conversation about to end for that reason.
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
        Err(error) => {
            client.tell_of_error(error.code(), &error.to_string());
            return client.end(error.code());
        }
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
        let Err(error) = done else { continue };
        client.tell_of_failure(&target, &error);
        // Nobody is there: the client's next datagram begins anew. What else the network says of one
        // datagram is not the end of the next.
        if crate::code_of(&error) == Code::Refused {
            return client.end(Code::Refused);
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

    /// Ends the conversation with the client for a reason that has been told.
    fn end(&self, code: Code) {
        self.peer.desk().fail(code, String::new());
        self.peer.desk().wake();
    }

    fn tell_of_failure(&self, target: &Datagrams, error: &io::Error) {
        match crate::code_of(error) {
            code @ (Code::Refused | Code::Denied) => {
                let what = target.explain(error).to_string();
                self.tell(code, without_code(&what, code));
            }
            code => self.tell_of_error(code, &error.to_string()),
        }
    }

    fn tell_of_error(&self, code: Code, why: &str) {
        self.tell(code, &format!("{}: {}", self.route.target.spoken(), without_code(why, code)));
    }

    fn tell(&self, code: Code, text: &str) {
        let what = What::Error { code, text, place: "target", fatal: false };
        self.route.observers.emit_of(self.number, &self.remote, || what);
    }
}

/// An error of adit's own says its code; the event has it.
fn without_code(text: &str, code: Code) -> &str {
    text.strip_suffix(&format!(" (code={code})")).unwrap_or(text)
}
