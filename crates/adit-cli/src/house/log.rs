//! What peers do, a line each, for the person who watches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit::event::{Action, Direction, Role};
use adit::{Code, Event, Observer, What};

use crate::connect::size;
use crate::say::{Voice, without_number};

/// Says who comes and goes and what goes wrong.
#[derive(Clone)]
pub(super) struct Log {
    voice: Voice,
    /// Comings and goings are for those who watch or asked; what goes wrong is always said.
    says_all: bool,
    /// Nobody has a reason to speak TLS here: its bytes are a mistake.
    notices_tls: bool,
    unrunnable: Arc<Mutex<Unrunnable>>,
}

/// A program that has vanished is told of now and then: each peer would say it again.
#[derive(Default)]
struct Unrunnable {
    said: Option<Instant>,
    unsaid: u64,
}

/// Shortest time between two lines about a program that does not run.
const SAY_EVERY: Duration = Duration::from_secs(6);

impl Log {
    pub(super) fn new(voice: &Voice) -> Self {
        let says_all = voice.is_verbose() || voice.is_watched();
        Self { voice: voice.clone(), says_all, notices_tls: false, unrunnable: Arc::default() }
    }

    /// Says only what goes wrong.
    pub(super) fn of_trouble(voice: &Voice) -> Self {
        Self { says_all: false, ..Self::new(voice) }
    }

    pub(super) fn noticing_tls(self) -> Self {
        Self { notices_tls: true, ..self }
    }

    /// How many failures like this one were not said since the last line about them; none if this one
    /// is not to be said either.
    fn similar(&self, code: Code) -> Option<String> {
        if !matches!(code, Code::NotFound | Code::CannotRun | Code::Full) {
            return Some(String::new());
        }
        let mut unrunnable = self.unrunnable.lock().unwrap_or_else(PoisonError::into_inner);
        if unrunnable.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            unrunnable.unsaid += 1;
            return None;
        }
        unrunnable.said = Some(Instant::now());
        match std::mem::take(&mut unrunnable.unsaid) {
            0 => Some(String::new()),
            unsaid => Some(format!("; {unsaid} similar before")),
        }
    }
}

/// Something is short, and something is done about it.
fn wanting(name: &str, value: u64, action: Action, count: u64) -> String {
    let short = match name {
        "accept-queue" => {
            return format!(
                "adit: the queue of {value} waiting connections was full: {count} attempts to connect \
                 were dropped, the clients try again (accept-queue)"
            );
        }
        "lag" => format!("a thread is late for its work by more than {value} ms"),
        "descriptors" => format!("{value} descriptors are in use, nine tenths"),
        _ => format!("memory is short, of {}", size(value)),
    };
    let done = match (action, count) {
        (Action::Wait, _) => "newcomers wait".to_owned(),
        (Action::Close, 1) => "cut a conversation that held much".to_owned(),
        (Action::Close, count) => format!("cut {count} that held much"),
        _ => "those that hold much are not read for now".to_owned(),
    };
    format!("adit: {short}: {done} ({name})")
}

const SPEAKS_TLS: &str =
    "speaks TLS, and nothing here does; with a certificate of its own: --tls=auto";

/// A handshake that failed. The sentence names the peer itself; what it quotes is escaped already, and would
/// be twice.
fn of_tls(code: Code, text: &str) -> String {
    let text = adit::escape::escape(without_number(text).as_bytes());
    format!("adit: {} (code={code})", text.replace(['\n', '\t'], " "))
}

/// Bytes of a conversation; of a socket that a program has they are not known.
fn counts(bytes: (Option<u64>, Option<u64>)) -> String {
    match bytes {
        (Some(came), Some(went)) => format!("  in {}  out {}", size(came), size(went)),
        _ => String::new(),
    }
}

/// Who was not let in: one, or so many of which the latest is known.
fn refused(peer: &str, is_datagram: bool, count: u64) -> String {
    let one = if is_datagram { "a datagram" } else { "a connection" };
    let many = if is_datagram { "datagrams" } else { "connections" };
    match count {
        1 => format!("{one}, from {peer}"),
        _ => format!("{count} {many}, the latest from {peer}"),
    }
}

/// How a client of TLS begins: a record with a handshake in it, whose first message is its greeting (RFC
/// 8446, sections 4 and 5.1).
fn is_client_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 0x03, _, _, _, 0x01, ..])
}

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        // Of a relay's two sockets, the one to the client stands for the conversation.
        if self.voice.is_json() || event.role == Role::Client {
            return;
        }
        let peer = event.peer.map(|peer| peer.place_text()).unwrap_or_default();
        let number = event.conversation.unwrap_or(0);
        let line = match &event.what {
            What::Open { .. } if self.says_all => format!("+{number} {peer}"),
            What::Close { code, bytes_in, bytes_out, lasted } if self.says_all => {
                let how = if code.is_clean() { String::new() } else { format!("  (code={code})") };
                let counts = counts((*bytes_in, *bytes_out));
                format!("-{number} {peer}{counts}  {lasted:.1?}{how}")
            }
            What::Lost { code, unconfirmed, .. } => {
                format!("adit: {peer} did not acknowledge {} (code={code})", size(*unconfirmed))
            }
            What::Error { code, text, place: "program", .. } => {
                let text = adit::escape::escape_line(without_number(text).as_bytes(), 300);
                let Some(similar) = self.similar(*code) else { return };
                let closed = match event.peer {
                    Some(peer) if peer.transport().is_datagram() => "no answer",
                    _ => "the peer got a closed connection",
                };
                format!("adit: {text} (code={code}); {closed}{similar}")
            }
            What::Error { code, text, place: "tls", .. } => of_tls(*code, text),
            What::Data { dir: Direction::In, seq: 0, bytes, .. }
                if self.notices_tls && is_client_hello(bytes) =>
            {
                format!("adit: {peer} {SPEAKS_TLS}")
            }
            What::Error { code, text, place, .. } => {
                let text = adit::escape::escape_line(without_number(text).as_bytes(), 200);
                let of = if peer.is_empty() { String::new() } else { format!(" of {peer}") };
                format!("adit: {place}{of}: {text} (code={code})")
            }
            What::Limit { name, value, action: Action::Refuse(code), count } => {
                let value = if *value > 0 { format!(" {value}") } else { String::new() };
                let is_datagram = event.peer.is_some_and(|peer| peer.transport().is_datagram());
                let whom = refused(&peer, is_datagram, *count);
                format!("adit: refused {whom}: {name}{value} (code={code})")
            }
            What::Limit {
                name: name @ ("accept-queue" | "memory" | "lag" | "descriptors"),
                value,
                action,
                count,
            } => wanting(name, *value, *action, *count),
            What::Limit { name, value, action, count } if self.says_all => {
                let of = if peer.is_empty() { String::new() } else { format!(" {peer}") };
                format!("limit {name} {value}: {}{of}, {count} times", action.word())
            }
            _ => return,
        };
        if self.voice.has_breath() {
            self.voice.note(&line);
        }
    }
}
