//! What the processes of the demo write down about themselves, for the picture at the end.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use adit::Result;
use adit_trace::{Story, merge, read};

use super::internal;

/// The traces of all processes, in a folder that is gone afterwards; none if no picture is wanted.
pub(super) struct Traces {
    folder: Option<PathBuf>,
    files: Vec<PathBuf>,
}

impl Traces {
    pub(super) fn new(wanted: bool) -> Result<Self> {
        let make = || {
            let name = format!("adit-demo-{}", adit::system::random_u64()?);
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).map(|()| folder)
        };
        let folder = wanted.then(make).transpose();
        let folder = folder.map_err(|error| internal(&format!("no temporary folder: {error}")))?;
        Ok(Self { folder, files: Vec::new() })
    }

    /// The flags that make the next process write its trace.
    pub(super) fn flags(&mut self) -> Vec<String> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let path = folder.join(format!("{}.jsonl", self.files.len()));
        let flag = format!("--trace={}", path.display());
        self.files.push(path);
        vec![flag, "--payload=64".to_owned()]
    }

    /// One story of them all: the server's, with what each client did beside it.
    pub(super) fn story(&self) -> Result<Option<Story>> {
        let Some((server, clients)) = self.files.split_first() else { return Ok(None) };
        let mut whole = story(server)?;
        for client in clients {
            // A client of whom the server saw nothing is a datagram that got lost.
            if let Ok(both) = merge::merge(whole.clone(), story(client)?) {
                whole = both;
            }
        }
        Ok(Some(whole))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What cannot be removed is left to the system's own cleaning of temporary files.
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

fn story(path: &Path) -> Result<Story> {
    let file = File::open(path).map_err(|error| internal(&error.to_string()))?;
    read::read(BufReader::new(file)).map_err(|error| internal(&error.to_string()))
}
