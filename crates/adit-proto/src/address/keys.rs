//! Keys: the options behind an address, `,ttl=1,broadcast`.

use std::fmt;

use super::error::AddressError;
use super::parse::{decode, encode};
use super::spelling::nearest;
use super::units::parse_size;
use crate::endpoint::Transport;

/// Options of an endpoint as they were written, in order; each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<(&'static str, String)>);

/// One option: its name, whether it takes a value, and the transports it does something for.
struct Key {
    name: &'static str,
    value: Value,
    applies: &'static [Transport],
    /// It is about TLS, and means nothing without.
    tls: bool,
}

impl Key {
    const fn new(name: &'static str, value: Value, applies: &'static [Transport]) -> Self {
        Self { name, value, applies, tls: false }
    }

    const fn tls(name: &'static str, value: Value) -> Self {
        Self { name, value, applies: STREAMS, tls: true }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
    Optional,
}

/// Every option there is. One that would do nothing is refused rather than ignored, so a transport
/// joins `applies` together with the code that obeys.
const KEYS: &[Key] = &[
    // Always on; who writes it is right.
    Key::new("nodelay", Value::None, &[Transport::Tcp]),
    Key::new("sndbuf", Value::Needed, IP),
    Key::new("rcvbuf", Value::Needed, IP),
    Key::new("ttl", Value::Needed, IP),
    Key::new("tos", Value::Needed, IP),
    Key::new("v6only", Value::None, IP),
    Key::new("mode", Value::Needed, UNIX),
    Key::new("broadcast", Value::None, &[Transport::Udp]),
    Key::new("amplify", Value::Needed, &[Transport::Udp]),
    // `tls` alone turns a plain address into one of TLS.
    Key::tls("tls", Value::Optional),
    Key::tls("pin", Value::Needed),
    Key::tls("ca", Value::Needed),
    Key::tls("cert", Value::Needed),
    Key::tls("key", Value::Needed),
    Key::tls("client-ca", Value::Needed),
    Key::tls("sni", Value::Needed),
    Key::tls("alpn", Value::Needed),
];

const IP: &[Transport] = &[Transport::Tcp, Transport::Udp];
const STREAMS: &[Transport] = &[Transport::Tcp, Transport::Unix];
const UNIX: &[Transport] = &[Transport::Unix, Transport::UnixDatagram];

/// Options of the grammar that later versions serve.
const LATER: &[&str] = &[
    // The socket.
    "keepalive",
    "user-timeout",
    "group",
    "mark",
    "join",
    "interface",
    // The conversation; today they are flags of the command line only.
    "connect-timeout",
    "handshake-timeout",
    "message-timeout",
    "first-message",
    "idle",
    "stall",
    "max-time",
    "end",
    "eof",
    "linger",
    "frame",
    "crlf",
    "retry",
    "backoff",
    // Targets of a relay.
    "weight",
    "slow-start",
    "proxy-in",
    "proxy-from",
    "proxy-out",
    "via",
];

/// The options as values, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send buffer in bytes.
    pub send_buffer: Option<usize>,
    /// Receive buffer in bytes.
    pub receive_buffer: Option<usize>,
    /// Hops a packet may make.
    pub ttl: Option<u32>,
    /// Type of service.
    pub tos: Option<u8>,
    /// An IPv6 wildcard leaves IPv4 alone.
    pub v6only: bool,
    /// Permissions of a Unix socket's file.
    pub mode: Option<u32>,
    /// Datagrams may be broadcast.
    pub broadcast: bool,
    /// Bytes answered per byte received over UDP off loopback.
    pub amplify: Option<u32>,
}

/// What TLS is asked for; texts are as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Whom a client trusts, or where a server's certificate comes from.
    pub mode: TlsMode,
    /// A file of authorities instead of the system's.
    pub ca: Option<String>,
    /// A file with a certificate to show, and those above it.
    pub cert: Option<String>,
    /// The file with its key; that of the certificate if none is named.
    pub key: Option<String>,
    /// A file of authorities that clients need a certificate from.
    pub client_ca: Option<String>,
    /// The name to ask for instead of the host.
    pub sni: Option<String>,
    /// Protocols to offer, the preferred first; `+` stands between them.
    pub alpn: Vec<String>,
}

/// How TLS trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsMode {
    /// A client checks the server's certificate; a server has one.
    #[default]
    Verify,
    /// A client trusts this certificate alone: `sha256:` and 64 hex digits.
    Pin(String),
    /// A client trusts anybody.
    Insecure,
    /// A server makes a certificate of its own.
    Auto,
}

impl Keys {
    /// Is this option there?
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// Adds an option unless it is there already, as a flag of the command line does it.
    ///
    /// # Errors
    /// There is no such option, or the value does not fit.
    pub fn fill(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        if self.has(name) {
            return Ok(());
        }
        let text =
            if value.is_empty() { name.to_owned() } else { format!("{name}={}", encode(value)) };
        self.push(&text, &text)?;
        self.tls()?;
        self.options().map(drop)
    }

    /// What TLS is asked for.
    ///
    /// # Errors
    /// A value does not fit its key, or two of them contradict each other.
    pub fn tls(&self) -> Result<TlsOptions, AddressError> {
        let mut options = TlsOptions::default();
        for (key, value) in &self.0 {
            let bad = || AddressError::Value {
                key,
                text: format!("{key}={value}"),
                expected: expected(key),
            };
            match *key {
                "tls" => {
                    let mode = match value.as_str() {
                        "" | "verify" => continue,
                        "insecure" => TlsMode::Insecure,
                        "auto" => TlsMode::Auto,
                        value => match value.strip_prefix("pin:") {
                            Some(pin) => TlsMode::Pin(pin.to_owned()),
                            None => return Err(bad()),
                        },
                    };
                    // A pin says already whom to trust.
                    if options.mode != TlsMode::Verify {
                        return Err(bad());
                    }
                    options.mode = mode;
                }
                "pin" if options.mode != TlsMode::Verify => return Err(bad()),
                "pin" => options.mode = TlsMode::Pin(value.clone()),
                "ca" => options.ca = Some(value.clone()),
                "cert" => options.cert = Some(value.clone()),
                "key" => options.key = Some(value.clone()),
                "client-ca" => options.client_ca = Some(value.clone()),
                "sni" => options.sni = Some(value.clone()),
                "alpn" => options.alpn = value.split('+').map(str::to_owned).collect(),
                _ => {}
            }
        }
        Ok(options)
    }

    /// Adds `key=value,key` or `key=value&key`, which stand in the address `text`.
    ///
    /// An option is refused the second time, so a text of any length costs one pass.
    pub(super) fn read(&mut self, options: &str, text: &str) -> Result<(), AddressError> {
        for option in options.split([',', '&']) {
            self.push(option, text)?;
        }
        self.tls()?;
        self.options().map(drop)
    }

    fn push(&mut self, option: &str, text: &str) -> Result<(), AddressError> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let Some(key) = find(name) else {
            return Err(unknown(name, text));
        };
        let is_there = value.is_some_and(|value| !value.is_empty());
        if key.value != Value::Optional && (key.value == Value::Needed) != is_there {
            let (text, expected) = (option.to_owned(), expected(key.name));
            return Err(AddressError::Value { key: key.name, text, expected });
        }
        if self.0.iter().any(|(name, _)| *name == key.name) {
            return Err(AddressError::KeyTwice { key: key.name, text: text.to_owned() });
        }
        self.0.push((key.name, decode(value.unwrap_or_default())));
        Ok(())
    }

    /// Does every option mean something there?
    pub(super) fn check(
        &self,
        transport: Transport,
        tls: bool,
        text: &str,
    ) -> Result<(), AddressError> {
        let is_elsewhere = |name: &str| {
            find(name).is_some_and(|key| !key.applies.contains(&transport) || key.tls && !tls)
        };
        match self.0.iter().find(|(name, _)| is_elsewhere(name)) {
            Some((key, _)) => {
                Err(AddressError::KeyElsewhere { key, transport, text: text.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// The options as values.
    ///
    /// # Errors
    /// A value does not fit its key.
    pub fn options(&self) -> Result<SocketOptions, AddressError> {
        let mut options = SocketOptions::default();
        for (key, value) in &self.0 {
            let bad = || AddressError::Value {
                key,
                text: format!("{key}={value}"),
                expected: expected(key),
            };
            // The kernel takes a C int.
            let size = || {
                let size = parse_size(value).ok().filter(|size| i32::try_from(*size).is_ok());
                size.and_then(|size| usize::try_from(size).ok())
            };
            match *key {
                "sndbuf" => options.send_buffer = Some(size().ok_or_else(bad)?),
                "rcvbuf" => options.receive_buffer = Some(size().ok_or_else(bad)?),
                "ttl" => {
                    let hops = value.parse().ok().filter(|hops| (1..=255).contains(hops));
                    options.ttl = Some(hops.ok_or_else(bad)?);
                }
                "tos" => options.tos = Some(value.parse().map_err(|_not_a_byte| bad())?),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                    options.mode = Some(mode.ok_or_else(bad)?);
                }
                "amplify" => options.amplify = Some(value.parse().map_err(|_not_a_count| bad())?),
                "v6only" => options.v6only = true,
                "broadcast" => options.broadcast = true,
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Every option by its name.
pub(super) fn names() -> Vec<&'static str> {
    KEYS.iter().map(|key| key.name).collect()
}

/// Is this option about TLS?
pub(super) fn is_for_tls(name: &str) -> bool {
    find(name).is_some_and(|key| key.tls)
}

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn unknown(name: &str, text: &str) -> AddressError {
    let text = text.to_owned();
    if let Some(key) = LATER.iter().find(|key| **key == name) {
        return AddressError::KeyNotYet { key, text };
    }
    // What works is meant sooner than what does not yet.
    let near = nearest(name, KEYS.iter().map(|key| key.name));
    let near = near.or_else(|| nearest(name, LATER.iter().copied()));
    AddressError::Key { key: name.to_owned(), text, near }
}

fn expected(key: &str) -> &'static str {
    match key {
        "sndbuf" | "rcvbuf" => "a size below 2GiB such as 64kB",
        "ttl" => "a number from 1 to 255",
        "tos" => "a number from 0 to 255",
        "mode" => "octal permissions such as 600",
        "amplify" => "a whole number",
        "tls" => "verify, pin:sha256:HEX, insecure or auto",
        "pin" => "sha256: and the 64 hex digits of a certificate",
        "ca" | "cert" | "key" | "client-ca" => "the name of a file",
        "sni" => "a name",
        "alpn" => "names of protocols with + between them",
        _ => "no value",
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.0 {
            if value.is_empty() {
                write!(f, ",{key}")?;
            } else {
                write!(f, ",{key}={}", encode(value))?;
            }
        }
        Ok(())
    }
}
