//! Every decoder over its seeds, and over what comes of changing them for a moment.
//!
//! `ADIT_FUZZ_MILLIS` says for how long each of them, 250 by default; `ADIT_FUZZ_SEED` with which seed to
//! begin. A failure names both the seed and the bytes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adit_fuzz::{TARGETS, Target, mutate};

/// All seeds together are small enough to read, and to replay in a second.
const CORPUS_BYTES_MAX: u64 = 256 << 10;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

/// The seeds of a target with their names, in a fixed order.
fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn every_seed_holds() {
    for target in TARGETS {
        for (name, bytes) in seeds(target) {
            let held = catch_unwind(|| (target.run)(&bytes));
            assert!(held.is_ok(), "{name} does not hold, see above");
        }
    }
}

#[test]
fn what_comes_of_changing_the_seeds_holds() {
    let millis = std::env::var("ADIT_FUZZ_MILLIS").ok().map_or(250, |text| text.parse().unwrap());
    let seed = std::env::var("ADIT_FUZZ_SEED").ok().map(|text| text.parse().unwrap());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    for target in TARGETS {
        let corpus: Vec<_> = seeds(target).into_iter().map(|(_, bytes)| bytes).collect();
        let end = Instant::now() + Duration::from_millis(millis);
        let mut cases = 0;
        while cases < 10 || Instant::now() < end {
            let seed = seed.wrapping_add(cases);
            let bytes = mutate::input(seed, &corpus);
            let held = catch_unwind(|| (target.run)(&bytes));
            assert!(
                held.is_ok(),
                "{} does not hold for b\"{}\"\nagain: ADIT_FUZZ_SEED={seed} cargo test -p adit-fuzz",
                target.name,
                bytes.escape_ascii()
            );
            cases += 1;
        }
        println!("{}: {cases} inputs from seed {seed}", target.name);
    }
}

#[test]
fn every_target_has_a_program_and_small_seeds_and_no_other_has() {
    let named: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(named.len(), TARGETS.len(), "a name stands twice");
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    let files = |name: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(folder(name)).unwrap();
        entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().display().to_string())
            .collect()
    };
    assert_eq!(files("corpus"), named);
    assert_eq!(files("fuzz_targets"), named);
    for name in &named {
        let program = folder("fuzz_targets").join(format!("{name}.rs"));
        let program = fs::read_to_string(program).unwrap();
        assert!(program.contains(&format!("\"{name}\"")), "{name}.rs runs another target");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in Cargo.toml");
    }
    let mut total = 0;
    for target in TARGETS {
        let bytes: u64 = seeds(target).iter().map(|(_, bytes)| bytes.len() as u64).sum();
        assert!(bytes > 0, "{} has no seed that says anything", target.name);
        total += bytes;
    }
    assert!(total < CORPUS_BYTES_MAX, "{total} B of seeds");
}
