//! What a list asks `ban`, `unban` and `allow` for.

use std::path::Path;

use anyhow::{Context, ensure};

use super::line::{BanDetails, ListLine, ListedEnd};
use super::{MOST_NOTES, clipped, open, read_lines};
use crate::control::{BanLength, ChangeRequest};
use crate::model::{Offender, Span, Timestamp};

/// The changes that a list asks for.
#[derive(Debug, Default)]
pub struct ListedChanges {
    /// The changes, in the order of the list.
    pub changes: Vec<ChangeRequest>,
    /// Lines that ask for nothing, because their time is over, or because they are about something else.
    pub left_out: u64,
    /// How many lines are wrong.
    pub wrong: u64,
    /// The first 20 of these, with their numbers and faults.
    pub faults: Vec<(u64, String)>,
}

/// An address of a list, and what the list says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAddress {
    /// The address or prefix.
    pub offender: Offender,
    /// For how long, if the list says that.
    pub length: Option<BanLength>,
    /// The comment; may be empty.
    pub comment: String,
    /// What an exported list says besides.
    pub details: Option<Box<BanDetails>>,
}

/// How many changes a list may ask for.
const MOST_CHANGES: usize = 1_000_000;
/// How many bytes of a comment are kept: more than anybody writes.
const LONGEST_COMMENT: usize = 4096;

/// Reads a list; `-` is stdin. `request` makes a change of each address.
///
/// # Errors
///
/// The list cannot be read, or is too long.
pub fn changes(
    file: &Path,
    now: Timestamp,
    request: impl Fn(ListedAddress) -> ChangeRequest,
) -> anyhow::Result<ListedChanges> {
    let mut listed = ListedChanges::default();
    let take = |number: u64, line: Result<ListLine<'_>, String>| {
        let (offender, end, reason, details) = match line {
            Ok(ListLine::Ban { offender, end, reason, details }) => (offender, end, reason, details),
            Ok(ListLine::Other(_)) => {
                listed.left_out += 1;
                return Ok(());
            }
            Err(why) => {
                listed.wrong += 1;
                if listed.faults.len() < MOST_NOTES {
                    listed.faults.push((number, why));
                }
                return Ok(());
            }
        };
        let length = match end {
            ListedEnd::Unsaid => None,
            ListedEnd::Never => Some(BanLength(None)),
            ListedEnd::After(span) => Some(BanLength(Some(span))),
            ListedEnd::At(at) => Some(BanLength(Some(at.since(now)))),
            ListedEnd::Over => Some(BanLength(Some(Span::ZERO))),
        };
        if length == Some(BanLength(Some(Span::ZERO))) {
            listed.left_out += 1;
            return Ok(());
        }
        let comment = clipped(&reason, LONGEST_COMMENT);
        listed.changes.push(request(ListedAddress { offender, length, comment, details }));
        ensure!(listed.changes.len() <= MOST_CHANGES, "it has more than {MOST_CHANGES} addresses");
        Ok(())
    };
    let cannot = || format!("cannot read `{}`", file.display());
    read_lines(open(file)?, take).with_context(cannot)?;
    Ok(listed)
}
