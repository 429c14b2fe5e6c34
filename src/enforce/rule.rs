//! The one rule of a family and chain, through `iptables` or `ip6tables`.
//!
//! It stands apart because it is the only part that starts a program. The rule's words are put together once
//! and serve to look for it, to put it in and to take it out: iptables finds a rule only by the same words.
//!
//! Nothing here knows what is in the set that the rule refers to.

use std::process::{Command, Output, Stdio};

use super::{EnforceError, Kind};

/// A rule of ours, whether it is there or not.
#[derive(Debug)]
pub(super) struct Rule {
    program: String,
    /// The arguments before and after the verb (`-C`, `-I`, `-D`).
    before: [String; 4],
    after: Vec<String>,
}

impl Rule {
    /// The rule that sends to `target` whatever comes from a member of `set`.
    ///
    /// `src,dst`: the source address, and for elements with a port the destination's port.
    pub(super) fn new(program: &str, table: &str, chain: &str, set: &str, target: &[String]) -> Self {
        // iptables waits 5 s at most for another that is at work; 4 ms is usual.
        let before = ["-w", "5", "-t", table].map(str::to_owned);
        let after = [chain, "-m", "set", "--match-set", set, "src,dst", "-j"].map(str::to_owned);
        Self { program: program.to_owned(), before, after: [&after, target].concat() }
    }

    /// Puts the rule first in its chain if the chain has it nowhere; true if it had to.
    ///
    /// Two daemons that do so in the same instant put it in twice. The set has to be there.
    pub(super) fn ensure(&self) -> Result<bool, EnforceError> {
        if self.finds("-C")? {
            return Ok(false);
        }
        let output = self.run("-I")?;
        if output.status.success() { Ok(true) } else { Err(self.failed("-I", &output)) }
    }

    /// Takes the rule out, however often it is there.
    pub(super) fn remove(&self) -> Result<(), EnforceError> {
        while self.finds("-D")? {}
        Ok(())
    }

    /// Exit status 1 says that there is no such rule; 2 and more, that something is wrong (iptables(8)).
    fn finds(&self, verb: &str) -> Result<bool, EnforceError> {
        let output = self.run(verb)?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(self.failed(verb, &output)),
        }
    }

    fn run(&self, verb: &str) -> Result<Output, EnforceError> {
        let mut command = Command::new(&self.program);
        command.args(&self.before).arg(verb).args(&self.after).stdin(Stdio::null());
        command.output().map_err(|error| Kind::Program { program: self.program.clone(), error }.into())
    }

    fn failed(&self, verb: &str, output: &Output) -> EnforceError {
        let said = String::from_utf8_lossy(&output.stderr);
        Kind::Failed {
            command: format!("{} {} {verb} {}", self.program, self.before.join(" "), self.after.join(" ")),
            status: output.status.to_string(),
            said: said.lines().next().unwrap_or("it said nothing").to_owned(),
        }
        .into()
    }
}
