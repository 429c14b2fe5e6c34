//! Writes what is planned: checks it first, tells the programs, and takes all back if one refuses.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use nix::unistd::User;

use super::plan::FileChange;
use crate::config::load;
use crate::control::{self, client};
use crate::tools::servers;

/// Where the programs are whose configuration is written.
pub struct WriteTarget<'h> {
    /// The configuration of the daemon.
    pub config: Option<&'h Path>,
    /// The daemon's control socket.
    pub socket: &'h Path,
    /// The drop-in in it.
    pub drop_in: &'h Path,
    /// The drop-in of rsyslog.
    pub rsyslog: &'h Path,
    /// A folder that belongs to the daemon's user, once it has run: files with secrets get the same owner.
    pub state_directory: &'h Path,
    /// Whether rsyslog is installed: what was written for it can be removed without it.
    pub has_rsyslog: bool,
}

/// Makes these changes. What was done besides, in words.
///
/// # Errors
///
/// A file cannot be written, or a program refuses what is in it. Then all files are as they were.
pub fn apply(changes: &[FileChange], host: &WriteTarget<'_>) -> anyhow::Result<Vec<String>> {
    let rsyslog = changes.iter().find(|change| change.path == host.rsyslog);
    if let Some(change) = rsyslog.filter(|_| host.has_rsyslog) {
        check_rsyslog(host.rsyslog, change.after.as_deref())?;
    }
    let put_all = || {
        for change in changes {
            let owner = change.is_secret.then(|| owner(host.state_directory));
            let written = put(&change.path, change.after.as_deref(), owner);
            written.with_context(|| format!("cannot write {}", change.path.display()))?;
        }
        tell(changes, host)
    };
    put_all().map_err(|error| {
        let is_as_before = |change: &&FileChange| std::fs::read_to_string(&change.path).ok() == change.before;
        let changed: Vec<&FileChange> = changes.iter().filter(|change| !is_as_before(change)).collect();
        for change in &changed {
            let owner = change.is_secret.then(|| owner(host.state_directory));
            drop(put(&change.path, change.before.as_deref(), owner));
        }
        drop(tell(changes, host));
        match changed.iter().find(|change| !is_as_before(change)) {
            None => error.context("nothing was written"),
            Some(change) => error.context(format!("could not take back {}", change.path.display())),
        }
    })
}

/// Lets the programs read their changed files.
fn tell(changes: &[FileChange], host: &WriteTarget<'_>) -> anyhow::Result<Vec<String>> {
    let is_changed = |path: &Path| changes.iter().any(|change| change.path == path);
    let mut done = Vec::new();
    for server in servers::all().filter(|server| changes.iter().any(|change| server.has(&change.path))) {
        let Some(setting) = &server.setting else { continue };
        if let [program, arguments @ ..] = setting.check {
            run(program, arguments)?;
        }
        done.push(restart("reload-or-restart", setting.unit)?);
    }
    if is_changed(host.drop_in) {
        load::load(host.config)?;
    }
    // The child of rsyslog waits until the daemon is there.
    if is_changed(host.rsyslog) && host.has_rsyslog {
        done.push(restart("restart", "rsyslog.service")?);
    }
    if let Some(drop_in) = changes.iter().find(|change| change.path == host.drop_in) {
        let reload = match drop_in.after {
            Some(_) => control::Command::Reload { confirm: None },
            None => control::Command::ReloadRemoved,
        };
        done.push(match client::send(host.socket, &reload) {
            Ok(answer) => match answer.refusal() {
                None => "reloaded banstream".to_owned(),
                Some(why) => bail!("banstream refuses to reload: {why}"),
            },
            Err(error) => format!("banstream was not reloaded: {error:#}"),
        });
    }
    Ok(done)
}

/// Restarts a unit if it runs. What was done, in words.
fn restart(how: &str, unit: &str) -> anyhow::Result<String> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(format!(
            "restart {} yourself: systemd does not run here",
            unit.trim_end_matches(".service")
        ));
    }
    let is_active = Command::new("systemctl").args(["--quiet", "is-active", unit]).status();
    if !is_active.is_ok_and(|status| status.success()) {
        return Ok(format!("{unit} does not run: `systemctl enable --now {unit}` starts it"));
    }
    run("systemctl", &[how, unit])?;
    Ok(format!("restarted {unit}"))
}

fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> anyhow::Result<()> {
    let (done, said) = output(&program, arguments)?;
    let shown = program.as_ref().display().to_string();
    if done { Ok(()) } else { Err(anyhow!("`{shown} {}` fails:\n{said}", arguments.join(" "))) }
}

/// Whether a program succeeds, and what it says.
fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let name = program.as_ref().display().to_string();
    // Users' paths may lack the folders of servers.
    let path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run `{name}`"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).trim_end().to_owned()))
}

/// Lets rsyslog judge its configuration with this drop-in before that is in place.
fn check_rsyslog(path: &Path, drop_in: Option<&str>) -> anyhow::Result<()> {
    // A folder below this one, since a profile may let rsyslogd read nothing else.
    let folder = Path::new("/etc/rsyslog.d/.banstream-setup");
    let judge = |drop_in: Option<&str>| -> anyhow::Result<(bool, Vec<String>)> {
        let main = copy_rsyslog(folder, path, drop_in)
            .with_context(|| format!("cannot write {}", folder.display()))?;
        let (sound, said) = output("rsyslogd", &["-N1", "-f", &main.display().to_string()])?;
        let said = said.replace(&folder.display().to_string(), "/etc/rsyslog.d");
        let faults = said.lines().filter(|line| !line.contains("config validation run")).map(str::to_owned);
        Ok((sound, faults.collect()))
    };
    let judged =
        judge(drop_in).and_then(|judged| Ok((judged, judge(std::fs::read_to_string(path).ok().as_deref())?)));
    drop(std::fs::remove_dir_all(folder));
    let ((sound, faults), (_, before)) = judged?;
    let new: Vec<&String> = faults.iter().filter(|fault| !before.contains(fault)).collect();
    match new.as_slice() {
        // What it did not like before is not for us to judge.
        [] => Ok(()),
        _ if sound => Ok(()),
        new => bail!(
            "rsyslog refuses it, so nothing was written:\n{}",
            new.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
        ),
    }
}

/// A copy of rsyslog's configuration in this folder, with that drop-in; its main file.
fn copy_rsyslog(folder: &Path, own: &Path, drop_in: Option<&str>) -> io::Result<PathBuf> {
    drop(std::fs::remove_dir_all(folder));
    std::fs::create_dir(folder)?;
    let main = std::fs::read("/etc/rsyslog.conf")?;
    let main = String::from_utf8_lossy(&main).replace("/etc/rsyslog.d/", &format!("{}/", folder.display()));
    for file in std::fs::read_dir("/etc/rsyslog.d")? {
        let path = file?.path();
        if path.is_file() && path != own {
            std::fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
        }
    }
    if let Some(text) = drop_in {
        std::fs::write(folder.join(own.file_name().unwrap_or_default()), text)?;
    }
    // No drop-in has that ending.
    let copy = folder.join("rsyslog.main");
    std::fs::write(&copy, main)?;
    Ok(copy)
}

/// The daemon's user and group: the owner of its state, or the user of the package.
fn owner(state: &Path) -> (Option<u32>, Option<u32>) {
    let of_state = std::fs::metadata(state).map(|about| (about.uid(), about.gid())).ok();
    let of_package = || User::from_name("banstream").ok()?.map(|user| (user.uid.as_raw(), user.gid.as_raw()));
    of_state.or_else(of_package).unzip()
}

/// Gives a file this text, with the owner and mode that it has; without a text it is removed. One with a secret belongs to
/// its owner, who alone may read it, at no time anybody else.
fn put(path: &Path, text: Option<&str>, secret: Option<(Option<u32>, Option<u32>)>) -> io::Result<()> {
    let Some(text) = text else { return std::fs::remove_file(path) };
    // Behind a link: sites are enabled by links.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut new = path.clone().into_os_string();
    new.push(".banstream-new");
    drop(std::fs::remove_file(&new));
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let written = create().and_then(|mut file| file.write_all(text.as_bytes())).and_then(|()| {
        match (secret, std::fs::metadata(&path)) {
            (Some((user, group)), _) => chown(&new, user, group),
            (None, Ok(about)) => {
                chown(&new, Some(about.uid()), Some(about.gid()))?;
                std::fs::set_permissions(&new, about.permissions())
            }
            (None, Err(_)) => std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)),
        }
    });
    let written = written.and_then(|()| std::fs::rename(&new, &path));
    if written.is_err() {
        drop(std::fs::remove_file(&new));
    }
    written
}
