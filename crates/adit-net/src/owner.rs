//! Owners: which process holds a port, read from /proc (proc(5)).
//!
//! Best effort by nature: another user's processes hide their descriptors, and what was true a moment
//! ago may not be any more. Used to explain an error, never to decide.

use std::fs::{self, File};
use std::io::BufReader;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::table::{Row, parse_range, parse_row, parse_unix_row, read_lines, socket_inode};
use crate::unix::UnixName;

/// A socket that holds a port, and the process that has it open if that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The address it is bound to.
    pub address: SocketAddr,
    /// User number of who made it.
    pub uid: u32,
    /// Process number.
    pub pid: Option<u32>,
    /// Program name (comm), as the process says: any text, to be escaped before it is printed.
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
        for_each_row(table, |row| {
            let holds = protocol == Protocol::Udp || row.state == LISTEN;
            if row.local.port() == port && holds && rows.len() < OWNERS_MAX {
                rows.push(row);
            }
        });
    }
    let owner = |row: &Row| Owner { address: row.local, uid: row.uid, pid: None, program: None };
    let mut owners: Vec<Owner> = rows.iter().map(owner).collect();
    let inodes: Vec<u64> = rows.iter().map(|row| row.inode).collect();
    name_owners(&mut owners, &inodes);
    owners
}

/// Number and name of the process that has a Unix socket bound at this name.
///
/// The kernel tells the name as it was given to bind, and that of a relative path says nothing without
/// the folder of the process: it counts only if it is the same file.
pub fn of_unix(name: &UnixName) -> Option<(u32, String)> {
    let mut found = None;
    each_line("/proc/net/unix", |line| {
        let Some((inode, bound)) = parse_unix_row(line) else { return };
        if found.is_none() && is_same_name(bound, name) {
            found = holder_of(inode, |process| is_same_file(process, bound, name));
        }
    });
    found
}

/// Could the name in the kernel's table be this one? Abstract ones have to be equal, of paths the last
/// part.
fn is_same_name(bound: &str, name: &UnixName) -> bool {
    match name {
        UnixName::Abstract(name) => {
            bound.strip_prefix('@').is_some_and(|bound| bound.as_bytes() == &**name)
        }
        UnixName::Path(_) => {
            let last = name.path().and_then(Path::file_name);
            last.is_some() && Path::new(bound).file_name() == last
        }
    }
}

/// Is what a process has bound, seen from its folder, the file of this name?
fn is_same_file(process: &Path, bound: &str, name: &UnixName) -> bool {
    let Some(path) = name.path() else { return true };
    let place = |path: &Path| path.symlink_metadata().ok().map(|file| (file.dev(), file.ino()));
    // An absolute path replaces the folder.
    let there = place(&process.join("cwd").join(bound));
    there.is_some() && there == place(path)
}

/// A process that has the socket open, and of which this is true.
fn holder_of(inode: u64, is_it: impl Fn(&Path) -> bool) -> Option<(u32, String)> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let folder = process.path();
        let mut links = fs::read_dir(folder.join("fd")).ok()?.flatten();
        let has = |link: fs::DirEntry| {
            fs::read_link(link.path()).ok().and_then(|link| socket_inode(&link)) == Some(inode)
        };
        (links.any(has) && is_it(&folder)).then(|| (pid, program_of(&folder).unwrap_or_default()))
    })
}

/// Connections to `peer` that are closed here and wait out the two minutes of RFC 9293.
pub fn time_wait_to(peer: SocketAddr) -> usize {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let mut count = 0;
    // A socket for both families is listed as IPv6, whatever it talks.
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for_each_row(table, |row| {
            let waits = row.state == TIME_WAIT && canonical(row.remote) == canonical(peer);
            count += usize::from(waits);
        });
    }
    count
}

/// Ports the kernel chooses from when none is asked for, both ends included (ip(7),
/// `ip_local_port_range`); none if it does not tell.
pub fn local_port_range() -> Option<RangeInclusive<u16>> {
    parse_range(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

/// Most sockets told of one port.
const OWNERS_MAX: usize = 64;

/// TCP states in /proc/net/tcp (`include/net/tcp_states.h`).
const LISTEN: u8 = 0x0a;
const TIME_WAIT: u8 = 0x06;

/// Reads a table of sockets with ports.
fn for_each_row(table: &str, mut each: impl FnMut(Row)) {
    each_line(table, |line| {
        // The heading, and whatever else is no row, is passed over.
        if let Some(row) = parse_row(line) {
            each(row);
        }
    });
}

fn each_line(table: &str, mut each: impl FnMut(&str)) {
    if let Ok(file) = File::open(table) {
        // What was read before an error is as true as all of it would have been.
        drop(read_lines(BufReader::new(file), &mut each));
    }
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
                owner.program = program_of(&process.path());
                owner.pid = Some(pid);
                unnamed -= 1;
            }
        }
        if unnamed == 0 {
            return;
        }
    }
}

/// A process may call itself by any 15 bytes (prctl(2), `PR_SET_NAME`).
fn program_of(process: &Path) -> Option<String> {
    let name = fs::read(process.join("comm")).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Protocol, local_port_range, of_port, of_unix, time_wait_to};
    use crate::unix::UnixName;
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

    #[test]
    fn the_range_of_chosen_ports_is_known() {
        assert!(local_port_range().is_some_and(|range| !range.is_empty()));
    }

    #[test]
    fn a_connection_closed_here_first_waits() {
        // An address of this run's own: on a common one the port may have been somebody's before.
        let [_, a, b, c, ..] = crate::random_u64().unwrap().to_ne_bytes();
        let listener = TcpListener::bind((Ipv4Addr::new(127, a, b, c.clamp(1, 254)), 0)).unwrap();
        let peer = listener.local_addr().unwrap();
        assert_eq!(time_wait_to(peer), 0);
        let client = TcpStream::connect(peer).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(client);
        // The end of ours has come; when the server's is acknowledged, ours waits.
        std::io::copy(&mut server, &mut std::io::sink()).unwrap();
        drop(server);
        assert!((0..10_000).any(|_| time_wait_to(peer) == 1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no /proc/net of its own sockets")]
    fn this_process_is_found_by_its_ports() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let tcp_port = tcp.local_addr().unwrap().port();
        for (protocol, port) in
            [(Protocol::Tcp, tcp_port), (Protocol::Udp, udp.local_addr().unwrap().port())]
        {
            let owners = of_port(protocol, port);
            let ours = owners.iter().find(|owner| owner.pid == Some(std::process::id()));
            let uid = ours.unwrap_or_else(|| panic!("not among {owners:?}")).uid;
            assert_eq!(uid, rustix::process::geteuid().as_raw());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no /proc/net of its own sockets")]
    fn this_process_is_found_by_its_unix_sockets_and_only_by_them() {
        use std::os::unix::net::UnixDatagram;
        let name = format!("adit-owner-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let other = std::env::temp_dir().join(format!("{name}-folder"));
        let of_path =
            |path: &std::path::Path| UnixName::Path(path.to_str().unwrap().as_bytes().into());
        let abstract_name = UnixName::Abstract(name.as_bytes().into());
        let held = (
            UnixDatagram::bind(&path).unwrap(),
            UnixDatagram::bind_addr(&abstract_name.to_std().unwrap()).unwrap(),
        );
        // A file of the same name in another folder is another one.
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join(&name), "").unwrap();
        let found = [of_path(&path), abstract_name, of_path(&other.join(&name))]
            .map(|name| of_unix(&name).map(|(pid, _)| pid));
        drop(held);
        drop((std::fs::remove_file(&path), std::fs::remove_dir_all(&other)));
        assert_eq!(found, [Some(std::process::id()), Some(std::process::id()), None]);
    }
}
