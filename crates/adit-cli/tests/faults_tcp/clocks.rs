//! The time of day jumps while conversations go on.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use crate::common::{Scratch, Server, client, read_line, read_to_end, skipped};

/// Row 33: how far the clock is set, there and back, in hours.
const JUMPS: [&str; 3] = ["+1h", "-1h", "+0h"];

/// The library that lies about the time of day, where it is installed.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|place| place.exists())
}

/// What a server of the time of day says.
fn time_of_day(server: &Server) -> String {
    String::from_utf8(read_to_end(&mut client(server.tcp()))).unwrap()
}

#[test]
fn row_33_a_clock_that_is_set_ends_nothing() {
    let Some(library) = faketime() else { return skipped("faketime is not here") };
    let scratch = Scratch::new();
    let clock = scratch.join("clock");
    let set = |offset: &str| {
        // In one step, so that no half of it is read.
        fs::write(scratch.join("next"), offset).unwrap();
        fs::rename(scratch.join("next"), &clock).unwrap();
    };
    set("+0h");
    let script = format!(
        "LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={clock} DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1 \
         exec \"$@\" 3>\"$READY\"",
        library.display()
    );
    let server = Server::start(&script, &["upper", "127.0.0.1:0", "--idle=10m", "--stall=10m"]);
    let told = Server::start(&script, &["daytime", "127.0.0.1:0"]);
    let mut peer = client(server.tcp());
    let mut times = vec![time_of_day(&told)];
    for jump in JUMPS {
        writeln!(peer, "before {jump}").unwrap();
        assert_eq!(read_line(&mut peer), format!("BEFORE {jump}\n").to_uppercase());
        set(jump);
        times.push(time_of_day(&told));
        writeln!(peer, "after {jump}").unwrap();
        assert_eq!(read_line(&mut peer), format!("AFTER {jump}\n").to_uppercase());
    }
    // The clock has really been set: the hour has changed.
    let hour = |time: &String| time.split(':').next().unwrap().to_owned();
    assert!(hour(&times[0]) != hour(&times[1]) && hour(&times[1]) != hour(&times[2]), "{times:?}");
    drop(peer);
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err);
}
