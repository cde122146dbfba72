//! Headers of both versions: the examples of the specification, every fault, and random bytes.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::{HEADER_BYTES_MAX, Header, LineFault, ProxyError, Version, decode};

fn client(source: &str, target: &str) -> Header {
    Header::client(source.parse().unwrap(), target.parse().unwrap())
}

/// A header of version 2 in front of `rest`.
fn version2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn whole(input: &[u8]) -> Header {
    let (header, bytes) = decode(input).unwrap().unwrap();
    assert_eq!(bytes, input.len(), "{}", input.escape_ascii());
    header
}

#[test]
fn the_lines_of_section_2_1_are_read() {
    let example = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    assert_eq!(whole(example), client("192.168.0.1:56324", "192.168.0.11:443"));
    assert_eq!(
        whole(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
        client("255.255.255.255:65535", "255.255.255.255:65535"),
    );
    let most = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(
        whole(format!("PROXY TCP6 {most} {most} 65535 65535\r\n").as_bytes()),
        client(&format!("[{most}]:65535"), &format!("[{most}]:65535")),
    );
    assert_eq!(whole(b"PROXY UNKNOWN\r\n"), Header::Unknown);
    let longest = format!("PROXY UNKNOWN {most} {most} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    assert_eq!(whole(longest.as_bytes()), Header::Unknown);
    assert_eq!(whole(b"PROXY UNKNOWN \x00\xff what it wants \r\n"), Header::Unknown);
    assert_eq!(whole(b"PROXY TCP6 ::1 2001:DB8::2 0 1\r\n"), client("[::1]:0", "[2001:db8::2]:1"));
}

#[test]
fn a_mapped_address_in_a_header_is_the_address_it_maps() {
    let mapped = whole(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n");
    assert_eq!(mapped, client("192.0.2.1:1", "192.0.2.2:2"));
    let mut line = Vec::new();
    mapped.encode(Version::V1, &mut line);
    assert_eq!(line, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
}

#[test]
fn two_families_are_written_as_ipv6() {
    let mixed = client("192.0.2.1:1", "[::1]:2");
    let mut line = Vec::new();
    mixed.encode(Version::V1, &mut line);
    assert_eq!(line, b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n");
    assert_eq!(whole(&line), mixed);
}

#[test]
fn every_fault_of_a_line_has_its_name() {
    use LineFault::{Address, End, Port, Protocol, Words};
    for (line, fault) in [
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", End),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX", End),
        ("PROXY UNKNOWN \n\r\n", End),
        ("PROXY \r\n", Protocol),
        ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", Protocol),
        ("PROXY UNKNOWNX\r\n", Protocol),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Protocol),
        ("PROXY TCP4\r\n", Words),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Words),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Words),
        ("PROXY TCP4 1.1.1.1  2.2.2.2 1\r\n", Port),
        ("PROXY TCP4 ::1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP6 fe80::1%lo ::1 1 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 02\r\n", Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", Port),
    ] {
        assert_eq!(decode(line.as_bytes()), Err(ProxyError::Line(fault)), "{line:?}");
    }
    assert_eq!(decode(b"GET / HTTP/1.1\r\n"), Err(ProxyError::None));
    assert_eq!(decode(b"PROXX"), Err(ProxyError::None));
    assert_eq!(decode(b"G"), Err(ProxyError::None), "said at the first byte");
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(decode(&endless[..106]), Ok(None));
    assert_eq!(decode(&endless[..107]), Err(ProxyError::LongLine));
    let late = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
    assert_eq!(late.len(), 108);
    for cut in 107..=108 {
        assert_eq!(decode(&late[..cut]), Err(ProxyError::LongLine));
    }
    let other_end = [&late[..107], b"X"].concat();
    assert_eq!(decode(&other_end), Err(ProxyError::LongLine), "as it was without the X");
}

#[test]
fn headers_of_section_2_2_are_read() {
    let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x01, 0xbb];
    let named = client("192.0.2.1:4660", "192.0.2.2:443");
    assert_eq!(whole(&version2(0x21, 0x11, 12, &v4)), named);
    assert_eq!(whole(&version2(0x21, 0x12, 12, &v4)), named, "of a datagram");
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    assert_eq!(whole(&version2(0x21, 0x21, 36, &v6)), client("[::1]:3", "[::2]:4"));
    assert_eq!(whole(&version2(0x21, 0x31, 216, &[b'x'; 216])), Header::Unknown);
    assert_eq!(whole(&version2(0x21, 0x00, 0, &[])), Header::Unknown);
    assert_eq!(whole(&version2(0x20, 0x00, 0, &[])), Header::Local);
    assert_eq!(whole(&version2(0x20, 0xff, 5, b"12345")), Header::Local, "ignored if LOCAL");
}

#[test]
fn what_is_behind_the_addresses_is_passed_over() {
    // PP2_TYPE_NOOP and PP2_TYPE_UNIQUE_ID, sections 2.2.4 and 2.2.5.
    let mut rest = vec![10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2];
    rest.extend(b"\x04\x00\x02ab\x05\x00\x03xyz");
    let length = u16::try_from(rest.len()).unwrap();
    rest.extend(b"hello");
    let (header, bytes) = decode(&version2(0x21, 0x11, length, &rest)).unwrap().unwrap();
    assert_eq!(header, client("10.0.0.1:1", "10.0.0.2:2"));
    assert_eq!(bytes, 16 + usize::from(length));
}

#[test]
fn every_length_and_half_of_a_byte_is_checked() {
    for command in [0x00, 0x10, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        assert_eq!(decode(&version2(command, 0x11, 12, &[])), Err(ProxyError::Command(command)));
    }
    for family in [0x03, 0x13, 0x23, 0x33, 0x40, 0x41, 0xff] {
        assert_eq!(decode(&version2(0x21, family, 400, &[])), Err(ProxyError::Family(family)));
    }
    for (family, needs) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        let short = version2(0x21, family, needs - 1, &[0; 400]);
        assert_eq!(decode(&short), Err(ProxyError::Short(needs - 1)));
        let whole = version2(0x21, family, needs, &[0; 400]);
        assert_eq!(decode(&whole[..16 + usize::from(needs) - 1]), Ok(None));
        assert!(decode(&whole).unwrap().is_some());
    }
    let most = u16::try_from(HEADER_BYTES_MAX - 16).unwrap();
    assert_eq!(decode(&version2(0x20, 0, most, &[])), Ok(None));
    let error = decode(&version2(0x20, 0, most + 1, &[]));
    assert_eq!(error, Err(ProxyError::Long(most + 1)), "said before it has come");
}

fn any_header() -> impl Strategy<Value = Header> {
    let end = |address: IpAddr, port| SocketAddr::new(address, port);
    let any_end =
        || (any::<IpAddr>(), any::<u16>()).prop_map(move |(address, port)| end(address, port));
    let client = (any_end(), any_end()).prop_map(|(source, target)| Header::client(source, target));
    prop_oneof![1 => Just(Header::Unknown), 1 => Just(Header::Local), 9 => client]
}

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

proptest! {
    #[test]
    fn a_header_reads_back_as_it_was_written(
        header in any_header(),
        version in any_version(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        header.encode(version, &mut bytes);
        let length = bytes.len();
        prop_assert!(length <= 107);
        bytes.extend(rest);
        // A line has no word for a proxy that speaks for itself.
        let is_lost = (header, version) == (Header::Local, Version::V1);
        let read = if is_lost { Header::Unknown } else { header };
        prop_assert_eq!(decode(&bytes), Ok(Some((read, length))));
        // Every beginning is a beginning, and nothing else.
        for cut in 0..length {
            prop_assert_eq!(decode(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some((_, length))) = decode(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn no_bytes_behind_a_true_beginning_panic(
        is_text in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut input = if is_text { b"PROXY TCP".to_vec() } else { b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec() };
        input.extend(bytes);
        if let Ok(Some((_, length))) = decode(&input) {
            prop_assert!(length <= input.len());
        }
    }

    /// What is decided is not decided otherwise by what follows.
    #[test]
    fn an_answer_stands_whatever_follows(
        is_text in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..130),
    ) {
        let mut input = if is_text { b"PROXY UNKNOWN".to_vec() } else { b"\r\n\r\n\0\r\nQUIT\n\x20\0\0".to_vec() };
        input.extend(bytes);
        let mut answer = Ok(None);
        for cut in 0..=input.len() {
            let now = decode(&input[..cut]);
            if answer != Ok(None) {
                prop_assert_eq!(now, answer, "at {}", cut);
            }
            answer = now;
        }
    }
}
