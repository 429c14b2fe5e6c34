//! Which files a journal consists of.
//!
//! The directories are listed again when they have changed, and every second anyhow, since not every file system says
//! so. A file is known by its inode, so one that is rotated is read on under its new name.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::cursor::Id;

/// The most files of a journal, as in libsystemd.
const FILES: usize = 7168;

/// After which time directories are listed again though they look unchanged.
const LIST: Duration = Duration::from_secs(1);

/// What changes a directory within this time of another change may leave its time as it was.
const CLOCK: Duration = Duration::from_millis(100);

/// Where journals are kept.
const ROOTS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Which journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalPlace {
    /// That of this machine, without namespaces.
    System,
    /// That of a namespace of this machine (systemd-journald@.service(8)).
    Namespace(String),
    /// The files in a directory, and in those below it that are named after a machine.
    Directory(PathBuf),
    /// These files.
    Files(Vec<PathBuf>),
}

/// A file that may be of a journal.
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    pub(crate) id: (u64, u64),
}

/// The directories that were listed.
pub(crate) struct Listing {
    place: JournalPlace,
    machine: String,
    /// With the time of the last change, where a further one would show.
    directories: Vec<(PathBuf, Option<SystemTime>)>,
    listed: Option<Instant>,
}

impl Listing {
    pub(crate) fn new(place: JournalPlace) -> Self {
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
        Self { place, machine, directories: Vec::new(), listed: None }
    }

    /// Has them listed again.
    pub(crate) fn forget(&mut self) {
        self.listed = None;
    }

    /// The files, if they may be others than the last time.
    ///
    /// # Errors
    ///
    /// If a directory that was asked for cannot be read.
    pub(crate) fn look(&mut self) -> io::Result<Option<Vec<FoundFile>>> {
        let is_due = self.listed.is_none_or(|listed| listed.elapsed() >= LIST);
        let has_changed =
            |(path, time): &(PathBuf, Option<SystemTime>)| time.is_none() || *time != changed(path);
        if !is_due && !self.directories.iter().any(has_changed) {
            return Ok(None);
        }
        self.listed = Some(Instant::now());
        self.directories.clear();
        let mut found = Vec::new();
        match &self.place {
            JournalPlace::Files(paths) => paths.clone().into_iter().for_each(|path| add(path, &mut found)),
            JournalPlace::Directory(path) => {
                let root = path.clone();
                self.list(&root, &mut found, &is_machine)?;
            }
            JournalPlace::System => {
                let machine = self.machine.clone();
                for root in ROOTS {
                    // What is in `/run` is of this machine, whatever it is called.
                    let is_ours =
                        |name: &str| name == machine || root.starts_with("/run") && is_machine(name);
                    self.list(Path::new(root), &mut found, &is_ours).or_else(missing)?;
                }
            }
            JournalPlace::Namespace(namespace) => {
                let (machine, namespace) = (self.machine.clone(), namespace.clone());
                for root in ROOTS {
                    let is_ours = |name: &str| {
                        let halves = name.split_once('.').filter(|(_, suffix)| *suffix == namespace);
                        halves.is_some_and(|(id, _)| {
                            id == machine || root.starts_with("/run") && is_machine(id)
                        })
                    };
                    self.list(Path::new(root), &mut found, &is_ours).or_else(missing)?;
                }
            }
        }
        found.truncate(FILES);
        Ok(Some(found))
    }

    /// Adds the files of a directory and of those below that are wanted.
    fn list(
        &mut self,
        root: &Path,
        found: &mut Vec<FoundFile>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> io::Result<()> {
        let below = self.files(root, found)?;
        for directory in below {
            if directory.file_name().and_then(|name| name.to_str()).is_some_and(is_wanted) {
                // It may be gone, or not ours to read.
                let _ = self.files(&directory, found);
            }
        }
        Ok(())
    }

    /// Adds the files of a directory; what else is in it.
    fn files(&mut self, directory: &Path, found: &mut Vec<FoundFile>) -> io::Result<Vec<PathBuf>> {
        let before = changed(directory);
        let mut others = Vec::new();
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
            if name.ends_with(b".journal") || name.ends_with(b".journal~") {
                add(path, found);
            } else {
                others.push(path);
            }
        }
        // Where its time is to come, the next change shows.
        let is_settled = before.is_some_and(|time| time.elapsed().map_or(true, |age| age > CLOCK));
        self.directories.push((directory.to_owned(), before.filter(|_| is_settled)));
        Ok(others)
    }
}

/// What may be of a directory that nobody asked for by name.
fn missing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(()),
        _ => Err(error),
    }
}

fn add(path: PathBuf, found: &mut Vec<FoundFile>) {
    if let Ok(metadata) = fs::metadata(&path)
        && metadata.is_file()
    {
        found.push(FoundFile { path, id: (metadata.dev(), metadata.ino()) });
    }
}

fn changed(directory: &Path) -> Option<SystemTime> {
    fs::metadata(directory).and_then(|metadata| metadata.modified()).ok()
}

/// Whether a directory is named after a machine.
fn is_machine(name: &str) -> bool {
    name.parse::<Id>().is_ok()
}
