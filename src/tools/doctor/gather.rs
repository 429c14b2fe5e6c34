//! Collects facts about this host: from the kernel, iptables, the daemon and the files of other programs. It goes on if
//! one does not answer, because that is a fact too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::facts::{
    Chain, DaemonFacts, Enforcement, Facts, IpsetFacts, JournaldSettings, NftablesFacts, NoDaemon,
    PrivateBans, Rsyslog, RuleListing, RunningServer, Samples, SavedFirewall, ServerFault, ServerLog,
    SetFacts, Suspect, Unloadable, Visitor,
};
use super::findings::EXAMPLES;
use super::others;
use crate::config::load;
use crate::config::{self, Backend, Enforce, parse_span};
use crate::control::client;
use crate::control::{
    self, BanFilter, BanLine, GrammarStatus, JailStatus, SourceState, SourceStatus, Status, Why,
};
use crate::grammar::{Grammar, Grammars};
use crate::kernel::{
    self, Change, Element, EnforceError, Family, Firewall, Ipset, Nftables, Set, TableFacts, Timeout,
    has_ipv6,
};
use crate::model::{BanOrigin, Mode, Offender, Port, plain};
use crate::tools::geoip::GeoIp;
use crate::tools::servers;
use crate::tools::terminal::with_local_times;

/// How many bans are looked up in the kernel.
const SAMPLE: usize = 100;

/// Looks at everything.
pub(super) fn facts(path: Option<&Path>) -> anyhow::Result<Facts> {
    let loaded = load::load(path).and_then(load::Loaded::to_run);
    let configuration = loaded.as_ref().map(|_| ()).map_err(ToString::to_string);
    let doubts = loaded.as_ref().map_or(Vec::new(), |loaded| loaded.warnings.clone());
    let (config, grammars) = match loaded {
        Ok(loaded) => (loaded.config, loaded.grammars),
        Err(_) => load::sound_part(path).map(|(config, grammars)| (config, grammars.into()))?,
    };
    let files = rsyslog_files();
    let socket = client::socket_of(&config);
    let (daemon, sample) = match daemon(&socket, &grammars, &files) {
        Ok((daemon, sample)) => (Ok(daemon), sample),
        Err(why) => (Err(why), Vec::new()),
    };
    let capable = capable(&read("/proc/self/status"));
    let elsewhere = elsewhere(&socket);
    // What a daemon that only decides has not put anywhere is not missing.
    let decides = configuration.is_err() && daemon.as_ref().is_ok_and(|daemon| daemon.mode == "none");
    let enforce = config.enforce.as_ref().filter(|_| capable && elsewhere.is_none() && !decides);
    let chosen = enforce.map(|enforce| backend(enforce, &daemon));
    let is_nftables = matches!(chosen, Some((Backend::Nftables, ..)));
    let enforcement = enforce.map(|enforce| match is_nftables {
        true => Enforcement::Nftables(nftables(enforce, &socket, &sample)),
        false => Enforcement::Ipset(IpsetFacts {
            sets: sets(enforce).map_err(|error| error.to_string()),
            chains: chains(enforce),
            modules: missing_modules(enforce),
        }),
    });
    // Where rsyslog hands us nothing, what it drops is not ours to judge.
    let reads = config.socket.is_some() && files.iter().any(|(_, text)| text.contains("banstream"));
    Ok(Facts {
        configuration,
        doubts,
        capable,
        has_ipv6: has_ipv6(),
        elsewhere,
        enforcement,
        backend: chosen.map(|(_, what, other)| (what, other)),
        daemon: daemon.map_err(|error| no_daemon(&socket, &error)),
        geoip: geoip(&config.geoip),
        journald: config.journald.first().map(|journal| journald(&journald_files(journal))),
        rsyslog: reads.then(|| Rsyslog {
            limits: files.iter().flat_map(|(path, text)| rate_limits(path, text)).collect(),
            sizes: files.iter().flat_map(|(path, text)| others::message_sizes(path, text)).collect(),
        }),
        servers: servers(),
        open_seed: config
            .fleet
            .as_ref()
            .filter(|fleet| is_open(&fleet.seed_file))
            .map(|fleet| fleet.seed_file.display().to_string()),
        saved: config
            .enforce
            .iter()
            .flat_map(|enforce| if is_nftables { saved_tables(enforce) } else { saved(&enforce.set) })
            .collect(),
    })
}

/// Whether all users may read this file.
fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// Why the daemon at this socket says nothing.
fn no_daemon(socket: &Path, error: &anyhow::Error) -> NoDaemon {
    let shown = socket.display();
    match UnixStream::connect(socket).map_err(|error| error.kind()) {
        Err(ErrorKind::PermissionDenied) => NoDaemon::Forbidden(shown.to_string()),
        Err(ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            NoDaemon::Silent(format!("nobody listens at `{shown}`"))
        }
        _ => NoDaemon::Silent(format!("{error:#}")),
    }
}

/// Those of these files that can be read, and what is wrong with the others.
fn geoip(paths: &[PathBuf]) -> (Vec<String>, Vec<String>) {
    let mut geoip = GeoIp::open(paths);
    (geoip.paths().map(|path| path.display().to_string()).collect(), geoip.faults())
}

fn daemon(
    socket: &Path,
    grammars: &Grammars,
    rsyslog: &[(PathBuf, String)],
) -> anyhow::Result<(DaemonFacts, Vec<BanLine>)> {
    let answer = client::send(socket, &control::Command::Status)?;
    let status: Status = serde_json::from_str(&answer.body)?;
    let source = |source: SourceStatus| {
        let why = || source.error.unwrap_or("it gave no reason".to_owned());
        (source.name, if source.state == SourceState::Running { Ok(source.silent) } else { Err(why()) })
    };
    let bans = bans(socket)?;
    let sample = if status.enforcement.pending == 0 { sample(&bans) } else { Vec::new() };
    let mut private_bans = PrivateBans::default();
    for ban in bans {
        if ban.mode == Mode::Enforce && ban.kind == BanOrigin::Auto && ban.address.is_private() {
            private_bans.times += 1;
            if private_bans.examples.len() < EXAMPLES {
                private_bans.examples.push((ban.address.to_string(), ban.jail));
            }
        }
    }
    let visitor = |who: Offender| {
        let why: Why = serde_json::from_str(&client::send(socket, &control::Command::Why(who))?.body)?;
        Ok(Visitor {
            address: who.to_string(),
            exemption: why.protected.first().map(|by| plain(with_local_times(by))),
        })
    };
    let facts = DaemonFacts {
        uptime: status.uptime,
        private_bans,
        duplicates: status.duplicates.iter().map(ToString::to_string).collect(),
        crowds: status.sole_clients.into_iter().map(|sole| (sole.grammar, sole.address)).collect(),
        mode: status.enforcement.mode,
        backend: status.enforcement.backend,
        fault: status.enforcement.error,
        ledger: status.ledger.error,
        damaged: status.ledger.aside.filter(|path| Path::new(path).exists()),
        observing: observing(&status.jails),
        left: status.sources.iter().filter(|one| one.is_left()).map(|one| one.name.clone()).collect(),
        sources: status.sources.into_iter().map(source).collect(),
        metrics: status.metrics_error,
        receivers: status
            .receivers
            .into_iter()
            .map(|receiver| (receiver.name, receiver.error.map_or(Ok(receiver.delivered), Err)))
            .collect(),
        running: running(grammars, &status.grammars, rsyslog),
        fleet: status.fleet,
        visitors: visitors().into_iter().map(visitor).collect::<anyhow::Result<_>>()?,
        samples: Samples(client::metrics(socket)?),
    };
    Ok((facts, sample))
}

/// The backend that the daemon uses, or that a start would choose; what that is and why; and what a start would choose
/// now, where that is another.
fn backend(enforce: &Enforce, daemon: &anyhow::Result<DaemonFacts>) -> (Backend, String, Option<String>) {
    // What makes the choice fail, the look at the sets finds again.
    let (chosen, why) = kernel::choose(enforce).unwrap_or_else(|error| (Backend::Ipset, error.to_string()));
    let used = daemon.as_ref().ok().and_then(|daemon| daemon.backend.as_deref());
    let used = [Backend::Ipset, Backend::Nftables].into_iter().find(|backend| used == Some(backend.name()));
    match used.filter(|used| *used != chosen) {
        None => (chosen, format!("bans go to {}: {why}", chosen.name()), None),
        Some(used) => {
            let other = format!("a start would choose {} now: {why}", chosen.name());
            (used, format!("bans go to {}: the daemon has chosen it", used.name()), Some(other))
        }
    }
}

/// What is in the kernel of nftables, and whether some of the daemon's bans are.
fn nftables(enforce: &Enforce, socket: &Path, sample: &[BanLine]) -> NftablesFacts {
    let table = TableFacts::look(&enforce.set).map_err(|error| error.to_string());
    let owner = table.as_ref().ok().and_then(|table| table.as_ref()?.owner);
    let holders = owner.map_or_else(BTreeMap::new, holders);
    let daemon = client::process(socket).filter(|_| !holders.is_empty());
    let mut lacking: Vec<&BanLine> = sample.iter().filter(|ban| !is_held(enforce, ban)).collect();
    if !lacking.is_empty() {
        // Those that have ended since need not be there.
        let bans = bans(socket).unwrap_or_default();
        lacking.retain(|one| bans.iter().any(|ban| (ban.address, &ban.ports) == (one.address, &one.ports)));
    }
    let mut modules = vec!["nf_tables"];
    retain_missing(&mut modules);
    NftablesFacts {
        name: enforce.set.clone(),
        lacking: lacking.iter().map(|ban| ban.address.to_string()).collect(),
        looked_up: if table.is_ok() { sample.len() } else { 0 },
        table,
        is_daemons: daemon.map(|daemon| holders.contains_key(&daemon)),
        holders: holders.iter().map(|(id, name)| format!("process {id} (`{}`)", plain(name))).collect(),
        is_to_be_owned: enforce.owned,
        can_be_owned: kernel_version(&read("/proc/sys/kernel/osrelease")) >= Some((6, 9)),
        modules,
    }
}

/// The processes that have this netlink socket of netfilter, with their names.
fn holders(port: u32) -> BTreeMap<i32, String> {
    let sockets = read("/proc/net/netlink");
    let inode = sockets.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some("12") && words.next() == Some(&port.to_string());
        words.last().filter(|_| is_it)
    });
    let Some(socket) = inode.map(|inode| PathBuf::from(format!("socket:[{inode}]"))) else {
        return BTreeMap::new();
    };
    let holds = |process: &PathBuf| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == socket))
    };
    let processes = files("/proc").into_iter().filter_map(|process| {
        let id = process.file_name()?.to_str()?.parse().ok()?;
        holds(&process).then(|| (id, read(process.join("comm")).trim_end().to_owned()))
    });
    processes.collect()
}

/// All bans of the daemon.
fn bans(socket: &Path) -> anyhow::Result<Vec<BanLine>> {
    let answer = client::send(socket, &control::Command::Bans(BanFilter::default()))?;
    Ok(serde_json::from_str(&answer.body)?)
}

/// Some of those that are to be in the kernel, spread over all. What ends while we look says nothing, and no set has a
/// prefix of length 0.
fn sample(bans: &[BanLine]) -> Vec<BanLine> {
    let lasts = |ban: &BanLine| ban.left.is_none_or(|left| left > 10) && ban.address.prefix() > 0;
    let enforced = bans.iter().filter(|ban| ban.mode == Mode::Enforce && lasts(ban));
    let step = bans.len().div_ceil(SAMPLE).max(1);
    enforced.step_by(step).cloned().collect()
}

/// Whether the kernel keeps them out on all ports of the ban.
fn is_held(enforce: &Enforce, ban: &BanLine) -> bool {
    let holds = |port: Option<Port>| {
        let ports = BTreeSet::from([None, port]);
        Nftables::held(&enforce.set, ban.address, &ports).is_ok_and(|held| !held.is_empty())
    };
    match ban.ports.as_slice() {
        [] => holds(None),
        ports => ports.iter().all(|port| port.parse().is_ok_and(|port| holds(Some(port)))),
    }
}

/// The version of a kernel, from a release such as `6.1.0-13-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The firewalls in files that have the daemon's table, where nobody but the daemon may change it.
fn saved_tables(enforce: &Enforce) -> Vec<SavedFirewall> {
    let is_owned =
        TableFacts::look(&enforce.set).is_ok_and(|table| table.is_some_and(|table| table.owner.is_some()));
    let paths = ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"];
    let has_it = |path: &&str| is_owned && others::has_table(&read(path), &enforce.set);
    let owned = |path: &str| SavedFirewall { path: path.to_owned(), loads: Err(Unloadable::Owned) };
    paths.into_iter().filter(has_it).map(owned).collect()
}

/// The same, if it is known to be in another network namespace than this one.
fn elsewhere(socket: &Path) -> Option<i32> {
    let daemon = client::process(socket)?;
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    (namespace(&daemon.to_string())? != namespace("self")?).then_some(daemon)
}

/// The servers that run, one for each grammar, and what the daemon has read of them.
fn running(
    grammars: &Grammars,
    read_from: &[GrammarStatus],
    rsyslog: &[(PathBuf, String)],
) -> Vec<RunningServer> {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let ours = namespace(Path::new("/proc/self"));
    let mut found: BTreeMap<&str, (&Grammar, String, bool)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.path();
        let comm = read(process.join("comm"));
        let program = comm.trim_end();
        let grammar = grammars.readers(program.as_bytes()).find_map(|id| grammars.get(id));
        let Some(grammar) = grammar.filter(|grammar| grammar.programs().iter().all(|name| name != "*"))
        else {
            continue;
        };
        // One that is not in a container says more about the host.
        let is_contained =
            namespace(&process).is_some_and(|its| ours.as_ref().is_some_and(|ours| *ours != its));
        let known = found.entry(grammar.name()).or_insert((grammar, program.to_owned(), is_contained));
        if known.2 && !is_contained {
            *known = (grammar, program.to_owned(), false);
        }
    }
    let server = |(grammar, program, is_contained): (&Grammar, String, bool)| {
        let status = read_from.iter().find(|status| status.name == grammar.name());
        let log = match servers::of_program(&program) {
            _ if is_contained => ServerLog::Container,
            Some(server) if !grammar.logs().iter().any(|log| log == "journal") => {
                let files = server.folders.iter().flat_map(|folder| files(folder));
                let files = server.files.iter().map(PathBuf::from).chain(files);
                let goes_to_rsyslog =
                    rsyslog.iter().any(|(_, text)| others::takes_files_of(text, grammar.programs()));
                let is_read = goes_to_rsyslog || files.map(read).any(|text| server.logs_to_syslog(&text));
                if is_read { ServerLog::Read } else { ServerLog::Files }
            }
            _ => ServerLog::Read,
        };
        let (lines, silent) = status.map_or((0, None), |status| (status.entries, status.silent));
        RunningServer { program, lines, silent, log }
    };
    found.into_values().map(server).collect()
}

/// The addresses from where people are logged in: those who run this, whatever `sudo` has left of their environment, and
/// those whose sessions logind knows.
fn visitors() -> BTreeSet<Offender> {
    let mut addresses = Vec::new();
    let mut process = "self".to_owned();
    loop {
        let environment = read(format!("/proc/{process}/environ"));
        let connection = environment.split('\0').find_map(|pair| pair.strip_prefix("SSH_CONNECTION="));
        addresses.extend(connection.and_then(|words| words.split(' ').next()).map(str::to_owned));
        let status = read(format!("/proc/{process}/status"));
        match status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim) {
            None | Some("0") => break,
            Some(parent) => process = parent.to_owned(),
        }
    }
    // `loginctl` would wait for a logind that hangs.
    for session in files("/run/systemd/sessions") {
        let text = read(session);
        addresses.extend(text.lines().find_map(|line| line.strip_prefix("REMOTE_HOST=")).map(str::to_owned));
    }
    addresses.iter().filter_map(|address| address.parse().ok()).collect()
}

/// The firewalls in files that have a rule for this set.
fn saved(set: &str) -> Vec<SavedFirewall> {
    let is_unit = |folder: &PathBuf| folder.join("banstream-sets.service").exists();
    let has_sets = files("/etc/systemd/system").iter().any(is_unit)
        // What netfilter-persistent's plugin for sets has saved.
        || read("/etc/iptables/ipsets").contains(&format!("create {set} "));
    let paths = [
        "/etc/iptables/rules.v4",
        "/etc/iptables/rules.v6",
        "/etc/iptables.rules",
        "/etc/ip6tables.rules",
        "/etc/iptables.up.rules",
        "/etc/iptables/iptables.rules",
        "/etc/iptables/ip6tables.rules",
        "/etc/sysconfig/iptables",
        "/etc/sysconfig/ip6tables",
        "/etc/nftables.conf",
    ];
    let verdict = |path: &str| {
        let loads = others::saved_firewall(&read(path), set, has_sets)?;
        Some(SavedFirewall { path: path.to_owned(), loads })
    };
    paths.into_iter().filter_map(verdict).collect()
}

fn observing(jails: &[JailStatus]) -> Vec<String> {
    let observing = jails.iter().filter(|jail| jail.mode == Mode::Observe);
    observing.map(|jail| jail.name.clone()).collect()
}

/// Whether the effective capabilities hold CAP_NET_ADMIN (12; capabilities(7)).
fn capable(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> 12 & 1 == 1)
}

fn sets(enforce: &Enforce) -> Result<Vec<SetFacts>, EnforceError> {
    let mut kernel = Ipset::open(enforce.clone())?;
    let sizes = kernel.sizes()?;
    let mut facts = |set: Set| {
        let name = set.name(&enforce.set);
        let size = sizes.iter().find(|size| size.name == name);
        let filled = size.map(|size| (size.elements.unwrap_or(0), size.capacity));
        let Some(_) = filled else {
            return Ok(SetFacts { name, filled, linked: false, found: Ok(false) });
        };
        let linked = kernel.linked(set)?;
        let found = probe(&mut kernel, set);
        Ok(SetFacts { name, filled, linked, found })
    };
    let of_use = |set: &Set| set.family == Family::V4 || has_ipv6();
    Set::ALL.into_iter().filter(of_use).map(&mut facts).collect()
}

/// Puts the set's probe in for a second, and looks whether it is found. One that is there already is left as it is.
fn probe(kernel: &mut Ipset, set: Set) -> Result<bool, String> {
    let element = Element::probe(set).ok_or("it takes no single address")?;
    let failed = |error: EnforceError| error.to_string();
    if kernel.holds(&element).map_err(failed)? {
        return Ok(true);
    }
    let applied = kernel.apply(&[Change::Add(element, Timeout::SECOND)]).map_err(failed)?;
    match applied.refused.first() {
        Some(refused) => Err(refused.why.to_string()),
        None => kernel.holds(&element).map_err(failed),
    }
}

/// The modules for sets, and for rules by the variant of iptables, that are neither loaded nor on disk.
fn missing_modules(enforce: &Enforce) -> Vec<&'static str> {
    let mut wanted = vec!["ip_set", "ip_set_hash_net", "ip_set_hash_netport", "ip_set_list_set", "xt_set"];
    let version = output(&enforce.iptables, &["-V"]).unwrap_or_default();
    if version.contains("nf_tables") {
        wanted.extend(["nf_tables", "nft_compat"]);
    } else if enforce.table == "raw" {
        wanted.extend(["iptable_raw", "ip6table_raw"]);
    }
    retain_missing(&mut wanted);
    wanted
}

/// Leaves those modules that are neither loaded nor on disk.
fn retain_missing(modules: &mut Vec<&'static str>) {
    // Where no kernel has modules on disk they are built in, or those of a container's host: nothing is known of them.
    if !Path::new("/lib/modules").is_dir() {
        return modules.clear();
    }
    let folder = format!("/lib/modules/{}", read("/proc/sys/kernel/osrelease").trim());
    let known = ["builtin", "dep"].map(|list| read(format!("{folder}/modules.{list}"))).concat();
    let is_there =
        |module: &&str| Path::new("/sys/module").join(module).exists() || is_listed(module, &known);
    modules.retain(|module| !is_there(module));
}

/// Whether a module stands in these lines of `modules.builtin` or `modules.dep`, such as `kernel/net/x_y.ko.xz: kernel/z.ko`.
fn is_listed(module: &str, lines: &str) -> bool {
    let files = lines.lines().filter_map(|line| line.split(':').next()?.rsplit('/').next());
    files.filter_map(|file| file.split(".ko").next()).any(|name| name.replace('-', "_") == module)
}

fn chains(enforce: &Enforce) -> Vec<Chain> {
    let programs = [
        (Family::V4, &enforce.iptables, "/proc/net/ip_tables_names"),
        (Family::V6, &enforce.ip6tables, "/proc/net/ip6_tables_names"),
    ];
    let mut chains = Vec::new();
    let of_use = |family| family == Family::V4 || has_ipv6();
    for (family, program, legacy_tables) in programs.into_iter().filter(|(family, ..)| of_use(*family)) {
        let version = output(program, &["-V"]).unwrap_or_default();
        // A table that nobody uses would come into being by being looked at.
        let legacy = read(legacy_tables).lines().any(|table| table == enforce.table);
        let legacy = (legacy && !version.contains("legacy")).then(|| format!("{program}-legacy"));
        let nft = (!version.contains("nf_tables")).then(|| format!("{program}-nft"));
        for chain in &enforce.chains {
            let list = |program: &str| listing(program, enforce, chain);
            let others = legacy.iter().chain(&nft).map(|program| list(program));
            let others = others.filter(|listing| listing.rules.is_ok()).collect();
            let name = format!("{} {chain}", enforce.table);
            chains.push(Chain { family, name, listing: list(program), others });
        }
    }
    chains
}

fn listing(program: &str, enforce: &Enforce, chain: &str) -> RuleListing {
    let listed = output(program, &["-w", "5", "-t", &enforce.table, "-S", chain]);
    let rules = listed.map(|listed| {
        let rules = listed.lines().filter(|line| line.starts_with("-A "));
        rules.map(|rule| (rule.to_owned(), is_ours(rule, enforce))).collect()
    });
    RuleListing { program: program.to_owned(), rules }
}

/// Whether a rule, as iptables prints it, sends what comes from the members of our set to our target, and nothing less.
fn is_ours(rule: &str, enforce: &Enforce) -> bool {
    let target = enforce.target.first().map_or("", String::as_str);
    let ours = format!("-m set --match-set {} src,dst -j {target}", enforce.set);
    let words = rule.splitn(3, ' ').nth(2).unwrap_or_default();
    words.strip_prefix(&ours).is_some_and(|options| options.is_empty() || options.starts_with(' '))
}

/// What a program prints, or why it does not.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(said.lines().next().unwrap_or("it gave no reason").to_owned()),
    }
}

/// A file's text; none where it cannot be read.
fn read(path: impl AsRef<Path>) -> String {
    std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// The configuration of journald, later files winning (journald.conf(5)).
fn journald_files(journal: &config::JournalLocation) -> String {
    let name = match journal {
        config::JournalLocation::Namespace(namespace) => format!("journald@{namespace}.conf"),
        config::JournalLocation::System | config::JournalLocation::Directory(_) => "journald.conf".to_owned(),
    };
    let folders = ["/usr/lib/systemd", "/run/systemd", "/etc/systemd"];
    let mut text: String = folders.iter().map(|folder| read(format!("{folder}/{name}")) + "\n").collect();
    // By name, wherever they lie; of two by one name the later folder's hides the other.
    let drop_ins = folders.iter().flat_map(|folder| list(&format!("{folder}/{name}.d")));
    let drop_ins: BTreeMap<_, _> =
        drop_ins.map(|path| (path.file_name().map(ToOwned::to_owned), path)).collect();
    drop_ins.values().for_each(|path| text += &(read(path) + "\n"));
    text
}

/// The `*.conf` files of a folder, by name.
fn list(folder: &str) -> Vec<PathBuf> {
    let mut paths = files(folder);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths
}

/// What is in a folder, by name.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn journald(text: &str) -> JournaldSettings {
    let mut journald = JournaldSettings::default();
    let mut interval = journald.interval;
    for (key, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
        let value = value.trim();
        match key.trim() {
            "RateLimitIntervalSec" | "RateLimitInterval" => interval = parse_span(value).unwrap_or(interval),
            "RateLimitBurst" => journald.burst = value.parse().unwrap_or(journald.burst),
            "Storage" => journald.keeps_none = value == "none",
            _ => {}
        }
    }
    journald.interval = interval;
    journald
}

fn rsyslog_files() -> Vec<(PathBuf, String)> {
    let paths = std::iter::once(PathBuf::from("/etc/rsyslog.conf")).chain(list("/etc/rsyslog.d"));
    paths.map(|path| (path.clone(), read(path))).collect()
}

/// What is wrong with how servers log.
fn servers() -> Vec<(ServerFault, Suspect)> {
    let read_all = |files: &[&str], folders: &[&str]| -> Vec<(PathBuf, String)> {
        let paths = files.iter().map(PathBuf::from).chain(folders.iter().flat_map(|folder| list(folder)));
        paths.map(|path| (path.clone(), read(path))).collect()
    };
    let web = read_all(
        &[
            "/etc/apache2/apache2.conf",
            "/etc/apache2/httpd.conf",
            "/etc/httpd/conf/httpd.conf",
            "/etc/lighttpd/lighttpd.conf",
        ],
        &[
            "/etc/apache2/conf-enabled",
            "/etc/apache2/mods-enabled",
            "/etc/apache2/sites-enabled",
            "/etc/apache2/conf.d",
            "/etc/apache2/vhosts.d",
            "/etc/httpd/conf.d",
            "/etc/lighttpd/conf-enabled",
        ],
    );
    let login = read_all(
        &["/etc/ssh/sshd_config", "/etc/proftpd.conf", "/etc/proftpd/proftpd.conf"],
        &["/etc/ssh/sshd_config.d", "/etc/proftpd/conf.d"],
    );
    let mut faults: Vec<_> = web.iter().flat_map(|(path, text)| others::web_server(path, text)).collect();
    faults.extend(login.iter().flat_map(|(path, text)| others::login_server(path, text)));
    // Debian keeps a file for each setting, others one for all.
    let settings =
        ["/etc/pure-ftpd/conf/DontResolve", "/etc/pure-ftpd/pure-ftpd.conf", "/etc/pure-ftpd.conf"];
    if Path::new("/usr/sbin/pure-ftpd").exists() {
        let text: String = settings.iter().map(|path| read(path) + "\n").collect();
        faults.extend(others::pure_ftpd(&text));
    }
    faults
}

/// The lines that turn on a rate limit, in either style (rsyslog's imuxsock, imjournal, imklog); and the one that leaves
/// imjournal's on, which is so where nobody says otherwise.
fn rate_limits(path: &Path, text: &str) -> Vec<Suspect> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let plain = line.split('#').next().unwrap_or_default().to_ascii_lowercase();
        let limits = ["ratelimit.interval", "ratelimitinterval"].iter().find_map(|key| plain.split_once(key));
        let on = match limits {
            Some((_, value)) => {
                let digits = value.trim_start_matches([' ', '\t', '=', '"']);
                digits.starts_with(|c: char| ('1'..='9').contains(&c))
            }
            None => plain.contains("module(") && plain.contains("imjournal") && plain.contains(')'),
        };
        if on {
            let (place, text) = (format!("{}:{number}", path.display()), line.trim().to_owned());
            found.push(Suspect { place, text });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn capabilities_are_read_from_proc() {
        assert!(capable("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(capable("CapEff:\t0000000000001000\n"));
        assert!(!capable("CapEff:\t0000000000000fff\nCapBnd:\t000001ffffffffff\n"));
        assert!(!capable(""));
    }

    #[test]
    fn the_version_of_a_kernel_is_compared_by_its_numbers() {
        assert_eq!(kernel_version("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(kernel_version("6.18-rc2"), Some((6, 18)));
        assert!(kernel_version("6.18.4") > Some((6, 9)) && kernel_version("6.8.0") < Some((6, 9)));
        assert_eq!(kernel_version("x"), None);
    }

    #[test]
    fn a_module_is_known_by_its_file() {
        let lines = "kernel/net/netfilter/xt_set.ko.xz: kernel/net/netfilter/ip_set.ko.xz\nkernel/lib/nft-compat.ko\n";
        assert!(is_listed("xt_set", lines) && is_listed("nft_compat", lines));
        assert!(!is_listed("ip_set", lines) && !is_listed("set", lines) && !is_listed("xt_set", ""));
    }

    #[test]
    fn a_rule_that_says_less_is_not_ours() {
        let enforce = Enforce {
            table: "filter".to_owned(),
            chains: vec!["INPUT".to_owned()],
            target: vec!["REJECT".to_owned()],
            ..Enforce::default()
        };
        let ours = "-A INPUT -m set --match-set banstream src,dst -j REJECT";
        assert!(is_ours(ours, &enforce));
        assert!(is_ours(&format!("{ours} --reject-with icmp-port-unreachable"), &enforce));
        assert!(!is_ours("-A INPUT -i eth0 -m set --match-set banstream src,dst -j REJECT", &enforce));
        assert!(!is_ours("-A INPUT -m set --match-set banstream4 src,dst -j REJECT", &enforce));
        assert!(!is_ours("-A INPUT -m set --match-set banstream src,dst -j REJECTED", &enforce));
    }

    #[test]
    fn the_last_word_about_journald_counts() {
        assert_eq!(journald("[Journal]\n#RateLimitBurst=1\n"), JournaldSettings::default());
        let text =
            "RateLimitBurst=7\nRateLimitIntervalSec=1min\nStorage=none\nStorage=auto\nRateLimitBurst = 9";
        let want = JournaldSettings { burst: 9, interval: Span::from_secs(60), keeps_none: false };
        assert_eq!(journald(text), want);
        assert_eq!(journald("RateLimitIntervalSec=0").interval, Span::ZERO);
    }

    #[test]
    fn a_rate_limit_of_rsyslog_is_found_in_either_style() {
        let found =
            |text| rate_limits(Path::new("/r"), text).into_iter().map(|s| s.place).collect::<Vec<_>>();
        assert_eq!(
            found("module(load=\"imuxsock\")\nmodule(load=\"imuxsock\" SysSock.RateLimit.Interval=\"5\")"),
            ["/r:2"]
        );
        assert_eq!(found("$SystemLogRateLimitInterval 2\n$SystemLogRateLimitInterval 0"), ["/r:1"]);
        assert_eq!(found("#$SystemLogRateLimitInterval 2"), [""; 0]);
        assert_eq!(found("module(load=\"imjournal\" StateFile=\"x\")"), ["/r:1"]);
        assert_eq!(found("module(load=\"imjournal\" ratelimit.interval=\"0\")"), [""; 0]);
    }
}
