//! Rules about beginnings and endings: nobody listens, half-closed, reset, silent, out of something.

use super::{Level, Report};
use crate::rows::duration;
use crate::story::{Act, Did, Door, Seen, Story, Talk, Way};

/// R06: so many reads after the one that returned 0.
pub(super) const READS_AFTER_END_MIN: u64 = 3;
/// R16: nanoseconds from the return of `connect` to `accept`.
pub(super) const ACCEPT_LATE_NS_MIN: u64 = 1_000_000_000;
/// R19: so many failures within [`SPIN_NS`] are a loop that spins.
pub(super) const SPIN_COUNT_MIN: usize = 10;
/// R19: in nanoseconds.
pub(super) const SPIN_NS: u64 = 100_000_000;
/// R28: the most that fits into a datagram over IPv4, in bytes.
const UDP_BYTES_MAX: u64 = 65_507;
/// At most this many listening sockets are named.
const DOORS_NAMED_MAX: usize = 3;

/// What happened outside of every conversation.
pub(super) fn general(story: &Story, report: &mut Report) {
    let mut starved = Vec::new();
    for act in &story.general {
        failures(story, act, report);
        match &act.did {
            Did::Error { code, text, .. } if matches!(&**code, "in-use" | "no-ports") => {
                report.fire(("R18", Level::Fault), &[act], || format!("Port not free: {text}"));
            }
            Did::Error { code, .. } if &**code == "no-fds" => starved.push(act),
            _ => {}
        }
    }
    let spins = starved.windows(SPIN_COUNT_MIN).any(|run| match run {
        [first, .., last] => last.at.saturating_sub(first.at) <= SPIN_NS,
        _ => false,
    });
    for act in &starved {
        let (level, how) = match spins {
            true => (Level::Fault, "spins"),
            false => (Level::Warn, "backs off"),
        };
        report
            .fire(("R19", level), &[act], || format!("Out of descriptors; the accept loop {how}"));
    }
}

pub(super) fn check(story: &Story, talk: &Talk, report: &mut Report) {
    let mut ends: Vec<End<'_>> = Vec::new();
    let mut connected: Option<(&Act, u64)> = None;
    let mut reset: Option<Seen> = None;
    for act in &talk.acts {
        failures(story, act, report);
        match &act.did {
            Did::Connect { took: Some(took), code: None, .. } => {
                connected = Some((act, act.at.saturating_add(*took)));
            }
            Did::Accept { .. } if act.seen == Seen::Server => late_accept(connected, act, report),
            Did::ReadEnd { way } | Did::WriteEnd { way } => ended(&mut ends, act, *way, report),
            Did::Write { way, .. } | Did::Read { way, .. } => {
                half_closed(&mut ends, act, *way, report);
            }
            Did::Segment { way, flags, off, .. } => {
                if !off.is_empty() {
                    half_closed(&mut ends, act, *way, report);
                }
                if flags.contains('F') {
                    ended(&mut ends, act, *way, report);
                }
            }
            Did::Truncated { len } => report.fire(("R21", Level::Fault), &[act], || {
                format!("Your buffer held {len} bytes; the rest of the datagram is gone for good")
            }),
            // An error and the end it causes are one reset.
            Did::Error { code, .. } | Did::Over { code, .. }
                if &**code == "reset" && reset.replace(act.seen) != Some(act.seen) =>
            {
                report.fire(("R12", Level::Warn), &[act], || {
                    format!("Reset by {}: why is not known", other(act.seen))
                });
            }
            Did::Over { code, took, .. }
                if matches!(&**code, "dead-peer" | "idle-timeout" | "stall-timeout") =>
            {
                report.fire(("R25", Level::Warn), &[act], || {
                    format!(
                        "{} fell silent, given up after {}: gone, cut or asleep look the same. \
                         Use keepalive or a limit",
                        capital(other(act.seen)),
                        duration(*took)
                    )
                });
            }
            Did::Unreachable { .. } => unreachable(act, report),
            Did::Error { code, .. } | Did::Over { code, .. }
                if talk.scheme.is_datagram() && &**code == "refused" =>
            {
                unreachable(act, report);
            }
            _ => {}
        }
    }
}

/// Connecting and sending that failed: R14, R28, R29.
fn failures(story: &Story, act: &Act, report: &mut Report) {
    match &act.did {
        Did::Connect { addr, code: Some(code), .. } if &**code == "refused" => {
            report.fire(("R14", Level::Fault), &[act], || nothing_listens(&story.doors, addr));
            if let Some(port) = swapped(&story.doors, addr) {
                report.fire(("R29", Level::Fault), &[act], || {
                    format!(
                        "Port {} is {port} with its bytes swapped: htons is missing",
                        port.swap_bytes()
                    )
                });
            }
        }
        Did::Error { code, text, .. } if &**code == "too-big" => {
            let digits = text.split(|char: char| !char.is_ascii_digit());
            let bytes = digits.filter_map(|word| word.parse::<u64>().ok()).max();
            report.fire(("R28", Level::Warn), &[act], || match bytes {
                Some(bytes) if bytes > UDP_BYTES_MAX => {
                    format!("{bytes} bytes exceed the limit 65 507; one datagram takes no more")
                }
                _ => format!("A datagram exceeds the limit: {text}"),
            });
        }
        Did::Over { code, .. } if &**code == "too-big" => {
            report.fire(("R28", Level::Warn), &[act], || {
                "A message exceeds the limit (65 507 bytes in a datagram)".to_owned()
            });
        }
        _ => {}
    }
}

/// R14: the doors on the same port are named first.
pub(super) fn nothing_listens(doors: &[Door], addr: &str) -> String {
    let mut open: Vec<&Door> = doors.iter().filter(|door| door.until.is_none()).collect();
    open.sort_by_key(|door| port(&door.addr) != port(addr));
    let named: Vec<String> = open
        .iter()
        .take(DOORS_NAMED_MAX)
        .map(|door| format!("{} {}", door.scheme.word(), door.addr))
        .collect();
    match named.is_empty() {
        true => format!("Nothing listens on {addr}"),
        false => format!("Nothing listens on {addr}. Listening here: {}", named.join(", ")),
    }
}

fn port(addr: &str) -> Option<u16> {
    addr.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// The port of a door whose bytes are those of this address, swapped.
fn swapped(doors: &[Door], addr: &str) -> Option<u16> {
    let tried = port(addr)?;
    let meant = tried.swap_bytes();
    (meant != tried && doors.iter().any(|door| port(&door.addr) == Some(meant))).then_some(meant)
}

fn late_accept(connected: Option<(&Act, u64)>, act: &Act, report: &mut Report) {
    let Some((connect, returned)) = connected else { return };
    let late = act.at.saturating_sub(returned);
    if late >= ACCEPT_LATE_NS_MIN {
        report.fire(("R16", Level::Note), &[connect, act], || {
            format!(
                "connect succeeded in the kernel; the program accepted {} later",
                duration(late)
            )
        });
    }
}

/// One way that ended, as one of them saw it.
struct End<'a> {
    act: &'a Act,
    way: Way,
    reads_after: u64,
    /// R09 was told of it.
    is_told: bool,
}

/// R06 counts how often the same end is read.
fn ended<'a>(ends: &mut Vec<End<'a>>, act: &'a Act, way: Way, report: &mut Report) {
    let is_read = matches!(act.did, Did::ReadEnd { .. });
    let known = ends.iter_mut().find(|end| end.act.seen == act.seen && end.way == way);
    match known {
        Some(end) if is_read => {
            end.reads_after += 1;
            if end.reads_after >= READS_AFTER_END_MIN {
                report.fire(("R06", Level::Fault), &[end.act, act], || {
                    "read returned 0: the peer has finished. Close; reading again returns 0 for \
                     ever"
                        .to_owned()
                });
            }
        }
        Some(_) => {}
        None => ends.push(End { act, way, reads_after: 0, is_told: false }),
    }
}

/// R09: bytes go the other way after one way has ended, in the eyes of the same observer.
fn half_closed(ends: &mut [End<'_>], act: &Act, way: Way, report: &mut Report) {
    let is_told = ends.iter().any(|end| end.way != way && end.is_told);
    let ended = ends.iter_mut().find(|end| end.way != way && end.act.seen == act.seen);
    if let Some(end) = ended.filter(|_| !is_told) {
        end.is_told = true;
        let who = if end.way == Way::Up { "Client" } else { "Server" };
        report.fire(("R09", Level::Note), &[end.act, act], || {
            format!("{who} has finished sending and still receives: half-closed, as intended")
        });
    }
}

fn unreachable(act: &Act, report: &mut Report) {
    report.fire(("R26", Level::Warn), &[act], || {
        "Nobody listens there. A connected socket hears of it at its second send, an unconnected \
         one only with IP_RECVERR (adit sets it)"
            .to_owned()
    });
}

/// Who is at the other end of the one who saw it.
const fn other(seen: Seen) -> &'static str {
    match seen {
        Seen::Client | Seen::RelayToServer => "the server",
        Seen::Server | Seen::RelayToClient => "the client",
        Seen::Wire => "one side",
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
