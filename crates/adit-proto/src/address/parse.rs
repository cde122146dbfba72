//! Reading addresses; what is none becomes an [`AddressError`].

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

use super::error::AddressError;
use super::exec::is_scheme;
use super::keys::Keys;
use super::spelling::nearest;
use super::{Address, Place, UNIX_NAME_BYTES_MAX};
use crate::endpoint::Transport;

/// Longest host name in bytes (RFC 1035, section 2.3.4, as text).
const HOST_BYTES_MAX: usize = 253;

/// What a scheme says: how bytes travel, and whether TLS goes over it.
#[derive(Clone, Copy)]
struct Scheme {
    transport: Transport,
    tls: bool,
}

const SCHEMES: [(&str, Scheme); 7] = [
    ("tcp", plain(Transport::Tcp)),
    ("udp", plain(Transport::Udp)),
    ("unix", plain(Transport::Unix)),
    ("unix-dgram", plain(Transport::UnixDatagram)),
    ("tls", Scheme { transport: Transport::Tcp, tls: true }),
    ("tls+tcp", Scheme { transport: Transport::Tcp, tls: true }),
    ("tls+unix", Scheme { transport: Transport::Unix, tls: true }),
];

const fn plain(transport: Transport) -> Scheme {
    Scheme { transport, tls: false }
}

/// Schemes of the grammar that later versions serve.
const LATER: [&str; 11] =
    ["file", "unix-seq", "quic", "ws", "wss", "vsock", "dtls", "sctp", "farm", "http", "https"];

/// Schemes of sockets that are not made here: only who starts a server knows what they are.
const PASSED: [&str; 2] = ["fd", "systemd"];

/// Layers of the grammar that later versions serve; they stand before a `+`.
const LAYERS: [&str; 2] = ["proxy", "session"];

/// Later schemes that are more likely hosts when a single colon follows.
const ALSO_HOSTS: [&str; 2] = ["http", "https"];

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
    let (body, options) = split_options(text);
    let mut keys = Keys::default();
    if let Some(options) = options {
        keys.read(options, text)?;
    }
    let word = Word::read(body, text)?;
    let transport = word.transport(transport)?;
    let place = match transport {
        Transport::Unix | Transport::UnixDatagram => unix_place(word.rest, text)?,
        _ => word.ip_place()?,
    };
    finished(Address { transport, tls: word.is_tls(), place, keys }, text)
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
    let second = words.get(1).map_or("", AsRef::as_ref);
    let ((body, early), (port, late)) = (split_options(first), split_options(second));
    let text = format!("{first} {second}");
    let word = Word::read(body, &text)?;
    let is_host = Ipv6Zone::read(word.rest).is_some() || !word.rest.ends_with(':');
    if !is_host || !could_be_port(port) {
        return Err(missing);
    }
    let mut keys = Keys::default();
    for options in [early, late].into_iter().flatten() {
        keys.read(options, &text)?;
    }
    let place = host_and_port(word.rest, parse_port(port, &text)?, &text)?;
    let transport = word.scheme.map_or(transport, |scheme| scheme.transport);
    let address = Address { transport, tls: word.is_tls(), place, keys };
    Ok((finished(address, &text)?, 2))
}

/// Checks the options against the rest; `:443,tls=auto` is TLS without its scheme.
fn finished(mut address: Address, text: &str) -> Result<Address, AddressError> {
    address.tls |= address.keys.has("tls");
    address.keys.check(address.transport, address.tls, text)?;
    Ok(address)
}

/// Cuts off `,key=value` and `?key=value&key=value`.
pub(super) fn split_options(text: &str) -> (&str, Option<&str>) {
    match text.split_once([',', '?']) {
        Some((body, options)) => (body, Some(options)),
        None => (text, None),
    }
}

/// An address without its options, its scheme cut off.
struct Word<'a> {
    scheme: Option<Scheme>,
    rest: &'a str,
    /// The whole address, for messages.
    text: &'a str,
}

impl<'a> Word<'a> {
    /// Cuts off `tcp://` or `tcp:`.
    fn read(body: &'a str, text: &'a str) -> Result<Self, AddressError> {
        let plain = Self { scheme: None, rest: body, text };
        // `fd::1` is an IPv6 address, not something of the scheme fd.
        let (Some((scheme, after)), None) = (body.split_once(':'), Ipv6Zone::read(body)) else {
            return Ok(plain);
        };
        let slashes = after.strip_prefix("//");
        if let Some(known) = scheme_of(scheme) {
            return Ok(Self { scheme: Some(known), rest: slashes.unwrap_or(after), text });
        }
        if is_scheme(scheme) {
            return Err(AddressError::ProgramElsewhere { text: text.to_owned() });
        }
        // Without slashes it may be a host: `http:80`, `proxy:3128`.
        let is_other = slashes.is_some()
            || scheme.contains('+')
            || is_one_of(scheme, &PASSED)
            || is_one_of(scheme, &LATER) && !is_one_of(scheme, &ALSO_HOSTS);
        if is_other { Err(not_a_scheme(scheme, text)) } else { Ok(plain) }
    }

    /// What is written, else what the form of the place says, else `transport`.
    fn transport(&self, transport: Option<Transport>) -> Result<Transport, AddressError> {
        let is_path = ["/", "./", "../", "@"].iter().any(|start| self.rest.starts_with(start));
        match (self.scheme, transport) {
            (Some(written), _) => Ok(written.transport),
            (None, None) => {
                let scheme = if is_path { "unix:" } else { "tcp://" };
                let example = format!("{scheme}{}", self.text);
                Err(AddressError::SchemeMissing { text: self.text.to_owned(), example })
            }
            (None, Some(transport)) if !is_path => Ok(transport),
            (None, Some(transport)) if transport.is_datagram() => Ok(Transport::UnixDatagram),
            (None, Some(_)) => Ok(Transport::Unix),
        }
    }

    fn is_tls(&self) -> bool {
        self.scheme.is_some_and(|scheme| scheme.tls)
    }

    fn ip_place(&self) -> Result<Place, AddressError> {
        if self.rest == "-" {
            let (scheme, text) = (self.rest.to_owned(), self.text.to_owned());
            return Err(AddressError::NotYet { scheme, text });
        }
        if self.rest.starts_with('[') {
            let colons = || AddressError::Colons { text: self.text.to_owned() };
            let (inside, after) = self.rest.split_once(']').ok_or_else(colons)?;
            let host = self.rest.get(..inside.len().saturating_add(1)).ok_or_else(colons)?;
            return match after.strip_prefix(':') {
                None if !after.is_empty() => Err(colons()),
                None | Some("") => Err(self.port_missing(host)),
                Some(port) => host_and_port(host, parse_port(port, self.text)?, self.text),
            };
        }
        if self.rest.matches(':').count() > 1 {
            // A bare IPv6 address: its port must be the next word.
            return Err(match Ipv6Zone::read(self.rest) {
                Some(_) => self.port_missing(&format!("[{}]", self.rest)),
                None => AddressError::Colons { text: self.text.to_owned() },
            });
        }
        match self.rest.split_once(':') {
            Some((host, "")) => Err(self.port_missing(host)),
            Some((host, port)) => host_and_port(host, parse_port(port, self.text)?, self.text),
            // `20-30` could be a host, but is meant as ports, and so is `-1`.
            None if is_number(self.rest) || is_span(self.rest) => {
                Ok(Place::Loopback(parse_port(self.rest, self.text)?))
            }
            None => Err(self.port_missing(self.rest)),
        }
    }

    fn port_missing(&self, host: &str) -> AddressError {
        let scheme = match self.scheme {
            Some(Scheme { tls: true, .. }) => "tls://".to_owned(),
            Some(Scheme { transport, .. }) => format!("{transport}://"),
            None => String::new(),
        };
        let example = format!("{scheme}{host}:PORT");
        AddressError::PortMissing { text: self.text.to_owned(), example }
    }
}

fn scheme_of(scheme: &str) -> Option<Scheme> {
    // RFC 3986, section 3.1: schemes are compared without case.
    let found = SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
    found.map(|(_, scheme)| *scheme)
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Names the part of `session+tls` that is unknown, else the first that is not served yet.
fn not_a_scheme(scheme: &str, text: &str) -> AddressError {
    if is_one_of(scheme, &PASSED) {
        return AddressError::Passed { scheme: scheme.to_owned(), text: text.to_owned() };
    }
    let is_later = |part: &&str| is_one_of(part, &LATER) || is_one_of(part, &LAYERS);
    let is_known = |part: &&str| scheme_of(part).is_some() || is_later(part) || is_scheme(part);
    let text = text.to_owned();
    if let Some(unknown) = scheme.split('+').find(|part| !is_known(part)) {
        let near = nearest(unknown, SCHEMES.iter().map(|(name, _)| *name));
        return AddressError::Scheme { scheme: unknown.to_owned(), text, near };
    }
    match scheme.split('+').find(is_later) {
        Some(part) => AddressError::NotYet { scheme: part.to_owned(), text },
        None => AddressError::Scheme { scheme: scheme.to_owned(), text, near: None },
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

/// A host as it stands before its port: `h`, `*`, `127.0.0.1`, `[::1]`, and `::1` before a space.
fn host_and_port(host: &str, port: u16, text: &str) -> Result<Place, AddressError> {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(Ipv6Zone { ip, zone }) = Ipv6Zone::read(bracketed.unwrap_or(host)) {
        let scope = zone.map_or(Ok(0), str::parse);
        return Ok(match (scope, zone) {
            (Ok(scope), _) => Place::Ip(SocketAddrV6::new(ip, port, 0, scope).into()),
            // A zone by name is resolved together with the address.
            (Err(_), zone) => Place::Name(format!("{ip}%{}", zone.unwrap_or_default()), port),
        });
    }
    if bracketed.is_some() {
        return Err(AddressError::Colons { text: text.to_owned() });
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Place::Ip((ip, port).into()));
    }
    match host {
        "" | "*" => Ok(Place::Any(port)),
        _ if is_host_name(host) => Ok(Place::Name(host.to_owned(), port)),
        _ => Err(AddressError::Host { host: host.to_owned(), text: text.to_owned() }),
    }
}

/// `fe80::1%eth0` in its parts (RFC 4007, section 11).
struct Ipv6Zone<'a> {
    ip: Ipv6Addr,
    zone: Option<&'a str>,
}

impl<'a> Ipv6Zone<'a> {
    fn read(host: &'a str) -> Option<Self> {
        let (ip, zone) = match host.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone)),
            None => (host, None),
        };
        // Names of interfaces are what Linux takes, less what has a meaning in an address.
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"%[]/:,?&\"\\".contains(&byte);
        let is_zone = |zone: &str| (1..=15).contains(&zone.len()) && zone.bytes().all(fits);
        Some(Self { ip: ip.parse().ok()?, zone }).filter(|_| zone.is_none_or(is_zone))
    }
}

/// Letters, digits, hyphen, dot and underscore; international names as they are typed.
///
/// What ends in a number is meant to be an IPv4 address: resolvers read `127.1`, `010.0.0.1` and
/// `8080` as addresses nobody meant, and `10.0.0.256` is a typing error.
fn is_host_name(host: &str) -> bool {
    let fits = |char: char| char.is_alphanumeric() || matches!(char, '-' | '_');
    let is_label = |label: &str| !label.is_empty() && label.chars().all(fits);
    let bare = host.strip_suffix('.').unwrap_or(host);
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hex = hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    host.len() <= HOST_BYTES_MAX
        && !host.starts_with('-')
        && bare.split('.').all(is_label)
        && !is_number(last)
        && !is_hex
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `20-30`, and `-1`, which is no port either.
fn is_span(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(first, last)| (first.is_empty() || is_number(first)) && is_number(last))
}

/// May the word after a host be its port? Else it is the next address, and the port was forgotten.
fn could_be_port(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn parse_port(port: &str, text: &str) -> Result<u16, AddressError> {
    let (owned, text) = (port.to_owned(), text.to_owned());
    if is_number(port.strip_prefix('-').unwrap_or(port)) {
        return port.parse().map_err(|_beyond| AddressError::PortRange { port: owned, text });
    }
    if is_span(port) {
        return Err(AddressError::PortSpan { port: owned, text });
    }
    match SERVICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(port)) {
        Some((_, number)) => Ok(*number),
        None => {
            let near = nearest(port, SERVICES.iter().map(|(name, _)| *name));
            Err(AddressError::PortName { port: owned, text, near })
        }
    }
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
