//! Files that hold what others must not read.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags, access, fcntl_getfl, fcntl_setfl};

/// Creates a file that only its owner can read, or empties the one that is there. A link in its place
/// is not followed. Does not wait: a pipe with a name has to have its reader already.
///
/// # Errors
/// As open(2); "too many links" for a link, "no such device or address" for a pipe that nobody reads.
pub fn create_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    // Only opening must not wait. A file knows no other way to write.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    // One that was there may have been open to others.
    if file.metadata()?.is_file() {
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    }
    Ok(file)
}

/// A file that takes its place once it is whole, readable by its owner only.
///
/// It is written beside that place. Dropped before [`finish`](Self::finish), it leaves nothing behind, and
/// the file that was there as it was. What is no regular file, a pipe for instance, is written directly.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    beside: Option<PathBuf>,
    path: PathBuf,
}

impl Replacement {
    /// Makes the file.
    ///
    /// # Errors
    /// As [`create_private`], also if the file that is there must not be written.
    pub fn of(path: &Path) -> io::Result<Self> {
        let is_new = match path.symlink_metadata() {
            Ok(there) if there.is_file() => {
                access(path, Access::WRITE_OK)?;
                true
            }
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::NotFound && path.file_name().is_some(),
        };
        let path = path.to_owned();
        if !is_new {
            let file = create_private(&path)?;
            return Ok(Self { file, beside: None, path });
        }
        // A name of its own length: that of the place may be as long as names can be.
        let beside = path.with_file_name(format!(".adit-{:016x}.part", crate::random_u64()?));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR)?);
        Ok(Self { file, beside: Some(beside), path })
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// As rename(2).
    pub fn finish(mut self) -> io::Result<()> {
        match self.beside.take() {
            Some(beside) => std::fs::rename(&beside, &self.path).inspect_err(|_| remove(&beside)),
            None => Ok(()),
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            remove(beside);
        }
    }
}

fn remove(beside: &Path) {
    // What cannot be removed either is left: why the file is missing is said by the first error.
    drop(std::fs::remove_file(beside));
}

// Miri knows no pipes with names.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::{Replacement, create_private};
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_when_it_is_whole_and_else_left_as_it_was() {
        let folder = std::env::temp_dir().join(format!("adit-whole-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (path, link) = (folder.join("n".repeat(255)), folder.join("link"));
        let files = || std::fs::read_dir(&folder).unwrap().count();
        for (is_finished, text, count) in [(false, None, 0), (true, Some("new"), 1)] {
            let mut file = Replacement::of(&path).unwrap();
            file.write_all(b"new").unwrap();
            if is_finished {
                file.finish().unwrap();
            } else {
                drop(file);
            }
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), text);
            assert_eq!(files(), count);
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        drop(Replacement::of(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        symlink(&path, &link).unwrap();
        assert!(Replacement::of(&link).is_err());
        assert!(Replacement::of(&folder).is_err());
        assert!(Replacement::of(&folder.join("none").join("file")).is_err());
        assert_eq!(files(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }

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

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_and_one_with_a_reader_is_written_as_any_file() {
        use rustix::fs::{CWD, FileType, Mode, OFlags};
        use std::io::{Read as _, Write as _};
        let folder = std::env::temp_dir().join(format!("adit-pipes-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("pipe");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(create_private(&path).unwrap_err().raw_os_error(), Some(libc::ENXIO));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let mut reader =
            std::fs::File::from(rustix::fs::open(&path, flags, Mode::empty()).unwrap());
        let mut writer = create_private(&path).unwrap();
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");
        writer.write_all(b"line").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "line");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
