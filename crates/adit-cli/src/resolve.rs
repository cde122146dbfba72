//! From the words of a command line to addresses, with the habits of other tools understood.

use adit::address::Role;
use adit::endpoint::Transport;
use adit::{Address, Blame, Code, Dial, Error, Family, Result};

use crate::args::{Client, Net};

/// What the flags say about the transport of addresses without a scheme.
pub(crate) fn transport(net: &Net) -> Transport {
    match (net.udp, net.unix) {
        (false, false) => Transport::Tcp,
        (true, false) => Transport::Udp,
        (false, true) => Transport::Unix,
        (true, true) => Transport::UnixDatagram,
    }
}

/// Exactly one address.
pub(crate) fn one(words: &[String], net: &Net, role: Role) -> Result<Address> {
    let (address, used) = read(words, net, role)?;
    if let Some(more) = words.get(used) {
        let first = words[..used].join(" ");
        let what = match looks_like_a_range(more) {
            true => format!("port ranges are not supported: \"{more}\""),
            false => format!("two addresses, \"{first}\" and \"{more}\": connect takes one"),
        };
        let hint = format!("adit connect {first}");
        return Err(Error::new(Code::Usage, Blame::Caller, what).with_hint(hint));
    }
    Ok(address)
}

/// One address after the other.
pub(crate) fn all(words: &[String], net: &Net, role: Role) -> Result<Vec<Address>> {
    let mut addresses = Vec::new();
    let mut rest = words;
    while !rest.is_empty() {
        let (address, used) = read(rest, net, role)?;
        addresses.push(address);
        rest = &rest[used..];
    }
    Ok(addresses)
}

fn read(words: &[String], net: &Net, role: Role) -> Result<(Address, usize)> {
    // With -U a bare word is a path, as netcats have it.
    if net.unix
        && let Some(path) = words.first()
        && !path.contains("://")
    {
        let scheme = if net.udp { "unix-dgram" } else { "unix" };
        let address = format!("{scheme}:{path}").parse().map_err(usage)?;
        return Ok((address, 1));
    }
    let (address, used) = Address::parse_words(words, transport(net)).map_err(usage)?;
    address.check(role).map_err(usage)?;
    Ok((address, used))
}

fn looks_like_a_range(word: &str) -> bool {
    word.split_once('-').is_some_and(|(from, to)| {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number(from) && is_number(to)
    })
}

fn usage(error: adit::AddressError) -> Error {
    Error::new(Code::Usage, Blame::Caller, error.to_string())
}

/// How to connect, as the flags say.
pub(crate) fn dial(net: &Net, client: &Client) -> Dial {
    let mut dial = Dial::new();
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
