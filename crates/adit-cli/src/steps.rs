//! `--steps`: every call of the socket interface, in the lecture's words.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use adit::endpoint::Transport;
use adit::escape::escape_line;
use adit::event::{Call, Direction, Payload, Role};
use adit::{Code, Endpoint, Event, What};

use crate::say::Part;

/// Bytes of payload that are shown when nothing else was said.
const SHOWN_BYTES: usize = 32;

/// Puts events into words. Remembers which descriptor belongs to whom.
#[derive(Debug)]
pub(crate) struct Steps {
    shown_bytes: usize,
    is_relay: bool,
    descriptors: Mutex<HashMap<Side, i32>>,
}

/// One socket of a conversation; none for the one that listens.
type Side = (Option<u64>, Role);

impl Steps {
    /// `payload` is what was asked for, if anything.
    pub(crate) fn new(payload: Option<Payload>, part: Part) -> Self {
        let shown_bytes = match payload {
            None => SHOWN_BYTES,
            Some(Payload::None) => 0,
            Some(Payload::First(bytes)) => bytes,
            Some(Payload::Whole) => usize::MAX,
        };
        Self { shown_bytes, is_relay: part == Part::Relay, descriptors: Mutex::default() }
    }

    /// The line for an event; none if it is no call.
    pub(crate) fn line(&self, event: &Event<'_>) -> Option<String> {
        let side = (event.conversation, event.role);
        let step = match &event.what {
            What::Call { call, fd, local, took, code } => {
                self.remember(side, (*call, *fd), code.is_some());
                called(event, (*call, *fd), *local, result(*code, *local, *took))?
            }
            What::Data { dir, bytes, .. } => self.data(event, side, *dir, bytes),
            What::HalfClose { dir: Direction::In } => {
                format!("read({}) = 0  the peer has finished", self.of(side))
            }
            What::HalfClose { dir: Direction::Out } => {
                format!("shutdown({})  we have finished", self.of(side))
            }
            _ => return None,
        };
        let number = event.conversation.map_or_else(String::new, |number| format!("#{number} "));
        let with = match (self.is_relay && event.conversation.is_some(), event.role) {
            (false, _) => "",
            (true, Role::Server) => "[client] ",
            (true, Role::Client) => "[target] ",
        };
        Some(format!("{number:>4}{with}{step}"))
    }

    fn data(&self, event: &Event<'_>, side: Side, dir: Direction, bytes: &[u8]) -> String {
        let is_datagram = event.peer.is_some_and(|peer| peer.transport().is_datagram());
        let socket = self.of(side);
        let count = bytes.len();
        let shown = bytes.get(..self.shown_bytes).unwrap_or(bytes);
        let cut = if shown.len() < count { ".." } else { "" };
        let text = match self.shown_bytes {
            0 => String::new(),
            _ => format!("  \"{}\"{cut}", escape_line(shown, usize::MAX)),
        };
        match (is_datagram, dir) {
            (false, Direction::In) => format!("read({socket}) = {count} B{text}"),
            (false, Direction::Out) => format!("write({socket}) = {count} B{text}"),
            (true, Direction::In) => {
                format!("recvfrom({socket}) = {count} B{}{text}", place(event.peer))
            }
            (true, Direction::Out) => {
                format!("sendto({socket}{}) = {count} B{text}", place(event.peer))
            }
        }
    }

    fn remember(&self, side: Side, (call, fd): (Call, Option<i32>), has_failed: bool) {
        let mut descriptors = self.descriptors.lock().unwrap_or_else(PoisonError::into_inner);
        match (call, fd) {
            // A socket that could not connect is closed without a word.
            (Call::Connect, _) if has_failed => drop(descriptors.remove(&side)),
            (Call::Close, _) => drop(descriptors.remove(&side)),
            (Call::Socket | Call::Accept | Call::Connect, Some(fd)) => {
                descriptors.insert(side, fd);
            }
            _ => {}
        }
    }

    /// The socket of a conversation. A server's datagrams all go through the one that is bound.
    fn of(&self, (number, role): Side) -> String {
        let descriptors = self.descriptors.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = descriptors.get(&(number, role));
        match fd {
            Some(fd) => format!("fd {fd}"),
            None => "serverSocket".to_owned(),
        }
    }
}

/// `connect(fd 9, tcp 127.0.0.1:7000) = 0  from 127.0.0.1:51512  85.0µs`
fn called(
    event: &Event<'_>,
    (call, fd): (Call, Option<i32>),
    local: Option<&Endpoint>,
    result: String,
) -> Option<String> {
    let socket = descriptor(fd);
    Some(match call {
        Call::Socket => made(event, &socket, local),
        Call::Bind => format!("bind({socket}{})", place(local)),
        Call::Listen => format!("listen({socket})"),
        Call::Accept => format!("connectionSocket = accept()  {socket}{}", place(event.peer)),
        Call::Connect => format!("connect({socket}{}) = {result}", place(event.peer)),
        Call::Close => format!("close({socket})"),
        _ => return None,
    })
}

fn result(code: Option<Code>, local: Option<&Endpoint>, took: Option<Duration>) -> String {
    let result = match (code, local) {
        (Some(code), _) => format!("failed: {code}"),
        (None, Some(local)) => format!("0  from {}", local.place_text()),
        (None, None) => "0".to_owned(),
    };
    took.map_or_else(|| result.clone(), |took| format!("{result}  {took:.1?}"))
}

/// `welcomeSocket = socket()  fd 9`
fn made(event: &Event<'_>, socket: &str, local: Option<&Endpoint>) -> String {
    let transport = local.or(event.peer).map(Endpoint::transport);
    let is_datagram = transport.is_some_and(Transport::is_datagram);
    let name = match (event.role, is_datagram) {
        (Role::Client, _) => "clientSocket",
        (Role::Server, true) => "serverSocket",
        (Role::Server, false) => "welcomeSocket",
    };
    format!("{name} = socket()  {socket}")
}

fn descriptor(fd: Option<i32>) -> String {
    fd.map_or_else(|| "no descriptor".to_owned(), |fd| format!("fd {fd}"))
}

fn place(endpoint: Option<&Endpoint>) -> String {
    endpoint.map_or_else(String::new, |endpoint| format!(", {endpoint}"))
}
