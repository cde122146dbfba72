//! Row 22: one source connects as fast as it can, and others are there too. Between hosts of a network of
//! its own where the system permits one, else on loopback, which is not exempt here then.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use adit_lab::net::{Absent, Host, Net, Side};

use crate::measure::{ask, connect, connect_from};
use crate::report;
use crate::served::{Kind, Served, pin};

const SHARE_MIN: f64 = 0.9;
const ROUNDS: usize = 3;
const WITHIN: Duration = Duration::from_secs(2);
/// From one connection of the flood to the next: it must not take the processor of those who ask.
const PAUSE: Duration = Duration::from_micros(200);
const ASK: &str = "--ask";
const FLOOD: &str = "--flood";

/// Does what the words ask for, if this program was started as a part of a flood.
pub(crate) fn take_part(words: &[String]) -> bool {
    let [word, address] = words else { return false };
    let Ok(address) = address.parse() else { return false };
    match word.as_str() {
        ASK => println!("{}", round_trips(address)),
        FLOOD => println!("{}", come_and_go(address)),
        _ => return false,
    }
    true
}

/// Round trips of one client.
fn round_trips(address: SocketAddr) -> usize {
    pin(1);
    let mut peer = connect(address);
    let end = Instant::now() + WITHIN;
    let mut count = 0;
    while Instant::now() < end {
        ask(&mut peer, b"small\n");
        count += 1;
        std::thread::sleep(Duration::from_micros(500));
    }
    count
}

/// Connects until standard input ends.
fn come_and_go(address: SocketAddr) -> usize {
    pin(1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            stop.store(true, Relaxed);
        });
        let own = address.ip().is_loopback().then_some([127, 0, 0, 66].into());
        let mut count = 0;
        while !stop.load(Relaxed) {
            // Whoever is turned away may have been reset already.
            let _gone = match own {
                Some(own) => connect_from(own, address),
                None => std::net::TcpStream::connect(address),
            };
            count += 1;
            std::thread::sleep(PAUSE);
        }
        count
    })
}

/// Where the flood, those who ask and the server are.
struct Place {
    flooding: Option<Host>,
    asking: Option<Host>,
    served: Served,
    /// What the flood connects to, and what the others do.
    targets: [SocketAddr; 2],
    _net: Option<(Host, Net)>,
}

impl Place {
    fn of_hosts() -> Result<Self, Absent> {
        let net = Net::new()?;
        let (flooding, asking, far) = (net.host()?, net.host()?, net.host()?);
        let links = [net.link(&flooding, &far)?, net.link(&asking, &far)?];
        let served = Served::start_as(Kind::Guarded, |program| far.command(program));
        let port = served.address.port();
        let targets = links.map(|link| SocketAddr::new(link.address(Side::Far).into(), port));
        let (flooding, asking) = (Some(flooding), Some(asking));
        Ok(Self { flooding, asking, served, targets, _net: Some((far, net)) })
    }

    fn of_loopback() -> Self {
        let served = Served::start(Kind::Guarded);
        let targets = [served.address; 2];
        Self { flooding: None, asking: None, served, targets, _net: None }
    }
}

/// Starts this program anew as a part of it, on a host if there is one.
fn start(host: Option<&Host>, word: &str, target: SocketAddr) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = host.map_or_else(|| Command::new(&program), |host| host.command(&program));
    command.args([word, &target.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The number that it says in the end.
fn number_of(mut child: Child) -> usize {
    drop(child.stdin.take());
    let said = child.wait_with_output().unwrap().stdout;
    String::from_utf8(said).unwrap().trim().parse().unwrap()
}

pub(crate) fn flood() {
    let place = Place::of_hosts();
    let (place, where_to) = match place {
        Ok(place) => (place, "between hosts"),
        Err(_) => (Place::of_loopback(), "on loopback, since no network is permitted here"),
    };
    let ask = || number_of(start(place.asking.as_ref(), ASK, place.targets[1]));
    let (mut before, mut during, mut came) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        before.push(ask());
        let flooding = start(place.flooding.as_ref(), FLOOD, place.targets[0]);
        during.push(ask());
        came += number_of(flooding);
    }
    let median = |counts: &mut Vec<usize>| {
        counts.sort_unstable();
        counts[counts.len() / 2] as f64
    };
    let share = median(&mut during) / median(&mut before);
    let text = format!(
        "{:.0} % of the round trips {where_to}, while one source came {came} times in {:?}",
        share * 100.0,
        WITHIN * 3
    );
    let refused = place.served.refused();
    let text = format!("{text} and was turned away {refused} times");
    report("flood", &text, share >= SHARE_MIN, "90 % at least");
}
