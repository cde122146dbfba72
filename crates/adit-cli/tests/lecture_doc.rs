//! docs/lecture.md says nothing that is not so: its commands are run, its tests and files are looked up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use socket2::{Domain, Socket, Type};

use common::{DEADLINE, Scratch};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/lecture.md")).unwrap()
}

/// A fenced block of the page: what is behind its fence, and its lines.
struct Block {
    kind: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let inside: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { kind: kind.to_owned(), text: inside.join("\n") });
        }
    }
    blocks
}

impl Block {
    /// What it is to print: behind `# ->`, on lines of its own or behind a command.
    fn expected(&self) -> Vec<&str> {
        let mark = |line: &'_ str| line.find("# ->").map(|at| at + 4);
        let expected = self.text.lines().filter_map(|line| Some(&line[mark(line)?..]));
        expected.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect()
    }
}

/// Is it the expected line? `…` stands for any text, also none.
fn is_like(line: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    last.map_or(rest.is_empty(), |last| last.is_empty() || rest.is_empty() || line.ends_with(last))
}

#[test]
fn the_mask_stands_for_any_text_and_for_nothing_else() {
    assert!(is_like("port 51512 open", "port … open"));
    assert!(is_like("a, b and c", "a…c") && is_like("a and more", "a…") && is_like("xc", "…c"));
    assert!(!is_like("port 51512", "port … open") && !is_like("ab", "a") && !is_like("a", "ab"));
    assert!(!is_like("ac and d", "a…c"));
}

/// The ports that the page uses, each replaced by one that is free here.
struct Ports {
    replaced: Vec<(String, String)>,
    /// Keeps others from taking them; nobody is connected to by these.
    held: Vec<(Socket, Option<UdpSocket>)>,
}

/// The page's ports where nobody is to be found.
const NOBODY: [u16; 2] = [7005, 7009];

impl Ports {
    fn choose() -> Self {
        // Below those that the kernel gives away by itself, and none that looks like one of the page's.
        let start = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let mut free = (start..start + 2000).filter(|port| !port.to_string().contains("70"));
        let mut ports = Self { replaced: Vec::new(), held: Vec::new() };
        for name in 7000..7020 {
            let (port, held) = free
                .find_map(|port| Some((port, hold(port, NOBODY.contains(&name)).ok()?)))
                .unwrap();
            ports.replaced.push((name.to_string(), port.to_string()));
            ports.held.push(held);
        }
        ports
    }

    fn put_into(&self, text: &str) -> String {
        let put = |text: String, (name, port): &(String, String)| text.replace(name, port);
        self.replaced.iter().fold(text.to_owned(), put)
    }
}

/// Holds a port that is free over TCP and UDP. A server that shares it as every server does can still
/// listen there; a UDP server is let in, or kept out by a socket that hears nobody.
fn hold(port: u16, from_all: bool) -> std::io::Result<(Socket, Option<UdpSocket>)> {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    UdpSocket::bind((Ipv6Addr::LOCALHOST, port)).or_else(|_| UdpSocket::bind(local))?;
    if !from_all {
        return Ok((socket, None));
    }
    let deaf = UdpSocket::bind(local)?;
    deaf.connect((Ipv4Addr::LOCALHOST, 9))?;
    Ok((socket, Some(deaf)))
}

/// A shell with everything that it starts: in a folder and a process group of its own, which ends with
/// it.
struct Shell {
    child: Child,
    folder: Scratch,
}

impl Shell {
    fn start(script: &str) -> Self {
        let folder = Scratch::new();
        let programs = Path::new(env!("CARGO_BIN_EXE_adit")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        let file = |name| File::create(folder.join(name)).unwrap();
        let child = Command::new("sh")
            .args(["-c", script])
            .env("PATH", std::env::join_paths(path).unwrap())
            .current_dir(folder.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// Waits for its end, then ends what it has left behind.
    fn wait(&mut self) -> Option<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let limit = Timespec::try_from(DEADLINE).unwrap();
        let is_over = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit)).unwrap() > 0;
        self.end_all();
        is_over.then(|| self.child.wait().unwrap())
    }

    /// The shell has not been waited for yet: its number is still its own, and its group's.
    fn end_all(&self) {
        let _all_may_have_ended = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    fn wrote(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join(name)).unwrap()).into_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end_all();
            drop(self.child.wait());
        }
    }
}

/// Runs a block; says what is wrong with it.
fn run(block: &Block, ports: &Ports) -> Option<String> {
    let script = ports.put_into(&block.text);
    let mut shell = Shell::start(&script);
    let status = shell.wait();
    let expected: Vec<_> = block.expected().into_iter().map(|line| ports.put_into(line)).collect();
    let (out, err) = (shell.wrote("stdout"), shell.wrote("stderr"));
    let lines: Vec<_> = out.lines().collect();
    let is_right = lines.len() == expected.len()
        && lines.iter().zip(&expected).all(|(line, expected)| is_like(line, expected));
    let is_over = status.is_some_and(|status| status.signal().is_none());
    (!is_right || !is_over).then(|| format!("{script}\nprinted, {status:?}:\n{out}{err}"))
}

#[test]
fn every_command_prints_what_the_page_says() {
    let (page, ports) = (page(), Ports::choose());
    let blocks = blocks(&page);
    let server = blocks.iter().find(|block| block.kind == "sh server").unwrap();
    let server = Shell::start(&ports.put_into(&server.text));
    let wait = ports.put_into("adit wait 7000 udp://127.0.0.1:7000");
    let ready = Shell::start(&wait).wait();
    assert!(ready.is_some_and(|status| status.success()), "{}", server.wrote("stderr"));

    let works: Vec<_> = blocks.iter().filter(|block| block.kind == "sh works").collect();
    assert!(works.len() > 40, "only {} commands", works.len());
    assert!(works.iter().all(|block| !block.expected().is_empty()), "each says what it prints");
    // Some wait for a second of silence: several at a time.
    let (left, wrong) = (Mutex::new(works.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let next = || left.lock().unwrap().next();
                while let Some(block) = next() {
                    let found = run(block, &ports);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The tests of the lecture, by name.
fn tests() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lecture");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let sources: Vec<_> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut tests = Vec::new();
    for source in &sources {
        let lines: Vec<_> = source.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].ends_with("test]")) {
            let name = pair[1].split("fn ").nth(1).and_then(|line| line.split('(').next());
            tests.push(name.unwrap().to_owned());
        }
    }
    assert!(tests.iter().all(|name| name.starts_with("lecture_")), "{tests:?}");
    tests
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of tests on the page: each is the beginning of the names of some.
fn named(text: &str) -> Vec<&str> {
    let is_name = |text: &&str| {
        text.starts_with("lecture_") && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    quoted(text).filter(is_name).collect()
}

fn begins(test: &str, name: &str) -> bool {
    test.strip_prefix(name).is_some_and(|rest| rest.starts_with('_') || rest.is_empty())
}

/// The statements of the page, each with all that is said about it.
fn statements(page: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        if line.starts_with("**") {
            statements.push(String::new());
        }
        is_inside = (is_inside || line.starts_with("**")) && !line.starts_with("## ");
        if let (true, Some(statement)) = (is_inside, statements.last_mut()) {
            // Lines of text are joined: where they break means nothing.
            statement.push_str(line);
            statement.push(' ');
        }
    }
    statements
}

#[test]
fn every_test_it_names_is_there_and_every_test_of_the_lecture_is_named() {
    let (page, tests) = (page(), tests());
    let names = named(&page);
    for name in &names {
        assert!(tests.iter().any(|test| begins(test, name)), "there is no test {name}");
    }
    for test in &tests {
        assert!(names.iter().any(|name| begins(test, name)), "the page does not name {test}");
    }
}

#[test]
fn every_row_is_there_and_either_works_and_is_shown_or_claims_nothing() {
    let page = page();
    let statements = statements(&page);
    for row in 1..=42 {
        let number = format!("(S{row}, ");
        assert!(
            statements.iter().any(|statement| statement.contains(&number)),
            "S{row} is missing"
        );
    }
    for statement in &statements {
        let works = statement.contains(", works: ");
        let not_yet = statement.contains(", not yet)");
        assert!(works != not_yet, "neither or both: {statement}");
        assert_eq!(works, statement.contains("```sh"), "a command if it works: {statement}");
        let is_proven = !named(statement).is_empty() || statement.contains("examples/tests/");
        assert_eq!(works, is_proven, "a test if it works: {statement}");
    }
}

#[test]
fn every_file_it_names_is_there() {
    let page = page();
    // Commands are full of quotes and slashes.
    let text: String = page.split("```").step_by(2).collect();
    let paths = quoted(&text)
        .filter(|path| path.ends_with(".rs") || path.contains(".md") || path.ends_with('/'));
    for path in paths {
        let is_there = root().join("crates").join(path).exists() || root().join(path).exists();
        assert!(is_there, "{path}");
    }
}
