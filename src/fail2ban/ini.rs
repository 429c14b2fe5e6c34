//! fail2ban's files: sections, includes, layers and `%(name)s`, as its own reader takes them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is wrong with fail2ban's configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IniError {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// What is wrong, for people.
    pub what: String,
}

impl fmt::Display for IniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        match line {
            0 => write!(f, "{}: {what}", file.display()),
            line => write!(f, "{}:{line}: {what}", file.display()),
        }
    }
}

impl std::error::Error for IniError {}

/// The value of an option as it is written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IniValue {
    pub(super) text: String,
    pub(super) file: Arc<Path>,
    pub(super) line: usize,
}

impl IniValue {
    pub(super) fn error(&self, what: String) -> IniError {
        IniError { file: self.file.to_path_buf(), line: self.line, what }
    }
}

/// Options by their names, in lower case.
pub(super) type IniSection = BTreeMap<String, IniValue>;

/// Values that come before those of the files, by name.
pub(super) type Variables = BTreeMap<String, String>;

/// Files that are laid over each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Ini {
    pub(super) defaults: IniSection,
    pub(super) sections: BTreeMap<String, IniSection>,
    /// What a later file has replaced, by section: `%(known/name)s`.
    known: BTreeMap<String, IniSection>,
    /// The files that were read, in their order.
    pub(super) files: Vec<PathBuf>,
    /// Those of them that are not UTF-8, which fail2ban leaves out.
    pub(super) not_utf8: Vec<PathBuf>,
    /// How much text was handled to fill in values.
    filled: Cell<usize>,
}

/// Values inside values, and no deeper.
const DEPTH: usize = 10;
/// So much text is handled to fill in a value at most, and to fill in all values of these files.
const LONGEST_VALUE: usize = 1 << 20;
const MOST_FILLED: usize = 1 << 26;
/// The longest file that is read.
const LONGEST_FILE: u64 = 1 << 20;
/// Files that include each other, and no more.
const MOST_FILES: usize = 256;

impl Ini {
    /// Reads these of the files that exist, with what they include; the last one wins.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a line in it is not understood.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, IniError> {
        let mut ini = Self::default();
        for path in paths.iter().filter(|path| path.exists()) {
            ini.include(path, &mut Vec::new())?;
        }
        Ok(ini)
    }

    fn include(&mut self, path: &Path, seen: &mut Vec<PathBuf>) -> Result<(), IniError> {
        let Some(file) = parse(path)? else { return Ok(()) };
        if self.files.len() >= MOST_FILES {
            let what = "too many files include each other".to_owned();
            return Err(IniError { file: path.to_owned(), line: 0, what });
        }
        let includes = |which: &str| {
            let list = file.sections.get("INCLUDES").and_then(|includes| includes.get(which));
            let list = list.map(|value| value.text.as_str()).unwrap_or_default();
            let folder = path.parent().unwrap_or(Path::new("."));
            list.lines().filter(|name| !name.is_empty()).map(|name| folder.join(name)).collect::<Vec<_>>()
        };
        let (before, after) = (includes("before"), includes("after"));
        seen.push(path.to_owned());
        for included in before {
            self.include_with_local(&included, seen)?;
        }
        self.lay(path, file);
        for included in after {
            self.include_with_local(&included, seen)?;
        }
        seen.pop();
        Ok(())
    }

    fn include_with_local(&mut self, path: &Path, seen: &mut Vec<PathBuf>) -> Result<(), IniError> {
        if seen.iter().any(|seen| seen == path) {
            return Ok(());
        }
        self.include(path, seen)?;
        let local = path.with_extension("local");
        if local != path { self.include(&local, seen) } else { Ok(()) }
    }

    /// Lays a file over what is there.
    fn lay(&mut self, path: &Path, file: IniFile) {
        self.files.push(path.to_owned());
        self.not_utf8.extend(file.is_not_utf8.then(|| path.to_owned()));
        self.defaults.extend(file.defaults);
        for (name, options) in file.sections {
            // `[Init?family=inet6]` sets `name?family=inet6` in `[Init]`.
            let conditional = name.split_once('?').map(|(name, when)| (name.to_owned(), format!("?{when}")));
            let (name, suffix) = conditional.unwrap_or((name, String::new()));
            let section = self.sections.entry(name.clone()).or_default();
            let known = self.known.entry(name).or_default();
            for (key, value) in options {
                let key = format!("{key}{suffix}");
                if let Some(before) = section.insert(key.clone(), value) {
                    known.insert(key, before);
                }
            }
        }
    }

    /// The value of an option as it is written: of the section, or else the default.
    pub(super) fn raw(&self, section: &str, option: &str) -> Option<&IniValue> {
        self.sections
            .get(section)
            .and_then(|options| options.get(option))
            .or_else(|| self.defaults.get(option))
    }

    /// The value of an option with all `%(…)s` filled in; `None` where there is none. `option` may be `section/name`.
    ///
    /// # Errors
    ///
    /// A `%` is not understood, or a name is unknown.
    pub(super) fn get(
        &self,
        section: &str,
        option: &str,
        variables: &Variables,
    ) -> Result<Option<String>, IniError> {
        let option = option.to_lowercase();
        if let Some((other, name)) = option.split_once('/') {
            let found = match other {
                "known" => self.known_value(section, name).or_else(|| self.raw(section, name)),
                "default" => self.defaults.get(name),
                other => self.raw_in(other, name),
            };
            // Such a value is filled in as one of its own section.
            let home = if matches!(other, "known" | "default") { section } else { other };
            if let Some(value) = found {
                return self.filled(value, home, variables).map(Some);
            }
        }
        if let Some(text) = variables.get(&option) {
            return Ok(Some(text.clone()));
        }
        let Some(value) = self.raw(section, &option) else { return Ok(None) };
        self.filled(value, section, variables).map(Some)
    }

    fn known_value(&self, section: &str, name: &str) -> Option<&IniValue> {
        self.known.get(section).and_then(|known| known.get(name))
    }

    /// The value of an option in a section that there is, or else the default. Its name may be written in lower case.
    fn raw_in(&self, section: &str, name: &str) -> Option<&IniValue> {
        let exact = self.sections.get(section);
        let found = exact.or_else(|| {
            let mut all = self.sections.iter();
            all.find(|(known, _)| known.to_lowercase() == section).map(|(_, options)| options)
        });
        found.and_then(|options| options.get(name).or_else(|| self.defaults.get(name)))
    }

    /// What `%(name)s` stands for, as it is written.
    fn named<'v>(&'v self, section: &'v str, name: &str, variables: &'v Variables) -> Option<&'v str> {
        if let Some(text) = variables.get(name) {
            return Some(text);
        }
        if name == "__name__" {
            return Some(section);
        }
        let value = match name.split_once('/') {
            Some(("known", name)) => self.known_value(section, name).or_else(|| self.defaults.get(name)),
            Some(("default", name)) => self.defaults.get(name),
            Some((other, name)) => self.raw_in(other, name).or_else(|| self.defaults.get(name)),
            None => self.raw(section, name),
        };
        value.map(|value| value.text.as_str())
    }

    fn filled(&self, place: &IniValue, section: &str, variables: &Variables) -> Result<String, IniError> {
        let mut filler = Filler { ini: self, section, variables, place, handled: 0 };
        let filled = filler.fill(&place.text, 0);
        self.filled.set(self.filled.get().saturating_add(filler.handled));
        filled
    }
}

/// Fills in one value.
struct Filler<'i> {
    ini: &'i Ini,
    section: &'i str,
    variables: &'i Variables,
    place: &'i IniValue,
    /// How much text was handled. That bounds the steps as well as the value.
    handled: usize,
}

impl Filler<'_> {
    fn handle(&mut self, text: &str) -> Result<(), IniError> {
        self.handled = self.handled.saturating_add(text.len() + 1);
        match () {
            () if self.handled > LONGEST_VALUE => {
                Err(self.place.error("filled in, it is longer than 1 MiB".to_owned()))
            }
            () if self.handled.saturating_add(self.ini.filled.get()) > MOST_FILLED => {
                Err(self.place.error("filled in, all values together are longer than 64 MiB".to_owned()))
            }
            () => Ok(()),
        }
    }

    fn fill(&mut self, text: &str, depth: usize) -> Result<String, IniError> {
        let Self { ini, section, variables, place, .. } = *self;
        if depth > DEPTH {
            return Err(place.error("values refer to each other without an end".to_owned()));
        }
        self.handle(text)?;
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            filled += before;
            if let Some(after) = after.strip_prefix('%') {
                filled.push('%');
                rest = after;
                continue;
            }
            let reference = after.strip_prefix('(').and_then(|inside| inside.split_once(")s"));
            let Some((name, after)) = reference else {
                let what = "a `%` must be followed by `%` or by `(name)s`".to_owned();
                return Err(place.error(what));
            };
            let name = name.to_lowercase();
            let Some(value) = ini.named(section, &name, variables) else {
                return Err(place.error(format!("unknown name in `%({name})s`")));
            };
            // What jails and parameters bring is filled in already.
            filled += &if variables.contains_key(&name) {
                self.handle(value)?;
                value.to_owned()
            } else {
                self.fill(value, depth + 1)?
            };
            rest = after;
        }
        Ok(filled + rest)
    }
}

/// One file.
#[derive(Default)]
struct IniFile {
    defaults: IniSection,
    sections: BTreeMap<String, IniSection>,
    is_not_utf8: bool,
}

impl IniFile {
    fn section(&mut self, name: &str) -> &mut IniSection {
        match name {
            "DEFAULT" => &mut self.defaults,
            name => self.sections.entry(name.to_owned()).or_default(),
        }
    }
}

/// Reads a file; `None` where it does not exist.
fn parse(path: &Path) -> Result<Option<IniFile>, IniError> {
    let fault = |line, what: String| IniError { file: path.to_owned(), line, what };
    // To open a pipe would wait for its writer, so its kind is asked first.
    let read = || -> std::io::Result<Result<Vec<u8>, &str>> {
        if !path.metadata()?.is_file() {
            return Ok(Err("is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
        Ok(if bytes.len() as u64 > LONGEST_FILE { Err("is longer than 1 MiB") } else { Ok(bytes) })
    };
    let bytes = match read() {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(what)) => return Err(fault(0, what.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(0, format!("cannot be read: {error}"))),
    };
    let text = String::from_utf8_lossy(&bytes);
    let is_not_utf8 = std::str::from_utf8(&bytes).is_err();
    parse_text(path, &text).map(|file| Some(IniFile { is_not_utf8, ..file }))
}

fn parse_text(path: &Path, text: &str) -> Result<IniFile, IniError> {
    let place: Arc<Path> = path.into();
    let fault = |line, what: String| IniError { file: path.to_owned(), line, what };
    let mut file = IniFile::default();
    let mut section: Option<String> = None;
    // The option that an indented line belongs to, and how far that is indented.
    let mut open: Option<(String, usize)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let (content, is_commented) = without_comment(line);
        let body = content.trim();
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        let current = section.as_ref().zip(open.as_ref());
        if body.is_empty() {
            if let Some((section, (option, _))) = current.filter(|_| !is_commented)
                && let Some(value) = file.section(section).get_mut(option)
            {
                value.text.push('\n');
            }
            continue;
        }
        if let Some((section, (option, _))) = current.filter(|(_, (_, outer))| indent > *outer) {
            if let Some(value) = file.section(section).get_mut(option) {
                value.text.push('\n');
                value.text += body;
            }
            continue;
        }
        if let Some(name) = body.strip_prefix('[').and_then(|rest| Some(rest.rsplit_once(']')?.0)) {
            if name != "DEFAULT" && file.sections.contains_key(name) {
                return Err(fault(number, format!("the section `[{name}]` is there twice")));
            }
            let _ = file.section(name);
            (section, open) = (Some(name.to_owned()), None);
            continue;
        }
        let Some(section) = &section else {
            return Err(fault(number, "this line is in no `[section]`".to_owned()));
        };
        let Some((key, value)) = body.split_once(['=', ':']) else {
            return Err(fault(number, "neither a section nor `name = value`; is the file cut?".to_owned()));
        };
        let key = key.trim().to_lowercase();
        let text = value.trim().to_owned();
        let value = IniValue { text, file: Arc::clone(&place), line: number };
        if file.section(section).insert(key.clone(), value).is_some() {
            return Err(fault(number, format!("`{key}` is there twice in `[{section}]`")));
        }
        open = Some((key, indent));
    }
    let all = file.sections.values_mut().chain(std::iter::once(&mut file.defaults));
    all.flat_map(BTreeMap::values_mut).for_each(|value| {
        let kept = value.text.trim_end().len();
        value.text.truncate(kept);
    });
    Ok(file)
}

/// A line without its comment, and whether it had one: a whole line behind `#` or `;`, and the rest behind a `;` that
/// follows a space.
fn without_comment(line: &str) -> (&str, bool) {
    if line.trim_start().starts_with(['#', ';']) {
        return ("", true);
    }
    let mut spaced = false;
    let start = line.char_indices().find(|(_, c)| {
        let found = *c == ';' && spaced;
        spaced = c.is_whitespace();
        found
    });
    match start {
        Some((at, _)) => (line.get(..at).unwrap_or_default(), true),
        None => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Ini, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let paths: Vec<PathBuf> =
            ["jail.conf", "jail.local"].iter().map(|name| folder.path().join(name)).collect();
        let place = format!("{}/", folder.path().display());
        Ini::read(&paths).map_err(|error| error.to_string().replace(&place, ""))
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], section: &str, option: &str, want: &str) {
        let ini = read(files).unwrap();
        let got = ini.get(section, option, &Variables::new()).unwrap().unwrap_or_default();
        assert_eq!(got, want);
    }

    #[test]
    fn what_is_hostile_has_an_end() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            let got = read(&[("jail.local", text)])
                .and_then(|ini| ini.get("a", "v9", &Variables::new()).map_err(|error| error.what));
            assert_eq!(got, Err(want.to_owned()));
        }
        for end in ["", "x"] {
            let levels =
                (1..=9).map(|level| format!("v{level} = {}\n", format!("%(v{})s", level - 1).repeat(30)));
            let text = format!("[a]\nv0 = {end}\n{}", levels.collect::<String>());
            check(&text, "filled in, it is longer than 1 MiB");
        }
        check(&format!("[a]\n{}", "#\n".repeat(1 << 19)), "jail.local: is longer than 1 MiB");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jail.local");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [path, "/dev/zero".into(), folder.path().to_owned()] {
            assert_eq!(Ini::read(&[path]).unwrap_err().what, "is not a regular file");
        }
        // All values together have an end, too.
        let long = "x".repeat(1 << 19);
        let ini = read(&[("jail.local", &format!("[a]\nx = {long}\n"))]).unwrap();
        let fault = (0..1000).find_map(|_| ini.get("a", "x", &Variables::new()).err()).unwrap();
        assert_eq!(fault.what, "filled in, all values together are longer than 64 MiB");
    }

    #[test]
    fn values_continue_where_lines_are_indented_and_end_at_comments() {
        let text = "[a]\nx = one\n    two ; no\n # not this\n\n    three\ny: 1;2\n;z = 3\nw = a ;b\n";
        check(&[("jail.conf", text)], "a", "x", "one\ntwo\n\nthree");
        check(&[("jail.conf", text)], "a", "y", "1;2");
        check(&[("jail.conf", text)], "a", "z", "");
        check(&[("jail.conf", text)], "a", "W", "a");
    }

    #[test]
    fn later_files_win_and_know_what_they_replace() {
        let files = [
            (
                "jail.conf",
                "[INCLUDES]\nbefore = p.conf\nafter = q.local\n[DEFAULT]\nb = 1\n[a]\nx = %(p)s %(b)s\n",
            ),
            ("p.conf", "[DEFAULT]\np = from p\n[a]\ny = p\n"),
            ("p.local", "[DEFAULT]\np = from its local\n"),
            (
                "jail.local",
                "[DEFAULT]\nb = 2\n[a]\nx = %(known/x)s and %(__name__)s\nz = %(default/b)s %(other/q)s 5%%\n[other]\nq = 9\n",
            ),
        ];
        check(&files, "a", "x", "from its local 2 and a");
        check(&files, "a", "y", "p");
        check(&files, "a", "z", "2 9 5%");
    }

    #[test]
    fn conditional_sections_are_options_with_a_condition() {
        let ini = read(&[("jail.conf", "[Init]\na = 4\n[Init?family=inet6]\na = 6\n")]).unwrap();
        let get = |name| ini.get("Init", name, &Variables::new()).unwrap();
        assert_eq!([get("a"), get("a?family=inet6")], [Some("4".into()), Some("6".into())]);
    }

    #[test]
    fn faults_have_a_place() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            let ini = read(&[("jail.conf", text)]);
            let got = ini.and_then(|ini| {
                ini.get("a", "x", &Variables::new()).map_err(|error| {
                    let text = error.to_string();
                    text.rsplit_once('/').map_or(text.clone(), |(_, name)| name.to_owned())
                })
            });
            assert_eq!(got, Err(want.to_owned()));
        }
        check("x = 1\n", "jail.conf:1: this line is in no `[section]`");
        check("[a]\nx = 1\nban", "jail.conf:3: neither a section nor `name = value`; is the file cut?");
        check("[a]\nx = 1\nx = 2\n", "jail.conf:3: `x` is there twice in `[a]`");
        check("[a]\n[a]\n", "jail.conf:2: the section `[a]` is there twice");
        check("[a]\n\nx = %(nobody)s\n", "jail.conf:3: unknown name in `%(nobody)s`");
        check("[a]\nx = 100%\n", "jail.conf:2: a `%` must be followed by `%` or by `(name)s`");
        check("[a]\nx = %(x)s\n", "jail.conf:2: values refer to each other without an end");
    }

    #[test]
    fn files_that_include_each_other_end() {
        let files = [
            ("jail.conf", "[INCLUDES]\nbefore = p.conf\n[a]\nx = 1\n"),
            ("p.conf", "[INCLUDES]\nafter = jail.conf\n[a]\nx = 2\n"),
        ];
        check(&files, "a", "x", "1");
    }
}
