//! The ends of log files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The end of a file, `most` bytes or less, from the beginning of a line on.
///
/// # Errors
///
/// It cannot be read.
pub fn tail(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(most);
    let mut text = Vec::new();
    // With the byte before, which is the end of a line if a whole one follows.
    file.seek(SeekFrom::Start(start.saturating_sub(1)))?;
    file.take(most + 1).read_to_end(&mut text)?;
    if start > 0 {
        let whole = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1);
        text.drain(..whole);
    }
    Ok(text)
}

/// What is looked at of a file to learn what its lines are like: so many bytes and lines at its end, of so many files.
const MOST_BYTES: u64 = 64 << 10;
const MOST_LINES: usize = 100;
const MOST_FILES: usize = 16;

/// The last lines of the files of a pattern.
pub fn last_lines(pattern: &str) -> Vec<Vec<u8>> {
    let paths = glob::glob(pattern).into_iter().flatten().flatten().filter(|path| path.is_file());
    let of = |path: std::path::PathBuf| {
        let text = tail(&path, MOST_BYTES).unwrap_or_default();
        let lines = text.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.take(MOST_LINES).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    paths.take(MOST_FILES).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        for (most, want) in [
            (0, ""),
            (6, "three\n"),
            (7, "three\n"),
            (9, "three\n"),
            (10, "two\nthree\n"),
            (99, "one\ntwo\nthree\n"),
        ] {
            assert_eq!(String::from_utf8(tail(&path, most).unwrap()).unwrap(), want, "{most}");
        }
        assert_eq!(
            last_lines(&folder.path().join("l*").display().to_string()),
            [&b"three"[..], b"two", b"one"]
        );
    }
}
