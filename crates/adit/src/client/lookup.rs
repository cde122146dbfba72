//! From an address to the places to try, and what a failed try means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use adit_net::connect::{SelfConnect, Source};
use adit_net::owner::{self, Protocol};
use adit_net::unix::UnixName;
use adit_proto::address::Place;
use adit_proto::race::interleave;

use super::dial::{Dial, Family};
use crate::endpoint::Transport;
use crate::{Address, Blame, Code, Error, Result};

/// The addresses to try, in order.
pub(super) async fn lookup(address: &Address, dial: &Dial) -> Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = match &address.place {
        Place::Ip(ip) => vec![*ip],
        // A server that listens everywhere or on loopback is reached on loopback.
        Place::Loopback(port) | Place::Any(port) => {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            both.map(|ip| SocketAddr::new(ip, *port)).to_vec()
        }
        Place::Name(name, port) if dial.numeric_only && address.place.is_looked_up() => {
            let what = format!("\"{name}:{port}\" is a name, and names are not looked up");
            let hint = "write the IP address, or allow look-ups";
            return Err(Error::new(Code::Name, Blame::Caller, what).with_hint(hint));
        }
        Place::Name(name, port) => {
            let looked_up = tokio::net::lookup_host((name.as_str(), *port)).await;
            let addresses = looked_up.map_err(|error| not_found(name, &error))?;
            let found = interleave(&addresses.collect::<Vec<_>>());
            // An address with a zone stands where names do, and is one that is written.
            match dial.shuns_link && address.place.is_looked_up() {
                true => beyond_link(name, found)?,
                false => found,
            }
        }
        _ => Vec::new(),
    };
    let fits = |address: &SocketAddr| match dial.family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let source = |address: &SocketAddr| {
        dial.source.address.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
    };
    let fitting: Vec<_> = found.into_iter().filter(|at| fits(at) && source(at)).collect();
    if fitting.is_empty() {
        return Err(no_such_family(address, dial));
    }
    Ok(fitting)
}

/// Without addresses of this host's own link, where a cloud tells a host its secrets: whoever may say what
/// a name means would have strangers reach them. Who means one writes the address.
///
/// # Errors
/// There is no other.
fn beyond_link(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>> {
    let (near, far): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| is_of_link(at.ip()));
    match near.first() {
        Some(at) if far.is_empty() => {
            let what = format!("the name \"{name}\" leads to {}, on this host's own link", at.ip());
            let error = Error::new(Code::Unsafe, Blame::Caller, what);
            Err(error.with_hint("write the address if it is meant"))
        }
        _ => Ok(far),
    }
}

/// Link-local (RFC 3927; RFC 4291, section 2.5.6), and what two clouds use in its place.
fn is_of_link(ip: IpAddr) -> bool {
    const CLOUDS: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    ];
    let ip = ip.to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_link_local || CLOUDS.contains(&ip)
}

fn no_such_family(address: &Address, dial: &Dial) -> Error {
    let spoken = address.spoken();
    let (what, hint) = match (dial.family, dial.source.address) {
        (Family::V4, _) => (format!("{spoken} has no IPv4 address"), "allow IPv6"),
        (Family::V6, _) => (format!("{spoken} has no IPv6 address"), "allow IPv4"),
        (_, Some(source)) => {
            let what = format!("{spoken} has no address of the family of {source}, our own");
            (what, "choose an own address of its family")
        }
        _ => (format!("{spoken} has no address"), "write an IP address"),
    };
    Error::new(Code::Name, Blame::Caller, what).with_hint(hint)
}

fn not_found(name: &str, error: &io::Error) -> Error {
    let what = format!("the name \"{name}\" is not found");
    // The standard library says first that a look-up is what has failed.
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    Error::new(Code::Name, Blame::Caller, what)
        .with_source(io::Error::new(error.kind(), why.to_owned()))
        .with_hint("check the spelling, or write the IP address")
}

/// What was tried.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// As it is named in messages: `tcp 127.0.0.1:80`.
    pub(super) spoken: &'a str,
    pub(super) transport: Transport,
    pub(super) address: Option<SocketAddr>,
    /// From where.
    pub(super) source: Source,
    /// The file of a Unix socket.
    pub(super) path: Option<&'a Path>,
    /// Is it worth a look at all sockets of the host?
    explains: bool,
    /// Local ports that wait to be free again, as far as that is known.
    waiting: Option<usize>,
}

impl<'a> Target<'a> {
    /// An address with a port.
    pub(super) fn ip(
        spoken: &'a str,
        transport: Transport,
        address: SocketAddr,
        source: Source,
    ) -> Self {
        let address = Some(address);
        Self { spoken, transport, address, source, path: None, explains: true, waiting: None }
    }

    /// With or without hints that take a look at all sockets of the host.
    pub(super) fn explained(self, explains: bool) -> Self {
        Self { explains, ..self }
    }

    /// With what is known of local ports that wait.
    pub(super) fn waiting(self, waiting: Option<usize>) -> Self {
        Self { waiting, ..self }
    }

    /// A Unix socket.
    pub(super) fn unix(spoken: &'a str, transport: Transport, name: &'a UnixName) -> Self {
        Self {
            spoken,
            transport,
            address: None,
            source: Source::default(),
            path: name.path(),
            explains: true,
            waiting: None,
        }
    }
}

/// Says why connecting failed, and what to do about it.
pub(super) fn cannot_connect(target: Target<'_>, error: &io::Error) -> Error {
    let Reason { code, why, hint } = reason(target, error);
    let local = matches!(
        code,
        Code::NoPorts | Code::NoDescriptors | Code::Denied | Code::InUse | Code::NoAddress
    );
    let blame = if local { Blame::Local } else { Blame::Peer };
    let failure = Error::new(code, blame, why).with_peer(target.spoken);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

struct Reason {
    code: Code,
    why: String,
    hint: Option<String>,
}

impl Reason {
    fn new(code: Code, why: String) -> Self {
        Self { code, why, hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

fn reason(target: Target<'_>, error: &io::Error) -> Reason {
    use io::ErrorKind as Kind;
    let Target { spoken, transport, address, source, path, explains, waiting } = target;
    let nearby = || nearby(transport, address.filter(|_| explains));
    let cannot = |why: &str| format!("cannot connect to {spoken}: {why}");
    if error.get_ref().is_some_and(|inner| inner.is::<SelfConnect>()) {
        let why = format!("nothing is listening on {spoken}: connected to itself");
        return Reason { hint: nearby(), ..Reason::new(Code::SelfConnect, why) };
    }
    match error.kind() {
        Kind::ConnectionRefused if path.is_some_and(is_no_socket) => {
            Reason::new(Code::Refused, cannot("the file is no socket"))
                .hint("a server makes its socket itself: look up its path")
        }
        Kind::ConnectionRefused => {
            // Over datagrams nobody was asked for a connection.
            let refused = if transport.is_datagram() { "refused" } else { "connection refused" };
            let why = format!("{refused}, nothing is listening on {spoken}");
            Reason { hint: nearby(), ..Reason::new(Code::Refused, why) }
        }
        Kind::NotFound | Kind::NotADirectory => Reason::new(Code::Refused, cannot("no such file")),
        Kind::AddrNotAvailable => match source.address.filter(|own| !is_ours(*own)) {
            Some(own) => Reason::new(Code::NoAddress, cannot(&format!("this host has no {own}")))
                .hint("choose an own address that this host has"),
            None => Reason::new(Code::NoPorts, no_ports(spoken, waiting))
                .hint("reuse connections, or let the peer close first"),
        },
        Kind::AddrInUse if source.port.is_some() => {
            let port = source.port.unwrap_or_default();
            Reason::new(Code::InUse, cannot(&format!("our port {port} is in use")))
                .hint("choose another own port, or none")
        }
        Kind::PermissionDenied => denied(target),
        Kind::TimedOut => Reason::new(Code::ConnectTimeout, format!("no answer from {spoken}")),
        Kind::InvalidInput if address.is_some_and(needs_zone) => {
            Reason::new(Code::Usage, cannot("a link-local address needs its interface"))
                .hint("write it as in [fe80::1%eth0]:80")
        }
        _ => match crate::code_of(error) {
            code @ Code::NoDescriptors => {
                Reason::new(code, "no file descriptor is left".to_owned())
            }
            Code::Internal if error.raw_os_error() == Some(EPROTOTYPE) => {
                let (kind, scheme) = match transport {
                    Transport::Unix => ("datagram", "unix-dgram"),
                    _ => ("stream", "unix"),
                };
                let place = spoken.split_once(' ').map_or(spoken, |(_, place)| place);
                Reason::new(Code::Refused, cannot(&format!("it is a {kind} socket")))
                    .hint(format!("write {scheme}:{place}"))
            }
            code => Reason::new(code, cannot(&error.to_string())),
        },
    }
}

fn denied(target: Target<'_>) -> Reason {
    let Target { spoken, transport, source, .. } = target;
    let reason = Reason::new(Code::Denied, format!("not permitted to connect to {spoken}"));
    match (transport, source.port) {
        (Transport::Unix | Transport::UnixDatagram, _) => {
            reason.hint("this user must be able to write to its file and to enter its folder")
        }
        (_, Some(1..1024)) => {
            reason.hint("own ports below 1024 need the right CAP_NET_BIND_SERVICE")
        }
        (Transport::Udp, _) => reason.hint("to a broadcast address: add ,broadcast"),
        _ => reason.hint("a rule of this host, as of a firewall, is against it"),
    }
}

/// "Protocol wrong type for socket" (errno(3); asm-generic/errno.h): the other kind of Unix socket.
const EPROTOTYPE: i32 = 91;

fn is_no_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| !file.file_type().is_socket())
}

/// Can a socket of this host have the address?
fn is_ours(own: IpAddr) -> bool {
    std::net::UdpSocket::bind((own, 0)).is_ok()
}

fn needs_zone(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V6(address) => address.ip().is_unicast_link_local() && address.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

/// Did connecting fail for want of a local port, or of an address that this host does not have?
pub(super) fn is_without_port(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

fn no_ports(peer: &str, waiting: Option<usize>) -> String {
    match waiting {
        None | Some(0) => format!("no free local port to {peer}"),
        Some(count) => format!("no free local port to {peer}; {count} in TIME_WAIT"),
    }
}

/// Who listens on the same port of this host under another address: a server on `[::1]` is not found
/// at 127.0.0.1.
fn nearby(transport: Transport, address: Option<SocketAddr>) -> Option<String> {
    let address = address.filter(|address| address.ip().is_loopback())?;
    let protocol = if transport == Transport::Udp { Protocol::Udp } else { Protocol::Tcp };
    let other = owner::of_port(protocol, address.port()).into_iter().next()?;
    let program = other.program.unwrap_or_default();
    let program = adit_proto::escape::escape_line(program.as_bytes(), 32);
    Some(format!("same port on this host: {transport} {} \"{program}\"", other.address))
}
