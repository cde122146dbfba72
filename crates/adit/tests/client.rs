//! The client against servers that answer late, never, wrongly, or not at all.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use adit::prelude::*;
use adit::{ClientOptions, Code, Dial};

const SHORT: Duration = Duration::from_millis(200);

/// A server of lines in a thread: answers each line after as long a wait as it says, or never.
fn scripted(connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (stream, _) = listener.accept().unwrap();
            let mut answers = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                let answer = match line.split_once(' ') {
                    Some(("late", ms)) => {
                        std::thread::sleep(Duration::from_millis(ms.parse().unwrap()));
                        format!("{line}\n")
                    }
                    _ if line == "never" => continue,
                    _ if line == "close" => break,
                    _ if line == "double" => "one\ntwo\n".to_owned(),
                    _ => format!("{line}!\n"),
                };
                // The client may have given this connection up.
                if answers.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
            drop(answers);
        }
    });
    address
}

fn tcp(address: SocketAddr) -> String {
    format!("tcp://{address}")
}

fn quick() -> ClientOptions {
    let backoff = adit::Backoff { first: SHORT / 20, max: SHORT / 4 };
    ClientOptions { backoff, deadline: Duration::from_secs(10), ..ClientOptions::default() }
}

#[tokio::test]
async fn calls_are_pipelined_and_paired_in_order() {
    let client = Client::connect(tcp(scripted(1))).await.unwrap();
    let calls: Vec<_> =
        (0..100).map(|n| tokio::spawn(client.call(format!("c{n}")).send())).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), format!("c{n}!"));
    }
    client.finish().await.unwrap();
}

#[tokio::test]
async fn the_late_reply_of_an_expired_call_is_not_taken_for_the_next_ones() {
    let client = Client::connect(tcp(scripted(1))).await.unwrap();
    for round in 0..3 {
        let error = client.call("late 400").within(Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(error.code(), Code::Deadline);
        assert!(error.maybe_executed() && !error.safe_to_retry());
        let next = client.call(format!("next {round}")).await.unwrap();
        assert_eq!(next, format!("next {round}!"));
    }
}

/// Row 41 of docs/reliability.md: calls whose answer comes 1.2 times their deadline late, and how many of
/// the answers may be taken for that of another.
const LATE_CALLS: usize = 1000;
const WRONG_ANSWERS: usize = 0;

/// Their deadline.
const IN_TIME: Duration = Duration::from_millis(25);

/// Answers every second message in time, the others 1.2 deadlines after they have come.
struct Late(bool);

impl Handler for Late {
    fn message(&mut self, msg: &[u8], _: &mut Out<'_>) -> Answer {
        self.0 = !self.0;
        let wait = if self.0 { IN_TIME * 6 / 5 } else { Duration::ZERO };
        let msg = Bytes::copy_from_slice(msg);
        Answer::later(async move {
            tokio::time::sleep(wait).await;
            Ok(msg)
        })
    }
}

#[tokio::test]
async fn row_41_of_a_thousand_late_answers_none_is_taken_for_that_of_another_call() {
    const CLIENTS: usize = 20;
    let late = each(|_| Late(false));
    let server = Server::new(late).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    let calls = (0..CLIENTS).map(|number| {
        let address = server.addr(0).clone();
        tokio::spawn(async move {
            let client = Client::connect_with(&address, Lines::new(), quick()).await.unwrap();
            let (mut answered, mut wrong) = (0, 0);
            for call in 0..LATE_CALLS / CLIENTS {
                let asked = format!("{number} {call}");
                match client.call(asked.clone()).within(IN_TIME).await {
                    Ok(answer) if answer == asked => answered += 1,
                    Ok(_) => wrong += 1,
                    Err(error) => assert!(error.code() != Code::BadFrame, "{error}"),
                }
            }
            (answered, wrong)
        })
    });
    let (mut answered, mut wrong) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        let (right_here, wrong_here) = call.await.unwrap();
        (answered, wrong) = (answered + right_here, wrong + wrong_here);
    }
    assert_eq!(wrong, WRONG_ANSWERS);
    assert!(answered < LATE_CALLS, "none was late");
}

#[tokio::test]
async fn a_dropped_call_frees_its_place_and_its_reply_is_swallowed() {
    let options = ClientOptions { in_flight: 1, ..quick() };
    let client = Client::connect_with(tcp(scripted(9)), Lines::new(), options).await.unwrap();
    for _ in 0..5 {
        let dropped = tokio::time::timeout(SHORT / 4, client.call("late 100").send()).await;
        assert!(dropped.is_err());
    }
    assert_eq!(client.call("alive").await.unwrap(), "alive!");
}

#[tokio::test]
async fn replies_that_never_come_cost_the_connection_not_the_client() {
    let client = Client::connect_with(tcp(scripted(9)), Lines::new(), quick()).await.unwrap();
    let error = client.call("never").within(SHORT).await.unwrap_err();
    assert_eq!(error.code(), Code::Deadline);
    // The next reply is taken for the lost one's, so that the next call may expire too. Then the
    // connection is given up: never a wrong answer, and not for ever none.
    let mut failed = 0;
    while client.call("next").within(SHORT).await.map(|reply| assert_eq!(reply, "next!")).is_err() {
        failed += 1;
        assert!(failed < 3);
    }
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_the_error_says_what_may_have_happened() {
    let client = Client::connect_with(tcp(scripted(9)), Lines::new(), quick()).await.unwrap();
    assert_eq!(client.call("a").await.unwrap(), "a!");
    let error = client.call("close").await.unwrap_err();
    assert_eq!(error.code(), Code::Reset);
    assert!(error.maybe_executed());
    assert_eq!(client.call("b").await.unwrap(), "b!");
}

#[tokio::test]
async fn without_a_server_the_error_is_that_of_connecting_and_safe_to_retry() {
    let address = scripted(1);
    let client = Client::connect_with(tcp(address), Lines::new(), quick()).await.unwrap();
    client.call("close").await.unwrap_err();
    let error = client.call("x").within(SHORT).await.unwrap_err();
    assert_eq!(error.code(), Code::Refused);
    assert!(error.safe_to_retry() && !error.maybe_executed());
    assert_eq!(Client::connect(tcp(address)).await.unwrap_err().code(), Code::Refused);
}

#[tokio::test]
async fn a_reply_that_is_too_long_or_unasked_for_ends_the_connection() {
    let options = ClientOptions { reply_bytes: 10, ..quick() };
    let client = Client::connect_with(tcp(scripted(2)), Lines::new(), options).await.unwrap();
    let error = client.call("x".repeat(100)).await.unwrap_err();
    assert_eq!(error.code(), Code::TooBig);
    let client = Client::connect_with(tcp(scripted(2)), Lines::new(), quick()).await.unwrap();
    assert_eq!(client.call("double").await.unwrap(), "one");
    assert_eq!(client.call("next").idempotent().await.unwrap(), "next!", "on a new connection");
    let error = client.call("a\nb").await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (Code::BadFrame, adit::Blame::Caller));
}

#[tokio::test]
async fn finishing_waits_for_replies_and_half_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(b"after the end\n").unwrap();
        all
    });
    let client = Client::connect(tcp(address)).await.unwrap();
    let call = client.call("last");
    let reply = tokio::spawn(call.within(Duration::from_millis(300)).send());
    tokio::task::yield_now().await;
    // The server answers only after our end: the call expires, the end still goes out.
    client.finish().await.unwrap();
    assert_eq!(reply.await.unwrap().unwrap_err().code(), Code::Deadline);
    assert_eq!(server.join().unwrap(), b"last\n");
}

fn udp_server(behave: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut data = vec![0; 65_536];
        while let Ok((bytes, from)) = socket.recv_from(&mut data) {
            behave(&socket, &data[..bytes], from);
        }
    });
    format!("udp://{address}")
}

#[tokio::test]
async fn over_datagrams_a_late_answer_finds_nobody() {
    let address = udp_server(|socket, data, from| {
        if data.starts_with(b"late") {
            std::thread::sleep(Duration::from_millis(150));
        }
        socket.send_to(data, from).unwrap();
    });
    let client = Client::connect(address).await.unwrap();
    for round in 0..3 {
        let error = client.call("late").within(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code(), Code::Deadline);
        let body = format!("next {round}");
        assert_eq!(client.call(body.clone()).await.unwrap(), body);
    }
}

#[tokio::test]
async fn over_datagrams_only_an_idempotent_call_is_sent_again() {
    let (sender, receiver) = sync_channel(100);
    let address = udp_server(move |socket, data, from| {
        sender.send(data.to_vec()).unwrap();
        // The first two of three are lost.
        if receiver_count(data) {
            socket.send_to(data, from).unwrap();
        }
    });
    let client = Client::connect(address).await.unwrap();
    let error = client.call("once").within(Duration::from_millis(700)).await.unwrap_err();
    assert!(error.maybe_executed());
    assert_eq!(receiver.try_iter().count(), 1);
    let reply = client.call("again and again").idempotent().await.unwrap();
    assert_eq!(reply, "again and again");
    assert_eq!(receiver.try_iter().count(), 3);
}

#[tokio::test]
async fn over_datagrams_a_call_sent_twice_may_be_answered_twice_without_harm_to_the_next() {
    let address = udp_server({
        let heard = std::sync::atomic::AtomicU32::new(0);
        move |socket, data, from| {
            // The first answer is late: it comes together with that to the second sending.
            let heard = heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            for _ in 0..[0, 2, 1][heard.min(2) as usize] {
                socket.send_to(data, from).unwrap();
            }
        }
    });
    let client = Client::connect(address).await.unwrap();
    assert_eq!(client.call("twice").idempotent().await.unwrap(), "twice");
    assert_eq!(client.call("next").await.unwrap(), "next");
}

/// Every third datagram of a kind is answered, none of those that say "once".
fn receiver_count(data: &[u8]) -> bool {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SEEN: AtomicU32 = AtomicU32::new(0);
    data != b"once" && SEEN.fetch_add(1, Ordering::Relaxed) == 2
}

#[tokio::test]
async fn over_datagrams_nobody_there_is_told_at_once() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::connect(format!("udp://{free}")).await.unwrap();
    let error = client.call("x").await.unwrap_err();
    assert_eq!(error.code(), Code::Refused);
    let error = client.call(vec![0; 70_000]).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (Code::TooBig, adit::Blame::Caller));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blocking_client_works_inside_a_runtime_too() {
    let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    let server = Server::new(upper)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen_datagrams("udp://127.0.0.1:0")
        .start()
        .unwrap();
    for endpoint in [server.addr(0), server.addr(1)] {
        let address = format!("{}://{}", endpoint.transport(), endpoint.place_text());
        let client = BlockingClient::connect(address).unwrap();
        let other = client.clone();
        assert_eq!(client.call("a").send().unwrap(), "A");
        let thread = std::thread::spawn(move || other.call("b").within(SHORT * 20).send());
        assert_eq!(thread.join().unwrap().unwrap(), "B");
    }
}

#[tokio::test]
async fn every_address_of_a_name_is_tried_and_the_winner_is_named() {
    // Only one family listens; the loopback place names both.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in
        [format!("tcp://{port}"), format!("tcp://:{port}"), format!("tcp://localhost:{port}")]
    {
        let conn = Dial::new().connect(address).await.unwrap();
        assert_eq!(conn.remote().place_text(), format!("127.0.0.1:{port}"));
    }
    if let Ok(listener) = TcpListener::bind("[::1]:0") {
        let port = listener.local_addr().unwrap().port();
        let conn = Dial::new().connect(format!("tcp://{port}")).await.unwrap();
        assert_eq!(conn.remote().place_text(), format!("[::1]:{port}"));
        let error = Dial::new()
            .family(adit::Family::V4)
            .connect(format!("tcp://{port}"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Refused);
        assert!(error.hint().unwrap().contains("same port on this host: tcp [::1]:"), "{error:?}");
    }
}

#[tokio::test]
async fn connecting_has_an_end_and_says_why() {
    // A listener that accepts nobody: its queue of one is filled, then the next one waits.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let dial = Dial::new().timeout(SHORT);
    let mut open = Vec::new();
    let error = loop {
        match dial.connect(tcp(address)).await {
            Ok(conn) => open.push(conn),
            Err(error) => break error,
        }
        assert!(open.len() < 10);
    };
    assert_eq!(error.code(), Code::ConnectTimeout);
    assert_eq!(error.limit(), Some("connect-timeout"));
    let error = dial.connect("tcp://does-not-exist.invalid:1").await.unwrap_err();
    assert_eq!(error.code(), Code::Name);
    let error = dial.connect("unix:/does/not/exist").await.unwrap_err();
    assert_eq!(error.code(), Code::Refused);
    for address in ["tcp://127.0.0.1:0", "udp://127.0.0.1:1"] {
        assert_eq!(dial.connect(address).await.unwrap_err().code(), Code::Usage);
    }
}
