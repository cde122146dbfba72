//! The table of written addresses, wrong ones included.

use proptest::prelude::*;

use super::{Address, AddressError, Place, Role, TlsMode};
use crate::endpoint::Transport;
use crate::escape::is_unsafe;

fn read(words: &[&str]) -> String {
    match Address::parse_words(words, Transport::Tcp) {
        Ok((address, used)) => format!("{address} ({used})"),
        Err(error) => error.to_string(),
    }
}

/// One row per line of the table of addresses, right ones first.
const WRITTEN: &[(&[&str], &str)] = &[
    (&["8080"], "tcp://8080 (1)"),
    (&["0"], "tcp://0 (1)"),
    (&[":8080"], "tcp://:8080 (1)"),
    (&["*:8080"], "tcp://:8080 (1)"),
    (&["*", "8080"], "tcp://:8080 (2)"),
    (&[":0"], "tcp://:0 (1)"),
    (&[":http"], "tcp://:80 (1)"),
    (&["h:80"], "tcp://h:80 (1)"),
    (&["h", "80"], "tcp://h:80 (2)"),
    (&["h", "http"], "tcp://h:80 (2)"),
    (&["h", "HTTP"], "tcp://h:80 (2)"),
    (&["h:80", "90"], "tcp://h:80 (1)"),
    (&["[::1]:80"], "tcp://[::1]:80 (1)"),
    (&["::1", "80"], "tcp://[::1]:80 (2)"),
    (&["[::1]", "80"], "tcp://[::1]:80 (2)"),
    (&["fd::1", "80"], "tcp://[fd::1]:80 (2)"),
    (&["fe80::1%2", "80"], "tcp://[fe80::1%2]:80 (2)"),
    (&["[fe80::1%eth0.5]:80"], "tcp://[fe80::1%eth0.5]:80 (1)"),
    (&["127.0.0.1:80"], "tcp://127.0.0.1:80 (1)"),
    (&["udp://h:1"], "udp://h:1 (1)"),
    (&["udp:h:53"], "udp://h:53 (1)"),
    (&["tls://h:1"], "tls://h:1 (1)"),
    (&["TLS+tcp://h:1"], "tls://h:1 (1)"),
    (&["tls+unix:/run/a"], "tls+unix:/run/a (1)"),
    (&["tls://db:443,pin=sha256:9f"], "tls://db:443,pin=sha256:9f (1)"),
    (&[":443,tls=auto"], "tls://:443,tls=auto (1)"),
    (&["/run/a,tls"], "tls+unix:/run/a,tls (1)"),
    (&["UDP://h:53"], "udp://h:53 (1)"),
    (&["tcp:h:1"], "tcp://h:1 (1)"),
    (&["tcp:80"], "tcp://80 (1)"),
    (&["udp://5353"], "udp://5353 (1)"),
    (&["udp://h", "53"], "udp://h:53 (2)"),
    (&["tcp://echo:7"], "tcp://echo:7 (1)"),
    (&["http:80"], "tcp://http:80 (1)"),
    (&["proxy:3128"], "tcp://proxy:3128 (1)"),
    (&["a_b.example.:80"], "tcp://a_b.example.:80 (1)"),
    (&["bücher.example:80"], "tcp://bücher.example:80 (1)"),
    (&["/run/a.sock"], "unix:/run/a.sock (1)"),
    (&["./a.sock"], "unix:./a.sock (1)"),
    (&["../a.sock"], "unix:../a.sock (1)"),
    (&["@a"], "unix:@a (1)"),
    (&["unix:///run/a"], "unix:/run/a (1)"),
    (&["unix-dgram:./a"], "unix-dgram:./a (1)"),
    (&["/a%2Cb"], "unix:/a%2Cb (1)"),
    (&["/a%2cb%zz"], "unix:/a%2Cb%25zz (1)"),
    (&["/a,mode=660"], "unix:/a,mode=660 (1)"),
    (&["udp://h:1,ttl=3,broadcast"], "udp://h:1,ttl=3,broadcast (1)"),
    (&["udp://h:1?ttl=3&broadcast"], "udp://h:1,ttl=3,broadcast (1)"),
    (&["h,ttl=3", "80,nodelay"], "tcp://h:80,ttl=3,nodelay (2)"),
];

const WRONG: &[(&[&str], &str)] = &[
    (&[], "the address is empty"),
    (&[""], "the address is empty"),
    (&["127.0.0.1:99999"], "port 99999 is out of range 0-65535 in \"127.0.0.1:99999\""),
    (&["h", "65536"], "port 65536 is out of range 0-65535 in \"h 65536\""),
    (&["h:-1"], "port -1 is out of range 0-65535 in \"h:-1\""),
    (&["h:+80"], "unknown service name \"+80\" in \"h:+80\""),
    (&["h:htpp"], "unknown service name \"htpp\" in \"h:htpp\"; did you mean http?"),
    (&["h", "20-30"], "\"20-30\" is more than one port, in \"h 20-30\""),
    (&["tpc://h:1"], "unknown scheme \"tpc\" in \"tpc://h:1\"; did you mean tcp?"),
    (&["sesion+tcp://h:1"], "unknown scheme \"sesion\" in \"sesion+tcp://h:1\""),
    (&["tcp+udp://h:1"], "unknown scheme \"tcp+udp\" in \"tcp+udp://h:1\""),
    (&["quic://h:1"], "\"quic\" is not part of this version, in \"quic://h:1\""),
    (&["session+tls://h:1"], "\"session\" is not part of this version, in \"session+tls://h:1\""),
    (&["h:1,sni=x"], "option sni has no meaning for tcp, in \"h:1,sni=x\""),
    (&["udp://h:1,tls"], "option tls has no meaning for udp, in \"udp://h:1,tls\""),
    (&["h:1,tls=always"], "\"tls=always\": tls takes verify, pin:sha256:HEX, insecure or auto"),
    (
        &["h:1,tls=insecure,pin=sha256:00"],
        "\"pin=sha256:00\": pin takes sha256: and the 64 hex digits of a certificate",
    ),
    (&["exec:./prog"], "\"exec:./prog\" is a program and no socket"),
    (
        &["session+tcp://far:1"],
        "\"session\" is not part of this version, in \"session+tcp://far:1\"",
    ),
    (&["https://h"], "\"https\" is not part of this version, in \"https://h\""),
    (&["-"], "\"-\" is not part of this version, in \"-\""),
    (&["h"], "the port is missing in \"h\""),
    (&["h:"], "the port is missing in \"h:\""),
    (&["h:", "80"], "the port is missing in \"h:\""),
    (&["[::1]"], "the port is missing in \"[::1]\""),
    (&["::1"], "the port is missing in \"::1\""),
    (&["udp://h"], "the port is missing in \"udp://h\""),
    (&["h,ttl=1"], "the port is missing in \"h,ttl=1\""),
    (&["h", "10.0.0.1:80"], "the port is missing in \"h\""),
    (&["h", "./f"], "the port is missing in \"h\""),
    (&[":"], "the port is missing in \":\""),
    (&["h:1:2"], "\"h:1:2\" is neither an IPv6 address nor HOST:PORT"),
    (&["[h]:80"], "\"[h]:80\" is neither an IPv6 address nor HOST:PORT"),
    (&["[]:80"], "\"[]:80\" is neither an IPv6 address nor HOST:PORT"),
    (&["[::1"], "\"[::1\" is neither an IPv6 address nor HOST:PORT"),
    (&["[::1]80"], "\"[::1]80\" is neither an IPv6 address nor HOST:PORT"),
    (&["[fe80::1%]:80"], "\"[fe80::1%]:80\" is neither an IPv6 address nor HOST:PORT"),
    (
        &["[fe80::1%\x1b[2J]:80"],
        "\"[fe80::1%\\x1b[2J]:80\" is neither an IPv6 address nor HOST:PORT",
    ),
    (&["h h:1"], "\"h h\" is neither a host name nor an IP address, in \"h h:1\""),
    (&["a..b:1"], "\"a..b\" is neither a host name nor an IP address, in \"a..b:1\""),
    (&["8080:80"], "\"8080\" is neither a host name nor an IP address, in \"8080:80\""),
    (&["127.1:80"], "\"127.1\" is neither a host name nor an IP address, in \"127.1:80\""),
    (
        &["10.0.0.256:80"],
        "\"10.0.0.256\" is neither a host name nor an IP address, in \"10.0.0.256:80\"",
    ),
    (
        &["0x7f.0.0.0x1:80"],
        "\"0x7f.0.0.0x1\" is neither a host name nor an IP address, in \"0x7f.0.0.0x1:80\"",
    ),
    (&["x\n\":1"], "\"x\\n\\\"\" is neither a host name nor an IP address, in \"x\\n\\\":1\""),
    (&["unix:"], "\"unix:\" is no name for a Unix socket"),
    (&["/a\0b"], "\"/a\\x00b\" is no name for a Unix socket"),
    (&["h:80,snii=x"], "unknown option \"snii\" in \"h:80,snii=x\"; did you mean sni?"),
    (&["h:80,snd=1"], "unknown option \"snd\" in \"h:80,snd=1\"; did you mean sni?"),
    (&["h:80,tll=1"], "unknown option \"tll\" in \"h:80,tll=1\"; did you mean tls?"),
    (&["h:80,"], "unknown option \"\" in \"h:80,\""),
    (&["h:80,keepalive"], "option keepalive is not part of this version, in \"h:80,keepalive\""),
    (&["h:80,ttl=0"], "\"ttl=0\": ttl takes a number from 1 to 255"),
    (&["h:80,ttl"], "\"ttl\": ttl takes a number from 1 to 255"),
    (&["h:80,v6only=1"], "\"v6only=1\": v6only takes no value"),
    (&["h:80,sndbuf=2GiB"], "\"sndbuf=2GiB\": sndbuf takes a size below 2GiB such as 64kB"),
    (&["/a,mode=888"], "\"mode=888\": mode takes octal permissions such as 600"),
    (&["h:80,ttl=1,ttl=2"], "option ttl is given twice in \"h:80,ttl=1,ttl=2\""),
    (&["h,ttl=1", "80,ttl=2"], "option ttl is given twice in \"h,ttl=1 80,ttl=2\""),
    (&["h:80,mode=600"], "option mode has no meaning for tcp, in \"h:80,mode=600\""),
    (&["/a,ttl=3"], "option ttl has no meaning for unix, in \"/a,ttl=3\""),
    (&["h:80,broadcast"], "option broadcast has no meaning for tcp, in \"h:80,broadcast\""),
];

#[test]
fn every_way_to_write_an_address_means_what_the_table_says() {
    for (words, expected) in WRITTEN.iter().chain(WRONG) {
        assert_eq!(read(words), *expected, "{words:?}");
    }
}

#[test]
fn a_path_without_scheme_is_a_unix_socket_of_the_kind_asked_for() {
    let read = |text, transport| Address::parse(text, transport).unwrap().to_string();
    assert_eq!(read("./a", Transport::Udp), "unix-dgram:./a");
    assert_eq!(read("@a", Transport::Tcp), "unix:@a");
    assert_eq!(read("a:1", Transport::Unix), "unix:a:1");
    assert_eq!(read("tcp://a:1", Transport::Udp), "tcp://a:1");
}

#[test]
fn unix_names_end_at_107_bytes() {
    let longest = format!("/{}", "a".repeat(106));
    assert!(Address::parse(&longest, Transport::Tcp).is_ok());
    let error = Address::parse(&format!("{longest}a"), Transport::Tcp).unwrap_err();
    assert!(error.to_string().starts_with("Unix socket paths end at 107 bytes"));
    // An abstract name stands behind a NUL and has no NUL at its end.
    assert!(Address::parse(&format!("@{}", "a".repeat(107)), Transport::Tcp).is_ok());
    assert!(Address::parse(&format!("@{}", "a".repeat(108)), Transport::Tcp).is_err());
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
    assert_eq!(error, "the scheme is missing in \"127.0.0.1:7\"");
    let error = "/run/a".parse::<Address>().unwrap_err().to_string();
    assert_eq!(error, "the scheme is missing in \"/run/a\"");
}

#[test]
fn messages_name_an_address_in_words() {
    for (text, expected) in [
        ("127.0.0.1:39991", "tcp 127.0.0.1:39991"),
        (":8080", "tcp [::]:8080"),
        ("8080", "tcp localhost:8080"),
        ("udp://h:53,ttl=1", "udp h:53"),
        ("[fe80::1%eth0]:1", "tcp [fe80::1%eth0]:1"),
        ("tls://h:53,sni=x", "tls h:53"),
        ("tls+unix:/run/a", "tls+unix /run/a"),
        ("/run/a.sock", "unix /run/a.sock"),
        ("@a\x1b", "unix @a\\x1b"),
    ] {
        assert_eq!(Address::parse(text, Transport::Tcp).unwrap().spoken(), expected);
    }
    let forged = Place::Name("h\u{202e}\n".to_owned(), 1);
    assert_eq!(Address::new(Transport::Tcp, forged).spoken(), "tcp h\\u{202e}\\n:1");
}

#[test]
fn options_are_read_as_values() {
    let text = "udp://h:1,sndbuf=64kB,rcvbuf=1MiB,ttl=255,tos=16,v6only,broadcast,amplify=3";
    let options = text.parse::<Address>().unwrap().keys.options().unwrap();
    assert_eq!((options.send_buffer, options.receive_buffer), (Some(64_000), Some(1 << 20)));
    assert_eq!((options.ttl, options.tos, options.amplify), (Some(255), Some(16), Some(3)));
    assert!(options.v6only);
    assert!(options.broadcast);
    assert_eq!(options.mode, None);
    let options = "unix:/a,mode=0660".parse::<Address>().unwrap().keys.options().unwrap();
    assert_eq!(options.mode, Some(0o660));
}

#[test]
fn options_of_tls_are_read_as_values() {
    let text = "tls://h:1,pin=sha256:9f,cert=c,key=k,client-ca=a,sni=x,alpn=h2+http/1.1";
    let options = text.parse::<Address>().unwrap().keys.tls().unwrap();
    assert_eq!(options.mode, TlsMode::Pin("sha256:9f".to_owned()));
    assert_eq!((options.cert.as_deref(), options.key.as_deref()), (Some("c"), Some("k")));
    assert_eq!((options.client_ca.as_deref(), options.sni.as_deref()), (Some("a"), Some("x")));
    assert_eq!(options.alpn, ["h2", "http/1.1"]);
    let mode = |text: &str| text.parse::<Address>().unwrap().keys.tls().unwrap().mode;
    assert_eq!(mode("tls://h:1"), TlsMode::Verify);
    assert_eq!(mode("tcp://h:1,tls=insecure"), TlsMode::Insecure);
    assert_eq!(mode("tcp://h:1,tls=pin:sha256:9f"), TlsMode::Pin("sha256:9f".to_owned()));
    // What stands in the address counts more than what is filled in.
    let mut address: Address = "tls://h:1,sni=x".parse().unwrap();
    address.keys.fill("sni", "y").unwrap();
    address.keys.fill("ca", "a,b").unwrap();
    assert_eq!(address.to_string(), "tls://h:1,sni=x,ca=a%2Cb");
    assert!(address.keys.fill("tls", "always").is_err() && address.keys.fill("no", "").is_err());
}

#[test]
#[cfg_attr(miri, ignore = "seven megabytes take it minutes")]
fn an_endless_list_of_options_ends_at_the_first_repetition() {
    let text = format!("h:1{}", ",v6only".repeat(1_000_000));
    let error = Address::parse(&text, Transport::Tcp).unwrap_err();
    assert!(matches!(error, AddressError::KeyTwice { key: "v6only", .. }));
    assert!(error.to_string().len() < 300);
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<u16>().prop_map(Place::Loopback),
        any::<u16>().prop_map(Place::Any),
        any::<std::net::SocketAddrV4>().prop_map(|address| Place::Ip(address.into())),
        (any::<u128>(), any::<u16>())
            .prop_map(|(ip, port)| { Place::Ip((std::net::Ipv6Addr::from(ip), port).into()) }),
        ("[a-z][a-z0-9-]{0,8}(\\.[a-z_][a-z0-9-]{0,8}){0,3}", any::<u16>())
            .prop_map(|(name, port)| Place::Name(name, port)),
        (any::<u128>(), "[a-z][a-z0-9._-]{0,14}", any::<u16>()).prop_map(|(ip, zone, port)| {
            Place::Name(format!("{}%{zone}", std::net::Ipv6Addr::from(ip)), port)
        }),
        (any::<u128>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| {
            Place::Ip(std::net::SocketAddrV6::new(ip.into(), port, 0, scope).into())
        }),
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
    fn what_was_read_once_reads_back_with_its_options(
        host in "(h|\\*|\\[::1\\]|\\[fe80::1%e\\]|127\\.0\\.0\\.1|)",
        port in any::<u16>(), hops in 1..=255_u8, buffer in 1..9_u8,
    ) {
        let text = format!("udp://{host}:{port}?ttl={hops}&broadcast,sndbuf={buffer}KiB");
        let address: Address = text.parse().unwrap();
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }

    #[test]
    fn no_word_makes_the_reader_panic(
        first in any::<String>(), second in any::<String>(),
        odd in "(tcp|unix|udp|session|\\+|:|/|@|\\[|\\]|,|\\?|&|%|=|ttl|[.0-9a-f-]|\\PC){0,30}",
    ) {
        for words in [[&first, &second], [&odd, &second], [&first, &odd], [&odd, &odd]] {
            for transport in [Transport::Tcp, Transport::Udp, Transport::Unix] {
                match Address::parse_words(&words, transport) {
                    Ok((address, used)) => {
                        prop_assert!((1..=2).contains(&used));
                        prop_assert!(!address.spoken().chars().any(is_unsafe));
                        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
                    }
                    Err(error) => prop_assert!(!error.to_string().chars().any(is_unsafe)),
                }
            }
        }
        drop(odd.parse::<Address>());
    }
}
