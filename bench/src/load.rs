//! Clients by the thousand on one thread: a crowd whose members wait for their answers, and one that comes
//! at a rate, whatever becomes of those before.

use std::cell::RefCell;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::measure::Samples;

/// An answer that comes later is none to whoever asked.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// What became of those who asked.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How long answers took that came in time.
    pub(crate) good: Samples,
    /// How long it took to be turned away.
    pub(crate) refused: Samples,
    /// No answer within the deadline.
    pub(crate) late: usize,
}

enum End {
    Good,
    Refused,
    Late,
}

impl Outcome {
    fn note(&mut self, end: &End, took: Duration) {
        match end {
            End::Good => self.good.push(took),
            End::Refused => self.refused.push(took),
            End::Late => self.late += 1,
        }
    }
}

/// Runs clients to their end on this thread.
pub(crate) fn run<T>(clients: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, clients)
}

/// So many clients, each of which asks again when it is answered. `anew` is with a connection for each
/// question.
pub(crate) async fn crowd(
    address: SocketAddr,
    clients: usize,
    within: Duration,
    anew: bool,
) -> Outcome {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let until = Instant::now() + within;
    let members = (0..clients).map(|number| {
        let outcome = Rc::clone(&outcome);
        tokio::task::spawn_local(async move {
            let mut kept = None;
            while Instant::now() < until {
                let start = Instant::now();
                let asked = timeout_at(start + DEADLINE, ask(&mut kept, address, number)).await;
                let end = asked.unwrap_or(End::Late);
                outcome.borrow_mut().note(&end, start.elapsed());
                // An answer that is late would be taken for the next one's.
                if anew || matches!(end, End::Late) {
                    kept = None;
                }
            }
        })
    });
    for member in members.collect::<Vec<_>>() {
        member.await.unwrap();
    }
    outcome.take()
}

/// So many newcomers a second, each of which asks once. Their time runs from when they were to come, so
/// that clients who are late themselves make nothing look better. Those who come before it has settled
/// are not counted.
pub(crate) async fn newcomers(
    address: SocketAddr,
    rate: f64,
    (settle, within): (Duration, Duration),
) -> Outcome {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let (start, every) = (Instant::now(), Duration::from_secs_f64(1.0 / rate));
    let mut coming = Vec::new();
    let counted = start + settle;
    for number in 0.. {
        let due = start + every * number;
        if due > counted + within {
            break;
        }
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let outcome = Rc::clone(&outcome);
        coming.push(tokio::task::spawn_local(async move {
            let asked = timeout_at(due + DEADLINE, ask(&mut None, address, number as usize)).await;
            if due >= counted {
                outcome.borrow_mut().note(&asked.unwrap_or(End::Late), due.elapsed());
            }
        }));
    }
    for newcomer in coming {
        newcomer.await.unwrap();
    }
    outcome.take()
}

/// Asks over the connection that is kept, or over a new one.
async fn ask(kept: &mut Option<TcpStream>, address: SocketAddr, number: usize) -> End {
    let stream = match kept {
        Some(stream) => stream,
        None => match connect(address, number).await {
            Ok(stream) => kept.insert(stream),
            Err(_) => return End::Refused,
        },
    };
    let mut answer = [0; 6];
    let asked = async {
        stream.write_all(b"small\n").await?;
        stream.read_exact(&mut answer).await
    };
    match asked.await {
        Ok(_) => End::Good,
        Err(_) => {
            *kept = None;
            End::Refused
        }
    }
}

/// The server is on all addresses of loopback: each of them has ports of its own for its clients.
async fn connect(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let last = u8::try_from(number % 8).unwrap() + 1;
    let address = SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), address.port());
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
