//! The rules of STYLE.md that no lint knows, checked over every file of the workspace.
//!
//! All breaches are collected before the test fails. What is banned is looked for in code alone:
//! comments, strings and test modules are blanked out first, in place, so that lines keep their
//! numbers and code below a test module is still seen.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file longer than this says why in its second line.
const LINES_MAX: usize = 500;

/// The one direction: which crates of this workspace a crate may name in its `Cargo.toml`.
const DIRECTION: [(&str, &[&str]); 9] = [
    ("adit-proto", &[]),
    ("adit-net", &["adit-proto"]),
    ("adit-tls", &["adit-net", "adit-proto"]),
    ("adit", &["adit-net", "adit-proto", "adit-tls"]),
    ("adit-trace", &["adit-proto"]),
    ("adit-lab", &["adit", "adit-net", "adit-proto"]),
    ("adit-fuzz", &["adit-net", "adit-proto", "adit-tls", "adit-trace"]),
    ("adit-cli", &["adit", "adit-lab", "adit-trace"]),
    ("examples", &["adit"]),
];

/// Words that have no place in the code of a crate, and why.
const BANNED: [(&str, &[&str], &str); 4] = [
    (
        "adit-proto",
        &["tokio", "async fn", "TcpStream", "TcpListener", "UdpSocket", "UnixStream"],
        "adit-proto has no sockets and no tasks",
    ),
    ("adit-tls", &["TcpStream", "TcpListener", "UnixStream"], "adit-tls is given its streams"),
    ("adit-trace", &["tokio", "std::net"], "adit-trace draws and opens nothing"),
    ("adit-cli", &["adit_proto", "tokio::net"], "adit-cli goes through the public face of adit"),
];

/// Who may ask what time it is.
const CLOCKS: [&str; 4] = ["adit", "adit-lab", "adit-cli", "examples"];

/// A source file, or a text that a test takes for one.
struct Source<'a> {
    crate_name: &'a str,
    /// Relative to the crate: `src/lib.rs`.
    path: &'a str,
    text: &'a str,
}

#[test]
fn every_file_of_the_workspace_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut breaches = Vec::new();
    let mut files_seen = 0;
    for folder in crate_folders(&root) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        breaches.extend(wrong_way(name, &manifest));
        for file in sources(&folder) {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&folder).unwrap().to_str().unwrap();
            files_seen += 1;
            breaches.extend(untidy(&Source { crate_name: name, path, text: &text }));
        }
    }
    assert!(files_seen > 50, "only {files_seen} files found below {}", root.display());
    let list = breaches.join("\n");
    assert!(breaches.is_empty(), "{} breaches of STYLE.md:\n{list}", breaches.len());
}

/// Row 33 of docs/reliability.md: a clock that somebody sets must not end, or keep alive, anything. What
/// the time of day is only the command asks, to show it.
#[test]
fn row_33_no_deadline_is_taken_from_a_clock_that_jumps() {
    const JUMPING: [&str; 4] = ["SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME", "ClockId::Realtime"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for name in ["adit", "adit-net", "adit-proto"] {
        let files = sources(&root.join("crates").join(name).join("src"));
        assert!(files.len() > 10, "only {} files of {name}", files.len());
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = blanked(&text, &literals(&text));
            let clocks = JUMPING.iter().filter(|clock| !words(&code, clock).is_empty());
            found.extend(clocks.map(|clock| format!("{}: {clock}", file.display())));
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

/// The folders of all packages: `crates/*`, and `examples` where it is a package.
fn crate_folders(root: &Path) -> Vec<PathBuf> {
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = crates.chain([root.join("examples")]).collect();
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders.sort();
    folders
}

/// All `.rs` files below a folder, in a fixed order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is wrong with a file, one line for each breach: `crate/path:line: what`.
fn untidy(source: &Source<'_>) -> Vec<String> {
    let Source { crate_name, path, text } = *source;
    let mut breaches = Vec::new();
    let mut breach =
        |line: usize, what: &str| breaches.push(format!("{crate_name}/{path}:{line}: {what}"));

    if !text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 4) {
        breach(1, "the first line says what the file is for, after `//! `");
    }
    for (line, content) in (1..).zip(text.lines()) {
        if !words(content, concat!("FIX", "ME")).is_empty() {
            breach(line, concat!("FIX", "ME is not merged"));
        }
        if words(content, concat!("TO", "DO")).iter().any(|&at| !numbered(&content[at + 4..])) {
            breach(line, concat!("TO", "DO needs the number of an issue: TO", "DO(#7)"));
        }
    }

    let is_test = !path.starts_with("src/") || path.ends_with("/tests.rs");
    if is_test && crate_name != "examples" {
        return breaches;
    }
    let code = blanked(text, &literals(text));
    let tests = test_modules(&code);
    let test_lines: usize = tests.iter().map(|range| code[range.clone()].lines().count()).sum();
    let code = blanked(&code, &tests);
    let lines = text.lines().count() - test_lines;
    let excused = text.lines().nth(1).is_some_and(|line| line.starts_with("//! Long because: "));
    if lines > LINES_MAX && !excused {
        breach(lines, "too long, and no second line `//! Long because: ...` says why");
    }
    let is_root = ["src/lib.rs", "src/main.rs"].contains(&path) || path.starts_with("src/bin/");
    if is_root && crate_name != "adit-net" && !code.contains("#![forbid(unsafe_code)]") {
        breach(1, "the root of a crate says #![forbid(unsafe_code)]");
    }
    for (at, why) in misplaced(crate_name, path, &code) {
        breach(code[..at].matches('\n').count() + 1, &why);
    }
    breaches
}

/// Where code stands that belongs into another crate, and why it does.
fn misplaced(crate_name: &str, path: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (_, banned, why) in BANNED.iter().filter(|(name, ..)| *name == crate_name) {
        for word in *banned {
            let places = words(code, word).into_iter().chain(grouped(code, word));
            found.extend(places.map(|at| (at, format!("`{word}`: {why}"))));
        }
    }
    if !CLOCKS.contains(&crate_name) {
        for word in ["Instant::now", "SystemTime::now"] {
            let why = format!("`{word}`: the time is an argument here");
            found.extend(words(code, word).into_iter().map(|at| (at, why.clone())));
        }
    }
    let may_be_unsafe = crate_name == "adit-net"
        && ["src/sys/", "src/child/", "src/sys.rs", "src/child.rs"]
            .iter()
            .any(|place| path.starts_with(place));
    if !may_be_unsafe {
        let why = "`unsafe`: only in `sys` and `child` of adit-net";
        found.extend(words(code, "unsafe").into_iter().map(|at| (at, why.to_owned())));
    }
    found
}

/// Which dependencies of a manifest point the wrong way. Development dependencies count too.
fn wrong_way(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = DIRECTION.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name}/Cargo.toml: not in the table of directions of tidy.rs")];
    };
    let mut breaches = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in (1..).zip(manifest.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim_start().starts_with('[') {
            in_dependencies = line.contains("dependencies");
        }
        if !in_dependencies {
            continue;
        }
        let named = line.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
        for other in named.filter(|word| *word == "adit" || word.starts_with("adit-")) {
            if !allowed.contains(&other) {
                breaches.push(format!("{name}/Cargo.toml:{number}: {name} may not name {other}"));
            }
        }
    }
    breaches
}

/// Whether the number of an issue follows: `(#7)` or ` #7`.
fn numbered(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '(']);
    rest.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn in_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a word stands as a whole word.
fn words(text: &str, word: &str) -> Vec<usize> {
    let whole = |at: &usize| {
        !text[..*at].ends_with(in_a_word) && !text[*at + word.len()..].starts_with(in_a_word)
    };
    text.match_indices(word).map(|(at, _)| at).filter(whole).collect()
}

/// Where a path stands as part of a group: `tokio::net` as `tokio::{io, net::TcpStream}`.
fn grouped(code: &str, path: &str) -> Vec<usize> {
    let Some((head, tail)) = path.rsplit_once("::") else { return Vec::new() };
    let group = |at: &usize| {
        let open = at + head.len() + 2;
        code[open..].starts_with('{') && {
            let end = closing_brace(code, open);
            words(&code[open..end], tail).iter().any(|&at| !code[..open + at].ends_with("::"))
        }
    };
    let heads = words(code, head).into_iter();
    heads.filter(|at| code[at + head.len()..].starts_with("::")).filter(group).collect()
}

/// The end of the block that opens at `open`.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The modules behind `#[cfg(test)]`, attribute and all.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let mut rest = code[start + attribute.len()..].trim_start();
        while let Some((_, after)) = rest.strip_prefix("#[").and_then(|rest| rest.split_once(']')) {
            rest = after.trim_start();
        }
        let head = rest.find(['{', ';']).unwrap_or(rest.len());
        if rest.starts_with("mod ") && rest[head..].starts_with('{') {
            found.push(start..closing_brace(code, code.len() - rest.len() + head));
        }
    }
    found
}

/// The same text with parts of it replaced by spaces; lines stay lines, bytes stay where they are.
fn blanked(text: &str, parts: &[Range<usize>]) -> String {
    let mut result = String::with_capacity(text.len());
    for part in parts {
        result.push_str(&text[result.len()..part.start]);
        let blank = text[part.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' });
        result.extend(blank);
    }
    result.push_str(&text[result.len()..]);
    result
}

/// The comments, strings and characters of a text, in order.
fn literals(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let end = at + literal_bytes(text, at);
        if end > at {
            found.push(at..end);
        }
        at = end.max(at + c.len_utf8());
    }
    found
}

/// How long the comment, string or character is that begins here; 0 if none does.
fn literal_bytes(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let until = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return until(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return block_comment_bytes(rest);
    }
    if rest.starts_with('"') {
        return quoted_bytes(rest, '"');
    }
    if let Some(raw) = rest.strip_prefix('r')
        && !text[..at].trim_end_matches(['b', 'c']).ends_with(in_a_word)
    {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = 1 + hashes + 1;
            return until(rest[body..].find(&close).map(|end| body + end + close.len()));
        }
    }
    // A lifetime has no second quote behind its first letter.
    let mut letters = rest.chars();
    if letters.next() == Some('\'') {
        let (first, second) = (letters.next(), letters.next());
        if first == Some('\\') || second == Some('\'') {
            return quoted_bytes(rest, '\'');
        }
    }
    0
}

/// The length of a text in quotes, the escaped ones inside passed over.
fn quoted_bytes(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// The length of a block comment, which may hold others.
fn block_comment_bytes(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn breaches_of(crate_name: &str, path: &str, text: &str) -> Vec<String> {
    untidy(&Source { crate_name, path, text })
}

#[test]
fn each_breach_is_found_at_its_line() {
    let proto = [
        ("fn f() {}\n", ":1: the first line"),
        ("//! A.\nuse tokio::io;\n", ":2: `tokio`"),
        ("//! A.\n\nasync fn f() {}\n", ":3: `async fn`"),
        ("//! A.\nuse std::net::{Ipv4Addr, UdpSocket};\n", ":2: `UdpSocket`"),
        ("//! A.\nfn f() { Instant::now(); }\n", ":2: `Instant::now`"),
        ("//! A.\nfn f() { unsafe {} }\n", ":2: `unsafe`"),
        (concat!("//! A.\n// FIX", "ME: later\n"), ":2: FIX"),
        (concat!("//! A.\n// TO", "DO: later\n"), ":2: TO"),
    ];
    for (text, expected) in proto {
        let found = breaches_of("adit-proto", "src/a.rs", text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(found[0].contains(expected), "{text:?}: {found:?}");
    }
    for text in [
        "//! A.\nuse adit_proto::code;\n",
        "//! A.\nuse tokio::net::TcpStream;\n",
        "//! A.\nuse tokio::{io, net};\n",
    ] {
        assert_eq!(breaches_of("adit-cli", "src/a.rs", text).len(), 1, "{text:?}");
    }
    assert_eq!(breaches_of("adit", "src/lib.rs", "//! A.\n").len(), 1, "unsafe is not forbidden");
    assert_eq!(breaches_of("adit-net", "src/a.rs", "//! A.\nunsafe fn f() {}\n").len(), 1);
    assert_eq!(breaches_of("adit-net", "src/sys/a.rs", "//! A.\nunsafe fn f() {}\n").len(), 0);
}

#[test]
fn a_word_in_a_comment_a_string_or_a_test_is_no_code() {
    let text = r##"//! Not tokio, not `async fn`.
/* tokio /* unsafe */ tokio */
fn f<'a>(s: &'a str) -> char {
    let _ = ("tokio \" unsafe", r#"tokio " unsafe"#, b"unsafe", '"', '\'', '\u{1f}');
    'ü' // Instant::now
}
fn tokio_like() { let unsafe_code = 1; }
#[cfg(test)]
#[expect(dead_code, reason = "an example")]
mod tests {
    use tokio::net;
    fn f() { let _ = "}"; unsafe {} }
}
"##;
    assert_eq!(breaches_of("adit-proto", "src/a.rs", text), [""; 0]);
    let below = format!("{text}use tokio::io;\n");
    let found = breaches_of("adit-proto", "src/a.rs", &below);
    assert_eq!(found.len(), 1, "code below the tests is code: {found:?}");
    assert!(found[0].contains(":14: "), "{found:?}");
}

#[test]
fn a_long_file_says_why_and_tests_do_not_make_it_long() {
    let body = "fn f() {}\n";
    let exact = format!("//! A.\n{}", body.repeat(LINES_MAX - 1));
    assert_eq!(breaches_of("adit", "src/a.rs", &exact).len(), 0);
    let long = format!("{exact}{body}");
    assert_eq!(breaches_of("adit", "src/a.rs", &long).len(), 1);
    let excused = long.replacen("fn f() {}", "//! Long because: a table.", 1) + body;
    assert_eq!(breaches_of("adit", "src/a.rs", &excused).len(), 0);
    let tested = format!("{exact}#[cfg(test)]\nmod tests {{\n{}}}\n", body.repeat(99));
    assert_eq!(breaches_of("adit", "src/a.rs", &tested).len(), 0);
    assert_eq!(breaches_of("adit", "src/a.rs", &format!("{tested}{body}")).len(), 1);
}

#[test]
fn a_dependency_that_points_back_is_found() {
    let good = "[package]\nname = \"adit\"\n[dependencies]\nadit-net.workspace = true\n";
    assert_eq!(wrong_way("adit", good), [""; 0]);
    for bad in [
        "[dependencies]\nadit.workspace = true\n",
        "[dev-dependencies]\nother = { package = \"adit-net\" }\n",
        "[target.'cfg(unix)'.dependencies.adit-cli]\nworkspace = true\n",
    ] {
        assert_eq!(wrong_way("adit-proto", bad).len(), 1, "{bad:?}");
    }
    assert_eq!(wrong_way("adit-new", good).len(), 1, "a new crate is entered into the table");
}
