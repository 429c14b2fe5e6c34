//! A real journald whose files, folders and settings change under the daemon: it reads on, or says that it cannot. Beside
//! it other journals come and go.
//!
//! Each test runs in namespaces of its own, with a `/run` and a `/var/log` of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::journal::File;
use crate::common::{BANSTREAM, Daemon, Killed, LIMIT, failed, in_namespaces, said, sh, until};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A journald, and a daemon that reads what it keeps.
struct Lab {
    journald: Option<Child>,
    daemon: Daemon,
    /// How many lines of sshd were written.
    written: u64,
}

impl Lab {
    /// Journald keeps what `storage` says, and the daemon is started by these words.
    fn up(storage: &str, words: &[&str]) -> Self {
        sh("mount --make-rprivate / && mount -t proc proc /proc
            for place in /run /var/log /etc/systemd; do mount -t tmpfs -o mode=755 tmpfs $place; done
            mkdir -p /run/systemd/journal /var/log/journal");
        let daemon = Daemon::new("mode = 'observe'\njournald.enabled = true");
        let mut lab = Self { journald: None, daemon, written: 0 };
        lab.start(storage);
        // From now on journald writes to /var, if it may.
        sh("journalctl --flush");
        lab.daemon.run(&mut lab.daemon.command_of(&[words, &[BANSTREAM]].concat()));
        lab.reads_on();
        lab
    }

    fn start(&mut self, storage: &str) {
        let config = format!(
            "[Journal]\nStorage={storage}\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\n"
        );
        fs::write("/etc/systemd/journald.conf", config).unwrap();
        let mut journald = Command::new("/lib/systemd/systemd-journald");
        self.journald = Some(journald.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("journald takes entries", || write("MESSAGE=x\n"));
    }

    fn stop(&mut self) {
        let mut journald = self.journald.take().unwrap();
        self.signal(&journald, Signal::SIGTERM);
        journald.wait().unwrap();
    }

    fn signal(&self, journald: &Child, signal: Signal) {
        kill(Pid::from_raw(journald.id() as i32), signal).unwrap();
    }

    fn restart(&mut self, storage: &str) {
        self.stop();
        self.start(storage);
    }

    /// Writes lines of sshd; they are read, each once.
    #[track_caller]
    fn reads_on(&mut self) {
        for _ in 0..20 {
            self.written += 1;
            let message = format!("Connection closed by 192.0.2.1 port {}", self.written);
            until("it is written", || write(&format!("SYSLOG_IDENTIFIER=sshd\nMESSAGE={message}\n")));
        }
        until("what is written is read", || {
            let read = self.read();
            if read == self.written { Ok(()) } else { Err(format!("{read} of {}", self.written)) }
        });
        until("all is well", || self.fault().is_none());
    }

    /// How many entries of programs that a grammar reads: journald and others write some too.
    fn read(&self) -> u64 {
        let ignored = self.daemon.metric("banstream_entries_ignored_total");
        self.daemon.metric("banstream_entries_total{source=\"journald\"}") - ignored
    }

    /// What is wrong with the source.
    fn fault(&self) -> Option<String> {
        self.fault_of("journald").unwrap()
    }

    /// The same of any source; `None` where there is none of this name.
    fn fault_of(&self, name: &str) -> Option<Option<String>> {
        let status = self.daemon.status();
        let sources = status["sources"].as_array().unwrap();
        let source = sources.iter().find(|source| source["name"] == name)?;
        let error = source["error"].as_str().map(str::to_owned);
        assert_eq!(source["state"], if error.is_some() { "failed" } else { "running" });
        Some(error)
    }

    /// Waits until all these addresses are banned.
    #[track_caller]
    fn bans(&self, addresses: &[&str]) {
        until(&format!("{addresses:?} are banned"), || {
            let bans = self.daemon.get("/bans").unwrap();
            let is_banned = |address: &&str| bans.contains(&format!("\"{address}\""));
            if addresses.iter().all(is_banned) { Ok(()) } else { Err(bans) }
        });
    }

    /// Waits until the daemon says that it cannot read the journal, and why.
    #[track_caller]
    fn says(&self, why: &str) {
        until(&format!("it says `{why}`"), || match self.fault() {
            Some(error) if error.contains(why) => Ok(()),
            instead => Err(format!("{instead:?}")),
        });
        until("it exports that", || self.daemon.metric("banstream_source_up{source=\"journald\"}") == 0);
        let doctor = self.daemon.output(&["doctor", "--config", "c.toml"]);
        let doctor = said(&doctor);
        assert!(doctor.contains("[source-failed]") && doctor.contains(why), "{doctor}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut journald) = self.journald.take() {
            drop(journald.kill());
            drop(journald.wait());
        }
    }
}

type Way = fn(&mut Lab);

/// One entry, by journald's native protocol.
fn write(fields: &str) -> std::io::Result<usize> {
    send(fields, SOCKET)
}

fn send(fields: &str, socket: &str) -> std::io::Result<usize> {
    UnixDatagram::unbound()?.send_to(fields.as_bytes(), socket)
}

/// How many heartbeats the journal holds that these options of journalctl name.
fn beats(options: &str) -> u32 {
    let journalctl = "journalctl -q -o export --output-fields=BANSTREAM_HEARTBEAT";
    sh(&format!("{journalctl} {options} | grep -c ^BANSTREAM || true")).trim().parse().unwrap()
}

fn in_a_lab<Body: FnOnce()>(body: Body) {
    in_namespaces(&["--mount", "--pid", "--fork", "--kill-child"], body);
}

#[test]
fn a_journal_whose_folders_change_is_read_on() {
    in_a_lab(|| {
        let mut lab = Lab::up("auto", &[]);
        let ways: [(&str, Way); 8] = [
            ("all is removed", |lab| {
                sh("rm -rf /var/log/journal/*");
                lab.restart("auto");
            }),
            ("all is removed and journald told to rotate", |lab| {
                sh("rm -rf /var/log/journal/*");
                lab.signal(lab.journald.as_ref().unwrap(), Signal::SIGUSR2);
            }),
            ("the folder is removed", |lab| {
                sh("rm -rf /var/log/journal");
                lab.restart("auto");
            }),
            ("the folder is there again", |lab| {
                sh("mkdir /var/log/journal");
                lab.restart("auto");
                sh("journalctl --flush");
            }),
            ("the folder is removed and made again", |lab| {
                sh("rm -rf /var/log/journal; mkdir /var/log/journal");
                lab.restart("auto");
                sh("journalctl --flush");
            }),
            ("it becomes volatile", |lab| lab.restart("volatile")),
            ("it becomes persistent", |lab| {
                lab.restart("persistent");
                sh("journalctl --flush");
            }),
            ("it is rotated and vacuumed", |_| {
                sh("journalctl --rotate; journalctl --vacuum-time=1s");
            }),
        ];
        for (what, way) in ways {
            way(&mut lab);
            let began = Instant::now();
            lab.reads_on();
            println!("{what}: read after {:?}", began.elapsed());
        }
        assert_eq!(lab.read(), lab.written);
    });
}

#[test]
fn a_journal_that_may_not_be_read_is_said_and_read_on_when_it_may() {
    in_a_lab(|| {
        // Root without the right to read everything.
        let mut lab = Lab::up("persistent", &["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
        for (shut, open, why) in [
            ("chmod 0 /var/log/journal", "chmod 755 /var/log/journal", "no readable journal"),
            ("chmod 0 /var/log/journal/*", "chmod 755 /var/log/journal/*", "no readable journal"),
            // Old files elsewhere hide it.
            (
                "mkdir /run/log; cp -r /var/log/journal /run/log; chmod 0 /var/log/journal",
                "chmod 755 /var/log/journal; rm -r /run/log/journal",
                "what is written to it is not read back",
            ),
        ] {
            sh(shut);
            let began = Instant::now();
            lab.says(why);
            println!("{shut}: said after {:?}", began.elapsed());
            sh(open);
            let began = Instant::now();
            lab.reads_on();
            println!("{open}: read after {:?}", began.elapsed());
        }
    });
}

#[test]
fn a_journald_that_keeps_nothing_or_hangs_is_said() {
    in_a_lab(|| {
        let mut lab = Lab::up("volatile", &[]);
        // Nothing changes on disk, so it is the silence that has to be noticed.
        lab.signal(lab.journald.as_ref().unwrap(), Signal::SIGSTOP);
        let began = Instant::now();
        until("it was silent for long", || began.elapsed() > LIMIT * 3 / 4);
        lab.says("what is written to it is not read back");
        println!("it hangs: said after {:?}", began.elapsed());
        lab.signal(lab.journald.as_ref().unwrap(), Signal::SIGCONT);
        lab.reads_on();
        // Old entries are there, and nothing comes to them.
        lab.daemon.stop();
        lab.restart("none");
        lab.daemon.run(&mut lab.daemon.command());
        lab.written = 0;
        lab.says("what is written to it is not read back");
        lab.restart("volatile");
        lab.reads_on();
    });
}

#[test]
fn two_sources_of_the_same_lines_are_said() {
    in_a_lab(|| {
        let lab = Lab::up("volatile", &[]);
        let doctor = || said(&lab.daemon.output(&["doctor", "--config", "c.toml"]));
        let line = |address: &str| {
            let entry = failed(std::process::id(), address);
            let message = entry["message"].as_str().unwrap();
            write(&format!("SYSLOG_IDENTIFIER=sshd\nMESSAGE={message}\n")).unwrap();
            entry
        };
        // Others' lines by rsyslog are nothing.
        for n in 1..=5 {
            line(&format!("192.0.2.{n}"));
            lab.daemon.send([failed(std::process::id(), &format!("198.51.100.{n}"))]);
        }
        let offences = |source| lab.daemon.metric(&format!("banstream_entries_total{{source=\"{source}\"}}"));
        until("all are read", || offences("socket") == 5 && offences("journald") == lab.written + 5);
        assert!(!doctor().contains("same-lines"));
        for n in 101..=105 {
            lab.daemon.send([line(&format!("192.0.2.{n}"))]);
        }
        let says = "journald and socket bring the same lines (5 lines so far)";
        until("it is said", || lab.daemon.tell("status").contains(says));
        assert!(doctor().contains(&format!("wrong: {says}")));
    });
}

#[test]
fn a_heartbeat_is_not_shown_and_a_dry_run_writes_none() {
    in_a_lab(|| {
        let lab = Lab::up("volatile", &[]);
        until("one is written", || beats("") == 1);
        assert_eq!(sh("journalctl -q -o short -t banstream"), "");
        lab.daemon.stop();
        lab.daemon.run(lab.daemon.command().arg("--dry-run"));
        let mut lab = lab;
        lab.written = 0;
        lab.reads_on();
        assert_eq!(beats(""), 1);
    });
}

/// A login of root that failed, in the journal of this journald.
fn fail_here(address: &str) {
    write(&failure(address)).unwrap();
}

fn failure(address: &str) -> String {
    format!("SYSLOG_IDENTIFIER=sshd\nMESSAGE=Failed password for root from {address} port 22 ssh2\n")
}

/// A line of this program and user on another host, or on this one, as systemd-journal-remote keeps it.
fn write_to(file: &mut File, host: &str, (program, uid): (&str, &str), message: &str) {
    let fields = [
        ("SYSLOG_IDENTIFIER", program),
        ("_COMM", program),
        ("_UID", uid),
        ("_HOSTNAME", host),
        ("MESSAGE", message),
    ];
    let now = jiff::Timestamp::now().as_microsecond() as u64;
    file.entry_at(now, &fields.map(|(name, value)| (name, value.as_bytes())));
    file.flush();
}

fn fail_there(file: &mut File, address: &str) {
    let message = format!("Failed password for root from {address} port 22 ssh2");
    write_to(file, "web2", ("sshd", "0"), &message);
}

fn new_file(folder: &Path) -> File {
    fs::create_dir_all(folder).unwrap();
    File::new(folder.join("remote-web2.journal"))
}

#[test]
fn journals_beside_the_local_one_come_and_go_and_keep_their_places() {
    in_a_lab(|| {
        let lab = Lab::up("volatile", &[]);
        let [one, two] = ["one", "two"].map(|name| lab.daemon.path(name));
        let [first, second] = [&one, &two].map(|path| format!("journald:{}", path.display()));
        let mut file = new_file(&one);
        fail_there(&mut file, "198.51.100.9");
        let configure = |directories: &str| {
            lab.daemon.configure(&format!(
                "mode = 'observe'\nmaxretry = 1\njournald.directories = [{directories}]"
            ));
        };
        let reload = |directories: &str| {
            configure(directories);
            lab.daemon.tell("reload");
        };
        let entries =
            |source: &str| lab.daemon.metric(&format!("banstream_entries_total{{source=\"{source}\"}}"));

        // A reload adds two, of which one is not there. The others go on.
        reload("'DIR/one', 'DIR/two'");
        let fault = lab.fault_of(&second).unwrap().unwrap();
        assert!(fault.contains("No such file or directory"), "{fault}");
        assert_eq!((lab.fault(), lab.fault_of(&first)), (None, Some(None)));
        let doctor = said(&lab.daemon.output(&["doctor", "--config", "c.toml"]));
        assert!(doctor.contains(&fault) && doctor.contains("[source-failed]"), "{doctor}");
        fail_here("198.51.100.1");
        fail_there(&mut file, "198.51.100.2");
        lab.bans(&["198.51.100.1", "198.51.100.2"]);
        assert_eq!((entries("journald"), entries(&first)), (lab.written + 1, 1), "old entries stay unread");
        // The local one has not been opened again, and the others get no entries of ours.
        assert_eq!(beats(""), 1);

        // It is read from its first entry as soon as it is there.
        let mut late = new_file(&two);
        fail_there(&mut late, "198.51.100.3");
        lab.bans(&["198.51.100.3"]);
        until("it is read", || lab.fault_of(&second) == Some(None));

        // User ids of another host are not those of this one.
        let line = "2026/11/28 05:40:34 [error] 1#1: *1 user \"x\": password mismatch, client: 203.0.113.1, \
                    server: , request: \"GET / HTTP/1.1\", host: \"x\"";
        let here = sh("uname -n");
        write_to(&mut file, here.trim(), ("nginx", "33"), line);
        write_to(&mut file, "web2", ("nginx", "33"), line);
        until("both are read", || entries(&first) == 3);
        assert_eq!(lab.daemon.metric("banstream_entries_forged_total{grammar=\"nginx\",uid=\"33\"}"), 1);

        // What comes while it is left out is read when it is back.
        reload("'DIR/two'");
        assert_eq!(lab.fault_of(&first), None);
        fail_there(&mut file, "198.51.100.4");
        fail_there(&mut late, "198.51.100.5");
        lab.bans(&["198.51.100.5"]);
        assert_eq!(entries(&first), 3);
        reload("'DIR/two', 'DIR/one'");
        lab.bans(&["198.51.100.4"]);

        // So is what comes while the daemon is down; each once.
        lab.daemon.stop();
        fail_here("198.51.100.6");
        fail_there(&mut file, "198.51.100.7");
        fail_there(&mut late, "198.51.100.8");
        lab.daemon.start();
        lab.bans(&["198.51.100.6", "198.51.100.7", "198.51.100.8"]);
        assert_eq!(["journald", &first, &second].map(entries), [1, 1, 1]);

        // One that is lost does not stop the others.
        drop(late);
        fs::remove_dir_all(&two).unwrap();
        until("it is said", || lab.fault_of(&second).flatten());
        fail_here("198.51.100.10");
        fail_there(&mut file, "198.51.100.11");
        lab.bans(&["198.51.100.10", "198.51.100.11"]);
        assert_eq!((lab.fault(), lab.fault_of(&first)), (None, Some(None)));
        assert!(!lab.daemon.get("/bans").unwrap().contains("198.51.100.9"));
    });
}

#[test]
fn the_journal_of_a_namespace_is_read_beside_the_local_one() {
    in_a_lab(|| {
        let lab = Lab::up("volatile", &[]);
        let socket = "/run/systemd/journal.tenant/socket";
        fs::copy("/etc/systemd/journald.conf", "/etc/systemd/journald@tenant.conf").unwrap();
        sh("mkdir /run/systemd/journal.tenant");
        let mut journald = Command::new("/lib/systemd/systemd-journald");
        let journald = journald.arg("tenant").stdout(Stdio::null()).stderr(Stdio::null());
        let _journald = Killed(journald.spawn().unwrap());
        until("it takes entries", || send("MESSAGE=x\n", socket));
        lab.daemon.configure("mode = 'observe'\nmaxretry = 1\njournald.namespaces = ['tenant']");
        lab.daemon.tell("reload");
        fail_here("198.51.100.1");
        send(&failure("198.51.100.2"), socket).unwrap();
        lab.bans(&["198.51.100.1", "198.51.100.2"]);
        let entries =
            |source: &str| lab.daemon.metric(&format!("banstream_entries_total{{source=\"{source}\"}}"));
        assert_eq!((entries("journald"), entries("journald@tenant")), (lab.written + 1, 1));
        // Each has its own heartbeat.
        until("both are written", || beats("") == 1 && beats("--namespace=tenant") == 1);
        assert_eq!((lab.fault(), lab.fault_of("journald@tenant")), (None, Some(None)));
    });
}
