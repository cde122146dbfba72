//! A network of the test's own, where ports are free and addresses can be forged.

use std::net::SocketAddrV4;
use std::process::Command;

use socket2::{Domain, Protocol, Socket, Type};

use crate::common::{find, run, skipped};

/// True in a network of its own, which has loopback and 192.0.2.0/24, all of it on this host. Outside the
/// test of this name runs itself again there, or says why it does not.
pub(crate) fn is_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if find("unshare").is_none() || find("ip").is_none() {
        return false;
    }
    if run(Command::new("unshare").args(["-Urn", "true"]), b"").status != 0 {
        skipped(&format!("{test}: no user namespaces here"));
        return false;
    }
    let mut command = Command::new("unshare");
    let script = "ip link set lo up && ip address add 192.0.2.1/24 dev lo && exec \"$0\" --exact \"$1\" --nocapture";
    command.args(["-Urn", "sh", "-c", script]);
    command.arg(std::env::current_exe().unwrap()).arg(test).env(INSIDE, "1");
    let ran = run(&mut command, b"");
    assert!(ran.status == 0 && ran.text().contains("1 passed"), "{}{}", ran.text(), ran.err);
    println!("{}", ran.text());
    false
}

const INSIDE: &str = "ADIT_TEST_INSIDE";

/// Sends a datagram in the name of somebody else (RFC 791, section 3.1; RFC 768).
pub(crate) fn forge(from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) {
    const RAW: i32 = 255;
    let udp_bytes = u16::try_from(8 + data.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_bytes).to_be_bytes());
    // The kernel fills in the checksum of the header; that of UDP may be 0 for none.
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    for field in [from.port(), to.port(), udp_bytes, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(data);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))).unwrap();
    socket.send_to(&packet, &to.into()).unwrap();
}
