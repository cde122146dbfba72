//! Row 21: half TLS handshakes that are held open, and how long whole ones take beside them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::tls::ClientTls;

use crate::load;
use crate::measure::{Samples, connect};
use crate::report;
use crate::served::{Kind, Served, pin};

const HALVES: usize = 500;
const TIMES_MAX: u32 = 2;
const ROUNDS: usize = 5;
const HANDSHAKES: usize = 200;
/// How a record of a client of TLS begins, which then says nothing more.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

pub(crate) fn handshakes() {
    pin(1);
    let served = Served::start(Kind::Secured);
    let target = format!("tls://{}", served.address);
    let (mut idle, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        idle.push(p99(&target));
        let halves: Vec<_> = (0..HALVES)
            .map(|number| {
                let mut half = connect(served.address);
                // Some say nothing, some begin.
                half.write_all(&HALF_HELLO[..number % HALF_HELLO.len()]).unwrap();
                half
            })
            .collect();
        beside.push(p99(&target));
        drop(halves);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (idle, beside) = (median(&mut idle), median(&mut beside));
    let text = format!("p99 of a handshake {idle:.1?} alone, {beside:.1?} beside {HALVES} halves");
    report("handshakes", &text, beside <= idle * TIMES_MAX, "twice as long at most");
}

/// Of handshakes one after the other, each with its connection.
fn p99(target: &str) -> Duration {
    load::run(async {
        // The certificate is not what is measured.
        let dial = Dial::new().tls(ClientTls::insecure().unwrap());
        let mut samples = Samples::default();
        for _ in 0..HANDSHAKES {
            let start = Instant::now();
            drop(dial.connect(target).await.unwrap());
            samples.push(start.elapsed());
        }
        samples.percentile(99)
    })
}
