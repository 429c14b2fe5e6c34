//! The documents, and what stands in them as code.

use std::fs;

use banstream::cli::Cli;
use clap::CommandFactory;

/// The documents, and the examples that `--help` gives.
pub(crate) const DOCUMENTS: [&str; 14] = [
    "README.md",
    "benches/README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "contrib/guide.md",
    "contrib/fail2ban.md",
    "contrib/fleet.md",
    "contrib/metrics.md",
    "contrib/runbook.md",
    "contrib/banstream.toml",
    "dashboards/README.md",
    "grammars/README.md",
    "src/README.md",
    "src/cli/mod.rs",
];

/// What stands in a document as code.
#[derive(Default)]
pub(crate) struct Document {
    /// In the text: of each paragraph, item or row of a table.
    pub(crate) spans: Vec<Vec<String>>,
    pub(crate) blocks: Vec<Vec<String>>,
}

impl Document {
    pub(crate) fn read(path: &str) -> Self {
        if path == "src/cli/mod.rs" {
            return Self { blocks: vec![examples(&Cli::command())], ..Self::default() };
        }
        let text = fs::read_to_string(path).expect(path);
        let (mut document, mut paragraph, mut block, mut fenced) =
            (Self::default(), String::new(), Vec::new(), false);
        for line in text.lines().chain([""]) {
            let line =
                if path.ends_with(".toml") { line.strip_prefix("# ").unwrap_or_default() } else { line };
            let indented = line.strip_prefix("    ").filter(|_| paragraph.is_empty());
            let fence = line.starts_with("```");
            if fenced && !fence {
                block.push(line.to_owned());
            } else if let Some(line) = indented {
                block.push(line.to_owned());
            } else if line.is_empty() && !block.is_empty() && !fence {
                block.push(String::new()); // a block may go on behind it
            } else {
                if !block.is_empty() {
                    document.blocks.push(std::mem::take(&mut block));
                }
                if line.is_empty() || fence || line.starts_with(['|', '-', '#']) {
                    document.paragraph(&std::mem::take(&mut paragraph));
                }
                if !fence && !line.is_empty() {
                    paragraph += &format!("{} ", line.trim());
                }
            }
            fenced ^= fence;
        }
        document.paragraph(&paragraph);
        document.blocks.extend((!block.is_empty()).then_some(block));
        document
    }

    fn paragraph(&mut self, text: &str) {
        let code = text.split('`').skip(1).step_by(2).map(|code| code.replace("\\|", "|"));
        self.spans.push(code.collect());
    }
}

/// The examples that `--help` gives of this command and all below it.
fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let own = own.map_while(|line| line.strip_prefix("  "));
    let own = own.map(|line| line.split("   ").next().unwrap_or_default().to_owned());
    own.chain(command.get_subcommands().flat_map(examples)).collect()
}
