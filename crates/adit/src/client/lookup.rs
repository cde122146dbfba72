//! From an address to the places to try, and what a failed try means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use adit_net::connect::SelfConnect;
use adit_net::owner::{self, Protocol};
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
        Place::Name(name, port) if dial.numeric_only => {
            let what = format!("\"{name}:{port}\" is a name, and names are not looked up");
            return Err(Error::new(Code::Name, Blame::Caller, what));
        }
        Place::Name(name, port) => {
            let looked_up = tokio::net::lookup_host((name.as_str(), *port)).await;
            let addresses = looked_up.map_err(|error| not_found(name, &error))?;
            interleave(&addresses.collect::<Vec<_>>())
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
        let what = format!("{} has no address of the family asked for", address.spoken());
        return Err(Error::new(Code::Name, Blame::Caller, what));
    }
    Ok(fitting)
}

fn not_found(name: &str, error: &io::Error) -> Error {
    let what = format!("the name \"{name}\" is not found");
    Error::new(Code::Name, Blame::Caller, what)
        .with_source(io::Error::new(error.kind(), error.to_string()))
        .with_hint("check the spelling, or write the IP address")
}

/// Says why connecting to `peer` failed.
pub(super) fn cannot_connect(
    peer: &str,
    transport: Transport,
    address: Option<SocketAddr>,
    error: &io::Error,
) -> Error {
    let (code, why) = if error.get_ref().is_some_and(|inner| inner.is::<SelfConnect>()) {
        (Code::SelfConnect, format!("nothing is listening on {peer}: connected to itself"))
    } else {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                (Code::Refused, format!("connection refused, nothing is listening on {peer}"))
            }
            io::ErrorKind::NotFound => (Code::Refused, format!("there is no {peer}")),
            io::ErrorKind::AddrNotAvailable => (Code::NoPorts, no_ports(peer, address)),
            io::ErrorKind::PermissionDenied => {
                (Code::Denied, format!("not permitted to connect to {peer}"))
            }
            io::ErrorKind::TimedOut => (Code::ConnectTimeout, format!("no answer from {peer}")),
            _ => match crate::code_of(error) {
                Code::Internal if is_out_of_descriptors(error) => {
                    (Code::NoDescriptors, "no file descriptor is left".to_owned())
                }
                code => (code, format!("cannot connect to {peer}: {error}")),
            },
        }
    };
    let local = matches!(code, Code::NoPorts | Code::NoDescriptors | Code::Denied);
    let blame = if local { Blame::Local } else { Blame::Peer };
    let failure = Error::new(code, blame, why).with_peer(peer);
    let hint = match code {
        Code::Refused | Code::SelfConnect => nearby(transport, address),
        Code::NoPorts => Some("reuse connections, or let the peer close first".to_owned()),
        _ => None,
    };
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    adit_net::accept::classify(error) == adit_net::accept::AcceptError::OutOfDescriptors
}

fn no_ports(peer: &str, address: Option<SocketAddr>) -> String {
    let waiting = address.map_or(0, owner::time_wait_to);
    match waiting {
        0 => format!("no free local port or address to {peer}"),
        count => format!("no free local port to {peer}; {count} in TIME_WAIT"),
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
