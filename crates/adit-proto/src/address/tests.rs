//! The table of written addresses, wrong ones included.

use proptest::prelude::*;

use super::{Address, Place, Role};
use crate::endpoint::Transport;

fn read(words: &[&str]) -> String {
    match Address::parse_words(words, Transport::Tcp) {
        Ok((address, used)) => format!("{address} ({used})"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_way_to_write_an_address_means_what_the_table_says() {
    let table: &[(&[&str], &str)] = &[
        (&["8080"], "tcp://8080 (1)"),
        (&["0"], "tcp://0 (1)"),
        (&[":8080"], "tcp://:8080 (1)"),
        (&["*:8080"], "tcp://:8080 (1)"),
        (&[":http"], "tcp://:80 (1)"),
        (&["h:80"], "tcp://h:80 (1)"),
        (&["h", "80"], "tcp://h:80 (2)"),
        (&["h", "http"], "tcp://h:80 (2)"),
        (&["[::1]:80"], "tcp://[::1]:80 (1)"),
        (&["::1", "80"], "tcp://[::1]:80 (2)"),
        (&["[::1]", "80"], "tcp://[::1]:80 (2)"),
        (&["127.0.0.1:80"], "tcp://127.0.0.1:80 (1)"),
        (&["udp://h:53"], "udp://h:53 (1)"),
        (&["udp:h:53"], "udp://h:53 (1)"),
        (&["udp://h", "53"], "udp://h:53 (2)"),
        (&["tcp://echo:7"], "tcp://echo:7 (1)"),
        (&["/run/a.sock"], "unix:/run/a.sock (1)"),
        (&["./a.sock"], "unix:./a.sock (1)"),
        (&["@a"], "unix:@a (1)"),
        (&["unix-dgram:./a"], "unix-dgram:./a (1)"),
        (&["/a%2Cb"], "unix:/a%2Cb (1)"),
        (&["udp://h:1,ttl=3,broadcast"], "udp://h:1,ttl=3,broadcast (1)"),
        (&["udp://h:1?ttl=3&broadcast"], "udp://h:1,ttl=3,broadcast (1)"),
        (&["127.0.0.1:99999"], "port 99999 is out of range 0-65535 in \"127.0.0.1:99999\""),
        (&["h:-1"], "port -1 is out of range 0-65535 in \"h:-1\""),
        (&["tpc://h:1"], "unknown scheme \"tpc\" in \"tpc://h:1\"; did you mean tcp?"),
        (&["h:80,snd=1"], "unknown option \"snd\""),
        (&["h:80,tll=1"], "unknown option \"tll\"; did you mean ttl?"),
        (&["h:80,ttl=0"], "\"ttl=0\": ttl takes a number from 1 to 255"),
        (&["h:80,ttl"], "\"ttl\": ttl takes a number from 1 to 255"),
        (&["[::1]"], "the port is missing in \"[::1]\": write [::1]:PORT"),
        (&["h"], "the port is missing in \"h\": write h:PORT"),
        (&["h:1:2"], "\"h:1:2\" is neither an IPv6 address nor HOST:PORT"),
        (&["h:htpp"], "unknown service name \"htpp\" in \"h:htpp\"; did you mean http?"),
        (&["tls://h:1"], "tls: is not supported by this version, in \"tls://h:1\""),
        (&["h h:1"], "\"h h\" is no host name, in \"h h:1\""),
        (&[""], "the address is empty"),
        (&["unix:"], "\"unix:\" is no name for a Unix socket"),
    ];
    for (words, expected) in table {
        assert_eq!(read(words), *expected, "{words:?}");
    }
}

#[test]
fn unix_names_end_at_107_bytes() {
    let longest = format!("/{}", "a".repeat(106));
    assert!(Address::parse(&longest, Transport::Tcp).is_ok());
    let error = Address::parse(&format!("{longest}a"), Transport::Tcp).unwrap_err();
    assert!(error.to_string().starts_with("Unix socket paths end at 107 bytes"));
}

#[test]
fn port_0_is_only_to_listen() {
    let address = Address::parse("h:0", Transport::Tcp).unwrap();
    assert!(address.check(Role::Listen).is_ok());
    assert_eq!(
        address.check(Role::Connect).unwrap_err().to_string(),
        "port 0 is only to listen, in \"tcp://h:0\""
    );
}

#[test]
fn programs_name_the_scheme() {
    let error = "127.0.0.1:7".parse::<Address>().unwrap_err().to_string();
    assert_eq!(error, "the scheme is missing in \"127.0.0.1:7\": write tcp://127.0.0.1:7");
    let address: Address = "udp://127.0.0.1:7".parse().unwrap();
    assert_eq!(address.spoken(), "udp 127.0.0.1:7");
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<u16>().prop_map(Place::Loopback),
        any::<u16>().prop_map(Place::Any),
        any::<std::net::SocketAddrV4>().prop_map(|address| Place::Ip(address.into())),
        (any::<u128>(), any::<u16>())
            .prop_map(|(ip, port)| { Place::Ip((std::net::Ipv6Addr::from(ip), port).into()) }),
        ("[a-z][a-z0-9.-]{0,20}", any::<u16>()).prop_map(|(name, port)| Place::Name(name, port)),
    ]
}

proptest! {
    #[test]
    fn an_address_reads_back_as_it_is_written(place in place(), udp in any::<bool>()) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let address = Address::new(transport, place);
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }

    #[test]
    fn a_path_reads_back_as_it_is_written(name in "[ -~é]{1,60}", datagram in any::<bool>()) {
        let transport = if datagram { Transport::UnixDatagram } else { Transport::Unix };
        let address = Address::new(transport, Place::Path(format!("/{name}")));
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        let address = Address::new(transport, Place::Abstract(name));
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }

    #[test]
    fn no_word_makes_the_reader_panic(first in "\\PC{0,40}", second in "\\PC{0,20}", odd in "[tcpudunix:/@\\[\\],?&%=.0-9a-f-]{0,30}") {
        drop(Address::parse_words(&[&first, &second], Transport::Tcp));
        drop(Address::parse_words(&[&odd, &second], Transport::Udp));
        drop(odd.parse::<Address>());
    }
}
