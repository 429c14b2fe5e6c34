//! From text to a configuration that can run.
//!
//! There are two types: [`Written`] is the content of the files, and may be wrong in many ways; [`Config`] is the
//! checked result: every name in it is known, every number is in range. The way from one to the other reports every
//! fault at once, with its place. The defaults are a file of the same format and the lowest layer, so no default is
//! hidden in code. Whether a group or a directory exists shows when it is used.

pub mod load;
mod fault;
mod fleet;
mod notify;
mod value;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use crate::detect::{ExemptionList, Growth, Jail, LIST, MANUAL, Settings, WIDE, Watch, Widen};
use crate::engine::Unattested;
use crate::model::{Mode, Offender, Span, Widths};
use crate::words;

pub use fault::ConfigErrors;
pub use fleet::{FLEET_JAIL, Fleet, PeerPolicy, is_host_name};
pub use notify::{DigestPace, EachPace, Grouping, NotifyChannel, Receiver, Topic};
use value::Ignored;
pub use value::{is_public_key, widest};
use written::TableReader;
pub(crate) use written::nearest;
pub use written::{IS_FAIL2BAN, Setting, Written};

/// All that an operator can choose, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where grammars of the operator's own lie.
    pub grammar_directory: PathBuf,
    /// Where the ledger is kept.
    pub state_directory: PathBuf,
    /// How much the ledger keeps.
    pub ledger: Retention,
    /// What is counted, who is banned, and who never is, without what the files below list.
    pub detection: Settings,
    /// Files that list who else is not banned, by the jail that named it or by all.
    pub ignore_files: Vec<(Option<Arc<str>>, PathBuf)>,
    /// Which journals to read. The first is the source `journald`, the others have the names of their places.
    pub journald: Vec<JournalLocation>,
    /// Where to take lines from `banstream omprog`, if anywhere.
    pub socket: Option<Ingest>,
    /// Where to take commands.
    pub control: Socket,
    /// Where to serve metrics besides the control socket, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// What to put bans into; `None` where all are only observed.
    pub enforce: Option<Enforce>,
    /// What `[enforce]` says, also where nothing is to be enforced.
    pub enforcement: Enforce,
    /// Files in MaxMind's format with the countries and networks of addresses. Commands read them, the daemon does not.
    pub geoip: Vec<PathBuf>,
    /// The receivers of notifications, in the order of their names.
    pub receivers: Vec<Arc<Receiver>>,
    /// The fleet that this host is a member of, if it is one.
    pub fleet: Option<Arc<Fleet>>,
    /// The jails whose offences count together with those on the other hosts.
    pub across_fleet: Vec<Arc<str>>,
}

/// How much the ledger keeps of what is no longer in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For how long offences and past bans are kept.
    pub keep: Span,
    /// How many are kept: of offences that have earned no ban, of offences that have, and of past bans.
    pub max_rows: NonZeroU32,
}

/// Where the journal to read is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalLocation {
    /// The system's, in `/var/log/journal` and `/run/log/journal`.
    System,
    /// That of a namespace (systemd-journald@.service(8)).
    Namespace(String),
    /// The journal files in this directory, and one level below it.
    Directory(PathBuf),
}

impl JournalLocation {
    /// The source's name in the ledger, which keeps a cursor for each journal.
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::System => "journald".into(),
            Self::Namespace(namespace) => format!("journald@{namespace}").into(),
            Self::Directory(directory) => format!("journald:{}", directory.display()).into(),
        }
    }
}

impl fmt::Display for JournalLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => write!(f, "`/var/log/journal` or `/run/log/journal`"),
            Self::Namespace(name) => write!(f, "the namespace `{name}`"),
            Self::Directory(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// Where to take lines from `banstream omprog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingest {
    /// The socket.
    pub socket: Socket,
    /// What an offence is worth in a line of which nobody knows who wrote it.
    pub unattested: Unattested,
}

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it lies; at most 107 bytes.
    pub path: PathBuf,
    /// The group that may connect, besides root.
    pub group: Option<String>,
}

/// The kernel's set, and the one rule that refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforce {
    /// What keeps the banned out.
    pub backend: Backend,
    /// Whether other programs are refused changes of the table of nftables, where the kernel can do that.
    pub owned: bool,
    /// The name of the outer set, or of the table of nftables; at most 24 characters, so that the sets inside can have
    /// longer ones.
    pub set: String,
    /// The most elements that each inner set may hold, to within some 10 % where it is small: the kernel counts by
    /// regions of 1,024 buckets. Only what is in it costs memory.
    pub max_elements: u32,
    /// How many hash buckets a set begins with, which is not configured; the kernel doubles them when one gets full.
    ///
    /// 100,000 bans took 134 ms from 1,024 buckets on, and 31 ms from 65,536.
    /// Empty buckets cost memory too, though `ipset list` does not count it: 4 MiB for four sets of 65,536.
    pub hash_size: u32,
    /// The rule's table.
    pub table: String,
    /// The chains that begin with the rule; at least one.
    pub chains: Vec<String>,
    /// The rule's target and its options, word by word.
    pub target: Vec<String>,
    /// The command that writes the rule for IPv4.
    pub iptables: String,
    /// The command that writes the rule for IPv6.
    pub ip6tables: String,
}

/// What keeps the banned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// ipset where the kernel has it and iptables is there, else nftables.
    Auto,
    /// Sets of ipset, and a rule of iptables.
    Ipset,
    /// A table of nftables.
    Nftables,
}

impl Backend {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ipset => "ipset",
            Self::Nftables => "nftables",
        }
    }
}

impl Default for Enforce {
    /// `DROP` in `raw PREROUTING`: before connection tracking, before NAT, for host and containers.
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            owned: true,
            set: "banstream".to_owned(),
            table: "raw".to_owned(),
            chains: vec!["PREROUTING".to_owned()],
            target: vec!["DROP".to_owned()],
            iptables: "iptables".to_owned(),
            ip6tables: "ip6tables".to_owned(),
            max_elements: 1 << 20,
            hash_size: 1 << 16,
        }
    }
}

impl Config {
    /// Only observes from here on, whatever the operator chose.
    pub fn observe(&mut self) {
        self.detection.mode = Mode::Observe;
        self.detection.jails.iter_mut().for_each(|jail| jail.mode = Mode::Observe);
        self.enforce = None;
    }
}

impl Written<'_> {
    /// Where the grammars lie, which must be read before the rest can be checked.
    ///
    /// # Errors
    ///
    /// No path stands there. Other faults are left to [`check`](Self::check).
    pub fn grammar_directory(&self) -> Result<PathBuf, ConfigErrors> {
        self.read_key(GRAMMAR_DIRECTORY, value::path)
    }

    /// The configuration that these files mean, given the categories of each grammar there is.
    ///
    /// # Errors
    ///
    /// Every fault in them, in the order of the files.
    pub fn check(&self, grammars: &BTreeMap<String, Vec<String>>) -> Result<Config, ConfigErrors> {
        self.read(|top| config(top, grammars))
    }
}

/// Reads a time such as `10m`, `1h 30m`, `2d`, or a number of seconds.
pub fn parse_span(text: &str) -> Option<Span> {
    if let Ok(seconds) = text.parse() {
        return Some(Span::from_secs(seconds));
    }
    let time = humantime::parse_duration(text).ok()?;
    u64::try_from(time.as_micros()).ok().map(Span::from_micros)
}

/// Names of jails that have bans without being configured.
pub(crate) const NOT_CONFIGURED: [&str; 3] = [MANUAL, LIST, WIDE];

/// Whether a jail can have this name.
pub fn is_jail_name(name: &str) -> bool {
    value::is_name(name)
}

/// Whether a jail that has bans here can be called so: one of this host, or that of another host of the fleet.
pub fn names_jail(name: &str) -> bool {
    is_jail_name(name) || name.strip_prefix(FLEET_JAIL).is_some_and(is_host_name)
}

const GRAMMAR_DIRECTORY: &str = "grammar-directory";

// In each of these, all keys are read before the first `?` gives up: so all faults are noted.

fn config(top: &mut TableReader<'_, '_>, grammars: &BTreeMap<String, Vec<String>>) -> Option<Config> {
    let grammar_directory = top.value(GRAMMAR_DIRECTORY, value::path);
    let state_directory = top.value("state-directory", value::path);
    let ignore = top.list("ignoreip", value::ignored);
    let protect_logins = top.value("protect-logins", value::time_or_none);
    let trusted_proxies = top.list("trusted-proxies", value::offender);
    let v4 = top.value("ipv4-prefix", value::whole(8..=32));
    let v6 = top.value("ipv6-prefix", value::whole(16..=128));
    let nat64 = top.list("nat64-prefixes", value::nat64);
    let max_offenders = top.value("max-offenders", value::whole::<usize>(1..=100_000_000));
    let geoip = top.list("geoip", value::path);
    let terms = BanSettings::read(top, BanSettings::default());
    let mode = top.value("mode", value::mode);
    let growth = top.table("growth", growth);
    let ledger = top.table("ledger", ledger);
    let widen = top.table("widen", |t| widen(t, v4, v6));
    let journald = top.table("journald", journald);
    let socket = top.table("socket", |t| {
        let enabled = t.value("enabled", value::flag);
        let socket = listen(t);
        let unattested =
            t.value("unattested", |v| value::one_of("`accept` or `refuse`", &["accept", "refuse"], v));
        let unattested = if unattested? == "refuse" { Unattested::Refuse } else { Unattested::Accept };
        let ingest = Ingest { socket: socket?, unattested };
        Some(enabled?.then_some(ingest))
    });
    let control = top.table("control", listen);
    let metrics = top.table("metrics", |t| t.value("listen", value::unless_empty(value::socket_address)));
    let enforce = top.table("enforce", enforce);
    let mut names: Vec<String> = NOT_CONFIGURED.map(str::to_owned).into();
    let jails = top.tables("jail", |name, t| {
        names.push(name.to_owned());
        jail(name, t, (terms, mode), grammars)
    });
    let receivers = top.table("notify", |t| notify::receivers(t, &names));
    let fleet = top.table("fleet", fleet::fleet);
    let (ignore, files) = split(ignore?);
    let ignore = ignore.into_iter().map(|who| (who, ExemptionList::Ignored));
    let proxies = trusted_proxies?.into_iter().map(|who| (who, ExemptionList::Proxy));
    let mut ignore_files: Vec<_> = files.into_iter().map(|file| (None, file)).collect();
    let mut across_fleet = Vec::new();
    let jails = jails?.into_iter().flatten().map(|(jail, files, is_across)| {
        across_fleet.extend(is_across.then(|| Arc::clone(&jail.name)));
        ignore_files.extend(files.into_iter().map(|file| (Some(Arc::clone(&jail.name)), file)));
        jail
    });
    let (jails, mode) = (jails.collect::<Vec<_>>(), mode?);
    let enforces = mode == Mode::Enforce || jails.iter().any(|jail| jail.mode == Mode::Enforce);
    Some(Config {
        grammar_directory: grammar_directory?,
        state_directory: state_directory?,
        ledger: ledger?,
        detection: Settings {
            mode,
            jails,
            ignore: ignore.chain(proxies).collect(),
            protect_logins: protect_logins?,
            widths: Widths { v4: v4?, v6: v6? },
            nat64: nat64?,
            max_offenders: NonZeroUsize::new(max_offenders?)?,
            growth: growth?,
            widen: widen?,
        },
        ignore_files,
        journald: journald?,
        socket: socket?,
        control: control?,
        metrics: metrics?,
        enforcement: enforce.clone().unwrap_or_default(),
        enforce: enforce.filter(|_| enforces),
        geoip: geoip?,
        receivers: receivers?,
        fleet: fleet?.map(Arc::new),
        across_fleet,
    })
}

/// How many offences in how long earn how long a ban: what jails inherit, each part by itself.
#[derive(Clone, Copy, Default)]
struct BanSettings {
    max_retry: Option<u8>,
    find_time: Option<Span>,
    ban_time: Option<Option<Span>>,
}

impl BanSettings {
    fn read(t: &mut TableReader<'_, '_>, inherited: Self) -> Self {
        Self {
            max_retry: t.value_or("maxretry", inherited.max_retry, value::whole(1..=255)),
            find_time: t.value_or("findtime", inherited.find_time, value::time),
            ban_time: t.value_or("bantime", inherited.ban_time, value::time_or_forever),
        }
    }
}

/// Those that are addresses and prefixes, and those that are files.
fn split(ignored: Vec<Ignored>) -> (Vec<Offender>, Vec<PathBuf>) {
    let (mut offenders, mut files) = (Vec::new(), Vec::new());
    for one in ignored {
        match one {
            Ignored::Offender(offender) => offenders.push(offender),
            Ignored::File(file) => files.push(file),
        }
    }
    (offenders, files)
}

/// The jail, the files that its `ignoreip` names, and whether it counts across the fleet; if it is enabled.
fn jail(
    name: &str,
    t: &mut TableReader<'_, '_>,
    (inherited, mode): (BanSettings, Option<Mode>),
    grammars: &BTreeMap<String, Vec<String>>,
) -> Option<Option<(Jail, Vec<PathBuf>, bool)>> {
    if !is_jail_name(name) || NOT_CONFIGURED.contains(&name) {
        let what = "a jail's name can have letters, digits, `-`, `_` and `.` only, and must not be `manual`, `list` or `wide`";
        t.fault(None, what.to_owned());
    }
    let enabled = t.value_or("enabled", Some(true), value::flag);
    let names: Vec<&str> = grammars.keys().map(String::as_str).collect();
    let watched = t.list("grammars", |v| value::grammar(&names, v));
    let categories = |grammar: &str| grammars.get(grammar).into_iter().flatten().map(String::as_str);
    // Where the grammars are at fault, their categories are not to be blamed as well.
    let watching = watched.as_ref().unwrap_or(&names);
    let known: Vec<&str> = watching.iter().flat_map(|grammar| categories(grammar)).collect();
    let offences = t.list("offences", |v| value::one_of("a category of its grammars", &known, v));
    let terms = BanSettings::read(t, inherited);
    let mode = t.value_or("mode", mode, value::mode);
    let ports = t.list("ports", value::ports);
    let ignore = t.list("ignoreip", value::ignored);
    let distinct = t.value_or("distinct", Some(None), value::unless_empty(value::field));
    let across =
        t.value_or("across", Some("host"), |v| value::one_of("`host` or `fleet`", &["host", "fleet"], v));
    let is_across = across == Some("fleet");
    if is_across && distinct.as_ref().is_some_and(Option::is_some) {
        let what = "`distinct` counts on one host only, and not with `across = \"fleet\"`";
        t.fault(Some("across"), what.to_owned());
    }
    if is_across && name.contains('.') {
        t.fault(
            Some("across"),
            "a jail that counts across the fleet cannot have a `.` in its name".to_owned(),
        );
    }

    let (mut watched, offences) = (watched?, offences?);
    watched.sort_unstable();
    watched.dedup();
    if watched.is_empty() {
        // A jail that is misspelt has no grammar, either.
        let is_known = names.contains(&name) || words::filter(name).is_some();
        let meant = written::meant(name, names.iter().copied()).filter(|_| !is_known);
        let what = match meant {
            Some(meant) => {
                format!("the jail `{name}` has no grammar; {meant} Otherwise add `grammars = [\"...\"]`")
            }
            None => words::grammar_hint(name),
        };
        t.fault(Some("grammars"), what);
    }
    let mut watches = Vec::new();
    for grammar in watched {
        let counts = |category: &&str| offences.is_empty() || offences.contains(category);
        let categories: Vec<String> = categories(grammar).filter(counts).map(str::to_owned).collect();
        if categories.is_empty() {
            t.fault(
                Some("offences"),
                format!("the grammar `{grammar}` has none of the `offences` of the jail `{name}`"),
            );
        }
        watches.push(Watch { grammar: grammar.to_owned(), categories });
    }
    let mut ports = ports?.concat();
    ports.sort_unstable();
    ports.dedup();
    let (ignore, files) = split(ignore?);
    let jail = Jail {
        name: name.into(),
        mode: mode?,
        watches,
        max_retry: NonZeroU8::new(terms.max_retry?)?,
        find_time: terms.find_time?,
        distinct: distinct?.map(Into::into),
        ban_time: terms.ban_time?,
        ports: ports.into(),
        ignore,
    };
    across?;
    Some(enabled?.then_some((jail, files, is_across)))
}

fn growth(t: &mut TableReader<'_, '_>) -> Option<Growth> {
    let factor = t.value("factor", value::number(1.0..=100.0));
    let cap = t.value("cap", value::time);
    let decay = t.value("decay", value::time);
    let jitter = t.value("jitter", value::number(0.0..=1.0));
    Some(Growth { factor: factor?, cap: cap?, decay: decay?, jitter: jitter? })
}

fn ledger(t: &mut TableReader<'_, '_>) -> Option<Retention> {
    let keep = t.value("keep", value::time);
    let max_rows = t.value("max-rows", value::whole(1000..=i64::from(u32::MAX)));
    Some(Retention { keep: keep?, max_rows: NonZeroU32::new(max_rows?)? })
}

/// The rule, unless it is turned off; `v4` and `v6` are what one offender is.
fn widen(t: &mut TableReader<'_, '_>, v4: Option<u8>, v6: Option<u8>) -> Option<Option<Widen>> {
    let offenders = t.value("offenders", value::whole::<u8>(0..=255));
    let within = t.value("within", value::time);
    let wide4 = t.value("ipv4-prefix", value::whole(8..=31));
    let wide6 = t.value("ipv6-prefix", value::whole(16..=127));
    let widths = Widths { v4: wide4?, v6: wide6? };
    let (offenders, within) = (offenders?, within?);
    if offenders == 1 {
        t.fault(Some("offenders"), "`offenders` must be 2 or more, or 0 to ban no prefix".to_owned());
    }
    for (key, wide, one) in [("ipv4-prefix", widths.v4, v4), ("ipv6-prefix", widths.v6, v6)] {
        if offenders > 0 && one.is_some_and(|one| wide >= one) {
            t.fault(Some(key), format!("`{key}` must be shorter than the prefix of one offender"));
        }
    }
    Some(NonZeroU8::new(offenders).map(|offenders| Widen { widths, offenders, within }))
}

/// The most journals: each takes a thread, and is a label in metrics.
const JOURNALS: usize = 16;

fn journald(t: &mut TableReader<'_, '_>) -> Option<Vec<JournalLocation>> {
    let enabled = t.value("enabled", value::flag);
    let namespace = t.value("namespace", value::unless_empty(value::name(200)));
    let directory = t.value("directory", value::unless_empty(value::path));
    let namespaces = t.list("namespaces", value::name(200));
    let directories = t.list("directories", value::path);
    let journal = match (namespace?, directory?) {
        (None, None) => JournalLocation::System,
        (Some(namespace), None) => JournalLocation::Namespace(namespace),
        (None, Some(directory)) => JournalLocation::Directory(directory),
        (Some(_), Some(_)) => {
            t.fault(Some("directory"), "`namespace` and `directory` cannot both be set".to_owned());
            return None;
        }
    };
    let mut journals = vec![journal];
    for (key, further) in [
        ("namespaces", namespaces?.into_iter().map(JournalLocation::Namespace).collect::<Vec<_>>()),
        ("directories", directories?.into_iter().map(JournalLocation::Directory).collect()),
    ] {
        for journal in further {
            if journals.contains(&journal) {
                t.fault(
                    Some(key),
                    format!("the journal in {journal} is listed twice: its lines would count twice"),
                );
            }
            journals.push(journal);
        }
        if journals.len() > JOURNALS {
            t.fault(Some(key), format!("at most {JOURNALS} journals can be read"));
        }
    }
    Some(if enabled? { journals } else { Vec::new() })
}

fn listen(t: &mut TableReader<'_, '_>) -> Option<Socket> {
    let path = t.value("path", value::socket_path);
    let group = t.value("group", value::unless_empty(value::text));
    Some(Socket { path: path?, group: group? })
}

fn enforce(t: &mut TableReader<'_, '_>) -> Option<Enforce> {
    let backend = t.value("backend", value::backend);
    let owned = t.value("owned", value::flag);
    let set = t.value("set", value::name(24));
    let max_elements = t.value("max-elements", value::whole(1..=i64::from(u32::MAX)));
    let tables = ["raw", "mangle", "nat", "filter", "security"];
    let table = t.value("table", |v| value::one_of("a table of iptables", &tables, v));
    // A chain's name has at most 28 characters (XT_EXTENSION_MAXNAMELEN, less the final zero).
    let chains = t.list("chains", value::name(28));
    let target = t.value("target", value::words);
    let iptables = t.value("iptables", value::text);
    let ip6tables = t.value("ip6tables", value::text);
    if chains.as_ref().is_some_and(Vec::is_empty) {
        t.fault(Some("chains"), "`chains` is empty: the rule would see no packet".to_owned());
    }
    let enforce = Enforce {
        backend: backend?,
        owned: owned?,
        set: set?,
        max_elements: max_elements?,
        table: table?.to_owned(),
        chains: chains?,
        target: target?,
        iptables: iptables?,
        ip6tables: ip6tables?,
        ..Enforce::default()
    };
    let target = enforce.target.iter().map(String::as_str).collect::<Vec<_>>();
    let rejects = target.first() == Some(&"REJECT");
    match enforce.backend {
        Backend::Nftables if !matches!(target[..], ["DROP"] | ["REJECT"]) => t.fault(
            Some("target"),
            format!("with nftables, `target` must be `DROP` or `REJECT`, not `{}`", enforce.target.join(" ")),
        ),
        Backend::Ipset | Backend::Auto if rejects && enforce.table != "filter" => t.fault(
            Some("target"),
            "`REJECT` works in the table `filter` only (iptables-extensions(8))".to_owned(),
        ),
        _ => {}
    }
    Some(enforce)
}

#[cfg(test)]
mod tests;
