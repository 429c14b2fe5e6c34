//! Hosts and a server in network namespaces of their own, joined by a bridge, and set up as operators do it: by what
//! `banstream fleet` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use banstream::control::{self, BanFilter, FleetStatus, client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::common::{BANSTREAM, Daemon, Killed, in_namespaces, said, sh, until};

/// Where the server listens.
pub(super) const SERVER: &str = "10.9.0.1:4222";

/// Runs a test where its processes, networks and `/run` end with it.
#[track_caller]
pub(super) fn apart<Body: FnOnce()>(body: Body) {
    in_namespaces(&["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"], body);
}

/// A server, and the hosts that are members. The operator works where the server is.
pub(super) struct Lab {
    folder: TempDir,
    pub(super) operator: String,
    server: Mutex<Option<Killed>>,
    /// What the server's configuration has for each user.
    users: Mutex<Vec<String>>,
    pub(super) hosts: Vec<Host>,
}

/// A member.
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) daemon: Daemon,
    namespace: String,
}

impl Lab {
    /// A server, buckets, and these hosts, which are admitted and do not run yet; `config` is theirs.
    pub(super) fn new(names: &[&'static str], config: &str) -> Self {
        sh("mount -t tmpfs -o mode=755 tmpfs /run; ip link set lo up
            ip link add bridge type bridge; ip addr add 10.9.0.1/24 dev bridge; ip link set bridge up");
        let folder = tempdir().unwrap();
        let seed = folder.path().join("operator.seed");
        let init = ["fleet", "init", "--config", "/dev/null", "--operator-key"];
        let text = said(&Command::new(BANSTREAM).args(init).arg(&seed).output().unwrap());
        let operator = public_keys(&text).next().expect("the operator's key").to_owned();
        let (server, users) = (Mutex::default(), Mutex::new(vec![format!("{{ nkey: {operator} }}")]));
        let mut lab = Self { folder, operator, server, users, hosts: Vec::new() };
        lab.hosts = (11..).zip(names).map(|(nth, name)| lab.host(name, nth, config)).collect();
        lab.start_server();
        let made = lab.fleet(&lab.hosts[0], &["init"]);
        assert!(
            made.contains("made the buckets banstream-bans and banstream-members and banstream-counts"),
            "{made}"
        );
        let users: Vec<String> = thread::scope(|scope| {
            let lab = &lab;
            let added: Vec<_> = lab.hosts.iter().map(|host| scope.spawn(|| lab.add(host, &[]))).collect();
            added.into_iter().map(|added| added.join().unwrap()).collect()
        });
        lab.users.lock().unwrap().extend(users);
        lab.configure_server();
        lab
    }

    /// The same, where all run and are connected.
    pub(super) fn up(names: &[&'static str], config: &str) -> Self {
        let lab = Self::new(names, config);
        thread::scope(|scope| lab.hosts.iter().for_each(|host| drop(scope.spawn(|| host.start()))));
        lab.hosts.iter().for_each(Host::wait_until_connected);
        lab
    }

    /// One that the bridge reaches.
    fn host(&self, name: &'static str, nth: u8, config: &str) -> Host {
        sh(&format!(
            "ip netns add {name}; ip link add {name} type veth peer name cable netns {name}
             ip link set {name} master bridge up; ip -n {name} link set lo up; ip -n {name} link set cable up
             ip -n {name} addr add 10.9.0.{nth}/24 dev cable; ip -n {name} route add default via 10.9.0.254"
        ));
        let fleet = format!(
            "fleet.servers = ['nats://{SERVER}']\nfleet.host = '{name}'\nfleet.operators = ['{}']\n\
             fleet.seed-file = 'DIR/fleet.seed'\nfleet.mode = 'enforce'\n{config}",
            self.operator
        );
        Host { name, daemon: Daemon::new(&fleet), namespace: format!("--net=/run/netns/{name}") }
    }

    /// What `fleet` says to the operator, who has the configuration of a host.
    #[track_caller]
    pub(super) fn fleet(&self, host: &Host, words: &[&str]) -> String {
        let mut command = Command::new(BANSTREAM);
        command.arg("fleet").args(words).args(["--config", "c.toml", "--operator-key"]);
        let output = command.arg(self.path("operator.seed")).current_dir(&host.daemon).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    }

    /// Admits a host, with the key that it has, or with one that is brought there; its user of the server.
    pub(super) fn add(&self, host: &Host, words: &[&str]) -> String {
        let made = host.daemon.path(&format!("{}.seed", host.name));
        if host.seed().exists() {
            fs::rename(host.seed(), &made).unwrap();
        }
        let text = self.fleet(host, &[&["add", host.name], words].concat());
        fs::rename(made, host.seed()).unwrap();
        text.split_once("{ nkey:").map(|(_, user)| format!("{{ nkey:{user}")).expect("the server's user")
    }

    /// Gives the server its users, with their permissions.
    pub(super) fn configure_server(&self) {
        self.write_server(&self.users.lock().unwrap().join("\n"));
        self.reload_server();
    }

    /// Lets one more key log in from the next configuration on.
    pub(super) fn add_user(&self, key: &str) {
        self.users.lock().unwrap().push(format!("{{ nkey: {key} }}"));
    }

    /// Lets every user of the server do anything.
    pub(super) fn open_server(&self) {
        let users = self.users.lock().unwrap();
        let users = users.iter().map(|user| format!("{{ nkey: {} }}", public_keys(user).next().unwrap()));
        self.write_server(&users.collect::<Vec<_>>().join("\n"));
        self.reload_server();
    }

    fn write_server(&self, users: &str) {
        self.write_server_with(&format!(
            "accounts {{ banstream {{ jetstream: enabled, users: [\n{users}\n] }} }}\n"
        ));
    }

    /// Writes the server's configuration, with this of who may log in.
    pub(super) fn write_server_with(&self, logins: &str) {
        let store = self.path("store");
        let text =
            format!("listen: \"{SERVER}\"\njetstream {{ store_dir: \"{}\" }}\n{logins}", store.display());
        fs::write(self.path("server.conf"), text).unwrap();
    }

    /// The users of the server, with their permissions: the operator first.
    pub(super) fn users(&self) -> Vec<String> {
        self.users.lock().unwrap().clone()
    }

    /// Starts the server, and waits until it listens.
    pub(super) fn start_server(&self) {
        if !self.path("server.conf").exists() {
            self.write_server(&self.users.lock().unwrap().join("\n"));
        }
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/nats-server");
        let log = File::options().create(true).append(true).open(self.path("server.log")).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(self.path("server.conf")).stderr(log);
        let server = command.spawn().expect("`contrib/nats-server` fetches the server");
        assert!(self.server.lock().unwrap().replace(Killed(server)).is_none(), "it runs already");
        until("the server listens", || TcpStream::connect(SERVER));
    }

    /// Kills it.
    pub(super) fn kill_server(&self) {
        self.server.lock().unwrap().take().expect("it runs");
    }

    pub(super) fn server_pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().expect("it runs").0.id()
    }

    fn reload_server(&self) {
        let reloads = || {
            let log = fs::read_to_string(self.path("server.log")).unwrap();
            log.matches("Reloaded server configuration").count()
        };
        let before = reloads();
        kill(Pid::from_raw(self.server_pid() as i32), Signal::SIGHUP).unwrap();
        until("the server has read its configuration", || reloads() > before);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until the kernels of all hosts have these addresses and prefixes, and no others.
    #[track_caller]
    pub(super) fn all_block(&self, want: &[&str]) {
        let want: BTreeSet<String> = want.iter().map(|address| (*address).to_owned()).collect();
        for host in &self.hosts {
            until(&format!("{} blocks the {} and no others", host.name, want.len()), || {
                let blocked = host.blocked();
                let differ = blocked.symmetric_difference(&want).take(10).collect::<Vec<_>>();
                if differ.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{} blocked, and {differ:?}", blocked.len()))
                }
            });
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path("server.log")).unwrap_or_default());
            self.hosts.iter().for_each(|host| eprintln!("{}:\n{}", host.name, host.daemon.log()));
        }
    }
}

impl Host {
    pub(super) fn start(&self) {
        self.daemon.run(&mut self.command());
    }

    /// What runs it in its namespace. It gives its place to the program, so that this is the one that is killed.
    pub(super) fn command(&self) -> Command {
        self.daemon.command_of(&["nsenter", &self.namespace, BANSTREAM])
    }

    /// The file with its seed.
    pub(super) fn seed(&self) -> PathBuf {
        self.daemon.path("fleet.seed")
    }

    #[track_caller]
    pub(super) fn wait_until_connected(&self) {
        until(&format!("{} is connected", self.name), || {
            let fleet = self.fleet();
            if fleet.server.is_some() { Ok(()) } else { Err(format!("{fleet:?}")) }
        });
    }

    /// The names of what `doctor` finds.
    pub(super) fn doctor(&self) -> Vec<String> {
        let mut doctor = Command::new("nsenter");
        doctor.args([&*self.namespace, BANSTREAM, "doctor", "--config", "c.toml", "--json"]);
        let output = doctor.current_dir(&self.daemon).output().unwrap();
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        findings.iter().map(|finding| finding["name"].as_str().unwrap().to_owned()).collect()
    }

    /// How often it has connected.
    pub(super) fn connections(&self) -> usize {
        self.daemon.log().matches("the fleet is connected: ").count()
    }

    pub(super) fn fleet(&self) -> FleetStatus {
        serde_json::from_value(self.daemon.status()["fleet"].clone()).unwrap()
    }

    /// The bans it knows: address and jail, and how they are meant.
    pub(super) fn bans(&self) -> BTreeMap<(String, String), Value> {
        let answer =
            client::send(&self.daemon.path("control"), &control::Command::Bans(BanFilter::default()));
        let bans: Vec<Value> = serde_json::from_str(&answer.unwrap().body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        bans.into_iter().map(|ban| ((text(&ban["address"]), text(&ban["jail"])), ban)).collect()
    }

    /// What its kernel's sets have.
    pub(super) fn blocked(&self) -> BTreeSet<String> {
        let sets = ["banstream4", "banstream6"].map(|set| {
            let mut list = Command::new("nsenter");
            let output = list.args([&*self.namespace, "ipset", "list", set]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        let members = sets.iter().filter_map(|set| set.split_once("Members:\n")).flat_map(|(_, m)| m.lines());
        members.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    /// For how many seconds more its kernel blocks this IPv4 address.
    pub(super) fn blocks_for(&self, address: &str) -> u64 {
        let mut list = Command::new("nsenter");
        let output = list.args([&*self.namespace, "ipset", "list", "banstream4"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(address)?.strip_prefix(" timeout "));
        line.map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap())
    }

    /// How many IPv4 addresses its kernel has.
    pub(super) fn entries(&self) -> usize {
        let mut list = Command::new("nsenter");
        let output = list.args([&*self.namespace, "ipset", "list", "-t", "banstream4"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let number = text.lines().find_map(|line| line.strip_prefix("Number of entries: "));
        number.map_or(0, |number| number.parse().unwrap())
    }

    /// Puts its cable in, or pulls it out, without the host noticing.
    pub(super) fn plug(&self, is_in: bool) {
        let bridge = if is_in { "master bridge" } else { "nomaster" };
        sh(&format!("ip link set {} {bridge}", self.name));
    }
}

/// The public keys of users in a text.
fn public_keys(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.len() == 56 && word.starts_with('U'))
}
