//! Addresses: any text is an address that reads back the same, or an error that a terminal can show.

use adit_proto::address::{
    Address, AddressError, Exec, Role, parse_duration, parse_rate, parse_size,
};
use adit_proto::endpoint::Transport;
use adit_proto::escape::is_unsafe;

pub(crate) fn address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = text.parse::<Address>();
    for transport in TRANSPORTS {
        let typed = Address::parse(&text, transport);
        if let Ok(address) = &parsed {
            // What names its scheme means the same everywhere.
            assert_eq!(typed.as_ref(), Ok(address));
        }
        match typed {
            Ok(address) => read(&address),
            Err(error) => said(&error),
        }
    }
    match text.parse::<Exec>() {
        Ok(exec) => {
            assert!(Exec::is_meant(&text) && parsed.is_err(), "a program is no address");
            assert_eq!(exec.to_string().parse::<Exec>().as_ref(), Ok(&exec));
            assert!(!exec.spoken().chars().any(is_unsafe) && exec.spoken().len() < 1_000);
        }
        Err(error) => said(&error),
    }
    let words: Vec<&str> = text.split(' ').collect();
    match Address::parse_words(&words, Transport::Tcp) {
        Ok((address, used)) => {
            assert!((1..=2).contains(&used) && used <= words.len());
            read(&address);
        }
        Err(error) => said(&error),
    }
}

const TRANSPORTS: [Transport; 4] =
    [Transport::Tcp, Transport::Udp, Transport::Unix, Transport::UnixDatagram];

fn read(address: &Address) {
    let written = address.to_string();
    assert_eq!(written.parse::<Address>().as_ref(), Ok(address), "{written:?}");
    assert!(!address.spoken().chars().any(is_unsafe));
    if let Err(error) = address.check(Role::Connect) {
        said(&error);
    }
    // Not every option fits every address: that is said, in words too.
    if let Err(error) = address.keys.options() {
        said(&error);
    }
}

fn said(error: &AddressError) {
    shown(&error.to_string(), &error.hint().unwrap_or_default());
}

/// One line that acts on no terminal, and is no longer for a longer address.
fn shown(error: &str, hint: &str) {
    for text in [error, hint] {
        assert!(!text.chars().any(is_unsafe), "{text:?}");
        assert!(text.chars().count() < 1_000, "{text}");
    }
}

pub(crate) fn units(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = parse_duration(&text) {
        shown(&error.to_string(), error.hint());
    }
    if let Err(error) = parse_rate(&text) {
        shown(&error.to_string(), error.hint());
    }
    match parse_size(&text) {
        Ok(bytes) => assert_eq!(parse_size(&bytes.to_string()), Ok(bytes)),
        Err(error) => shown(&error.to_string(), error.hint()),
    }
}
