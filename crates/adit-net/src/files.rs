//! Files that hold what others must not read.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Creates a file that only its owner can read, or empties the one that is there. A link in its place
/// is not followed.
///
/// # Errors
/// As open(2); "too many links" for a link, "no such device or address" for a pipe without a reader.
pub fn create_private(path: &Path) -> io::Result<File> {
    // Nonblocking for the open alone: a pipe that nobody reads is an error, not a wait for ever.
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    // One that was there may have been open to others.
    if file.metadata()?.is_file() {
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::create_private;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    #[test]
    fn only_the_owner_reads_it_and_a_link_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("adit-files-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (path, link) = (folder.join("trace"), folder.join("link"));
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        drop(create_private(&path).unwrap());
        let made = path.metadata().unwrap();
        assert_eq!((made.len(), made.mode() & 0o777), (0, 0o600));
        symlink(&path, &link).unwrap();
        assert!(create_private(&link).is_err());
        let pipe = folder.join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(create_private(&pipe).is_err(), "nobody reads it");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
