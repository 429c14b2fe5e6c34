//! What a wrong command line is told besides: fail2ban's words, and names that many try, lead to the command here.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error, Parser};

use super::Cli;
use crate::config::is_jail_name;
use crate::model::{Offender, plain};
use crate::words;

/// The command line of this process; ends the process where it is wrong, or asks for help.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        // The usage that clap shows has all options that are set, also those that the environment sets.
        let error = without_environment().try_get_matches().err().unwrap_or(error);
        let words: Vec<String> =
            std::env::args_os().skip(1).map(|word| plain(word.as_encoded_bytes())).collect();
        with_tips(error, &words).exit()
    })
}

/// The command line, as if nothing was set in the environment.
fn without_environment() -> clap::Command {
    let has_socket =
        |command: &clap::Command| command.get_arguments().any(|known| known.get_id() == "socket");
    Cli::command().mut_subcommands(|command| match has_socket(&command) {
        true => command.mut_arg("socket", |socket| socket.env(None::<&str>)),
        false => command,
    })
}

/// The error with what the words may have meant.
fn with_tips(mut error: Error, words: &[String]) -> Error {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let tips = match error.kind() {
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument => {
            let cli = Cli::command();
            let ours: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
            words::command_hints(&words, &ours)
        }
        ErrorKind::MissingRequiredArgument => missing(&words),
        ErrorKind::ValueValidation => jail_in_place_of_address(&error, &words),
        _ => Vec::new(),
    };
    if !tips.is_empty() {
        // A name that looks alike is seldom meant where another is known.
        error.remove(ContextKind::SuggestedSubcommand);
        let tips = tips.into_iter().map(Into::into).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// What may stand in the place of an address.
fn missing(words: &[&str]) -> Vec<String> {
    let tip = match words.first() {
        Some(&"unban") => {
            "`--jail NAME` lifts the bans of a jail, `--all` lifts all, `--from FILE` those of a list"
        }
        Some(&"ban") => "`--from FILE` bans the addresses of a list",
        _ => return Vec::new(),
    };
    vec![tip.to_owned()]
}

/// fail2ban's commands name a jail where ours name an address.
fn jail_in_place_of_address(error: &Error, words: &[&str]) -> Vec<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    // An address that is mistyped has digits, too.
    let is_jail = argument.contains("ADDR|CIDR")
        && is_jail_name(value)
        && !value.starts_with(|c: char| c.is_ascii_digit());
    let address = words.iter().find(|word| word.parse::<Offender>().is_ok());
    match (words.first(), address) {
        (Some(&"unban"), Some(address)) if is_jail => {
            vec![format!("`banstream unban {address} --jail {value}` lifts the ban of that jail")]
        }
        (Some(&("bans" | "unban" | "log")), _) if is_jail => vec![format!("`--jail {value}` is for a jail")],
        (Some(&"ban"), Some(address)) if is_jail => {
            vec![format!("a ban by hand belongs to no jail: `banstream ban {address}`")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tips for a wrong command line.
    #[track_caller]
    fn tips(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = Cli::try_parse_from(std::iter::once("banstream").chain(line.split(' '))).expect_err(line);
        let said = with_tips(error, &words).to_string();
        said.lines().filter_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned)).collect()
    }

    #[track_caller]
    fn check(line: &str, want: &[&str]) {
        assert_eq!(tips(line), want, "{line}");
    }

    #[test]
    fn words_of_fail2ban_and_of_others_name_the_command_here() {
        check(
            "ping",
            &[
                "fail2ban's `ping` is here: `banstream status`",
                "`banstream compat fail2ban-client ping` answers as fail2ban does",
            ],
        );
        check(
            "status ssh",
            &[
                "fail2ban's `status ssh` is here: `banstream bans --jail ssh`",
                "`banstream compat fail2ban-client status ssh` answers as fail2ban does",
            ],
        );
        check(
            "set ssh banip 203.0.113.7",
            &[
                "fail2ban's `set ssh banip 203.0.113.7` is here: `banstream ban 203.0.113.7 --for 1h`; without `--for` \
                 until it is lifted",
                "`banstream compat fail2ban-client set ssh banip 203.0.113.7` answers as fail2ban does",
            ],
        );
        check("start", &["fail2ban's `start` is here: `systemctl start banstream`"]);
        check(
            "get ssh usedns",
            &["`banstream compat fail2ban-client -h` lists the words of fail2ban-client that are understood"],
        );
        check("block 203.0.113.7", &["`banstream ban ADDRESS` bans an address"]);
        check("logs", &["`banstream log` shows what the daemon did, `banstream log -f` follows it"]);
        check(
            "unban",
            &["`--jail NAME` lifts the bans of a jail, `--all` lifts all, `--from FILE` those of a list"],
        );
        check("ban", &["`--from FILE` bans the addresses of a list"]);
        check("unban sshd", &["`--jail sshd` is for a jail"]);
        check("bans sshd", &["`--jail sshd` is for a jail"]);
        // clap knows more of these.
        check("unban 192.0.2.1.", &[]);
        check("ban sshd", &[]);
        check("ban sshd 192.0.2.7", &["a ban by hand belongs to no jail: `banstream ban 192.0.2.7`"]);
        check("unban sshd ::1", &["`banstream unban ::1 --jail sshd` lifts the ban of that jail"]);
        check("xyz", &[]);
        check("status --xyz", &[]);
        check("reload --xyz", &[]);
        let error = Cli::try_parse_from(["banstream", "repolad"]).expect_err("wrong");
        let said = with_tips(error, &["repolad".to_owned()]).to_string();
        assert!(said.contains("'reload'"), "{said}");
    }

    #[test]
    fn a_usage_names_no_option_that_the_environment_sets() {
        let of_socket = |command: &clap::Command| {
            let sockets = command.get_arguments().filter(|known| known.get_id() == "socket");
            sockets.filter_map(clap::Arg::get_env).count()
        };
        let count = |cli: clap::Command| cli.get_subcommands().map(of_socket).sum::<usize>();
        assert!(count(Cli::command()) > 5);
        assert_eq!(count(without_environment()), 0);
    }

    /// What stands in backticks and begins with our name.
    fn commands(hint: &str) -> Vec<&str> {
        hint.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("banstream ")).collect()
    }

    /// Whether these words are a command, or ask for help.
    fn is_command(line: &str) -> bool {
        let line = line.replace("ADDRESS", "192.0.2.1");
        let asks = |error: Error| matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        Cli::try_parse_from(std::iter::once("banstream").chain(line.split(' '))).map_or_else(asks, |_| true)
    }

    #[test]
    fn every_row_leads_to_commands_that_there_are() {
        let theirs = words::COMMANDS.iter().flat_map(|row| row.theirs);
        for line in theirs.copied().chain(words::tried()) {
            if is_command(line) {
                continue; // it is called the same
            }
            let tips = tips(line);
            assert!(!tips.is_empty(), "{line}");
            for command in tips.iter().flat_map(|tip| commands(tip)) {
                assert!(is_command(command), "{line}: {command}");
            }
        }
    }
}
