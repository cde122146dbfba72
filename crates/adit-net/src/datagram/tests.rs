//! Datagrams over real sockets: edges, addresses, errors, drops.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{DatagramPeer, DatagramSocket, RecvBatch, SendBatch, udp_any, udp_group, udp_loopback};
use crate::stream::Options;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() })
}

fn server_on(address: &str) -> (DatagramSocket, SocketAddr) {
    let group = udp_group(address.parse().unwrap(), 1, true, &Options::default()).unwrap();
    let socket = group.into_iter().next().unwrap();
    let address = socket.local_addr().unwrap();
    (DatagramSocket::udp(socket).unwrap(), address)
}

fn client_of(server: SocketAddr) -> UdpSocket {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let client = UdpSocket::bind((any, 0)).unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

#[test]
fn every_datagram_keeps_its_edges_also_the_empty_and_the_longest() {
    run(async {
        let (server, address) = server_on("127.0.0.1:0");
        let client = client_of(address);
        let sizes = [0, 1, 1472, super::UDP_BYTES_MAX, 0];
        let mut seen = Vec::new();
        let mut batch = RecvBatch::new();
        for size in sizes {
            client.send(&vec![7; size]).unwrap();
            server.recv(&mut batch).await.unwrap();
            seen.extend(batch.iter().map(|datagram| (datagram.data.len(), datagram.truncated)));
        }
        assert_eq!(seen, sizes.map(|size| (size, false)));
        let too_long = client.send(&vec![7; super::UDP_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
    });
}

/// Sends one datagram back. True if it was for everybody.
async fn answer_one(server: &DatagramSocket) -> bool {
    let mut batch = RecvBatch::new();
    server.recv(&mut batch).await.unwrap();
    let datagram = batch.get(0).unwrap();
    server.try_send(datagram.data, &datagram.from, datagram.local).unwrap();
    datagram.to_everybody
}

#[test]
fn an_answer_leaves_from_the_address_the_question_came_to() {
    run(async {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let any = udp_group(wildcard.parse().unwrap(), 1, false, &Options::default()).unwrap();
            let port = any[0].local_addr().unwrap().port();
            let server = DatagramSocket::udp(any.into_iter().next().unwrap()).unwrap();
            for asked in [IpAddr::from([127, 0, 0, 5]), IpAddr::from([127, 0, 0, 1])] {
                // A connected client hears only the address it asked.
                let client = client_of((asked, port).into());
                client.send(b"who").unwrap();
                assert!(!answer_one(&server).await);
                assert_eq!(client.recv(&mut [0; 9]).unwrap(), 3, "{asked} on {wildcard}");
            }
        }
        if UdpSocket::bind("[::1]:0").is_err() {
            return;
        }
        let any = udp_any(0, 1, &Options::default()).unwrap();
        let port = any[0].local_addr().unwrap().port();
        let server = DatagramSocket::udp(any.into_iter().next().unwrap()).unwrap();
        let client = client_of((Ipv6Addr::LOCALHOST, port).into());
        client.send(b"who").unwrap();
        assert!(!answer_one(&server).await);
        assert_eq!(client.recv(&mut [0; 9]).unwrap(), 3);
    });
}

#[test]
fn a_peer_that_is_gone_ends_nothing_and_is_reported() {
    run(async {
        let (server, address) = server_on("127.0.0.1:0");
        let gone = client_of(address);
        let gone_address = gone.local_addr().unwrap();
        gone.send(b"x").unwrap();
        let mut batch = RecvBatch::new();
        server.recv(&mut batch).await.unwrap();
        let from = batch.get(0).unwrap().from;
        drop(gone);
        server.try_send(b"nobody hears this", &from, None).unwrap();
        // The next question is received although the refusal is pending on the socket.
        let client = client_of(address);
        client.send(b"y").unwrap();
        server.recv(&mut batch).await.unwrap();
        assert_eq!(batch.get(0).unwrap().data, b"y");
        let errors = server.take_errors();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].peer, gone_address);
        assert_eq!(errors[0].error.kind(), ErrorKind::ConnectionRefused);
        let back = batch.get(0).unwrap().from;
        server.try_send(b"z", &back, None).unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap(), 1);
    });
}

#[test]
fn a_client_hears_that_nobody_is_there() {
    run(async {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = DatagramSocket::connected(free, None, &Options::default()).unwrap();
        client.send(b"x").await.unwrap();
        let error = client.recv(&mut RecvBatch::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_foreign_server_is_met_as_address_in_use() {
    let group = udp_group("127.0.0.1:0".parse().unwrap(), 3, true, &Options::default()).unwrap();
    let address = group[0].local_addr().unwrap();
    assert!(group.iter().all(|socket| socket.local_addr().unwrap() == address));
    let foreign = udp_group(address, 1, true, &Options::default()).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::AddrInUse);
    assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    let foreign = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    foreign.set_reuse_address(true).unwrap();
    assert!(foreign.bind(&address.into()).is_err(), "not even with SO_REUSEADDR");
}

#[test]
fn a_peer_stays_with_its_socket_of_the_group() {
    run(async {
        let group = udp_group("127.0.0.1:0".parse().unwrap(), 4, true, &Options::default());
        let group = group.unwrap();
        let address = group[0].local_addr().unwrap();
        let sockets: Vec<_> =
            group.into_iter().map(|socket| DatagramSocket::udp(socket).unwrap()).collect();
        for _ in 0..8 {
            let client = client_of(address);
            for _ in 0..3 {
                client.send(b"x").unwrap();
            }
            let mut batch = RecvBatch::new();
            let mut per_socket = Vec::new();
            while per_socket.iter().sum::<usize>() < 3 {
                per_socket = sockets.iter().map(|s| s.try_recv(&mut batch).unwrap_or(0)).collect();
                tokio::task::yield_now().await;
            }
            assert_eq!(per_socket.iter().max(), Some(&3), "{per_socket:?}");
        }
    });
}

#[test]
fn loopback_gives_both_families_one_port() {
    let groups = udp_loopback(0, 2, &Options::default()).unwrap();
    let ports: Vec<_> = groups.iter().flatten().map(|s| s.local_addr().unwrap().port()).collect();
    assert!(ports.iter().all(|port| *port == ports[0]));
}

#[test]
fn the_kernels_drops_are_counted_exactly() {
    let options = Options { receive_buffer: Some(4096), ..Options::default() };
    run(async {
        let socket = udp_group("127.0.0.1:0".parse().unwrap(), 1, true, &options).unwrap();
        let socket = socket.into_iter().next().unwrap();
        let address = socket.local_addr().unwrap();
        let server = DatagramSocket::udp(socket).unwrap();
        let client = client_of(address);
        for _ in 0..200 {
            client.send(&[7; 100]).unwrap();
        }
        let (mut batch, mut received) = (RecvBatch::new(), 0);
        while let Ok(more) = server.try_recv(&mut batch) {
            received += more;
        }
        assert!(received < 200);
        assert_eq!(server.dropped().unwrap() as usize, 200 - received);
    });
}

#[test]
fn a_batch_goes_out_in_order_and_one_bad_datagram_does_not_hold_up_the_others() {
    run(async {
        let (server, address) = server_on("127.0.0.1:0");
        let (sender, _) = server_on("127.0.0.1:0");
        let to = DatagramPeer::Udp(address);
        let mut batch = SendBatch::default();
        for number in 0..20_u8 {
            batch.push(&[number], &to, None);
        }
        batch.push(&vec![0; 65_508], &to, None);
        batch.push(b"", &to, None);
        let mut failed = Vec::new();
        batch.send(&sender, |_, error| failed.push(error.raw_os_error())).unwrap();
        assert_eq!(failed, [Some(libc::EMSGSIZE)]);
        assert!(batch.is_empty());
        let (mut arrived, mut got) = (Vec::new(), RecvBatch::new());
        while arrived.len() < 21 {
            server.recv(&mut got).await.unwrap();
            arrived.extend(got.iter().map(|datagram| datagram.data.to_vec()));
        }
        let expected: Vec<Vec<u8>> = (0..20).map(|number| vec![number]).chain([vec![]]).collect();
        assert_eq!(arrived, expected);
    });
}

#[test]
fn a_unix_client_can_be_answered() {
    use crate::unix::UnixName;
    run(async {
        let name = format!("adit-dgram-{}", std::process::id());
        let name = UnixName::Abstract(name.as_bytes().into());
        let (socket, _) = crate::listen::unix_datagram(&name, 0o600).unwrap();
        let server = DatagramSocket::unix(socket).unwrap();
        let client = DatagramSocket::connected_unix(&name).unwrap();
        client.send(b"hello").await.unwrap();
        assert!(!answer_one(&server).await);
        let mut batch = RecvBatch::new();
        client.recv(&mut batch).await.unwrap();
        assert_eq!(batch.get(0).unwrap().data, b"hello");
        client.send(b"").await.unwrap();
        assert!(!answer_one(&server).await);
        client.recv(&mut batch).await.unwrap();
        assert_eq!(batch.get(0).unwrap().data, b"");
    });
}

/// An ICMP "destination unreachable" with `code` about a datagram from `ours` to `theirs` over
/// loopback (RFC 792: type, code, checksum, 4 bytes, then the IP header and 8 bytes of the datagram).
fn icmp(code: u8, ours: SocketAddr, theirs: SocketAddr) -> Vec<u8> {
    let next_hop_mtu = if code == 4 { 600_u16 } else { 0 };
    let mut packet = vec![3, code, 0, 0, 0, 0];
    packet.extend(next_hop_mtu.to_be_bytes());
    packet.extend([0x45, 0, 0, 30, 0, 1, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    packet.extend(ours.port().to_be_bytes());
    packet.extend(theirs.port().to_be_bytes());
    packet.extend([0, 10, 0, 0]);
    let words = packet.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let mut sum: u32 = words.sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(sum).unwrap();
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn no_icmp_message_ends_a_server() {
    use socket2::{Domain, Protocol, Socket, Type};
    // Only root may send these; everybody else has the table of `is_icmp` to trust.
    let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)) else {
        return;
    };
    run(async {
        for wildcard in ["127.0.0.1:0", "[::]:0"] {
            for code in 0..=15 {
                let group =
                    udp_group(wildcard.parse().unwrap(), 1, false, &Options::default()).unwrap();
                let socket = group.into_iter().next().unwrap();
                let port = socket.local_addr().unwrap().port();
                let server = DatagramSocket::udp(socket).unwrap();
                let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let client = client_of(asked);
                client.send(b"question").unwrap();
                assert!(!answer_one(&server).await);
                let about = client.local_addr().unwrap();
                let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                raw.send_to(&icmp(code, asked, about), &to.into()).unwrap();
                let mut batch = RecvBatch::new();
                let received = server.recv(&mut batch).await;
                assert_eq!(received.unwrap_or_else(|error| panic!("code {code}: {error}")), 0);
                let errors = server.take_errors();
                assert_eq!(errors.len(), 1, "code {code} on {wildcard}");
                // In the form the peer has on this socket, by which its conversation is found.
                assert_eq!(errors[0].peer.ip().to_canonical(), about.ip());
                assert_eq!(errors[0].peer.port(), about.port());
                client.send(b"again").unwrap();
                assert!(!answer_one(&server).await);
            }
        }
    });
}

#[test]
fn a_broadcast_is_answered_from_an_address_of_ours() {
    run(async {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let group = udp_group(wildcard.parse().unwrap(), 1, false, &Options::default());
            let socket = group.unwrap().into_iter().next().unwrap();
            let port = socket.local_addr().unwrap().port();
            let server = DatagramSocket::udp(socket).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.set_broadcast(true).unwrap();
            client.send_to(b"who", ("127.255.255.255", port)).unwrap();
            assert!(answer_one(&server).await, "known for a broadcast");
            let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
            assert_eq!(from.to_string(), format!("127.0.0.1:{port}"), "{wildcard}");
        }
    });
}

#[test]
fn a_datagram_longer_than_there_is_room_for_is_cut_and_says_so() {
    use crate::unix::UnixName;
    run(async {
        let name = format!("adit-long-{}", std::process::id());
        let name = UnixName::Abstract(name.as_bytes().into());
        let (socket, _) = crate::listen::unix_datagram(&name, 0o600).unwrap();
        let server = DatagramSocket::unix(socket).unwrap();
        let client = DatagramSocket::connected_unix(&name).unwrap();
        let mut batch = RecvBatch::new();
        for (size, seen, truncated) in [(65_535, 65_535, false), (65_536, 65_535, true)] {
            client.send(&vec![7; size]).await.unwrap();
            server.recv(&mut batch).await.unwrap();
            let datagram = batch.get(0).unwrap();
            assert_eq!((datagram.data.len(), datagram.truncated), (seen, truncated));
        }
    });
}

#[test]
fn a_full_receiver_is_waited_for_and_nothing_is_lost() {
    use crate::unix::UnixName;
    run(async {
        let name = format!("adit-slow-{}", std::process::id());
        let name = UnixName::Abstract(name.as_bytes().into());
        let (socket, _) = crate::listen::unix_datagram(&name, 0o600).unwrap();
        let server = DatagramSocket::unix(socket).unwrap();
        let client = DatagramSocket::connected_unix(&name).unwrap();
        let to = DatagramPeer::Unix(name);
        let (mut batch, mut waiting) = (RecvBatch::new(), SendBatch::default());
        for number in 0..2000_u32 {
            waiting.push(&number.to_be_bytes(), &to, None);
        }
        let send = async {
            client.send_rest(&mut waiting, |_, error| panic!("{error}")).await.unwrap();
            client.send_to(b"last", &to, None).await.unwrap();
        };
        let receive = async {
            let mut numbers = Vec::new();
            while numbers.last() != Some(&b"last".to_vec()) {
                server.recv(&mut batch).await.unwrap();
                numbers.extend(batch.iter().map(|datagram| datagram.data.to_vec()));
            }
            numbers
        };
        let ((), numbers) = tokio::join!(send, receive);
        assert_eq!(numbers.len(), 2001);
        assert!(numbers.iter().zip(0_u32..2000).all(|(seen, sent)| *seen == sent.to_be_bytes()));
    });
}

#[test]
fn a_group_shares_its_peers() {
    run(async {
        let group = udp_group("127.0.0.1:0".parse().unwrap(), 2, true, &Options::default());
        let group = group.unwrap();
        let address = group[0].local_addr().unwrap();
        let sockets: Vec<_> =
            group.into_iter().map(|socket| DatagramSocket::udp(socket).unwrap()).collect();
        let clients: Vec<_> = (0..64).map(|_| client_of(address)).collect();
        for client in &clients {
            client.send(b"x").unwrap();
        }
        let mut batch = RecvBatch::new();
        let mut shares = [0; 2];
        while shares.iter().sum::<usize>() < clients.len() {
            for (share, socket) in shares.iter_mut().zip(&sockets) {
                *share += socket.try_recv(&mut batch).unwrap_or(0);
            }
            tokio::task::yield_now().await;
        }
        // One in 2^63 that a fair hash gives one socket all of them.
        assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    });
}

#[test]
fn a_peer_of_ipv4_is_shown_as_one_and_can_be_sent_to_over_ipv6() {
    run(async {
        let any = udp_group("[::]:0".parse().unwrap(), 1, false, &Options::default()).unwrap();
        let socket = any.into_iter().next().unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = DatagramSocket::udp(socket).unwrap();
        let client = client_of((Ipv4Addr::LOCALHOST, port).into());
        client.send(b"x").unwrap();
        let mut batch = RecvBatch::new();
        server.recv(&mut batch).await.unwrap();
        let from = batch.get(0).unwrap().from;
        assert_eq!(from.to_string(), client.local_addr().unwrap().to_string());
        server.send_to(b"y", &from, None).await.unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap(), 1);
    });
}
