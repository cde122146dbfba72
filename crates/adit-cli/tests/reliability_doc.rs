//! docs/reliability.md names tests that are there, in the files where they are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reliability.md")).unwrap()
}

/// The part about connections: each fault is a paragraph, and each test stands behind its file.
fn connections() -> String {
    let page = page();
    let part = page.split("\n## Connections\n").nth(1).unwrap();
    part.split("\n## ").next().unwrap().to_owned()
}

/// What stands in backticks, outside of blocks of commands.
fn quoted(page: &str) -> Vec<String> {
    let text: String = page.split("```").step_by(2).collect();
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn is_test_name(word: &str) -> bool {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.matches('_').count() >= 3 && word.chars().all(is_name)
}

/// All `.rs` files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let each = entries.flat_map(|path| match path.is_dir() {
        true if path.ends_with("target") => Vec::new(),
        true => sources(&path),
        false => vec![path],
    });
    each.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The names of tests in a source: functions under an attribute that ends in `test`.
fn tests_of(source: &str) -> Vec<&str> {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let mut tests = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !(line.starts_with("#[") && line.contains("test") && line.ends_with(']')) {
            continue;
        }
        // Between the attribute and its function other attributes may stand.
        let function = lines[at..].iter().find_map(|line| line.split("fn ").nth(1));
        tests.extend(function.and_then(|name| name.split(['(', '<']).next()));
    }
    tests
}

#[test]
fn every_test_it_names_is_in_the_file_it_names() {
    let (mut file, mut names) = (None, 0);
    for word in quoted(&connections()) {
        if word.ends_with(".rs") {
            let path = root().join("crates").join(&word);
            let source =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{word}: {error}"));
            file = Some((word, source));
        } else if is_test_name(&word) {
            let (path, source) = file.as_ref().unwrap();
            assert!(tests_of(source).contains(&word.as_str()), "{path} has no test {word}");
            names += 1;
        }
    }
    assert!(names > 40, "only {names} tests are named");
}

#[test]
fn every_test_it_names_is_somewhere_and_every_test_of_a_row_is_named() {
    let (page, mut tests) = (page(), BTreeSet::new());
    for file in sources(&root().join("crates")) {
        let source = fs::read_to_string(&file).unwrap();
        tests.extend(tests_of(&source).into_iter().map(str::to_owned));
    }
    let named = quoted(&page);
    for name in named.iter().filter(|word| is_test_name(word)) {
        assert!(tests.contains(name), "there is no test {name}");
    }
    for test in tests.iter().filter(|test| test.starts_with("row_")) {
        assert!(named.contains(test), "the page does not name {test}");
    }
}

#[test]
fn every_row_has_a_figure_and_a_test() {
    let page = connections();
    let rows: Vec<_> = page.split("\n**").skip(1).collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in rows {
        let row = row.split("\n\n").next().unwrap();
        assert!(row.contains("Pass: "), "no figure: {row}");
        assert!(quoted(row).iter().any(|word| is_test_name(word)), "no test: {row}");
    }
}
