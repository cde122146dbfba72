//! From the words of a command line to addresses, with the habits of other tools understood.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

use adit::address::{Exec, Place, Role};
use adit::endpoint::Transport;
use adit::escape::escape_line;
use adit::{Address, AddressError, Blame, Code, Dial, Error, Family, Result};

use crate::args::{Client, Net, Tls};
use crate::complaint::{quoted, usage};

/// What the flags say about the transport of addresses without a scheme.
pub(crate) fn transport(net: &Net) -> Transport {
    match (net.udp, net.unix) {
        (false, false) => Transport::Tcp,
        (true, false) => Transport::Udp,
        (false, true) => Transport::Unix,
        (true, true) => Transport::UnixDatagram,
    }
}

/// What to connect to, or to go on to.
pub(crate) enum Target {
    Socket(Address),
    Program(Exec),
}

impl Target {
    /// The socket; a program is none.
    pub(crate) fn socket(self) -> Result<Address> {
        match self {
            Self::Socket(address) => Ok(address),
            Self::Program(exec) => {
                Err(bad_address(&AddressError::ProgramElsewhere { text: exec.to_string() }))
            }
        }
    }
}

/// Exactly one target to connect to.
pub(crate) fn one(words: &[String], net: &Net) -> Result<Target> {
    let (address, used) = read_target(words, net)?;
    if let Some(more) = words.get(used) {
        let first = words[..used].join(" ");
        let what =
            format!("two addresses, {} and {}: connect takes one", quoted(&first), quoted(more));
        return Err(usage(what, &format!("adit connect {}", shown(&first))));
    }
    Ok(address)
}

/// Where to listen, and where to go on to.
pub(crate) fn pair(words: &[String], net: &Net, verb: &str) -> Result<(Vec<Address>, Target)> {
    let (listen, used) = read(words, net, Role::Listen)?;
    let rest = &words[used..];
    if rest.is_empty() {
        let what = format!("only one address, {}", quoted(&words.join(" ")));
        return Err(usage(what, &format!("adit {verb} {} TARGET", shown(&words.join(" ")))));
    }
    let (target, used) = read_target(rest, net)?;
    if let Some(more) = rest.get(used) {
        let what = format!("more than two addresses: {} is one too many", quoted(more));
        return Err(usage(what, "one target for each command"));
    }
    Ok((of_family(listen, net)?, target))
}

/// Is there exactly one address, and it is not of a socket that was passed?
pub(crate) fn is_one(words: &[String], net: &Net) -> bool {
    read_target(words, net).is_ok_and(|(_, used)| used == words.len())
}

/// Where to go on to, from sockets that were passed.
pub(crate) fn one_target(words: &[String], net: &Net, verb: &str) -> Result<Target> {
    if words.is_empty() {
        let what = "where to go on to is missing";
        return Err(usage(what, &format!("adit {verb} systemd:NAME HOST:PORT")));
    }
    let (target, used) = read_target(words, net)?;
    match words.get(used) {
        Some(more) => {
            let what = format!("a socket that was passed, and two addresses: {}", quoted(more));
            Err(usage(what, "one place to listen and one target for each command"))
        }
        None => Ok(target),
    }
}

/// One address after the other.
pub(crate) fn all(words: &[String], net: &Net, role: Role) -> Result<Vec<Address>> {
    let mut addresses = Vec::new();
    let mut rest = words;
    while !rest.is_empty() {
        let (address, used) = read(rest, net, role)?;
        match role {
            Role::Listen => addresses.extend(of_family(address, net)?),
            Role::Connect => addresses.push(address),
        }
        rest = &rest[used..];
    }
    Ok(addresses)
}

fn read_target(words: &[String], net: &Net) -> Result<(Target, usize)> {
    match words.first().filter(|word| Exec::is_meant(word)) {
        Some(word) => {
            let exec = word.parse().map_err(|error| bad_address(&error))?;
            Ok((Target::Program(exec), 1))
        }
        None => read(words, net, Role::Connect).map(|(at, used)| (Target::Socket(at), used)),
    }
}

fn read(words: &[String], net: &Net, role: Role) -> Result<(Address, usize)> {
    // With -U a bare word is a path, as netcats have it.
    if net.unix
        && let Some(path) = words.first()
        && !path.contains("://")
    {
        let scheme = if net.udp { "unix-dgram" } else { "unix" };
        let address = format!("{scheme}:{path}").parse().map_err(|error| bad_address(&error))?;
        return Ok((address, 1));
    }
    let read = Address::parse_words(words, transport(net));
    let (address, used) = read.map_err(|error| bad_address(&error))?;
    address.check(role).map_err(|error| match error {
        // As it was written.
        AddressError::PortZero { .. } => {
            bad_address(&AddressError::PortZero { text: words[..used].join(" ") })
        }
        error => bad_address(&error),
    })?;
    Ok((address, used))
}

fn bad_address(error: &AddressError) -> Error {
    usage(error.to_string(), &error.hint().unwrap_or_default())
}

/// What `-4`, `-6` and `-n` leave of an address to listen on.
fn of_family(address: Address, net: &Net) -> Result<Vec<Address>> {
    let place = |place: Place| {
        let mut there = Address::new(address.transport, place);
        there.keys = address.keys.clone();
        there.tls = address.tls;
        there
    };
    let fits = |ip: IpAddr| (!net.v4 || ip.is_ipv4()) && (!net.v6 || ip.is_ipv6());
    match &address.place {
        Place::Name(name, port) if net.numeric && address.place.is_looked_up() => {
            let what = format!("\"{}:{port}\" is a name, and -n looks up none", shown(name));
            let error = Error::new(Code::Name, Blame::Caller, what);
            Err(error.with_hint("write the IP address, or leave -n out"))
        }
        _ if !net.v4 && !net.v6 => Ok(vec![address]),
        Place::Loopback(port) => {
            let both = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            let ip = both.into_iter().find(|ip| fits(*ip));
            Ok(ip.map(|ip| place(Place::Ip((ip, *port).into()))).into_iter().collect())
        }
        Place::Any(port) if net.v4 => {
            Ok(vec![place(Place::Ip((Ipv4Addr::UNSPECIFIED, *port).into()))])
        }
        Place::Any(_) if address.keys.options().is_ok_and(|options| options.v6only) => {
            Ok(vec![address])
        }
        Place::Any(_) => {
            let alone = format!("{address},v6only").parse().map_err(|error| bad_address(&error))?;
            Ok(vec![alone])
        }
        Place::Ip(at) if !fits(at.ip()) => Err(other_family(&address, net)),
        Place::Name(name, port) => {
            let Ok(found) = (name.as_str(), *port).to_socket_addrs() else {
                // Listening says what is wrong with the name.
                return Ok(vec![address]);
            };
            let found: Vec<_> =
                found.filter(|at| fits(at.ip())).map(|at| place(Place::Ip(at))).collect();
            if found.is_empty() { Err(other_family(&address, net)) } else { Ok(found) }
        }
        _ => Ok(vec![address]),
    }
}

fn other_family(address: &Address, net: &Net) -> Error {
    let (family, flag) = if net.v4 { ("IPv4", "-4") } else { ("IPv6", "-6") };
    let what = format!("{} has no {family} address", address.spoken());
    Error::new(Code::Name, Blame::Caller, what).with_hint(format!("leave {flag} out"))
}

fn shown(text: &str) -> String {
    escape_line(text.as_bytes(), 200)
}

/// Adds the next step to an error of connecting: nobody is there yet.
pub(crate) fn advise(error: Error, address: &Address) -> Error {
    // What stands in the place of a Unix socket does not become one by waiting.
    let is_in_the_way = address.port().is_none() && error.hint().is_some();
    if error.code() != Code::Refused || is_in_the_way {
        return error;
    }
    // Without a scheme tcp is meant.
    let written = address.to_string();
    let written = shown(written.strip_prefix("tcp://").unwrap_or(&written));
    let wait = format!("wait for it: adit wait {written}");
    let hint = error.hint().map_or_else(|| wait.clone(), |hint| format!("{hint}; {wait}"));
    error.with_hint(hint)
}

/// How to connect, as the flags say.
pub(crate) fn dial(net: &Net, client: &Client, tls: &Tls) -> Dial {
    let mut dial = Dial::new();
    if let Some(limit) = tls.handshake_timeout {
        dial = dial.handshake(limit);
    }
    if let Some(timeout) = client.connect_timeout {
        dial = dial.timeout(timeout);
    }
    if let Some(source) = client.source {
        dial = dial.source(source);
    }
    if let Some(port) = client.source_port {
        dial = dial.source_port(port);
    }
    if net.numeric {
        dial = dial.numeric_only();
    }
    dial.family(match (net.v4, net.v6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    })
}
