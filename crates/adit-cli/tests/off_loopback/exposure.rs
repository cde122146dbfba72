//! What the first line says of who can reach a server, against who can.

use std::io::Read;
use std::net::{SocketAddr, SocketAddrV6};

use socket2::{Domain, Socket, Type};

use crate::common::{DEADLINE, adit, run};
use crate::field::{FAR, FAR_V6, Field, SHORT, cable};

/// Is the server at this port reached by each address of its host? Whoever is not expected to answer is
/// not waited for.
fn reached(place: &str, is_udp: bool, expected: [bool; 3]) -> [bool; 3] {
    let port = place.rsplit(':').next().unwrap().split(',').next().unwrap().parse().unwrap();
    let link = SocketAddrV6::new("fe80::2".parse().unwrap(), port, 0, cable());
    let hosts = [(FAR, port).into(), (FAR_V6, port).into(), SocketAddr::from(link)];
    std::array::from_fn(|index| {
        let (kind, wait) = (if is_udp { Type::DGRAM } else { Type::STREAM }, expected[index]);
        let socket = Socket::new(Domain::for_address(hosts[index]), kind, None).unwrap();
        socket.set_read_timeout(Some(if wait { DEADLINE } else { SHORT })).unwrap();
        let asked = socket
            .connect_timeout(&hosts[index].into(), DEADLINE)
            .and_then(|()| socket.send(b"x\n"))
            .and_then(|_| (&socket).read(&mut [0; 9]));
        asked.is_ok_and(|bytes| bytes == 2)
    })
}

#[test]
fn a_server_is_reached_from_where_its_first_line_says_and_from_nowhere_else() {
    let test = "exposure::a_server_is_reached_from_where_its_first_line_says_and_from_nowhere_else";
    let Some(field) = Field::of(test) else { return };
    let all = "reachable from every network";
    let lan = "reachable from this network";
    let here = "this machine only";
    for (place, said, by) in [
        (":7000", all, [true, true, true]),
        ("0.0.0.0:7001", all, [true, false, false]),
        ("[::]:7002,v6only", all, [false, true, true]),
        ("[::]:7003", all, [true, true, true]),
        ("[::ffff:0.0.0.0]:7004", all, [true, false, false]),
        ("10.77.0.2:7005", lan, [true, false, false]),
        ("[fd77::2]:7006", lan, [false, true, false]),
        ("[fe80::2%c0]:7007", lan, [false, false, true]),
        ("[::ffff:10.77.0.2]:7008", lan, [true, false, false]),
        ("127.0.0.1:7009", here, [false; 3]),
        ("[::ffff:127.0.0.1]:7010", here, [false; 3]),
        ("localhost:7011", here, [false; 3]),
        ("7012", here, [false; 3]),
    ] {
        for scheme in ["tcp", "udp"] {
            let address = match place.split_once(':') {
                Some(_) => format!("{scheme}://{place}"),
                None => format!("{scheme}://127.0.0.1:{place}"),
            };
            let server = field.serve(&["echo", &address]);
            let line = server.err.wait_for(said);
            assert_eq!(line.lines().count(), 1, "{address}: {line}");
            let caps = scheme == "udp" && said != here;
            assert_eq!(line.contains(", replies capped at 3x"), caps, "{address}: {line}");
            assert_eq!(line.contains(" (IPv4 and IPv6)"), by == [true; 3], "{address}: {line}");
            assert_eq!(reached(&address, scheme == "udp", by), by, "{address}: {line}");
        }
    }
}

/// A relay from and to addresses that mean nothing without their interface.
#[test]
fn link_local_addresses_keep_their_interface_on_the_whole_way() {
    let test = "exposure::link_local_addresses_keep_their_interface_on_the_whole_way";
    let Some(field) = Field::of(test) else { return };
    for scheme in ["tcp", "udp"] {
        let (inner, outer) =
            (format!("{scheme}://[fe80::2%c0]:7000"), format!("{scheme}://[fe80::2%c0]:7001"));
        let server = field.serve(&["echo", &inner, "--json", "--allow=fe80::/10"]);
        let _relay = field.serve_relay(&outer, &inner);
        for place in [&inner, &outer] {
            run(&mut adit(&[place]), b"hello\n").assert_clean("hello\n");
        }
        server.err.wait_for("\"peer\":\"[fe80::1%");
    }
}
