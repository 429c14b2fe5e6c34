//! The plan for people: for a terminal, and as Markdown for a ticket.

use super::plan::{FilterComparison, ImportedJail, JailOutcome};
use super::run::{ImportAction, ImportReport};
use super::{agreement, bans};
use crate::daemon::BansTarget;
use crate::model::{count, plain};
use crate::tools::setup::FileChange;
use crate::tools::terminal;

/// For a terminal.
pub(super) fn text(report: &ImportReport, action: ImportAction) -> String {
    let plan = &report.plan;
    let mut text = String::new();
    if action != ImportAction::Undo {
        text += &format!("{}\n\n", read(report));
        let row = |jail: &ImportedJail| [jail.name.clone(), outcome(jail), becomes(jail), ports(jail)];
        text +=
            terminal::table(["JAIL", "STATE", "BECOMES", "PORTS"], plan.jails.iter().map(row)).trim_start();
        text += "\n";
        for jail in plan.jails.iter().filter(|jail| !jail.notes.is_empty() || !jail.refused.is_empty()) {
            text += &format!("{}:\n", plain(&jail.name));
            jail.notes.iter().for_each(|note| text += &format!("    {}\n", plain(note)));
            for refused in &jail.refused {
                text += &format!(
                    "    not converted: {}\n        {}\n",
                    plain(&refused.regex),
                    plain(&refused.why)
                );
            }
        }
        let settings = plan.settings.iter().map(|setting| [setting.name.clone(), setting.becomes.clone()]);
        let table = terminal::table(["SETTING", "BECOMES"], settings);
        text += &table;
        text += &agreement::text(&report.agreement);
        text += &format!("\n{}\n", taken(report));
    }
    for FileChange { path, what, .. } in &plan.changes {
        text += &format!("{} {}: {what}\n", verb(report, action), path.display());
    }
    report.done.iter().for_each(|done| text += &format!("{}\n", plain(done)));
    for (nth, task) in (1..).zip(&plan.tasks) {
        text += &format!("needs you ({nth}): {}\n", plain(task));
    }
    text + &next(report, action)
}

/// As Markdown.
pub(super) fn markdown(report: &ImportReport, action: ImportAction) -> String {
    let plan = &report.plan;
    let mut text = "# From fail2ban to banstream\n\n".to_owned();
    if action != ImportAction::Undo {
        text += &format!("{}\n\n| jail | becomes | ports | state |\n|---|---|---|---|\n", read(report));
        for jail in &plan.jails {
            let state: Vec<String> =
                std::iter::once(outcome(jail)).chain(jail.notes.iter().cloned()).collect();
            text += &format!(
                "| {} | {} | {} | {} |\n",
                cell(&jail.name),
                cell(&becomes(jail)),
                ports(jail),
                cell(&state.join("; "))
            );
        }
        let refused = |jail: &ImportedJail| {
            jail.refused
                .iter()
                .map(|one| {
                    format!("| {} | `{}` | {} |\n", cell(&jail.name), cell(&one.regex), cell(&one.why))
                })
                .collect::<String>()
        };
        let refused: String = plan.jails.iter().map(refused).collect();
        if !refused.is_empty() {
            text += &format!("\n| jail | not converted | why |\n|---|---|---|\n{refused}");
        }
        if !plan.settings.is_empty() {
            text += "\n| setting | becomes |\n|---|---|\n";
            plan.settings
                .iter()
                .for_each(|one| text += &format!("| {} | {} |\n", cell(&one.name), cell(&one.becomes)));
        }
        text += &agreement::markdown(&report.agreement);
        text += &format!("\n{}\n", taken(report));
    }
    if !plan.changes.is_empty() {
        text += "\n";
        for FileChange { path, what, .. } in &plan.changes {
            text += &format!("- {} `{}`: {what}\n", verb(report, action), path.display());
        }
    }
    report.done.iter().for_each(|done| text += &format!("- {}\n", plain(done)));
    if !plan.tasks.is_empty() {
        text += "\nNeeds a human:\n\n";
        (1..).zip(&plan.tasks).for_each(|(nth, task)| text += &format!("{nth}. {}\n", plain(task)));
    }
    text + "\n" + &next(report, action)
}

/// A cell of a table in Markdown.
pub(super) fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

fn read(report: &ImportReport) -> String {
    let plan = &report.plan;
    let on = count(plan.jails.len() as u64, "jail");
    format!("read {} of fail2ban: {on} on, {} off", count(plan.files.len() as u64, "file"), plan.disabled)
}

/// Ports that are shown one by one, and no more.
const MOST_PORTS: usize = 8;

fn becomes(jail: &ImportedJail) -> String {
    match jail.outcome {
        JailOutcome::NotNeeded => "nothing".to_owned(),
        JailOutcome::NotConverted => "-".to_owned(),
        JailOutcome::Ours | JailOutcome::Converted => {
            format!("{}: {}", jail.grammars.join(" "), jail.offences.join(" "))
        }
    }
}

fn ports(jail: &ImportedJail) -> String {
    let text = jail.ports.join(" ");
    match text.matches(',').count() {
        0 if text.is_empty() => "all".to_owned(),
        commas if commas > MOST_PORTS => format!("{} ports", commas + jail.ports.len()),
        _ => text,
    }
}

fn outcome(jail: &ImportedJail) -> String {
    let all = jail.converted + jail.refused.len();
    let of = format!("{} of {}", jail.converted, count(all as u64, "failregex"));
    let outcome = match jail.outcome {
        JailOutcome::Ours if !jail.has_converted() => "ours".to_owned(),
        JailOutcome::Ours => format!("ours, and {of} of your own converted"),
        JailOutcome::Converted => format!("converted: {of}"),
        JailOutcome::NotConverted => return "not converted".to_owned(),
        JailOutcome::NotNeeded => return "not needed".to_owned(),
    };
    let compared = match jail.comparison {
        FilterComparison::Agrees => "; agrees with its filter",
        FilterComparison::Nothing => "; no offence in its log yet",
        FilterComparison::Differs => "; differs from its filter",
        FilterComparison::NotCompared if jail.has_converted() => "; not compared on its log",
        FilterComparison::NotCompared => "",
    };
    outcome + compared
}

fn taken(report: &ImportReport) -> String {
    let bans = &report.bans;
    let mut text = format!("bans of fail2ban: {} in force, {} past", bans.in_force, bans.past);
    if bans.unread > 0 {
        text += &format!("; {} of its database left out", count(bans.unread, "row"));
    }
    if let Some((taken, to)) = bans.taken.as_ref().zip(bans.to) {
        let to = if to == BansTarget::Ledger { "the ledger" } else { "the running daemon" };
        text += &format!("; taken over into {to}: {taken}");
        if !taken.examples.is_empty() {
            text += &format!(" ({})", bans::named(taken));
        }
    }
    text
}

fn verb(report: &ImportReport, action: ImportAction) -> &'static str {
    match (action, report.written) {
        (ImportAction::Undo, true) => "undid",
        (_, true) => "wrote",
        (_, false) => "would write",
    }
}

/// What to do next.
fn next(report: &ImportReport, action: ImportAction) -> String {
    let has_changes = !report.plan.changes.is_empty();
    match action {
        ImportAction::Show | ImportAction::Compare if has_changes => {
            "nothing was written; `banstream import fail2ban --write` writes it\n".to_owned()
        }
        ImportAction::Show | ImportAction::Compare | ImportAction::Diff(_) | ImportAction::Write => {
            "next: `systemctl enable --now banstream`, then `banstream import fail2ban --switch`\n".to_owned()
        }
        ImportAction::Shadow => {
            "next: `systemctl enable --now banstream`; then `banstream import fail2ban --diff` says who each \
                                 of the two banned, and `banstream import fail2ban --switch` ends it\n"
                .to_owned()
        }
        ImportAction::Switch { .. } => "`banstream import fail2ban --undo` goes back\n".to_owned(),
        ImportAction::Undo if has_changes || !report.done.is_empty() => {
            "as before; bans that were taken over stay until they end\n".to_owned()
        }
        ImportAction::Undo => "nothing to undo\n".to_owned(),
    }
}
