//! Reading addresses, and saying what is wrong with those that are none.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::{Address, Keys, Place, UNIX_NAME_BYTES_MAX, ip};
use crate::endpoint::Transport;

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is nothing.
    #[error("the address is empty")]
    Empty,
    /// The scheme is none.
    #[error("unknown scheme \"{scheme}\" in \"{text}\"{}", did_you_mean(.near))]
    Scheme {
        /// What stands for the scheme.
        scheme: String,
        /// The address.
        text: String,
        /// A scheme that is spelled nearly so.
        near: Option<&'static str>,
    },
    /// The scheme is a word of the grammar that this version does not serve.
    #[error("{scheme}: is not supported by this version, in \"{text}\"")]
    NotYet {
        /// The scheme.
        scheme: String,
        /// The address.
        text: String,
    },
    /// Programs have to name the scheme.
    #[error("the scheme is missing in \"{text}\": write tcp://{text}")]
    SchemeMissing {
        /// The address.
        text: String,
    },
    /// No port.
    #[error("the port is missing in \"{text}\": write {text}:PORT")]
    PortMissing {
        /// The address.
        text: String,
    },
    /// The port is a number beyond 65535.
    #[error("port {port} is out of range 0-65535 in \"{text}\"")]
    PortRange {
        /// What stands for the port.
        port: String,
        /// The address.
        text: String,
    },
    /// The port is neither a number nor a service name.
    #[error("unknown service name \"{port}\" in \"{text}\"{}", did_you_mean(.near))]
    PortName {
        /// What stands for the port.
        port: String,
        /// The address.
        text: String,
        /// A service that is spelled nearly so.
        near: Option<&'static str>,
    },
    /// Port 0 is for listening.
    #[error("port 0 is only to listen, in \"{text}\"")]
    PortZero {
        /// The address.
        text: String,
    },
    /// Colons without brackets that make no IPv6 address.
    #[error("\"{text}\" is neither an IPv6 address nor HOST:PORT")]
    Colons {
        /// The address.
        text: String,
    },
    /// A host with characters no host has.
    #[error("\"{host}\" is no host name, in \"{text}\"")]
    Host {
        /// What stands for the host.
        host: String,
        /// The address.
        text: String,
    },
    /// A Unix socket name that is too long.
    #[error("Unix socket paths end at 107 bytes, this one has {bytes}: \"{text}\"")]
    PathTooLong {
        /// Its length.
        bytes: usize,
        /// The address.
        text: String,
    },
    /// A Unix socket name that is empty or contains a NUL.
    #[error("\"{text}\" is no name for a Unix socket")]
    Path {
        /// The address.
        text: String,
    },
    /// An unknown option.
    #[error("unknown option \"{key}\"{}", did_you_mean(.near))]
    Key {
        /// The option.
        key: String,
        /// An option that is spelled nearly so.
        near: Option<&'static str>,
    },
    /// An option with a value that does not fit.
    #[error("\"{text}\": {key} takes {expected}")]
    Value {
        /// The option.
        key: &'static str,
        /// As it was written.
        text: String,
        /// What it takes.
        expected: &'static str,
    },
}

fn did_you_mean(near: &Option<&'static str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

const SCHEMES: [(&str, Transport); 4] = [
    ("tcp", Transport::Tcp),
    ("udp", Transport::Udp),
    ("unix", Transport::Unix),
    ("unix-dgram", Transport::UnixDatagram),
];

/// Words of the grammar that later versions serve.
const LATER: [&str; 17] = [
    "tls", "proxy", "session", "exec", "file", "fd", "systemd", "unix-seq", "quic", "ws", "wss",
    "vsock", "dtls", "sctp", "farm", "http", "https",
];

/// Service names that mean a port everywhere (IANA); the system's table is not asked, so that an
/// address means the same on every host.
const SERVICES: [(&str, u16); 24] = [
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("chargen", 19),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("domain", 53),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("redis", 6379),
];

/// Reads one address in one word. Without `transport` the scheme is compulsory.
pub(super) fn address(text: &str, transport: Option<Transport>) -> Result<Address, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let (body, keys) = split_keys(text)?;
    let (scheme, rest) = split_scheme(body, text)?;
    let (transport, place) = match (scheme, transport) {
        (Some(transport), _) => (transport, place(rest, transport, text)?),
        (None, None) => {
            return Err(AddressError::SchemeMissing { text: text.to_owned() });
        }
        (None, Some(transport)) if is_path(rest) => {
            let transport =
                if transport.is_datagram() { Transport::UnixDatagram } else { Transport::Unix };
            (transport, unix_place(rest, text)?)
        }
        (None, Some(transport)) => (transport, place(rest, transport, text)?),
    };
    Ok(Address { transport, place, keys })
}

/// Reads the first address of several words.
pub(super) fn words(
    words: &[impl AsRef<str>],
    transport: Transport,
) -> Result<(Address, usize), AddressError> {
    let Some(first) = words.first().map(AsRef::as_ref) else {
        return Err(AddressError::Empty);
    };
    let missing = match address(first, Some(transport)) {
        Ok(address) => return Ok((address, 1)),
        Err(error @ AddressError::PortMissing { .. }) => error,
        Err(error) => return Err(error),
    };
    let Some(port) = words.get(1).map(AsRef::as_ref) else {
        return Err(missing);
    };
    let (body, keys) = split_keys(port)?;
    let joined = format!("{first} {port}");
    let (scheme, host) = split_scheme(first, &joined)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let place = host_and_port(host, parse_port(body, &joined)?, &joined)?;
    Ok((Address { transport: scheme.unwrap_or(transport), place, keys }, 2))
}

/// Cuts off `,key=value` and `?key=value&key=value`.
fn split_keys(text: &str) -> Result<(&str, Keys), AddressError> {
    let mut keys = Keys::default();
    let Some((body, options)) = text.split_once([',', '?']) else {
        return Ok((text, keys));
    };
    for key in options.split([',', '&']) {
        keys.push(key)?;
    }
    Ok((body, keys))
}

/// Cuts off `tcp://` or `tcp:`.
fn split_scheme<'a>(
    body: &'a str,
    text: &str,
) -> Result<(Option<Transport>, &'a str), AddressError> {
    let Some((scheme, rest)) = body.split_once(':') else {
        return Ok((None, body));
    };
    let has_slashes = rest.starts_with("//");
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    if let Some((_, transport)) = SCHEMES.iter().find(|(name, _)| *name == scheme) {
        return Ok((Some(*transport), rest));
    }
    let layers = scheme.split('+').next().unwrap_or(scheme);
    // `http:80` is a host called http; with slashes it is a scheme.
    if has_slashes || LATER.contains(&layers) && layers != "http" && layers != "https" {
        let (scheme, text) = (scheme.to_owned(), text.to_owned());
        if LATER.contains(&layers) {
            return Err(AddressError::NotYet { scheme, text });
        }
        let near = nearest(&scheme, SCHEMES.iter().map(|(name, _)| *name));
        return Err(AddressError::Scheme { scheme, text, near });
    }
    Ok((None, body))
}

fn is_path(text: &str) -> bool {
    ["/", "./", "../", "@"].iter().any(|start| text.starts_with(start))
}

fn place(rest: &str, transport: Transport, text: &str) -> Result<Place, AddressError> {
    match transport {
        Transport::Unix | Transport::UnixDatagram => unix_place(rest, text),
        _ => ip_place(rest, text),
    }
}

fn unix_place(rest: &str, text: &str) -> Result<Place, AddressError> {
    let name = decode(rest);
    let bytes = name.strip_prefix('@').unwrap_or(&name).len();
    if bytes > UNIX_NAME_BYTES_MAX {
        return Err(AddressError::PathTooLong { bytes, text: text.to_owned() });
    }
    if bytes == 0 || name.contains('\0') {
        return Err(AddressError::Path { text: text.to_owned() });
    }
    Ok(match name.strip_prefix('@') {
        Some(name) => Place::Abstract(name.to_owned()),
        None => Place::Path(name),
    })
}

fn ip_place(rest: &str, text: &str) -> Result<Place, AddressError> {
    let missing = || AddressError::PortMissing { text: text.to_owned() };
    if let Some(bracketed) = rest.strip_prefix('[') {
        let Some((host, port)) = bracketed.split_once(']') else {
            return Err(AddressError::Colons { text: text.to_owned() });
        };
        let port = port.strip_prefix(':').filter(|port| !port.is_empty()).ok_or_else(missing)?;
        return host_and_port(host, parse_port(port, text)?, text);
    }
    if rest.matches(':').count() > 1 {
        // A bare IPv6 address: its port must be the next word.
        return match split_zone(rest).0.parse::<Ipv6Addr>() {
            Ok(_) => Err(missing()),
            Err(_) => Err(AddressError::Colons { text: text.to_owned() }),
        };
    }
    match rest.split_once(':') {
        Some(("" | "*", port)) => Ok(Place::Any(parse_port(port, text)?)),
        Some((_, "")) => Err(missing()),
        Some((host, port)) => host_and_port(host, parse_port(port, text)?, text),
        None if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Place::Loopback(parse_port(rest, text)?))
        }
        None => Err(missing()),
    }
}

fn host_and_port(host: &str, port: u16, text: &str) -> Result<Place, AddressError> {
    let (bare, zone) = split_zone(host);
    match (ip(bare), zone) {
        (Some(IpAddr::V6(ip)), Some(zone)) => {
            // A zone by number; by name it is resolved together with the address.
            let Ok(scope) = zone.parse() else {
                return Ok(Place::Name(host.to_owned(), port));
            };
            Ok(Place::Ip(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))))
        }
        (Some(ip), None) => Ok(Place::Ip(SocketAddr::new(ip, port))),
        _ if host == "*" || host.is_empty() => Ok(Place::Any(port)),
        _ if is_host_name(host) => Ok(Place::Name(host.to_owned(), port)),
        _ => Err(AddressError::Host { host: host.to_owned(), text: text.to_owned() }),
    }
}

fn split_zone(host: &str) -> (&str, Option<&str>) {
    match host.split_once('%') {
        Some((host, zone)) => (host, Some(zone)),
        None => (host, None),
    }
}

/// Letters, digits, hyphen, dot and underscore; international names as they are typed.
fn is_host_name(host: &str) -> bool {
    let fits = |char: char| char.is_alphanumeric() || matches!(char, '-' | '.' | '_');
    host.len() <= 253 && !host.starts_with('-') && host.chars().all(fits)
}

fn parse_port(port: &str, text: &str) -> Result<u16, AddressError> {
    if let Ok(port) = port.parse() {
        return Ok(port);
    }
    let owned = || (port.to_owned(), text.to_owned());
    let digits = port.strip_prefix('-').unwrap_or(port);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let (port, text) = owned();
        return Err(AddressError::PortRange { port, text });
    }
    match SERVICES.iter().find(|(name, _)| *name == port) {
        Some((_, number)) => Ok(*number),
        None => {
            let near = nearest(port, SERVICES.iter().map(|(name, _)| *name));
            let (port, text) = owned();
            Err(AddressError::PortName { port, text, near })
        }
    }
}

/// The known word that is at most two typing errors away, if there is one nearest.
pub(super) fn nearest(
    word: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let most = if word.chars().count() <= 3 { 1 } else { 2 };
    known
        .map(|known| (typing_errors(word, known), known))
        .filter(|(errors, _)| *errors <= most)
        .min()
        .map(|(_, known)| known)
}

/// Letters added, left out, mistaken or swapped with their neighbour.
fn typing_errors(left: &str, right: &str) -> usize {
    if left.len() > 40 {
        return usize::MAX;
    }
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut last = None;
    for (index, left) in left.chars().enumerate() {
        let mut next = vec![index.saturating_add(1)];
        for (at, letter) in right.iter().enumerate() {
            let here = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX);
            let same = usize::from(*letter != left);
            let mut best = here(&row, at).saturating_add(same);
            best = best.min(here(&row, at.saturating_add(1)).saturating_add(1));
            best = best.min(here(&next, at).saturating_add(1));
            let previous = at.checked_sub(1);
            if last == Some(*letter) && previous.and_then(|at| right.get(at)) == Some(&left) {
                let swapped = previous.map_or(usize::MAX, |at| here(&before, at));
                best = best.min(swapped.saturating_add(1));
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(left);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// Writes what would end a name as `%2C`.
pub(super) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for char in name.chars() {
        match char {
            '%' => out.push_str("%25"),
            ',' => out.push_str("%2C"),
            '?' => out.push_str("%3F"),
            '&' => out.push_str("%26"),
            char => out.push(char),
        }
    }
    out
}

/// Reads what [`encode`] writes; any other `%` stands for itself.
pub(super) fn decode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let char = match after.get(..2).map(str::to_ascii_uppercase).as_deref() {
            Some("25") => '%',
            Some("2C") => ',',
            Some("3F") => '?',
            Some("26") => '&',
            _ => {
                out.push('%');
                rest = after;
                continue;
            }
        };
        out.push(char);
        rest = after.get(2..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}
