//! `adit serve`: a concurrent server of one of the classical services, or of the person at the
//! keyboard.

mod by_hand;
mod log;
mod services;

use std::io;
use std::time::Duration;

use adit::address::{Role, nearest};
use adit::endpoint::{Reach, Transport};
use adit::system::descriptors::Inherited;
use adit::{Address, Blame, Code, Endpoint, Error, Limit, Limits, Observer, Report, Running, What};
use tokio::sync::mpsc;

use crate::args::Serve;
use crate::complaint::{quoted, usage};
use crate::connect::not_for_streams;
use crate::exit::{Exit, SIGTERM};
use crate::resolve;
use crate::runtime::{self, Signals};
use crate::say::{self, Voice};

use log::Log;
use services::Service;

/// How long the close of conversations may take after SIGINT.
const DRAIN_AT_KEYBOARD: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) fn run(args: &Serve) -> Exit {
    // Before anything else is opened, which could get the number.
    let ready = args.ready_fd.map(|number| (number, Inherited::take(number)));
    let voice = Voice::of_talk(&args.talk);
    let served = Ready::checked(args, ready).and_then(|ready| {
        let plan = plan(args)?;
        // With the old limit the server serves fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(serve(args, plan, ready, &voice))?
    });
    served.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    })
}

/// What to serve where.
struct Plan {
    service: Option<Service>,
    streams: Vec<Address>,
    datagrams: Vec<Address>,
    once: bool,
}

fn plan(args: &Serve) -> adit::Result<Plan> {
    let service = args.words.first().and_then(|word| Service::named(word));
    let words = if service.is_some() { &args.words[1..] } else { &args.words[..] };
    if words.is_empty() {
        let hint = format!("adit serve {} 7000", args.words[0]);
        return Err(usage("where to serve is missing", &hint));
    }
    no_such_service(args, service)?;
    one_service(args, service, words)?;
    let addresses = resolve::all(words, &args.net, Role::Listen)?;
    let (datagrams, streams): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.transport.is_datagram());
    if let (Some(service), Some(address)) = (service, datagrams.first())
        && !service.fits_datagrams()
    {
        let (name, spoken) = (service.name(), address.spoken());
        let what = format!("{name} over {spoken} would flood whoever is named as the sender");
        return Err(Error::new(Code::Unsafe, Blame::Caller, what)
            .with_hint(format!("over TCP: adit serve {name} 7000")));
    }
    frame_has_use(args, service, &datagrams)?;
    Ok(Plan { service, streams, datagrams, once: args.once })
}

async fn serve(args: &Serve, plan: Plan, ready: Ready, voice: &Voice) -> adit::Result<Exit> {
    // Whoever is told that the server is ready may signal it at once.
    let mut signals = Signals::ends_and_report();
    let (once, first_end) = mpsc::channel(1);
    let once = Once(args.once.then_some(once));
    let limits = limits(args, plan.service);
    let observers = (Log::new(voice), voice.clone(), once);
    let mut hand = None;
    let servers = match plan.service {
        Some(service) => services::start(service, &plan, limits, observers)?,
        None => {
            let (servers, desk) = by_hand::start(args, &plan, limits, observers, voice)?;
            hand = Some(desk);
            servers
        }
    };
    announce(args, &servers, ready, voice)?;
    let ended = tokio::select! {
        exit = until_told(&mut signals, &servers, first_end, voice) => exit,
        code = by_hand::attend(hand.as_mut()) => End::Once(code),
    };
    let within = match ended {
        End::Signal(SIGTERM) => args.drain,
        _ => DRAIN_AT_KEYBOARD,
    };
    let exit = tokio::select! {
        exit = stop(within, servers, ended, voice) => exit?,
        // A second signal ends it at once.
        signal = signals.end() => return Ok(Exit::signal(signal)),
        // What clients still say is printed meanwhile; when nobody reads it, there is nothing to wait for.
        code = by_hand::attend(hand.as_mut()) => return Ok(Exit::of(code)),
    };
    match hand {
        // What clients said and nobody could read is no clean end.
        Some(desk) => Ok(desk.finish().await.map_or_else(Exit::of, |()| exit)),
        None => Ok(exit),
    }
}

/// A bare word in front that is no service was perhaps meant as one.
fn no_such_service(args: &Serve, service: Option<Service>) -> adit::Result<()> {
    let first = &args.words[0];
    let is_word = !first.is_empty() && first.chars().all(|char| char.is_ascii_alphabetic());
    if service.is_some() || args.net.unix || !is_word || first == "localhost" {
        return Ok(());
    }
    let near = nearest(first, services::names());
    let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let what = format!("unknown service {}{near}", quoted(first));
    let names = services::names().collect::<Vec<_>>().join(", ");
    Err(usage(what, &format!("there are {names}; a host is written {first}:PORT")))
}

/// A service behind a service would be taken for a host.
fn one_service(args: &Serve, service: Option<Service>, words: &[String]) -> adit::Result<()> {
    let Some(more) = words.iter().find(|word| Service::named(word).is_some()) else {
        return Ok(());
    };
    let what = match service {
        Some(service) => format!("two services, \"{}\" and \"{more}\"", service.name()),
        None => format!("the service \"{more}\" stands behind an address"),
    };
    let hint = match service {
        Some(_) => format!("one command for each; a host is written {more}:PORT"),
        None => format!("adit serve {more} {}; a host is written {more}:PORT", args.words[0]),
    };
    Err(usage(what, &hint))
}

/// A flag that does nothing is refused rather than passed over.
fn frame_has_use(
    args: &Serve,
    service: Option<Service>,
    datagrams: &[Address],
) -> adit::Result<()> {
    match (&args.frame, service) {
        (None, _) => Ok(()),
        (Some(_), Some(service)) => {
            let what =
                format!("--frame is for talking by hand: {} has its own messages", service.name());
            Err(usage(what, "leave it out"))
        }
        (Some(frame), None) if datagrams.is_empty() => Err(not_for_streams(frame)),
        _ => Ok(()),
    }
}

/// Why a server ends.
enum End {
    Signal(i32),
    /// `--once`: the conversation ended with this code; or standard output is gone.
    Once(Code),
    Broken(Error),
}

async fn until_told(
    signals: &mut Signals,
    servers: &[Running],
    mut first_end: mpsc::Receiver<(Code, String)>,
    voice: &Voice,
) -> End {
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Some(signal) => return End::Signal(signal),
                None => servers.iter().for_each(|server| voice.warn(&counts(&server.stats()))),
            },
            // Without --once nobody sends.
            Some((code, peer)) = first_end.recv() => {
                // The status is that of this conversation: it says why.
                if !code.is_clean() {
                    let hint = "what happened: -v or --json";
                    voice.warn(&format!("conversation with {peer} ended (code={code}); {hint}"));
                }
                return End::Once(code);
            }
            error = broken(servers) => return End::Broken(error),
        }
    }
}

async fn broken(servers: &[Running]) -> Error {
    match servers {
        [] => std::future::pending().await,
        [one] => one.broken().await,
        [one, two, ..] => tokio::select! {
            error = one.broken() => error,
            error = two.broken() => error,
        },
    }
}

fn counts(stats: &adit::Stats) -> String {
    format!(
        "{} open, {} in all, {} not clean, {} refused, {} messages dropped, in {} B, out {} B",
        stats.open,
        stats.conversations,
        stats.failed,
        stats.refused,
        stats.dropped,
        stats.bytes_in,
        stats.bytes_out
    )
}

/// Drains and says how it went.
async fn stop(
    within: Duration,
    servers: Vec<Running>,
    end: End,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut total = adit::Stats::default();
    let (mut finished, mut cut) = (0, 0);
    for server in servers {
        let Drained { report, stats } = drain(server, within).await;
        cut += report.cut;
        finished += report.finished;
        total.conversations += stats.conversations;
        total.failed += stats.failed;
        total.dropped += stats.dropped;
        total.bytes_in += stats.bytes_in;
        total.bytes_out += stats.bytes_out;
    }
    let exit = match end {
        End::Signal(SIGTERM) if cut == 0 => Exit::of(Code::Drained),
        End::Signal(signal) => Exit::signal(signal),
        End::Once(code) => Exit::of(code),
        End::Broken(ref error) => Exit::of(error.code()),
    };
    if matches!(end, End::Signal(_)) && (voice.is_watched() || voice.is_verbose() || cut > 0) {
        voice.note(&format!("told to stop: finished {finished} conversations, cut {cut}"));
    }
    voice.emit(
        None,
        What::Summary {
            conversations: total.conversations,
            bytes_in: total.bytes_in,
            bytes_out: total.bytes_out,
            errors: total.failed,
            dropped: total.dropped,
            exit: exit.status(),
            code: exit.code,
        },
    );
    match end {
        End::Broken(error) => Err(error),
        _ => Ok(exit),
    }
}

struct Drained {
    report: Report,
    stats: adit::Stats,
}

async fn drain(server: Running, within: Duration) -> Drained {
    let (report, stats) = server.drain_with_stats(within).await;
    Drained { report, stats }
}

/// The limits that the flags ask for.
fn limits(args: &Serve, service: Option<Service>) -> Limits {
    let (flags, by_hand) = (&args.limits, service.is_none());
    let defaults = Limits::default();
    let seconds = |seconds| Limit::At(Duration::from_secs(seconds));
    let (idle, stall) =
        if by_hand { (Limit::Off, seconds(300)) } else { (defaults.idle, defaults.stall) };
    Limits {
        conversations: args.max_conns,
        message: flags.message_timeout.unwrap_or(defaults.message),
        first_message: flags.first_message.unwrap_or(Limit::Off),
        idle: flags.idle.unwrap_or(idle),
        stall: flags.stall.unwrap_or(stall),
        max_time: flags.max_time.unwrap_or(Limit::Off),
        ..defaults
    }
}

/// Who waits for the server to be ready.
struct Ready {
    descriptor: Option<Inherited>,
    on_stdout: bool,
}

impl Ready {
    fn checked(args: &Serve, taken: Option<(i32, io::Result<Inherited>)>) -> adit::Result<Self> {
        let is_service = args.words.first().is_some_and(|word| Service::named(word).is_some());
        if args.print_addr && !is_service {
            let what = "--print-addr writes to standard output, which belongs to the clients here";
            return Err(usage(what, "tell it elsewhere: --ready-fd 3 3>FILE"));
        }
        let descriptor = match taken {
            Some((number, taken)) => Some(taken.map_err(|error| no_descriptor(number, &error))?),
            None => None,
        };
        Ok(Self { descriptor, on_stdout: args.print_addr })
    }
}

fn no_descriptor(number: i32, error: &io::Error) -> Error {
    let what = format!("cannot write to descriptor {number} of --ready-fd: {error}");
    usage(what, "open it in the shell: adit serve .. --ready-fd 3 3>ready")
}

/// Says where the server listens, to people and to whoever waits for it.
fn announce(args: &Serve, servers: &[Running], ready: Ready, voice: &Voice) -> adit::Result<()> {
    let endpoints: Vec<&Endpoint> = servers.iter().flat_map(Running::addrs).collect();
    for endpoint in &endpoints {
        voice.note(&listening_line(endpoint));
    }
    if let Some(endpoint) = endpoints.first() {
        voice.detail(&next_step(endpoint, &args.words));
    }
    let lines: String = endpoints.iter().map(|endpoint| format!("{endpoint}\n")).collect();
    if ready.on_stdout {
        say::print(&lines);
    }
    if let (Some(descriptor), Some(number)) = (ready.descriptor, args.ready_fd) {
        let told = descriptor.tell_and_close(lines.as_bytes());
        told.map_err(|error| no_descriptor(number, &error))?;
    }
    Ok(())
}

/// `listening  tcp [::]:7000 (IPv4 and IPv6), reachable from every network`
fn listening_line(endpoint: &Endpoint) -> String {
    let families = if endpoint.place_text().starts_with("[::]") { " (IPv4 and IPv6)" } else { "" };
    let reach = match endpoint.reach() {
        Reach::Loopback | Reach::Host => "this machine only",
        Reach::Lan => "reachable from this network",
        _ => "reachable from every network",
    };
    let is_udp = endpoint.transport() == Transport::Udp;
    let is_capped = is_udp && endpoint.reach() > Reach::Host;
    let capped = if is_capped { ", replies capped at 3x" } else { "" };
    format!("listening  {endpoint}{families}, {reach}{capped}")
}

/// `client: adit 7000    stop: Ctrl-C    open to others: adit serve echo :7000`
fn next_step(endpoint: &Endpoint, words: &[String]) -> String {
    let scheme = if endpoint.transport() == Transport::Udp { "udp://" } else { "" };
    let place = endpoint.place_text();
    let port = endpoint.socket_addr().map(|address| address.port());
    let client = match (endpoint.reach(), port) {
        (Reach::All, Some(port)) => format!("adit {scheme}HOST:{port}"),
        (Reach::Loopback, Some(port)) => format!("adit {scheme}{port}"),
        (_, Some(_)) => format!("adit {scheme}{place}"),
        _ => format!("adit {}:{place}", endpoint.transport()),
    };
    let mut line = format!("client: {client}    stop: Ctrl-C");
    if let (Reach::Loopback, Some(port)) = (endpoint.reach(), port) {
        let service = words.first().filter(|word| Service::named(word).is_some());
        let service = service.map_or_else(String::new, |service| format!("{service} "));
        line.push_str(&format!("    open to others: adit serve {service}{scheme}:{port}"));
    }
    line
}

/// Tells the main task how the first conversation ended.
struct Once(Option<mpsc::Sender<(Code, String)>>);

impl Observer for Once {
    fn event(&self, event: &adit::Event<'_>) {
        if let (Some(sender), What::Close { code, .. }) = (&self.0, &event.what) {
            // Full: it was not the first one, and only that counts.
            let peer = event.peer.map(ToString::to_string).unwrap_or_default();
            let _only_the_first_counts = sender.try_send((*code, peer));
        }
    }
}

/// The observers of every server of this command.
type Observers = (Log, Voice, Once);
