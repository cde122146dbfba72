//! Slide 1, client-server architecture: the server is always on, its address is permanent, clients talk
//! to it and not to each other.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use adit::prelude::*;
use rustix::process::Signal;

use crate::common::{DEADLINE, Program, Server as Served, adit, bounded, run, serve};
use crate::look::{events, number, of_kind, sockets_of, time_used, watch};

fn connect(address: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect(address).unwrap())
}

/// Sends a text, ends our direction and reads the answer to its end; an error if it was broken off.
fn ask(mut stream: TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map(|_| answer)
}

#[test]
fn lecture_s01_a_handler_that_panics_ends_its_own_conversation_and_no_other() {
    drop(adit::system::descriptors::raise_limit());
    let (watch, seen) = watch();
    let echo = fast(|msg, out| {
        if msg.ends_with(b"panic") {
            panic!("on purpose");
        }
        out.send(msg);
    });
    let server = Server::new(echo).observe(watch).listen("tcp://127.0.0.1:0", Lines::new());
    let server = server.start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let (mut right, mut codes) = (0, Vec::new());
    for wave in 0..4 {
        // 250 at once, every hundredth with the message that the handler does not survive.
        let clients: Vec<_> = (0..250).map(|number| (number, connect(address))).collect();
        for (number, client) in clients {
            let number = wave * 250 + number;
            if number % 100 == 50 {
                assert_eq!(ask(client, &format!("{number} panic")).unwrap_or_default(), "");
            } else {
                let text = format!("{number}\n");
                assert_eq!(ask(client, &text).unwrap(), text);
                right += 1;
            }
        }
        codes.extend((0..250).map(|_| seen.next("close")["code"].as_str().unwrap().to_owned()));
    }
    let panics = codes.iter().filter(|code| *code == "panic").count();
    let clean = codes.iter().filter(|code| *code == "ok").count();
    assert_eq!((right, clean, panics), (990, 990, 10));
}

#[test]
fn lecture_s01_clients_that_leave_in_the_middle_do_not_end_the_server() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    for number in 0..100 {
        let mut client = connect(server.tcp());
        client.write_all(b"half a li").unwrap();
        if number % 2 == 0 {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    assert_eq!(ask(connect(server.tcp()), "hello\n").unwrap(), "HELLO\n");
    assert_eq!(server.stop().status, 0);
}

#[test]
fn lecture_s01_with_64_descriptors_250_clients_are_all_served_in_the_end() {
    let script = "ulimit -n 64; exec \"$@\" 3>\"$READY\"";
    let mut server = Served::start(script, &["echo", "127.0.0.1:0", "--max-conns=off"]);
    // More than the server has descriptors for: those it has no room for wait in the kernel's queue. A
    // tenth is kept for other things.
    let mut clients: Vec<_> = (0..250).map(|_| connect(server.tcp())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    // The first ones are served; with all the others waiting, the server has nothing to do. This sleep
    // measures and waits for nothing: 5 hundredths of the second are 5 % of a processor.
    assert!(clients[20].peek(&mut [0; 2]).unwrap() > 0);
    let used = time_used(server.program.id());
    std::thread::sleep(Duration::from_secs(1));
    let used = time_used(server.program.id()) - used;
    assert!(used <= 5, "{used} % of a processor");
    for client in &clients {
        client.shutdown(Shutdown::Write).unwrap();
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("{number}\n"));
    }
    assert!(server.program.is_running());
    let ran = server.stop();
    assert_eq!(ran.status, 0);
    assert!(ran.err.lines().count() < 10, "{}", ran.err);
}

#[test]
fn lecture_s01_conversations_finish_after_sigterm() {
    let mut server = serve(&["upper", "127.0.0.1:0", "--json"]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // A small window, so that answers wait on the server's side.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.tcp().into()).unwrap();
    let mut client = bounded(socket.into());
    client.write_all(&[b'a'; 200_000]).unwrap();
    let mut idle = connect(server.tcp());
    server.program.err.wait_for("\"ev\":\"open\",\"conn\":2");
    server.program.signal(Signal::TERM);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer == vec![b'A'; 200_000], "{} bytes", answer.len());
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    drop((client, idle));
    let ran = server.program.wait();
    let events = events(&ran.err);
    assert_eq!(ran.status, 0);
    assert!(of_kind(&events, "close").all(|close| close["code"] == "drained"), "{events:?}");
}

/// Says that this process is the server of the test below, not the test.
const IS_SERVER: &str = "ADIT_LECTURE_S02_IS_SERVER";

/// The parent holds the port, servers come and go: each is this same test in another process, which
/// takes the listening socket from its standard input and is killed by -9. Clients connect all the
/// while. What the killed server had accepted is lost, one request of each client at most, and the
/// client knows; a connection that no server had accepted yet waits for the next one.
#[test]
fn lecture_s02_the_port_outlives_the_servers_behind_it() {
    const CLIENTS: usize = 4;
    const KILLS: usize = 5;
    if std::env::var_os(IS_SERVER).is_some() {
        serve_on_standard_input();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answers, answered) = sync_channel(1000);
    let (lost, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut pids = BTreeSet::new();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask_for_ever(address, &answers.clone(), &lost, &over));
        }
        for kill in 0..=KILLS {
            let mut server = Program::start_with_input(adit::system::child::ends_with_us(
                Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "architecture::lecture_s02_the_port_outlives_the_servers_behind_it",
                    ])
                    .arg("--nocapture")
                    .env(IS_SERVER, "1")
                    .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap()))),
            ));
            let pid = server.id().to_string();
            let mut answers_of_this_one = 0;
            while answers_of_this_one < 50 {
                let said: String = answered.recv_timeout(DEADLINE).unwrap();
                answers_of_this_one += u32::from(said == pid);
                pids.insert(said);
            }
            over.store(kill == KILLS, Relaxed);
            server.signal(Signal::KILL);
            server.wait();
        }
        // Lets go of clients that still wait to be answered.
        drop((answered, listener));
    });
    assert_eq!(pids.len(), KILLS + 1);
    let lost = lost.into_inner() as usize;
    assert!(lost <= CLIENTS * (KILLS + 1), "{lost} requests lost");
}

fn serve_on_standard_input() -> ! {
    let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let pid = fast(|_, out| out.send(std::process::id().to_string()));
    let listener = TcpListener::from(listener);
    Server::new(pid).listen_on(listener, Lines::new()).start().unwrap().detach();
    loop {
        std::thread::park();
    }
}

/// One connection and one question after the other. A connect that is refused fails the test, a
/// question that is not answered counts as lost.
fn ask_for_ever(
    address: SocketAddr,
    answers: &SyncSender<String>,
    lost: &AtomicU32,
    over: &AtomicBool,
) {
    while !over.load(Relaxed) {
        let client = match TcpStream::connect(address) {
            Ok(client) => bounded(client),
            // The parent has closed the port: the test is over.
            Err(_) if over.load(Relaxed) => return,
            Err(error) => panic!("refused: {error}"),
        };
        let mut answer = String::new();
        let asked = (&client).write_all(b"who\n");
        let read = asked.and_then(|()| BufReader::new(&client).read_line(&mut answer));
        if read.is_ok() && answer.ends_with('\n') {
            let pid = answer.trim_end().to_owned();
            if answers.send(pid).is_err() {
                return;
            }
        } else {
            lost.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn lecture_s05_the_end_of_input_is_a_half_close_and_the_answer_is_awaited() {
    let server = serve(&["upper", "127.0.0.1:0", "--json"]);
    let ran = run(&mut adit(&["connect", server.place("tcp")]), b"hello\nlast line without end");
    ran.assert_clean("HELLO\nLAST LINE WITHOUT END");
    let told = events(&server.stop().err);
    // Our end came to the server as an end of its own, before the connection was closed.
    let half: Vec<_> = of_kind(&told, "half_close").map(|event| event["dir"].clone()).collect();
    assert_eq!(half.first().unwrap(), "in", "{told:?}");
    let close = of_kind(&told, "close").next().unwrap();
    assert_eq!((&close["code"], number(close, "in")), (&"ok".into(), 27));
}

#[test]
fn lecture_s08_clients_meet_only_through_the_server() {
    let chat = serve(&["chat", "127.0.0.1:0", "--json"]);
    let mut clients: Vec<_> =
        (0..3).map(|_| Program::start(&mut adit(&["connect", chat.place("tcp")]))).collect();
    for (number, client) in (1..).zip(&mut clients) {
        chat.program.err.wait_for(&format!("\"ev\":\"open\",\"conn\":{number},"));
        client.write(b"here\n");
    }
    for number in 1..=3 {
        // What it said has been heard, so it has its seat.
        chat.program.err.wait_for(&format!("\"ev\":\"data\",\"conn\":{number},"));
    }
    for (number, client) in (1..).zip(&mut clients) {
        client.write(format!("from {number}\n").as_bytes());
    }
    for (number, client) in (1..).zip(&clients) {
        for other in (1..=3).filter(|other| *other != number) {
            client.out.wait_for(&format!(": from {other}\n"));
        }
    }
    for client in &clients {
        let sockets = sockets_of(client.id(), "tcp");
        let remotes: Vec<_> = sockets.iter().map(|socket| socket.remote).collect();
        assert_eq!(remotes, [chat.tcp()], "a client talks to the server and to nobody else");
    }
    clients.iter_mut().for_each(Program::end_input);
    assert_eq!(chat.stop().status, 0);
    for (number, client) in (1..).zip(&mut clients) {
        let heard = client.wait().text();
        for other in 1..=3 {
            let times = heard.matches(&format!(": from {other}\n")).count();
            assert_eq!(times, usize::from(other != number), "{number} heard {heard:?}");
        }
    }
}

#[test]
fn lecture_s08_a_service_that_does_not_relay_keeps_its_clients_apart() {
    let echo = serve(&["echo", "127.0.0.1:0"]);
    let mut clients: Vec<_> =
        (0..3).map(|_| Program::start(&mut adit(&["connect", echo.place("tcp")]))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(format!("secret of {number}\n").as_bytes());
        client.out.wait_for("\n");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.end_input();
        client.wait().assert_clean(&format!("secret of {number}\n"));
    }
}
