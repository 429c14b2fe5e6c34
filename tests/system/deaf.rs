//! A real journald whose files, folders and settings change under the daemon: it reads on, or says that it cannot.
//!
//! Each test runs in namespaces of its own, with a `/run` and a `/var/log` of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{BANSTREAM, Daemon, LIMIT, failed, in_namespaces, said, sh, until};

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

    fn read(&self) -> u64 {
        self.daemon.metric("banstream_entries_total{source=\"journald\"}")
    }

    /// What is wrong with the source, by `status` and metrics alike.
    fn fault(&self) -> Option<String> {
        let status = self.daemon.status();
        let sources = status["sources"].as_array().unwrap();
        let source = sources.iter().find(|source| source["name"] == "journald").unwrap();
        let error = source["error"].as_str().map(str::to_owned);
        assert_eq!(source["state"], if error.is_some() { "failed" } else { "running" });
        error
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
    UnixDatagram::unbound()?.send_to(fields.as_bytes(), SOCKET)
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
        let beats =
            || sh("journalctl -q -o export --output-fields=BANSTREAM_HEARTBEAT | grep -c ^BANSTREAM || true");
        until("one is written", || beats() == "1\n");
        assert_eq!(sh("journalctl -q -o short -t banstream"), "");
        lab.daemon.stop();
        lab.daemon.run(lab.daemon.command().arg("--dry-run"));
        let mut lab = lab;
        lab.written = 0;
        lab.reads_on();
        assert_eq!(beats(), "1\n");
    });
}
