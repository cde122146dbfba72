//! Tables: what the files of /proc/net say of sockets (proc(5)), a line each.
//!
//! The kernel writes them, but names in them are chosen by others, and no line is trusted to be whole.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

use std::io::{self, BufRead, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

/// Longest line read of a table; the kernel's have about 150 bytes. What is longer is cut.
pub(crate) const LINE_BYTES_MAX: u64 = 1024;

/// A socket with a port.
pub(crate) struct Row {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Numbered as in `include/net/tcp_states.h`.
    pub(crate) state: u8,
    pub(crate) uid: u32,
    pub(crate) inode: u64,
}

/// Reads a table line by line: on a busy host it is far too long to be held at once. Lines that are no text
/// are passed over.
pub(crate) fn read_lines(mut table: impl BufRead, each: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if table.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Ok(line) = std::str::from_utf8(&line) {
            each(line);
        }
    }
}

/// One line of /proc/net/{tcp,tcp6,udp,udp6}: number, local, remote, state, three more,
/// uid, one more, inode.
pub(crate) fn parse_row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    let local = parse_address(words.nth(1)?)?;
    let remote = parse_address(words.next()?)?;
    let state = u8::try_from(parse_hex(words.next()?, 2)?).ok()?;
    let uid = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Row { local, remote, state, uid, inode })
}

/// `0100007F:1F90`: words of four bytes in the machine's order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::try_from(parse_hex(port, 4)?).ok()?;
    let (words, rest) = ip.as_bytes().as_chunks::<8>();
    let word = |digits: &[u8; 8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        parse_hex(digits, 8).map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match (words, rest) {
        ([only], []) => Ipv4Addr::from(word(only)?).into(),
        ([a, b, c, d], []) => {
            let words = [word(a)?, word(b)?, word(c)?, word(d)?];
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(words.iter().flatten()).for_each(|(to, from)| *to = *from);
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A number of so many digits. The standard library would take a sign as well.
fn parse_hex(digits: &str, count: usize) -> Option<u32> {
    let is_plain = digits.len() == count && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}

/// One line of /proc/net/unix: number, references, protocol, flags, type, state, inode, name; the
/// name goes on to the end of the line.
pub(crate) fn parse_unix_row(line: &str) -> Option<(u64, &str)> {
    let mut rest = line.trim_end_matches('\n');
    let mut inode = "";
    for _ in 0..7 {
        (inode, rest) = rest.trim_start_matches(' ').split_once(' ')?;
    }
    Some((inode.parse().ok()?, rest)).filter(|(_, name)| !name.is_empty())
}

/// Two numbers, the first and the last of a range.
pub(crate) fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?.parse().ok()?;
    let last = words.next()?.parse().ok()?;
    Some(first..=last)
}

/// `socket:[4711]`: where a descriptor of a socket leads to (proc(5), `/proc/pid/fd`).
pub(crate) fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, parse_range, parse_row, parse_unix_row, read_lines};
    use proptest::prelude::*;

    #[test]
    fn the_row_of_a_listener_is_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0";
        let row = parse_row(line).unwrap();
        assert_eq!(row.local.to_string(), "127.0.0.1:8080");
        assert_eq!((row.state, row.uid, row.inode), (0x0a, 1000, 12345));
    }

    #[test]
    fn an_address_of_ipv6_is_read() {
        let line = "   1: 00000000000000000000000001000000:0050 0000000000000000FFFF00000100007F:C350 06 00000000:00000000 03:00001707 00000000     0        0 0 3 0000000000000000";
        let row = parse_row(line).unwrap();
        assert_eq!(row.local.to_string(), "[::1]:80");
        assert_eq!(row.remote.to_string(), "[::ffff:127.0.0.1]:50000");
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_hides_no_row() {
        let good = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1";
        let long = "x".repeat(10 * usize::try_from(LINE_BYTES_MAX).unwrap());
        let table = format!("heading\n{long}\n\u{fffd}\n{good}\n{good}");
        let mut ports = Vec::new();
        let mut each = |line: &str| ports.extend(parse_row(line).map(|row| row.local.port()));
        read_lines(table.as_bytes(), &mut each).unwrap();
        assert_eq!(ports, [8080, 8080]);
    }

    #[test]
    fn the_range_of_chosen_ports_is_known() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        for wrong in ["", "32768", "a b", "1 65536", "-1 5"] {
            assert_eq!(parse_range(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_row_of_a_unix_socket_is_read() {
        let heading = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        assert_eq!(parse_unix_row(heading), None);
        let row = "0000000000000000: 00000002 00000000 00010000 0001 01  1234 /run/a b\n";
        assert_eq!(parse_unix_row(row), Some((1234, "/run/a b")));
        let nameless = "0000000000000000: 00000002 00000000 00010000 0001 01 1234\n";
        assert_eq!(parse_unix_row(nameless), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "\\PC*", hex in "[0-9A-F:\\s]*") {
            for line in [line, hex] {
                drop(parse_row(&line).map(|row| row.local.to_string()));
                let _range = parse_range(&line);
            }
        }

        #[test]
        fn no_table_makes_the_reader_fail(table in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let read = read_lines(&*table, &mut |line| {
                let _rows = (parse_row(line).is_some(), parse_unix_row(line));
            });
            prop_assert!(read.is_ok());
        }

        #[test]
        fn a_damaged_row_is_read_or_passed_over(at in 0_usize..100, byte in any::<u8>()) {
            let mut line = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0".to_vec();
            let at = at % line.len();
            line[at] = byte;
            let mut each = |line: &str| drop(parse_row(line).map(|row| row.local.to_string()));
            let read = read_lines(&*line, &mut each);
            prop_assert!(read.is_ok());
        }
    }
}
