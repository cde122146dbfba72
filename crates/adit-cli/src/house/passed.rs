//! Passed: listening sockets that somebody else has opened for us (`sd_listen_fds(3)`), and the addresses
//! that name them: `systemd:NAME` and `fd:N`.

use std::os::fd::RawFd;

use adit::endpoint::Reach;
use adit::system::passed::{self, Announced, NotServed, Unannounced};
use adit::{Endpoint, Error, ReadyDatagrams, ReadyListener};

use crate::complaint::{quoted, usage};
use crate::say::Voice;

/// What was passed, by its descriptors; taken before anything else is opened, which could get one of
/// their numbers.
pub(crate) struct Passed {
    sockets: Vec<Descriptor>,
    /// The process that was meant, where it was another.
    meant_for: Option<String>,
}

struct Descriptor {
    number: RawFd,
    /// None of what only an address names.
    name: Option<String>,
    taken: Result<passed::Passed, NotServed>,
}

/// A socket to be served.
#[derive(Debug)]
pub(crate) struct Socket {
    /// As it is spoken of: its name, or its number.
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) ready: Ready,
}

/// What a server takes.
#[derive(Debug)]
pub(crate) enum Ready {
    Streams(ReadyListener),
    Datagrams(ReadyDatagrams),
}

impl Passed {
    /// Takes what the environment and the words name; `ready_fd` is somebody else's.
    pub(crate) fn take(words: &[String], ready_fd: Option<RawFd>) -> adit::Result<Self> {
        let value = |name| std::env::var(name).ok();
        let (pid, count, names) =
            (value("LISTEN_PID"), value("LISTEN_FDS"), value("LISTEN_FDNAMES"));
        let own = std::process::id();
        let announced = Announced::read(pid.as_deref(), count.as_deref(), names.as_deref(), own);
        let (announced, meant_for) = match announced {
            Ok(announced) => (announced, None),
            Err(Unannounced::Nothing) => (Announced::default(), None),
            Err(Unannounced::Other(pid)) => (Announced::default(), Some(pid)),
            Err(Unannounced::Count(count)) => {
                let what = format!("LISTEN_FDS={} is no number of descriptors", quoted(&count));
                return Err(usage(what, "whoever passes sockets sets it: sd_listen_fds(3)"));
            }
            Err(Unannounced::Names { names, count }) => {
                let what = format!("LISTEN_FDNAMES has {names} names for {count} sockets");
                return Err(usage(what, "whoever passes sockets sets it: sd_listen_fds(3)"));
            }
        };
        let named = announced.descriptors().map(|(number, name)| (number, Some(name.to_owned())));
        let mut all: Vec<_> = named.collect();
        for number in words.iter().filter_map(|word| number_of(word)) {
            if !all.iter().any(|(other, _)| *other == number) {
                all.push((number, None));
            }
        }
        // All of them first: nothing we start may get one of them.
        passed::close_on_exec(all.iter().map(|(number, _)| *number));
        if let Some(both) = ready_fd.filter(|ready| all.iter().any(|(number, _)| number == ready)) {
            let what = format!("descriptor {both} of --ready-fd is a socket that was passed");
            return Err(usage(what, "use another number: --ready-fd 9 9>FILE"));
        }
        let take =
            |(number, name)| Descriptor { number, name, taken: passed::Passed::take(number) };
        Ok(Self { sockets: all.into_iter().map(take).collect(), meant_for })
    }

    /// Splits the words into other addresses and the sockets that are named. Where `takes_all`, no named
    /// socket and no other address mean all that were passed.
    pub(crate) fn choose(
        mut self,
        words: &[String],
        takes_all: bool,
        voice: &Voice,
    ) -> adit::Result<(Vec<String>, Vec<Socket>)> {
        let (mut others, mut chosen) = (Vec::new(), Vec::new());
        for word in words {
            if let Some(number) = number_of(word) {
                let taken = self.sockets.extract_if(.., |socket| socket.number == number);
                let before = chosen.len();
                chosen.extend(taken);
                if chosen.len() == before {
                    return Err(usage(
                        format!("{} is named twice", quoted(word)),
                        "once is enough",
                    ));
                }
            } else if let Some(name) = name_of(word) {
                let is_it = |socket: &mut Descriptor| socket.name.as_deref() == Some(name);
                let before = chosen.len();
                chosen.extend(self.sockets.extract_if(.., is_it));
                if chosen.len() == before {
                    return Err(self.no_such(word));
                }
            } else {
                others.push(word.clone());
            }
        }
        if takes_all && others.is_empty() && chosen.is_empty() {
            chosen = std::mem::take(&mut self.sockets);
        }
        for left in &self.sockets {
            let name = quoted(left.name.as_deref().unwrap_or_default());
            voice.warn(&format!(
                "socket {name} was passed and no address names it: it is closed here; add systemd:NAME"
            ));
        }
        let chosen = chosen.into_iter().map(Descriptor::socket).collect::<adit::Result<_>>()?;
        Ok((others, chosen))
    }

    /// Why there is nothing to serve, for the end of a message; empty if there is nothing to say.
    pub(crate) fn why_none(&self) -> String {
        match &self.meant_for {
            Some(pid) if self.sockets.is_empty() => {
                let pid = quoted(pid);
                format!("; the sockets of LISTEN_FDS are for process {pid}: start adit by exec")
            }
            _ => String::new(),
        }
    }

    /// How many were passed.
    pub(crate) fn count(&self) -> usize {
        self.sockets.len()
    }

    fn no_such(&self, word: &str) -> Error {
        let mut names: Vec<&str> =
            self.sockets.iter().filter_map(|socket| socket.name.as_deref()).collect();
        names.dedup();
        let there_are = match names.as_slice() {
            [] => "none was passed: LISTEN_FDS of a service manager passes them".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        let hint = adit::escape::escape_line(there_are.as_bytes(), 200);
        usage(format!("no socket of that name was passed, in {}", quoted(word)), &hint)
    }
}

impl Descriptor {
    fn socket(self) -> adit::Result<Socket> {
        let name = self.name.unwrap_or_else(|| format!("fd:{}", self.number));
        let socket = self.taken.map_err(|why| {
            let what = format!("descriptor {}, {}, cannot be served", self.number, quoted(&name));
            let (what, hint) = match why {
                NotServed::NotOpen(error) => {
                    (format!("{what}: {error}"), "open it in the parent: 3 is the first")
                }
                NotServed::NoSocket => {
                    (what + ": it is no socket", "name those to serve: systemd:NAME")
                }
                NotServed::Connection => {
                    (what + ": it is a connection", "pass the listening socket: Accept=no")
                }
                NotServed::Unbound => (what + ": it has no address", "bind it in the parent"),
                _ => (what + ": it is of another kind", "there are TCP, UDP, and Unix sockets"),
            };
            usage(what, hint)
        })?;
        let ready = match socket {
            passed::Passed::Tcp(listener) => Ready::Streams(listener.into()),
            passed::Passed::Unix(listener) => Ready::Streams(listener.into()),
            passed::Passed::Udp(socket) => Ready::Datagrams(socket.into()),
            passed::Passed::UnixDatagram(socket) => Ready::Datagrams(socket.into()),
        };
        let endpoint = match &ready {
            Ready::Streams(listener) => listener.endpoint(),
            Ready::Datagrams(socket) => socket.endpoint(),
        };
        Ok(Socket { name, endpoint, ready })
    }
}

impl Socket {
    /// Can others than users of this machine reach it?
    pub(crate) fn is_open(&self) -> bool {
        self.endpoint.reach() > Reach::Host
    }

    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self.ready, Ready::Datagrams(_))
    }
}

/// Does the word name a socket that was passed?
pub(crate) fn is_passed(word: &str) -> bool {
    number_of(word).is_some() || name_of(word).is_some()
}

/// `fd:3`; `fd::1` is an IPv6 address.
fn number_of(word: &str) -> Option<RawFd> {
    let number = word.strip_prefix("fd:")?;
    let number = number.strip_prefix("//").unwrap_or(number);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// `systemd:http`
fn name_of(word: &str) -> Option<&str> {
    let name = word.strip_prefix("systemd:")?;
    Some(name.strip_prefix("//").unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{name_of, number_of};

    #[test]
    fn addresses_of_passed_sockets_are_told_from_others() {
        assert_eq!((number_of("fd:3"), number_of("fd://12")), (Some(3), Some(12)));
        for word in ["fd::1", "fd:", "fd:+3", "fd:x", "fd:99999999999", "tcp:3", "3"] {
            assert_eq!(number_of(word), None, "{word}");
        }
        assert_eq!(
            (name_of("systemd:http"), name_of("systemd://a.b")),
            (Some("http"), Some("a.b"))
        );
        assert_eq!((name_of("systemd:"), name_of("http")), (None, None));
    }
}
