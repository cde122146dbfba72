//! `adit demo`: the lecture's system, run for real on the user's own lines.
//!
//! This same program is started as a server and five clients, each its own process. What is printed
//! comes from them: ports and closes from their events, answers from their standard output. The exit
//! status is 0 only if every answer was right.

mod input;
mod measure;
mod process;
mod table;
mod talk;
mod traces;

use std::time::{Duration, Instant};

use adit::{Blame, Code, Error, Result};

use adit_trace::text::{Options, View};

use crate::args::Demo;
use crate::exit::Exit;
use crate::explain::Output;
use crate::say::{self, Voice};

use input::Input;
use process::{Client, Server};
use table::{Row, thousands};
use talk::Answers;
use traces::Traces;

/// Longest time any part of the demo may take for a short input.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the command.
pub(crate) fn run(args: &Demo) -> Exit {
    let output = Output::new(View::Sequence, Options::default(), args.out.clone());
    match output.and_then(|output| tell(&output)) {
        Ok(()) => Exit::OK,
        Err(error) => {
            Voice::plain().error(&error);
            Exit::of(error.code())
        }
    }
}

/// The story from the first process to the last.
fn tell(output: &Output) -> Result<()> {
    let mut traces = Traces::new(output.is_file())?;
    let began = Instant::now();
    let input = Input::read()?;
    // Long input may take its time: 200 us for each line.
    let lines = u32::try_from(input.lines.len()).unwrap_or(u32::MAX);
    let patience = PATIENCE + Duration::from_micros(200) * lines;
    say::print("adit demo: one server, five clients, TCP and UDP, each its own process");
    say::print(&format!("input: {}; nothing leaves 127.0.0.1", input.description()));
    say::print("");

    let mut server = begin(&mut traces)?;
    let (silent, right, asked) = over_tcp(&mut server, &input, patience, &mut traces)?;
    let (clients, udp_right, udp_asked) = over_udp(&mut server, &input, patience, &mut traces)?;
    let measured = measure::measure(&input)?;
    say::print(&measured.text);
    close(server, silent, clients)?;

    let (right, asked) = (right + udp_right, asked + udp_asked);
    say::print(&format!(
        "ok: {} of {} answers right; TCP lost 0 bytes; UDP lost {} on purpose   {:.1} s\n\n",
        thousands(right),
        thousands(asked),
        thousands(measured.datagrams_lost),
        began.elapsed().as_secs_f64()
    ));
    say::print("Do it yourself, in two terminals:    adit serve upper 7000     adit 7000");
    say::print("From your own code:                  examples and docs/guide.md");
    match traces.story()? {
        Some(story) => output.write(&story, &Voice::plain()),
        None => {
            say::print("See what went over the wire:         adit demo --out demo.html");
            Ok(())
        }
    }
}

fn begin(traces: &mut Traces) -> Result<Server> {
    say::print("1. The server process must first be running");
    let server = Server::start(PATIENCE, &traces.flags())?;
    say::print(&format!("   $ {}    pid {}", server.command(), server.pid()));
    say::print(&format!("   welcomeSocket  tcp {:<21} waiting for clients", server.tcp));
    say::print(&format!("   serverSocket   udp {:<21} one socket for all clients\n\n", server.udp));
    Ok(server)
}

/// Three clients at once, one of which says nothing.
fn over_tcp(
    server: &mut Server,
    input: &Input,
    patience: Duration,
    traces: &mut Traces,
) -> Result<(Client, usize, usize)> {
    say::print("2. TCP: connect first; one new connectionSocket per client, all at once");
    let address = server.tcp.clone();
    let mut clients = Vec::new();
    let mut ports = Vec::new();
    for _ in ["A", "B", "C"] {
        clients.push(Client::start(&address, &traces.flags())?);
        ports.push(server.next_open(patience)?);
    }
    let pids: Vec<String> = clients.iter().map(|client| client.pid().to_string()).collect();
    say::print(&format!(
        "   $ adit connect {address}    clients A, B, C    pid {}",
        pids.join(" ")
    ));
    for (index, (name, port)) in ["A", "B", "C"].iter().zip(&ports).enumerate() {
        let silence = if index == 0 { "   stays silent on purpose" } else { "" };
        let number = index + 1;
        say::print(&format!(
            "   connectionSocket {number}  client {name}  source port {port}{silence}"
        ));
    }
    let (third, second) = (clients.remove(2), clients.remove(1));
    let silent = clients.remove(0);
    let (left, right) = std::thread::scope(|scope| {
        let left = scope.spawn(|| talk::stream(second, "B", input, patience));
        let right = talk::stream(third, "C", input, patience);
        (left.join(), right)
    });
    let left = left.map_err(|_panic| internal("a part of the demo panicked"))??;
    let right = right?;
    for line in table::both("B", "C", &rows(input, &left.shown)) {
        say::print(&line);
    }
    // The silent one is still there: nothing was ever said about it.
    let open = server.open_now();
    if open < 1 {
        return Err(internal("the silent client is not connected any more"));
    }
    say::print("   B and C are served while A waits: 3 connections open at once\n\n");
    Ok((silent, left.right + right.right, left.asked + right.asked))
}

/// Two clients without connections.
fn over_udp(
    server: &mut Server,
    input: &Input,
    patience: Duration,
    traces: &mut Traces,
) -> Result<(Vec<Client>, usize, usize)> {
    say::print("3. UDP: no handshake; every datagram carries its sender's address");
    let address = format!("udp://{}", server.udp);
    let mut clients =
        vec![Client::start(&address, &traces.flags())?, Client::start(&address, &traces.flags())?];
    let pids = format!("{} {}", clients[0].pid(), clients[1].pid());
    say::print(&format!("   $ adit connect {address}    clients D, E    pid {pids}"));
    let (mut right, mut asked) = (0, 0);
    for (index, (name, client)) in ["D", "E"].iter().zip(&mut clients).enumerate() {
        let answers = talk::datagrams(client, name, input, server, patience)?;
        if index == 0 {
            for row in rows(input, &answers.shown) {
                say::print(&table::single(name, answers.port, &row));
            }
        } else {
            let count = thousands(answers.right);
            let port = answers.port.unwrap_or(0);
            say::print(&format!(
                "   {name}  from port {port}    {count} more of the same, all right"
            ));
        }
        for note in &answers.notes {
            say::print(&format!("   {note}"));
        }
        right += answers.right;
        asked += answers.asked;
    }
    say::print("");
    Ok((clients, right, asked))
}

/// The rows that are shown: up to 6 whole, else the first 5, how many more, and the last.
fn rows(input: &Input, shown: &[(Vec<u8>, Vec<u8>)]) -> Vec<Row> {
    let row = |(line, answer): &(Vec<u8>, Vec<u8>)| Row::Line(line.clone(), answer.clone());
    if shown.len() <= 6 {
        return shown.iter().map(row).collect();
    }
    let more = shown.len() - 6;
    let mut rows: Vec<Row> = shown[..5].iter().map(row).collect();
    rows.push(Row::More(more));
    rows.extend(shown.last().map(row));
    debug_assert!(input.lines.len() >= shown.len());
    rows
}

/// Tells the server to stop and waits for every process.
fn close(server: Server, silent: Client, clients: Vec<Client>) -> Result<()> {
    say::print("5. Close");
    server.stop()?;
    silent.finish(PATIENCE)?;
    for client in clients {
        client.finish(PATIENCE)?;
    }
    let end = server.finish(PATIENCE)?;
    say::print(&format!(
        "   server told to stop: finished {} conversations, cut {}, exit {}\n\n",
        end.conversations, end.cut, end.exit
    ));
    if end.exit != 0 || end.cut != 0 {
        return Err(internal(&format!("the server ended with exit {}", end.exit)));
    }
    Ok(())
}

fn internal(what: &str) -> Error {
    Error::new(Code::Internal, Blame::Local, format!("demo: {what}"))
}

/// A wrong or missing answer.
fn wrong(client: &str, line: usize, what: &str) -> Error {
    let what = format!("demo: client {client}, line {line}: {what}");
    Error::new(Code::Handler, Blame::Local, what)
}

impl Answers {
    fn of(asked: usize) -> Self {
        Self { asked, right: 0, shown: Vec::new(), notes: Vec::new(), port: None }
    }
}
