//! The end of the command: one table from codes to exit status, and the one place that exits.

use std::process::ExitCode;

use adit::Code;

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: Code,
    /// A limit that the user has set himself expired.
    pub(crate) by_users_limit: bool,
    /// The signal that ends it.
    pub(crate) signal: Option<i32>,
}

/// SIGINT, SIGTERM and SIGHUP (signal(7)).
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGUSR1: i32 = adit::system::process::USR1;

impl Exit {
    /// Everything ended as it should.
    pub(crate) const OK: Self = Self::of(Code::Ok);

    pub(crate) const fn of(code: Code) -> Self {
        Self { code, by_users_limit: false, signal: None }
    }

    /// A limit expired; `by_user` if it was no built-in default.
    pub(crate) const fn limit(code: Code, by_user: bool) -> Self {
        Self { code, by_users_limit: by_user, signal: None }
    }

    /// Ended by a signal.
    pub(crate) const fn signal(number: i32) -> Self {
        Self { code: Code::Signal, by_users_limit: false, signal: Some(number) }
    }

    /// Was the command told to end by a signal, whether or not everything was finished first?
    pub(crate) fn is_by_signal(self) -> bool {
        self.signal.is_some() || self.code == Code::Drained
    }

    /// The exit status: 0 clean, 1 network, 2 usage, 124 a limit of the user's, 126 and 127 a
    /// program that does not run, 128 + n a signal.
    pub(crate) fn status(self) -> u8 {
        match (self.code, self.signal) {
            (_, Some(signal)) => 128 + u8::try_from(signal).unwrap_or(0),
            (Code::Ok | Code::Drained, _) => 0,
            (Code::Usage | Code::Config | Code::Unsafe, _) => 2,
            (Code::StdoutClosed, _) => 141,
            // As a shell has it.
            (Code::CannotRun, _) => 126,
            (Code::NotFound, _) => 127,
            (Code::WaitTimeout, _) => 124,
            _ if self.by_users_limit => 124,
            _ => 1,
        }
    }

    /// Ends the process. After a signal it ends by that signal, so that a shell sees it.
    pub(crate) fn leave(self) -> ExitCode {
        if let Some(signal) = self.signal
            && adit::system::process::end_by_signal(signal).is_err()
        {
            return ExitCode::from(self.status());
        }
        ExitCode::from(self.status())
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Exit, SIGINT};

    #[test]
    fn every_code_has_its_class() {
        assert_eq!(Exit::of(Code::Ok).status(), 0);
        assert_eq!(Exit::of(Code::Drained).status(), 0);
        assert_eq!(Exit::of(Code::Usage).status(), 2);
        assert_eq!(Exit::of(Code::Config).status(), 2);
        assert_eq!(Exit::of(Code::StdoutClosed).status(), 141);
        assert_eq!(Exit::of(Code::CannotRun).status(), 126);
        assert_eq!(Exit::of(Code::NotFound).status(), 127);
        assert_eq!(Exit::limit(Code::IdleTimeout, true).status(), 124);
        assert_eq!(Exit::limit(Code::IdleTimeout, false).status(), 1);
        assert_eq!(Exit::limit(Code::WaitTimeout, false).status(), 124);
        assert_eq!(Exit::of(Code::TlsUntrusted).status(), 1);
        assert_eq!(Exit::limit(Code::HandshakeTimeout, true).status(), 124);
        assert_eq!(Exit::limit(Code::HandshakeTimeout, false).status(), 1);
        assert_eq!(Exit::signal(SIGINT).status(), 130);
        for code in Code::ALL {
            let status = Exit::of(*code).status();
            assert!(code.is_clean() == (status == 0), "{code}: {status}");
        }
    }
}
