//! rsyslog's configuration: which files it reads, where their lines go, and the drop-in that makes it read more. It is pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
use super::plan::HEADER;

/// Our drop-ins for operators. What `setup` writes is made of them.
const SYSTEM: &str = include_str!("../../../contrib/rsyslog/10-banstream.conf");
const FILES: &str = include_str!("../../../contrib/rsyslog/20-banstream-files.conf");

/// How the child is started in the first of them.
const OMPROG: &str = "/usr/bin/banstream omprog --confirm";

/// What `setup` wants to know of rsyslog's configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct RsyslogConfig {
    modules: BTreeSet<String>,
    inputs: Vec<FileInput>,
    /// The text of each ruleset.
    rulesets: BTreeMap<String, String>,
    /// What stands in no ruleset.
    rest: String,
}

/// An input that reads a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileInput {
    /// The file, which may hold `*`.
    pub(super) file: String,
    /// The ruleset that its lines go to; empty for the default one.
    pub(super) ruleset: String,
}

impl RsyslogConfig {
    /// Reads the text of its files.
    pub(super) fn read<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut config = Self::default();
        for text in texts {
            let text = without_comments(text);
            let legacy = text.lines().filter_map(|line| line.trim().strip_prefix("$ModLoad "));
            config.modules.extend(legacy.map(|name| name.trim().trim_end_matches(".so").to_owned()));
            config.statements(&text);
        }
        config
    }

    fn statements(&mut self, mut text: &str) {
        while let Some((before, kind, inside)) = next_object(text) {
            self.rest += before;
            let (mut parameters, mut after) = parameters(inside);
            let mut take = |key: &str| parameters.remove(key).unwrap_or_default();
            match kind {
                "module" => drop(self.modules.insert(take("load"))),
                "input" if take("type") == "imfile" => {
                    self.inputs.push(FileInput { file: take("file"), ruleset: take("ruleset") });
                }
                "ruleset" => {
                    let (body, behind) = block(after);
                    self.rulesets.insert(take("name"), body.to_owned());
                    after = behind;
                }
                _ => {}
            }
            text = after;
        }
        self.rest += text;
    }

    /// The inputs that read files.
    pub(super) fn inputs(&self) -> &[FileInput] {
        &self.inputs
    }

    /// Whether what goes to this ruleset comes to us.
    pub(super) fn comes_to_us(&self, ruleset: &str) -> bool {
        self.rulesets.get(ruleset).map_or(ruleset.is_empty() && self.takes_messages(), |body| hands_on(body))
    }

    /// Whether messages of programs come to us, and not only lines of files.
    pub(super) fn takes_messages(&self) -> bool {
        hands_on(&self.rest)
    }

    /// Whether rsyslog writes this file itself, so that each line of it is a message that was logged elsewhere.
    pub(super) fn writes(&self, file: &str) -> bool {
        let is_whole = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || "._-/".contains(c));
        [&self.rest].into_iter().chain(self.rulesets.values()).any(|text| {
            text.match_indices(file).any(|(at, _)| is_whole(text.get(at + file.len()..).unwrap_or_default()))
        })
    }
}

/// Whether statements hand messages on to us.
fn hands_on(statements: &str) -> bool {
    statements.contains("call banstream") || statements.contains("banstream omprog")
}

/// The drop-in, beginning with `header`, with which rsyslog reads these files and gives us their lines as those of these programs; with
/// `messages` also the messages of all programs. `present` is all other configuration, `omprog` how our child is started.
pub(super) fn drop_in(
    header: &str,
    inputs: &[(String, String)],
    messages: bool,
    present: &RsyslogConfig,
    omprog: &str,
) -> String {
    let mut text = format!(
        "{header}\
         # The documentation of banstream has these settings with their reasons: rsyslog/10-banstream.conf and\n\
         # rsyslog/20-banstream-files.conf. The lines of files go to banstream only.\n"
    );
    let mut ruleset = |name: &str, source: &str| {
        if !present.rulesets.contains_key(name) {
            text += "\n";
            for line in without_comments(source).lines().filter(|line| !line.is_empty()) {
                let loaded = line.starts_with("module(") && present.modules.contains("omprog");
                text += &if loaded { String::new() } else { format!("{line}\n").replace(OMPROG, omprog) };
            }
        }
    };
    ruleset("banstream", between(SYSTEM, "\nglobal(", "\n# All programs"));
    let own = |program: &str| {
        let name = format!("banstream-{program}");
        let source = between(FILES, &format!("\nruleset(name=\"{name}\")"), "\nruleset(");
        (!source.is_empty()).then_some((name, source))
    };
    let programs: BTreeSet<&str> = inputs.iter().map(|(_, program)| program.as_str()).collect();
    programs.iter().filter_map(|program| own(program)).for_each(|(name, source)| ruleset(&name, source));
    if messages {
        text += &format!("\n{}", between(SYSTEM, "\nif ", "\n#"));
    }
    if inputs.is_empty() {
        return text;
    }
    text += "\n";
    if !present.modules.contains("imfile") {
        text += "module(load=\"imfile\" mode=\"inotify\")\n";
    }
    for (file, program) in inputs {
        let ruleset = own(program).map_or("banstream".to_owned(), |(name, _)| name);
        text += &format!(
            "input(type=\"imfile\" file=\"{file}\" tag=\"{program}:\" facility=\"local7\" severity=\"info\"\n      \
             ruleset=\"{ruleset}\" freshStartTail=\"on\" discardTruncatedMsg=\"on\")\n"
        );
    }
    text
}

/// What stands from one text on, up to another one or the end.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let Some(at) = text.find(from) else { return "" };
    let found = text.get(at + 1..).unwrap_or_default();
    found.find(to).and_then(|end| found.get(..end)).unwrap_or(found)
}

/// The text without what stands behind a `#` outside of quotes.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let mut is_quoted = false;
        let is_comment = |c: char| {
            is_quoted ^= c == '"';
            c == '#' && !is_quoted
        };
        let end = line.find(is_comment).unwrap_or(line.len());
        kept += line.get(..end).unwrap_or_default().trim_end();
        kept.push('\n');
    }
    kept
}

/// What stands before the next object, its kind, and what stands behind its `(`.
fn next_object(text: &str) -> Option<(&str, &'static str, &str)> {
    let starts = ["module", "input", "ruleset"].into_iter().flat_map(|kind| {
        text.match_indices(kind).filter_map(move |(at, _)| {
            let (before, after) = (text.get(..at)?, text.get(at + kind.len()..)?);
            let is_word = !before.ends_with(|c: char| c.is_alphanumeric() || "_.$!/".contains(c));
            let inside = after.trim_start().strip_prefix('(')?;
            is_word.then_some((before, kind, inside))
        })
    });
    starts.min_by_key(|(before, ..)| before.len())
}

/// The parameters of an object, by their names in lower case, and what stands behind its `)`.
fn parameters(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    loop {
        text = text.trim_start();
        if let Some(after) = text.strip_prefix(')') {
            return (found, after);
        }
        let quoted = text.split_once('=').and_then(|(key, rest)| {
            let (value, rest) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
            Some((key.trim().to_ascii_lowercase(), value, rest))
        });
        // Values without quotes, such as lists, are not wanted.
        let Some((key, value, rest)) = quoted.filter(|(key, ..)| key.chars().all(|c| !"()[]{}".contains(c)))
        else {
            return (found, text.split_once(')').map_or("", |(_, after)| after));
        };
        found.insert(key, value.to_owned());
        text = rest;
    }
}

/// What stands between the `{` that the text begins with and its `}`, and what stands behind that.
fn block(text: &str) -> (&str, &str) {
    let Some(inside) = text.trim_start().strip_prefix('{') else { return ("", text) };
    let (mut depth, mut is_quoted) = (1, false);
    let is_end = |c: char| {
        is_quoted ^= c == '"';
        depth += if is_quoted { 0 } else { i32::from(c == '{') - i32::from(c == '}') };
        depth == 0
    };
    let end = inside.find(is_end).unwrap_or(inside.len());
    (inside.get(..end).unwrap_or_default(), inside.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RsyslogConfig {
        RsyslogConfig::read([text].into_iter())
    }

    #[test]
    fn our_own_drop_ins_are_understood() {
        let both = RsyslogConfig::read([SYSTEM, FILES].into_iter());
        let modules: Vec<&str> = both.modules.iter().map(String::as_str).collect();
        assert_eq!(modules, ["imfile", "omprog"]);
        let files: Vec<&str> = both.inputs().iter().map(|input| input.file.as_str()).collect();
        let want = ["/var/log/nginx/*access.log", "/var/log/apache2/*access.log", "/var/log/vsftpd.log"];
        assert_eq!(files, want);
        assert!(both.inputs().iter().all(|input| both.comes_to_us(&input.ruleset)));
        assert!(both.takes_messages());
        assert!(!RsyslogConfig::read([FILES].into_iter()).takes_messages());
    }

    #[test]
    fn what_is_written_is_understood_and_has_what_is_missing() {
        let stock = read("module(load=\"imuxsock\")\n*.*\t-/var/log/syslog\n");
        let inputs = [("/var/log/nginx/*access.log", "nginx"), ("/var/log/vsftpd.log", "vsftpd")]
            .map(|(file, program)| (file.to_owned(), program.to_owned()));
        let text =
            drop_in(HEADER, &inputs, false, &stock, "/run/bin/banstream omprog --confirm --socket /run/x");
        assert!(text.starts_with(HEADER));
        assert!(text.contains("binary=\"/run/bin/banstream omprog --confirm --socket /run/x\"\n"), "{text}");
        let ours = read(&text);
        let want = inputs.each_ref().map(|(file, _)| file.as_str());
        assert_eq!(ours.inputs().iter().map(|input| input.file.as_str()).collect::<Vec<_>>(), want);
        assert!(ours.inputs().iter().all(|input| ours.comes_to_us(&input.ruleset)));
        assert!(ours.modules.contains("imfile") && ours.modules.contains("omprog"));
        assert!(!ours.takes_messages(), "the journal has the messages of programs");

        let messages = drop_in(HEADER, &inputs, true, &stock, OMPROG);
        assert!(read(&messages).takes_messages() && messages.contains("then call banstream\n"), "{messages}");
        assert_eq!(read(&drop_in(HEADER, &[], true, &stock, OMPROG)).inputs(), []);

        // What others define is not defined again.
        let text = drop_in(HEADER, &inputs, false, &RsyslogConfig::read([SYSTEM, FILES].into_iter()), OMPROG);
        let more = read(&text);
        assert!(more.modules.is_empty() && more.rulesets.is_empty() && !text.contains("global("), "{text}");
        assert_eq!(more.inputs(), ours.inputs());
    }

    #[test]
    fn statements_of_others_are_understood() {
        let text = r##"
            # module(load="imfile")
            $ModLoad imfile.so
            module(load="imuxsock" SysSock.Annotate="on") # input(type="imfile" file="/a")
            input(type="imfile"
                  File="/var/log/x#1.log" Tag="x:"
                  ruleset = "mine")
            input(type="imudp" port="514")
            input( type="imfile" file="/var/log/y.log" tag="y:" )
            ruleset(name="mine") { if $msg contains "}" then { stop } call banstream }
            main_queue(queue.size="10")
            action(type="omfile" file="/var/log/own.log")
            auth,authpriv.*  -/var/log/auth.log
        "##;
        let config = read(text);
        assert!(config.modules.contains("imfile") && config.modules.contains("imuxsock"));
        let inputs: Vec<_> = config.inputs().iter().map(|i| (i.file.as_str(), i.ruleset.as_str())).collect();
        assert_eq!(inputs, [("/var/log/x#1.log", "mine"), ("/var/log/y.log", "")]);
        assert!(config.comes_to_us("mine") && !config.comes_to_us("") && !config.comes_to_us("other"));
        for (file, want) in [
            ("/var/log/own.log", true),
            ("/var/log/auth.log", true),
            ("/var/log/auth", false),
            ("/var/log/y.log", false),
        ] {
            assert_eq!(config.writes(file), want, "{file}");
        }
    }

    #[test]
    fn broken_statements_do_no_harm() {
        for text in [
            "input(",
            "input(type=",
            "ruleset(name=\"a\") {",
            "module(load=[\"a\"",
            "input(type=\"imfile\" x",
        ] {
            assert!(!read(text).takes_messages(), "{text}");
        }
    }
}
