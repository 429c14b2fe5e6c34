//! The index of the shipped grammars, made of the files.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use banstream::config::load;
use banstream::grammar::{Grammar, Grammars};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../grammars");

/// The folders, and what the services in them are for.
const KINDS: &[(&str, &str)] = &[
    ("ssh", "Secure shell"),
    ("http", "Web servers and proxies"),
    ("ftp", "File transfer"),
    ("mail", "Mail"),
    ("web", "Web applications"),
    ("database", "Databases and directories"),
    ("dns", "Name servers"),
    ("voip", "Telephony and chat"),
    ("remote", "Remote access"),
    ("system", "Systems"),
    ("scan", "Scans and honeypots"),
];

const INTRODUCTION: &str = "\
# Shipped grammars

This page is made from the files (`cargo run --package xtask -- target/generated`); a new grammar needs no entry here.

A service logs by default to the journal (or syslog), or to files, which rsyslog can read: `banstream setup` says what is
missing on a host, and writes it. `Default` tells whether a jail counts its failed logins without any setting; the other
jails are in `banstream.toml`, switched off. `Tested with` names the version that wrote the test lines; `published lines`
are those that the service's documentation, source or users show.

`forgeable-auth-failure` is a failed login in a line that a client could also write about another address: its service
believes a header such as `X-Forwarded-For`, or writes line breaks of a name as they come. No jail counts it by default.
Count it only where a proxy sets that header, or where strangers do not reach the service.

## Add a service

1. Collect lines of failed logins, and of what else names a client. `banstream grammar new` makes a first grammar of them
   ([how](README.md#from-log-lines-to-a-grammar)).
2. Find the formats in the service's source or documentation. Each message with text of strangers becomes a rule, or a
   form below `other:`.
3. Name the file `KIND/NAME.grammar`, with `service:`, `program:`, `log:` and `tested:`. Put lines below `test:`, hostile
   ones and harmless ones among them.
4. `banstream check FILE.grammar` proves it, alone and together with all others that may read the same lines. This is the
   gate: a grammar that it refuses is not accepted.
5. Add its name to the jail of its kind in `contrib/banstream.toml` and `src/config/defaults.toml`. Copy `LIBRARY.md` and
   `proved.txt` from `target/generated`, which the command above makes, and run `cargo test --workspace --lib`.
";

/// The page.
pub(crate) fn document() -> anyhow::Result<String> {
    let (config, grammars) = load::sound_part(Some(Path::new("")))?;
    let counted: Vec<(&str, &str)> = (config.detection.jails.iter())
        .flat_map(|jail| &jail.watches)
        .flat_map(|watch| watch.categories.iter().map(|category| (&*watch.grammar, &**category)))
        .collect();
    let mut page = INTRODUCTION.to_owned();
    for (kind, title) in KINDS {
        let mut rows = rows(kind, &grammars, &counted)?;
        rows.sort_by_key(|row| row.to_lowercase());
        write!(
            page,
            "\n## {title}\n\n| service | where it logs | categories | default | tested with |\n|---|---|---|---|---|\n{}",
            rows.concat()
        )?;
    }
    Ok(page)
}

/// A line of the table for each grammar in a folder.
fn rows(kind: &str, grammars: &Grammars, counted: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
    let row = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let grammar = grammars.iter().find(|grammar| grammar.name() == name).context("it is not shipped")?;
        let by_default = |category: &&String| counted.contains(&(grammar.name(), category.as_str()));
        let default =
            if grammar.categories().iter().any(|category| by_default(&category)) { "on" } else { "" };
        let logs: Vec<String> = grammar
            .logs()
            .iter()
            .map(|log| if log == "journal" { log.clone() } else { format!("`{log}`") })
            .collect();
        Ok(format!(
            "| [{}]({kind}/{name}.grammar) | {} | {} | {default} | {} |\n",
            service(grammar),
            logs.join(", "),
            grammar.categories().join(", "),
            grammar.tested(),
        ))
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new(FOLDER).join(kind))?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "grammar"));
    files.into_iter().map(row).collect()
}

fn service(grammar: &Grammar) -> &str {
    if grammar.service().is_empty() { grammar.name() } else { grammar.service() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_that_of_the_files() {
        let kept = std::fs::read_to_string(Path::new(FOLDER).join("LIBRARY.md")).unwrap_or_default();
        let message = "run `cargo run --package xtask -- target/generated`, and copy LIBRARY.md to grammars";
        assert!(kept == document().unwrap(), "{message}");
    }

    #[test]
    fn each_folder_has_a_title_and_each_grammar_a_header() {
        for entry in
            std::fs::read_dir(FOLDER).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir())
        {
            let name = entry.file_name().into_string().unwrap();
            assert!(KINDS.iter().any(|(kind, _)| *kind == name), "{name}");
        }
        let (_, grammars) = load::sound_part(Some(Path::new(""))).unwrap();
        for grammar in grammars.iter() {
            // Some log to other hosts or to Windows, whose paths are not ours.
            let has = [!grammar.service().is_empty(), !grammar.tested().is_empty()];
            assert_eq!(has, [true; 2], "{}: service, tested", grammar.name());
        }
    }

    /// Failed logins are counted without any setting where the service logs to the journal, and by a jail that is switched
    /// off elsewhere.
    #[test]
    fn each_failed_login_has_a_jail() {
        let (config, grammars) = load::sound_part(Some(Path::new(""))).unwrap();
        let defaults =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../src/config/defaults.toml"))
                .unwrap();
        for grammar in
            grammars.iter().filter(|grammar| grammar.categories().iter().any(|name| name == "auth-failure"))
        {
            let name = grammar.name();
            let is_watched = |watch: &banstream::detect::Watch| {
                watch.grammar == name && watch.categories.iter().any(|c| c == "auth-failure")
            };
            let on = config.detection.jails.iter().any(|jail| jail.watches.iter().any(is_watched));
            assert!(defaults.contains(&format!("\"{name}\"")), "no jail names {name}");
            if grammar.logs().first().is_some_and(|log| log == "journal") {
                assert!(on, "{name} logs to the journal, and no jail counts its failed logins by default");
            }
        }
    }
}
