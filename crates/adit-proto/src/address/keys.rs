//! Keys: the options behind an address, `,ttl=1,broadcast`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
}

/// Every option there is. One that would do nothing is refused rather than ignored, so a transport
/// joins `applies` together with the code that obeys.
const KEYS: &[Key] = &[
    // Always on; who writes it is right.
    Key { name: "nodelay", value: Value::None, applies: &[Transport::Tcp] },
    Key { name: "sndbuf", value: Value::Needed, applies: IP },
    Key { name: "rcvbuf", value: Value::Needed, applies: IP },
    Key { name: "ttl", value: Value::Needed, applies: IP },
    Key { name: "tos", value: Value::Needed, applies: IP },
    Key { name: "v6only", value: Value::None, applies: IP },
    Key { name: "mode", value: Value::Needed, applies: UNIX },
    Key { name: "broadcast", value: Value::None, applies: &[Transport::Udp] },
    Key { name: "amplify", value: Value::Needed, applies: &[Transport::Udp] },
];

const IP: &[Transport] = &[Transport::Tcp, Transport::Udp];
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
    // TLS.
    "tls",
    "cert",
    "key",
    "ca",
    "client-ca",
    "sni",
    "alpn",
    "pin",
    // Targets of a relay, programs.
    "weight",
    "slow-start",
    "proxy-in",
    "proxy-from",
    "proxy-out",
    "via",
    "arg",
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

impl Keys {
    /// Adds `key=value,key` or `key=value&key`, which stand in the address `text`.
    ///
    /// An option is refused the second time, so a text of any length costs one pass.
    pub(super) fn read(&mut self, options: &str, text: &str) -> Result<(), AddressError> {
        for option in options.split([',', '&']) {
            self.push(option, text)?;
        }
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
        if (key.value == Value::Needed) != value.is_some_and(|value| !value.is_empty()) {
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
    pub(super) fn check(&self, transport: Transport, text: &str) -> Result<(), AddressError> {
        let is_elsewhere =
            |name: &str| find(name).is_some_and(|key| !key.applies.contains(&transport));
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
