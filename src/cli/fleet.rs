//! `banstream fleet`: what operators do with a fleet, and what hosts know of it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};

use super::examples::{FLEET_ADD_EXAMPLES, FLEET_INIT_EXAMPLES, FLEET_LEAVE_EXAMPLES};
use super::{ConfigArgs, SocketArgs, short};
use crate::config::load::load;
use crate::config::{Fleet, is_host_name};
use crate::control::{Command, FleetStatus, Status, client};
use crate::daemon::now;
use crate::fleet::MemberRecord;
use crate::fleet::admin::{self, Operator};
use crate::fleet::{FleetOrder, JAIL, OrderKind};
use crate::model::{Mode, Offender, Span, Timestamp, count, plain};
use crate::tools::terminal::{BAD, local, painted, table};

/// Where an operator's key is, unless somebody says otherwise.
const OPERATOR: &str = "fleet-operator.seed";

/// Who gives an order.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct OperatorArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// The file of the operator's NKEY seed
    #[arg(long, value_name = "FILE", default_value = OPERATOR)]
    pub operator_key: PathBuf,
    /// A credentials file of NATS to log in with, where the server takes no NKEY
    #[arg(long, value_name = "FILE")]
    pub operator_credentials: Option<PathBuf>,
}

impl OperatorArgs {
    async fn connect<'f>(&self, fleet: &'f Fleet) -> anyhow::Result<Operator<'f>> {
        Operator::connect(fleet, &self.operator_key, self.operator_credentials.as_deref()).await
    }
}

/// What to do with a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum FleetCommand {
    /// Make an operator's key, and the fleet's buckets on the server
    ///
    /// Run it where you administrate the fleet from. The first time it makes the key, and prints what to write into the
    /// configuration of the NATS server and into `[fleet]`. The next time, with both in place, it makes the buckets. What is
    /// there already stays.
    #[command(after_help = FLEET_INIT_EXAMPLES)]
    Init {
        /// The operator.
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Admit a host
    ///
    /// Without --key it makes the host's key, in the file HOST.seed, to be brought to the host as its `seed-file`. With the
    /// operator's signature, all members hear the host from then on. Prints what to write into the configuration of the
    /// NATS server, which lets the host write below its own name only. To give a host another key, add it again.
    #[command(after_help = FLEET_ADD_EXAMPLES)]
    Add {
        /// The operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// The public NKEY of the host, if it has one
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Let it add up what the jails with `across = "fleet"` of all members count
        #[arg(long)]
        counter: bool,
        /// The host's name: letters, digits, `-` and `_`
        host: String,
    },
    /// Exempt an address on all hosts
    ///
    /// All members exempt it from bans, and lift those that it has, as `banstream allow` does. Members that are away do so
    /// when they return. An operator of a host can take that back there, by `undo` or `allow --remove`.
    Allow {
        /// The operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// How long, such as 8h [default: until removed]
        #[arg(long = "for", value_name = "TIME", value_parser = super::span)]
        length: Option<Span>,
        /// The reason
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        /// Take the exemption back
        #[arg(long, conflicts_with_all = ["length", "comment"])]
        remove: bool,
        /// An address or a prefix
        #[arg(value_name = "ADDR|CIDR")]
        address: Offender,
    },
    /// Lift all bans on an address, and inside a prefix, on all hosts
    ///
    /// Members that are away do so when they return. The address can be banned again.
    Unban {
        /// The operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// An address or a prefix
        #[arg(value_name = "ADDR|CIDR")]
        address: Offender,
    },
    /// Remove a host
    ///
    /// The other members lift its bans, and hear it no more. What it has written is taken out of the buckets. Take its user out
    /// of the server's configuration, too.
    Remove {
        /// The operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// The host's name
        host: String,
    },
    /// Take this host out of the fleet
    ///
    /// Puts the host's key aside, so that its daemon cannot connect any more, and lifts the bans that it has told the others. The
    /// host's own bans stay in force here. Says what to do afterwards.
    #[command(after_help = FLEET_LEAVE_EXAMPLES)]
    Leave {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
    },
    /// List the members
    ///
    /// Asks the server, with the host's seed, or with the operator's where --operator-key names it.
    Hosts {
        /// Where the configuration is.
        #[command(flatten)]
        files: ConfigArgs,
        /// The file of the operator's NKEY seed, on a machine that is not a member
        #[arg(long, value_name = "FILE")]
        operator_key: Option<PathBuf>,
        /// A credentials file of NATS to log in with, where the server takes no NKEY
        #[arg(long, value_name = "FILE", requires = "operator_key")]
        operator_credentials: Option<PathBuf>,
    },
    /// Show what the daemon knows of the fleet
    ///
    /// Whether the server is connected, and for each member: its bans in force here, when it said something last, what was refused of
    /// it and why, and whether it was set aside.
    Status {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
    },
    /// Hear a host again that was set aside
    ///
    /// The daemon sets a host aside that begins more bans, or has more in force, than `[fleet]` allows. `banstream unban --jail
    /// fleet:HOST` lifts the bans that it has.
    Accept {
        /// The daemon to ask.
        #[command(flatten)]
        remote: SocketArgs,
        /// The host's name
        host: String,
    },
}

/// Carries it out, and prints what it did.
///
/// # Errors
///
/// The configuration or a key cannot be read, no server or daemon answers, or it refuses.
pub fn fleet(command: &FleetCommand) -> anyhow::Result<()> {
    let text = match command {
        FleetCommand::Init { operator } => init(operator)?,
        FleetCommand::Add { operator, key, counter, host } => add(operator, key.as_deref(), *counter, host)?,
        FleetCommand::Allow { operator, length, comment, remove, address } => {
            let (kind, at) = (if *remove { OrderKind::Disallow } else { OrderKind::Allow }, now());
            let until = length.map(|length| at + length);
            let order = FleetOrder { kind, offender: *address, at, until, comment: comment.clone() };
            give(operator, order)?;
            match (remove, length) {
                (true, _) => format!("{address} is no longer exempt on the hosts of the fleet\n"),
                (false, Some(length)) => {
                    format!("{address} is exempt on all hosts of the fleet for {length}\n")
                }
                (false, None) => format!("{address} is exempt on all hosts of the fleet\n"),
            }
        }
        FleetCommand::Unban { operator, address } => {
            let (kind, at, comment) = (OrderKind::Unban, now(), String::new());
            give(operator, FleetOrder { kind, offender: *address, at, until: None, comment })?;
            format!("the hosts of the fleet lift all bans on {address}\n")
        }
        FleetCommand::Remove { operator, host } => remove(operator, host)?,
        FleetCommand::Leave { files } => leave(&*configured(files)?)?,
        FleetCommand::Hosts { files, operator_key, operator_credentials } => {
            let fleet = configured(files)?;
            hosts(&admin::run(async {
                match operator_key {
                    None => admin::list(&fleet).await,
                    Some(key) => {
                        Operator::connect(&fleet, key, operator_credentials.as_deref()).await?.members().await
                    }
                }
            })?)
        }
        FleetCommand::Status { remote } => {
            let answer = client::send(&remote.socket, &Command::Status)?;
            let status: Status =
                serde_json::from_str(&answer.body).context("the daemon has another version")?;
            let fleet = status.fleet.context("this host is in no fleet: `[fleet]` names no servers")?;
            if remote.json { format!("{}\n", serde_json::to_string(&fleet)?) } else { self::status(&fleet) }
        }
        FleetCommand::Accept { remote, host } => {
            let answer = client::send(&remote.socket, &Command::AcceptPeer(host.clone()))?;
            match answer.refusal() {
                Some(why) => anyhow::bail!("{why}"),
                None => format!("{host} is heard again\n"),
            }
        }
    };
    super::print(&text)
}

/// What the configuration says of the fleet.
fn configured(files: &ConfigArgs) -> anyhow::Result<Arc<Fleet>> {
    load(files.config.as_deref())?.config.fleet.context("`[fleet]` in the configuration names no `servers`")
}

fn give(operator: &OperatorArgs, order: FleetOrder) -> anyhow::Result<()> {
    let fleet = configured(&operator.files)?;
    admin::run(async { operator.connect(&fleet).await?.order(order).await })
}

fn init(operator: &OperatorArgs) -> anyhow::Result<String> {
    let (files, seed_file) = (&operator.files, &operator.operator_key);
    let is_new = !seed_file.exists();
    let key = admin::make_seed(seed_file)?;
    let made = if is_new { "made" } else { "kept" };
    let mut text = format!("{made} the operator's key in {}: {key}\n", seed_file.display());
    let fleet = load(files.config.as_deref())?.config.fleet;
    let Some(fleet) = fleet.filter(|fleet| fleet.operators.contains(&key)) else {
        write!(
            text,
            "\nWrite this into the configuration of banstream on each host:\n\n[fleet]\nservers = [\"nats://SERVER:4222\"]\n\
             operators = [\"{key}\"]\n\nand this into that of the NATS server:\n\n{}\nThen run this once more.\n",
            admin::server_configuration(&key)
        )?;
        return Ok(text);
    };
    let made = admin::run(async { operator.connect(&fleet).await?.make_buckets().await })?;
    match made.as_slice() {
        [] => text += "the buckets are there already\n",
        made => writeln!(text, "made the buckets {}", made.join(" and "))?,
    }
    text += "`banstream fleet add HOST` admits hosts\n";
    Ok(text)
}

fn add(operator: &OperatorArgs, key: Option<&str>, counter: bool, host: &str) -> anyhow::Result<String> {
    ensure!(
        is_host_name(host),
        "`{host}` cannot be a host's name: it can have letters, digits, `-` and `_` only"
    );
    let fleet = configured(&operator.files)?;
    let mut text = String::new();
    let key = match key {
        Some(key) => key.to_owned(),
        None => {
            let path = PathBuf::from(format!("{host}.seed"));
            let key = admin::make_seed(&path)?;
            writeln!(
                text,
                "the key of {host} is in {}: bring it to {host} as {}, readable by the daemon only",
                path.display(),
                fleet.seed_file.display()
            )?;
            key
        }
    };
    let record = MemberRecord { at: now(), key: key.clone(), counter, removed: false };
    let set = async { operator.connect(&fleet).await?.set_member(host, record).await };
    let before = admin::run(set)?;
    let what = match before {
        None => "admitted",
        Some(before) if before.removed => "admitted again",
        Some(before) if before.key == key => "was a member already, with the same key:",
        Some(_) => "replaced the key of",
    };
    let user = admin::user(&fleet, host, &key);
    write!(text, "{what} {host}\n\nIts user in the configuration of the NATS server:\n\n{user}")?;
    Ok(text)
}

fn remove(operator: &OperatorArgs, host: &str) -> anyhow::Result<String> {
    let fleet = configured(&operator.files)?;
    let cleared = admin::run(async {
        let operator = operator.connect(&fleet).await?;
        let known = operator.member(host).await?.filter(|record| !record.removed);
        let known = known.with_context(|| format!("{host} is not a member"))?;
        operator.set_member(host, MemberRecord { at: now(), removed: true, ..known }).await?;
        operator.clear(host).await
    })?;
    let entries = if cleared == 1 { "1 entry".to_owned() } else { format!("{cleared} entries") };
    Ok(format!("removed {host}: the other members lift its bans; took {entries} of it out of the buckets\n"))
}

fn leave(fleet: &Fleet) -> anyhow::Result<String> {
    let left = admin::run(admin::leave(fleet, now))?;
    let (bans, windows) = (count(left.bans as u64, "ban"), count(left.windows as u64, "window"));
    let (host, seed) = (&fleet.host, left.seed.display());
    Ok(format!(
        "{host} has left the fleet: lifted {bans} and emptied {windows} that it had told the others\n\
         its key is in {seed} now, so that its daemon cannot connect any more\n\
         next: take `servers` out of `[fleet]` here and run `banstream reload`, which lifts the bans of others here;\n\
         an operator runs `banstream fleet remove {host}`\n"
    ))
}

fn hosts(members: &[(Arc<str>, MemberRecord)]) -> String {
    let rows = members.iter().filter(|(_, record)| !record.removed).map(|(host, record)| {
        let since = Timestamp::from_secs(record.at.as_secs());
        let counts = if record.counter { "counter" } else { "-" };
        [plain(host.as_bytes()), local(&since.to_string()), counts.to_owned(), record.key.clone()]
    });
    let hosts = rows.clone().count() as u64;
    format!("{}{}\n", table(["HOST", "ADMITTED", "COUNTS", "KEY"], rows), count(hosts, "host"))
}

/// What the daemon knows of the fleet, for people.
pub(crate) fn status(fleet: &FleetStatus) -> String {
    let since = fleet.down.map_or(String::new(), |down| format!(" for {}", short(down)));
    let mut text = match (&fleet.server, &fleet.error) {
        (Some(server), why) => {
            let full = why
                .as_ref()
                .map(|why| painted(BAD, &format!(", which has no room for its bans: {}", plain(why))));
            format!("{} is connected to {}{}\n", plain(&fleet.host), plain(server), full.unwrap_or_default())
        }
        (None, Some(error)) => {
            format!(
                "{}\n",
                painted(BAD, &format!("{} is not connected{since}: {}", plain(&fleet.host), plain(error)))
            )
        }
        (None, None) => format!("{} is not connected yet\n", plain(&fleet.host)),
    };
    let agree = if fleet.agree > 1 { format!(" once {} hosts agree", fleet.agree) } else { String::new() };
    text += &match fleet.mode {
        Mode::Enforce => format!("bans of others are enforced{agree}\n"),
        Mode::Observe => "bans of others are only observed\n".to_owned(),
    };
    text += &format!("{}; {} told", count(fleet.members, "member"), count(fleet.told, "notice"));
    text += &if fleet.waiting > 0 { format!(", {} wait\n", fleet.waiting) } else { "\n".to_owned() };
    if fleet.strangers > 0 {
        text += &format!("refused of hosts that no operator has admitted: {}\n", fleet.strangers);
    }
    let peers = fleet.peers.iter().map(|peer| {
        let refused: Vec<String> =
            peer.refused.iter().map(|(why, times)| format!("{times} {}", plain(why))).collect();
        let state = match (&peer.aside, peer.admitted) {
            // A table has no colours.
            (Some(why), _) => format!("set aside: {}", plain(why)),
            (None, false) => "no member".to_owned(),
            (None, true) => "heard".to_owned(),
        };
        [
            plain(&peer.host),
            peer.bans.to_string(),
            peer.silent.map_or("-".to_owned(), |silent| format!("{} ago", short(silent))),
            if refused.is_empty() { "-".to_owned() } else { refused.join(", ") },
            state,
        ]
    });
    if !fleet.peers.is_empty() {
        text += &format!("\n{}", table(["HOST", "BANS", "LAST HEARD", "REFUSED", "STATE"], peers));
    }
    if fleet.peers.iter().any(|peer| peer.aside.is_some()) {
        text += &format!(
            "`banstream unban --jail {JAIL}HOST` lifts the bans of a host, `banstream fleet accept HOST` hears it again\n"
        );
    }
    text
}
