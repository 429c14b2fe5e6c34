//! Countries and networks beside addresses, by the files that the daemon's configuration names. This process reads them
//! itself, and again only where one has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{Offender, plain};
use crate::tools::geoip::GeoIp;

/// What the files say of some addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Located {
    /// Where each is, for people; empty if no file can be read.
    pub(super) places: Vec<String>,
    /// What is wrong with the files, for people.
    pub(super) faults: Vec<String>,
}

/// The files, open.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<OpenFiles>);

#[derive(Debug, Default)]
struct OpenFiles {
    stamps: Vec<(PathBuf, Option<FileStamp>)>,
    geoip: GeoIp,
    faults: Vec<String>,
}

/// Time of the last change, length and inode: what tells that a file is another.
type FileStamp = (i64, i64, u64, u64);

impl Places {
    /// Where these are, by these files.
    pub(super) async fn find(self: &Arc<Self>, paths: &[PathBuf], who: Vec<Offender>) -> Located {
        if paths.is_empty() {
            return Located::default();
        }
        let (places, paths) = (Arc::clone(self), paths.to_vec());
        let found = tokio::task::spawn_blocking(move || places.look(&paths, &who)).await;
        found.unwrap_or_default()
    }

    fn look(&self, paths: &[PathBuf], who: &[Offender]) -> Located {
        let stamps: Vec<_> = paths.iter().map(|path| (path.clone(), stamp(path))).collect();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.stamps != stamps {
            *open = OpenFiles { stamps, geoip: GeoIp::open(paths), faults: Vec::new() };
        }
        let OpenFiles { geoip, faults, .. } = &mut *open;
        let places = if geoip.is_empty() {
            Vec::new()
        } else {
            who.iter().map(|who| plain(geoip.find(*who).to_string())).collect()
        };
        let told = geoip.faults().into_iter();
        faults.extend(told.map(|fault| format!("geoip: {fault}; countries or networks are missing")));
        Located { places, faults: faults.clone() }
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
}
