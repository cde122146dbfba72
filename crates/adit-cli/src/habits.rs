//! Habits: what people type who come from nc, ncat and socat. What can be meant is done; what would
//! mean something else here is refused with the words that work.

use std::ffi::OsString;

use adit::endpoint::Transport;
use adit::{Address, Error, Result};

use crate::complaint::{quoted, takes_word, usage};

/// The words of the command line with the verb spelled out, or why they cannot be meant.
pub(crate) fn spell_out(words: Vec<OsString>) -> Result<Spelled> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_else(|| "adit".into());
    let words = words.map(as_text).collect::<Result<Vec<String>>>()?;
    let first = words.first().map_or("--help", String::as_str);
    let (verb, rest) = match first {
        "-h" | "--help" | "-V" | "--version" => {
            let words = [program].into_iter().chain(words.into_iter().map(Into::into)).collect();
            return Ok(Spelled { verb: "", words, notes: Vec::new() });
        }
        word if LATER.contains(&word) => {
            let what = format!("adit {word} is not part of this version");
            return Err(usage(what, &format!("a host of that name: adit connect {word} PORT")));
        }
        // The help of a command is its own.
        "help" if words.get(1).is_some_and(|word| VERBS.contains(&word.as_str())) => {
            let verb = VERBS.into_iter().find(|verb| *verb == words[1]).unwrap_or_default();
            let rest = words.into_iter().skip(2).chain(["--help".to_owned()]).map(Into::into);
            let words = [program, verb.into()].into_iter().chain(rest).collect();
            return Ok(Spelled { verb, words, notes: Vec::new() });
        }
        word if is_listen(word) => ("serve", without_l(words)),
        "lab" => experiment(words)?,
        word => match VERBS.iter().find(|verb| **verb == word) {
            Some(verb) => (*verb, words.into_iter().skip(1).collect()),
            None => ("connect", words),
        },
    };
    let has_passed = std::env::var_os("LISTEN_FDS").is_some();
    let mut walk =
        Walk { verb, kept: Vec::new(), notes: Vec::new(), has_address: false, has_passed };
    if matches!(verb, "connect" | "serve" | "forward" | "explain" | "wait" | CUT) {
        walk.all(rest)?;
    } else {
        walk.kept = rest;
    }
    let kept = walk.kept.into_iter().map(Into::into);
    let verbs = verb.split(' ').map(Into::into);
    let words = [program].into_iter().chain(verbs).chain(kept).collect();
    Ok(Spelled { verb, words, notes: walk.notes })
}

/// A command line in adit's own words.
#[derive(Debug)]
pub(crate) struct Spelled {
    /// The subcommand; none for the overview.
    pub(crate) verb: &'static str,
    pub(crate) words: Vec<OsString>,
    /// What to say about habits that need no flag here.
    pub(crate) notes: Vec<&'static str>,
}

/// The one experiment of the lab.
const CUT: &str = "lab cut";

const VERBS: [&str; 8] =
    ["connect", "serve", "forward", "explain", "wait", "demo", "completions", "help"];

/// Verbs of the design that a word cannot mean as a host: they are refused, not connected to.
const LATER: [&str; 2] = ["bench", "farm"];

/// Short flags that take a value: what is behind them is none of their company.
const WITH_VALUE: &str = "swp";

fn as_text(word: OsString) -> Result<String> {
    word.into_string().map_err(|word| {
        let shown = adit::escape::escape_line(word.as_encoded_bytes(), 200);
        let what = format!("\"{shown}\" is not valid UTF-8, and words of the command line are");
        usage(what, "bytes of any kind go through standard input")
    })
}

/// What the lab shall do: the only verb with another one behind it.
fn experiment(words: Vec<String>) -> Result<(&'static str, Vec<String>)> {
    let what = words.get(1).map(String::as_str);
    let hint = "the lab has: adit lab cut LISTEN TARGET";
    match what {
        Some("cut") => Ok((CUT, words.into_iter().skip(2).collect())),
        Some("-h" | "--help") => Ok(("lab", vec!["--help".to_owned()])),
        None => Err(usage("what to do in the lab is missing", hint)),
        Some(word) => Err(usage(format!("the lab has no {}", quoted(word)), hint)),
    }
}

/// `-l`, also among other short flags: `-lu`, `-ul`, `-lk`, `-lvp`.
fn is_listen(word: &str) -> bool {
    let flags = word.strip_prefix('-').filter(|flags| !flags.starts_with('-'));
    flags.is_some_and(|flags| {
        flags
            .split(|flag| WITH_VALUE.contains(flag))
            .next()
            .is_some_and(|alone| alone.contains('l'))
    })
}

/// The words behind `-l`, and the flags beside it.
fn without_l(mut words: Vec<String>) -> Vec<String> {
    let flags = words.remove(0).replacen('l', "", 1);
    if flags != "-" {
        words.insert(0, flags);
    }
    words
}

/// Goes through the words of a verb.
struct Walk {
    verb: &'static str,
    kept: Vec<String>,
    notes: Vec<&'static str>,
    has_address: bool,
    /// Sockets were passed to us: a server needs no address.
    has_passed: bool,
}

impl Walk {
    fn all(&mut self, words: Vec<String>) -> Result<()> {
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                return self.rest(words);
            }
            // The value of a flag is no flag.
            let takes_value = match word.strip_prefix('-') {
                Some(long) if long.starts_with('-') => {
                    let takes = !word.contains('=') && takes_word(&word);
                    self.kept.push(word);
                    takes
                }
                Some(flags) if !flags.is_empty() => {
                    let next = words.as_slice().first().map(String::as_str);
                    self.short(flags, next)?
                }
                _ => {
                    self.has_address = true;
                    self.kept.push(word);
                    false
                }
            };
            if takes_value {
                self.kept.extend(words.next());
            }
        }
        Ok(())
    }

    /// What stands behind `--`: a program, but without an address in front of it the addresses, and a
    /// program behind another `--`.
    fn rest(&mut self, mut words: impl Iterator<Item = String>) -> Result<()> {
        let needs_none = self.verb == "serve" && self.has_passed;
        if !self.has_address && !needs_none {
            let addresses: Vec<_> = words.by_ref().take_while(|word| word != "--").collect();
            // The parser would take it for a flag, which it cannot be here.
            if let Some(word) = addresses.iter().find(|word| word.starts_with('-')) {
                let read = Address::parse_words(std::slice::from_ref(word), Transport::Tcp);
                read.map_err(|error| usage(error.to_string(), &error.hint().unwrap_or_default()))?;
            }
            self.kept.extend(addresses);
        }
        let program: Vec<_> = words.collect();
        if !program.is_empty() {
            if !matches!(self.verb, "connect" | "serve") {
                let what = format!("-- CMD is for serve and connect, not for {}", self.verb);
                return Err(usage(what, "adit serve ADDR -- CMD, or adit ADDR -- CMD"));
            }
            self.kept.push("--".to_owned());
            self.kept.extend(program);
        }
        Ok(())
    }

    /// Short flags in one word; says whether the last one takes the next word.
    fn short(&mut self, flags: &str, next: Option<&str>) -> Result<bool> {
        let mut kept = String::from("-");
        let mut takes_value = false;
        for (at, flag) in flags.char_indices() {
            let behind = &flags[at + flag.len_utf8()..];
            self.refuse(flag, behind, next)?;
            match flag {
                'k' => self.notes.push(NOTE_K),
                'N' => self.notes.push(NOTE_N),
                flag if WITH_VALUE.contains(flag) => {
                    kept.push_str(&flags[at..]);
                    takes_value = behind.is_empty();
                    break;
                }
                flag => kept.push(flag),
            }
        }
        if kept != "-" {
            self.kept.push(kept);
        }
        Ok(takes_value)
    }

    /// How a program is started here.
    fn program(&self, written: &str, spelled: &str) -> Error {
        let what = format!("{written} is spelled {spelled} here, behind the address");
        match self.verb {
            "serve" => usage(what, &format!("adit serve PORT {spelled}")),
            "connect" => usage(what, &format!("adit HOST PORT {spelled}")),
            verb => usage(format!("{written} is for serve and connect, not for {verb}"), ""),
        }
    }

    fn refuse(&self, flag: char, behind: &str, next: Option<&str>) -> Result<()> {
        let (what, hint) = match flag {
            'q' => ("-q is spelled --end and --linger here", "adit help eof"),
            'e' => return Err(self.program("-e CMD", "-- CMD")),
            'c' => return Err(self.program("-c CMD", "--sh -- CMD")),
            'i' => ("-i is spelled --idle here", "no byte for so long: --idle 5s"),
            'x' => ("-x is spelled --hex here", "bytes of both directions: --hex"),
            'o' => ("-o is spelled --tee here", "a copy of what comes: --tee FILE"),
            'l' if self.verb == "connect" => ("-l comes first", "adit -l PORT, or adit serve PORT"),
            'l' if self.verb == "serve" => ("-l is not needed: adit serve listens", "leave it out"),
            'l' => ("-l is for servers", "to listen: adit serve PORT"),
            'p' if self.verb == "serve" => {
                let port = if behind.is_empty() { next } else { Some(behind) };
                let is_port = |port: &&str| port.parse::<u16>().is_ok();
                let port = port.filter(is_port).unwrap_or("PORT");
                let hint = format!("to listen on one: adit serve {port}");
                return Err(usage("-p is the source port of a client", &hint));
            }
            _ => return Ok(()),
        };
        Err(usage(what, hint))
    }
}

const NOTE_K: &str =
    "-k is not needed: a server serves many clients, one after the other and at once";
const NOTE_N: &str = "-N is not needed: the end of input is always passed on";

#[cfg(test)]
mod tests {
    use super::spell_out;

    fn spelled(words: &str) -> Result<String, String> {
        let words = std::iter::once("adit").chain(words.split_whitespace()).map(Into::into);
        let spelled = spell_out(words.collect()).map_err(|error| format!("{error:?}"))?;
        let words: Vec<_> = spelled.words.iter().map(|word| word.to_string_lossy()).collect();
        Ok(words[1..].join(" "))
    }

    #[test]
    fn what_can_be_meant_is_done() {
        assert_eq!(spelled("7000").unwrap(), "connect 7000");
        assert_eq!(spelled("-u host 53").unwrap(), "connect -u host 53");
        assert_eq!(spelled("-l 7000").unwrap(), "serve 7000");
        assert_eq!(spelled("-lu 7000").unwrap(), "serve -u 7000");
        assert_eq!(spelled("-lk 7000").unwrap(), "serve 7000");
        assert_eq!(spelled("-N host 80").unwrap(), "connect host 80");
        assert_eq!(spelled("serve echo 7000").unwrap(), "serve echo 7000");
        assert_eq!(spelled("--help").unwrap(), "--help");
        assert_eq!(spelled("lab cut -Nn 1 2").unwrap(), "lab cut -n 1 2");
        assert_eq!(spelled("help forward").unwrap(), "forward --help");
        assert_eq!(spelled("help eof").unwrap(), "help eof");
        assert_eq!(spelled("").unwrap(), "");
        assert_eq!(spelled("-lkv 7000").unwrap(), "serve -v 7000");
        assert_eq!(spelled("-vNw 5 host 80").unwrap(), "connect -vw 5 host 80");
        assert_eq!(spelled("-w 5 -- host 80").unwrap(), "connect -w 5 host 80");
        assert_eq!(spelled("host 80 -- cat -v -e").unwrap(), "connect host 80 -- cat -v -e");
        assert_eq!(spelled("-- host 80 -- cat -- -l").unwrap(), "connect host 80 -- cat -- -l");
        assert_eq!(spelled("-lu 7000 -- cat").unwrap(), "serve -u 7000 -- cat");
        assert_eq!(spelled("host 80 --").unwrap(), "connect host 80");
        assert_eq!(
            spelled("-s 10.0.0.1 -p20 host 80").unwrap(),
            "connect -s 10.0.0.1 -p20 host 80"
        );
        assert_eq!(spelled("wait --send -q host 80").unwrap(), "wait --send -q host 80");
    }

    #[test]
    fn traps_are_refused_with_the_words_that_work() {
        for (words, says) in [
            ("-q 1 host 80", "--linger"),
            ("host 80 -e /bin/sh", "HOST PORT -- CMD"),
            ("-le cat 7000", "serve PORT -- CMD"),
            ("-c cat host 80", "--sh -- CMD"),
            ("-l -p 7000", "adit serve 7000"),
            ("host 80 -i 5", "--idle"),
            ("-u -l 7000", "comes first"),
            ("bench :1", "not part of this version"),
            ("-q1 host 80", "--linger"),
            ("-vq 1 host 80", "--linger"),
            ("-lp 7000", "adit serve 7000"),
            ("-lp7000", "adit serve 7000"),
            ("serve echo -p 7000", "adit serve 7000"),
            ("wait host 80 -- cat -v", "for serve and connect"),
        ] {
            let error = spelled(words).unwrap_err();
            assert!(error.contains(says), "{words}: {error}");
        }
    }
}
