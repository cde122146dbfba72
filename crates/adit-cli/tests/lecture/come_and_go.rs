//! Slide 1, clients that come and go and whose addresses change: what `--retry` is good for, and what
//! it says about what it cannot do.
//!
//! A plain TCP connection cannot be resumed. What a client can do is to come back, and to say how many
//! bytes of the old connection nobody has acknowledged.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde_json::Value;

use crate::common::{DEADLINE, Program, adit, noise, run, serve, tcp_host};
use crate::look::{events, number, of_kind};
use crate::relay::{Cut, Passage, Relay, shown_as};

const CUTS: usize = 20;
const FOREVER: [&str; 3] = ["--retry=forever", "--backoff=1ms..10ms", "--json"];

/// The sum of a number over events.
fn sum<'a>(events: impl Iterator<Item = &'a Value>, field: &str) -> u64 {
    events.map(|event| number(event, field)).sum()
}

/// The accounts of a client whose connection is cut 20 times while it sends. For each connection:
///
/// ```text
/// out          bytes the client handed to its kernel                   its `close` event
/// unconfirmed  bytes of them that were never acknowledged to it        its `lost` event
/// came         bytes that arrived at the relay                         the relay's own count
/// passed       bytes of them that the relay gave to the server         the relay's own count
/// ```
///
/// - Every byte of the input is sent once, by one of the connections: the sum of `out` is the input.
/// - What was acknowledged has come to the relay: `out - unconfirmed <= came`. Turned around, every
///   byte that did not come is among those that the client reports: `out - came <= unconfirmed`. The
///   report may be too high, because an acknowledgement can be lost with the connection, never too low.
/// - What came and was not passed on, `came - passed`, was lost by the relay behind the back of both
///   ends. No client can know of it: TCP's word ends at the next system. Here the relay tells.
/// - What was passed on is what the server counts, connection by connection.
///
/// So each byte is at the server, thrown away by the relay, or reported by the client.
#[test]
fn lecture_s06_a_client_returns_after_each_of_20_cuts_and_reports_every_byte_not_confirmed() {
    let server = serve(&["discard", "127.0.0.1:0", "--json"]);
    let cuts = (0..CUTS as u64).map(|number| Cut::After(1 + 7919 * number));
    let relay = Relay::start(server.tcp(), cuts.chain([Cut::Never]).collect());
    let mut command = adit(&["connect", &relay.address.to_string()]);
    let mut client = Program::start(command.args(FOREVER));
    let over = Arc::new(AtomicBool::new(false));
    let feeding = std::thread::spawn({
        let (mut input, over) = (client.take_input(), Arc::clone(&over));
        move || {
            let piece = noise(6, 10_000);
            let mut sent = 0;
            let mut is_last = false;
            // Enough for every cut, then one piece more for the connection that lasts.
            while !is_last {
                is_last = over.load(Relaxed);
                input.write_all(&piece).unwrap();
                sent += piece.len() as u64;
            }
            sent
        }
    });
    for cut in 0..=CUTS {
        assert_eq!(relay.opened.recv_timeout(DEADLINE), Ok(cut));
    }
    over.store(true, Relaxed);
    let sent = feeding.join().unwrap();
    let ran = client.wait();
    let passages = relay.finish();

    let told = events(&ran.err);
    let closes: Vec<_> = of_kind(&told, "close").collect();
    assert_eq!(closes.len(), CUTS + 1);
    assert_eq!(sum(closes.iter().copied(), "out"), sent, "every byte is sent once");
    let unconfirmed = unconfirmed_of_each(&told);
    for ((passage, close), unconfirmed) in passages.iter().zip(&closes).zip(&unconfirmed) {
        let (Passage { came, passed }, out) = (passage, number(close, "out"));
        assert!(passed <= came && *came <= out, "{passage:?} {close}");
        assert!(out - came <= *unconfirmed, "lost in silence: {passage:?} {close} {unconfirmed}");
    }
    let lost: u64 = unconfirmed.iter().sum();
    assert!(lost > 0, "the cuts have hit nothing: {passages:?}");
    assert_eq!(ran.status, 1);
    let last = of_kind(&told, "error").last().unwrap();
    let says = format!("{lost} B were sent and never acknowledged");
    assert!(last["code"] == "lost" && last["text"].as_str().unwrap().contains(&says), "{last}");

    let at_server = events(&server.stop().err);
    let passed: u64 = passages.iter().map(|passage| passage.passed).sum();
    assert_eq!(sum(of_kind(&at_server, "close"), "in"), passed);
    assert_eq!(peers(&at_server), (0..=CUTS).map(shown).collect::<Vec<_>>());
}

/// For each connection what its `lost` event says, 0 without one; it comes before the `close`.
fn unconfirmed_of_each(told: &[Value]) -> Vec<u64> {
    let mut of_each = Vec::new();
    let mut unconfirmed = 0;
    for event in told {
        match event["ev"].as_str() {
            Some("lost") => unconfirmed = number(event, "unconfirmed"),
            Some("close") => of_each.push(std::mem::take(&mut unconfirmed)),
            _ => {}
        }
    }
    of_each
}

/// The IP addresses of the server's clients, in the order in which they came.
fn peers(at_server: &[Value]) -> Vec<String> {
    let place = |open: &Value| open["peer"].as_str().unwrap().split(':').next().unwrap().to_owned();
    of_kind(at_server, "open").map(place).collect()
}

fn shown(number: usize) -> String {
    shown_as(number).to_string()
}

#[test]
fn lecture_s06_a_connection_that_breaks_after_the_last_byte_is_not_made_again_but_reported() {
    let host = tcp_host(|mut stream| {
        stream.read_to_end(&mut Vec::new()).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let ran = run(&mut adit(&["connect", "--retry=forever", &host.place()]), b"hello\n");
    ran.assert_failed(1, "reset");
    host.finish();
}

/// The client is cut off when every byte has been answered, by an end of stream and by a reset in turn:
/// nothing is lost, nothing is reported, and the same input and output go on from a new address.
#[test]
fn lecture_s07_a_client_goes_on_from_20_new_addresses_and_loses_nothing_that_was_answered() {
    let server = serve(&["upper", "127.0.0.1:0", "--json"]);
    let (tellers, cuts): (Vec<_>, Vec<_>) = (0..CUTS)
        .map(|number| {
            let (tell, told) = sync_channel(1);
            (tell, if number % 2 == 0 { Cut::End(told) } else { Cut::Reset(told) })
        })
        .unzip();
    let cuts = cuts.into_iter().chain([Cut::Never]).collect();
    let relay = Relay::start(server.tcp(), cuts);
    let mut command = adit(&["connect", &relay.address.to_string()]);
    let mut client = Program::start(command.args(FOREVER));
    for number in 0..=CUTS {
        assert_eq!(relay.opened.recv_timeout(DEADLINE), Ok(number));
        client.write(format!("line {number}\n").as_bytes());
        client.out.wait_for(&format!("LINE {number}\n"));
        if let Some(teller) = tellers.get(number) {
            teller.send(()).unwrap();
        }
    }
    client.end_input();
    let ran = client.wait();
    relay.finish();
    let lines: String = (0..=CUTS).map(|number| format!("LINE {number}\n")).collect();
    assert_eq!((ran.status, ran.text()), (0, lines));
    assert_eq!(of_kind(&events(&ran.err), "lost").count(), 0, "{}", ran.err);
    let at_server = events(&server.stop().err);
    assert_eq!(peers(&at_server), (0..=CUTS).map(shown).collect::<Vec<_>>());
}
