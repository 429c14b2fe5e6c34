//! Faults of a configuration, shown with line, column and caret.

use std::fmt;
use std::path::{Path, PathBuf};

/// All that is wrong with a configuration, in the order of the files; never empty.
///
/// Printed, each fault is `file:line:column: what`, the line, and a caret below the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(faults: Vec<ConfigError>) -> Self {
        Self(faults)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if nth == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigError {
    path: PathBuf,
    line: usize,
    column: usize,
    what: String,
    text: String,
}

impl ConfigError {
    /// What is wrong `at` so many bytes into `source`; past its end means at its end.
    pub(super) fn new(path: &Path, source: &str, at: usize, what: String) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(start..).unwrap_or_default().chars().count() + 1,
            what,
            text: source.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, what, text } = self;
        // A tab stays one, so that the caret stands below the fault however wide tabs are shown.
        let margin: String =
            text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "{}:{line}:{column}: {what}\n{text}\n{margin}^", path.display())
    }
}
