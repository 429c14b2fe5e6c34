//! The one rule of a family and chain, through `iptables` or `ip6tables`.
//!
//! The words of the rule are built once, to add and to remove it; its position is read from the output of iptables.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::super::{Displaced, EnforceError, EnforceErrorKind};

/// A rule of ours, whether it is there or not.
#[derive(Debug)]
pub(super) struct IptablesRule {
    program: String,
    table: String,
    chain: String,
    /// The words of the rule, which follow the chain.
    words: Vec<String>,
    /// How iptables prints the rule: its words as they are, or as they were printed when iptables last said that it is the
    /// one. Options that we leave out are printed with their defaults.
    known: String,
}

/// What had to be done about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleRepair {
    /// It was there, alone and first.
    None,
    /// It was not there.
    Created,
    /// It was not first, or there more than once.
    Moved,
}

impl IptablesRule {
    /// The rule that sends to `target` whatever comes from a member of `set`.
    ///
    /// `src,dst`: the source address, and for elements with a port the destination's port.
    pub(super) fn new(program: &str, table: &str, chain: &str, set: &str, target: &[String]) -> Self {
        let words = ["-m", "set", "--match-set", set, "src,dst", "-j"].map(str::to_owned);
        let [program, table, chain] = [program, table, chain].map(str::to_owned);
        let words = [&words, target].concat();
        let known = format!("-A {chain} {}", words.join(" "));
        Self { program, table, chain, words, known }
    }

    /// Sees to it that the rule is in its chain, once, and before all others. The set has to be there.
    ///
    /// If one leads the chain, or only rules that drop are before it, every packet that is let through meets it; other differences are then repaired only on
    /// [`Displaced::Move`], and are not an error otherwise.
    ///
    /// This runs iptables once where all is well.
    pub(super) fn ensure(&mut self, displaced: Displaced) -> Result<RuleRepair, EnforceError> {
        let listed = self.run("-S", &[])?;
        if !listed.status.success() {
            return Err(self.failed("-S", &[], &listed));
        }
        let listed = String::from_utf8_lossy(&listed.stdout);
        let rules: Vec<&str> = listed.lines().filter(|line| line.starts_with("-A ")).collect();
        let ours: Vec<&str> = rules.iter().copied().filter(|line| self.is(line)).collect();
        let before = rules.iter().take_while(|line| !self.is(line));
        let first = !ours.is_empty() && before.into_iter().all(|line| only_drops(line));
        match (ours.as_slice(), displaced) {
            ([], _) => self.create(),
            ([only], _) if first && self.known == *only => Ok(RuleRepair::None),
            ([only], _) if first && self.finds("-C")? => {
                self.known = (*only).to_owned();
                Ok(RuleRepair::None)
            }
            (_, Displaced::Report) if first => Ok(RuleRepair::None),
            (_, Displaced::Report) => Err(EnforceErrorKind::Displaced { chain: self.chain.clone() }.into()),
            (ours, Displaced::Move) => self.put_first(ours).map(|()| RuleRepair::Moved),
        }
    }

    /// Puts the rule first into its chain, where it is not.
    pub(super) fn create(&self) -> Result<RuleRepair, EnforceError> {
        let output = self.run("-I", &self.words)?;
        if output.status.success() {
            return Ok(RuleRepair::Created);
        }
        Err(self.failed("-I", &self.words, &output))
    }

    /// Takes the rule out, however often it is there.
    pub(super) fn remove(&self) -> Result<(), EnforceError> {
        while self.finds("-D")? {}
        Ok(())
    }

    /// Whether a printed line is the rule, be it with other options of its target.
    fn is(&self, line: &str) -> bool {
        let ours = ["-A", self.chain.as_str()].into_iter().chain(self.words.iter().map(String::as_str));
        // The words up to the target's name: "-A", the chain, and seven more.
        let mut printed = line.split(' ');
        ours.take(9).all(|word| printed.next() == Some(word))
    }

    /// Takes out these rules and puts ours in first, in one transaction: should one of them be gone by now, nothing
    /// changes. By number it would be another program's rule that goes.
    fn put_first(&self, old: &[&str]) -> Result<(), EnforceError> {
        let mut script = format!("*{}\n", self.table);
        for line in old {
            script += &format!("-D{}\n", line.trim_start_matches("-A"));
        }
        script += &format!("-I {}", self.chain);
        for word in &self.words {
            script += &format!(" \"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
        }
        script += "\nCOMMIT\n";
        let restore = format!("{}-restore", self.program);
        let arguments = ["-w", "5", "--noflush"];
        let output = (|| {
            let mut command = Command::new(&restore);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            // Where it does not want to hear all of it, its status says so.
            let _ = child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes()));
            child.wait_with_output()
        })();
        let output = output.map_err(|error| EnforceErrorKind::Program { program: restore.clone(), error })?;
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(format!("{restore} {}", arguments.join(" ")), &output)),
        }
    }

    /// Exit status 1 says that there is no such rule; 2 and more, that something is wrong (iptables(8)).
    fn finds(&self, verb: &str) -> Result<bool, EnforceError> {
        let output = self.run(verb, &self.words)?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(self.failed(verb, &self.words, &output)),
        }
    }

    fn run(&self, verb: &str, words: &[String]) -> Result<Output, EnforceError> {
        let mut command = Command::new(&self.program);
        // It waits 5 s at most for another that is at work; 4 ms is usual.
        command.args(["-w", "5", "-t", &self.table, verb, &self.chain]).args(words).stdin(Stdio::null());
        command
            .output()
            .map_err(|error| EnforceErrorKind::Program { program: self.program.clone(), error }.into())
    }

    fn failed(&self, verb: &str, words: &[String], output: &Output) -> EnforceError {
        let mut command = format!("{} -w 5 -t {} {verb} {}", self.program, self.table, self.chain);
        words.iter().for_each(|word| command += &format!(" {word}"));
        failed(command, output)
    }
}

/// Whether a rule as iptables prints it lets no packet through, such as that of another firewall that drops, or of a second
/// daemon: it may stand before ours.
pub fn only_drops(rule: &str) -> bool {
    let (mut quoted, mut escaped, mut bare) = (false, false, String::new());
    for c in rule.chars() {
        // A comment or a prefix may hold anything.
        let is_mark = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        quoted ^= is_mark;
        bare.extend(Some(c).filter(|_| !quoted && !is_mark));
    }
    let mut words = bare.split(' ').skip_while(|word| !matches!(*word, "-j" | "-g"));
    words.next() == Some("-j") && matches!(words.next(), Some("DROP" | "REJECT"))
}

/// Why iptables has no such chain, as far as it says so without changing anything.
pub(in crate::kernel) fn chain_fault(program: &str, table: &str, chain: &str) -> Option<String> {
    // Without root the status is another (iptables(8)).
    said(program, table, &["-S", chain], 1)
}

/// Why iptables would not take this target, as far as it says so without changing anything.
pub(in crate::kernel) fn target_fault(
    program: &str,
    table: &str,
    chain: &str,
    target: &[String],
) -> Option<String> {
    let words: Vec<&str> = ["-C", chain, "-j"].into_iter().chain(target.iter().map(String::as_str)).collect();
    // 1 says that there is no such rule, and 2 that it cannot be one (iptables(8)).
    said(program, table, &words, 2)
}

/// What iptables says to this where it ends with that status.
fn said(program: &str, table: &str, words: &[&str], status: i32) -> Option<String> {
    let mut command = Command::new(program);
    command.args(["-w", "5", "-t", table]).args(words).stdin(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.code() == Some(status))?;
    reason(&output.stderr)
}

/// The first line of what iptables wrote to stderr that is not a warning of it.
fn reason(stderr: &[u8]) -> Option<String> {
    let stderr = String::from_utf8_lossy(stderr);
    stderr.lines().find(|line| !line.starts_with('#')).map(str::to_owned)
}

/// Why this program cannot be run, if that is so.
pub(super) fn obstacle(program: &str) -> Option<EnforceError> {
    match Command::new(program).arg("-V").stdin(Stdio::null()).output() {
        Err(error) => Some(EnforceErrorKind::Program { program: program.to_owned(), error }.into()),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(failed(format!("{program} -V"), &output)),
    }
}

fn failed(command: String, output: &Output) -> EnforceError {
    let stderr = reason(&output.stderr).unwrap_or_else(|| "it gave no reason".to_owned());
    EnforceErrorKind::Failed { command, status: output.status.to_string(), stderr }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_of_iptables_is_not_the_reason() {
        let warning = "# Warning: iptables-legacy tables present, use iptables-legacy to see them\n";
        for (stderr, want) in [
            (
                format!("{warning}iptables: No chain by that name.\nmore\n"),
                Some("iptables: No chain by that name."),
            ),
            (warning.to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(reason(stderr.as_bytes()).as_deref(), want);
        }
    }

    #[test]
    fn a_rule_that_only_drops_may_stand_before_ours() {
        for (rule, want) in [
            ("-A PREROUTING -m set --match-set bsfull src,dst -j DROP", true),
            ("-A INPUT -s 192.0.2.0/24 -p tcp -j REJECT --reject-with tcp-reset", true),
            ("-A PREROUTING -m comment --comment \"-j ACCEPT \\\" x\" -j DROP", true),
            ("-A PREROUTING -m comment --comment \"x -j DROP\" -j ACCEPT", false),
            ("-A PREROUTING -m comment --comment \"x\\\" -j DROP\" -j ACCEPT", false),
            ("-A PREROUTING -j LOG --log-prefix \"-j DROP \"", false),
            ("-A PREROUTING -j DROPPED", false),
            ("-A PREROUTING -g DROP", false),
            ("-A PREROUTING -s 192.0.2.1", false),
            ("-A PREROUTING -j ACCEPT", false),
        ] {
            assert_eq!(only_drops(rule), want, "{rule}");
        }
    }
}
