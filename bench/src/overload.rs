//! Section "Overload" of docs/reliability.md: what three times as much as a server can do makes of it.
//!
//! The server has one thread on one processor, those who ask have the other. Rounds at the peak and above
//! it take turns, so that whatever else the machine does meets both; a figure is the median of its rounds.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::load::{DEADLINE, Outcome, crowd, newcomers, run};
use crate::measure::narrow;
use crate::report;
use crate::served::{FEW, Kind, MEMORY, Served, pin};

const ROUNDS: usize = 3;
const WITHIN: Duration = Duration::from_secs(3);
/// How many times as much as brings the peak.
const TIMES: usize = 3;
/// What the first moments of a flood take is not counted.
const SETTLE: Duration = Duration::from_secs(1);
/// What is looked at on the way back, one after the other.
const PIECE: Duration = Duration::from_millis(500);
const NORMAL_WITHIN: Duration = Duration::from_secs(5);
/// Clients whose messages never end.
const CROWD: usize = 200;
const SHARE_MIN: f64 = 0.8;
const REFUSED_WITHIN: Duration = Duration::from_millis(100);

/// What one round has brought.
struct Round {
    /// Answers in time, for each second in which the server could have its processor.
    good: f64,
    p99: Duration,
    refused_p99: Duration,
    refused: usize,
    late: usize,
    /// How much of its processor the server has taken.
    busy: f64,
}

fn round(served: &Served, load: impl Future<Output = Outcome>) -> Round {
    let (spent, waited) = (served.spent(), served.waited());
    let start = Instant::now();
    let Outcome { mut good, mut refused, late } = run(load);
    // Those that are not counted take their time too.
    let share = 1.0 - (served.waited() - waited).as_secs_f64() / start.elapsed().as_secs_f64();
    let had = WITHIN.as_secs_f64() * share;
    Round {
        good: good.len() as f64 / had,
        p99: good.percentile(99),
        refused_p99: refused.percentile(99),
        refused: refused.len(),
        late,
        busy: (served.spent() - spent).as_secs_f64() / (start.elapsed().as_secs_f64() * share),
    }
}

/// The one in the middle, by what is asked for.
fn median<T: PartialOrd + Copy>(rounds: &[Round], what: impl Fn(&Round) -> T) -> T {
    let mut values: Vec<T> = rounds.iter().map(what).collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap());
    values[values.len() / 2]
}

pub(crate) fn overload() {
    pin(1);
    more_clients(Kind::Waiting);
    for kind in [Kind::Refusing, Kind::Few] {
        more_newcomers(kind);
    }
    more_memory();
}

/// Three times as many clients as bring the peak, each of which waits for its answer.
fn more_clients(kind: Kind) {
    // What comes after too much shall not be taken for the peak: each has a server of its own.
    let (calm, full) = (Served::start(kind), Served::start(kind));
    let with =
        |served: &Served, clients| round(served, crowd(served.address, clients, WITHIN, false));
    let tried = [4, 16, 64].map(|clients| (with(&calm, clients).good, clients));
    let (_, most) = tried.into_iter().max_by(|one, other| one.0.total_cmp(&other.0)).unwrap();
    let (mut peak, mut above) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peak.push(with(&calm, most));
        above.push(with(&full, TIMES * most));
    }
    told(&format!("{most} and {} clients", TIMES * most), (&peak, &above), None);
}

/// Three times as many newcomers as can be served, each with one question, however long the others wait.
fn more_newcomers(kind: Kind) {
    let (calm, full) = (Served::start(kind), Served::start(kind));
    let at_peak = || round(&calm, crowd(calm.address, FEW, WITHIN, true));
    let able = at_peak().good;
    let (mut peak, mut above) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peak.push(at_peak());
        above.push(round(&full, newcomers(full.address, able * TIMES as f64, (SETTLE, WITHIN))));
    }
    // Who waits behind the work that a thread is late for hears later that there is no room.
    let refused_max = (kind == Kind::Few).then_some(REFUSED_WITHIN);
    let conversations =
        if kind == Kind::Few { FEW.to_string() } else { "as many as may be".into() };
    let what = format!("{:.0} newcomers a second, {conversations}", able * TIMES as f64);
    told(&what, (&peak, &above), refused_max);
    recovers(kind, able);
}

/// How long after three times as much half as much is as quick as before.
fn recovers(kind: Kind, able: f64) {
    let served = Served::start(kind);
    let half = |for_so_long| {
        let load = newcomers(served.address, able / 2.0, (Duration::ZERO, for_so_long));
        run(load).good.percentile(99)
    };
    let before = half(WITHIN);
    run(newcomers(served.address, able * TIMES as f64, (Duration::ZERO, WITHIN)));
    let end = Instant::now();
    let mut after = half(PIECE);
    while after > before * 2 && end.elapsed() < NORMAL_WITHIN * 2 {
        after = half(PIECE);
    }
    let took = end.elapsed();
    let text = format!(
        "{kind:?}, half as much as it can do: p99 {before:.1?} before, {after:.1?} within {took:.1?} after"
    );
    report("overload", &text, took <= NORMAL_WITHIN, "at most twice that within 5 s");
}

/// Clients whose messages never end, in a server that may spend little.
fn more_memory() {
    let served = Served::start(Kind::Narrow);
    let mut peers: Vec<_> = (0..CROWD).map(|_| narrow(served.address)).collect();
    let (piece, end) = (vec![b'x'; 16 << 10], Instant::now() + WITHIN);
    let (before, mut most) = (served.resident_bytes(), 0);
    while Instant::now() < end {
        for peer in &mut peers {
            // Who is full takes nothing, and who was cut is gone.
            drop(peer.write(&piece));
        }
        most = most.max(served.resident_bytes());
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (budget, most, before) = (mib(MEMORY as u64), mib(most), mib(before));
    let text = format!(
        "{CROWD} messages that never end, {budget:.0} MiB to spend: {most:.1} MiB resident, {before:.1} \
         of them before"
    );
    report("overload", &text, most <= budget * 1.1, "budget and 10 % at most");
}

fn told(what: &str, (peak, above): (&[Round], &[Round]), refused_max: Option<Duration>) {
    let good = |rounds: &[Round]| median(rounds, |round| round.good);
    let share = good(above) / good(peak);
    let p99 = |rounds: &[Round]| median(rounds, |round| round.p99);
    let busy = |rounds: &[Round]| 100.0 * median(rounds, |round| round.busy);
    let refused = median(above, |round| round.refused_p99);
    let (turned_away, late) =
        (median(above, |round| round.refused), median(above, |round| round.late));
    let text = format!(
        "{what}: {:.0} answers a second at the peak, {:.0} at {TIMES} times it, {:.0} %; p99 {:.1?} and \
         {:.1?}; {turned_away} turned away, p99 {refused:.1?}, {late} not within {DEADLINE:?}; server \
         busy {:.0} and {:.0} %",
        good(peak),
        good(above),
        100.0 * share,
        p99(peak),
        p99(above),
        busy(peak),
        busy(above),
    );
    let held = share >= SHARE_MIN && refused_max.is_none_or(|most| refused <= most);
    let within = refused_max.map(|most| format!(", turned away within {most:?}"));
    let figure = format!("80 % of the peak{}", within.unwrap_or_default());
    report("overload", &text, held, &figure);
}
