//! The `banstream` program.

// Those panic where nobody reads.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use banstream::cli::top;
use banstream::cli::{
    self, Action, Cli, Compat, ConfigCommand, GrammarCommand, ImportCommand, JournalArgs, When,
};
use banstream::config::load::{LoadError, load};
use banstream::daemon;
use banstream::fail2ban::{self, ImportAction, ImportFormat};
use banstream::input::omprog;
use banstream::tools::doctor;
use banstream::tools::list::{self, ListOptions};
use banstream::tools::offline::{self, Logs};
use banstream::tools::setup;
use banstream::tools::terminal;
use banstream::web::{self, WebOptions};
use clap::CommandFactory;
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
        _ => cli::parse().action,
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
            terminal::say_that_input_is_awaited();
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
            if matches!(&logs, Logs::Files(paths) if paths.iter().any(|path| path.as_os_str() == "-")) {
                terminal::say_that_input_is_awaited();
            }
            replay.run(&logs, stdout().lock())?;
        }
        #[cfg(feature = "fleet")]
        Action::Fleet(command) => cli::fleet(&command)?,
        Action::Grammar(GrammarCommand::New { programs, output, force }) => {
            let new = offline::NewGrammar { programs, output, force, now: daemon::now() };
            terminal::say_that_input_is_awaited();
            if !new.write(stdin().lock(), stdout().lock())? {
                return Ok(ExitCode::from(cli::REFUSED));
            }
        }
        Action::Setup { files, write, undo, dry_run, server_settings, json } => {
            let act = (write || undo) && !dry_run;
            let options = setup::SetupOptions { act, undo, server_settings, json };
            if !setup::run(files.config.as_deref(), options, anstream::stdout())? {
                return Ok(ExitCode::from(cli::REFUSED));
            }
        }
        Action::Import(ImportCommand::Fail2ban {
            directory,
            files,
            compare,
            write,
            shadow,
            diff,
            since,
            switch,
            force,
            undo,
            json,
            markdown,
        }) => {
            let action = match () {
                () if compare => ImportAction::Compare,
                () if write => ImportAction::Write,
                () if shadow => ImportAction::Shadow,
                () if diff => ImportAction::Diff(since.instant(daemon::now())),
                () if switch => ImportAction::Switch { force },
                () if undo => ImportAction::Undo,
                () => ImportAction::Show,
            };
            let format = match (json, markdown) {
                (true, _) => ImportFormat::Json,
                (_, true) => ImportFormat::Markdown,
                _ => ImportFormat::Text,
            };
            let (config, output) = (files.config.as_deref(), anstream::stdout());
            if !fail2ban::run(config, &directory, (action, format), daemon::now(), output)? {
                return Ok(ExitCode::from(cli::REFUSED));
            }
        }
        Action::Import(ImportCommand::List { file, files, write, length, reason, skip_wrong, json }) => {
            let operator = cli::operator();
            let options = ListOptions { file, length, reason, write, skip_wrong, operator, json };
            if !list::run(files.config.as_deref(), &options, daemon::now(), anstream::stdout())? {
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
        Action::Log { args } => cli::log(&args, daemon::now())?,
        Action::Compat(Compat::Fail2banClient { words }) => return cli::fail2ban_client(&words),
        Action::Top { socket, interval } => top::run(socket, interval)?,
        Action::Web { socket, listen, allow_changes } => {
            web::run(WebOptions { socket, listen, allow_changes })?;
        }
        Action::Client(ask) => return cli::ask(&ask),
    }
    Ok(ExitCode::SUCCESS)
}
