//! The files that `ignoreip` names: one exempt address or prefix per line.
//!
//! Others write them, at any time. So a broken line does not undo the rest, a file that is missing for a moment keeps
//! its last content, and faults are warnings.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::value::wide;
use crate::model::Offender;
use crate::model::plain;

/// What those files say, as last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowFiles(BTreeMap<PathBuf, AllowFile>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AllowFile {
    /// `None` where it could not be read the last time.
    stamp: Option<Stamp>,
    members: Vec<Offender>,
}

/// What is wrong with such a file. Print it for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowFault {
    /// The file.
    pub file: PathBuf,
    /// The line; `None` where it cannot be read at all.
    pub line: Option<usize>,
    what: String,
}

impl fmt::Display for AllowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Time of the last change, length and inode: what tells that a file is another.
type Stamp = (i64, i64, u64, u64);

impl AllowFiles {
    /// Reads these files; and what is wrong with them, for people.
    pub fn read<'p>(paths: impl IntoIterator<Item = &'p Path>) -> (Self, Vec<AllowFault>) {
        let (mut files, mut warnings) = (BTreeMap::new(), Vec::new());
        for path in paths {
            let mut file = AllowFile::default();
            file.read(path, stamp(path), &mut warnings);
            files.insert(path.to_owned(), file);
        }
        (Self(files), warnings)
    }

    /// Reads again those that have changed; what is wrong with them, or `None` where none has. One that cannot be read
    /// any more keeps what it said.
    pub fn renew(&mut self) -> Option<Vec<AllowFault>> {
        let mut warnings = None;
        for (path, file) in &mut self.0 {
            let stamp = stamp(path);
            if stamp != file.stamp {
                file.read(path, stamp, warnings.get_or_insert_default());
            }
        }
        warnings
    }

    /// Takes over what `other` has read of the same files.
    pub fn adopt(&mut self, other: &Self) {
        for (path, file) in &mut self.0 {
            other.0.get(path).into_iter().for_each(|newer| file.clone_from(newer));
        }
    }

    /// The exemptions of this file.
    pub fn members(&self, path: &Path) -> &[Offender] {
        self.0.get(path).map_or(&[], |file| &file.members)
    }
}

impl AllowFile {
    fn read(&mut self, path: &Path, stamp: Option<Stamp>, warnings: &mut Vec<AllowFault>) {
        self.stamp = stamp;
        match fs::read(path) {
            Ok(text) => self.members = members(path, &String::from_utf8_lossy(&text), warnings),
            Err(error) => {
                let kept = if self.members.is_empty() {
                    "it exempts no address"
                } else {
                    "its last good content stays in effect"
                };
                let what = format!("cannot read `{}`, so {kept}: {error}", path.display());
                warnings.push(AllowFault { file: path.to_owned(), line: None, what });
                self.stamp = None;
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
}

/// The addresses and prefixes of a text, one a line; `#` begins a comment.
fn members(path: &Path, text: &str, warnings: &mut Vec<AllowFault>) -> Vec<Offender> {
    let mut members = Vec::new();
    let fault = |line: usize, what| AllowFault { file: path.to_owned(), line: Some(line), what };
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        match entry.parse::<Offender>() {
            _ if entry.is_empty() => {}
            Ok(offender) => {
                let warning = wide(offender).map(|what| fault(number, format!("warning: {what}")));
                warnings.extend(warning);
                members.push(offender);
            }
            Err(error) => warnings.push(fault(number, plain(error.to_string()))),
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_is_told_and_the_rest_holds() {
        let text = "# ours\n192.0.2.1 # door\n\nhost.example\r\n2001:db8::/32\n192.0.2.0/33\n0.0.0.0/0";
        let mut warnings = Vec::new();
        let members = members(Path::new("/a"), text, &mut warnings);
        assert_eq!(members, ["192.0.2.1", "2001:db8::/32", "0.0.0.0/0"].map(|who| who.parse().unwrap()));
        let hint = "is not an address or prefix; write `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`";
        let want = [
            format!("/a:4: `host.example` {hint}"),
            format!("/a:6: `192.0.2.0/33` {hint}"),
            "/a:7: warning: `0.0.0.0/0` exempts every IPv4 address, so none is ever banned".to_owned(),
        ];
        assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_lost_one_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allow.list");
        let read = |files: &mut AllowFiles| {
            let warnings = files.renew();
            (warnings.map(|warnings| warnings.len()), files.members(&path).len())
        };
        let (mut files, warnings) = AllowFiles::read([path.as_path()]);
        assert_eq!((warnings.len(), read(&mut files)), (1, (None, 0)));
        fs::write(&path, "192.0.2.1\n").unwrap();
        assert_eq!(read(&mut files), (Some(0), 1));
        assert_eq!(read(&mut files), (None, 1));
        fs::write(&path, "192.0.2.1\n192.0.2.2\nx\n").unwrap();
        assert_eq!(read(&mut files), (Some(1), 2));
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&mut files), (Some(1), 2));
        assert_eq!(read(&mut files), (None, 2));
    }
}
