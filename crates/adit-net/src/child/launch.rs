//! What a guard starts: everything that is known before a peer comes, laid out as execve(2) wants it.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::sandbox::Sandbox;
use super::user::User;

/// Variables of one peer, in bytes; those of adit are a quarter of it with the longest names.
pub const VARIABLES_BYTES_MAX: usize = 4096;
/// Variables of one peer.
pub(super) const VARIABLES_MAX: usize = 32;

/// A program with its arguments and the variables that are the same for every peer.
#[derive(Clone, Debug)]
pub struct Launch {
    program: CString,
    arguments: Vec<CString>,
    variables: Vec<CString>,
    children_max: usize,
    user: Option<User>,
    sandbox: Option<Arc<Sandbox>>,
}

impl Launch {
    /// The program is at `path`, and is told that it is called `name`.
    ///
    /// # Errors
    /// A NUL in one of them.
    pub fn new(path: &Path, name: &OsStr, children_max: usize) -> io::Result<Self> {
        Ok(Self {
            program: CString::new(path.as_os_str().as_bytes())?,
            arguments: vec![CString::new(name.as_bytes())?],
            variables: Vec::new(),
            children_max,
            user: None,
            sandbox: None,
        })
    }

    /// Adds an argument.
    ///
    /// # Errors
    /// A NUL in it.
    pub fn argument(&mut self, argument: &OsStr) -> io::Result<()> {
        self.arguments.push(CString::new(argument.as_bytes())?);
        Ok(())
    }

    /// Adds a variable of the environment, which is empty else.
    ///
    /// # Errors
    /// A NUL in it, or a `=` in its name.
    pub fn variable(&mut self, name: &OsStr, value: &OsStr) -> io::Result<()> {
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.variables.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
        Ok(())
    }

    /// Runs the program as somebody else, which only root may.
    pub fn user(&mut self, user: User) {
        self.user = Some(user);
    }

    /// Keeps the program to this.
    pub fn sandbox(&mut self, sandbox: Sandbox) {
        self.sandbox = Some(Arc::new(sandbox));
    }

    pub(super) fn children_max(&self) -> usize {
        self.children_max
    }

    pub(super) fn laid_out(&self) -> LaidOut<'_> {
        let pointers = |strings: &[CString], more: usize| {
            let mut pointers = Vec::with_capacity(strings.len() + more + 1);
            pointers.extend(strings.iter().map(|string| string.as_ptr()));
            pointers.push(ptr::null());
            pointers
        };
        LaidOut {
            program: &self.program,
            arguments: pointers(&self.arguments, 0),
            variables: pointers(&self.variables, VARIABLES_MAX),
            variables_own: self.variables.len(),
            user: self.user.as_ref(),
            sandbox: self.sandbox.as_deref(),
        }
    }
}

/// A launch as execve(2) takes it. Made before the fork, since nothing may be allocated behind it.
pub(super) struct LaidOut<'a> {
    pub(super) program: &'a CStr,
    /// Ends with a null pointer.
    pub(super) arguments: Vec<*const libc::c_char>,
    /// Ends with a null pointer, and has room for those of a peer.
    pub(super) variables: Vec<*const libc::c_char>,
    pub(super) variables_own: usize,
    pub(super) user: Option<&'a User>,
    pub(super) sandbox: Option<&'a Sandbox>,
}

/// Where a program is: as it is written if there is a slash in it, else in the first of these folders
/// that has it and lets it be run.
///
/// # Errors
/// `NotFound`, or `PermissionDenied` for one that is there and cannot be run.
pub fn find(program: &Path, folders: &OsStr) -> io::Result<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return can_run(program).map(|()| program.to_owned());
    }
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for folder in std::env::split_paths(folders).filter(|folder| !folder.as_os_str().is_empty()) {
        let path = folder.join(program);
        // A folder that may not be looked into says nothing of the program.
        if path.is_file() {
            match can_run(&path) {
                Ok(()) => return Ok(path),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

/// Is it a file that may be run?
fn can_run(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::ffi::OsStr;
    use std::io::ErrorKind;
    use std::path::Path;

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let found = |program: &str, folders: &str| {
            find(Path::new(program), OsStr::new(folders)).map_err(|error| error.kind())
        };
        let sh = found("sh", "/proc/self:/no-such-folder:/bin:/usr/bin");
        assert_eq!(sh, Ok("/bin/sh".into()));
        assert_eq!(found("sh", "/no-such-folder"), Err(ErrorKind::NotFound));
        // It is there, and nobody may run it; not even root.
        assert_eq!(found("status", "/proc/self"), Err(ErrorKind::PermissionDenied));
        assert_eq!(found("./no-such", "/bin"), Err(ErrorKind::NotFound));
        assert_eq!(found("/", "/bin"), Err(ErrorKind::PermissionDenied));
        assert_eq!(found("", "/bin"), Err(ErrorKind::NotFound));
    }
}
