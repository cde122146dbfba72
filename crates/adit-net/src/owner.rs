//! Owners: which process holds a port, read from /proc (proc(5)).
//!
//! Best effort by nature: another user's processes hide their descriptors, and what was true a moment
//! ago may not be any more. Used to explain an error, never to decide.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket that holds a port, and the process that has it open if that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The address it is bound to.
    pub address: SocketAddr,
    /// Process number.
    pub pid: Option<u32>,
    /// Program name (comm), as the process says.
    pub program: Option<String>,
}

/// Which table to look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two protocols with ports served here")]
pub enum Protocol {
    /// TCP sockets that listen.
    Tcp,
    /// UDP sockets.
    Udp,
}

/// Sockets that hold `port`, at most 64.
pub fn of_port(protocol: Protocol, port: u16) -> Vec<Owner> {
    let tables = match protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let mut rows = Vec::new();
    for table in tables {
        let text = fs::read_to_string(table).unwrap_or_default();
        rows.extend(text.lines().skip(1).filter_map(parse_row).filter(|row| {
            row.local.port() == port && (protocol == Protocol::Udp || row.state == LISTEN)
        }));
    }
    rows.truncate(64);
    let mut owners: Vec<Owner> =
        rows.iter().map(|row| Owner { address: row.local, pid: None, program: None }).collect();
    let inodes: Vec<u64> = rows.iter().map(|row| row.inode).collect();
    name_owners(&mut owners, &inodes);
    owners
}

/// Connections to `peer` that are closed here and wait out the two minutes of RFC 9293.
pub fn time_wait_to(peer: SocketAddr) -> usize {
    let table = if peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let text = fs::read_to_string(table).unwrap_or_default();
    let rows = text.lines().skip(1).filter_map(parse_row);
    rows.filter(|row| row.remote == peer && row.state == TIME_WAIT).count()
}

/// TCP states in /proc/net/tcp (`include/net/tcp_states.h`).
const LISTEN: u8 = 0x0a;
const TIME_WAIT: u8 = 0x06;

struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

/// One line of /proc/net/{tcp,tcp6,udp,udp6}: number, local, remote, state, ..., inode.
fn parse_row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    let local = parse_address(words.nth(1)?)?;
    let remote = parse_address(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    Some(Row { local, remote, state, inode })
}

/// `0100007F:1F90`: words of four bytes in the machine's order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Finds the processes that have the sockets open: `/proc/PID/fd/N` links to `socket:[INODE]`.
fn name_owners(owners: &mut [Owner], inodes: &[u64]) {
    let mut unnamed = owners.len();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        for link in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Some(inode) = fs::read_link(link.path()).ok().and_then(|link| socket_inode(&link))
            else {
                continue;
            };
            let held = owners.iter_mut().zip(inodes).filter(|(_, held)| **held == inode);
            for (owner, _) in held.filter(|(owner, _)| owner.pid.is_none()).collect::<Vec<_>>() {
                let program = fs::read_to_string(process.path().join("comm")).ok();
                owner.program = program.map(|name| name.trim_end().to_owned());
                owner.pid = Some(pid);
                unnamed -= 1;
            }
        }
        if unnamed == 0 {
            return;
        }
    }
}

fn socket_inode(link: &std::path::Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Protocol, of_port, parse_row};
    use proptest::prelude::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn the_row_of_a_listener_is_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0";
        let row = parse_row(line).unwrap();
        assert_eq!(row.local.to_string(), "127.0.0.1:8080");
        assert_eq!((row.state, row.inode), (0x0a, 12345));
    }

    #[test]
    fn this_process_is_found_by_its_ports() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let tcp_port = tcp.local_addr().unwrap().port();
        for (protocol, port) in
            [(Protocol::Tcp, tcp_port), (Protocol::Udp, udp.local_addr().unwrap().port())]
        {
            let owners = of_port(protocol, port);
            assert!(owners.iter().any(|owner| owner.pid == Some(std::process::id())), "{owners:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "\\PC*", hex in "[0-9A-F:\\s]*") {
            for line in [line, hex] {
                drop(parse_row(&line).map(|row| row.local.to_string()));
            }
        }
    }
}
