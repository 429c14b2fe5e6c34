//! Reads the configuration and the grammars from their files, in the same way for `run`, a reload, `check`, `explain`
//! and `replay`.

mod allow;
mod changes;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::unistd::Group;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::config::{Backend, Config, ConfigErrors, NotifyChannel, Receiver, Setting, Socket, Written};
use crate::detect::{ExemptionList, Jail, Settings, Watch};
use crate::grammar::{Fault, Grammar, Grammars, Lists, Place, SHIPPED, Severity};

pub use allow::{AllowFault, AllowFiles};

/// Where the configuration is if nobody says otherwise.
pub const CONFIG: &str = "/etc/banstream/banstream.toml";

/// A configuration that can run, and its grammars.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the operator chose.
    pub config: Config,
    /// What attacks look like.
    pub grammars: Arc<Grammars>,
    /// Who is not banned, by the files that the configuration names.
    pub allow_files: AllowFiles,
    /// What is doubtful in grammars and in those files, but does not keep anything from running.
    pub warnings: Vec<String>,
    /// What this host lacks that the configuration asks for by name. With it a daemon cannot run here, but logs of another
    /// host can be replayed.
    pub missing: Vec<String>,
    /// The groups that it names for sockets and that this host lacks. A start goes on without such a socket of a source, so
    /// that the other sources protect the host.
    pub missing_groups: Vec<String>,
    /// Which files the configuration was read from.
    pub files: ConfigFiles,
    /// All that they set, and the defaults.
    pub written: Vec<Setting>,
    /// The texts of the operator's grammars and lists, by their files.
    pub own: BTreeMap<PathBuf, String>,
}

/// The configuration's files, and whether they set something.
#[derive(Clone, Debug, Default)]
pub struct ConfigFiles(BTreeMap<PathBuf, bool>);

impl ConfigFiles {
    fn new(files: &[(PathBuf, String)]) -> Self {
        Self(files.iter().map(|(path, text)| (path.clone(), !Written::is_silent(text))).collect())
    }

    /// The files, in the order in which they are read: a later one wins.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let is_drop_in = |path: &&Path| path.parent().and_then(Path::extension).is_some_and(|end| end == "d");
        let all = || self.0.keys().map(PathBuf::as_path);
        all().filter(move |path| !is_drop_in(path)).chain(all().filter(is_drop_in))
    }

    /// Which file has lost all that it set before: an editor may be at it. For people. A drop-in that is gone while
    /// other files set something was taken out on purpose.
    pub fn lost_since(&self, before: &Self) -> Option<String> {
        let sets_nothing = !self.0.values().any(|sets| *sets);
        let is_drop_in = |path: &Path| path.parent().and_then(Path::extension).is_some_and(|end| end == "d");
        before.0.iter().filter(|(_, sets)| **sets).find_map(|(path, _)| {
            let what = match self.0.get(path) {
                Some(true) => return None,
                Some(false) => "is empty now, but was not before",
                None if is_drop_in(path) && !sets_nothing => return None,
                None => "is missing",
            };
            Some(format!("`{}` {what}; if that is intended, restart the daemon", path.display()))
        })
    }
}

impl Loaded {
    /// What a detector needs to know of it.
    pub fn settings(&self) -> Settings {
        let mut settings = self.config.detection.clone();
        for (jail, file) in &self.config.ignore_files {
            let members = self.allow_files.members(file);
            match jail.as_ref().and_then(|name| settings.jails.iter_mut().find(|jail| jail.name == *name)) {
                Some(jail) => jail.ignore.extend_from_slice(members),
                // Before the proxies: of two reasons the first is told.
                None => drop(
                    settings.ignore.splice(..0, members.iter().map(|who| (*who, ExemptionList::Ignored))),
                ),
            }
        }
        settings
    }
}

/// Why nothing could be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The files are wrong: every fault, for people.
    Faulty(String),
    /// A file could not be read.
    Unreadable(anyhow::Error),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Faulty(faults) => f.write_str(faults),
            Self::Unreadable(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<anyhow::Error> for LoadError {
    fn from(error: anyhow::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Reads, proves and checks everything: the configuration at `main` (the usual place if `None`) with the `*.toml`
/// files in the folder beside it that has its name with `.d` in place of `.toml`, and the grammars.
///
/// # Errors
///
/// A file cannot be read, or something in the files is wrong; then the error names every fault.
pub fn load(main: Option<&Path>) -> Result<Loaded, LoadError> {
    let files = configuration(main)?;
    let written = Written::parse(&files).map_err(faulty)?;
    judge(&written, &files, &[])
}

/// As [`load`], without this drop-in.
///
/// # Errors
///
/// As [`load`].
pub fn without(main: Option<&Path>, drop_in: &Path) -> Result<Loaded, LoadError> {
    with(main, [(drop_in, None)])
}

/// As [`load`], as if drop-ins, grammars and lists were written (`Some`) or removed (`None`) already.
///
/// # Errors
///
/// As [`load`].
pub fn with<'f>(
    main: Option<&Path>,
    changes: impl IntoIterator<Item = (&'f Path, Option<&'f str>)>,
) -> Result<Loaded, LoadError> {
    let drop_ins = main.unwrap_or(Path::new(CONFIG)).with_extension("d");
    let mut files = configuration(main)?;
    let mut grammars = Vec::new();
    for (path, text) in changes {
        if path.extension().is_some_and(|end| end == "grammar" || end == "list") {
            grammars.push((path, text));
        } else if path.parent() == Some(&drop_ins) {
            files.retain(|(known, _)| known != path);
            files.extend(text.map(|text| (path.to_owned(), text.to_owned())));
        }
    }
    // The main file is the first, if there is one.
    files.sort_by(|(one, _), (other, _)| {
        let is_drop_in = |path: &Path| path.parent() == Some(&drop_ins);
        (is_drop_in(one), one).cmp(&(is_drop_in(other), other))
    });
    let written = Written::parse(&files).map_err(faulty)?;
    judge(&written, &files, &grammars)
}

fn faulty(faults: ConfigErrors) -> LoadError {
    LoadError::Faulty(faults.to_string())
}

/// What these files mean, with the grammars, as if some of those were written or removed.
fn judge(
    written: &Written<'_>,
    files: &[(PathBuf, String)],
    changed: &[(&Path, Option<&str>)],
) -> Result<Loaded, LoadError> {
    let own = own_texts(&written.grammar_directory().map_err(faulty)?, changed)?;
    let (grammars, warnings) = grammars(&own)?;
    let mut config = written.check(&categories(&grammars)).map_err(faulty)?;
    watch_extensions(&mut config.detection.jails, &grammars);
    let Settings { jails, ignore, .. } = &config.detection;
    let proxies = ignore.iter().filter(|(_, list)| *list == ExemptionList::Proxy).map(|(who, _)| *who);
    let mut grammars = grammars.with_users(&users()).trusting(proxies);
    for (jail, field) in jails.iter().filter_map(|jail| Some((jail, jail.distinct.as_deref()?))) {
        for watch in &jail.watches {
            grammars = grammars.counting(&watch.grammar, &watch.categories, field).map_err(|what| {
                LoadError::Faulty(format!("`distinct` of the jail `{}`: {what}", jail.name))
            })?;
        }
    }
    let grammars = Arc::new(grammars);
    let (allow_files, broken) = AllowFiles::read(config.ignore_files.iter().map(|(_, file)| file.as_path()));
    let broken = broken.iter().map(|fault| {
        let placed =
            fault.line.is_none().then(|| written.fault_of_file(&fault.file, &format!("warning: {fault}")));
        placed.flatten().unwrap_or_else(|| fault.to_string())
    });
    let doubts = written.doubts().into_iter().chain(absent_programs(&config, written));
    let warnings = warnings.iter().map(Fault::to_string).chain(broken).chain(doubts).collect();
    let (missing, missing_groups) = (missing(&config, written), missing_groups(&config, written));
    let (files, written) = (ConfigFiles::new(files), written.settings());
    Ok(Loaded { config, grammars, allow_files, warnings, missing, missing_groups, files, written, own })
}

impl Loaded {
    /// The same, to run on this host.
    ///
    /// # Errors
    ///
    /// The host lacks something that the configuration asks for by name.
    pub fn to_run(self) -> Result<Self, LoadError> {
        if self.missing.is_empty() { Ok(self) } else { Err(LoadError::Faulty(self.missing.join("\n"))) }
    }

    /// The same, where this host has all groups that it names.
    ///
    /// # Errors
    ///
    /// A group is not there.
    pub fn with_groups(self) -> Result<Self, LoadError> {
        match self.missing_groups.is_empty() {
            true => Ok(self),
            false => Err(LoadError::Faulty(self.missing_groups.join("\n"))),
        }
    }
}

/// The groups that the operator names for sockets, and that are not there.
fn missing_groups(config: &Config, written: &Written<'_>) -> Vec<String> {
    let ingest = config.socket.as_ref().map(|ingest| &ingest.socket);
    let sockets = ingest.map(|socket| ("socket", socket)).into_iter().chain([("control", &config.control)]);
    let fault = |(table, socket): (&str, &Socket)| {
        let group = socket.group.as_deref()?;
        // As where the socket is made, an error is that there is no /etc/group.
        let is_there = Group::from_name(group).is_ok_and(|found| found.is_some());
        let what = format!("`group`: there is no group `{group}` on this host");
        written.fault(table, "group", &what).filter(|_| !is_there)
    };
    sockets.filter_map(fault).collect()
}

/// The programs that the operator names for the rule, and that are not there. Otherwise a typing error would silently
/// choose the other backend.
fn missing(config: &Config, written: &Written<'_>) -> Vec<String> {
    let Some(enforce) = config.enforce.as_ref().filter(|enforce| enforce.backend != Backend::Nftables) else {
        return Vec::new();
    };
    let programs = [("iptables", &enforce.iptables), ("ip6tables", &enforce.ip6tables)];
    let fault = |(key, program): (&'static str, &String)| {
        let what = format!("`{key}`: there is no program `{program}` on this host");
        // Who writes what is the default chooses nothing.
        written.fault("enforce", key, &what).filter(|_| program != key && !is_program(program))
    };
    programs.into_iter().filter_map(fault).collect()
}

/// Receivers whose program is not there. They keep nothing from running.
fn absent_programs(config: &Config, written: &Written<'_>) -> Vec<String> {
    let doubt = |receiver: &Arc<Receiver>| {
        let (key, program) = match &receiver.channel {
            NotifyChannel::Command(words) => ("command", words.first()?.clone()),
            NotifyChannel::Mail { sendmail, .. } => ("mail", sendmail.display().to_string()),
            NotifyChannel::Webhook { .. } => return None,
        };
        let table = format!("notify.{}", receiver.name);
        let what =
            format!("warning: `{key}`: there is no program `{program}` on this host, so nothing is sent");
        written.fault(&table, key, &what).filter(|_| !is_program(&program))
    };
    config.receivers.iter().filter_map(doubt).collect()
}

/// Whether a program of this name or path can be run, as far as the file tells.
fn is_program(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let can_run = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return can_run(Path::new(name));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // A user's PATH may lack those of administrators, which the daemon's has.
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&folders).chain(usual).any(|folder| can_run(&folder.join(name)))
}

/// What can be used of files that are wrong together: those that are sound by themselves, or else the defaults; and
/// the shipped grammars.
///
/// # Errors
///
/// What is shipped is wrong.
pub fn sound_part(main: Option<&Path>) -> Result<(Config, Grammars), LoadError> {
    let (grammars, _) = grammars(&BTreeMap::new())?;
    let categories = categories(&grammars);
    let check =
        |files: &[(PathBuf, String)]| Written::parse(files).and_then(|written| written.check(&categories));
    let mut files = configuration(main).unwrap_or_default();
    files.retain(|file| check(std::slice::from_ref(file)).is_ok());
    let config = check(&files).or_else(|_| check(&[]));
    Ok((config.map_err(faulty)?, grammars))
}

/// The configuration's paths and texts, the main file first and then the drop-ins by name. A missing main file is
/// an error only if it was asked for by name; a missing folder never is.
fn configuration(main: Option<&Path>) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let path = main.unwrap_or(Path::new(CONFIG));
    let mut paths = list(&path.with_extension("d"), "toml")?;
    if main.is_some() || path.exists() {
        paths.insert(0, path.to_owned());
    }
    paths.into_iter().map(|path| read(&path).map(|text| (path, text))).collect()
}

/// The users that the files of this host list, by name and id. Directories are not asked: that may take minutes where
/// the network is not up yet, and servers run as users of the host.
fn users() -> Vec<(String, u32)> {
    // Where /etc belongs to the administrator alone, the system's own users are in the other.
    let read = |path| std::fs::read(path).unwrap_or_default();
    ["/etc/passwd", "/usr/lib/passwd"].map(read).iter().flat_map(|text| users_in(text)).collect()
}

/// The users in a file as passwd(5) describes it; a line that is none is skipped.
fn users_in(text: &[u8]) -> Vec<(String, u32)> {
    let text = String::from_utf8_lossy(text);
    let user = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(user).collect()
}

/// The categories of each grammar, by its name, with those of the grammars that extend it.
pub fn categories(grammars: &Grammars) -> BTreeMap<String, Vec<String>> {
    let categories = |grammar: &Grammar| {
        let extensions = grammars.iter().filter(|other| other.extends() == Some(grammar.name()));
        let mut all = grammar.categories().to_vec();
        for category in extensions.flat_map(Grammar::categories) {
            if !all.contains(category) {
                all.push(category.clone());
            }
        }
        all
    };
    grammars.iter().map(|grammar| (grammar.name().to_owned(), categories(grammar))).collect()
}

/// Lets jails that watch a grammar watch those that extend it, too.
fn watch_extensions(jails: &mut [Jail], grammars: &Grammars) {
    for watches in jails.iter_mut().map(|jail| &mut jail.watches) {
        for grammar in grammars.iter() {
            let Some(base) = watches.iter().find(|watch| grammar.extends() == Some(&*watch.grammar)) else {
                continue;
            };
            let counts = |category: &&String| base.categories.contains(category);
            let categories: Vec<String> = grammar.categories().iter().filter(counts).cloned().collect();
            if !categories.is_empty() && !watches.iter().any(|watch| watch.grammar == grammar.name()) {
                watches.push(Watch { grammar: grammar.name().to_owned(), categories });
            }
        }
    }
}

/// The texts of the grammars and lists in a folder, as if some were written or removed.
fn own_texts(folder: &Path, changed: &[(&Path, Option<&str>)]) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut paths = [list(folder, "grammar")?, list(folder, "list")?].concat();
    // One takes the place of another of the same name.
    paths.retain(|path| !changed.iter().any(|(other, _)| other.file_name() == path.file_name()));
    let written =
        changed.iter().filter_map(|(path, text)| Some(Ok(((*path).to_owned(), (*text)?.to_owned()))));
    paths.into_iter().map(|path| read(&path).map(|text| (path, text))).chain(written).collect()
}

/// The shipped grammars and those of the operator, which take the place of shipped ones of their name, with the lists
/// of both; and what is doubtful in them.
///
/// # Errors
///
/// As [`load`].
fn grammars(own: &BTreeMap<PathBuf, String>) -> Result<(Grammars, Vec<Fault>), LoadError> {
    let ends = |end: &'static str| {
        own.iter().filter(move |(path, _)| path.extension().is_some_and(|found| found == end))
    };
    let texts: BTreeMap<String, (String, &String)> =
        ends("grammar").map(|(path, text)| (stem(path), (path.display().to_string(), text))).collect();
    let (mut lists, mut warnings) = (Lists::shipped(), Vec::new());
    for (path, text) in ends("list") {
        warnings.extend(lists.add(&stem(path), &path.display().to_string(), text));
        let mark = format!("@{}", stem(path));
        let uses = |text: &str| text.split_whitespace().any(|word| word == mark);
        if !texts.values().any(|(_, text)| uses(text)) && !SHIPPED.iter().any(|(_, text)| uses(text)) {
            warnings.push(Fault {
                file: path.display().to_string(),
                place: Place { line: 1, column: 1 },
                text: text.lines().next().unwrap_or_default().to_owned(),
                what: format!("no grammar uses `{mark}`, so this list has no effect"),
                severity: Severity::Warning,
            });
        }
    }
    let base = |text: &str| {
        let base = Grammar::base_of(text)?;
        texts.get(base).map(|(_, text)| text.as_str()).or_else(|| shipped_text(base))
    };
    let mut names: Vec<&str> =
        SHIPPED.iter().map(|(name, _)| *name).chain(texts.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let load = |(name, (file, text)): (&String, &(String, &String))| {
        (name.clone(), Grammar::load_with(name, file, text, base(text), &lists))
    };
    // The threads of rayon are not started for one.
    let mut own: BTreeMap<String, _> = match texts.len() {
        0 | 1 => texts.iter().map(load).collect(),
        _ => texts.par_iter().map(load).collect(),
    };
    let shipped = |name: &str| Grammar::shipped(name, &lists).map(|grammar| (grammar, Vec::new()));
    let loaded = names.iter().map(|name| own.remove(*name).unwrap_or_else(|| shipped(name)));
    let (mut grammars, mut faults) = (Vec::new(), Vec::new());
    for result in loaded {
        match result {
            Ok((grammar, doubts)) => {
                grammars.push(grammar);
                warnings.extend(doubts);
            }
            Err(found) => faults.extend(found),
        }
    }
    if !faults.is_empty() {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(LoadError::Faulty(faults.join("\n")));
    }
    Ok((Grammars::new(grammars).map_err(LoadError::Faulty)?, warnings))
}

/// Proves and tests one grammar, alone and together with the shipped ones; `folder` is where its file lies. What is
/// doubtful in it.
///
/// # Errors
///
/// The faults of the grammar, or the message that it and a shipped one read with two addresses.
pub fn grammar(
    name: &str,
    file: &str,
    text: &str,
    folder: &Path,
    lists: &Lists,
) -> Result<Vec<Fault>, Vec<String>> {
    let shipped =
        |name: &str| SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
    let base = Grammar::base_of(text)
        .and_then(|base| read(&folder.join(base).with_extension("grammar")).ok().or_else(|| shipped(base)));
    let (grammar, warnings) = Grammar::load_with(name, file, text, base.as_deref(), lists)
        .map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>())?;
    let others = SHIPPED.par_iter().filter(|(other, _)| *other != name);
    let mut all: Vec<Grammar> =
        others.filter_map(|(other, _)| Grammar::shipped(other, &Lists::shipped()).ok()).collect();
    all.push(grammar);
    Grammars::new(all).map_err(|conflict| vec![conflict])?;
    Ok(warnings)
}

/// The shipped lists with what those of the folder add to them, and what is doubtful in these.
///
/// # Errors
///
/// A file cannot be read.
pub fn lists(folder: &Path) -> anyhow::Result<(Lists, Vec<Fault>)> {
    let (mut lists, mut warnings) = (Lists::shipped(), Vec::new());
    for path in list(folder, "list")? {
        warnings.extend(lists.add(&stem(&path), &path.display().to_string(), &read(&path)?));
    }
    Ok((lists, warnings))
}

/// The text of a shipped grammar.
fn shipped_text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files of a folder with this extension, by name; none if there is no such folder.
fn list(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("cannot read `{}`", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(context)?,
    };
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(context)?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_by_name_and_id() {
        let text =
            b"root:x:0:0::/root:/bin/sh\n+::::::\n\nwww-data:x:33:33:\xff:/var/www:\nx:y:z\nlast:x:7:7::/:/";
        let want = [("root", 0), ("www-data", 33), ("last", 7)];
        assert_eq!(users_in(text), want.map(|(name, uid)| (name.to_owned(), uid)));
        assert!(users().contains(&("root".to_owned(), 0)));
    }

    #[test]
    fn lists_of_the_folder_add_to_those_shipped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("probes.list"), "/our-trap/\nnot /.bzr\nnot /nothing\n").unwrap();
        std::fs::write(folder.join("prob.list"), "/x\n").unwrap();
        let (grammars, warnings) = grammars(&own_texts(folder, &[]).unwrap()).unwrap();
        let nginx = grammars.get(grammars.readers(b"nginx").next().unwrap()).unwrap();
        let probes = ["/our-trap/x", "/a/.git/x", "/a/.bzr"].map(|path| {
            let line = format!(
                "192.0.2.1 - - [22/Nov/2026:05:40:38 +0000] \"GET {path} HTTP/1.1\" 500 5 \"-\" \"-\""
            );
            nginx.read(line.as_bytes()).is_some()
        });
        assert_eq!(probes, [true, true, false]);
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let file = |name: &str| folder.join(name).display().to_string();
        let want = [
            format!(
                "{}:1:1: warning: no grammar uses `@prob`, so this list has no effect\n    /x\n    ^",
                file("prob.list")
            ),
            format!(
                "{}:3:1: warning: the list `probes` has no `/nothing` to remove\n    not /nothing\n    ^",
                file("probes.list")
            ),
        ];
        assert_eq!(warnings, want);
    }

    #[test]
    fn a_file_that_loses_all_that_it_set_is_named() {
        #[track_caller]
        fn check(before: &[(&str, &str)], now: &[(&str, &str)], want: &str) {
            let files = |files: &[(&str, &str)]| {
                ConfigFiles::new(
                    &files.iter().map(|(path, text)| (path.into(), (*text).into())).collect::<Vec<_>>(),
                )
            };
            assert_eq!(files(now).lost_since(&files(before)).unwrap_or_default(), want);
        }
        let emptied = |path| {
            format!("`{path}` is empty now, but was not before; if that is intended, restart the daemon")
        };
        let gone = |path| format!("`{path}` is missing; if that is intended, restart the daemon");
        let (main, one, two) = (("/e/b.toml", "a = 1"), ("/e/b.d/1.toml", "b = 1"), ("/e/b.d/2.toml", "[c]"));
        check(&[], &[], "");
        check(&[], &[main], "");
        check(&[main, one], &[("/e/b.toml", "c = 2"), one], "");
        for nothing in ["", " \n\t", "# a = 1\n", "\u{feff}"] {
            check(&[main], &[(main.0, nothing)], &emptied(main.0));
            check(&[main, one], &[(main.0, nothing), one], &emptied(main.0));
            check(&[main, one], &[main, (one.0, nothing)], &emptied(one.0));
            check(&[(main.0, nothing), one], &[one], "");
            check(&[(main.0, nothing)], &[], "");
        }
        check(&[main], &[], &gone(main.0));
        check(&[main, one], &[one], &gone(main.0));
        check(&[main, one, two], &[main, two], "");
        check(&[one], &[], &gone(one.0));
        check(&[one, two], &[], &gone(one.0));
        check(&[one, ("/e/b.d/2.toml", "")], &[("/e/b.d/2.toml", "")], &gone(one.0));
    }

    #[test]
    fn of_a_broken_configuration_the_files_that_are_sound_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("b.toml");
        std::fs::create_dir(folder.path().join("b.d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let check = |want: [&str; 2]| {
            assert!(load(Some(&main)).is_err());
            let (config, _) = sound_part(Some(&main)).unwrap();
            let enforce = config.enforce.unwrap();
            assert_eq!([enforce.set, enforce.table], want);
        };
        check(["banstream", "raw"]);
        write("b.toml", "maxretri = 3\n[enforce]\nset = 'main'\n");
        write("b.d/1.toml", "[enforce]\ntable = 'mangle'\n");
        check(["banstream", "mangle"]);
        write("b.toml", "[enforce]\nset = 'main'\n");
        write("b.d/1.toml", "[enforce]\ntable = 'mangle'\n[enforce]\n");
        check(["main", "raw"]);
    }

    #[test]
    fn a_program_that_is_named_and_missing_keeps_a_daemon_from_running_here() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("b.toml");
        let missing = |text: &str| {
            std::fs::write(&main, text).unwrap();
            let loaded = load(Some(&main)).unwrap();
            assert_eq!(loaded.missing.is_empty(), loaded.clone().to_run().is_ok());
            let first = loaded.missing.iter().filter_map(|fault| fault.lines().next()?.split_once("b.toml:"));
            first.map(|(_, fault)| fault.to_owned()).collect::<Vec<_>>()
        };
        let is_missing = |place: &str, key: &str, program: &str| {
            format!("{place}: `{key}`: there is no program `{program}` on this host")
        };
        let one = is_missing("2:12", "iptables", "/nix/iptables");
        assert_eq!(missing("[enforce]\niptables = '/nix/iptables'"), std::slice::from_ref(&one));
        let other = is_missing("3:13", "ip6tables", "iptables-of-nobody");
        assert_eq!(
            missing("[enforce]\niptables = '/nix/iptables'\nip6tables = 'iptables-of-nobody'"),
            [one, other]
        );
        for fine in [
            "",
            "mode = 'observe'\n[enforce]\niptables = '/nix/iptables'",
            "[enforce]\nbackend = 'nftables'\niptables = '/nix/iptables'",
            "[enforce]\niptables = 'sh'\nip6tables = '/bin/sh'",
            "[enforce]\niptables = 'iptables'\nip6tables = 'ip6tables'",
        ] {
            assert_eq!(missing(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn a_receiver_whose_program_is_missing_is_doubtful() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("b.toml");
        let text = "[notify.a]\ncommand = ['/nix/a', 'x']\n[notify.b]\nmail = 'root'\nsendmail = '/nix/b'\n\
                    [notify.c]\ncommand = ['/bin/sh']\n[notify.d]\nmail = 'root'\nsendmail = '/bin/sh'\n";
        std::fs::write(&main, text).unwrap();
        let warnings = load(Some(&main)).unwrap().warnings;
        let first = warnings.iter().filter_map(|fault| fault.lines().next()?.split_once("b.toml:"));
        let missing =
            |program: &str| format!("there is no program `{program}` on this host, so nothing is sent");
        let want = [
            format!("2:11: warning: `command`: {}", missing("/nix/a")),
            format!("4:8: warning: `mail`: {}", missing("/nix/b")),
        ];
        assert_eq!(first.map(|(_, fault)| fault).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_group_that_is_named_and_missing_is_a_fault_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("b.toml");
        let missing = |text: &str| {
            std::fs::write(&main, text).unwrap();
            // A start goes on.
            let loaded = load(Some(&main)).and_then(Loaded::to_run).unwrap();
            assert_eq!(loaded.missing_groups.is_empty(), loaded.clone().with_groups().is_ok());
            let first =
                loaded.missing_groups.iter().filter_map(|fault| fault.lines().next()?.split_once("b.toml:"));
            first.map(|(_, fault)| fault.to_owned()).collect::<Vec<_>>()
        };
        let fault = |place: &str| format!("{place}: `group`: there is no group `nosuch` on this host");
        let both = "[socket]\ngroup = 'nosuch'\n[control]\ngroup = 'nosuch'";
        assert_eq!(missing(both), [fault("2:9"), fault("4:9")]);
        for fine in ["", "[socket]\ngroup = 'root'", "[socket]\nenabled = false\ngroup = 'nosuch'"] {
            assert_eq!(missing(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn a_change_that_waits_for_a_start_is_told_with_that() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("b.toml");
        let loaded = |text: &str| {
            std::fs::write(&main, text).unwrap();
            load(Some(&main)).unwrap()
        };
        let now = "bantime = '2h'\nstate-directory = '/s'\n[metrics]\nlisten = ''\n[ledger]\nmax-rows = 7000\n\
                   [socket]\nunattested = 'refuse'\ngroup = 'root'\n[control]\npath = '/c'\n";
        let changes = loaded(now).changes_since(&loaded(""));
        let (later, at_once): (Vec<&String>, Vec<&String>) =
            changes.iter().partition(|change| change.ends_with(" (takes effect at the next start)"));
        let keys = |changes: Vec<&String>| -> Vec<String> {
            changes.iter().filter_map(|change| Some(change.split('`').nth(1)?.to_owned())).collect()
        };
        assert_eq!(keys(later), ["state-directory", "path", "max-rows", "listen", "group"]);
        assert_eq!(keys(at_once), ["bantime", "unattested"]);
    }

    #[test]
    fn a_file_of_exemptions_that_is_missing_is_told_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("b.toml");
        std::fs::write(&main, "[jail.sshd]\nignoreip = ['::1', 'file:/nix']\n").unwrap();
        let warnings = load(Some(&main)).unwrap().warnings;
        let want = ": warning: cannot read `/nix`, so it exempts no address: No such file";
        assert!(warnings.iter().any(|warning| warning.contains(&format!(":2:20{want}"))), "{warnings:?}");
    }

    #[test]
    fn drop_ins_are_read_after_the_file_they_add_to() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let write = |name: &str| {
            std::fs::create_dir_all(folder.join("b.d")).unwrap();
            std::fs::write(folder.join(name), name).unwrap();
        };
        let read = || {
            let files = configuration(Some(&folder.join("b.toml")));
            files.map(|files| files.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" "))
        };
        let missing = read().unwrap_err().to_string();
        write("b.toml");
        let alone = read().unwrap();
        ["b.d/20-x.toml", "b.d/10-y.toml", "b.d/30.toml~"].into_iter().for_each(write);
        let together = read().unwrap();
        assert_eq!(missing, format!("cannot read `{}`", folder.join("b.toml").display()));
        assert_eq!(alone, "b.toml");
        assert_eq!(together, "b.toml b.d/10-y.toml b.d/20-x.toml");
    }
}
