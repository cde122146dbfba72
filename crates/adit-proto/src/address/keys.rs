//! Keys: the options behind an address, `,ttl=1,broadcast`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

use super::parse::{AddressError, encode};
use super::units::parse_size;

/// Options of an endpoint as they were written, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<(&'static str, String)>);

/// Every key there is, and whether it takes a value.
const KEYS: &[(&str, Value)] = &[
    ("sndbuf", Value::Needed),
    ("rcvbuf", Value::Needed),
    ("ttl", Value::Needed),
    ("tos", Value::Needed),
    ("v6only", Value::None),
    ("mode", Value::Needed),
    ("broadcast", Value::None),
    ("amplify", Value::Needed),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
}

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
    /// Adds one `key=value` or `key`.
    pub(super) fn push(&mut self, text: &str) -> Result<(), AddressError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let known = KEYS.iter().find(|(known, _)| *known == name);
        let Some((name, needs)) = known else {
            let near = super::parse::nearest(name, KEYS.iter().map(|(known, _)| *known));
            return Err(AddressError::Key { key: name.to_owned(), near });
        };
        if (*needs == Value::Needed) != value.is_some_and(|value| !value.is_empty()) {
            let text = text.to_owned();
            return Err(AddressError::Value { key: name, text, expected: expected(name) });
        }
        self.0.push((name, super::parse::decode(value.unwrap_or_default())));
        self.options().map(drop)
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
            let size = || parse_size(value).ok().and_then(|size| usize::try_from(size).ok());
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

fn expected(key: &str) -> &'static str {
    match key {
        "sndbuf" | "rcvbuf" => "a size such as 64kB",
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
