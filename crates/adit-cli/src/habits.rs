//! Habits: what people type who come from nc, ncat and socat. What can be meant is done; what would
//! mean something else here is refused with the words that work.

use std::ffi::OsString;

/// The words of the command line with the verb spelled out, or why they cannot be meant.
pub(crate) fn spell_out(words: Vec<OsString>) -> Result<Spelled, String> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_else(|| "adit".into());
    let rest: Vec<OsString> = words.collect();
    let first = rest.first().and_then(|word| word.to_str()).unwrap_or_default();
    let (verb, rest) = match first {
        "" | "-h" | "--help" | "-V" | "--version" => (None, rest),
        word if VERBS.contains(&word) => (None, rest),
        word if LATER.contains(&word) => {
            return Err(format!("adit {word} is not part of this version"));
        }
        word if is_listen(word) => {
            let flags = word.replace('l', "");
            let mut rest: Vec<OsString> = rest.into_iter().skip(1).collect();
            if flags != "-" {
                rest.insert(0, flags.into());
            }
            (Some("serve"), rest)
        }
        _ => (Some("connect"), rest),
    };
    let notes = refuse_traps(verb, &rest)?;
    let kept = rest.into_iter().filter(|word| word != "-k" && word != "-N");
    let words = [program].into_iter().chain(verb.map(Into::into)).chain(kept).collect();
    Ok(Spelled { words, notes })
}

/// A command line in adit's own words.
#[derive(Debug)]
pub(crate) struct Spelled {
    pub(crate) words: Vec<OsString>,
    /// What to say about habits that need no flag here.
    pub(crate) notes: Vec<&'static str>,
}

const VERBS: [&str; 6] = ["connect", "serve", "wait", "demo", "completions", "help"];

/// Verbs of the design that a word cannot mean as a host: they are refused, not connected to.
const LATER: [&str; 5] = ["forward", "bench", "explain", "lab", "farm"];

/// `-l`, also among other short flags: `-lu`, `-ul`, `-lk`.
fn is_listen(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|flags| {
        flags.contains('l') && flags.chars().all(|flag| "lukvn46UNC".contains(flag))
    })
}

fn refuse_traps(verb: Option<&str>, words: &[OsString]) -> Result<Vec<&'static str>, String> {
    let mut notes = Vec::new();
    let listens = verb == Some("serve");
    let mut previous = "";
    for word in words.iter().filter_map(|word| word.to_str()) {
        let trap = match word {
            "-q" => "-q is spelled --end and --linger here: adit help eof",
            "-e" | "-c" => "-e and -c are not part of this version",
            "-i" => "-i is spelled --idle here",
            "-x" | "-o" => "-x and -o are not part of this version",
            "-l" if verb == Some("connect") => "-l comes first: adit -l PORT, or adit serve PORT",
            "-p" if listens => {
                "-p is the source port of a client; to listen on one: adit serve PORT"
            }
            "-k" => {
                notes.push("-k is not needed: a server serves many clients, one after the other and at once");
                ""
            }
            "-N" => {
                notes.push("-N is not needed: the end of input is always passed on");
                ""
            }
            _ => "",
        };
        // The value of a flag is no flag.
        if !trap.is_empty() && !matches!(previous, "--send" | "--frame") {
            return Err(trap.to_owned());
        }
        previous = word;
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::spell_out;

    fn spelled(words: &str) -> Result<String, String> {
        let words = std::iter::once("adit").chain(words.split_whitespace()).map(Into::into);
        let spelled = spell_out(words.collect())?;
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
        assert_eq!(spelled("").unwrap(), "");
    }

    #[test]
    fn traps_are_refused_with_the_words_that_work() {
        for (words, says) in [
            ("-q 1 host 80", "--linger"),
            ("host 80 -e /bin/sh", "not part of this version"),
            ("-l -p 7000", "adit serve PORT"),
            ("host 80 -i 5", "--idle"),
            ("-u -l 7000", "comes first"),
            ("forward :1 :2", "not part of this version"),
        ] {
            let error = spelled(words).unwrap_err();
            assert!(error.contains(says), "{words}: {error}");
        }
    }
}
