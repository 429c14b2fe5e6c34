//! The jails of fail2ban's configuration that are on, with all names filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::filter::{FilterRegexes, OF_FILTERS, combined, regexes};
use super::ini::{Ini, IniError, IniValue, Variables};
use super::options::NamedOptions;
use super::stock;

/// Where fail2ban's configuration is if nobody says otherwise.
pub const FOLDER: &str = "/etc/fail2ban";

/// All that was read of fail2ban's configuration.
#[derive(Clone, Debug, Default)]
pub struct Fail2banConfig {
    /// The files, in their order.
    pub files: Vec<PathBuf>,
    /// The jails that are on, by name.
    pub jails: Vec<Fail2banJail>,
    /// How many jails are off.
    pub disabled: usize,
    /// Its database, if it has one.
    pub database: Option<PathBuf>,
    /// What holds for all jails: the section `[DEFAULT]`, as far as it can be filled in.
    pub defaults: BTreeMap<String, String>,
    /// The files that are not UTF-8: fail2ban leaves them out.
    pub not_utf8: Vec<PathBuf>,
}

/// A jail that is on.
#[derive(Clone, Debug, Default)]
pub struct Fail2banJail {
    /// Its name.
    pub name: String,
    /// Its options, filled in.
    pub options: BTreeMap<String, String>,
    /// Where each of them is written, as `file:line`.
    pub places: BTreeMap<String, String>,
    /// Those that it sets itself, and does not take from `[DEFAULT]`.
    pub own: BTreeSet<String>,
    /// Its filter.
    pub filter: NamedOptions,
    /// Its actions.
    pub actions: Vec<NamedOptions>,
    /// What lines are offences.
    pub regexes: FilterRegexes,
    /// What the filter's own file says, or the package's filter that it was copied from, without local changes and
    /// parameters; `None` where all of it is local.
    pub stock: Option<FilterRegexes>,
    /// The filter of fail2ban's package that `stock` is, whatever it is called here; empty if it is none.
    pub known_as: &'static str,
    /// What local files change of what its actions do: the action, and what is changed where.
    pub changed_actions: Vec<(String, String)>,
    /// Why fail2ban does not start it; empty if nothing is wrong with it. Then the rest is empty, too.
    pub fault: String,
}

/// What is wrong with a jail, and what fail2ban does about it.
enum JailFault {
    /// It skips the jail.
    Skipped(IniError),
    /// It does not start.
    Fatal(IniError),
    /// It takes it in some way.
    Unread(IniError),
}

impl From<IniError> for JailFault {
    fn from(error: IniError) -> Self {
        Self::Fatal(error)
    }
}

impl fmt::Display for JailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(error) => write!(f, "fail2ban skips it: {error}"),
            Self::Fatal(error) => write!(f, "fail2ban does not start with it: {error}"),
            Self::Unread(error) => write!(f, "it is not understood here: {error}"),
        }
    }
}

impl Fail2banConfig {
    /// Reads the configuration in a folder.
    ///
    /// # Errors
    ///
    /// There is none, or a file cannot be read: the first such place. What is wrong with one jail is said there.
    pub fn read(folder: &Path) -> Result<Self, IniError> {
        let ini = layered(folder, "jail")?;
        if ini.files.is_empty() {
            let what = "has no jail.conf or jail.local".to_owned();
            return Err(IniError { file: folder.to_owned(), line: 0, what });
        }
        let mut config = Self { files: ini.files.clone(), ..Self::default() };
        let mut reader = JailReader { folder, ini, filters: Vec::new(), not_utf8: Vec::new() };
        let version = ("fail2ban_version", "1");
        let own = [version, ("fail2ban_confpath", &folder.display().to_string())].map(|(name, text)| {
            (name.to_owned(), IniValue { text: text.to_owned(), file: folder.into(), line: 0 })
        });
        for (name, value) in own {
            reader.ini.defaults.entry(name).or_insert(value);
        }
        let names: Vec<String> = reader.ini.sections.keys().cloned().collect();
        for name in names.iter().filter(|name| *name != "INCLUDES" && !name.starts_with("KNOWN/")) {
            match reader.jail(name) {
                Ok(Some(jail)) => config.jails.push(jail),
                Ok(None) => config.disabled += 1,
                // The others are taken over all the same.
                Err(fault) => {
                    let (name, fault) = (name.clone(), fault.to_string());
                    config.jails.push(Fail2banJail { name, fault, ..Fail2banJail::default() });
                }
            }
        }
        for option in reader.ini.defaults.keys() {
            // One that only jails can fill in.
            let value = reader.ini.get("DEFAULT", option, &Variables::new()).ok().flatten();
            config.defaults.extend(value.map(|value| (option.clone(), value)));
        }
        config.not_utf8 = [reader.ini.not_utf8, reader.not_utf8].concat();
        config.not_utf8.sort();
        config.not_utf8.dedup();
        reader.filters.retain(|file| !config.files.contains(file));
        config.files.append(&mut reader.filters);
        let main = layered(folder, "fail2ban")?;
        let database = main.get("Definition", "dbfile", &Variables::new())?;
        let database = database.unwrap_or_else(|| "/var/lib/fail2ban/fail2ban.sqlite3".to_owned());
        config.database = (!matches!(database.as_str(), "None" | ":memory:" | "")).then(|| database.into());
        config.files.extend(main.files);
        Ok(config)
    }
}

/// `NAME.conf`, `NAME.d/*.conf`, `NAME.local` and `NAME.d/*.local`.
fn layered(folder: &Path, name: &str) -> Result<Ini, IniError> {
    let inside = |extension: &str| -> Result<Vec<PathBuf>, IniError> {
        let folder = folder.join(format!("{name}.d"));
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(IniError { file: folder, line: 0, what: format!("cannot be read: {error}") });
            }
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|found| found == extension));
        paths.sort();
        Ok(paths)
    };
    let file = |extension: &str| vec![folder.join(format!("{name}.{extension}"))];
    Ini::read(&[file("conf"), inside("conf")?, file("local"), inside("local")?].concat())
}

struct JailReader<'f> {
    folder: &'f Path,
    ini: Ini,
    /// The files of filters that were read, and those that are not UTF-8.
    filters: Vec<PathBuf>,
    not_utf8: Vec<PathBuf>,
}

impl JailReader<'_> {
    /// A jail, if it is on.
    fn jail(&mut self, name: &str) -> Result<Option<Fail2banJail>, JailFault> {
        let none = Variables::new();
        let value = |option: &str| self.ini.get(name, option, &none).map(Option::unwrap_or_default);
        if !is_true(&value("enabled")?) {
            return Ok(None);
        }
        let (filter, backend) = (value("filter")?, value("backend")?);
        let unread = |option: &str, why: String| {
            let key = if option == "filter" { "enabled" } else { option };
            JailFault::Unread(self.place(name, key).error(format!("the {option} of `[{name}]`: {why}")))
        };
        let filter = NamedOptions::parse(&filter).map_err(|why| unread("filter", why))?;
        let mut jail = Fail2banJail { name: name.to_owned(), filter, ..Fail2banJail::default() };
        let logtype = if backend.starts_with("systemd") { "journal" } else { "file" };
        let known = self.filter(&mut jail, logtype)?;
        self.options(&mut jail, &known)?;
        let text = jail.options.get("action").map(String::as_str).unwrap_or_default();
        jail.actions = NamedOptions::parse_all(text).map_err(|why| {
            JailFault::Unread(self.place(name, "action").error(format!("the action of `[{name}]`: {why}")))
        })?;
        if let Some(action) = jail.actions.iter().find(|action| !self.has_action(&action.name)) {
            let what = format!("there is no action `{}`", action.name);
            return Err(JailFault::Skipped(self.place(name, "action").error(what)));
        }
        for action in &jail.actions {
            let changed = self.changed_action(name, action).into_iter();
            jail.changed_actions.extend(changed.map(|what| (action.name.clone(), what)));
        }
        jail.actions.iter_mut().for_each(|action| self.defaults_of(action));
        Ok(Some(jail))
    }

    /// Whether there is a file of an action, in a folder that has those of the package.
    fn has_action(&self, name: &str) -> bool {
        let folder = self.folder.join("action.d");
        let file = |extension: &str| folder.join(format!("{name}{extension}")).exists();
        let is_package = || folder.join("iptables.conf").exists();
        file(".conf") || file(".local") || name.ends_with(".py") && file("") || !is_package()
    }

    /// Which of the commands of an action are changed, and where: in a `.local` file, or by the jail itself.
    fn changed_action(&self, jail: &str, action: &NamedOptions) -> Vec<String> {
        let is_command = |key: &str| COMMANDS.contains(&key);
        let place = || self.place(jail, "action");
        let own = action.options.iter().filter(|(key, _)| is_command(key));
        let own = own.map(|(key, _)| (key.clone(), place().file.to_path_buf(), place().line));
        let path =
            |extension: &str| self.folder.join("action.d").join(format!("{}.{extension}", action.name));
        let ini = Ini::read(&[path("conf"), path("local")]).unwrap_or_default();
        let local = ini.sections.get("Definition").into_iter().flatten().filter(|(key, value)| {
            is_command(key) && value.file.extension().is_some_and(|extension| extension == "local")
        });
        let local = local.map(|(key, value)| (key.clone(), value.file.to_path_buf(), value.line));
        let named =
            |(key, file, line): (String, PathBuf, usize)| format!("`{key}` in {}:{line}", file.display());
        local.chain(own).map(named).collect()
    }

    /// Puts what an operator has set in the `.local` file of an action, such as a token, before what the jail says. What is
    /// wrong with that file does not concern us.
    fn defaults_of(&self, action: &mut NamedOptions) {
        let path = self.folder.join("action.d").join(format!("{}.local", action.name));
        let Ok(local) = Ini::read(&[path]) else { return };
        let keys = local.sections.get("Init").into_iter().flat_map(BTreeMap::keys);
        let values = keys.filter_map(|key| {
            let value = local.get("Init", key, &Variables::new()).ok()??;
            Some((key.clone(), value))
        });
        let values: Vec<_> = values.collect();
        action.options.splice(0..0, values);
    }

    /// Reads the filter of a jail. What it says is what the jail may use: `%(known/failregex)s`.
    fn filter(&mut self, jail: &mut Fail2banJail, logtype: &str) -> Result<Variables, JailFault> {
        let known = match jail.filter.name.is_empty() {
            true => {
                jail.regexes.lines = 1;
                Variables::new()
            }
            false => self.filter_file(jail, logtype)?,
        };
        // What the jail itself says is in the place of that.
        for option in OF_FILTERS {
            let own = self.ini.sections.get(&jail.name).and_then(|options| options.get(option));
            if own.is_some() {
                let text = self.ini.get(&jail.name, option, &known)?.unwrap_or_default();
                jail.regexes.set(option, &text);
            }
        }
        Ok(known)
    }

    /// Reads the files of the filter of a jail.
    fn filter_file(&mut self, jail: &mut Fail2banJail, logtype: &str) -> Result<Variables, JailFault> {
        let (name, filter) = (jail.name.as_str(), &jail.filter);
        let base = self.folder.join("filter.d").join(&filter.name);
        let [conf, local] = ["conf", "local"].map(|extension| {
            let mut path = base.clone().into_os_string();
            path.push(format!(".{extension}"));
            PathBuf::from(path)
        });
        let both = Ini::read(&[conf.clone(), local])?;
        if both.files.is_empty() {
            let what = format!("there is no filter `{}`", filter.name);
            return Err(JailFault::Skipped(self.place(name, "filter").error(what)));
        }
        self.filters.extend(both.files.iter().cloned());
        self.not_utf8.extend(both.not_utf8.iter().cloned());
        let all = combined(&both, filter, logtype)?;
        let known: Variables =
            all.iter().map(|(key, value)| (format!("known/{key}"), value.clone())).collect();
        jail.regexes = regexes(&both, &all, logtype)?;
        if conf.exists() {
            let (own, plain) = (Ini::read(std::slice::from_ref(&conf))?, filter.plain());
            let all = combined(&own, &plain, logtype)?;
            jail.stock = Some(regexes(&own, &all, logtype)?);
            jail.known_as = stock::known(&own, &conf).unwrap_or_default();
        }
        if jail.known_as.is_empty()
            && let Some((name, stock)) =
                stock::copied_from(self.folder, &jail.regexes, &filter.plain(), logtype)
        {
            (jail.known_as, jail.stock) = (name, Some(stock));
        }
        Ok(known)
    }

    /// Fills in the options of a jail.
    fn options(&self, jail: &mut Fail2banJail, known: &Variables) -> Result<(), IniError> {
        let own = self.ini.sections.get(&jail.name).into_iter().flat_map(BTreeMap::keys);
        jail.own = own.cloned().collect();
        let is_default = |option: &&str| self.ini.defaults.contains_key(*option);
        let defaults = JAIL_OPTIONS.into_iter().filter(is_default).map(str::to_owned);
        let all: BTreeSet<String> = jail.own.iter().cloned().chain(defaults).collect();
        for option in all {
            if let Some(value) = self.ini.get(&jail.name, &option, known)? {
                let place = self.place(&jail.name, &option);
                jail.places.insert(option.clone(), format!("{}:{}", place.file.display(), place.line));
                jail.options.insert(option, value);
            }
        }
        Ok(())
    }

    /// Where an option of a jail is written.
    fn place(&self, jail: &str, option: &str) -> IniValue {
        let file = self.ini.files.first().map(PathBuf::as_path).unwrap_or(self.folder);
        let nowhere = || IniValue { text: String::new(), file: file.into(), line: 0 };
        self.ini.raw(jail, option).cloned().unwrap_or_else(nowhere)
    }
}

/// What an action runs.
const COMMANDS: [&str; 6] =
    ["actionstart", "actionstop", "actionflush", "actioncheck", "actionban", "actionunban"];

/// The options of jails that may stand in `[DEFAULT]`.
const JAIL_OPTIONS: [&str; 30] = [
    "action",
    "backend",
    "banaction",
    "banaction_allports",
    "bantime",
    "bantime.factor",
    "bantime.formula",
    "bantime.increment",
    "bantime.maxtime",
    "bantime.multipliers",
    "bantime.overalljails",
    "bantime.rndtime",
    "chain",
    "destemail",
    "enabled",
    "findtime",
    "ignorecache",
    "ignorecommand",
    "ignoreip",
    "ignoreself",
    "logencoding",
    "logpath",
    "logtimezone",
    "maxretry",
    "mode",
    "port",
    "protocol",
    "sender",
    "usedns",
    "datepattern",
];

/// Whether fail2ban takes this for true.
pub(super) fn is_true(value: &str) -> bool {
    matches!(value.trim().to_lowercase().as_str(), "1" | "on" | "true" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A jail `x` of these files, and its filter.
    #[track_caller]
    fn read(files: &[(&str, &str)]) -> Fail2banJail {
        let folder = tempfile::tempdir().unwrap();
        for directory in ["filter.d", "jail.d"] {
            std::fs::create_dir(folder.path().join(directory)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let config = Fail2banConfig::read(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        config.jails.into_iter().find(|jail| jail.name == "x").unwrap()
    }

    #[test]
    fn layers_win_in_the_order_of_fail2ban() {
        let jail = read(&[
            ("jail.conf", "[x]\nfilter = f\nmaxretry = 1\nfindtime = 1\nbantime = 1\nport = 1\n"),
            ("jail.d/b.conf", "[x]\nmaxretry = 2\nfindtime = 2\nbantime = 2\n"),
            ("jail.local", "[x]\nenabled = yes\nmaxretry = 3\nfindtime = 3\n"),
            ("jail.d/a.local", "[x]\nmaxretry = 4\n"),
            ("filter.d/f.conf", "[Definition]\nfailregex = a <HOST>\n"),
        ]);
        let got = ["maxretry", "findtime", "bantime", "port"].map(|option| jail.options[option].as_str());
        assert_eq!(got, ["4", "3", "2", "1"]);
        assert!(jail.places["bantime"].ends_with("jail.d/b.conf:4"));
    }

    #[test]
    fn a_jail_can_be_its_own_filter() {
        let own = "failregex = ^a <HOST>$\n  ^b <HOST>$\nignoreregex = calm\n";
        let jail = read(&[("jail.conf", &format!("[x]\nenabled = 1\nfilter =\n{own}"))]);
        assert_eq!((jail.regexes.fail.len(), jail.regexes.ignore.len(), jail.regexes.lines), (2, 1, 1));
        // Beside a filter it is in the place of that, as fail2ban takes it.
        let files = |jail: &'static str| {
            read(&[
                ("jail.conf", jail),
                ("filter.d/f.conf", "[Definition]\nfailregex = ^f <HOST>$\nmaxlines = many\n"),
            ])
        };
        assert_eq!(
            files("[x]\nenabled = 1\nfilter = f\nfailregex = ^a <HOST>$\n").regexes.fail,
            ["^a <HOST>$"]
        );
        assert_eq!(files("[x]\nenabled = 1\nfilter = f\n").regexes.fail, ["^f <HOST>$"]);
    }

    #[test]
    fn what_actions_run_is_changed_in_local_files_and_by_jails() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        for directory in ["filter.d", "action.d"] {
            std::fs::create_dir(folder.path().join(directory)).unwrap();
        }
        let jail =
            "[x]\nenabled = 1\naction = a\n  b[actionunban=\"true\"]\n  c\n[y]\nenabled = 1\naction = d\n";
        write("jail.conf", jail);
        write("action.d/iptables.conf", "[Definition]\nactionban = 0\nactionunban = 0\n");
        write("action.d/iptables.local", "[Definition]\nactionunban = 1\n");
        for name in ["a", "b"] {
            write(&format!("action.d/{name}.conf"), "[Definition]\nactionban = 1\n");
        }
        write("action.d/a.local", "[Definition]\nx = 1\nactionban = 2\n[Init]\ny = 1\n");
        write("action.d/c.conf", "[INCLUDES]\nbefore = iptables.conf\n");
        let jails = Fail2banConfig::read(folder.path()).unwrap().jails;
        let place = format!("{}/", folder.path().display());
        let changed: Vec<String> = jails[0]
            .changed_actions
            .iter()
            .map(|(name, what)| format!("{name}: {}", what.replace(&place, "")))
            .collect();
        let want = [
            "a: `actionban` in action.d/a.local:3",
            "b: `actionunban` in jail.conf:3",
            "c: `actionunban` in action.d/iptables.local:2",
        ];
        assert_eq!(changed, want);
        let fault = jails[1].fault.replace(&place, "");
        assert_eq!(fault, "fail2ban skips it: jail.conf:8: there is no action `d`");
    }

    #[test]
    fn sections_have_what_is_the_default() {
        let jail = read(&[
            ("jail.conf", "[x]\nenabled = 1\nfilter = f\n"),
            (
                "filter.d/f.conf",
                "[DEFAULT]\nfailregex = ^<none/failregex> <HOST>$\n[lt_file]\n_daemon = x\n[Definition]\n\
                 failregex = <lt_<logtype>/failregex>\n",
            ),
        ]);
        assert_eq!(jail.regexes.fail, ["^<none/failregex> <HOST>$"]);
    }

    #[test]
    fn parameters_sections_and_jails_change_a_filter() {
        let jail = read(&[
            (
                "jail.conf",
                "[x]\nenabled = 1\nfilter = f[mode=more, who=\"eve\"]\nfailregex = %(known/failregex)s\n  own <HOST>\n",
            ),
            (
                "filter.d/f.conf",
                "[INCLUDES]\nbefore = base.conf\n[Definition]\n_daemon = fd\n\
                 failregex = ^%(__prefix_line)s<who> <re-<mode>>\nre-less = 0\nre-more = 1 <HOST>\nmode = less\n\
                 [Init]\nwho = nobody\nmaxlines = 3\n",
            ),
            (
                "filter.d/base.conf",
                "[DEFAULT]\n_daemon = \\S*\n__prefix_line = <lt_<logtype>/__prefix_line>\nlogtype = file\n\
                 [lt_file]\n__prefix_line = <_daemon>: \n[lt_journal]\n__prefix_line = j \n",
            ),
            ("filter.d/f.local", "[Definition]\nignoreregex = calm\n"),
        ]);
        assert_eq!(jail.regexes.fail, ["^fd:eve 1 <HOST>", "own <HOST>"]);
        assert_eq!(jail.regexes.ignore, ["calm"]);
        assert_eq!((jail.regexes.header.as_str(), jail.regexes.daemon.as_str()), ("fd:", "fd"));
        let stock = jail.stock.unwrap();
        assert_eq!((stock.fail, stock.ignore), (vec!["^fd:nobody 1 <HOST>".to_owned()], Vec::new()));
    }
}
