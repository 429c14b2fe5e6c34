//! The Prometheus metrics.
//!
//! All metrics are declared here, with their help. The sums of all batches are in `Stats`, which exports them
//! before each rendering; the rest is counted where it happens.
//!
//! Labels come from the configuration, the grammars and this file, so the operator decides their number; they contain
//! no address, user name or path. The one other label is the id of a local user who forges, of which a bounded number
//! is distinguished.

use std::sync::{Arc, LazyLock};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

/// The metrics of one daemon; clones share them.
///
/// They are made when they are used first. That takes 10 ms, and up to 200 on a busy machine, in which a clock is measured.
#[derive(Clone)]
pub struct Metrics(Arc<LazyLock<PrometheusRecorder>>);

/// Every metric: name, unit and meaning.
const HELP: &[(&str, Option<Unit>, &str)] = &[
    ("banstream_build_info", None, "Always 1; the label says which version runs."),
    ("banstream_start_time_seconds", Some(Unit::Seconds), "When the daemon started, in seconds since 1970."),
    ("banstream_entries_total", None, "Log entries read."),
    ("banstream_entries_bytes_total", Some(Unit::Bytes), "Bytes of the log entries read."),
    ("banstream_entries_duplicate_total", None, "Entries that a client sent twice; counted once."),
    ("banstream_entries_ignored_total", None, "Entries of programs that no grammar reads."),
    ("banstream_entries_harmless_total", None, "Entries of a grammar's program without an offence."),
    (
        "banstream_entries_unmatched_total",
        None,
        "Harmless entries that name an address and match no rule; in a flood, a sample of them.",
    ),
    (
        "banstream_entries_forged_total",
        None,
        "Entries that look like an offence or a login, but have another sender, by its user id.",
    ),
    ("banstream_entries_unattested_total", None, "Entries whose sender the source does not know."),
    (
        "banstream_entries_refused_total",
        None,
        "Entries that look like an offence or a login, but are unattested, which the configuration refuses.",
    ),
    (
        "banstream_entries_nameless_total",
        None,
        "Entries that look like an offence or a login, but whose address is in another line, which did not come.",
    ),
    (
        "banstream_messages_cut_total",
        None,
        "Messages whose end may be missing, because a transport cut them.",
    ),
    (
        "banstream_messages_joined_total",
        None,
        "Messages joined from the pieces that journald or a container engine made of a long line.",
    ),
    ("banstream_pieces_total", None, "Pieces of such lines, without the last of each."),
    (
        "banstream_pieces_skipped_total",
        None,
        "Pieces that are not judged, because the beginning of their message is missing.",
    ),
    ("banstream_drops_total", None, "Losses, by reason, which says what was lost."),
    ("banstream_offences_total", None, "Offences found, by grammar and category."),
    ("banstream_offences_counted_total", None, "Offences counted by a jail."),
    ("banstream_offences_repeated_total", None, "Further lines about an attempt that is already counted."),
    (
        "banstream_offences_already_banned_total",
        None,
        "Offences of offenders that the jail had already banned.",
    ),
    (
        "banstream_bans_ineffective_total",
        None,
        "Bans whose offender kept causing offences in the jail's log.",
    ),
    ("banstream_clock_jumps_total", None, "Jumps of the clock by 5 s or more, or sleeps of the machine."),
    ("banstream_bans_total", None, "Bans decided, by jail, kind and mode."),
    ("banstream_bans_exempted_total", None, "Bans that an exemption prevented, by jail and exemption."),
    ("banstream_logins_total", None, "Successful logins, by grammar."),
    ("banstream_bans_ended_total", None, "Bans that ended, by reason."),
    ("banstream_bans_active", None, "Bans in force, and observed bans, by mode."),
    ("banstream_offenders_tracked", None, "Offenders that a jail tracks."),
    (
        "banstream_enforce_duration_seconds",
        Some(Unit::Seconds),
        "Time from a decision until the kernel has accepted it.",
    ),
    ("banstream_enforce_batch_elements", None, "Elements sent to the kernel in one message."),
    ("banstream_enforce_errors_total", None, "Failed updates of the kernel's sets."),
    (
        "banstream_enforce_repairs_total",
        None,
        "Repairs of kernel state that differed from the bans in force, by kind.",
    ),
    (
        "banstream_enforce_pending_elements",
        None,
        "Elements that are not in the kernel, because a set is full or refuses them; tried again.",
    ),
    ("banstream_enforce_up", None, "1 if all bans are enforced, 0 otherwise."),
    ("banstream_set_elements", None, "Elements in a set."),
    ("banstream_set_capacity", None, "Capacity of a set."),
    ("banstream_notifications_total", None, "Messages to receivers, by receiver and result."),
    ("banstream_notifications_errors_total", None, "Failed attempts to deliver a message, by receiver."),
    ("banstream_notifications_waiting", None, "Messages waiting for a receiver."),
    ("banstream_fleet_connected", None, "1 if a server of the fleet is connected, 0 otherwise."),
    ("banstream_fleet_members", None, "Hosts that operators have admitted to the fleet, this one included."),
    ("banstream_fleet_bans", None, "Bans of other hosts of the fleet that are in force or observed here."),
    ("banstream_fleet_set_aside", None, "Hosts of the fleet that are set aside."),
    ("banstream_fleet_waiting", None, "Notices that the server of the fleet has not stored yet."),
    ("banstream_fleet_notices_total", None, "Notices read from the fleet, and stored there, by direction."),
    (
        "banstream_fleet_refused_total",
        None,
        "Notices of other hosts of the fleet that have no effect here, by reason.",
    ),
    ("banstream_inbox_depth", None, "Batches and commands waiting in the daemon's inbox."),
    ("banstream_source_up", None, "1 if a source is read, 0 if it failed."),
    (
        "banstream_source_clients",
        None,
        "Children of rsyslog (`banstream omprog`) connected to a source; missing before the first that stays.",
    ),
    ("banstream_reloads_total", None, "Reloads of the configuration, by result."),
    ("banstream_ledger_up", None, "1 if the ledger can be written, 0 if changes are in memory only."),
    ("banstream_ledger_errors_total", None, "Failed writes of the ledger."),
    ("banstream_ledger_write_duration_seconds", Some(Unit::Seconds), "Time to write one transaction."),
    ("banstream_ledger_waiting_bytes", Some(Unit::Bytes), "Bytes waiting to be written to the ledger."),
    ("banstream_ledger_bytes", Some(Unit::Bytes), "Size of the ledger's files."),
    ("banstream_ledger_rows", None, "Rows in the ledger, by table."),
];

/// The histograms, and their upper bounds.
const HISTOGRAMS: [(&str, &[f64]); 3] = [
    ("banstream_enforce_duration_seconds", SECONDS),
    ("banstream_enforce_batch_elements", ELEMENTS),
    ("banstream_ledger_write_duration_seconds", SECONDS),
];
const SECONDS: &[f64] =
    &[0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
const ELEMENTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 10_000.0];

/// Counters that begin at zero with each of these labels: a series that begins with its first event hides that event
/// from `rate` and `increase`.
const ZEROES: &[(&str, &str, &[&str])] = &[
    (
        "banstream_drops_total",
        "reason",
        &[
            "malformed_json",
            "malformed_journal",
            "overlong",
            "crash",
            "offender_table_full",
            "ledger_queue_full",
            "log_queue_full",
            "notify_queue_full",
        ],
    ),
    (
        "banstream_enforce_repairs_total",
        "kind",
        &["set", "member", "rule", "order", "missing", "timeout", "unexpected"],
    ),
    ("banstream_bans_ended_total", "reason", &["expired", "lifted", "replaced"]),
    ("banstream_reloads_total", "result", &["done", "refused", "rolled_back"]),
];

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl Default for Metrics {
    /// All metrics, at zero.
    fn default() -> Self {
        Self(Arc::new(LazyLock::new(recorder)))
    }
}

impl Metrics {
    /// Everything, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.handle().render()
    }

    /// To be called every few seconds: without it a histogram's samples pile up.
    pub fn upkeep(&self) {
        self.0.handle().run_upkeep();
    }

    /// A counter; one and the same for the same name and labels. Keep it where it is used often.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        counter(&self.0, name, labels)
    }

    /// A gauge, by name and labels.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    /// A histogram without labels.
    pub fn histogram(&self, name: &'static str) -> Histogram {
        self.0.register_histogram(&key(name, &[]), &METADATA)
    }

    /// What was lost or left out, and why.
    pub fn dropped(&self, reason: &str, times: u64) {
        if times > 0 {
            self.counter("banstream_drops_total", &[("reason", reason)]).increment(times);
        }
    }
}

/// What keeps them, with each that there is at the start.
fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in HISTOGRAMS {
        // It refuses an empty list only.
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).unwrap_or_default();
    }
    let recorder = builder.build_recorder();
    for (name, unit, help) in HELP {
        let (name, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
        match name.as_str() {
            counter if counter.ends_with("_total") => recorder.describe_counter(name, *unit, help),
            histogram if HISTOGRAMS.iter().any(|(name, _)| *name == histogram) => {
                recorder.describe_histogram(name, *unit, help);
            }
            _ => recorder.describe_gauge(name, *unit, help),
        }
    }
    for (name, label, values) in ZEROES {
        values.iter().for_each(|value| counter(&recorder, name, &[(label, value)]).increment(0));
    }
    for name in [
        "banstream_entries_duplicate_total",
        "banstream_clock_jumps_total",
        "banstream_enforce_errors_total",
        "banstream_ledger_errors_total",
    ] {
        counter(&recorder, name, &[]).increment(0);
    }
    HISTOGRAMS.iter().for_each(|(name, _)| drop(recorder.register_histogram(&key(name, &[]), &METADATA)));
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    recorder.register_gauge(&key("banstream_build_info", &version), &METADATA).set(1.0);
    recorder
}

fn counter(recorder: &PrometheusRecorder, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
    recorder.register_counter(&key(name, labels), &METADATA)
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_documented_metrics_are_those_there_are() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let name = |row: &str| Some(row.strip_prefix("| `banstream_")?.split_once('`')?.0.to_owned());
        let mut rows: BTreeMap<String, &str> =
            page.lines().filter_map(|row| Some((name(row)?, row))).collect();
        for (name, _, help) in HELP {
            let known = rows.remove(name.trim_start_matches("banstream_"));
            assert!(
                known.is_some(),
                "contrib/metrics.md lacks a row such as\n| `{name}` | TYPE | LABELS | {help} |"
            );
        }
        assert!(rows.is_empty(), "contrib/metrics.md has rows of metrics that are none: {rows:#?}");
    }
}
