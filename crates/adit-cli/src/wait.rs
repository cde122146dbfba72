//! `adit wait`: until a port is open, closed or answering.

use std::time::Duration;

use adit::address::Role;
use adit::{Address, Blame, Code, Dial, Error};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::args::{Connect, Until, Wait};
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
        let dial = resolve::dial(&args.net, &args.client, &args.tls);
        runtime::block_on(async {
            let mut signals = Signals::ends(Patience::NONE);
            tokio::select! {
                ended = wait(args, &addresses, &dial) => ended,
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
    let dial = resolve::dial(&args.net, &args.client, &args.tls);
    let until = default_until(address);
    let seen = runtime::block_on(look(address, &dial, until, ""))?;
    if seen.is_ok() && voice.is_verbose() {
        voice.note(&format!("{} is open", address.spoken()));
    }
    seen.map(|()| Exit::OK)
}

async fn wait(args: &Wait, addresses: &[Address], dial: &Dial) -> adit::Result<Exit> {
    let deadline = Instant::now() + args.period;
    let mut waiting: Vec<&Address> = addresses.iter().collect();
    loop {
        let mut last = None;
        let mut still = Vec::new();
        for address in waiting {
            let until = args.until.unwrap_or_else(|| default_until(address));
            let seen = if args.once {
                look(address, dial, until, &args.send).await
            } else {
                let looked = timeout_at(deadline, look(address, dial, until, &args.send)).await;
                looked.unwrap_or_else(|_| Err(no_answer(address)))
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

/// Is it so now? An error says what was seen instead.
async fn look(address: &Address, dial: &Dial, until: Until, send: &str) -> adit::Result<()> {
    match (until, address.transport.is_datagram()) {
        (Until::Reply, true) => reply(address, dial, send).await,
        (Until::Open, true) => {
            let what = "whether a datagram port is open cannot be seen";
            Err(usage(what, "wait for an answer: --until reply"))
        }
        (Until::Reply, false) => {
            let what = "--until reply is for datagrams: a stream is open or not";
            Err(usage(what, "leave it out, or wait over UDP: -u"))
        }
        (Until::Open, false) => dial.connect(address).await.map(drop),
        (Until::Closed, true) => match reply(address, dial, send).await {
            Err(error) if error.code() == Code::Refused => Ok(()),
            _ => Err(no_answer(address)),
        },
        (Until::Closed, false) => match dial.connect(address).await {
            Ok(_) => {
                let what = format!("{} is still open", address.spoken());
                Err(Error::new(Code::NoAnswer, Blame::Peer, what))
            }
            Err(error) if error.code() == Code::Refused => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// Sends a datagram and waits a moment for any answer.
async fn reply(address: &Address, dial: &Dial, send: &str) -> adit::Result<()> {
    let socket = dial.datagrams(address).await?;
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
