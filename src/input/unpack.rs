//! Reads a log file, plain or compressed by logrotate. The first bytes show the format, whatever its name. It holds a
//! part of the archive at a time, however large that is.

use std::io::{BufRead, BufReader, Cursor, Error, ErrorKind, Read, Result, copy, sink};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The first bytes of archives that we know, and whether we read them.
const MAGIC: &[(&[u8], Compression)] = &[
    (b"\x1f\x8b", Compression::Gzip),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
    (b"\xfd7zXZ\0", Compression::Other("xz")),
    (b"BZh", Compression::Other("bzip2")),
];
/// As many as the longest of these has.
const LONGEST: u64 = 6;

#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
    Other(&'static str),
}

/// What `input` holds, unpacked where it is packed with gzip or zstd. Whatever else it is, a log included, comes as it
/// is.
///
/// # Errors
///
/// It cannot be read, or is packed in a way that we do not unpack. A damaged archive shows as it is read: what is
/// before the damage comes first.
pub fn unpack<'i>(mut input: impl Read + 'i) -> Result<Box<dyn Read + 'i>> {
    let mut head = Vec::new();
    input.by_ref().take(LONGEST).read_to_end(&mut head)?;
    let kind = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind);
    let whole = Cursor::new(head).chain(input);
    Ok(match kind {
        None => Box::new(whole),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(whole)),
        Some(Compression::Zstd) => {
            Box::new(Frames { decoder: FrameDecoder::new(), input: BufReader::new(whole) })
        }
        Some(Compression::Other(name)) => {
            let what = format!(
                "it is compressed with {name}, which is not supported; decompress it into `banstream replay`"
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
    })
}

/// The frames of a zstd archive, one after the other (RFC 8878, 3.1). Its windows take 128 MiB at most.
struct Frames<R> {
    decoder: FrameDecoder,
    input: R,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        loop {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(Error::other)?;
            }
            let read = self.decoder.read(bytes)?;
            if read > 0 || bytes.is_empty() {
                return Ok(read);
            }
            let written = self.decoder.get_checksum_from_data();
            if written.is_some() && written != self.decoder.get_calculated_checksum() {
                return Err(Error::new(ErrorKind::InvalidData, "wrong checksum"));
            }
            if self.input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.reset(&mut self.input) {
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => drop(copy(&mut self.input.by_ref().take(length.into()), &mut sink())?),
                begun => begun.map_err(Error::other)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    /// What these bytes are before an error, and whether there is one.
    #[track_caller]
    fn check(bytes: &[u8], want: &[u8], fails: bool) {
        let mut text = Vec::new();
        let end = unpack(bytes).and_then(|mut input| input.read_to_end(&mut text));
        assert!(text == want, "{} bytes", text.len());
        assert_eq!(end.is_err(), fails, "{end:?}");
    }

    #[test]
    fn an_archive_is_known_by_its_first_bytes() {
        let text = b"Nov 21 00:00:00 web01 sshd[1]: a\n".repeat(9_999);
        for whole in [text.clone(), gzip(&text), zstd(&text)] {
            check(&whole, &text, false);
        }
        check(b"", b"", false);
        check(b"\x1f", b"\x1f", false);
        check(b"\xfd7zXZ\0rest", b"", true);
        check(b"BZh91AY", b"", true);
    }

    #[test]
    fn archives_can_stand_one_behind_the_other() {
        check(&[gzip(b"one\n"), gzip(b""), gzip(b"two\n")].concat(), b"one\ntwo\n", false);
        let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        check(&[zstd(b"one\n"), skipped, zstd(b"two\n")].concat(), b"one\ntwo\n", false);
    }

    #[test]
    fn what_is_before_the_damage_is_read() {
        let text: Vec<u8> = (0..99_999).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        for whole in [gzip(&text), zstd(&text)] {
            let half = whole.get(..whole.len() / 2).unwrap();
            let mut read = Vec::new();
            unpack(half).unwrap().read_to_end(&mut read).unwrap_err();
            assert!(read.len() > text.len() / 8 && text.starts_with(&read), "{}", read.len());
            let mut changed = whole.clone();
            *changed.last_mut().unwrap() ^= 1;
            check(&changed, &text, true);
        }
        check(&[zstd(b"one\n"), b"garbage".to_vec()].concat(), b"one\n", true);
        check(&[gzip(b"one\n"), b"garbage".to_vec()].concat(), b"one\n", true);
    }
}
