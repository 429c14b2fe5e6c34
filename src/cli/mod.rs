//! The command line: names, options and help of all commands.

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
pub use self::report::{ReportFormat, When, report};
use crate::config;
use crate::control::client;
use crate::control::{BanFilter, BanLine, Command};
use crate::model::plain;
use crate::model::{Offender, Span};

/// The exit status where what was checked is wrong, or the daemon refuses.
pub const REFUSED: u8 = 1;
/// The exit status where we could not run at all; clap's own for a wrong command line.
pub const COULD_NOT_RUN: u8 = 2;

const AFTER: &str = "\
Examples:
  banstream check                        Is the configuration valid?
  banstream run --dry-run                Decide and log, but ban nobody
  banstream status                       Does it work?
  banstream bans                         Who is banned, why, and until when?
  banstream top                          Watch it live
  banstream why 192.0.2.1                Why is it banned, or why not?
  banstream ban 192.0.2.1 --for 1d --reason 'port scan'
  banstream unban 192.0.2.1
  banstream allow 192.0.2.1 --for 8h     Exempt it from bans for 8 hours
  banstream doctor                       Are bans really enforced?
  banstream report --since 7d            What happened?
  banstream notify ops                   Does `[notify.ops]` work?
  journalctl -u ssh -o short-iso | banstream explain
  banstream replay /var/log/auth.log     Who would have been banned?
  banstream grammar new --program myapp < failed-logins

Files:
  /etc/banstream/banstream.toml          The configuration; optional
  /etc/banstream/banstream.d/*.toml      Read after it, in the order of their names
  /etc/banstream/grammars/*.grammar      Grammars of your own
  /run/banstream/control.sock            The daemon's control socket

Environment:
  BANSTREAM_SOCKET                       The control socket, unless --socket is given
  NO_COLOR                               If set, no colours; there are none without a terminal

Exit status:
  0  done
  1  the check found faults, or the daemon refused
  2  could not run: wrong usage, no permission, no daemon";

const RUN_EXAMPLES: &str = "\
Examples:
  banstream run --dry-run                Decide and log, but ban nobody
  banstream run --config ./banstream.toml

Signals:
  SIGHUP           reloads the configuration, like `banstream reload`
  SIGTERM, SIGINT  stop it; bans stay in force

Exit status:
  0  stopped on request (SIGTERM, SIGINT)
  2  could not start: wrong configuration, refusal of the kernel, or another daemon";

const DISABLE_EXAMPLES: &str = "\
Examples:
  systemctl stop banstream
  systemctl clean --what=fdstore banstream
                                         systemd 254 and later: drop the socket
  banstream disable

Exit status:
  0  nothing enforces bans any more
  2  a daemon runs, the kernel refuses, no permission, or the configuration is wrong";

const OMPROG_EXAMPLES: &str = "\
Examples:
  binary=\"/usr/bin/banstream omprog --confirm\" confirmMessages=\"on\"
                                         In an action of type omprog
  banstream omprog <lines.json           Sends lines in rsyslog's form to the daemon";

const CHECK_EXAMPLES: &str = "\
Examples:
  banstream check                        The installed configuration and grammars
  banstream check ./sshd.grammar ./banstream.toml

Exit status:
  0  all is valid
  1  faults were found and printed
  2  a file cannot be read";

const CONFIG_SHOW_EXAMPLES: &str = "\
Examples:
  banstream config show
  banstream config show | grep -v '# .*default$'
                                         Only what files set";

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
  banstream top --interval 10s           Over a slow connection

Keys:
  up, down, j, k   choose a ban; PgUp, PgDn by ten, g back to the latest
  w, Enter         show why it is banned; Esc closes that
  u                lift it, after y
  /                filter by address or jail; Enter keeps the filter, Esc ends it
  p                pause
  ?                these keys
  q                quit";

const UNBAN_EXAMPLES: &str = "\
Examples:
  banstream unban 192.0.2.1
  banstream unban 2001:db8::/64          As listed by `banstream bans`
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
  banstream replay /var/log/auth.log*    Rotated and compressed ones too, the oldest first
  banstream replay --journal --since 30d
  banstream replay --against ./stricter.toml /var/log/auth.log*
  banstream replay --program nginx --json /var/log/nginx/access.log

Exit status:
  0  all logs were read
  2  a log could not be read to its end; the result covers what was read";

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
  banstream reload --confirm 60s         If it locks you out, wait: it is rolled back after 60 s
  banstream reload --keep                Confirm it

Exit status:
  0  the new configuration is in force
  1  it is wrong; the old one stays
  2  no daemon answers";

const NOTIFY_EXAMPLES: &str = "\
Examples:
  banstream notify ops                   If the configuration has [notify.ops]

Exit status:
  0  the receiver accepted the message
  1  it did not, or there is no receiver with this name
  2  no daemon answers";

/// Ban brute-force attackers: reads journald and rsyslog, bans in the kernel with one rule
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
    /// Run the daemon: watch the logs and ban
    ///
    /// It stays in the foreground and logs to the journal, or to stderr if there is none. SIGHUP reloads its
    /// configuration, SIGTERM stops it; its bans stay in force.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Observe only, whatever the configuration says, and write no ledger
        #[arg(long)]
        dry_run: bool,
        /// Read lines from standard input as well
        #[arg(long)]
        stdin: bool,
    },
    /// Create the kernel's sets, empty, and end
    ///
    /// A firewall that was saved while the daemon ran has the daemon's rule in it, and loads only where the sets exist that
    /// the rule refers to. So `banstream-sets.service` runs this at boot, before the firewall loads. It adds no rule and
    /// no ban, and changes no set that exists. If the configuration is wrong, it creates the sets of the default one.
    /// Where bans go to nftables, it does nothing: no saved firewall needs a set of that.
    Prepare {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
    },
    /// Take everything that enforces bans out of the kernel
    ///
    /// Bans stay in force when the daemon stops. This lifts them all at once: it removes the rule and the sets of ipset, and
    /// the table of nftables, whichever are there under the name in `[enforce]`, and prints what it removed. It works
    /// only while no daemon has that name. The ledger stays: the next start enforces the bans that are not over by then.
    ///
    /// systemd keeps the socket that the table of nftables belongs to after `systemctl stop` (systemd 254 and later).
    /// Then nobody else can remove the table: let systemd drop the socket first.
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
    },
    /// Forward lines from rsyslog's omprog to the daemon
    ///
    /// rsyslog starts this, with the lines on stdin. Give it the options of the omprog action, since both must use
    /// the same protocol.
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
    /// Checks the configuration; parses, proves and tests each grammar. Prints every fault as
    /// `file:line:column: what`, with the line and a caret. Exits with 1 if there is any.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Grammars (*.grammar), lists (*.list) and configurations (*.toml) to check [default: the installed ones]
        #[arg(value_name = "FILE")]
        paths: Vec<PathBuf>,
    },
    /// Show the configuration in force
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what the grammars find in lines from stdin
    ///
    /// Prints for each line whether it is an offence, by which address, which rule matches, and the text in each of its
    /// fields. If it is not, prints why: which rule came closest and where it stopped, or which conditions of a
    /// shape do not hold. A line may be a bare message, or have a syslog header.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        /// The program of lines without a syslog header
        #[arg(long, value_name = "NAME")]
        program: Option<String>,
    },
    /// Help with writing grammars
    #[command(subcommand)]
    Grammar(GrammarCommand),
    /// Replay a log and show who would have been banned
    ///
    /// Runs the daemon's own detector over logs, by their own clock. Prints the bans and a summary.
    ///
    /// An offender that also logged in is marked: perhaps it should not be banned. With --against, it prints the offenders
    /// that two configurations treat differently: the installed one (here) and the other (there).
    ///
    /// Reads files compressed with gzip and zstd. The oldest file is read first, so the rotated files of one log can be
    /// given in any order. Replay different logs of the same days separately.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The program of lines without a syslog header
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
        journal: JournalArgs,
    },
    /// Report what happened: bans, offences, jails, rules, offenders and networks
    ///
    /// Reads the ledger, so it needs permission to read it, but no daemon. It goes back as far as the ledger does:
    /// see `[ledger]` in the configuration. Days are in this host's time zone.
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// The beginning: a time ago, such as 12h or 7d, or a date such as 2026-11-01 or '2026-11-01 12:00'
        #[arg(long, value_name = "TIME", value_parser = When::parse, default_value = "7d")]
        since: When,
        /// The end, in the same form
        #[arg(long, value_name = "TIME", value_parser = When::parse, default_value = "0", hide_default_value = true)]
        until: When,
        /// Print JSON
        #[arg(long, conflicts_with = "html")]
        json: bool,
        /// Print a page for a browser: one file, without scripts
        #[arg(long)]
        html: bool,
    },
    /// Check that bans are really enforced, and how to fix what is not
    ///
    /// Says which backend enforces bans, and why. Checks the kernel's sets and rules in both families and both variants
    /// of iptables, or the table of nftables, its owner and a sample of the bans; the daemon, its sources
    /// and its metrics, and the log daemons' rate limits. Exits with 1 if anything is wrong; doubtful findings are
    /// only printed.
    Doctor {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What a running daemon is asked.
    #[command(flatten)]
    Client(ClientCommand),
    /// Emulate fail2ban-client
    #[command(subcommand)]
    Compat(Compat),
    /// Watch a running daemon in the terminal
    ///
    /// Shows live entries, offences and bans, by jail and by grammar, the latest bans, and the state of sources,
    /// enforcement and ledger. You can choose, explain and lift a ban. `?` shows the keys.
    #[command(after_help = TOP_EXAMPLES)]
    Top {
        /// The daemon's control socket
        #[arg(long, value_name = "PATH", env = "BANSTREAM_SOCKET", default_value = client::SOCKET)]
        socket: PathBuf,
        /// How often to update; at least 1s
        #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
        interval: Span,
    },
}

/// Show the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its origin: the file and line, or `default`
    ///
    /// Reads the files as `run` and `reload` do; what a daemon runs with is older if it was not reloaded since. A jail also
    /// shows what it inherits. The output is itself a valid configuration.
    #[command(after_help = CONFIG_SHOW_EXAMPLES)]
    Show {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Help with writing grammars.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum GrammarCommand {
    /// Propose a grammar from lines on stdin
    ///
    /// Give it lines that each report an offence, with or without a syslog header. Similar lines become one rule: the
    /// text that they share is kept, text that differs becomes a field. Each rule is proved beside the others; if that
    /// fails, a stricter one is tried, and a rule that cannot be proved is left as a comment with the reason. Up to three
    /// lines of each kind become its tests. Omitted lines are reported on stderr.
    ///
    /// The same lines always give the same file. It is a proposal: read it before you use it.
    #[command(after_help = GRAMMAR_NEW_EXAMPLES)]
    New {
        /// The program that wrote the lines; lines of others are left out
        #[arg(long, value_name = "NAME", value_parser = program)]
        program: String,
    },
}

/// Whose language to speak.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Compat {
    /// Run a command of fail2ban-client, and answer in its form
    ///
    /// Called as `fail2ban-client`, by a symbolic link, banstream does the same. A verb without a counterpart is refused,
    /// with what to do instead.
    #[command(disable_help_flag = true, after_help = compat::USAGE)]
    Fail2banClient {
        /// Arguments of fail2ban-client
        #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// What a running daemon is asked.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ClientCommand {
    /// Show the daemon's status
    ///
    /// Shows entries, offences and bans since the start; the state of sources, jails and the kernel's sets, and what
    /// prevents bans from being enforced; which users forged lines of other programs; and the form of lines that name
    /// an address but match no rule, as when a server has changed its wording.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
    },
    /// List the bans in force
    ///
    /// Shows for each its jail, end, number, ports and reason.
    #[command(after_help = BANS_EXAMPLES)]
    Bans {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// Only the latest bans, this many, the latest first
        #[arg(long, value_name = "NUMBER")]
        last: Option<usize>,
    },
    /// Explain why an address is banned, or why it is not
    ///
    /// Shows its bans with the calculation of their length and the lines that earned them, the offences that each jail
    /// has counted with their lines, its exemptions, and its elements in the kernel: in which set, for how much
    /// longer, and how many packets were dropped.
    Why {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The address or prefix
        #[arg(value_name = "ADDR|CIDR", add = ArgValueCompleter::new(banned))]
        offender: Offender,
    },
    /// Ban an address or prefix, on all ports
    ///
    /// The ban is in force at once. An exempt address is refused, with exit status 1.
    #[command(after_help = BAN_EXAMPLES)]
    Ban {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The address or prefix, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64
        #[arg(value_name = "ADDR|CIDR")]
        offender: Offender,
        /// How long, such as 10m, `1h 30m` or 2d [default: until unbanned]
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        span: Option<Span>,
        /// The reason; shown with the ban
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Lift the bans of an address or prefix, or all bans
    ///
    /// It is not an error if there is no ban. An address that is banned as part of a prefix is refused, with exit
    /// status 1: lift the ban on the prefix.
    #[command(after_help = UNBAN_EXAMPLES)]
    Unban {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The address or prefix, as listed by `banstream bans`
        #[arg(value_name = "ADDR|CIDR", required_unless_present = "all", add = ArgValueCompleter::new(banned))]
        offender: Option<Offender>,
        /// Lift all bans
        #[arg(long, conflicts_with = "offender")]
        all: bool,
    },
    /// Exempt an address or prefix from bans, or list exemptions
    ///
    /// Lifts its bans, those by hand included, and prevents new bans by jails and operators until the time is over or the
    /// exemption is removed. Exemptions survive restarts. For a permanent exemption use `ignoreip`.
    #[command(after_help = ALLOW_EXAMPLES)]
    Allow {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The address or prefix, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64; without it, lists all exemptions
        #[arg(value_name = "ADDR|CIDR")]
        offender: Option<Offender>,
        /// How long, such as 10m, `1h 30m` or 2d [default: until removed]
        #[arg(long = "for", value_name = "TIME", value_parser = span, requires = "offender")]
        span: Option<Span>,
        /// The reason; shown in the list
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true,
            requires = "offender"
        )]
        comment: String,
        /// Remove this exemption
        #[arg(long, value_name = "ADDR|CIDR", conflicts_with_all = ["offender", "span", "comment"])]
        remove: Option<Offender>,
    },
    /// Reload the daemon's configuration and grammars
    ///
    /// If anything in them is wrong, the daemon reports it and keeps the old ones. No ban and no count is lost.
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// Roll back after this time, such as 60s, unless confirmed with --keep
        #[arg(long, value_name = "TIME", value_parser = span)]
        confirm: Option<Span>,
        /// Confirm a reload with --confirm
        #[arg(long, conflicts_with = "confirm")]
        keep: bool,
    },
    /// Send a test message to a receiver of `[notify]`, and show the result
    ///
    /// The daemon sends it once, with its own privileges and from its sandbox, like any notification.
    #[command(after_help = NOTIFY_EXAMPLES)]
    Notify {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The receiver's name in the configuration
        #[arg(value_name = "NAME")]
        receiver: String,
    },
}

/// Which daemon to ask, and how to print its answer.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SocketArgs {
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
pub struct JournalArgs {
    /// Replay the journal that the daemon reads, in the same way
    #[arg(long, conflicts_with = "logs")]
    pub journal: bool,
    /// A folder of other journal files
    #[arg(long, value_name = "DIR", requires = "journal")]
    pub directory: Option<PathBuf>,
    /// The beginning: a time ago, such as 30d, or a date such as 2026-11-01 or '2026-11-01 12:00'
    #[arg(long, value_name = "TIME", requires = "journal", value_parser = When::parse)]
    pub since: Option<When>,
    /// The end, in the same form
    #[arg(long, value_name = "TIME", requires = "journal", value_parser = When::parse)]
    pub until: Option<When>,
}

/// Where the configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// The configuration [default: /etc/banstream/banstream.toml, if it exists]
    ///
    /// The *.toml files in the folder with the same name and `.d` in place of `.toml` are read after it, in the order
    /// of their names, and win key by key.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

fn program(text: &str) -> Result<String, &'static str> {
    let sound = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    sound.then(|| text.to_owned()).ok_or("a program's name must not have spaces")
}

fn span(text: &str) -> Result<Span, &'static str> {
    let span = config::parse_span(text).filter(|span| *span > Span::ZERO);
    span.ok_or("write a time such as `10m`, `1h 30m`, `2d` or a number of seconds")
}

fn interval(text: &str) -> Result<Span, &'static str> {
    span(text).and_then(|span| if span < Span::from_secs(1) { Err("use at least 1s") } else { Ok(span) })
}

/// Who is banned, for the shell to choose from; nobody where no daemon answers us.
fn banned(begun: &OsStr) -> Vec<CompletionCandidate> {
    let socket = std::env::var_os("BANSTREAM_SOCKET").unwrap_or_else(|| client::SOCKET.into());
    let answer = client::send(socket.as_ref(), &Command::Bans(BanFilter::default()))
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

    fn remote() -> SocketArgs {
        SocketArgs { socket: "/run/banstream/control.sock".into(), json: false }
    }

    #[test]
    fn a_command_line_says_what_to_do() {
        let files = ConfigArgs::default();
        let config = ConfigArgs { config: Some("/c".into()) };
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
        check("banstream disable --config /c", Action::Disable { files: config.clone() });
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
        check("banstream replay", replay(files.clone(), &["-"], JournalArgs::default()));
        check("banstream replay --config /c f g", replay(config, &["f", "g"], JournalArgs::default()));
        let journal = JournalArgs {
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
        let files = ConfigArgs::default();
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
        check("banstream grammar new --program myapp", Action::Grammar(GrammarCommand::New { program }));
        let asked = SocketArgs { socket: "/s".into(), json: true };
        check("banstream status --socket /s --json", Action::Client(ClientCommand::Status { remote: asked }));
        let ban = ClientCommand::Ban {
            remote: remote(),
            offender: "192.0.2.0/24".parse().unwrap(),
            span: Some(Span::from_secs(86400)),
            reason: "scan".to_owned(),
        };
        check("banstream ban 192.0.2.9/24 --for 1d --reason scan", Action::Client(ban));
        let unban = |offender, all| Action::Client(ClientCommand::Unban { remote: remote(), offender, all });
        let notify = ClientCommand::Notify { remote: remote(), receiver: "ops".to_owned() };
        check("banstream notify ops", Action::Client(notify));
        check("banstream unban ::1", unban(Some("::1".parse().unwrap()), false));
        check("banstream unban --all", unban(None, true));
        let offender = "192.0.2.1".parse().unwrap();
        check("banstream why 192.0.2.1", Action::Client(ClientCommand::Why { remote: remote(), offender }));
        let allow = |offender: Option<&str>, span, comment: &str, remove: Option<&str>| {
            let parse = |text: &str| text.parse().unwrap();
            let (offender, remove) = (offender.map(parse), remove.map(parse));
            Action::Client(ClientCommand::Allow {
                remote: remote(),
                offender,
                span,
                comment: comment.to_owned(),
                remove,
            })
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
            "ban ::1 --for never",
        ] {
            let line = format!("banstream {line}");
            assert!(Cli::try_parse_from(line.trim().split(' ')).is_err(), "{line}");
        }
    }
}
