//! `[fleet]`: the bans of other hosts, and what they may do here.

use std::path::PathBuf;

use super::value;
use super::written::TableReader;
use crate::model::{Mode, Offender, Span, Widths};

/// What the names of the jails of other hosts begin with; no jail of this host can be called so.
pub const FLEET_JAIL: &str = "fleet:";

/// How this host takes part in a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The servers of NATS, as URLs; at least one.
    pub servers: Vec<String>,
    /// This host's name among the members.
    pub host: String,
    /// The file with the NKEY seed of this host: what it signs with, and how it logs in unless there are credentials.
    pub seed_file: PathBuf,
    /// A credentials file of NATS to log in with.
    pub credentials: Option<PathBuf>,
    /// For TLS: who certifies the server, if not the system's authorities.
    pub tls_ca: Option<PathBuf>,
    /// For TLS: this host's certificate and its key.
    pub tls_certificate: Option<(PathBuf, PathBuf)>,
    /// What the names of the buckets begin with.
    pub bucket: String,
    /// The public NKEYs of those who say who is a member.
    pub operators: Vec<String>,
    /// What the others may do here.
    pub policy: PeerPolicy,
}

/// What the bans of other hosts may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Whether they are carried out.
    pub mode: Mode,
    /// How many hosts, this one included, must ban an offender before it is; at least one.
    pub agree: u8,
    /// How many bans of one host may begin within a minute.
    pub per_minute: u32,
    /// How many bans of one host may be in force.
    pub most: usize,
    /// The widest prefixes that they may ban.
    pub widest: Widths,
    /// The longest that one may last from when it is heard of.
    pub longest: Span,
}

impl PeerPolicy {
    /// Whether this prefix is too wide for another host to ban here.
    pub fn is_too_wide(&self, offender: Offender) -> bool {
        offender.prefix() < if offender.address().is_ipv4() { self.widest.v4 } else { self.widest.v6 }
    }
}

/// Whether this can be a host's name in a fleet: a token of a subject of NATS, 1 to 63 letters, digits, `-` and `_`.
pub fn is_host_name(name: &str) -> bool {
    value::is_name(name) && name.len() <= 63 && !name.contains('.')
}

/// The table; `None` where it names no server.
pub(super) fn fleet(t: &mut TableReader<'_, '_>) -> Option<Option<Fleet>> {
    let servers = t.list("servers", value::server);
    let host = t.value("host", value::unless_empty(value::name(63)));
    let seed_file = t.value("seed-file", value::path);
    let credentials = t.value("credentials", value::unless_empty(value::path));
    let tls_ca = t.value("tls-ca", value::unless_empty(value::path));
    let certificate = t.value("tls-certificate", value::unless_empty(value::path));
    let key = t.value("tls-key", value::unless_empty(value::path));
    let bucket = t.value("bucket", value::name(63));
    let operators = t.list("operators", value::public_key);
    let mode = t.value("mode", value::mode);
    let agree = t.value("agree", value::whole::<u8>(1..=255));
    let per_minute = t.value("per-minute", value::whole::<u32>(1..=1_000_000));
    let most = t.value("most", value::whole::<usize>(1..=1_000_000));
    let v4 = t.value("ipv4-prefix", value::whole::<u8>(8..=32));
    let v6 = t.value("ipv6-prefix", value::whole::<u8>(16..=128));
    let longest = t.value("longest", value::time);
    let (servers, host, bucket, operators) = (servers?, host?, bucket?, operators?);
    let (certificate, key) = (certificate?, key?);
    if servers.is_empty() {
        return Some(None);
    }
    let host = host.or_else(own_name).unwrap_or_default();
    if !is_host_name(&host) {
        t.fault(
            Some("host"),
            format!(
                "`{host}` cannot be a host's name in a fleet: it can have letters, digits, `-` and `_` only"
            ),
        );
    }
    if cfg!(not(feature = "fleet")) {
        t.fault(Some("servers"), "this program was built without the feature `fleet`".to_owned());
    }
    if bucket.contains('.') {
        t.fault(Some("bucket"), format!("the name `{bucket}` cannot have a `.`"));
    }
    if operators.is_empty() {
        let what =
            "`operators` is empty: nobody could say who is a member; `banstream fleet init` makes a key";
        t.fault(Some("servers"), what.to_owned());
    }
    if certificate.is_some() != key.is_some() {
        t.fault(Some("servers"), "`tls-certificate` and `tls-key` go together".to_owned());
    }
    Some(Some(Fleet {
        servers,
        host,
        seed_file: seed_file?,
        credentials: credentials?,
        tls_ca: tls_ca?,
        tls_certificate: certificate.zip(key),
        bucket,
        operators,
        policy: PeerPolicy {
            mode: mode?,
            agree: agree?,
            per_minute: per_minute?,
            most: most?,
            widest: Widths { v4: v4?, v6: v6? },
            longest: longest?,
        },
    }))
}

/// The name of this host, up to the first dot.
fn own_name() -> Option<String> {
    let name = nix::sys::utsname::uname().ok()?.nodename().to_str()?.to_owned();
    name.split('.').next().map(str::to_owned)
}
