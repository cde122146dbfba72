//! Who a program runs as: users and their groups, as the system's own lists have them.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt as _;
use std::ptr;

/// Who a program runs as (credentials(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All groups it is in.
    pub groups: Vec<u32>,
    /// Its folder.
    pub home: OsString,
}

/// Is this process root's?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The number of the user that this process acts as.
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Groups of one user; the kernel takes no more (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;
/// Room for the texts of one entry: name, comment, folder, shell.
const ENTRY_BYTES: usize = 16 << 10;

impl User {
    /// The user of this name, if there is one.
    ///
    /// # Errors
    /// The list of users cannot be read.
    pub fn named(name: &str) -> io::Result<Option<Self>> {
        let name = CString::new(name)?;
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut texts: Vec<libc::c_char> = vec![0; ENTRY_BYTES];
        let mut found: *mut libc::passwd = ptr::null_mut();
        // SAFETY: the name ends with a NUL, and entry and texts live through the call and are as long
        // as it is told.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                texts.as_mut_ptr(),
                texts.len(),
                &raw mut found,
            )
        };
        if found.is_null() {
            return match error {
                0 | libc::ENOENT | libc::ESRCH => Ok(None),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        // SAFETY: a result that is not null is this entry, which was filled in.
        let entry = unsafe { entry.assume_init() };
        let (uid, gid) = (entry.pw_uid, entry.pw_gid);
        // SAFETY: it points into `texts`, which is still there, and ends with a NUL.
        let home = unsafe { CStr::from_ptr(entry.pw_dir) };
        let home = OsString::from_vec(home.to_bytes().to_vec());
        Ok(Some(Self { uid, gid, groups: groups_of(&name, gid)?, home }))
    }
}

fn groups_of(name: &CString, gid: u32) -> io::Result<Vec<u32>> {
    let mut room = 64;
    while room <= GROUPS_MAX {
        let mut groups: Vec<libc::gid_t> = vec![0; room];
        let mut count = libc::c_int::try_from(room).unwrap_or(libc::c_int::MAX);
        // SAFETY: the name ends with a NUL, and there is room for as many groups as `count` says.
        let got =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if got >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        room *= 4;
    }
    Err(io::Error::other("a user in too many groups"))
}

#[cfg(test)]
mod tests {
    use super::User;

    #[test]
    fn users_are_found_by_name() {
        let root = User::named("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0) && root.home == "/root");
        assert_eq!(User::named("no-such-user-here").unwrap(), None);
        assert!(User::named("no\0such").is_err());
    }
}
