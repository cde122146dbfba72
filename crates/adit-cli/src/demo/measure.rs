//! TCP and UDP, measured now: plain sockets of the standard library in this process, so that nothing
//! of adit stands between the user and what the kernel does.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use adit::Result;
use adit::system::unread;

use super::input::Input;
use super::internal;
use super::table::thousands;

/// Lines that are sent one by one, and their bytes: what fits any socket buffer.
const LINES_MAX: usize = 100;
const LINES_BYTES_MAX: usize = 60_000;
/// One large write, and what one read may take of it.
const LARGE: usize = 1_000_000;
const READ: usize = 16_384;
/// A burst to a reader that sleeps.
const BURST: usize = 1_000;
const BURST_BYTES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// The table, and what it cost.
pub(super) struct Measured {
    pub(super) text: String,
    pub(super) datagrams_lost: usize,
}

/// Measures.
pub(super) fn measure(input: &Input) -> Result<Measured> {
    run(input).map_err(|error| internal(&format!("measuring failed: {error}")))
}

fn run(input: &Input) -> io::Result<Measured> {
    let lines = some_lines(input);
    let whose = match (lines.len(), input.lines.len()) {
        (1, 1) => "your line, sent at once".to_owned(),
        (some, all) if some == all => format!("your {some} lines, sent one by one"),
        (some, _) => format!("{some} of your lines, one by one"),
    };
    let together = one_read(&lines)?;
    let edges = edges(&lines)?;
    let reads = many_reads()?;
    let refused = too_long()?;
    let kept = burst_over_tcp()?;
    let arrived = burst_over_udp()?;
    let row = |what: &str, tcp: &str, udp: &str| {
        format!("   {what:<35}{tcp:<20}{udp}").trim_end().to_owned()
    };
    let rows = [
        format!(
            "{:<38}{:<20}{}",
            "4. TCP and UDP, measured now", "TCP byte stream", "UDP datagrams"
        ),
        row(&whose, &format!("{} write()", lines.len()), &format!("{} sendto()", lines.len())),
        row("  read late, with a big buffer", &together, &edges),
        row("1,000,000 B in one write()", &reads, &refused),
        row(
            "1,000 x 100 B to a sleeping reader",
            &format!("{} B, in order", thousands(kept)),
            &format!("{arrived} arrived, {} lost", BURST - arrived),
        ),
        row("", "nothing lost", "receive queue was full"),
    ];
    let text = rows.join("\n") + "\n\n";
    Ok(Measured { text, datagrams_lost: BURST - arrived })
}

fn some_lines(input: &Input) -> Vec<&[u8]> {
    let mut bytes = 0;
    let fits = |line: &&Vec<u8>| {
        let fits = bytes + line.len() < LINES_BYTES_MAX;
        bytes += if fits { line.len() + 1 } else { 0 };
        fits
    };
    input.lines.iter().filter(fits).take(LINES_MAX).map(Vec::as_slice).collect()
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let welcome_socket = TcpListener::bind("127.0.0.1:0")?;
    let client_socket = TcpStream::connect(welcome_socket.local_addr()?)?;
    let (connection_socket, _) = welcome_socket.accept()?;
    connection_socket.set_read_timeout(Some(PATIENCE))?;
    client_socket.set_write_timeout(Some(PATIENCE))?;
    client_socket.set_nodelay(true)?;
    Ok((client_socket, connection_socket))
}

fn datagram_pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let server_socket = UdpSocket::bind("127.0.0.1:0")?;
    let client_socket = UdpSocket::bind("127.0.0.1:0")?;
    client_socket.connect(server_socket.local_addr()?)?;
    server_socket.set_read_timeout(Some(PATIENCE))?;
    Ok((client_socket, server_socket))
}

/// Many writes, one read. The reader waits until the kernel says that everything is there.
fn one_read(lines: &[&[u8]]) -> io::Result<String> {
    let (mut client_socket, mut connection_socket) = pair()?;
    let mut sent = 0;
    for line in lines {
        client_socket.write_all(&[line, &b"\n"[..]].concat())?;
        sent += line.len() + 1;
    }
    let began = Instant::now();
    while unread(&connection_socket)? < sent {
        if began.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::yield_now();
    }
    if sent == 0 {
        return Ok("nothing to read".to_owned());
    }
    let mut buffer = vec![0; LINES_BYTES_MAX + 1];
    let bytes = connection_socket.read(&mut buffer)?;
    Ok(format!("1 read() of {} B", thousands(bytes)))
}

/// As many datagrams received as sent, each with its own size.
fn edges(lines: &[&[u8]]) -> io::Result<String> {
    let (client_socket, server_socket) = datagram_pair()?;
    let mut sizes = Vec::new();
    let mut buffer = vec![0; 65_536];
    for line in lines {
        client_socket.send(line)?;
        // Received at once, so that a full queue cannot spoil the count.
        sizes.push(server_socket.recv_from(&mut buffer)?.0);
    }
    let text = sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
    let count = sizes.len();
    Ok(if text.len() <= 10 {
        format!("{count} recvfrom() {text}")
    } else {
        format!("{count} recvfrom()")
    })
}

/// One write, many reads; what arrives is compared byte by byte.
fn many_reads() -> io::Result<String> {
    let (mut client_socket, mut connection_socket) = pair()?;
    let sent: Vec<u8> = (0..=250_u8).cycle().take(LARGE).collect();
    let (reads, received) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| client_socket.write_all(&sent));
        let (mut reads, mut received, mut buffer) = (0, Vec::with_capacity(LARGE), vec![0; READ]);
        while received.len() < LARGE {
            let bytes = connection_socket.read(&mut buffer)?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&buffer[..bytes]);
            reads += 1;
        }
        writing.join().map_err(|_panic| io::ErrorKind::Other)??;
        io::Result::Ok((reads, received))
    })?;
    if received != sent {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(format!("{reads} read(), equal"))
}

fn too_long() -> io::Result<String> {
    let (client_socket, _server_socket) = datagram_pair()?;
    match client_socket.send(&vec![0; LARGE]) {
        Err(_) => Ok("refused, limit 65,507".to_owned()),
        Ok(bytes) => Ok(format!("sent {}", thousands(bytes))),
    }
}

/// Everything is kept until the reader wakes up, and comes in order.
fn burst_over_tcp() -> io::Result<usize> {
    let (mut client_socket, mut connection_socket) = pair()?;
    let numbered = |number: usize| format!("{number:0>BURST_BYTES$}").into_bytes();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for number in 0..BURST {
                client_socket.write_all(&numbered(number))?;
            }
            io::Result::Ok(())
        });
        writing.join().map_err(|_panic| io::ErrorKind::Other)?
    })?;
    let mut received = Vec::new();
    connection_socket.read_to_end(&mut received)?;
    let expected: Vec<u8> = (0..BURST).flat_map(numbered).collect();
    if received != expected {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(received.len())
}

/// What the receive queue has no room for is gone.
fn burst_over_udp() -> io::Result<usize> {
    let (client_socket, server_socket) = datagram_pair()?;
    for _ in 0..BURST {
        client_socket.send(&[b'x'; BURST_BYTES])?;
    }
    server_socket.set_nonblocking(true)?;
    let mut arrived = 0;
    while server_socket.recv(&mut [0; BURST_BYTES]).is_ok() {
        arrived += 1;
    }
    Ok(arrived)
}
