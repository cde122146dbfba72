//! Passed: what the environment says about sockets is a name for each of them, or why there is none.

use adit_net::passed::{Announced, FIRST, Unannounced};

/// The process that reads.
const OWN: u32 = 7;

/// The values of three variables with a NUL between them; one that begins with 0xff is not set.
pub(crate) fn passed(data: &[u8]) {
    let mut values = data.splitn(3, |byte| *byte == 0).map(|value| {
        (value.first() != Some(&0xff)).then(|| String::from_utf8_lossy(value).into_owned())
    });
    let mut value = || values.next().flatten();
    let (pid, count, names) = (value(), value(), value());
    let read = Announced::read(pid.as_deref(), count.as_deref(), names.as_deref(), OWN);
    let is_for_us = pid.as_deref().and_then(|pid| pid.parse().ok()) == Some(OWN);
    match read {
        Ok(announced) => {
            assert!(is_for_us);
            assert_eq!(count.and_then(|count| count.parse().ok()), Some(announced.names.len()));
            let numbers = announced.descriptors().map(|(number, _)| number);
            assert!(numbers.eq((FIRST..).take(announced.names.len())));
            if let Some(names) = names.filter(|_| !announced.names.is_empty()) {
                assert_eq!(announced.names.join(":"), names);
            }
        }
        Err(Unannounced::Nothing) => assert!(pid.is_none() || count.is_none()),
        Err(Unannounced::Other(other)) => assert!(!is_for_us && Some(other) == pid),
        Err(Unannounced::Count(text)) => assert!(is_for_us && Some(text) == count),
        Err(Unannounced::Names { names: found, count: announced }) => {
            assert_eq!(names.map(|names| names.split(':').count()), Some(found));
            assert_eq!(count.and_then(|count| count.parse().ok()), Some(announced));
            assert_ne!(found, announced);
        }
    }
}
