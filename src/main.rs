//! The `banstream` program.

// Those panic where nobody reads.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use banstream::cli::top;
use banstream::cli::{self, Action, Cli, Compat, ConfigCommand, GrammarCommand, JournalArgs, When};
use banstream::config::load::{LoadError, load};
use banstream::daemon;
use banstream::input::omprog;
use banstream::tools::doctor;
use banstream::tools::offline::{self, Logs};
use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

/// Exit status: 0 done, 1 what was checked is wrong or the daemon refuses, 2 we could not run.
fn main() -> ExitCode {
    // Where a shell asks what could come next in a command line, this answers it and ends.
    CompleteEnv::with_factory(Cli::command).complete();
    // Under that name, by a symbolic link, this is that program.
    let mut words = std::env::args_os();
    let action = match words.next().as_deref().map(Path::new).and_then(Path::file_name) {
        Some(name) if name == "fail2ban-client" => {
            let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
            Action::Compat(Compat::Fail2banClient { words })
        }
        _ => Cli::parse().action,
    };
    run(action).unwrap_or_else(|error| {
        match error.downcast_ref::<LoadError>() {
            // Faults bring their own places, and there may be many.
            Some(LoadError::Faulty(faults)) => offline::warn(faults),
            _ => offline::warn(format_args!("error: {error:#}")),
        }
        ExitCode::from(cli::COULD_NOT_RUN)
    })
}

fn run(action: Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::Run { files, dry_run, stdin } => {
            daemon::run(&daemon::RunOptions { config: files.config, dry_run, stdin })?;
        }
        Action::Prepare { files } => daemon::prepare_sets(files.config.as_deref())?,
        Action::Disable { files } => daemon::disable(files.config.as_deref(), stdout().lock())?,
        Action::Omprog { socket, confirm, transactions } => {
            let (input, output) =
                (stdin().as_fd().try_clone_to_owned()?, stdout().as_fd().try_clone_to_owned()?);
            omprog::run(&omprog::Options { socket, confirm, transactions }, input.into(), output.into())?;
        }
        Action::Check { paths } if offline::check(&paths, stdout().lock())? => {}
        Action::Check { .. } => return Ok(ExitCode::from(cli::REFUSED)),
        Action::Config(ConfigCommand::Show { files, json }) => {
            offline::show_configuration(files.config.as_deref(), json, stdout().lock())?;
        }
        Action::Explain { files, json, program } => {
            let loaded = load(files.config.as_deref())?;
            offline::explain(
                &loaded,
                program.as_deref(),
                json,
                daemon::now(),
                stdin().lock(),
                stdout().lock(),
            )?;
        }
        Action::Replay { files, json, program, against, logs, journal } => {
            let (loaded, now) = (load(files.config.as_deref())?, daemon::now());
            let other = against.map(|against| load(Some(&against))).transpose()?;
            let (against, program) = (other.as_ref(), program.as_deref());
            let replay = offline::Replay { loaded: &loaded, against, program, json, now };
            let at = |when: Option<When>| when.map(|when| when.instant(now));
            let logs = match journal {
                JournalArgs { journal: false, .. } => Logs::Files(logs),
                JournalArgs { directory, since, until, .. } => {
                    Logs::Journal { directory, since: at(since), until: at(until) }
                }
            };
            replay.run(&logs, stdout().lock())?;
        }
        Action::Grammar(GrammarCommand::New { program }) => {
            if !offline::propose(&program, daemon::now(), stdin().lock(), stdout().lock())? {
                return Ok(ExitCode::from(cli::REFUSED));
            }
        }
        Action::Doctor { files, json } if doctor::run(files.config.as_deref(), json, stdout().lock())? => {}
        Action::Doctor { .. } => return Ok(ExitCode::from(cli::REFUSED)),
        Action::Report { files, since, until, json, html } => {
            let format = match (json, html) {
                (_, true) => cli::ReportFormat::Html,
                (true, _) => cli::ReportFormat::Json,
                _ => cli::ReportFormat::Text,
            };
            cli::report(files.config.as_deref(), since, until, format, daemon::now())?;
        }
        Action::Compat(Compat::Fail2banClient { words }) => return cli::fail2ban_client(&words),
        Action::Top { socket, interval } => top::run(socket, interval)?,
        Action::Client(ask) => return cli::ask(&ask),
    }
    Ok(ExitCode::SUCCESS)
}
