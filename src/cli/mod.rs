//! The command line: what can be asked for.
//!
//! It stands apart from what the commands do, so that their names, options and help can be read in one place.
//!
//! It knows no log and no grammar.

pub mod compat;
pub mod top;
mod answer;
mod report;

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

pub(crate) use self::answer::{COLUMNS, cells, short, why};
pub use self::answer::{ask, fail2ban_client};
pub use self::report::{Format, When, report};
use crate::config;
use crate::control::client;
use crate::control::{BanLine, Command, Pick};
use crate::model::plain;
use crate::model::{Offender, Span};

/// The exit status where what was checked is wrong, or the daemon refuses.
pub const REFUSED: u8 = 1;
/// The exit status where we could not run at all; clap's own for a wrong command line.
pub const COULD_NOT_RUN: u8 = 2;

const AFTER: &str = "\
Examples:
  banstream check                        Is the configuration right?
  banstream run --dry-run                Decide and log, but ban nobody
  banstream status                       How is the daemon?
  banstream bans                         Who is banned, why, and until when?
  banstream top                          Watch it all
  banstream why 192.0.2.1                Why is it banned, or why not?
  banstream ban 192.0.2.1 --for 1d --reason 'port scan'
  banstream unban 192.0.2.1
  banstream allow 192.0.2.1 --for 8h     Ban it no more for so long
  banstream doctor                       Is protection real?
  banstream report --since 7d            What happened?
  banstream notify ops                   Is `[notify.ops]` told?
  journalctl -u ssh -o short-iso | banstream explain
  banstream replay /var/log/auth.log     Who would have been banned?
  banstream grammar new --program myapp < failed-logins

Files:
  /etc/banstream/banstream.toml          The configuration; may be missing
  /etc/banstream/banstream.d/*.toml      More of it, in the order of the names
  /etc/banstream/grammars/*.grammar      Grammars of your own
  /run/banstream/control.sock            Where the daemon takes commands

Environment:
  BANSTREAM_SOCKET                       The control socket, where --socket does not say
  NO_COLOR                               If set, nothing is coloured; without a terminal nothing is either

Exit status:
  0  done
  1  what was checked is wrong, or the daemon refuses
  2  could not run: wrong usage, no permission, no daemon";

const RUN_EXAMPLES: &str = "\
Examples:
  banstream run --dry-run                Decide and log, but ban nobody
  banstream run --config ./banstream.toml

Signals:
  SIGHUP           reads the configuration again, as `banstream reload` does
  SIGTERM, SIGINT  end it; bans stay in force

Exit status:
  0  it was told to stop
  2  it could not begin: the configuration is wrong, the kernel refuses, or another daemon runs";

const OMPROG_EXAMPLES: &str = "\
Examples:
  binary=\"/usr/bin/banstream omprog --confirm\" confirmMessages=\"on\"
                                         In an action of type omprog
  banstream omprog <lines.json           Gives the daemon lines as rsyslog renders them";

const CHECK_EXAMPLES: &str = "\
Examples:
  banstream check                        What is installed
  banstream check ./sshd.grammar ./banstream.toml

Exit status:
  0  all is sound
  1  something is wrong, and has been shown
  2  a file cannot be read";

const STATUS_EXAMPLES: &str = "\
Examples:
  banstream status
  banstream status --json | jq .enforcement";

const BANS_EXAMPLES: &str = "\
Examples:
  banstream bans
  banstream bans --last 20
  banstream bans --json | jq -r '.[] | select(.jail == \"sshd\").address'";

const TOP_EXAMPLES: &str = "\
Examples:
  banstream top
  banstream top --interval 10s           Over a slow line

Keys:
  up, down, j, k   choose a ban; PgUp, PgDn by ten, g back to the latest
  w, Enter         why is it banned? Esc closes that again
  u                lift it, once you have said y
  /                only bans with this in address or jail; Enter keeps it, Esc ends it
  p                pause
  ?                these keys
  q                quit";

const UNBAN_EXAMPLES: &str = "\
Examples:
  banstream unban 192.0.2.1
  banstream unban 2001:db8::/64          As `banstream bans` shows it
  banstream unban --all";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  journalctl -u ssh -o short-iso | banstream explain
  echo 'Invalid user x from 192.0.2.1 port 22' | banstream explain --program sshd --json";

const GRAMMAR_NEW_EXAMPLES: &str = "\
Examples:
  grep 'login failed' /var/log/myapp.log | banstream grammar new --program myapp > myapp.grammar
  journalctl -o short-iso -t myapp -g 'login failed' | banstream grammar new --program myapp";

const REPLAY_EXAMPLES: &str = "\
Examples:
  banstream replay /var/log/auth.log*    Rotated and packed ones too, the oldest first
  banstream replay --journal --since 30d
  banstream replay --against ./stricter.toml /var/log/auth.log*
  banstream replay --program nginx --json /var/log/nginx/access.log

Exit status:
  0  all was read
  2  a log could not be read to its end; what was read has been shown";

const REPORT_EXAMPLES: &str = "\
Examples:
  banstream report                       The last seven days
  banstream report --since 24h --json | jq .totals
  banstream report --since 2026-11-01 --until 2026-12-01 --html > november.html";

const BAN_EXAMPLES: &str = "\
Examples:
  banstream ban 192.0.2.1
  banstream ban 192.0.2.0/24 --for 1d --reason 'port scan'
  banstream ban 2001:db8::/64 --for '1h 30m'";

const ALLOW_EXAMPLES: &str = "\
Examples:
  banstream allow
  banstream allow 192.0.2.1 --for 8h --comment 'on call'
  banstream allow --remove 192.0.2.1";

const RELOAD_EXAMPLES: &str = "\
Examples:
  banstream reload
  banstream reload --confirm 60s         Try it: whoever is shut out by it need only wait
  banstream reload --keep                It is well

Exit status:
  0  the new configuration is in force
  1  it is wrong, and the old one stays
  2  no daemon answers";

const NOTIFY_EXAMPLES: &str = "\
Examples:
  banstream notify ops                   Where the configuration has [notify.ops]

Exit status:
  0  the receiver has taken the message
  1  it has not, or there is none of that name
  2  no daemon answers";

/// Bans brute-force attackers: reads journald and rsyslog streams, bans in the kernel with one rule
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(version, after_help = AFTER, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Watch the logs and ban
    ///
    /// This is the daemon. It stays in the foreground and logs to the journal, or to stderr where there is
    /// none. SIGHUP makes it read its configuration again, SIGTERM stops it; its bans stay in force.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// Where the configuration is.
        #[command(flatten)]
        files: Files,
        /// Only observe, whatever the configuration says, and write no ledger
        #[arg(long)]
        dry_run: bool,
        /// Read lines from standard input as well
        #[arg(long)]
        stdin: bool,
    },
    /// Hand on the lines that rsyslog gives to its omprog child
    ///
    /// rsyslog starts this, with the lines on stdin; it hands them on to the daemon. Give it the options that
    /// the omprog action has, since the two must speak the same protocol.
    #[command(after_help = OMPROG_EXAMPLES)]
    Omprog {
        /// The daemon's ingest socket
        #[arg(long, value_name = "PATH", default_value = "/run/banstream/ingest.sock")]
        socket: PathBuf,
        /// Confirm every line once it is in the ledger: the action has confirmMessages="on"
        #[arg(long)]
        confirm: bool,
        /// Expect marks around transactions: the action has useTransactions="on"
        #[arg(long)]
        transactions: bool,
    },
    /// Check configuration and grammars
    ///
    /// Checks the configuration; parses, proves and tests each grammar. Every fault is shown where it stands, as
    /// `file:line:column: what`, with the line and a caret. Exits with 1 if there is any.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Grammars (*.grammar), lists (*.list) and configurations (*.toml) to check; without any, those that are installed
        #[arg(value_name = "FILE")]
        paths: Vec<PathBuf>,
    },
    /// Show what the grammars make of lines from stdin
    ///
    /// Tells for each line, in order, whether it is an offence, whose, which rule says so, and what each of its holes
    /// held. Where there is none it says why: which rule came closest and where it stopped, or which conditions of a
    /// shape do not hold. A line may be a bare message, or have a syslog header.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        /// Where the configuration is.
        #[command(flatten)]
        files: Files,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        /// Whose message a line without a syslog header is
        #[arg(long, value_name = "NAME")]
        program: Option<String>,
    },
    /// Help with writing grammars
    #[command(subcommand)]
    Grammar(OfGrammar),
    /// Show who would have been banned, had a log come in live
    ///
    /// Runs the daemon's own detector over logs, by their own clock. Prints the bans and a summary.
    ///
    /// An offender from where somebody also logged in is marked: perhaps it should not be banned. With --against, it
    /// prints instead whom the two configurations do not treat alike: the installed one (here) and the other (there).
    ///
    /// What gzip and zstd have packed is read as it is. Of several files the one that begins first is read first, so
    /// the rotated files of one log can be given in any order; logs of the same days are better replayed one by one.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        /// Where the configuration is.
        #[command(flatten)]
        files: Files,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Whose message a line without a syslog header is
        #[arg(long, value_name = "NAME")]
        program: Option<String>,
        /// Compare with another configuration, and the drop-ins beside it
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// The logs; `-` is stdin
        #[arg(value_name = "FILE", default_value = "-")]
        logs: Vec<PathBuf>,
        /// Whether it is the journal.
        #[command(flatten)]
        journal: Journaled,
    },
    /// Tell what happened: bans, offences, jails, rules, offenders and networks
    ///
    /// Reads the ledger, so it needs no daemon, but the permission to read it. It goes back as far as the ledger does:
    /// see `[ledger]` in the configuration. Days are those of this host's time zone.
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// Where the configuration is.
        #[command(flatten)]
        files: Files,
        /// From when on: a time ago, such as 12h or 7d, or a date such as 2026-11-01 or '2026-11-01 12:00'
        #[arg(long, value_name = "TIME", value_parser = When::parse, default_value = "7d")]
        since: When,
        /// Until when, likewise
        #[arg(long, value_name = "TIME", value_parser = When::parse, default_value = "0", hide_default_value = true)]
        until: When,
        /// Print JSON
        #[arg(long, conflicts_with = "html")]
        json: bool,
        /// Print a page for a browser: one file, without scripts
        #[arg(long)]
        html: bool,
    },
    /// Tell whether protection is real, and what to do where it is not
    ///
    /// Looks at the kernel's sets and rules in both families and both variants of iptables, at the daemon, its sources
    /// and its metrics, and at the log daemons' rate limits. Exits with 1 if anything is wrong; what is doubtful is
    /// only told.
    Doctor {
        /// Where the configuration is.
        #[command(flatten)]
        files: Files,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What a running daemon is asked.
    #[command(flatten)]
    Ask(Ask),
    /// Speak the language of another program, for hands and scripts that know it
    #[command(subcommand)]
    Compat(Compat),
    /// Watch a running daemon in the terminal
    ///
    /// Shows live what is read, found and banned, by jail and by grammar, the latest bans, and how sources, enforcement
    /// and ledger are. A ban can be chosen, explained and lifted. `?` shows the keys.
    #[command(after_help = TOP_EXAMPLES)]
    Top {
        /// The daemon's control socket
        #[arg(long, value_name = "PATH", env = "BANSTREAM_SOCKET", default_value = client::SOCKET)]
        socket: PathBuf,
        /// How often to ask the daemon; a second at least
        #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
        interval: Span,
    },
}

/// Help with writing grammars.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum OfGrammar {
    /// Propose a grammar from lines on stdin
    ///
    /// Give it lines that each tell of an offence, with or without a syslog header. Lines that look alike become one
    /// rule: what stays the same is kept, what differs becomes a hole. Each rule is proved beside the others; where
    /// that fails a stricter one is tried, and one that cannot be proved stands in the file as a comment with the
    /// reason. Up to three lines of each kind become its tests. What was left out is told on stderr.
    ///
    /// The same lines always make the same file. It is a proposal: read it before you use it.
    #[command(after_help = GRAMMAR_NEW_EXAMPLES)]
    New {
        /// The program whose lines these are; lines of others are left out
        #[arg(long, value_name = "NAME", value_parser = program)]
        program: String,
    },
}

/// Whose language to speak.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Compat {
    /// Do what fail2ban-client would do with these words, and answer as it would
    ///
    /// Called as `fail2ban-client`, by a symbolic link, banstream does the same. What has no counterpart is refused in a
    /// line that says what to do instead.
    #[command(disable_help_flag = true, after_help = compat::USAGE)]
    Fail2banClient {
        /// What fail2ban-client is given
        #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// What a running daemon is asked.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Ask {
    /// Show how the daemon is
    ///
    /// What it has read, found and banned since it began; how its sources are, what each jail watches, how full
    /// the kernel's sets are, and what keeps bans from being enforced, if anything does. Who wrote lines in the name
    /// of another program; and what lines look like that name an address and that no rule knows, as when a server
    /// words its lines anew.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
    },
    /// List the bans in force
    ///
    /// Tells of each by which jail, until when, which time, on which ports and why.
    #[command(after_help = BANS_EXAMPLES)]
    Bans {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// Only so many of the latest, the latest first
        #[arg(long, value_name = "NUMBER")]
        last: Option<usize>,
    },
    /// Tell why an address is banned, or why it is not
    ///
    /// Shows its bans with the arithmetic of their length and the lines that earned them, how many offences each jail
    /// counts and which lines told of them, what protects it, and what the kernel holds of it: in which set, for how much
    /// longer, and how much has been kept out since.
    Why {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// Whom it is about
        #[arg(value_name = "ADDR|CIDR", add = ArgValueCompleter::new(banned))]
        offender: Offender,
    },
    /// Ban an address or a prefix, on all ports
    ///
    /// It is in force at once. What `ignoreip` protects is refused, with exit status 1.
    #[command(after_help = BAN_EXAMPLES)]
    Ban {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// Whom to ban, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64
        #[arg(value_name = "ADDR|CIDR")]
        offender: Offender,
        /// For how long, such as 10m, `1h 30m` or 2d; without it, until unbanned
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        span: Option<Span>,
        /// Why; shown wherever the ban is
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Lift the bans of an address or a prefix, or all bans
    ///
    /// That it was not banned is no error. An address that is banned as part of a prefix is refused, with exit
    /// status 1: lift the ban on the prefix.
    #[command(after_help = UNBAN_EXAMPLES)]
    Unban {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// Whom to unban, as `banstream bans` shows it
        #[arg(value_name = "ADDR|CIDR", required_unless_present = "all", add = ArgValueCompleter::new(banned))]
        offender: Option<Offender>,
        /// Lift all bans
        #[arg(long, conflicts_with = "offender")]
        all: bool,
    },
    /// Ban an address or a prefix no more, or list those that are not to be banned
    ///
    /// Lifts the bans on it, those by hand included, and keeps every jail and every operator from banning it again until
    /// the time is over or it is removed. It outlives restarts. What is meant for good belongs into `ignoreip`.
    #[command(after_help = ALLOW_EXAMPLES)]
    Allow {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// Whom not to ban, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64; without it, all are listed
        #[arg(value_name = "ADDR|CIDR")]
        offender: Option<Offender>,
        /// For how long, such as 10m, `1h 30m` or 2d; without it, until removed
        #[arg(long = "for", value_name = "TIME", value_parser = span, requires = "offender")]
        span: Option<Span>,
        /// Why; shown wherever it is listed
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true,
            requires = "offender"
        )]
        comment: String,
        /// Allow this one no longer
        #[arg(long, value_name = "ADDR|CIDR", conflicts_with_all = ["offender", "span", "comment"])]
        remove: Option<Offender>,
    },
    /// Make the daemon read its configuration and grammars again
    ///
    /// If anything in them is wrong, the daemon says what and keeps what it has. No ban and no count is lost.
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// Go back to what was before after this time, such as 60s, unless it is confirmed with --keep
        #[arg(long, value_name = "TIME", value_parser = span)]
        confirm: Option<Span>,
        /// Confirm what was reloaded with --confirm
        #[arg(long, conflicts_with = "confirm")]
        keep: bool,
    },
    /// Send a receiver of `[notify]` a test message, and tell what came of it
    ///
    /// The daemon sends it, once, as it would send news: with the rights it has and from where it runs.
    #[command(after_help = NOTIFY_EXAMPLES)]
    Notify {
        /// Whom to ask.
        #[command(flatten)]
        remote: Remote,
        /// The receiver's name in the configuration
        #[arg(value_name = "NAME")]
        receiver: String,
    },
}

/// Which daemon to ask, and how to print its answer.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Remote {
    /// The daemon's control socket
    #[arg(
        long,
        value_name = "PATH",
        env = "BANSTREAM_SOCKET",
        default_value = client::SOCKET
    )]
    pub socket: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which part of the journal to replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Journaled {
    /// Replay the journal that the daemon reads, as it reads it
    #[arg(long, conflicts_with = "logs")]
    pub journal: bool,
    /// The folder of another journal's files
    #[arg(long, value_name = "DIR", requires = "journal")]
    pub directory: Option<PathBuf>,
    /// From when on: a time ago, such as 30d, or a date such as 2026-11-01 or '2026-11-01 12:00'
    #[arg(long, value_name = "TIME", requires = "journal", value_parser = When::parse)]
    pub since: Option<When>,
    /// Until when, likewise
    #[arg(long, value_name = "TIME", requires = "journal", value_parser = When::parse)]
    pub until: Option<When>,
}

/// Where the configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Files {
    /// The configuration [default: /etc/banstream/banstream.toml, if it is there]
    ///
    /// The *.toml files in the folder beside it that has its name with `.d` in place of `.toml` are read after
    /// it, in the order of their names, and win key by key.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

fn program(text: &str) -> Result<String, &'static str> {
    let sound = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    sound.then(|| text.to_owned()).ok_or("a program's name has no spaces")
}

fn span(text: &str) -> Result<Span, &'static str> {
    let span = config::parse_span(text).filter(|span| *span > Span::ZERO);
    span.ok_or("write a time such as `10m`, `1h 30m`, `2d` or a number of seconds")
}

fn interval(text: &str) -> Result<Span, &'static str> {
    span(text).and_then(|span| if span < Span::from_secs(1) { Err("a second at least") } else { Ok(span) })
}

/// Who is banned, for the shell to choose from; nobody where no daemon answers us.
fn banned(begun: &OsStr) -> Vec<CompletionCandidate> {
    let socket = std::env::var_os("BANSTREAM_SOCKET").unwrap_or_else(|| client::SOCKET.into());
    let answer = client::send(socket.as_ref(), &Command::Bans(Pick::default()))
        .map(|answer| answer.body)
        .unwrap_or_default();
    let bans: Vec<BanLine> = serde_json::from_str(&answer).unwrap_or_default();
    let begun = begun.to_string_lossy();
    let candidate = |ban: BanLine| {
        let address = ban.address.to_string();
        let fits = address.starts_with(&*begun);
        fits.then(|| CompletionCandidate::new(address).help(Some(plain(&ban.jail).into())))
    };
    bans.into_iter().filter_map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, want: Action) {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string());
        assert_eq!(cli, Ok(Cli { action: want }));
    }

    fn remote() -> Remote {
        Remote { socket: "/run/banstream/control.sock".into(), json: false }
    }

    #[test]
    fn a_command_line_says_what_to_do() {
        let files = Files::default();
        let config = Files { config: Some("/c".into()) };
        check("banstream run", Action::Run { files: files.clone(), dry_run: false, stdin: false });
        check(
            "banstream run --dry-run --config /c",
            Action::Run { files: config.clone(), dry_run: true, stdin: false },
        );
        let socket: PathBuf = "/run/banstream/ingest.sock".into();
        check("banstream omprog", Action::Omprog { socket, confirm: false, transactions: false });
        check(
            "banstream omprog --socket /s --confirm --transactions",
            Action::Omprog { socket: "/s".into(), confirm: true, transactions: true },
        );
        check("banstream check a b", Action::Check { paths: vec!["a".into(), "b".into()] });
        let program = Some("sshd".to_owned());
        check(
            "banstream explain --json --program sshd",
            Action::Explain { files: files.clone(), json: true, program },
        );
        let replay = |files, logs: &[&str], journal| {
            let logs = logs.iter().map(PathBuf::from).collect();
            Action::Replay { files, json: false, program: None, against: None, logs, journal }
        };
        check("banstream replay", replay(files.clone(), &["-"], Journaled::default()));
        check("banstream replay --config /c f g", replay(config, &["f", "g"], Journaled::default()));
        let journal = Journaled {
            journal: true,
            directory: Some("/j".into()),
            since: Some(When::Ago(Span::from_secs(30 * 86_400))),
            until: Some(When::At(Timestamp::from_secs(1_795_509_000))),
        };
        check(
            "banstream replay --journal --directory /j --since 30d --until 2026-11-24T08:30:00Z",
            replay(files, &["-"], journal),
        );
        let (since, until) = (When::Ago(Span::from_secs(7 * 86_400)), When::Ago(Span::ZERO));
        let files = Files::default();
        check(
            "banstream report --html",
            Action::Report { files: files.clone(), since, until, json: false, html: true },
        );
        let (since, until) =
            (When::Ago(Span::from_secs(43_200)), When::At(Timestamp::from_secs(1_795_392_000)));
        check(
            "banstream report --since 12h --until 2026-11-23T00:00:00Z --json",
            Action::Report { files, since, until, json: true, html: false },
        );
        let words = ["-s", "/s", "set", "sshd", "unbanip", "--report-absent", "::1"].map(str::to_owned);
        check(
            "banstream compat fail2ban-client -s /s set sshd unbanip --report-absent ::1",
            Action::Compat(Compat::Fail2banClient { words: words.into() }),
        );
        let program = "myapp".to_owned();
        check("banstream grammar new --program myapp", Action::Grammar(OfGrammar::New { program }));
        let asked = Remote { socket: "/s".into(), json: true };
        check("banstream status --socket /s --json", Action::Ask(Ask::Status { remote: asked }));
        let ban = Ask::Ban {
            remote: remote(),
            offender: "192.0.2.0/24".parse().unwrap(),
            span: Some(Span::from_secs(86400)),
            reason: "scan".to_owned(),
        };
        check("banstream ban 192.0.2.9/24 --for 1d --reason scan", Action::Ask(ban));
        let unban = |offender, all| Action::Ask(Ask::Unban { remote: remote(), offender, all });
        let notify = Ask::Notify { remote: remote(), receiver: "ops".to_owned() };
        check("banstream notify ops", Action::Ask(notify));
        check("banstream unban ::1", unban(Some("::1".parse().unwrap()), false));
        check("banstream unban --all", unban(None, true));
        let offender = "192.0.2.1".parse().unwrap();
        check("banstream why 192.0.2.1", Action::Ask(Ask::Why { remote: remote(), offender }));
        let allow = |offender: Option<&str>, span, comment: &str, remove: Option<&str>| {
            let parse = |text: &str| text.parse().unwrap();
            let (offender, remove) = (offender.map(parse), remove.map(parse));
            Action::Ask(Ask::Allow { remote: remote(), offender, span, comment: comment.to_owned(), remove })
        };
        check("banstream allow", allow(None, None, "", None));
        let span = Some(Span::from_secs(28800));
        check("banstream allow ::1 --for 8h --comment x", allow(Some("::1"), span, "x", None));
        check("banstream allow --remove ::1", allow(None, None, "", Some("::1")));
    }

    #[test]
    fn a_command_line_that_makes_no_sense_is_refused() {
        for line in [
            "",
            "reload --keep --confirm 1m",
            "report --json --html",
            "report --since yesterday",
            "allow --for 1h",
            "allow --remove ::1 ::1",
            "allow --comment x",
            "grammar",
            "grammar new",
            "unban",
            "unban --all ::1",
            "replay --journal f",
            "replay --since 1d",
            "replay --journal --since yesterday",
            "top --interval 0.5s",
            "top --interval 1ms",
            "bans --last -1",
            "ban",
            "ban x",
            "ban ::1 --for 0",
            "ban ::1 --for ever",
        ] {
            let line = format!("banstream {line}");
            assert!(Cli::try_parse_from(line.trim().split(' ')).is_err(), "{line}");
        }
    }
}
