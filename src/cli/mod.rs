//! The command line: names, options and help of all commands.

pub mod compat;
pub mod top;
mod answer;
mod bans;
mod examples;
#[cfg(feature = "fleet")]
mod fleet;
mod from;
mod geoip;
mod log;
mod report;
mod status;
mod why;
mod wrong;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

pub use self::answer::operator;
pub(crate) use self::answer::{COLUMNS, cells, changes, print, short};
pub use self::answer::{ask, fail2ban_client};
pub use self::bans::BansArgs;
use self::examples::{
    AFTER, ALLOW_EXAMPLES, BAN_EXAMPLES, BANS_EXAMPLES, CHECK_EXAMPLES, CONFIG_SHOW_EXAMPLES,
    DISABLE_EXAMPLES, EXPLAIN_EXAMPLES, GRAMMAR_NEW_EXAMPLES, IMPORT_EXAMPLES, IMPORT_LIST_EXAMPLES,
    LOG_EXAMPLES, NOTIFY_EXAMPLES, OMPROG_EXAMPLES, RELOAD_EXAMPLES, REPLAY_EXAMPLES, REPORT_EXAMPLES,
    RUN_EXAMPLES, SETUP_EXAMPLES, STATUS_EXAMPLES, TOP_EXAMPLES, UNBAN_EXAMPLES, UNDO_EXAMPLES, WEB_EXAMPLES,
};
#[cfg(feature = "fleet")]
pub use self::fleet::{FleetCommand, fleet};
pub use self::log::{LogArgs, log};
pub use self::report::{ReportFormat, When, report};
pub(crate) use self::status::{JAIL_COLUMNS, alarms, jail_cells, status};
pub(crate) use self::why::{WhyDetail, why};
pub use self::wrong::parse;
use crate::config;
use crate::control::client;
use crate::control::{BanFilter, BanLength, BanLine, Command};
use crate::fail2ban;
use crate::model::plain;
use crate::model::{Offender, Span};

/// The exit status where what was checked is wrong, or the daemon refuses.
pub const REFUSED: u8 = 1;
/// The exit status where we could not run at all; clap's own for a wrong command line.
pub const COULD_NOT_RUN: u8 = 2;

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
    /// Create the kernel's sets, empty, and exit
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
    /// `file:line:column: what`, with the line and a caret. Exits with 1 if there is any. A program that `[enforce]` names must be
    /// on this host. Of the configuration of a daemon
    /// that runs it also says what a reload would change.
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
    /// Share bans with other hosts
    #[cfg(feature = "fleet")]
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Help with writing grammars
    #[command(subcommand)]
    Grammar(GrammarCommand),
    /// Replay a log and show who would have been banned
    ///
    /// Runs the daemon's own detector over logs, by their own clock. Prints the bans and a summary: offences, whose lines no
    /// grammar reads, and the forms of lines that name an address and match no rule.
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
    /// Report what happened: bans, offences, jails, rules, offenders, networks and user names
    ///
    /// Reads the ledger, so it needs permission to read it, but no daemon. It goes back as far as the ledger does:
    /// see `[ledger]` in the configuration. Days are in this host's time zone. If the ledger also has as much time before
    /// the beginning, each total says what it was then. User names are those in the lines that the ledger still has, of the
    /// latest 20,000 offences at most. Countries and networks (AS) need `geoip` in the configuration.
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
    /// Show what the daemon did and does: bans, repairs, faults, reloads
    ///
    /// Shows the daemon's own log, from the journal: what the unit `banstream.service` logged. It becomes `journalctl` with the
    /// right matches, so the pager, `-f` and permissions are those of journalctl: without root, only members of the groups
    /// `systemd-journal` and `adm` see it. An observed ban says `would ban`. Without journald, the daemon logs to stderr. If
    /// there is no line to read, it says where the daemon logs, and exits with 2.
    #[command(after_help = LOG_EXAMPLES)]
    Log {
        /// What to show.
        #[command(flatten)]
        args: LogArgs,
    },
    /// Find the services that run here, and let their lines arrive
    ///
    /// Looks for processes, units, ports and log files of the services that the grammars know, and says for each whether
    /// its lines arrive. Without options it prints what is missing and changes nothing. --write lets rsyslog read the log
    /// files that nobody reads, and turns on the jails of these services that are off by default. rsyslog judges
    /// its new configuration before it is in place; if a program refuses what was written, all is as before. What there
    /// is already is left alone, so a second run changes nothing.
    #[command(after_help = SETUP_EXAMPLES)]
    Setup {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Write what is missing, and let rsyslog and the daemon read it
        #[arg(long)]
        write: bool,
        /// Remove all that `setup` has written
        #[arg(long, conflicts_with_all = ["write", "server_settings"])]
        undo: bool,
        /// Print what would be written or removed, and change nothing; the default without --write and --undo
        #[arg(long)]
        dry_run: bool,
        /// Change the configuration of servers, too, so that they log to syslog, where no file can be read
        #[arg(long)]
        server_settings: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take over another program's configuration and bans
    #[command(subcommand)]
    Import(ImportCommand),
    /// Check that bans are really enforced, and how to fix what is not
    ///
    /// Says which backend enforces bans, and why. Checks the kernel's sets and rules in both families and both variants
    /// of iptables, or the table of nftables, its owner and a sample of the bans; the daemon, its sources
    /// and its metrics, and the log daemons' rate limits. Causes come first; findings that only follow from a cause are counted
    /// with it, not listed.
    /// Exits with 1 if anything is wrong; doubtful findings are only printed.
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
        #[arg(long, value_name = "PATH", env = client::SOCKET_VARIABLE, default_value = client::SOCKET)]
        socket: PathBuf,
        /// How often to update; at least 1s
        #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
        interval: Span,
    },
    /// Serve a page for a browser on this host
    ///
    /// Shows the daemon's state, jails and bans in force, a live feed, and why an address is banned. It is a process without
    /// privileges of its own that asks the daemon over the control socket; started by root, it runs as the user nobody,
    /// in the socket's group. Ctrl-C ends it.
    ///
    /// All users of this host can reach a loopback address, so the page opens only with the token in the address that is
    /// printed at the start; the browser keeps it in a cookie, and the next start has another. Do not share the address. The page
    /// is read-only unless --allow-changes is given. There is no TLS: use a tunnel to see the page from another machine.
    #[command(after_help = WEB_EXAMPLES)]
    Web {
        /// The daemon's control socket
        #[arg(long, value_name = "PATH", env = client::SOCKET_VARIABLE, default_value = client::SOCKET)]
        socket: PathBuf,
        /// The address and port to serve at; a loopback address
        #[arg(long, value_name = "ADDR:PORT", value_parser = loopback, default_value = "127.0.0.1:9847")]
        listen: SocketAddr,
        /// Let the page ban, unban and exempt addresses, and undo that
        #[arg(long)]
        allow_changes: bool,
    },
}

/// Show the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its origin: the file and line, or `default`
    ///
    /// Reads the files as `run` and `reload` do, and names them; what a daemon runs with is older if it was not reloaded
    /// since. If a daemon has read other files, it says which. A jail also shows what it inherits. The output is itself a
    /// valid configuration.
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

/// Take over another program's configuration and bans.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ImportCommand {
    /// Take over fail2ban: its jails, filters, settings and bans
    ///
    /// Reads fail2ban's configuration and database as fail2ban does, and prints what each jail that is on becomes: a grammar
    /// of banstream, or one made of the jail's own failregex and proved, or why neither is possible; what each setting
    /// becomes; and what only a human can do. Nothing is written without an option. Names in ignoreip are resolved now.
    ///
    /// Where fail2ban-regex is installed, it says what each jail's filter finds in the last 20,000 lines of the jail's logs,
    /// and the command compares that with what banstream finds. That takes 10 s at most; with --compare, 60 s for each jail.
    ///
    /// With --write, it writes a file in banstream.d, grammars, and inputs for rsyslog, and takes over the bans with
    /// their jails, ends and counts: into the ledger if no daemon runs, else through the daemon's socket. With --shadow, it writes the
    /// same, but the daemon only observes and no bans are taken over, so that both run side by side. With --switch, it stops and
    /// disables fail2ban, but only if what was written is as it would be written now, and after the daemon has all of its bans in force; after
    /// --shadow, it lets the daemon enforce first. Jails without a counterpart here need --force. --undo takes all of it back.
    ///
    /// With --diff, it compares the bans in fail2ban's database with those in the ledger: which offenders only one of the two
    /// has banned, the lines, and why the other has not; and who was first where both did.
    #[command(after_help = IMPORT_EXAMPLES)]
    Fail2ban {
        /// The folder of its configuration
        #[arg(value_name = "DIR", default_value = fail2ban::FOLDER)]
        directory: PathBuf,
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Take all the time to compare fail2ban's filters with ours
        #[arg(long, group = "action")]
        compare: bool,
        /// Write it, and take over the bans
        #[arg(long, group = "action")]
        write: bool,
        /// Write it, but only observe while fail2ban goes on
        #[arg(long, group = "action")]
        shadow: bool,
        /// Say which offenders only one of the two has banned, and why
        #[arg(long, group = "action")]
        diff: bool,
        /// From when on --diff compares: a time ago, or a date
        #[arg(long, value_name = "TIME", value_parser = When::parse, default_value = "1d", requires = "diff", conflicts_with_all = ["compare", "write", "shadow", "switch", "undo"])]
        since: When,
        /// Stop and disable fail2ban, once its bans are in force here
        #[arg(long, group = "action")]
        switch: bool,
        /// Switch although jails have no counterpart here
        #[arg(long, requires = "switch", conflicts_with_all = ["compare", "write", "shadow", "diff", "undo"])]
        force: bool,
        /// Take back what was written, and start fail2ban again
        #[arg(long, group = "action")]
        undo: bool,
        /// Print JSON
        #[arg(long, conflicts_with = "markdown")]
        json: bool,
        /// Print Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Ban the addresses of a list
    ///
    /// The list has an address or prefix a line, or is CSV as `cscli decisions list -o raw` prints it; the first line that is
    /// not a comment decides. Prints how many bans it asks for, and which lines are wrong or left out: duplicates, private
    /// and exempt addresses, what is over, and what is not a ban, such as a captcha. Prefixes wider than /8 (IPv6: /32) are
    /// wrong. Nothing is done without --write.
    ///
    /// With --write, the bans go to the running daemon, or into the ledger if none runs. They are bans of the jail `list`: on
    /// all ports, not growing, and no news to receivers. A ban that is in force already is never shortened, so the same
    /// list can be taken over every day. The address that you are logged in from, and those that somebody logged in from
    /// lately, are left out and named; `ban --force` bans them.
    #[command(after_help = IMPORT_LIST_EXAMPLES)]
    List {
        /// The list; `-` is stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// Ban them
        #[arg(long)]
        write: bool,
        /// How long, where the list does not say it: such as 12h, 30d, or `forever`
        #[arg(long = "for", value_name = "TIME", default_value = "7d", allow_negative_numbers = true)]
        length: BanLength,
        /// The reason, where the list does not say it [default: the name of the list]
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Leave out lines that are wrong, in place of doing nothing
        #[arg(long)]
        skip_wrong: bool,
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
    /// Give it lines that report offences, with or without a syslog header, and some harmless ones. Similar lines become
    /// one rule: the text that they share is kept, text that differs becomes a field. Of several addresses it takes one
    /// that is not the server's own. Each rule is proved beside the others; if that fails, a stricter one is tried, then
    /// another address, and a rule that cannot be proved is left as a comment with the reason. Lines of an access log
    /// become a shape with a condition on the status. Up to three lines of each kind become tests; lines that say nothing
    /// of a failure become tests for `-`. What was left out is reported on stderr.
    ///
    /// Exits with 1 if the most frequent lines have no rule. The same lines always give the same file. It is a proposal:
    /// read it before you use it.
    #[command(after_help = GRAMMAR_NEW_EXAMPLES)]
    New {
        /// A program that wrote the lines, `*` allowed; lines of others are left out [default: those in the lines' headers]
        #[arg(long = "program", value_name = "NAME", value_parser = program)]
        programs: Vec<String>,
        /// Write to this file, if there is a rule to write [default: stdout]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file if it exists
        #[arg(long, requires = "output")]
        force: bool,
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
    /// Shows for each its jail, beginning, end, number, ports and reason, and at the end how many there are. The daemon
    /// chooses and sorts, so a short list of many bans comes at once. On a terminal a long list comes in `$PAGER`, or `less`;
    /// `PAGER=cat` turns that off.
    ///
    /// Where the daemon's configuration has `geoip`, the last column says in which country and network an address is.
    ///
    /// --export prints bans for `ban --from`, with their jails, ports, beginnings and numbers; bans that are only observed are
    /// comments. Bans of other hosts of the fleet are left out, unless --kind peer asks for them.
    #[command(after_help = BANS_EXAMPLES)]
    Bans {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// Which bans, and how.
        #[command(flatten)]
        args: BansArgs,
    },
    /// Explain why an address is banned, or why it is not
    ///
    /// Shows its bans with the calculation of their length and the lines that earned them, the offences that each jail
    /// has counted with their lines, its exemptions, and its elements in the kernel: in which set, for how much
    /// longer, and how many packets were dropped. Where the daemon's configuration has `geoip`, also its country and network.
    Why {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The address or prefix
        #[arg(value_name = "ADDR|CIDR", add = ArgValueCompleter::new(banned))]
        offender: Offender,
        /// Show of each line the rule that read it, and the text in the rule's fields
        #[arg(short, long, conflicts_with = "json")]
        verbose: bool,
    },
    /// Ban addresses or prefixes, on all ports
    ///
    /// The command answers once the kernel and the ledger have the ban, or says within 1.5 s which of them has not; a ban that
    /// is not enforced is exit status 1. If there is a ban by hand already, it takes its place and says how that differs; a time or
    /// reason that is not given stays as it was. An exempt address is refused, with exit status 1. What could shut out
    /// somebody who works here needs --force.
    #[command(after_help = BAN_EXAMPLES)]
    Ban {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// Addresses or prefixes, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64
        #[arg(value_name = "ADDR|CIDR", required_unless_present = "from")]
        addresses: Vec<Offender>,
        /// Ban the addresses of a list, each as if by a command of its own; `-` is stdin
        ///
        /// A line has an address or prefix, an end if you like, and a comment, which becomes the reason; or the list is CSV with a
        /// heading. --for and --reason are for lines without. A line of `bans --export` also says the ban's jail, ports,
        /// beginning and number, and restores it like that. If a line is wrong, nothing is done.
        #[arg(long, value_name = "FILE", conflicts_with = "addresses")]
        from: Option<PathBuf>,
        /// How long, such as 10m, `1h 30m`, 2d or `forever` [default: until unbanned]
        #[arg(long = "for", value_name = "TIME", allow_negative_numbers = true)]
        length: Option<BanLength>,
        /// The reason; shown with the ban
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Ban a prefix wider than /8 (IPv6: /32), the address that you are logged in from, or one that somebody logged in
        /// from lately
        #[arg(long)]
        force: bool,
    },
    /// Lift the bans of addresses or prefixes, of a jail, or all bans
    ///
    /// Lifts what is on exactly this address or prefix; bans inside a prefix are named, and stay without --inside. It is not
    /// an error if there is no ban. An address that is banned as part of a prefix is refused, with exit status 1: lift the
    /// ban on the prefix. So is a prefix that is not banned itself and has bans inside it.
    #[command(after_help = UNBAN_EXAMPLES)]
    Unban {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// Addresses or prefixes, as listed by `banstream bans`
        #[arg(value_name = "ADDR|CIDR", required_unless_present_any = ["all", "jail", "from"], add = ArgValueCompleter::new(banned))]
        addresses: Vec<Offender>,
        /// Lift the bans on the addresses of a list, in the form of `ban --from`; `-` is stdin
        #[arg(long, value_name = "FILE", conflicts_with_all = ["addresses", "jail", "all", "inside"])]
        from: Option<PathBuf>,
        /// Lift the bans inside the prefix, too
        #[arg(long, requires = "addresses", conflicts_with_all = ["jail", "all"])]
        inside: bool,
        /// Lift the bans of this jail, on these addresses if there are any, and leave those of others
        #[arg(long, value_name = "NAME", value_parser = jail, conflicts_with = "all")]
        jail: Option<String>,
        /// Lift all bans
        #[arg(long, conflicts_with = "addresses")]
        all: bool,
    },
    /// Exempt addresses or prefixes from bans, or list exemptions
    ///
    /// Lifts its bans, those by hand included, and prevents new bans by jails and operators until the time is over or the
    /// exemption is removed. Exemptions survive restarts. For a permanent exemption use `ignoreip`. If the address is exempt
    /// already, a time or comment that is not given stays as it was. A prefix wider than /8 (IPv6: /32) needs --force.
    #[command(after_help = ALLOW_EXAMPLES)]
    Allow {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// Addresses or prefixes, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64; without any, lists all exemptions
        #[arg(value_name = "ADDR|CIDR", group = "exempt")]
        addresses: Vec<Offender>,
        /// Exempt the addresses of a list, in the form of `ban --from`; `-` is stdin
        #[arg(long, value_name = "FILE", group = "exempt")]
        from: Option<PathBuf>,
        /// How long, such as 10m, `1h 30m`, 2d or `forever` [default: until removed]
        #[arg(long = "for", value_name = "TIME", requires = "exempt", allow_negative_numbers = true)]
        length: Option<BanLength>,
        /// The reason; shown in the list
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "exempt")]
        comment: String,
        /// Exempt a prefix wider than /8 (IPv6: /32)
        #[arg(long, requires = "exempt")]
        force: bool,
        /// Remove this exemption
        #[arg(long, value_name = "ADDR|CIDR", conflicts_with_all = ["exempt", "length", "comment", "force"])]
        remove: Option<Offender>,
    },
    /// Take back the last change of bans or exemptions by an operator
    ///
    /// Takes back what `ban`, `unban`, `allow`, `import`, a reload or a program on the control socket changed last, no matter who
    /// asked for it: bans that were lifted or replaced are in force again, until the end that they had, and new ones are lifted.
    /// Says which command that was, and how old. Again, it takes back the command before. A ban whose address is exempt now
    /// stays lifted.
    ///
    /// If the last command is older than 10 minutes, or was refused or changed nothing, or is a reload that lifted no ban, it only says which command it would take
    /// back, and exits with 1; --force takes it back. Commands are remembered for a day, the last 100 and a million changes,
    /// and a restart of the daemon does not forget them. Without a command to take back, exits with 1.
    #[command(after_help = UNDO_EXAMPLES)]
    Undo {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// List the commands that can be taken back, the latest first
        #[arg(long, conflicts_with = "force")]
        list: bool,
        /// Take back the latest, even if it is older than 10 minutes, or a later command changed nothing
        #[arg(long)]
        force: bool,
    },
    /// Reload the daemon's configuration and grammars
    ///
    /// If anything in them is wrong, the daemon reports it and keeps the old ones. The same if a file that set something is now
    /// empty or missing, since an editor may be writing it; only a drop-in may be removed, while another file sets something.
    /// If it is intended, restart the daemon. A change that takes effect at the next start only is listed with these words.
    ///
    /// Bans of addresses that are exempt from then on are lifted and listed; no other ban and no count is lost. A rollback restores
    /// the bans that the reload has lifted, and `undo` does once the addresses are not exempt any more. `check` says before what
    /// a reload would lift.
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
        /// The receiver's name in the configuration; without it, list all receivers
        #[arg(value_name = "NAME")]
        receiver: Option<String>,
    },
}

/// Which daemon to ask, and how to print its answer.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SocketArgs {
    /// The daemon's control socket
    #[arg(
        long,
        value_name = "PATH",
        env = client::SOCKET_VARIABLE,
        default_value = client::SOCKET
    )]
    pub socket: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which part of the journal to replay.
///
/// Each names `logs`, too: `requires` has no effect if what is required conflicts with another argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct JournalArgs {
    /// Replay the journal that the daemon reads, in the same way
    #[arg(long, conflicts_with = "logs")]
    pub journal: bool,
    /// A folder of other journal files
    #[arg(long, value_name = "DIR", requires = "journal", conflicts_with = "logs")]
    pub directory: Option<PathBuf>,
    /// The beginning: a time ago, such as 30d, or a date such as 2026-11-01 or '2026-11-01 12:00'
    #[arg(long, value_name = "TIME", requires = "journal", conflicts_with = "logs", value_parser = When::parse)]
    pub since: Option<When>,
    /// The end, in the same form
    #[arg(long, value_name = "TIME", requires = "journal", conflicts_with = "logs", value_parser = When::parse)]
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

fn jail(text: &str) -> Result<String, &'static str> {
    let sound = config::names_jail(text);
    sound.then(|| text.to_owned()).ok_or(
        "a jail's name can have letters, digits, `-`, `_` and `.` only; that of a host of the fleet is `fleet:HOST`",
    )
}

fn span(text: &str) -> Result<Span, &'static str> {
    let span = config::parse_span(text).filter(|span| *span > Span::ZERO);
    span.ok_or("write a time such as `10m`, `1h 30m`, `2d` or a number of seconds")
}

fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let listen = text.parse().ok().filter(|listen: &SocketAddr| listen.ip().is_loopback());
    listen.ok_or("write a loopback address with a port, such as `127.0.0.1:9847` or `[::1]:9847`")
}

fn interval(text: &str) -> Result<Span, &'static str> {
    span(text).and_then(|span| if span < Span::from_secs(1) { Err("use at least 1s") } else { Ok(span) })
}

/// Who is banned, for the shell to choose from; nobody where no daemon answers us.
fn banned(begun: &OsStr) -> Vec<CompletionCandidate> {
    let answer = client::send(&client::socket(), &Command::Bans(BanFilter::default()))
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
mod tests;
