//! Stops fail2ban once its bans are in force here, and starts it again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::bans;
use super::plan::{ImportPlan, JailOutcome};
use crate::config::load::Loaded;
use crate::control::client;
use crate::control::{Command as Ask, Status, TakenCounts};
use crate::daemon;
use crate::model::{Timestamp, plain};
use crate::store::Fail2banBans;

const UNIT: &str = "fail2ban.service";

/// Where it is noted that fail2ban was stopped, and how it ran before.
fn note(loaded: &Loaded) -> PathBuf {
    loaded.config.state_directory.join("import.fail2ban")
}

/// Whether fail2ban was switched off and is still off.
pub(super) fn is_switched(loaded: &Loaded) -> bool {
    note(loaded).exists() && !is("is-active")
}

/// Checks that banstream can take fail2ban's place: its files are as they would be written, and each jail has a counterpart,
/// or `force` does without it. Nothing is changed.
///
/// # Errors
///
/// It cannot: then fail2ban goes on.
pub(super) fn check(plan: &ImportPlan, force: bool) -> anyhow::Result<()> {
    ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "fail2ban goes on, since systemd does not run here: `--write`, and then stop fail2ban yourself"
    );
    let changed = plan.changes.iter().map(|change| &change.path).chain(&plan.foreign);
    let changed: Vec<String> = changed.map(|path| path.display().to_string()).collect();
    ensure!(
        changed.is_empty(),
        "fail2ban goes on: `--write` first: these files are not as they would be written: {}",
        changed.join(", ")
    );
    let lost = plan.jails.iter().filter(|jail| jail.outcome == JailOutcome::NotConverted);
    let lost: Vec<String> = lost.map(|jail| format!("`{}`", plain(&jail.original))).collect();
    ensure!(
        force || lost.is_empty(),
        "fail2ban goes on, since these jails have no counterpart here: {}; `--force` switches without them",
        lost.join(", ")
    );
    Ok(())
}

/// Checks that fail2ban is not switched off, so that banstream may observe only.
///
/// # Errors
///
/// It is.
pub(super) fn check_shadow(loaded: &Loaded) -> anyhow::Result<()> {
    ensure!(
        !note(loaded).exists(),
        "nothing was written: fail2ban is switched off, so nothing would be enforced; `--undo` first"
    );
    Ok(())
}

/// Stops and disables fail2ban, after the daemon has all of its bans in force. What was done, in words.
///
/// # Errors
///
/// No daemon answers, it does not enforce, a ban is not in force, or systemd refuses. Then fail2ban goes on.
pub(super) fn switch(
    found: &Fail2banBans,
    plan: &ImportPlan,
    database: Option<&Path>,
    loaded: &Loaded,
    now: Timestamp,
) -> anyhow::Result<Vec<String>> {
    let socket = &client::socket_of(&loaded.config);
    let answer = client::send(socket, &Ask::Status)
        .context("fail2ban goes on, since no daemon of banstream answers")?;
    let status: Status =
        serde_json::from_str(&answer.body).context("the daemon's status is not understood")?;
    ensure!(
        status.enforcement.mode == "kernel" && status.enforcement.error.is_none(),
        "fail2ban goes on, since banstream enforces nothing: `banstream doctor` says why"
    );
    let taken = daemon::send(bans::ours(found, plan, loaded, now), socket)?;
    let missing = taken.refused + taken.observed;
    ensure!(
        missing == 0,
        "fail2ban goes on, since banstream does not enforce {} of its bans: {}",
        missing,
        bans::named(&taken)
    );
    if let Some(error) = &taken.error {
        bail!("fail2ban goes on, since its bans are not in the kernel: {}", plain(error));
    }
    let mut done = vec![format!(
        "banstream has all {} bans of fail2ban in force, {} of them since now",
        taken.in_force(),
        taken.new + taken.extended
    )];
    if taken.exempt > 0 {
        done.push(format!("left out {} that are never banned here: {}", taken.exempt, bans::named(&taken)));
    }
    let path = note(loaded);
    // A second switch would note that fail2ban was off.
    if !path.exists() {
        let before = [is("is-enabled"), is("is-active")].map(|is| if is { "yes" } else { "no" });
        std::fs::write(&path, format!("enabled {}\nactive {}\n", before[0], before[1]))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if let Err(error) = systemctl(&["disable", "--now", UNIT]) {
        return Err(match switch_back(loaded) {
            Ok(_) => error.context("fail2ban is as before"),
            Err(other) => error.context(format!("fail2ban may be off: {other:#}")),
        });
    }
    done.push("stopped and disabled fail2ban".to_owned());
    // What it banned in its last moments. It is off by now, so banstream has to go on whatever happens.
    let now = daemon::now();
    let last = bans::read(database, loaded, now)
        .and_then(|found| daemon::send(bans::ours(&found, plan, loaded, now), socket));
    match last {
        Ok(TakenCounts { new: 0, extended: 0, .. }) => {}
        Ok(last) => done.push(format!("banned {} more that it banned meanwhile", last.new + last.extended)),
        Err(error) => done.push(format!(
            "its bans of the last moments are not in force here: {error:#}; `banstream import fail2ban --write` takes them over"
        )),
    }
    Ok(done)
}

/// Lets fail2ban run as before the switch, if there was one. What was done, in words.
///
/// # Errors
///
/// systemd refuses.
pub(super) fn switch_back(loaded: &Loaded) -> anyhow::Result<Vec<String>> {
    let path = note(loaded);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Vec::new()) };
    let was = |what: &str| text.lines().any(|line| line == format!("{what} yes"));
    let mut done = Vec::new();
    for (was, verb, said) in [(was("enabled"), "enable", "enabled"), (was("active"), "start", "started")] {
        if was {
            systemctl(&[verb, UNIT])?;
            done.push(format!("{said} fail2ban"));
        }
    }
    std::fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
    Ok(done)
}

fn is(what: &str) -> bool {
    let status = Command::new("systemctl").args(["--quiet", what, UNIT]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn systemctl(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("systemctl").args(words).stdin(Stdio::null()).output();
    let output = output.context("cannot run `systemctl`")?;
    if !output.status.success() {
        bail!("`systemctl {}` fails: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
