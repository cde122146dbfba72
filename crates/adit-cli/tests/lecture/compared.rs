//! The last slide, TCP and UDP side by side: the verbs, the byte stream, and the edges of messages.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use adit::prelude::*;
use adit::system::unread;
use adit::{Code, Dial};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{accept, adit, bounded, noise, run, serve, tcp_host, udp_socket};
use crate::look::{events, number, of_kind, until, watch};

fn lengths<'a>(events: impl Iterator<Item = &'a Value>) -> Vec<u64> {
    events.map(|event| number(event, "len")).collect()
}

#[test]
fn lecture_s11_one_handler_serves_both_and_their_difference_shows() {
    let server = serve(&["upper", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "--json"]);
    // The same handler answers the same lines over both.
    let tcp = format!("tcp://{}", server.place("tcp"));
    run(&mut adit(&["connect", &tcp]), b"a\n\nbb\n").assert_clean("A\n\nBB\n");
    let udp = format!("udp://{}", server.place("udp"));
    run(&mut adit(&["connect", &udp]), b"a\n\nbb\n").assert_clean("A\n\nBB\n");
    let told = events(&server.stop().err);
    let came = |conversation: u64| {
        let of_it = |event: &&Value| event["conn"] == conversation && event["dir"] == "in";
        lengths(of_kind(&told, "data").filter(of_it))
    };
    // Over TCP six bytes came, cut anyhow; over UDP three messages, one of them empty.
    assert_eq!((came(1).iter().sum::<u64>(), came(2)), (6, vec![1, 0, 2]));
}

#[tokio::test]
async fn lecture_s36_read_and_write_are_the_verbs_of_a_stream() {
    let (watch, seen) = watch();
    let upper = stream(async |mut connection_socket: Conn| {
        let mut request = [0; 100];
        let bytes = connection_socket.read(&mut request).await?;
        connection_socket.write_all(&request[..bytes].to_ascii_uppercase()).await?;
        Ok(())
    });
    let server = Server::streams(upper).observe(watch).listen("tcp://127.0.0.1:0");
    let server = server.start().unwrap();
    let address = format!("tcp://{}", server.addr(0).place_text());
    let mut client_socket = Dial::new().connect(address).await.unwrap();
    assert_eq!(client_socket.write(b"hello\n").await.unwrap(), 6);
    let mut reply = [0; 100];
    assert_eq!(client_socket.read(&mut reply).await.unwrap(), 6);
    assert_eq!(&reply[..6], b"HELLO\n");
    assert_eq!(client_socket.read(&mut reply).await.unwrap(), 0, "the end is a read of nothing");
    // An event for each: one read, one write.
    for dir in ["in", "out"] {
        let data = seen.next("data");
        assert_eq!((&data["dir"], number(&data, "seq"), number(&data, "len")), (&dir.into(), 0, 6));
    }
}

#[test]
fn lecture_s37_no_byte_of_a_stream_is_lost_however_it_is_cut_on_the_way() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let place = server.tcp();
    // On the way every piece is cut anew: 1 byte, 2 bytes, up to 4096, and from the beginning.
    let relay = tcp_host(move |client| {
        let server = bounded(TcpStream::connect(place).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| cut_anew(&client, &server));
            cut_anew(&server, &client);
        });
    });
    let content = noise(37, 5_000_000);
    let ran = run(&mut adit(&["connect", &relay.place()]), &content);
    relay.finish();
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == content, "{} of {} bytes", ran.out.len(), content.len());
}

fn cut_anew(mut source: &TcpStream, mut target: &TcpStream) {
    target.set_nodelay(true).unwrap();
    for length in (0..=12).cycle().map(|power| 1_usize << power) {
        let mut piece = vec![0; length];
        match source.read(&mut piece).unwrap() {
            0 => break,
            bytes => target.write_all(&piece[..bytes]).unwrap(),
        }
    }
    target.shutdown(std::net::Shutdown::Write).unwrap();
}

#[test]
fn lecture_s38_what_was_written_in_ten_calls_is_read_in_one() {
    let (watch, seen) = watch();
    let ten_writes = stream(async |mut connection_socket: Conn| {
        for number in b'0'..=b'9' {
            assert_eq!(connection_socket.write(&[number; 10]).await?, 10);
        }
        Ok(())
    });
    let server = Server::streams(ten_writes).observe(watch).listen("tcp://127.0.0.1:0");
    let server = server.start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let mut client = bounded(TcpStream::connect(address).unwrap());
    until("100 bytes unread", || unread(&client).unwrap() == 100);
    let mut buffer = [0; 1000];
    assert_eq!(client.read(&mut buffer).unwrap(), 100);
    drop(client);
    seen.next("open");
    let writes: Vec<_> = (0..10).map(|_| seen.next("data")).collect();
    assert_eq!(lengths(writes.iter()), [10; 10]);
}

#[test]
fn lecture_s39_what_was_written_in_one_call_takes_many_to_read() {
    const WRITTEN: usize = 1_000_000;
    let count = stream(async |mut connection_socket: Conn| {
        let (mut reads, mut sum, mut buffer) = (0, 0, vec![0; 16_384]);
        while let bytes @ 1.. = connection_socket.read(&mut buffer).await? {
            (reads, sum) = (reads + 1, sum + bytes);
        }
        connection_socket.write_all(format!("{reads} {sum}").as_bytes()).await?;
        Ok(())
    });
    let server = Server::streams(count).listen("tcp://127.0.0.1:0").start().unwrap();
    let mut client = bounded(TcpStream::connect(server.addr(0).socket_addr().unwrap()).unwrap());
    assert_eq!(client.write(&vec![0; WRITTEN]).unwrap(), WRITTEN, "one call takes it all");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (reads, sum) = answer.split_once(' ').unwrap();
    assert_eq!(sum.parse::<usize>().unwrap(), WRITTEN);
    assert!(reads.parse::<usize>().unwrap() >= WRITTEN.div_ceil(16_384), "{reads} reads");
}

#[tokio::test]
async fn lecture_s40_sendto_and_recvfrom_are_the_verbs_of_datagrams() {
    let (watch, seen) = watch();
    let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    let server = Server::new(upper).observe(watch).listen_datagrams("udp://127.0.0.1:0");
    let server = server.start().unwrap();
    let address = format!("udp://{}", server.addr(0).place_text());
    let client_socket = Dial::new().datagrams(&address).await.unwrap();
    client_socket.send(b"hello").await.unwrap();
    assert_eq!(client_socket.recv().await.unwrap(), "HELLO");
    let from = client_socket.local().unwrap().place_text();
    for dir in ["in", "out"] {
        let data = seen.next("data");
        assert_eq!((&data["dir"], &data["peer"]), (&dir.into(), &from.as_str().into()));
    }
}

/// The lecture's names lead to adit's in the documentation of the library: rustdoc's search finds an
/// item by its aliases.
#[test]
fn lecture_s36_the_names_of_the_lecture_find_what_they_are_called_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adit/src");
    let mut sources = String::new();
    for file in ["server.rs", "peer.rs", "conn/mod.rs", "client/dial.rs", "client/datagrams.rs"] {
        sources.push_str(&fs::read_to_string(folder.join(file)).unwrap());
    }
    let names = "welcomeSocket connectionSocket clientSocket serverSocket outToServer inFromServer \
                 sendPacket receivePacket bind accept read write sendto recvfrom";
    for name in names.split_whitespace() {
        assert!(sources.contains(&format!("#[doc(alias = \"{name}\")]")), "{name}");
    }
}

#[tokio::test]
async fn lecture_s41_every_datagram_sent_is_one_received_with_its_edges_the_empty_one_too() {
    let (watch, seen) = watch();
    let echo = fast(|msg, out| out.send(msg));
    let server = Server::new(echo).observe(watch).listen_datagrams("udp://127.0.0.1:0");
    let server = server.start().unwrap();
    let address = format!("udp://{}", server.addr(0).place_text());
    let client_socket = Dial::new().datagrams(&address).await.unwrap();
    // Up to the longest one there is.
    let sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 65_507];
    for size in sizes {
        client_socket.send(&vec![7; size]).await.unwrap();
        assert_eq!(client_socket.recv().await.unwrap(), vec![7; size]);
    }
    let too_long = client_socket.send(&[7; 65_508]).await.unwrap_err();
    assert_eq!(adit::code_of(&too_long), Code::TooBig);
    let came: Vec<_> = sizes.iter().map(|_| [seen.next("data"), seen.next("data")]).collect();
    let sizes = sizes.map(|size| size as u64);
    assert_eq!(lengths(came.iter().map(|[came, _]| came)), sizes);
    assert_eq!(lengths(came.iter().map(|[_, sent]| sent)), sizes);
}

#[test]
fn lecture_s41_a_datagram_longer_than_its_buffer_is_never_cut_in_silence() {
    // The bare socket: four bytes of ten, and the rest is gone without a word.
    let (sender, receiver) = (udp_socket(), udp_socket());
    sender.send_to(b"0123456789", receiver.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 4];
    assert_eq!((receiver.recv(&mut buffer).unwrap(), &buffer), (4, b"0123"));
    // The longest over UDP fits adit's buffers, only a Unix socket carries longer ones: that is told.
    let (watch, seen) = watch();
    let name = format!("unix-dgram:@adit-lecture-s41-{}", std::process::id());
    let ignore = fast(|_, _| ());
    let server = Server::new(ignore).observe(watch).listen_datagrams(&name).start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Dial::new().datagrams(&name).await.unwrap();
        client.send(&[7; 70_000]).await.unwrap();
    });
    assert!(number(&seen.next("truncated"), "len") < 70_000);
    drop(server);
}

#[test]
fn lecture_s41_a_message_that_fits_no_datagram_is_refused_before_anything_of_it_is_sent() {
    let socket = udp_socket();
    let place = socket.local_addr().unwrap().to_string();
    let mut long = vec![b'x'; 70_000];
    long.push(b'\n');
    run(&mut adit(&["connect", "-u", &place]), &long).assert_failed(1, "too-big");
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 10]).is_err(), "something was sent");
    // A stream takes it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        accept(&listener).read_to_end(&mut all).unwrap();
        all
    });
    run(&mut adit(&["connect", &place]), &long).assert_clean("");
    assert!(reading.join().unwrap() == long);
}
