//! Acts in words: the call each one was, and where it is told of that belongs to no conversation.

use crate::rows::{clean, counted, duration, size};
use crate::story::{Act, Did, Story};

use super::facts::moment;

/// The act as the call it was.
pub(crate) fn call(did: &Did) -> String {
    let fd = |fd: &Option<i32>| fd.map_or_else(String::new, |fd| format!(" = fd {fd}"));
    let of = |fd: &Option<i32>| fd.map_or_else(String::new, |fd| fd.to_string());
    let code = |code: &str| clean(code);
    match did {
        Did::Accept { fd: new } => format!("accept(){}", fd(new)),
        Did::Connect { fd: own, addr, took, code: failed } => {
            let took = took.map_or_else(String::new, |took| format!(" in {}", duration(took)));
            let end = failed.as_deref().map_or_else(|| "0".to_owned(), code);
            format!("connect({}, {}) = {end}{took}", of(own), clean(addr))
        }
        Did::Open => "the conversation stands".to_owned(),
        Did::Write { off, .. } => format!("write({})", size(off.end.saturating_sub(off.start))),
        Did::Read { off, .. } => format!("read() = {}", size(off.end.saturating_sub(off.start))),
        Did::Send { msg, len, .. } => format!("sendto({}), datagram {msg}", size(*len)),
        Did::Receive { msg, len, .. } => format!("recvfrom() = {}, datagram {msg}", size(*len)),
        Did::Truncated { len } => format!("datagram cut off, {len} B kept"),
        Did::ReadEnd { .. } => "read() = 0: the writer has finished".to_owned(),
        Did::WriteEnd { .. } => "shutdown(): nothing more is written".to_owned(),
        Did::Close { fd } => format!("close({})", of(fd)),
        Did::Over { code: word, bytes_in, bytes_out, took } => {
            let bytes = counted(*bytes_in, *bytes_out);
            format!("over: {}, {bytes}{}", code(word), duration(*took))
        }
        Did::Lost { code: word, unconfirmed } => {
            format!("lost: {unconfirmed} B never confirmed ({})", code(word))
        }
        Did::Limit { name, action, count } => {
            format!("limit {}: {}, {count} times", clean(name), clean(action))
        }
        Did::Error { code: word, text, place } => {
            format!("{}: {} ({})", clean(place), clean(text), code(word))
        }
        Did::Drain => "told to stop".to_owned(),
        Did::Segment { flags, off, window, again, .. } => {
            let again = if *again { ", sent again" } else { "" };
            let len = size(off.end.saturating_sub(off.start));
            format!("segment {}, {len}, window {window}{again}", clean(flags))
        }
        Did::Packet { msg, len, .. } => format!("packet with datagram {msg}, {}", size(*len)),
        Did::Unreachable { .. } => "ICMP: nobody listens there".to_owned(),
    }
}

/// What happened outside of every conversation, a line each, at most `most`.
pub(crate) fn general(story: &Story, most: usize) -> Vec<String> {
    let line = |act: &Act| {
        let at = moment(act.at);
        let unit = if at.ends_with('s') { "" } else { " ms" };
        format!("{at}{unit}: {}", call(&act.did))
    };
    let mut lines: Vec<String> = story.general.iter().take(most).map(line).collect();
    let more = story.general.len().saturating_sub(most);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}
