//! Sockets: what a table of /proc/net says is what stands in it, and no line hides another.

use std::net::SocketAddr;
use std::path::Path;

use adit_net::fuzzing::{self, LINE_BYTES_MAX, Socket};

pub(crate) fn sockets(data: &[u8]) {
    let (sockets, names) = fuzzing::sockets(data);
    let text = String::from_utf8_lossy(data).to_ascii_uppercase();
    for socket in &sockets {
        for end in [written(socket.local), written(socket.remote)] {
            assert!(text.contains(&end), "{end} stands nowhere");
        }
        let again = row(socket);
        assert_eq!(fuzzing::sockets(again.as_bytes()).0, [*socket], "{again}");
    }
    for (inode, name) in &names {
        // Another line may look like the end of the name.
        let again =
            format!("0000000000000000: 00000002 00000000 00010000 0001 01 {inode:5} {name}\n");
        assert!(!name.is_empty() && !name.contains('\n'));
        if again.len() <= usize::try_from(LINE_BYTES_MAX).unwrap_or(0) {
            let read = fuzzing::sockets(again.as_bytes()).1;
            assert_eq!(read, [(*inode, name.clone())], "{again:?}");
        }
    }
    hides_nothing(data, &sockets);
    if let Ok(text) = std::str::from_utf8(data) {
        if let Some(range) = fuzzing::range(text) {
            let again = format!("{}\t{}\n", range.start(), range.end());
            assert_eq!(fuzzing::range(&again), Some(range));
        }
        if let Some(inode) = fuzzing::inode(Path::new(text)) {
            assert_eq!(fuzzing::inode(Path::new(&format!("socket:[{inode}]"))), Some(inode));
        }
    }
}

/// Whatever stands before it, a row on a line of its own is read.
fn hides_nothing(data: &[u8], sockets: &[Socket]) {
    let local = SocketAddr::from(([127, 0, 0, 1], 8080));
    let remote = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 65535));
    let last = Socket { local, remote, state: 10, uid: 1000, inode: u64::MAX };
    let table = [data, b"\n", row(&last).as_bytes()].concat();
    let (all, _) = fuzzing::sockets(&table);
    assert_eq!(all.split_last(), Some((&last, sockets)), "a row was hidden");
}

/// As the kernel writes it (`get_tcp4_sock` of `net/ipv4/tcp_ipv4.c`).
fn row(socket: &Socket) -> String {
    let Socket { local, remote, state, uid, inode } = socket;
    let (local, remote) = (written(*local), written(*remote));
    let rest = "00000000:00000000 00:00000000 00000000";
    format!("   0: {local} {remote} {state:02X} {rest} {uid:5}        0 {inode} 1 0\n")
}

/// Words of four bytes in the machine's order, then the port.
fn written(address: SocketAddr) -> String {
    let word = |word: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*word));
    let ip = match address {
        SocketAddr::V4(address) => word(&address.ip().octets()),
        SocketAddr::V6(address) => {
            let octets = address.ip().octets();
            octets.as_chunks().0.iter().map(word).collect()
        }
    };
    format!("{ip}:{:04X}", address.port())
}
