//! Stands for the journal in a program that was built without it: none can be opened, so none is read.

use std::convert::Infallible;
use std::io::{Error, ErrorKind};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::{Batch, SourceError, SourceErrorKind};
use crate::config::JournalLocation;
use crate::config::load::Loaded;
use crate::entry::records::Records;
use crate::model::Timestamp;

/// What would be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in a program that reads the journal")]
pub struct Journal {
    pub source: Arc<str>,
    pub location: JournalLocation,
    pub programs: Vec<String>,
    pub heartbeats: bool,
}

impl Journal {
    /// This machine's: no configuration names one.
    pub fn of(_: &Loaded) -> Self {
        let location = JournalLocation::System;
        Self { source: "journald".into(), location, programs: Vec::new(), heartbeats: false }
    }

    /// Nothing more, for the same reason.
    pub fn extend(&mut self, _: Self) {}

    /// None, for the same reason.
    pub fn all(_: &Loaded, _: bool) -> Vec<Self> {
        Vec::new()
    }

    fn refuse(&self) -> SourceError {
        let error = Error::new(ErrorKind::Unsupported, "this program was built without journald");
        SourceError(SourceErrorKind::Journal(self.location.to_string(), error))
    }
}

/// An open journal, of which there is none.
pub struct Follower(Infallible);

#[expect(missing_docs, clippy::missing_errors_doc, reason = "as in a program that reads the journal")]
impl Follower {
    pub fn open(settings: Journal, _: Option<String>) -> Result<Self, SourceError> {
        Err(settings.refuse())
    }

    pub fn open_whole(settings: Journal) -> Result<Self, SourceError> {
        Err(settings.refuse())
    }

    pub fn after_starts(self, _: u32) -> Self {
        self
    }

    pub fn run(
        self,
        _: &Receiver<Infallible>,
        _: impl FnMut(Batch) -> ControlFlow<()>,
        _: impl FnMut(Option<SourceError>),
    ) -> Option<String> {
        match self.0 {}
    }

    pub fn position(&self) -> Option<&str> {
        match self.0 {}
    }
}

/// Always refuses.
///
/// # Errors
///
/// Every time.
pub fn read(
    settings: &Journal,
    _: Option<Timestamp>,
    _: Option<Timestamp>,
    _: impl FnMut(&mut Records),
) -> Result<(), SourceError> {
    Err(settings.refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_refused_and_says_why() {
        let location = JournalLocation::System;
        let source = "journald".into();
        let journal = Journal { source, location, programs: Vec::new(), heartbeats: false };
        let error = read(&journal, None, None, |_| {}).unwrap_err();
        assert!(error.to_string().ends_with(": this program was built without journald"), "{error}");
    }
}
