//! Streams through the cut relay: nothing gets lost by a gentle one, and what a rough one takes is missed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use adit::codec::{Codec, Length32, Lines};
use adit::event::Direction;
use adit::{
    BlockingClient, ClientOptions, Code, Conn, Event, Observer, Running, Server, What, fast, stream,
};
use adit_lab::cut::{Cut, Decided, Decision, Mode, Plan, Way};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longest time any single step may take.
const DEADLINE: Duration = Duration::from_secs(20);
const ANY: &str = "tcp://127.0.0.1:0";

/// A server of messages that answers each with its bytes turned round.
fn turning(codec: impl Codec + Clone + Send) -> Running {
    let turn = fast(|message, out| out.send(message.iter().rev().copied().collect::<Vec<u8>>()));
    Server::new(turn).listen(ANY, codec).threads(1).start().unwrap()
}

/// A server of bytes: everything, then its length, then the end.
fn counting() -> Running {
    let count = stream(async |mut conn: Conn| {
        let mut all = Vec::new();
        conn.read_to_end(&mut all).await?;
        conn.write_all(&all).await?;
        conn.write_all(format!("\n{} bytes\n", all.len()).as_bytes()).await?;
        Ok(())
    });
    Server::streams(count).listen(ANY).threads(1).start().unwrap()
}

fn relay(server: &Running) -> Cut {
    Cut::to(server.addr(0)).unwrap().listen(ANY)
}

/// Says everything, ends its direction, and gives what comes back; or why not all of it does.
fn ask(address: SocketAddr, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(input)?;
    match stream.shutdown(Shutdown::Write) {
        // It may be cut already: reading tells how.
        Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error),
        _ => {}
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn address(running: &Running) -> SocketAddr {
    running.addr(0).socket_addr().unwrap()
}

/// Each message behind its length (RFC 4506, section 4.10, without the padding).
fn framed(messages: &[&str]) -> Vec<u8> {
    let frame = |message: &&str| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&length[..], message.as_bytes()].concat()
    };
    messages.iter().flat_map(frame).collect()
}

#[test]
fn a_server_answers_the_same_wherever_its_input_is_cut() {
    let servers = [
        (turning(Lines::new()), b"one\r\ntwo\n\nhalf".to_vec()),
        (turning(Length32), framed(&["one", "", "three"])),
        (counting(), b"some bytes".to_vec()),
    ];
    for (server, input) in servers {
        let whole = ask(address(&server), &input).unwrap();
        assert!(whole.len() > 8, "{whole:?}");
        // Both ways are cut: behind each byte of the question, and behind each one of the answer.
        for behind in 1..=input.len().max(whole.len()) as u64 {
            let cut = relay(&server).at(behind).start().unwrap();
            assert_eq!(ask(address(&cut), &input).unwrap(), whole, "cut behind {behind}");
        }
    }
}

#[test]
fn a_client_hears_the_same_wherever_its_answers_are_cut() {
    fn ask_three(client: &BlockingClient) -> Vec<String> {
        let calls = ["one", "", "three"].map(|text| client.call(text).within(DEADLINE).send());
        calls.map(|answer| String::from_utf8(answer.unwrap().to_vec()).unwrap()).to_vec()
    }
    let turned = ["eno", "", "eerht"];
    let (lines, records) = (turning(Lines::new()), turning(Length32));
    for behind in 1..=21 {
        let cut = relay(&lines).at(behind).start().unwrap();
        let client = BlockingClient::connect(cut.addr(0)).unwrap();
        assert_eq!(ask_three(&client), turned, "lines, cut behind {behind}");
        let cut = relay(&records).at(behind).start().unwrap();
        let client =
            BlockingClient::connect_with(cut.addr(0), Length32, ClientOptions::default()).unwrap();
        assert_eq!(ask_three(&client), turned, "records, cut behind {behind}");
    }
}

/// Bytes without a pattern; the same seed gives the same bytes (xorshift64).
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..=bytes / 8).flat_map(|_| next()).take(bytes).collect()
}

/// A relay with this seed, and what it decides.
fn watched(server: &Running, seed: u64, mode: Mode) -> (Running, Receiver<Decided>) {
    let (sender, decided) = sync_channel(10_000);
    let cut = relay(server).seed(seed).mode(mode);
    // A test that has seen enough does not listen any more.
    let cut = cut.on_decision(move |decided| {
        let _nobody_listens = sender.try_send(*decided);
    });
    (cut.start().unwrap(), decided)
}

/// A server that tells how many bytes each of its reads has brought.
fn reading() -> (Running, Receiver<usize>) {
    let (sender, reads) = sync_channel(10_000);
    let read = stream(async move |mut conn: Conn| {
        loop {
            let bytes = conn.read(&mut [0; 1000]).await?;
            sender.send(bytes)?;
            if bytes == 0 {
                return Ok(());
            }
        }
    });
    (Server::streams(read).listen(ANY).threads(1).start().unwrap(), reads)
}

/// The reads of one connection.
fn reads_of_one(reads: &Receiver<usize>) -> Vec<usize> {
    std::iter::from_fn(|| Some(reads.recv_timeout(DEADLINE).unwrap()).filter(|read| *read > 0))
        .collect()
}

/// A machine that is busy may join what was apart, or part what was joined: not every time.
const TRIES: usize = 500;

#[test]
fn a_split_is_two_reads() {
    let (server, reads) = reading();
    let cut = relay(&server).at(4).start().unwrap();
    let are_apart = (0..TRIES).any(|_| {
        ask(address(&cut), b"0123456789").unwrap();
        reads_of_one(&reads) == [4, 6]
    });
    assert!(are_apart);
}

#[test]
fn a_merge_is_one_read() {
    let (server, reads) = reading();
    let begins_so = |seed: &u64| {
        let mut plan = Plan::new(Mode::Gentle, *seed, 1, Way::Up);
        let (first, second) = (plan.next().unwrap(), plan.next().unwrap());
        first.0 <= 4 && first.1 == Decision::Merge && second.0 > first.0 + 6
    };
    let seed = (0..).find(begins_so).unwrap();
    let (first, _) = Plan::new(Mode::Gentle, seed, 1, Way::Up).next().unwrap();
    let are_joined = (0..TRIES).any(|_| {
        let (sender, came) = sync_channel(100);
        let told = move |event: &Event<'_>| {
            if let What::Data { dir: Direction::In, .. } = event.what {
                // More than is waited for comes from nobody.
                let _nobody_waits = sender.try_send(());
            }
        };
        let cut = relay(&server).seed(seed).observe(Telling(told)).start().unwrap();
        let mut client = TcpStream::connect(address(&cut)).unwrap();
        client.set_nodelay(true).unwrap();
        for byte in 0..u8::try_from(first).unwrap() + 4 {
            client.write_all(&[byte]).unwrap();
            came.recv_timeout(DEADLINE).unwrap();
        }
        drop(client);
        reads_of_one(&reads).last() == Some(&4)
    });
    assert!(are_joined);
}

/// A function that is told.
struct Telling<F>(F);

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for Telling<F> {
    fn event(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

#[test]
fn nothing_is_lost_by_a_gentle_relay_whatever_the_seed() {
    let server = counting();
    let input = noise(1, 50_000);
    let whole = ask(address(&server), &input).unwrap();
    for seed in 0..10 {
        let (cut, decided) = watched(&server, seed, Mode::Gentle);
        assert!(ask(address(&cut), &input).unwrap() == whole, "seed {seed}");
        assert!(decided.try_iter().count() > 4, "seed {seed} decided next to nothing");
    }
}

#[test]
fn the_same_seed_decides_the_same() {
    let server = counting();
    let run = |seed, mode| {
        let (cut, decided) = watched(&server, seed, mode);
        for connection in 1..=2 {
            let asked = ask(address(&cut), &noise(connection, 20_000));
            assert!(mode != Mode::Gentle || asked.is_ok());
        }
        drop(cut);
        // The two ways go on beside each other: each has an order of its own.
        let mut all: Vec<_> = decided.try_iter().collect();
        all.sort_by_key(|one| (one.connection, one.way == Way::Down));
        all
    };
    for seed in [3, 4] {
        let first = run(seed, Mode::Gentle);
        assert_eq!(first, run(seed, Mode::Gentle), "seed {seed}");
        assert!(first.iter().any(|one| one.connection == 2 && one.way == Way::Down));
    }
    assert_ne!(run(3, Mode::Gentle), run(4, Mode::Gentle));
}

#[test]
fn a_reset_stream_is_never_taken_for_a_whole_one() {
    let server = counting();
    // Short, so that some are over before they are cut.
    let input = noise(2, 60);
    let whole = ask(address(&server), &input).unwrap();
    let (mut broken, mut unhurt) = (0, 0);
    for seed in 0..200 {
        let (cut, decided) = watched(&server, seed, Mode::Reset);
        let asked = ask(address(&cut), &input);
        drop(cut);
        let is_reset = decided.try_iter().any(|one| one.decision == Decision::Reset);
        match asked {
            Ok(answer) => {
                assert!(answer == whole, "seed {seed}: {} bytes, and no error", answer.len());
                unhurt += 1;
            }
            Err(error) => {
                let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(is_reset && kinds.contains(&error.kind()), "seed {seed}: {error}");
                broken += 1;
            }
        }
    }
    assert!(broken > 20 && unhurt > 20, "{broken} broken, {unhurt} unhurt");
}

#[test]
fn a_message_that_is_cut_short_is_never_an_answer() {
    let server = turning(Length32);
    let question = "x".repeat(300) + "y";
    let turned = "y".to_owned() + &"x".repeat(300);
    let (mut short, mut whole) = (0, 0);
    for behind in (0..=310).step_by(5) {
        let cut = relay(&server).mode(Mode::Truncate).at(behind).start().unwrap();
        let client =
            BlockingClient::connect_with(cut.addr(0), Length32, ClientOptions::default()).unwrap();
        match client.call(question.clone()).within(DEADLINE).send() {
            Ok(answer) => {
                assert_eq!(answer, turned.as_bytes());
                whole += 1;
            }
            Err(error) => {
                let code = error.code();
                assert!(matches!(code, Code::Reset | Code::Truncated), "behind {behind}: {error}");
                short += 1;
            }
        }
    }
    assert!(short > 50 && whole > 0, "{short} short, {whole} whole");
}

#[test]
fn what_goes_before_a_cut_arrives_and_nothing_behind_it() {
    let server = counting();
    let input = noise(3, 1_000);
    // In front of the first byte both ways would be cut.
    for behind in [1, 500, 999] {
        let cut = relay(&server).mode(Mode::Truncate).at(behind).start().unwrap();
        // The sender is reset, whatever the receiver makes of the rest.
        let error = ask(address(&cut), &input).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{error}"
        );
    }
    // The receiver reads a clean end: here it is the client, whose answer is cut.
    let talker = stream(async |mut conn: Conn| {
        conn.write_all(b"0123456789").await?;
        // The reset of its end is what it waits for.
        drop(conn.read(&mut [0]).await);
        Ok(())
    });
    let talker = Server::streams(talker).listen(ANY).threads(1).start().unwrap();
    for behind in 1..=10_usize {
        let cut = relay(&talker).mode(Mode::Truncate).at(behind as u64).start().unwrap();
        let mut client = TcpStream::connect(address(&cut)).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, &b"0123456789"[..behind]);
    }
}

#[test]
fn a_target_that_is_not_there_resets_the_client() {
    let gone = address(&counting());
    let cut = Cut::to(format!("tcp://{gone}")).unwrap().listen(ANY).start().unwrap();
    let error = ask(address(&cut), b"hello").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

#[test]
fn an_end_that_comes_by_itself_is_passed_on_as_it_is() {
    let rude = stream(async |mut conn: Conn| {
        conn.write_all(b"part").await?;
        conn.abort();
        Ok(())
    });
    let rude = Server::streams(rude).listen(ANY).threads(1).start().unwrap();
    let cut = relay(&rude).start().unwrap();
    let mut client = TcpStream::connect(address(&cut)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut heard = Vec::new();
    let error = client.read_to_end(&mut heard).unwrap_err();
    assert_eq!((heard.as_slice(), error.kind()), (&b"part"[..], ErrorKind::ConnectionReset));
}

#[test]
fn unix_streams_are_cut_too_and_datagrams_are_not() {
    let name = format!("unix:@adit-cut-{}", std::process::id());
    let server = turning(Lines::new());
    let cut = relay(&server).listen(name.as_str()).seed(5).start().unwrap();
    let client = BlockingClient::connect(name.as_str()).unwrap();
    assert_eq!(client.call("abc").send().unwrap(), "cba");
    drop(cut);
    let error = Cut::to("udp://127.0.0.1:7").unwrap_err();
    assert_eq!(error.code(), Code::Usage);
    let error = relay(&server).listen("udp://127.0.0.1:0").start().unwrap_err();
    assert_eq!(error.code(), Code::Usage);
}
