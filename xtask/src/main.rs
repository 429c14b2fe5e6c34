//! What is made of the program and the grammars: a manual page for each command, completions for shells, what `--json`
//! prints, the index of the grammars and which of them are proved, and fail2ban's words.
//! `cargo run --package xtask -- DIR` writes them.
//!
//! All of it comes from the program's own definitions. Completions ask the program at every keystroke, so they know who
//! is banned just now.

mod fail2ban;
mod json;
mod library;

use std::fs::{File, create_dir_all};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use banstream::cli::Cli;
use banstream::grammar::proved_list;
use clap::{Command, CommandFactory};
use clap_complete::env::Shells;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

const NAME: &str = "banstream";

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os().nth(1).context("usage: cargo run --package xtask -- DIR")?;
    write(Path::new(&directory))
}

/// Writes `man/*.1`, `completions/SHELL` for bash, zsh and fish, `json.md`, `fail2ban.md`, `LIBRARY.md` and `proved.txt` into
/// the folder.
fn write(directory: &Path) -> anyhow::Result<()> {
    let mut command = Cli::command().name(NAME);
    command.build();
    pages(&command, &directory.join("man"), NAME)
        .and_then(|()| completions(&directory.join("completions")))
        .and_then(|()| std::fs::write(directory.join("json.md"), json::document()))
        .and_then(|()| std::fs::write(directory.join("fail2ban.md"), fail2ban::document()))
        .with_context(|| format!("cannot write below `{}`", directory.display()))?;
    std::fs::write(directory.join("LIBRARY.md"), library::document()?)
        .context("cannot write `LIBRARY.md`")?;
    let proved = proved_list().map_err(anyhow::Error::msg)?;
    std::fs::write(directory.join("proved.txt"), proved).context("cannot write `proved.txt`")
}

/// The page of a command, and of those below it.
fn pages(command: &Command, folder: &Path, name: &str) -> io::Result<()> {
    create_dir_all(folder)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, folder, &format!("{name}-{}", below.get_name()))?;
    }
    page(command, name, &mut File::create(folder.join(format!("{name}.1")))?)
}

fn page(command: &Command, name: &str, file: &mut impl Write) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("banstream").section("1");
    man.render_title(file)?;
    man.render_name_section(file)?;
    man.render_synopsis_section(file)?;
    man.render_description_section(file)?;
    man.render_options_section(file)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(file)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for section in after.split("\n\n").filter(|section| !section.is_empty()) {
        extra(section, file)?;
    }
    if name != NAME {
        let mut roff = Roff::new();
        roff.control("SH", ["SEE ALSO"]).text([bold("banstream"), roman("(1)")]);
        roff.to_writer(file)?;
    }
    Ok(())
}

/// A section of `--help` below its heading: lines that stay as they are.
fn extra(section: &str, file: &mut impl Write) -> io::Result<()> {
    let (heading, lines) = section.split_once('\n').unwrap_or((section, ""));
    let mut roff = Roff::new();
    roff.control("SH", [&*heading.trim_end_matches(':').to_uppercase()]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []).to_writer(file)
}

/// Bash breaks words at colons, of which addresses are full: here the pieces of such a word are put together, and what
/// stands before its last colon is taken off the answers again.
const COLONS: &str = r#"
_banstream() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##* }
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local -a COMP_WORDS=($line)
        local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _clap_complete_banstream banstream "$word"
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    else
        _clap_complete_banstream "$@"
    fi
}
complete -o nospace -o bashdefault -F _banstream banstream
"#;

fn completions(folder: &Path) -> io::Result<()> {
    create_dir_all(folder)?;
    let shells = Shells::builtins();
    for shell in shells.iter().filter(|shell| ["bash", "fish", "zsh"].contains(&shell.name())) {
        let mut file = File::create(folder.join(shell.name()))?;
        shell.write_registration("COMPLETE", NAME, NAME, NAME, &mut file)?;
        if shell.name() == "bash" {
            file.write_all(COLONS.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_what_help_says() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder).unwrap();
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
        let page = read("man/banstream-unban.1");
        for part in ["banstream\\-unban", "EXAMPLES", "banstream unban \\-\\-all", "as part of a prefix"] {
            assert!(page.contains(part), "no `{part}` in {page}");
        }
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let about = command.get_about().unwrap().to_string().replace('-', "\\-").replace('\'', "\\*(Aq");
            assert!(read(&format!("man/banstream-{}.1", command.get_name())).contains(&about), "{about}");
        }
        for shell in ["bash", "zsh", "fish"] {
            assert!(read(&format!("completions/{shell}")).contains("COMPLETE"));
        }
    }
}
