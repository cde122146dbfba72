//! What may be wrong with an address, and the words for it.

use super::UNIX_NAME_BYTES_MAX;
use super::keys::{is_for_tls, names};
use crate::endpoint::Transport;
use crate::escape::escape_line;

/// What is wrong with an address. Its text is one line that is safe for a terminal, whatever the
/// address holds; what to write instead is its [`hint`](Self::hint).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is nothing.
    #[error("the address is empty")]
    Empty,
    /// The scheme is none.
    #[error("unknown scheme {} in {}{}", quoted(.scheme), quoted(.text), did_you_mean(.near))]
    Scheme {
        /// What stands for the scheme.
        scheme: String,
        /// The address.
        text: String,
        /// A scheme that is spelled nearly so.
        near: Option<&'static str>,
    },
    /// The scheme is a word of the grammar that this version does not serve.
    #[error("{} is not part of this version, in {}", quoted(.scheme), quoted(.text))]
    NotYet {
        /// The scheme, the layer, or `-` for standard input and output.
        scheme: String,
        /// The address.
        text: String,
    },
    /// A program where a socket is meant.
    #[error("{} is a program and no socket", quoted(.text))]
    ProgramElsewhere {
        /// The address.
        text: String,
    },
    /// No program.
    #[error("the program is missing in {}", quoted(.text))]
    ProgramMissing {
        /// The address.
        text: String,
    },
    /// An option that means nothing to a program.
    #[error("option {} has no meaning for a program, in {}", quoted(.key), quoted(.text))]
    ProgramKey {
        /// The option.
        key: String,
        /// The address.
        text: String,
    },
    /// The address is of a socket that is there already, and not one to connect to or to bind.
    #[error("{} is for a socket that somebody passes, in {}", quoted(.scheme), quoted(.text))]
    Passed {
        /// The scheme.
        scheme: String,
        /// The address.
        text: String,
    },
    /// Programs have to name the scheme.
    #[error("the scheme is missing in {}", quoted(.text))]
    SchemeMissing {
        /// The address.
        text: String,
        /// It with a scheme.
        example: String,
    },
    /// No port.
    #[error("the port is missing in {}", quoted(.text))]
    PortMissing {
        /// The address.
        text: String,
        /// It with a port.
        example: String,
    },
    /// The port is a number beyond 65535.
    #[error("port {} is out of range 0-65535 in {}", short(.port), quoted(.text))]
    PortRange {
        /// What stands for the port.
        port: String,
        /// The address.
        text: String,
    },
    /// Two numbers where one port should stand.
    #[error("{} is more than one port, in {}", quoted(.port), quoted(.text))]
    PortSpan {
        /// What stands for the port.
        port: String,
        /// The address.
        text: String,
    },
    /// The port is neither a number nor a service name.
    #[error("unknown service name {} in {}{}", quoted(.port), quoted(.text), did_you_mean(.near))]
    PortName {
        /// What stands for the port.
        port: String,
        /// The address.
        text: String,
        /// A service that is spelled nearly so.
        near: Option<&'static str>,
    },
    /// Port 0 is for listening.
    #[error("port 0 is only to listen, in {}", quoted(.text))]
    PortZero {
        /// The address.
        text: String,
    },
    /// Colons or brackets that make no IPv6 address.
    #[error("{} is neither an IPv6 address nor HOST:PORT", quoted(.text))]
    Colons {
        /// The address.
        text: String,
    },
    /// A host that can be neither a name nor an IP address.
    #[error("{} is neither a host name nor an IP address, in {}", quoted(.host), quoted(.text))]
    Host {
        /// What stands for the host.
        host: String,
        /// The address.
        text: String,
    },
    /// A Unix socket name that is too long.
    #[error("Unix socket paths end at {} bytes, this one has {bytes}: {}", UNIX_NAME_BYTES_MAX, quoted(.text))]
    PathTooLong {
        /// Its length.
        bytes: usize,
        /// The address.
        text: String,
    },
    /// A Unix socket name that is empty or contains a NUL.
    #[error("{} is no name for a Unix socket", quoted(.text))]
    Path {
        /// The address.
        text: String,
    },
    /// An unknown option.
    #[error("unknown option {} in {}{}", quoted(.key), quoted(.text), did_you_mean(.near))]
    Key {
        /// The option.
        key: String,
        /// The address.
        text: String,
        /// An option that is spelled nearly so.
        near: Option<&'static str>,
    },
    /// The option is one of the grammar that this version does not serve.
    #[error("option {key} is not part of this version, in {}", quoted(.text))]
    KeyNotYet {
        /// The option.
        key: &'static str,
        /// The address.
        text: String,
    },
    /// The same option twice.
    #[error("option {key} is given twice in {}", quoted(.text))]
    KeyTwice {
        /// The option.
        key: &'static str,
        /// The address.
        text: String,
    },
    /// An option that means nothing to this transport.
    #[error("option {key} has no meaning for {transport}, in {}", quoted(.text))]
    KeyElsewhere {
        /// The option.
        key: &'static str,
        /// How bytes travel there.
        transport: Transport,
        /// The address.
        text: String,
    },
    /// An option with a value that does not fit.
    #[error("{}: {key} takes {expected}", quoted(.text))]
    Value {
        /// The option.
        key: &'static str,
        /// As it was written.
        text: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl AddressError {
    /// What to write instead, in words as safe as the text. Where the text itself asks "did you mean",
    /// or names the numbers that are allowed, there is nothing to add.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Empty => "write PORT, HOST:PORT or ./PATH",
            Self::NotYet { scheme, .. } if scheme == "-" => {
                "leave it out: a client carries standard input and output anyway"
            }
            Self::Scheme { near: None, .. } | Self::NotYet { .. } => {
                "there are tcp, tls, udp, unix and unix-dgram"
            }
            Self::ProgramElsewhere { .. } => {
                "a program behind connections: adit serve PORT -- CMD; as a target: adit forward PORT \
                 exec:./CMD"
            }
            Self::ProgramMissing { .. } => "write exec:./PROGRAM,arg=ARGUMENT",
            Self::ProgramKey { .. } => "there is arg, once for each argument",
            Self::Passed { .. } => {
                "a server takes it as fd:NUMBER or systemd:NAME, alone in its word"
            }
            Self::SchemeMissing { example, .. } | Self::PortMissing { example, .. } => {
                return Some(format!("write {}", short(example)));
            }
            Self::PortSpan { .. } => "write one address for each",
            Self::PortName { near: None, .. } => "write its number",
            Self::PortZero { .. } => "write the port that the server really listens on",
            Self::Colons { .. } => "write HOST:PORT, or [::1]:PORT for IPv6",
            Self::Host { .. } => "write a name, 192.0.2.7 or [2001:db8::7]",
            Self::PathTooLong { .. } => "use a shorter one, as ./NAME from within its folder",
            Self::Path { .. } => "write ./NAME, /PATH or @NAME",
            Self::Key { near: None, .. } | Self::KeyNotYet { .. } => {
                return Some(format!("there are {}", names().join(", ")));
            }
            Self::KeyTwice { .. } => "write it once",
            Self::KeyElsewhere { key, transport, .. }
                if is_for_tls(key) && !transport.is_datagram() =>
            {
                "it is for TLS: write tls:// in front"
            }
            Self::KeyElsewhere { .. } => "leave it out",
            Self::Scheme { .. }
            | Self::PortRange { .. }
            | Self::PortName { .. }
            | Self::Key { .. }
            | Self::Value { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Characters of an address that are shown in a message.
const SHOWN_CHARS_MAX: usize = 200;

fn short(text: &str) -> String {
    escape_line(text.as_bytes(), SHOWN_CHARS_MAX)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", short(text))
}

fn did_you_mean(near: &Option<&'static str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}
