//! The metrics of a daemon under attack, as a real Prometheus sees them: each query of each dashboard and rule, and the
//! documented table, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Lab, MAX_RETRY};
use crate::common::until;

const DASHBOARDS: [&str; 4] = ["overview", "detection", "pipeline", "fleet"];

/// What Grafana puts in for its variables, as far as the queries use them.
const VARIABLES: &[(&str, &str)] = &[
    ("$__rate_interval", "60s"),
    ("$__interval", "60s"),
    ("$__range", "60s"),
    ("$instance", ".*"),
    ("$jail", ".*"),
    ("[1d:1m]", "[1d:1s]"), // a daemon of some seconds may have seen no full minute
];

/// What a panel says that only a fault fills.
const EMPTY_IS_GOOD: &str = "none: good";

/// What has no data in the first minute of a daemon: the query for the range before.
const BEFORE: &str = "offset 60s";

/// A fleet whose server does not answer: its metrics are there all the same.
const FLEET: &str = "fleet.servers = ['nats://127.0.0.1:4222']\nfleet.host = 'web1'\n\
                     fleet.operators = ['UDJL5QOU5KYJHAU2AHCUSNUIJVNZQYROR7WMGJQBFL4WUMSK4S7B7D75']\n";

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    super::text(
        Command::new("promtool").args(["test", "rules", "tests/system/e2e/alerts.test.yml"]).output(),
    );
}

#[test]
fn the_dashboards_are_as_their_source_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::copy("dashboards/make", folder.join("make")).expect("a copy");
    // By its interpreter: a file that was just written may be busy.
    super::text(Command::new("python3").arg(folder.join("make")).output());
    for name in DASHBOARDS {
        let read = |folder: &Path| fs::read_to_string(folder.join(format!("{name}.json"))).expect(name);
        assert!(read(folder) == read(Path::new("dashboards")), "{name}.json is old: run dashboards/make");
    }
}

#[test]
fn every_dashboard_shows_an_attack_and_every_metric_is_documented() {
    let lab = Lab::up("journald");
    let _daemon =
        lab.start(&format!("ignoreip = ['198.51.100.66']\nnotify.ops.command = ['/bin/true']\n{FLEET}"));
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");
    lab.sh(&format!(
        "mkdir -p /run/prometheus
         cat >/run/prometheus.yml <<'END'
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ['{rules}/rules.yml', '{rules}/alerts.yml']
scrape_configs:
  - job_name: banstream
    static_configs: [{{targets: ['127.0.0.1:9634']}}]
END
         prometheus --config.file=/run/prometheus.yml --storage.tsdb.path=/run/prometheus \\
            --web.listen-address=127.0.0.1:9090 >/run/prometheus.log 2>&1 &"
    ));
    until("Prometheus scrapes", || !asked(&lab, "up{job='banstream'} == 1").is_empty());

    // Something of everything: attacks and bans, by hand too, repairs, reloads, forgery, exemptions.
    lab.sh("runuser -u alice -- logger -p auth.info -t sshd 'Invalid user x from 198.51.100.77 port 22'
            logger -p auth.info -t cron nothing; banstream reload; iptables -t raw -F PREROUTING");
    for (server, source) in [("ssh", "198.51.100.1"), ("http", "198.51.100.2"), ("ssh", "198.51.100.66")] {
        lab.attack(server, source, MAX_RETRY);
    }
    lab.attack("ssh", "198.51.100.3", MAX_RETRY - 1);
    lab.log_in("ssh", "198.51.100.99", "sesame");
    // A child of rsyslog counts once it has stayed for ten seconds.
    lab.sh("{ (echo x; sleep 11; echo y; sleep 60) | banstream omprog; } >/dev/null 2>&1 &");
    lab.sh("banstream ban 192.0.2.1; banstream unban 192.0.2.1");
    until("the rule is back", || lab.sh("iptables -t raw -S").contains("banstream"));
    for (what, query) in [
        (
            "bans have been scraped twice",
            "count_over_time((banstream_bans_total{jail='sshd'} > 0)[20s:1s]) > 5",
        ),
        ("the repair is known", "banstream_enforce_repairs_total > 0"),
        ("the child is known", "banstream_source_clients > 0"),
        ("the rules have been evaluated", "instance:banstream_enforce_duration_seconds:p99_5m > 0"),
    ] {
        until(what, || !asked(&lab, query).is_empty());
    }

    let mut wrong = Vec::new();
    for name in DASHBOARDS {
        let path = format!("dashboards/{name}.json");
        let text = fs::read_to_string(&path).expect(&path);
        let dashboard: Value = serde_json::from_str(&text).expect(&path);
        let links = text.split("/d/banstream-").skip(1);
        wrong.extend(
            links
                .filter(|rest| !DASHBOARDS.iter().any(|name| rest.starts_with(&format!("{name}?"))))
                .map(|rest| format!("{name}: a link to {}", rest.chars().take(30).collect::<String>())),
        );
        let mut titles = BTreeSet::new();
        for panel in panels(&dashboard) {
            if !titles.insert(panel["title"].as_str().expect("a title")) {
                wrong.push(format!("{name}: two panels are called {}", panel["title"]));
            }
            let may_be_empty = panel.pointer("/fieldConfig/defaults/noValue") == Some(&EMPTY_IS_GOOD.into());
            for query in queries(panel["targets"].as_array().into_iter().flatten()) {
                let series = asked(&lab, &query);
                if series.is_empty() && !may_be_empty && !query.contains(BEFORE) {
                    wrong.push(format!("{name}: {}: no data for {query}", panel["title"]));
                }
            }
        }
        let marks = dashboard["annotations"]["list"].as_array().expect("annotations");
        for query in queries(marks.iter().map(|mark| &mark["target"])) {
            let range = format!("max_over_time(({query})[5m:1s]) > 0"); // an event may be over
            if asked(&lab, &range).is_empty() {
                wrong.push(format!("{name}: no event of {query}"));
            }
        }
    }
    let rules = fs::read_to_string("dashboards/rules.yml").expect("rules");
    for record in rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")) {
        if asked(&lab, record).is_empty() {
            wrong.push(format!("the rule {record} brings nothing"));
        }
    }
    let health = lab.sh("curl -s http://127.0.0.1:9090/api/v1/rules");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    for rule in health["data"]["groups"].as_array().expect("groups").iter().flat_map(|group| {
        group["rules"].as_array().expect("rules").iter().filter(|rule| rule["health"] != "ok")
    }) {
        wrong.push(format!("a rule is not well: {rule}"));
    }
    wrong.extend(undocumented(&lab.sh("curl -s http://127.0.0.1:9634/metrics")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All panels of a dashboard, also those of rows that are folded.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    fn of(value: &Value) -> impl Iterator<Item = &Value> {
        value["panels"].as_array().into_iter().flatten()
    }
    of(dashboard).flat_map(|panel| iter::once(panel).chain(of(panel)))
}

/// Queries as Grafana sends them.
fn queries<'a>(targets: impl Iterator<Item = &'a Value>) -> impl Iterator<Item = String> {
    targets.map(|target| {
        let query = target["expr"].as_str().expect("a query").to_owned();
        VARIABLES.iter().fold(query, |query, (name, value)| query.replace(name, value))
    })
}

/// What Prometheus answers to a query; an invalid query fails.
#[track_caller]
fn asked(lab: &Lab, query: &str) -> Vec<Value> {
    let mut curl = lab.command(&["curl", "-s", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode"]);
    let output = curl.arg(format!("query={query}")).output().expect("nsenter");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_ne!(answer.get("status"), Some(&"error".into()), "{query}: {answer}");
    let mut series = answer.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default();
    series.retain(|series| series.pointer("/value/1") != Some(&"NaN".into()));
    series
}

/// Where `contrib/metrics.md` and what the daemon says differ, by type and labels.
fn undocumented(page: &str) -> Vec<String> {
    let mut there: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            there.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, labels)) = line.split_once('{') {
            let name =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let labels = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next());
            let labels =
                labels.filter(|label| !label.is_empty() && !label.contains(['}', ' ']) && *label != "le");
            there.entry(name.to_owned()).or_default().1.extend(labels.map(str::to_owned));
        }
    }
    let documented = fs::read_to_string("contrib/metrics.md").expect("the page");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { return None };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), (kind.to_owned(), labels)))
    };
    let documented: BTreeMap<_, _> = documented.lines().filter_map(row).collect();
    let wrong = |(name, is): (&String, &(String, BTreeSet<String>))| {
        let said = documented.get(name);
        (said != Some(is)).then(|| format!("{name} is {is:?}, contrib/metrics.md says {said:?}"))
    };
    let missing = documented.keys().filter(|name| !there.contains_key(*name));
    let missing = missing.map(|name| format!("{name} is documented, but the daemon does not say it"));
    there.iter().filter_map(wrong).chain(missing).collect()
}
