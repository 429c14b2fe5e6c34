//! What a list asks `ban`, `unban` and `allow` for.

use std::path::Path;

use anyhow::{Context, ensure};

use super::line::{ListLine, ListedEnd};
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

/// How many changes a list may ask for.
const MOST_CHANGES: usize = 1_000_000;

/// Reads a list; `-` is stdin. `request` makes a change of an address, of how long the list says, and of its comment.
///
/// # Errors
///
/// The list cannot be read, or is too long.
pub fn changes(
    file: &Path,
    now: Timestamp,
    request: impl Fn(Offender, Option<BanLength>, String) -> ChangeRequest,
) -> anyhow::Result<ListedChanges> {
    let mut listed = ListedChanges::default();
    let take = |number: u64, line: Result<ListLine<'_>, String>| {
        let (offender, end, reason) = match line {
            Ok(ListLine::Ban { offender, end, reason }) => (offender, end, reason),
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
        let left = match end {
            ListedEnd::Unsaid => None,
            ListedEnd::Never => Some(BanLength(None)),
            ListedEnd::After(span) => Some(BanLength(Some(span))),
            ListedEnd::At(at) => Some(BanLength(Some(at.since(now)))),
            ListedEnd::Over => Some(BanLength(Some(Span::ZERO))),
        };
        if left == Some(BanLength(Some(Span::ZERO))) {
            listed.left_out += 1;
            return Ok(());
        }
        listed.changes.push(request(offender, left, clipped(&reason)));
        ensure!(listed.changes.len() <= MOST_CHANGES, "it has more than {MOST_CHANGES} addresses");
        Ok(())
    };
    let cannot = || format!("cannot read `{}`", file.display());
    read_lines(open(file)?, take).with_context(cannot)?;
    Ok(listed)
}
