//! Events: any events in any order are lines that read back, and a story that can be drawn.

use std::time::Duration;

use adit_proto::code::Code;
use adit_proto::endpoint::{Endpoint, Transport};
use adit_proto::escape::is_unsafe;
use adit_proto::event::{Action, Call, Detail, Direction, Event, Payload, Role, What};
use adit_proto::event::{dropped_line, trace_header_line};
use adit_trace::read;

use crate::pieces::{byte, bytes, number};
use crate::stories::told;

/// So many events are made of one input: more of them find nothing that fewer do not.
const EVENTS_MAX: u64 = 64;

pub(crate) fn events(whole: &[u8]) {
    let mut data = whole;
    let part = ["server", "client", "relay"][usize::from(byte(&mut data) % 3)];
    let program = String::from_utf8_lossy(bytes(&mut data, 40)).into_owned();
    let mut trace = trace_header_line("0.0.0", "2026-11-01T00:00:00Z", part, &program, 7) + "\n";
    let (mut at, mut n) = (Duration::ZERO, 0);
    while !data.is_empty() && n < EVENTS_MAX {
        n += 1;
        at = at.saturating_add(Duration::from_nanos(number(&mut data)));
        let mut line = String::new();
        event(&mut data, at, n, &mut line);
        assert!(line.ends_with('}') && !line.chars().any(is_unsafe), "{line:?}");
        trace.push_str(&line);
        trace.push('\n');
    }
    let story = read::read(trace.as_bytes());
    assert!(story.is_ok(), "our own trace is none: {story:?}\n{trace}");
    let Ok(story) = story else { return };
    let unread = story.notes.iter().find(|note| note.contains("could not be read"));
    assert_eq!(unread, None, "{trace}");
    told(whole, &story);
}

fn event(data: &mut &[u8], at: Duration, n: u64, line: &mut String) {
    let (who, how) = (byte(data), byte(data));
    if how == 0xff {
        line.push_str(&dropped_line(n, at, number(data)));
        return;
    }
    let peer = endpoint(who);
    let event = Event {
        at,
        conversation: (who & 0x80 == 0).then_some(u64::from(who % 5)),
        peer: (who & 0x40 == 0).then_some(&peer),
        role: if how & 0x80 == 0 { Role::Server } else { Role::Client },
        what: what(data, &peer),
    };
    let detail = if how & 0x40 == 0 { Detail::Trace } else { Detail::App };
    let payload = match how & 3 {
        0 => Payload::None,
        1 => Payload::First(usize::from(how & 0x3f)),
        _ => Payload::Whole,
    };
    event.json(n, detail, payload, line);
}

fn endpoint(who: u8) -> Endpoint {
    let transport = if who & 1 == 0 { Transport::Tcp } else { Transport::Udp };
    let address = if who & 2 == 0 { [127, 0, 0, 1] } else { [192, 0, 2, who] };
    Endpoint::ip(transport, (address, 1000 + u16::from(who)).into())
}

fn what<'a, 'd: 'a>(data: &mut &'d [u8], local: &'a Endpoint) -> What<'a> {
    let kind = byte(data);
    let local = (kind & 0x80 == 0).then_some(local);
    let dir = if kind & 0x40 == 0 { Direction::In } else { Direction::Out };
    match kind & 0x3f {
        0..=15 => What::Data { dir, seq: number(data), off: number(data), bytes: bytes(data, 200) },
        16..=23 => What::Call {
            call: CALLS[usize::from(kind) % CALLS.len()],
            fd: (kind & 1 == 0).then(|| byte(data).into()),
            local,
            took: (kind & 2 == 0).then(|| Duration::from_nanos(number(data))),
            code: (kind & 0x40 != 0).then(|| code(data)),
        },
        24..=31 => What::Open { local, via: local.filter(|_| kind & 4 == 0), tls: None },
        32..=36 => What::HalfClose { dir },
        37..=42 => What::Close {
            code: code(data),
            bytes_in: (kind != 42).then(|| number(data)),
            bytes_out: (kind != 42).then(|| number(data)),
            lasted: Duration::from_nanos(number(data)),
        },
        43 => What::Lost {
            code: code(data),
            bytes_in: number(data),
            bytes_out: number(data),
            unconfirmed: number(data),
        },
        44..=46 => What::Limit {
            name: "idle",
            value: number(data),
            action: ACTIONS[usize::from(byte(data)) % ACTIONS.len()],
            count: number(data),
        },
        47..=49 => What::Error {
            code: code(data),
            text: std::str::from_utf8(bytes(data, 60)).unwrap_or("no text"),
            place: "accept",
            fatal: kind & 0x40 == 0,
        },
        50 => What::Truncated { len: byte(data).into() },
        51 => What::Message { dir, len: byte(data).into() },
        52..=54 => match local {
            Some(addr) => What::Listen { addr, reach: addr.reach() },
            None => What::Drain,
        },
        55 => What::Summary {
            conversations: number(data),
            bytes_in: local.is_some().then(|| number(data)),
            bytes_out: local.is_some().then(|| number(data)),
            errors: number(data),
            dropped: number(data),
            exit: byte(data),
            code: code(data),
        },
        _ => What::Drain,
    }
}

const CALLS: [Call; 6] =
    [Call::Socket, Call::Bind, Call::Listen, Call::Accept, Call::Connect, Call::Close];
const ACTIONS: [Action; 5] =
    [Action::Wait, Action::Close, Action::Drop, Action::Report, Action::Refuse(Code::Full)];

fn code(data: &mut &[u8]) -> Code {
    let all = Code::ALL;
    all[usize::from(byte(data)) % all.len()]
}
