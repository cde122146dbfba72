//! Events as lines of JSON.

use std::time::Duration;

use super::{Action, Call, Event, SCHEMA, What};
use crate::json::{base64, json_string};

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

/// How much stands in an event line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "for those who watch, or for those who draw")]
pub enum Detail {
    /// What happened in the conversation: `--json`.
    App,
    /// Also what a picture needs: which side, which bytes of the stream, nanoseconds.
    Trace,
}

/// The first line of every trace, without a line end.
///
/// `start` is the wall clock time as RFC 3339 text; `version` is adit's.
pub fn header_line(version: &str, start: &str) -> String {
    header(version, start) + "}"
}

/// The first line of a trace that shall be drawn: also who wrote it.
///
/// `part` is `server`, `client` or `relay`, `program` a command line.
pub fn trace_header_line(
    version: &str,
    start: &str,
    part: &str,
    program: &str,
    pid: u32,
) -> String {
    let mut line = header(version, start);
    text(&mut line, "role", part);
    text(&mut line, "prog", program);
    field(&mut line, ',', "pid", pid);
    text(&mut line, "calls", if part == "relay" { "relay" } else { "exact" });
    text(&mut line, "wire", "none");
    line + "}"
}

/// The line that says that events were dropped in front of it.
pub fn dropped_line(n: u64, at: Duration, count: u64) -> String {
    let mut line = format!("{{\"v\":{SCHEMA},\"n\":{n}");
    micros(&mut line, "t", at);
    text(&mut line, "ev", "drop");
    text(&mut line, "where", "trace");
    field(&mut line, ',', "count", count);
    line + "}"
}

fn header(version: &str, start: &str) -> String {
    let mut line = format!("{{\"v\":{SCHEMA},\"n\":0,\"t\":0,\"ev\":\"trace\"");
    text(&mut line, "adit", version);
    text(&mut line, "start", start);
    line
}

impl Event<'_> {
    /// Appends the event as one JSON object without a line end; `n` is its number in the trace.
    pub fn json(&self, n: u64, detail: Detail, payload: Payload, line: &mut String) {
        field(line, '{', "v", SCHEMA);
        field(line, ',', "n", n);
        match detail {
            Detail::App => field(line, ',', "t", self.at.as_micros()),
            Detail::Trace => micros(line, "t", self.at),
        }
        text(line, "ev", self.what.word());
        if let Some(conversation) = self.conversation {
            field(line, ',', "conn", conversation);
        }
        if let Some(peer) = self.peer {
            text(line, "peer", &peer.place_text());
        }
        if detail == Detail::Trace {
            self.trace_fields(line);
        }
        self.what.fields(payload, line);
        line.push('}');
    }

    /// What only a picture needs.
    fn trace_fields(&self, line: &mut String) {
        text(line, "role", self.role.word());
        match &self.what {
            What::Call { .. } => {
                text(line, "layer", "call");
                text(line, "by", "lib");
            }
            What::Open { .. } => {
                if let Some(peer) = self.peer {
                    text(line, "scheme", peer.transport().word());
                }
            }
            // A datagram has a number, bytes of a stream have a place.
            What::Data { seq, off, bytes, .. } => {
                if self.peer.is_some_and(|peer| peer.transport().is_datagram()) {
                    field(line, ',', "msg", seq);
                } else {
                    let end = off.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    line.push_str(&format!(",\"off\":[{off},{end}]"));
                }
            }
            _ => {}
        }
    }
}

impl What<'_> {
    fn fields(&self, payload: Payload, line: &mut String) {
        match self {
            Self::Listen { addr, reach } => {
                text(line, "addr", &addr.to_string());
                text(line, "reach", reach.word());
            }
            Self::Call { .. } => self.call_fields(line),
            Self::Open { local, via, tls } => {
                if let Some(local) = local {
                    text(line, "local", &local.place_text());
                }
                if let Some(via) = via {
                    text(line, "via", &via.place_text());
                }
                if let Some(tls) = tls {
                    text(line, "tls", tls);
                }
            }
            Self::Data { dir, seq, bytes, .. } => {
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
                text(line, "code", code.word());
                known_bytes(line, *bytes_in, *bytes_out);
                field(line, ',', "dt", lasted.as_micros());
            }
            Self::Lost { code, bytes_in, bytes_out, unconfirmed } => {
                text(line, "code", code.word());
                known_bytes(line, Some(*bytes_in), Some(*bytes_out));
                field(line, ',', "unconfirmed", unconfirmed);
            }
            Self::Limit { name, value, action, count } => {
                text(line, "name", name);
                field(line, ',', "value", value);
                text(line, "action", action.word());
                if let Action::Refuse(code) = action {
                    text(line, "code", code.word());
                }
                field(line, ',', "count", count);
            }
            Self::Error { code, text: words, place, fatal } => {
                text(line, "code", code.word());
                text(line, "text", words);
                text(line, "where", place);
                field(line, ',', "fatal", fatal);
            }
            Self::Drain | Self::Reload => {}
            Self::Counts { .. } => self.count_fields(line),
            Self::Summary { conversations, bytes_in, bytes_out, errors, dropped, exit, code } => {
                field(line, ',', "conns", conversations);
                known_bytes(line, *bytes_in, *bytes_out);
                field(line, ',', "errors", errors);
                field(line, ',', "dropped", dropped);
                field(line, ',', "exit", exit);
                text(line, "code", code.word());
            }
        }
    }
}

impl What<'_> {
    fn count_fields(&self, line: &mut String) {
        let Self::Counts {
            open,
            conversations,
            errors,
            refused,
            dropped,
            lag,
            bytes_in,
            bytes_out,
        } = self
        else {
            return;
        };
        field(line, ',', "open", open);
        field(line, ',', "conns", conversations);
        field(line, ',', "errors", errors);
        field(line, ',', "refused", refused);
        field(line, ',', "dropped", dropped);
        micros(line, "lag", *lag);
        known_bytes(line, *bytes_in, *bytes_out);
    }

    fn call_fields(&self, line: &mut String) {
        let Self::Call { call, fd, local, took, code } = self else { return };
        if let Some(fd) = fd {
            field(line, ',', "fd", fd);
        }
        match (call, local) {
            (Call::Bind | Call::Listen, Some(addr)) => text(line, "addr", &addr.to_string()),
            (_, Some(local)) => text(line, "local", &local.place_text()),
            (_, None) => {}
        }
        if let Some(took) = took {
            micros(line, "dt", *took);
        }
        if let Some(code) = code {
            text(line, "code", code.word());
        }
    }
}

/// What nobody has counted is left out: 0 would be a count.
fn known_bytes(line: &mut String, bytes_in: Option<u64>, bytes_out: Option<u64>) {
    for (name, bytes) in [("in", bytes_in), ("out", bytes_out)] {
        if let Some(bytes) = bytes {
            field(line, ',', name, bytes);
        }
    }
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

/// Microseconds with the nanoseconds behind the point.
fn micros(line: &mut String, name: &str, time: Duration) {
    let nanos = time.as_nanos();
    field(line, ',', name, format_args!("{}.{:03}", nanos / 1000, nanos % 1000));
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
    use super::super::{Call, Direction, Event, Role, What};
    use super::{Detail, Payload, dropped_line, header_line};
    use crate::code::Code;
    use crate::endpoint::{Endpoint, Transport};
    use std::time::Duration;

    fn line(what: What<'_>, payload: Payload) -> String {
        let peer = Endpoint::ip(Transport::Tcp, "127.0.0.1:4711".parse().unwrap());
        let at = Duration::from_micros(51_234);
        let mut line = String::new();
        event(at, &peer, what).json(4, Detail::App, payload, &mut line);
        line
    }

    fn event<'a>(at: Duration, peer: &'a Endpoint, what: What<'a>) -> Event<'a> {
        Event { at, conversation: Some(2), peer: Some(peer), role: Role::Server, what }
    }

    #[test]
    fn a_line_for_pictures_says_which_side_and_which_bytes() {
        let at = Duration::from_nanos(51_234_567);
        let tcp = Endpoint::ip(Transport::Tcp, "127.0.0.1:4711".parse().unwrap());
        let udp = Endpoint::ip(Transport::Udp, "127.0.0.1:4711".parse().unwrap());
        let data = || What::Data { dir: Direction::In, seq: 3, off: 10, bytes: b"hello" };
        let connect = What::Call {
            call: Call::Connect,
            fd: Some(7),
            local: Some(&tcp),
            took: Some(Duration::from_nanos(85_500)),
            code: Some(Code::Refused),
        };
        let rows = [
            (
                &tcp,
                data(),
                r#""ev":"data","conn":2,"peer":"127.0.0.1:4711","role":"server","off":[10,15],"dir":"in","seq":3,"len":5"#,
            ),
            (
                &udp,
                data(),
                r#""ev":"data","conn":2,"peer":"127.0.0.1:4711","role":"server","msg":3,"dir":"in","seq":3,"len":5"#,
            ),
            (
                &udp,
                What::Open { local: None, via: None, tls: None },
                r#""ev":"open","conn":2,"peer":"127.0.0.1:4711","role":"server","scheme":"udp""#,
            ),
            (
                &tcp,
                connect,
                r#""ev":"connect","conn":2,"peer":"127.0.0.1:4711","role":"server","layer":"call","by":"lib","fd":7,"local":"127.0.0.1:4711","dt":85.500,"code":"refused""#,
            ),
        ];
        for (peer, what, fields) in rows {
            let mut line = String::new();
            event(at, peer, what).json(4, Detail::Trace, Payload::None, &mut line);
            assert_eq!(line, format!(r#"{{"v":1,"n":4,"t":51234.567,{fields}}}"#));
        }
        assert_eq!(
            dropped_line(5, at, 17),
            r#"{"v":1,"n":5,"t":51234.567,"ev":"drop","where":"trace","count":17}"#
        );
    }

    #[test]
    fn a_data_event_is_the_documented_line() {
        let what = What::Data { dir: Direction::In, seq: 3, off: 9, bytes: b"hello" };
        assert_eq!(
            line(what, Payload::First(64)),
            r#"{"v":1,"n":4,"t":51234,"ev":"data","conn":2,"peer":"127.0.0.1:4711","dir":"in","seq":3,"len":5,"text":"hello"}"#
        );
    }

    #[test]
    fn payload_is_absent_text_or_base64() {
        let data = |bytes| What::Data { dir: Direction::Out, seq: 0, off: 0, bytes };
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
