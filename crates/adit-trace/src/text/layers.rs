//! The layers: what is the program's, what is the kernel's, and the socket as the door between.

use super::head::{known, title};
use super::page::{Page, centre, pad};
use super::sums::Sums;
use super::{COLUMNS_MAX, Options};
use crate::rows::{Stage, cut, plural, size, width};
use crate::story::{Scheme, Seen, Story, Talk, Way};

const BOX: usize = 33;

/// The picture of one talk. What no source tells of is said to be unknown.
pub(super) fn layers(page: &mut Page, story: &Story, talk: &Talk, options: &Options) {
    let sums = Sums::of(talk);
    page.line(&title(talk, sums.observers));
    let is_datagram = talk.scheme.is_datagram();
    let names = options.names;
    let fd = |fd: Option<i32>| fd.map_or_else(String::new, |fd| format!(" fd{fd}"));
    let programs = (
        program(story, Seen::Client, sums.observers.client),
        program(story, Seen::Server, sums.observers.server),
    );
    page.line(&row(&edge(&programs.0.0, '-'), "", &edge(&programs.1.0, '-')));
    let inner = |one: &str, middle: &str, two: &str| row(&side(one), middle, &side(two));
    page.line(&inner(&programs.0.1, "yours", &programs.1.1));
    let client = (
        moved("wrote", &sums, (Way::Up, Stage::Written)),
        moved("read", &sums, (Way::Down, Stage::Read)),
    );
    let server = (
        moved("read", &sums, (Way::Up, Stage::Read)),
        moved("wrote", &sums, (Way::Down, Stage::Written)),
    );
    page.line(&inner(&client.0, "", &server.0));
    page.line(&inner(&client.1, "", &server.1));
    let doors = (
        format!("door: {}{}", names.client(), fd(sums.client_fd)),
        format!("door: {}{}", names.server(is_datagram), fd(sums.server_fd)),
    );
    page.line(&row(&edge(&doors.0, '='), "the door", &edge(&doors.1, '=')));
    let kernel = transport(talk.scheme);
    page.line(&inner(kernel, "the kernel's", kernel));
    let local = |addr: &str| format!("address {}", known(addr));
    page.line(&inner(&local(&talk.client), "", &local(&talk.server)));
    let unseen = "send buffer   unknown";
    page.line(&inner(unseen, "<---------->", unseen));
    let unread = (unread(&sums, Way::Down, is_datagram), unread(&sums, Way::Up, is_datagram));
    page.line(&inner(&unread.0, "", &unread.1));
    let tuning = match is_datagram {
        true => "no connection: addresses only",
        false => "rtt, cwnd     unknown",
    };
    page.line(&inner(tuning, "", tuning));
    let ends = (over(sums.client_over.as_deref()), over(sums.server_over.as_deref()));
    page.line(&inner(&ends.0, "", &ends.1));
    page.line(&row(&edge("", '-'), "the network", &edge("", '-')));
    page.line("unknown = nothing in this trace tells of it");
    if let Some((to_client, to_server)) = &talk.relay {
        let text = format!("relay: {} .. {}", known(to_client), known(to_server));
        page.line(&centre(&text, COLUMNS_MAX));
        let passed = |way| sums.at(way, Stage::Passed).map_or(0, |count| count.bytes);
        let text =
            format!("passed on {} up, {} down", size(passed(Way::Up)), size(passed(Way::Down)));
        page.line(&centre(&text, COLUMNS_MAX));
    }
    if sums.unconfirmed > 0 {
        page.line(&format!("{} were sent and never confirmed", size(sums.unconfirmed)));
    }
}

/// The name of the box and the command line of the program on this side, if it tells of this talk.
fn program(story: &Story, seen: Seen, is_its_own: bool) -> (String, String) {
    let side = if seen == Seen::Client { "client" } else { "server" };
    let known = story.programs.iter().find(|program| program.seen == seen && is_its_own);
    match known {
        Some(program) => {
            let pid = match program.pid {
                0 => String::new(),
                pid => format!(" pid {pid}"),
            };
            (format!("{side}{pid}"), program.name.clone())
        }
        None => (side.to_owned(), "program unknown".to_owned()),
    }
}

fn moved(verb: &str, sums: &Sums, what: (Way, Stage)) -> String {
    match sums.at(what.0, what.1) {
        Some(count) => {
            format!("{verb:<6}{} in {}", size(count.bytes), plural(count.pieces, "call"))
        }
        None => format!("{verb:<6}unknown"),
    }
}

/// What was written and not read: known only if both programs were seen.
fn unread(sums: &Sums, way: Way, is_datagram: bool) -> String {
    // What is missing of a stream waits in the buffer; of datagrams it may be lost.
    let name = if is_datagram { "not received" } else { "not yet read" };
    match (sums.at(way, Stage::Written), sums.at(way, Stage::Read)) {
        (Some(written), Some(read)) => {
            format!("{name}  {}", size(written.bytes.saturating_sub(read.bytes)))
        }
        _ => "recv buffer   unknown".to_owned(),
    }
}

const fn transport(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Tcp => "TCP with its buffers",
        Scheme::Udp => "UDP: no connection, no order",
        Scheme::Unix => "Unix stream with its buffers",
        Scheme::UnixDatagram => "Unix datagrams",
    }
}

fn over(code: Option<&str>) -> String {
    code.map_or_else(|| "state         unknown".to_owned(), |code| format!("over ({code})"))
}

fn row(one: &str, middle: &str, two: &str) -> String {
    format!("{one}{}{two}", centre(middle, COLUMNS_MAX - 2 * BOX))
}

fn side(text: &str) -> String {
    format!("| {} |", pad(text, BOX - 4))
}

fn edge(name: &str, fill: char) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" {} ", cut(name, BOX - 6)) };
    let rest = BOX - 3 - width(&name);
    let corner = if fill == '=' { '|' } else { '+' };
    format!("{corner}{fill}{name}{}{corner}", String::from(fill).repeat(rest))
}
