//! What can be seen from outside: events as JSON, the sockets of a process, the time it has used.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use adit::event::{Detail, Payload};
use adit::{Event, Observer, What};
use serde_json::Value;

use crate::common::DEADLINE;

/// The events among the lines of a command with `--json`; a line that is not whole yet is left out.
pub(crate) fn events(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Those of one kind.
pub(crate) fn of_kind<'a>(events: &'a [Value], word: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["ev"] == word)
}

/// A number in an event.
#[track_caller]
pub(crate) fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {event}"))
}

/// An observer that hands the events of a server in this process to the test, as the command writes
/// them.
pub(crate) struct Watch(SyncSender<Value>);

/// The test's end of a [`Watch`].
pub(crate) struct Seen(Receiver<Value>);

/// An observer and where its events arrive.
pub(crate) fn watch() -> (Watch, Seen) {
    let (sender, receiver) = sync_channel(100_000);
    (Watch(sender), Seen(receiver))
}

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) {
        if let What::Call { .. } = event.what {
            return;
        }
        let mut line = String::new();
        event.json(0, Detail::App, Payload::First(64), &mut line);
        // A test that has ended does not listen any more.
        drop(self.0.try_send(serde_json::from_str(&line).unwrap()));
    }
}

impl Seen {
    /// The next event of this kind; others are passed over.
    #[track_caller]
    pub(crate) fn next(&self, word: &str) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.0.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if event["ev"] == word => return event,
                Ok(_) => {}
                Err(error) => panic!("no event {word} came: {error}"),
            }
        }
    }

    /// Everything that has come up to now.
    pub(crate) fn so_far(&self) -> Vec<Value> {
        self.0.try_iter().collect()
    }
}

/// Asks again and again, in time, until the answer is yes. For what the system tells by no event.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// A socket as the system lists it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    state: u8,
    inode: u64,
}

/// States in /proc/net/tcp (`include/net/tcp_states.h` of the kernel).
const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

impl Socket {
    pub(crate) fn listens(&self) -> bool {
        self.state == LISTEN
    }

    pub(crate) fn waits_out_its_time(&self) -> bool {
        self.state == TIME_WAIT
    }
}

/// The sockets of a transport (`tcp`, `udp`) that a process has open (proc(5)).
pub(crate) fn sockets_of(process: u32, transport: &str) -> Vec<Socket> {
    let links = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    let inodes: HashSet<u64> = links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect();
    let mut sockets = sockets(transport);
    sockets.retain(|socket| inodes.contains(&socket.inode));
    sockets
}

/// All IPv4 sockets of a transport.
pub(crate) fn sockets(transport: &str) -> Vec<Socket> {
    let table = fs::read_to_string(format!("/proc/net/{transport}")).unwrap();
    table.lines().skip(1).map(|row| socket(row).unwrap_or_else(|| panic!("{row}"))).collect()
}

fn socket(row: &str) -> Option<Socket> {
    let mut words = row.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    Some(Socket { local, remote, state, inode: words.nth(5)?.parse().ok()? })
}

/// `0100007F:1F90`: the address in the machine's order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some((IpAddr::from(ip), u16::from_str_radix(port, 16).ok()?).into())
}

/// Processor time that a process has used, in hundredths of a second (proc(5), `utime` and `stime`).
pub(crate) fn time_used(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in parentheses may hold anything.
    let words = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
    words.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
