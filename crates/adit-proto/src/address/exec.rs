//! Programs in the place of a peer: `exec:./prog,arg=-x`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt;

use super::error::AddressError;
use super::parse::{decode, encode, split_options};
use crate::escape::escape_line;

/// A program to talk to, by its standard input and output; no shell reads it. It stands where an address
/// to connect to may stand.
///
/// ```
/// use adit_proto::address::Exec;
/// let exec: Exec = "exec:./prog,arg=-x,arg=a%2Cb".parse().unwrap();
/// assert_eq!((exec.program.as_str(), &exec.arguments[..]), ("./prog", &["-x".to_owned(), "a,b".to_owned()][..]));
/// assert_eq!(exec.to_string(), "exec:./prog,arg=-x,arg=a%2Cb");
/// assert!("exec:./prog,ttl=1".parse::<Exec>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exec {
    /// Its path; without a slash it is looked for in the folders of `PATH`.
    pub program: String,
    /// Its arguments, in order.
    pub arguments: Vec<String>,
}

const SCHEME: &str = "exec";

/// Is the word an address of this scheme, perhaps a bad one?
pub(super) fn is_scheme(scheme: &str) -> bool {
    // RFC 3986, section 3.1: schemes are compared without case.
    scheme.eq_ignore_ascii_case(SCHEME)
}

impl Exec {
    /// Is a program meant by this word, however it goes on?
    pub fn is_meant(text: &str) -> bool {
        text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
    }

    /// As it is named in messages, safe for a terminal: `exec ./prog`.
    pub fn spoken(&self) -> String {
        format!("{SCHEME} {}", escape_line(self.program.as_bytes(), super::SPOKEN_CHARS_MAX))
    }
}

impl std::str::FromStr for Exec {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let missing = || AddressError::ProgramMissing { text: text.to_owned() };
        let (scheme, rest) = text.split_once(':').ok_or_else(missing)?;
        if !is_scheme(scheme) {
            return Err(missing());
        }
        let (place, options) = split_options(rest);
        // What separates arguments is what stands before the first; the other is a part of them.
        let separator = if rest.as_bytes().get(place.len()) == Some(&b'?') { '&' } else { ',' };
        let program = decode(place.strip_prefix("//").unwrap_or(place));
        if program.is_empty() || program.contains('\0') {
            return Err(missing());
        }
        let mut arguments = Vec::new();
        for option in options.into_iter().flat_map(|options| options.split(separator)) {
            match option.split_once('=') {
                Some(("arg", argument)) => arguments.push(decode(argument)),
                _ => {
                    let key = option.split('=').next().unwrap_or_default().to_owned();
                    return Err(AddressError::ProgramKey { key, text: text.to_owned() });
                }
            }
        }
        Ok(Self { program, arguments })
    }
}

/// As it can be read again; for messages there is [`Exec::spoken`].
impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What begins with two slashes would lose them to the scheme.
        let slashes = if self.program.starts_with("//") { "//" } else { "" };
        write!(f, "{SCHEME}:{slashes}{}", encode(&self.program))?;
        self.arguments.iter().try_for_each(|argument| write!(f, ",arg={}", encode(argument)))
    }
}

#[cfg(test)]
mod tests {
    use super::Exec;
    use crate::address::{Address, AddressError};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            program in "[^\0]{1,20}",
            arguments in prop::collection::vec("[^\0]{0,20}", 0..4),
        ) {
            let exec = Exec { program, arguments };
            prop_assert_eq!(exec.to_string().parse::<Exec>(), Ok(exec));
        }

        #[test]
        fn any_text_is_a_program_or_an_error(text: String) {
            let read = format!("exec:{text}").parse::<Exec>();
            prop_assert!(read.is_ok() || !read.unwrap_err().to_string().contains('\n'));
        }
    }

    #[test]
    fn a_program_is_no_socket() {
        let error = "exec:./prog".parse::<Address>().unwrap_err();
        assert_eq!(error.to_string(), "\"exec:./prog\" is a program and no socket");
        assert!(Exec::is_meant("EXEC://usr/bin/x") && !Exec::is_meant("./exec"));
        let program = |text: &str| text.parse::<Exec>().map(|exec| exec.program);
        assert_eq!(program("exec:///bin/cat"), Ok("/bin/cat".to_owned()));
        assert_eq!(program("exec:cat?arg=-u&arg=-"), Ok("cat".to_owned()));
        let arguments = |text: &str| text.parse::<Exec>().map(|exec| exec.arguments);
        assert_eq!(arguments("exec:sh,arg=a & b?,arg="), Ok(vec!["a & b?".into(), String::new()]));
        assert_eq!(arguments("exec:sh?arg=a,b&arg=c"), Ok(vec!["a,b".into(), "c".into()]));
        let key = program("exec:cat,env=A=1").unwrap_err();
        assert!(matches!(&key, AddressError::ProgramKey { key, .. } if key == "env"), "{key}");
        assert!(matches!(program("exec:"), Err(AddressError::ProgramMissing { .. })));
    }
}
