//! Files that hold what others must not read.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};

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
