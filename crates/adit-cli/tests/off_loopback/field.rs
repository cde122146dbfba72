//! Two hosts and a cable: the test and its many addresses on one, servers on the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use adit_lab::net::{Absent, Host, Net};
use socket2::{Domain, Protocol, Socket, Type};

use crate::common::{DEADLINE, Program, Ran, adit, find, run, skipped, wait_until};

/// Where the server is.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const FAR_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The same on the cable alone, at either end: `fe80::2%c0`.
pub(crate) const FAR_LINK: &str = "fe80::2%c0";

/// Set in the process that is on a host of its own.
const INSIDE: &str = "ADIT_TEST_OFF_LOOPBACK";

/// The host at the other end of the cable.
pub(crate) struct Field {
    host: Host,
    _net: Net,
}

impl Field {
    /// In the test of this name, which runs itself again on a host of its own. None outside, and where the
    /// system permits no networks, which the test says.
    pub(crate) fn of(test: &str) -> Option<Self> {
        if std::env::var_os(INSIDE).is_none() {
            run_inside(test);
            return None;
        }
        Some(Self::lay().unwrap())
    }

    fn lay() -> Result<Self, Absent> {
        let net = Net::new()?;
        let host = net.host()?;
        let own = std::process::id().to_string();
        let cable = ["ip", "link", "add", "c0", "type", "veth", "peer", "name", "c0"];
        host.run(&[&cable[..], &["netns", &own]].concat())?;
        // Addresses are there at once, without a look whether somebody else has them.
        let plug = "ip address add 10.77.0.$1/24 dev c0 && ip link set c0 addrgenmode none \
             && ip -6 address add fd77::$1/64 dev c0 nodad && ip -6 address add fe80::$1/64 dev c0 nodad \
             && ip link set lo up && ip link set c0 up";
        host.run(&["sh", "-ec", plug, "sh", "2"])?;
        here(plug, &["1"]);
        // All of 10.78.0.0/16 and of fd78::/16 is this host.
        here(
            "ip route add local 10.78.0.0/16 dev lo; ip -6 route add local fd78::/16 dev lo; \
             echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind",
            &[],
        );
        host.run(&["ip", "route", "add", "10.78.0.0/16", "via", "10.77.0.1"])?;
        host.run(&["ip", "-6", "route", "add", "fd78::/16", "via", "fd77::1"])?;
        // IPv6 is there once both ends have noticed the cable.
        let routes = ["ip", "-6", "route", "show", "table", "local"];
        let is_plugged = |routes: &str| routes.contains("multicast ff00::/8 dev c0");
        wait_until("the cable carries IPv6", || {
            let near = run(Command::new(routes[0]).args(&routes[1..]), b"").text();
            is_plugged(&near) && host.run(&routes).is_ok_and(|far| is_plugged(&far))
        });
        Ok(Self { host, _net: net })
    }

    /// The command at the other end.
    pub(crate) fn adit(&self, words: &[&str]) -> Command {
        let command = adit(words);
        let mut there = self.host.command(command.get_program());
        there.args(command.get_args());
        there
    }

    /// Serves there, and waits until it listens.
    #[track_caller]
    pub(crate) fn serve(&self, words: &[&str]) -> Program {
        let words = [&["serve", "--print-addr"], words].concat();
        let server = Program::start(&mut self.adit(&words));
        if server.out.first_line().is_none() {
            let said = String::from_utf8_lossy(&server.err.to_end()).into_owned();
            assert!(said.is_empty(), "it does not serve: {said}");
        }
        server
    }

    /// Relays there, and waits until it listens.
    #[track_caller]
    pub(crate) fn serve_relay(&self, from: &str, to: &str) -> Program {
        let relay = Program::start(&mut self.adit(&["forward", "--print-addr", from, to]));
        assert!(relay.out.first_line().is_some(), "it does not relay: {}", relay.err.text());
        relay
    }

    /// Runs the command there to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.adit(words), b"")
    }

    /// Packets that have left the other host over the cable.
    pub(crate) fn sent(&self) -> u64 {
        let table = self.host.run(&["cat", "/proc/net/dev"]).unwrap();
        let line = table.lines().find_map(|line| line.trim().strip_prefix("c0:")).unwrap();
        line.split_whitespace().nth(9).unwrap().parse().unwrap()
    }

    /// Runs a program there that ends at once.
    #[track_caller]
    pub(crate) fn there(&self, words: &[&str]) -> String {
        self.host.run(words).unwrap()
    }
}

/// Runs the test again in a network of its own; as root with all users, else in which it is root.
fn run_inside(test: &str) {
    for program in ["unshare", "nsenter", "ip"] {
        if find(program).is_none() {
            return;
        }
    }
    let flags = if rustix::process::geteuid().is_root() { "-n" } else { "-Urn" };
    if run(Command::new("unshare").args([flags, "true"]), b"").status != 0 {
        return skipped(&format!("{test}: no networks of its own here"));
    }
    let mut command = Command::new("unshare");
    command.arg(flags).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let mut inside = Program::start(&mut command);
    // It has steps that may each take their time, and ends what it has started by itself.
    let end = Instant::now() + 4 * DEADLINE;
    while inside.is_running() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ran = inside.wait();
    assert!(ran.status == 0 && ran.text().contains("1 passed"), "{}{}", ran.text(), ran.err);
    println!("{}", ran.text());
}

/// May a program be run as somebody: not where this user alone is there (`user_namespaces(7)`).
pub(crate) fn has_users() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|may| may.trim() == "allow")
}

/// Sets something up on this host.
#[track_caller]
pub(crate) fn here(script: &str, words: &[&str]) {
    let ran = run(Command::new("sh").args(["-ec", script, "sh"]).args(words), b"");
    assert_eq!(ran.status, 0, "{script}: {}", ran.err);
}

/// One of the addresses of this host: `10.78.NET.HOST`.
pub(crate) fn v4(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 78, net, host).into()
}

/// `fd78:0:0:NET::HOST`; NET is the /64.
pub(crate) fn v6(net: u16, host: u16) -> IpAddr {
    Ipv6Addr::new(0xfd78, 0, 0, net, 0, 0, 0, host).into()
}

/// The number of the cable on this host.
pub(crate) fn cable() -> u32 {
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
    let line = text.lines().find(|line| line.trim_end().ends_with(" c0")).unwrap();
    u32::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

/// The server, as a client of this family reaches it.
pub(crate) fn far(from: IpAddr, port: u16) -> SocketAddr {
    match from {
        IpAddr::V4(_) => (FAR, port).into(),
        IpAddr::V6(_) => (FAR_V6, port).into(),
    }
}

/// A connection from an address of this host, whose reads and writes end.
pub(crate) fn connect(from: IpAddr, port: u16) -> TcpStream {
    try_connect(from, port).unwrap()
}

pub(crate) fn try_connect(from: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(far(from, port)), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket.connect_timeout(&far(from, port).into(), DEADLINE)?;
    Ok(socket.into())
}

/// A datagram socket at an address of this host, with room for whatever comes.
pub(crate) fn datagrams(from: IpAddr, port: u16) -> UdpSocket {
    let address = SocketAddr::new(from, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(1 << 20).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.into()
}

/// What has come to a socket so far: datagrams, and their bytes with headers.
pub(crate) fn heard(socket: &UdpSocket) -> (usize, usize) {
    const HEADERS: usize = 28;
    socket.set_nonblocking(true).unwrap();
    let mut room = vec![0; 1 << 16];
    let (mut count, mut bytes) = (0, 0);
    while let Ok(length) = socket.recv(&mut room) {
        count += 1;
        bytes += length + HEADERS;
    }
    socket.set_nonblocking(false).unwrap();
    (count, bytes)
}

/// A server that is asked behind others has dealt with what they sent, on each of its threads: the kernel
/// spreads ports over them, and keeps the order of each.
#[track_caller]
pub(crate) fn ask_behind(port: u16) {
    for host in 1..=40 {
        let socket = datagrams(v4(250, host), 0);
        socket.connect((FAR, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
        let end = Instant::now() + DEADLINE;
        let is_answered = || socket.send(&[host]).is_ok() && socket.recv(&mut [0; 9]).is_ok();
        // Behind so many others it may find no room.
        while !is_answered() {
            assert!(Instant::now() < end, "host {host} is not answered");
        }
    }
}

/// Sends datagrams in the name of others (RFC 791, section 3.1; RFC 8200, section 3; RFC 768).
pub(crate) struct Forger {
    v4: Socket,
    v6: Socket,
}

impl Forger {
    pub(crate) fn new() -> Self {
        const RAW: i32 = 255;
        let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(RAW))).unwrap();
        let v6 = raw(Domain::IPV6);
        v6.set_header_included_v6(true).unwrap();
        let v4 = raw(Domain::IPV4);
        v4.set_broadcast(true).unwrap();
        Self { v4, v6 }
    }

    /// A datagram that says it is from there; both ends of one family.
    pub(crate) fn send(&self, from: (IpAddr, u16), to: (IpAddr, u16), data: &[u8]) {
        match (from.0, to.0) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let udp = udp(from.1, to.1, data);
                let bytes = u16::try_from(20 + udp.len()).unwrap();
                let mut packet = vec![0x45, 0];
                packet.extend(bytes.to_be_bytes());
                // The kernel fills in the checksum of the header; that of UDP may be 0 for none.
                packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
                packet.extend(source.octets());
                packet.extend(target.octets());
                packet.extend(udp);
                self.v4.send_to(&packet, &SocketAddr::from((target, 0)).into()).unwrap();
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let mut udp = udp(from.1, to.1, data);
                let ends = [source.octets(), target.octets()].concat();
                let sum = checksum(&[&ends, &[0, 0, 0, 17][..], &udp].concat(), udp.len());
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend(u16::try_from(udp.len()).unwrap().to_be_bytes());
                packet.extend([17, 64]);
                packet.extend(ends);
                packet.extend(udp);
                self.v6.send_to(&packet, &SocketAddr::from((target, 0)).into()).unwrap();
            }
            _ => panic!("two families"),
        }
    }
}

fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(8 + data.len()).unwrap();
    let header = [from, to, bytes, 0].map(u16::to_be_bytes).concat();
    [&header, data].concat()
}

/// RFC 1071, over the pseudo-header of RFC 8200, section 8.1, which has the length too.
fn checksum(bytes: &[u8], length: usize) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum = bytes.chunks(2).map(word).sum::<u32>() + u32::try_from(length).unwrap();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !u16::try_from(sum).unwrap() {
        0 => 0xffff,
        sum => sum,
    }
}

/// The memory of a process that is its own, in kB.
pub(crate) fn memory(server: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A short time for a peer that is not expected to say anything.
pub(crate) const SHORT: Duration = Duration::from_millis(250);
