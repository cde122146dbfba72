//! Events: the one vocabulary from which logs, JSON, counters and pictures derive.
//!
//! This is the app layer of schema version 1. New optional fields and new words keep the version; a
//! removed field or a changed unit raises it. Readers pass over what they do not know.

use std::time::Duration;

use crate::code::Code;
use crate::endpoint::{Endpoint, Reach};
use crate::json::{base64, json_string};

/// Version of the schema, the field `v` of every line.
pub const SCHEMA: u32 = 1;

/// Which way something went, as seen from the socket it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum Direction {
    /// From the peer to us.
    In,
    /// From us to the peer.
    Out,
}

impl Direction {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What a server did about a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Somebody waits until there is room.
    Wait,
    /// The conversation was ended.
    Close,
    /// Bytes or datagrams were dropped.
    Drop,
    /// Only told.
    Report,
}

impl Action {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Close => "close",
            Self::Drop => "drop",
            Self::Report => "report",
        }
    }
}

/// Something that happened: when, in which conversation, with whom, and what.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "observers take it apart, sources put it together")]
pub struct Event<'a> {
    /// Since the start of the trace, on a clock that never jumps.
    pub at: Duration,
    /// Number of the conversation, from 1; none for what concerns the whole server.
    pub conversation: Option<u64>,
    /// The other end.
    pub peer: Option<&'a Endpoint>,
    /// What happened.
    pub what: What<'a>,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What<'a> {
    /// A socket listens.
    Listen {
        /// Its real address.
        addr: &'a Endpoint,
        /// Who can reach it.
        reach: Reach,
    },
    /// A conversation began.
    Open {
        /// Our end of it.
        local: Option<&'a Endpoint>,
    },
    /// Bytes were read or written, or a datagram received or sent.
    Data {
        /// Which way.
        dir: Direction,
        /// Number of this record in its direction, from 0.
        seq: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A whole message was handed to the handler or taken from it.
    Message {
        /// Which way.
        dir: Direction,
        /// Its length without framing.
        len: usize,
    },
    /// A datagram was longer than the buffer it was received into.
    Truncated {
        /// How much of it is there.
        len: usize,
    },
    /// One direction has ended; the other goes on.
    HalfClose {
        /// The direction that ended.
        dir: Direction,
    },
    /// A conversation ended.
    Close {
        /// Why.
        code: Code,
        /// Bytes received.
        bytes_in: u64,
        /// Bytes written.
        bytes_out: u64,
        /// How long it lasted.
        lasted: Duration,
    },
    /// Bytes were handed over and nothing says that they arrived.
    Lost {
        /// Why.
        code: Code,
        /// Bytes received.
        bytes_in: u64,
        /// Bytes written.
        bytes_out: u64,
        /// Bytes of them that were not acknowledged.
        unconfirmed: u64,
    },
    /// A limit was met.
    Limit {
        /// Its name in `Limits` and on the command line.
        name: &'static str,
        /// Its value, in its own unit.
        value: u64,
        /// What was done.
        action: Action,
        /// How often, since it was last told.
        count: u64,
    },
    /// Something failed.
    Error {
        /// Why.
        code: Code,
        /// In words.
        text: &'a str,
        /// In which act.
        place: &'static str,
        /// Does the server end with it?
        fatal: bool,
    },
    /// The server was told to stop and finishes what it has.
    Drain,
    /// The server or client has ended.
    Summary {
        /// Conversations in all.
        conversations: u64,
        /// Bytes received.
        bytes_in: u64,
        /// Bytes written.
        bytes_out: u64,
        /// Conversations that did not end cleanly.
        errors: u64,
        /// Messages or datagrams dropped on purpose or for want of room.
        dropped: u64,
        /// Exit status of the command.
        exit: u8,
        /// Why it ended.
        code: Code,
    },
}

impl What<'_> {
    /// The word in the field `ev`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "listen",
            Self::Open { .. } => "open",
            Self::Data { .. } => "data",
            Self::Message { .. } => "message",
            Self::Truncated { .. } => "truncated",
            Self::HalfClose { .. } => "half_close",
            Self::Close { .. } => "close",
            Self::Lost { .. } => "lost",
            Self::Limit { .. } => "limit",
            Self::Error { .. } => "error",
            Self::Drain => "drain",
            Self::Summary { .. } => "summary",
        }
    }
}

/// How many bytes of payload an event line may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nothing, a beginning, or everything")]
pub enum Payload {
    /// Lengths only.
    None,
    /// The first so many bytes.
    First(usize),
    /// All of it.
    Whole,
}

/// The first line of every trace, without a line end.
///
/// `start` is the wall clock time as RFC 3339 text; `version` is adit's.
pub fn header_line(version: &str, start: &str) -> String {
    let mut line = format!("{{\"v\":{SCHEMA},\"n\":0,\"t\":0,\"ev\":\"trace\",\"adit\":");
    json_string(version, &mut line);
    line.push_str(",\"start\":");
    json_string(start, &mut line);
    line.push('}');
    line
}

impl Event<'_> {
    /// Appends the event as one JSON object without a line end; `n` is its number in the trace.
    pub fn json(&self, n: u64, payload: Payload, line: &mut String) {
        field(line, '{', "v", SCHEMA);
        field(line, ',', "n", n);
        field(line, ',', "t", self.at.as_micros());
        text(line, "ev", self.what.word());
        if let Some(conversation) = self.conversation {
            field(line, ',', "conn", conversation);
        }
        if let Some(peer) = self.peer {
            text(line, "peer", &peer.place_text());
        }
        self.what.fields(payload, line);
        line.push('}');
    }
}

impl What<'_> {
    fn fields(&self, payload: Payload, line: &mut String) {
        match self {
            Self::Listen { addr, reach } => {
                text(line, "addr", &addr.to_string());
                text(line, "reach", reach.word());
            }
            Self::Open { local } => {
                if let Some(local) = local {
                    text(line, "local", &local.place_text());
                }
            }
            Self::Data { dir, seq, bytes } => {
                text(line, "dir", dir.word());
                field(line, ',', "seq", seq);
                field(line, ',', "len", bytes.len());
                payload_fields(line, bytes, payload);
            }
            Self::Message { dir, len } => {
                text(line, "dir", dir.word());
                field(line, ',', "len", len);
            }
            Self::Truncated { len } => field(line, ',', "len", len),
            Self::HalfClose { dir } => text(line, "dir", dir.word()),
            Self::Close { code, bytes_in, bytes_out, lasted } => {
                ended(line, *code, *bytes_in, *bytes_out);
                field(line, ',', "dt", lasted.as_micros());
            }
            Self::Lost { code, bytes_in, bytes_out, unconfirmed } => {
                ended(line, *code, *bytes_in, *bytes_out);
                field(line, ',', "unconfirmed", unconfirmed);
            }
            Self::Limit { name, value, action, count } => {
                text(line, "name", name);
                field(line, ',', "value", value);
                text(line, "action", action.word());
                field(line, ',', "count", count);
            }
            Self::Error { code, text: words, place, fatal } => {
                text(line, "code", code.word());
                text(line, "text", words);
                text(line, "where", place);
                field(line, ',', "fatal", fatal);
            }
            Self::Drain => {}
            Self::Summary { conversations, bytes_in, bytes_out, errors, dropped, exit, code } => {
                field(line, ',', "conns", conversations);
                field(line, ',', "in", bytes_in);
                field(line, ',', "out", bytes_out);
                field(line, ',', "errors", errors);
                field(line, ',', "dropped", dropped);
                field(line, ',', "exit", exit);
                text(line, "code", code.word());
            }
        }
    }
}

fn ended(line: &mut String, code: Code, bytes_in: u64, bytes_out: u64) {
    text(line, "code", code.word());
    field(line, ',', "in", bytes_in);
    field(line, ',', "out", bytes_out);
}

fn payload_fields(line: &mut String, bytes: &[u8], payload: Payload) {
    let shown = match payload {
        Payload::None => return,
        Payload::First(most) => bytes.get(..most).unwrap_or(bytes),
        Payload::Whole => bytes,
    };
    match std::str::from_utf8(shown) {
        Ok(words) => text(line, "text", words),
        // Cut inside a character by the limit of `--payload`: the whole characters are still text.
        Err(cut) if cut.error_len().is_none() && shown.len() < bytes.len() => {
            let whole = shown.get(..cut.valid_up_to()).unwrap_or_default();
            text(line, "text", &String::from_utf8_lossy(whole));
        }
        Err(_) => {
            line.push_str(",\"b64\":\"");
            base64(shown, line);
            line.push('"');
        }
    }
}

fn field(line: &mut String, before: char, name: &str, value: impl std::fmt::Display) {
    line.push(before);
    line.push_str(&format!("\"{name}\":{value}"));
}

fn text(line: &mut String, name: &str, value: &str) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
    json_string(value, line);
}

#[cfg(test)]
mod tests {
    use super::{Direction, Event, Payload, What, header_line};
    use crate::code::Code;
    use crate::endpoint::{Endpoint, Transport};
    use std::time::Duration;

    fn line(what: What<'_>, payload: Payload) -> String {
        let peer = Endpoint::ip(Transport::Tcp, "127.0.0.1:4711".parse().unwrap());
        let at = Duration::from_micros(51_234);
        let mut line = String::new();
        Event { at, conversation: Some(2), peer: Some(&peer), what }.json(4, payload, &mut line);
        line
    }

    #[test]
    fn a_data_event_is_the_documented_line() {
        let what = What::Data { dir: Direction::In, seq: 3, bytes: b"hello" };
        assert_eq!(
            line(what, Payload::First(64)),
            r#"{"v":1,"n":4,"t":51234,"ev":"data","conn":2,"peer":"127.0.0.1:4711","dir":"in","seq":3,"len":5,"text":"hello"}"#
        );
    }

    #[test]
    fn payload_is_absent_text_or_base64() {
        let data = |bytes| What::Data { dir: Direction::Out, seq: 0, bytes };
        assert!(!line(data(b"secret"), Payload::None).contains("secret"));
        assert!(line(data(b"\xff\xfe"), Payload::Whole).ends_with(r#","b64":"//4="}"#));
        assert!(line(data("aé".as_bytes()), Payload::First(2)).ends_with(r#","text":"a"}"#));
    }

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let what = What::Error {
            code: Code::Internal,
            text: "a\"}\n{\x1b[2J",
            place: "accept",
            fatal: false,
        };
        let line = line(what, Payload::None);
        assert!(!line.contains('\n') && !line.contains('\x1b'));
        assert!(line.contains(r#""text":"a\"}\n{\u001b[2J""#));
    }

    #[test]
    fn the_header_names_the_trace() {
        assert_eq!(
            header_line("0.1.0", "2026-11-01T00:00:00Z"),
            r#"{"v":1,"n":0,"t":0,"ev":"trace","adit":"0.1.0","start":"2026-11-01T00:00:00Z"}"#
        );
    }
}
