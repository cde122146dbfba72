//! `adit wait`: until a port is open, closed or answering.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use adit::address::{Place, Role};
use adit::endpoint::Transport;
use adit::system::diag;
use adit::{Address, Blame, Code, Dial, Error};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::args::{Client, Connect, Net, Tls, Until, Wait};
use crate::complaint::usage;
use crate::exit::Exit;
use crate::runtime::{self, Patience, Signals};
use crate::say::{Part, Voice};
use crate::{resolve, secure};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two datagrams.
const SEND_EVERY: Duration = Duration::from_millis(250);

/// Runs the command.
pub(crate) fn run(args: &Wait) -> Exit {
    let voice = Voice::new(&args.talk, Part::Onlooker, adit::event::Payload::None);
    let waited = resolve::all(&args.words, &args.net, Role::Connect).and_then(|mut addresses| {
        secure::clients(&mut addresses, &args.tls, &voice)?;
        let onlooker = Onlooker::new(&args.net, &args.client, &args.tls);
        runtime::block_on(async {
            let mut signals = Signals::ends(Patience::NONE);
            tokio::select! {
                ended = wait(args, &addresses, &onlooker) => ended,
                signal = signals.end() => Ok(Exit::signal(signal)),
            }
        })?
    });
    waited.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    })
}

/// `connect -z`: looks once.
pub(crate) fn probe(address: &Address, args: &Connect, voice: &Voice) -> adit::Result<Exit> {
    let onlooker = Onlooker::new(&args.net, &args.client, &args.tls);
    let until = default_until(address);
    let seen = runtime::block_on(onlooker.look(address, until, ""))?;
    if seen.is_ok() && voice.is_verbose() {
        voice.note(&format!("{} is open", address.spoken()));
    }
    seen.map(|()| Exit::OK)
}

async fn wait(args: &Wait, addresses: &[Address], onlooker: &Onlooker<'_>) -> adit::Result<Exit> {
    let deadline = Instant::now() + args.period;
    let mut waiting: Vec<&Address> = addresses.iter().collect();
    loop {
        let mut last = None;
        let mut still = Vec::new();
        for address in waiting {
            let until = args.until.unwrap_or_else(|| default_until(address));
            let look = onlooker.look(address, until, &args.send);
            let seen = if args.once {
                look.await
            } else {
                timeout_at(deadline, look).await.unwrap_or_else(|_| Err(no_answer(address)))
            };
            match seen {
                Ok(()) if args.any => return Ok(Exit::OK),
                Ok(()) => {}
                Err(error) if matches!(error.code(), Code::Usage | Code::Config) => {
                    return Err(error);
                }
                Err(error) => {
                    last = Some(if args.once { resolve::advise(error, address) } else { error });
                    still.push(address);
                }
            }
        }
        waiting = still;
        let Some(last) = last else { return Ok(Exit::OK) };
        if args.once {
            return Err(last);
        }
        if Instant::now() + LOOK_EVERY > deadline {
            let names: Vec<_> = waiting.iter().map(|address| address.spoken()).collect();
            let what = format!(
                "{} not {} in {:?}: {}",
                names.join(", "),
                state(args.until.unwrap_or_else(|| default_until(waiting[0]))),
                args.period,
                last.code()
            );
            let hint = "more time: --for TIME";
            return Err(Error::new(Code::WaitTimeout, Blame::Peer, what).with_hint(hint));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn default_until(address: &Address) -> Until {
    if address.transport.is_datagram() { Until::Reply } else { Until::Open }
}

fn state(until: Until) -> &'static str {
    match until {
        Until::Open => "open",
        Until::Closed => "closed",
        Until::Reply => "replying",
    }
}

fn no_answer(address: &Address) -> Error {
    let what = format!("no answer from {}", address.spoken());
    let hint = "what it answers to can be sent: --send TEXT";
    let error = Error::new(Code::NoAnswer, Blame::Peer, what);
    if address.transport.is_datagram() { error.with_hint(hint) } else { error }
}

/// Looks at addresses.
struct Onlooker<'a> {
    dial: Dial,
    net: &'a Net,
}

impl<'a> Onlooker<'a> {
    fn new(net: &'a Net, client: &Client, tls: &Tls) -> Self {
        Self { dial: resolve::dial(net, client, tls), net }
    }

    /// Is it so now? An error says what was seen instead.
    async fn look(&self, address: &Address, until: Until, send: &str) -> adit::Result<()> {
        match (until, address.transport.is_datagram()) {
            (Until::Reply, true) => self.reply(address, send).await,
            (Until::Open, true) => {
                let what = "whether a datagram port is open cannot be seen";
                Err(usage(what, "wait for an answer: --until reply"))
            }
            (Until::Reply, false) => {
                let what = "--until reply is for datagrams: a stream is open or not";
                Err(usage(what, "leave it out, or wait over UDP: -u"))
            }
            (Until::Open, false) => self.open(address).await,
            (Until::Closed, true) => match self.reply(address, send).await {
                Err(error) if error.code() == Code::Refused => Ok(()),
                _ => Err(no_answer(address)),
            },
            (Until::Closed, false) => match self.open(address).await {
                Ok(()) => {
                    let what = format!("{} is still open", address.spoken());
                    Err(Error::new(Code::NoAnswer, Blame::Peer, what))
                }
                Err(error) if error.code() == Code::Refused => Ok(()),
                Err(error) => Err(error),
            },
        }
    }

    /// Is a stream open? On this host the kernel is asked first, and the server does not hear of it: it
    /// would take us for a client, and one that is fed by a pipe would give us its first piece.
    async fn open(&self, address: &Address) -> adit::Result<()> {
        if on_loopback(address, self.net).into_iter().any(diag::is_listening) {
            return Ok(());
        }
        // Whatever the kernel has not told, trying does.
        self.dial.connect(address).await.map(drop)
    }

    /// Sends a datagram and waits a moment for any answer.
    async fn reply(&self, address: &Address, send: &str) -> adit::Result<()> {
        let socket = self.dial.datagrams(address).await?;
        let ask = async {
            socket.send(send.as_bytes()).await?;
            socket.recv().await
        };
        match timeout(SEND_EVERY, ask).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(socket.explain(&error)),
            Err(_) => Err(no_answer(address)),
        }
    }
}

/// Where a server of this host would listen; nowhere if it is the handshake of TLS that says whether it
/// is open, or a name whose addresses are not known yet.
fn on_loopback(address: &Address, net: &Net) -> Vec<SocketAddr> {
    let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let places = match (address.transport, address.tls, &address.place) {
        (Transport::Tcp, false, Place::Ip(ip)) if ip.ip().is_loopback() => vec![*ip],
        (Transport::Tcp, false, Place::Loopback(port) | Place::Any(port)) => {
            both.map(|ip| SocketAddr::new(ip, *port)).to_vec()
        }
        _ => Vec::new(),
    };
    let fits = |at: &SocketAddr| if at.is_ipv4() { !net.v6 } else { !net.v4 };
    places.into_iter().filter(fits).collect()
}
