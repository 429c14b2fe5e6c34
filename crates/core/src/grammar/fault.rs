//! Faults of a grammar, with their places. Parser, compiler and proof report every fault of a file in one run.

use std::fmt;

/// A place in a file: line and column, both from 1; the column counts bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The byte in the line.
    pub column: u32,
}

/// How much a fault matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The grammar is not loaded.
    Error,
    /// The grammar is loaded all the same.
    Warning,
}

/// One fault of a grammar file. Print it for the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the file.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// The line at fault, as written.
    pub text: String,
    /// What is wrong, and what would be right.
    pub what: String,
    /// Whether the grammar can be used.
    pub severity: Severity,
}

impl fmt::Display for Fault {
    /// `file:line:column: what`, the line, and a caret below the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        writeln!(f, "{}:{line}:{column}: {warning}{}", self.file, self.what)?;
        writeln!(f, "    {}", self.text)?;
        let before = self.text.as_bytes().iter().take(column.saturating_sub(1) as usize);
        // A tab stays a tab, so that the caret stands right whatever the terminal makes of it.
        let indent: String = before.map(|b| if *b == b'\t' { '\t' } else { ' ' }).collect();
        write!(f, "    {indent}^")
    }
}

/// Collects the faults of one file.
pub(super) struct Faults<'a> {
    file: &'a str,
    text: &'a str,
    /// Those of the text, once there is a fault.
    lines: Vec<&'a str>,
    found: Vec<Fault>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, lines: Vec::new(), found: Vec::new() }
    }

    pub(super) fn error(&mut self, place: Place, what: impl Into<String>) {
        self.add(place, what.into(), Severity::Error);
    }

    pub(super) fn warn(&mut self, place: Place, what: impl Into<String>) {
        self.add(place, what.into(), Severity::Warning);
    }

    fn add(&mut self, place: Place, what: String, severity: Severity) {
        if self.lines.is_empty() {
            self.lines = self.text.lines().collect();
        }
        let text =
            self.lines.get((place.line as usize).saturating_sub(1)).unwrap_or(&"").trim_end().to_owned();
        self.found.push(Fault { file: self.file.to_owned(), place, text, what, severity });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|fault| fault.severity == Severity::Error)
    }

    /// All of them, in the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|fault| fault.place);
        self.found
    }
}
