//! A week that is known, in a ledger.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use banstream::detect::manual;
use banstream::engine::{BatchReport, Clock, Engine, Unattested};
use banstream::entry::records::Records;
use banstream::entry::{Decoder, Format};
use banstream::model::{Allowance, Decision, Timestamp};
use banstream::store::{Ledger, LedgerUpdate};
use jiff::tz::TimeZone;
use serde_json::json;
use tempfile::TempDir;

use super::mmdb::mmdb;
use super::{BANSTREAM, SHIPPED};

/// A directory with a configuration and the ledger of a week that ends at [`END`].
pub(crate) struct Week(pub(crate) TempDir);

/// 2026-11-23 00:00:00 UTC, a Monday.
pub(crate) const END: i64 = 1_795_392_000;
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;
pub(crate) const HOSTILE: &str =
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u{1b}[2J";

impl Week {
    /// Each hour an address of its own is banned, of a few networks; each night at two somebody who comes again.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let text = format!(
            "grammar-directory = '/nonexistent'\nstate-directory = '{0}'\nledger.keep = '100y'\ngeoip = ['{0}/x.mmdb']\n",
            path.display()
        );
        let record = |country, asn, name| json!({"country_code": country, "asn": asn, "as_name": name});
        let records = [
            ("192.0.2.0/24", record("NL", 64_496, HOSTILE)),
            ("198.51.100.0/23", record("NL", 64_497, "Example Hosting")),
            ("198.51.102.0/23", record("AT", 64_498, "Example Telecom")),
        ];
        fs::write(path.join("x.mmdb"), mmdb(&records)).unwrap();
        fs::write(path.join("c.toml"), text).unwrap();
        let loaded = &*SHIPPED;
        let decoder = Decoder::new(TimeZone::UTC);
        let mut engine = Engine::new(loaded.settings(), Arc::clone(&loaded.grammars), decoder);
        let mut ledger = Ledger::open(path, loaded.config.ledger).unwrap();
        for hour in 0..7 * 24 {
            let at = END - 7 * DAY + hour * HOUR;
            let time = jiff::Timestamp::from_second(at).unwrap();
            let offender = if hour % 24 == 2 {
                "192.0.2.66".to_owned()
            } else {
                format!("198.51.{}.{hour}", 100 + hour % 5)
            };
            let user = if hour % 24 == 2 { &format!("invalid user {HOSTILE}") } else { "root" };
            let mut records = Records::new(Format::Line);
            for pid in 0..5 {
                let message = format!("Failed password for {user} from {offender} port 22 ssh2");
                records.push(format!("<38>{time} h sshd[{}]: {message}", hour * 5 + pid).as_bytes());
            }
            if hour % 6 == 0 {
                let message = "FAIL LOGIN: Client \"::ffff:203.0.113.9\"";
                records.push(format!("<38>{time} h vsftpd[7]: [eve] {message}").as_bytes());
            }
            let now = Timestamp::from_secs(at);
            let BatchReport { seen, evidence, .. } =
                engine.take(&mut records, Clock::At(now), Unattested::Accept);
            let update = LedgerUpdate {
                traces: seen.traces,
                evidence,
                grammars: Arc::clone(&loaded.grammars),
                decisions: seen.decisions.into(),
                ..LedgerUpdate::default()
            };
            ledger.write(&[update], now).unwrap();
        }
        let now = Timestamp::from_secs(END - HOUR / 2);
        let lifted = engine.detector().unban("192.0.2.66".parse().unwrap());
        assert!(lifted.is_empty(), "it was over by then");
        let last = engine.detector().unban("198.51.102.167".parse().unwrap());
        assert!(matches!(last[..], [Decision::Unban(_)]));
        let by_hand = engine.detector().ban(manual("203.0.113.0/24".parse().unwrap(), now, None, "scan"));
        let allowance = Allowance {
            offender: "192.0.2.1".parse().unwrap(),
            since: now,
            until: None,
            comment: "<b>on call</b>".into(),
        };
        let update = LedgerUpdate {
            decisions: last.into_iter().chain(by_hand.ok().map(Decision::Ban)).collect::<Vec<_>>().into(),
            allowances: vec![(allowance.offender, Some(allowance))],
            ..LedgerUpdate::default()
        };
        ledger.write(&[update], now).unwrap();
        Self(directory)
    }

    /// What `banstream report` prints of a time in this week.
    pub(crate) fn report(&self, since: &str, until: &str, arguments: &[&str]) -> String {
        let output = Command::new(BANSTREAM)
            .args(["report", "--config", "c.toml", "--since", since, "--until", until])
            .args(arguments)
            .current_dir(self.0.path())
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
