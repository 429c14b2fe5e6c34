//! What becomes of a jail: a grammar of ours, or one made of its filter.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::access;
use super::counterpart::{is_recidive, spared};
use super::files::LogFileFacts;
use super::filter::FilterRegexes;
use super::library::{self, ConvertedFilter};
use super::options::NamedOptions;
use super::paths::{own_files, refused_paths, shared};
use super::plan::{ImportFacts, ImportedJail, JailOutcome, RefusedLine};
use super::read::{Fail2banJail, is_true};
use super::settings;
use super::substance::{AskFail2ban, TestLines};
use crate::detect::{LIST, MANUAL, WIDE, Watch};
use crate::grammar::{Grammar, Grammars, Lists};
use crate::model::count;
use crate::words::{self, FilterConditions};

/// A jail as it is here.
#[derive(Clone, Default)]
pub(super) struct JailTexts {
    pub(super) imported: ImportedJail,
    /// Its table; empty if there is none.
    pub(super) settings: String,
    /// The names and the texts of the grammars that were made.
    pub(super) made: Vec<(String, String)>,
    /// The files that rsyslog is to read, with the programs whose lines they have.
    pub(super) inputs: Vec<(String, String)>,
    /// Who is exempt besides those in `ignoreip`.
    pub(super) exempt: Vec<String>,
    /// What only a human can do.
    pub(super) tasks: Vec<String>,
}

/// Makes jails.
pub(super) struct JailMaker<'g> {
    pub(super) grammars: &'g Grammars,
    pub(super) files: LogFileFacts<'g>,
    /// The jails that are there, with what they watch.
    pub(super) jails: &'g [(String, Vec<Watch>)],
    /// The names of the jails that were made so far.
    names: RefCell<BTreeSet<String>>,
    lists: Lists,
    /// The grammars that were made so far: their names, texts and the texts that they extend.
    made: RefCell<Vec<(String, String, Option<&'static str>)>>,
    pub(super) tests: TestLines<'g>,
    pub(super) resolve: &'g dyn Fn(&str) -> Vec<IpAddr>,
    pub(super) in_journal: &'g dyn Fn(&[String]) -> bool,
    pub(super) ask: &'g AskFail2ban<'g>,
    /// The programs under whose names files are read that jails of ours share with others.
    pub(super) shared: BTreeMap<String, String>,
    /// What `[DEFAULT]` exempts.
    pub(super) ignored: &'g str,
    /// Whether bans grow if nobody says so.
    grows: bool,
}

impl<'g> JailMaker<'g> {
    pub(super) fn new(facts: &'g ImportFacts<'g>) -> Self {
        let ImportFacts { grammars, jails, files, resolve, in_journal, ask, .. } = facts;
        let (lists, made, tests) = (Lists::shipped(), RefCell::default(), TestLines::new(grammars));
        let (shared, names, defaults) = (BTreeMap::new(), RefCell::default(), &facts.fail2ban.defaults);
        let ignored = defaults.get("ignoreip").map_or("", String::as_str);
        let grows = defaults.get("bantime.increment").is_none_or(|text| is_true(text));
        let files = *files;
        Self {
            grammars,
            files,
            jails,
            names,
            lists,
            made,
            tests,
            resolve,
            in_journal,
            ask,
            shared,
            ignored,
            grows,
        }
    }

    /// What becomes of all jails.
    pub(super) fn jails(&mut self, jails: &[Fail2banJail]) -> Vec<JailTexts> {
        let all: Vec<JailTexts> = jails.iter().map(|jail| self.jail(jail)).collect();
        self.shared = shared(&all);
        if self.shared.is_empty() {
            return all;
        }
        self.made.take();
        self.names.take();
        jails.iter().map(|jail| self.jail(jail)).collect()
    }

    /// What becomes of a jail.
    pub(super) fn jail(&self, jail: &Fail2banJail) -> JailTexts {
        let place = jail.places.get("enabled").cloned().unwrap_or_default();
        let imported = ImportedJail {
            name: self.named(jail_name(&jail.name)),
            original: jail.name.clone(),
            lets_in: lets_in(jail),
            place,
            filter: jail.filter.name.clone(),
            ..ImportedJail::default()
        };
        let mut texts = JailTexts { imported, ..JailTexts::default() };
        if !jail.fault.is_empty() {
            texts.imported.notes.push(jail.fault.clone());
            return texts;
        }
        if is_recidive(jail) {
            texts.imported.outcome = JailOutcome::NotNeeded;
            texts.imported.notes.push("bans grow: the n-th lasts longer by itself".to_owned());
            texts.imported.notes.push(recidive(jail));
            if !self.grows {
                texts.tasks.push(format!(
                    "`{}`: `bantime.increment = false` keeps bans from growing, so nothing stands for it: delete `factor = 1` \
                     from `[growth]` if they are to grow",
                    jail.name
                ));
            }
            let longest = jail.options.get("bantime").and_then(|text| settings::span(text));
            texts.tasks.extend(longest.filter(|span| span == "forever").map(|_| {
                format!(
                    "`{}` bans without an end; here the n-th ban lasts longer, up to `[growth] cap`: raise that, or `banstream \
                     ban` by hand",
                    jail.name
                )
            }));
            return texts;
        }
        if texts.imported.lets_in {
            texts.imported.notes.push(
                "it lets addresses in instead of banning them; `banstream allow` does that by hand"
                    .to_owned(),
            );
            return texts;
        }
        texts.tasks.extend(refused_paths(jail).map(|path| {
            format!(
                "`{}`: nothing reads `{path}` of its `logpath`: write one path in a line, without quotes and backslashes",
                jail.name
            )
        }));
        let jail = &self.with_messages(jail, &mut texts);
        let mut note = "";
        if let Some((word, extra)) = self.known(jail, &mut texts) {
            texts.imported.outcome = JailOutcome::Ours;
            let mode = jail.filter.get("mode").unwrap_or("");
            let conditions: Vec<&FilterConditions> = words::conditions(word.name, mode).collect();
            if conditions.is_empty() {
                for (grammar, offences) in word.in_mode(mode) {
                    texts.imported.grammars.push(grammar.to_owned());
                    self.count(&mut texts.imported, &offences);
                }
                self.watch_files(jail, &mut texts.imported);
            }
            texts.imported.grammars.extend(conditions.iter().map(|conditions| conditions.base.to_owned()));
            texts.imported.notes.extend(words::differs(word.name).map(|how| format!("differs: {how}")));
            texts.imported.notes.extend(changed(jail));
            self.logs(jail, &mut texts);
            if !conditions.is_empty() {
                self.add_conditions(&conditions, &mut texts);
            }
            note = word.note;
            if !extra.fail.is_empty() {
                self.convert(jail, &extra, &mut texts);
            }
        } else if jail.regexes.fail.is_empty() {
            texts.imported.notes.push("it has no `failregex`; `banstream ban` bans by hand".to_owned());
        } else {
            self.own(jail, &mut texts);
        }
        if texts.imported.outcome == JailOutcome::Ours {
            spared(jail, &mut texts);
        }
        match self.leave_out_forgeable(jail, &mut texts) {
            _ if note.is_empty() => {}
            // What is to be done about such a file is said already.
            true => texts.imported.notes.push(note.to_owned()),
            false => texts.tasks.push(format!("`{}`: {note}", jail.name)),
        }
        // A jail of ours of that name counts something else, and goes on.
        let is_taken = self.jails.iter().any(|(name, _)| *name == texts.imported.name);
        if texts.imported.outcome == JailOutcome::Converted && is_taken {
            texts.imported.name = self.named(format!("f2b-{}", texts.imported.name));
            texts
                .imported
                .notes
                .push(format!("called `{}` here, beside a jail of banstream", texts.imported.name));
        } else if texts.imported.name != jail.name {
            let note = format!(
                "called `{}` here: of a name, letters, digits, `-` and `_` are kept",
                texts.imported.name
            );
            texts.imported.notes.push(note);
        }
        texts.imported.ports = settings::ports(jail, &mut texts.imported.notes);
        if !texts.imported.grammars.is_empty() {
            texts.settings = self.table(jail, &mut texts);
        }
        texts
    }

    /// The name, or a number behind it where it is taken.
    fn named(&self, name: String) -> String {
        let mut names = self.names.borrow_mut();
        let is_free = |name: &String| !names.contains(name);
        let numbered = (2..).map(|nth| format!("{name}-{nth}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name);
        names.insert(name.clone());
        name
    }

    /// Lets the jail count what fulfils these conditions, in the place of categories of their bases.
    fn add_conditions(&self, conditions: &[&FilterConditions], texts: &mut JailTexts) {
        texts.imported.grammars.clear();
        for FilterConditions { filter, base, sections, .. } in conditions {
            let name = format!("f2b-{}-{base}", texts.imported.name);
            texts.imported.grammars.push(name.clone());
            self.count(&mut texts.imported, &[filter]);
            texts.made.push((name, format!("{}extends: {base}\n{sections}", library::HEADER)));
        }
    }

    pub(super) fn count(&self, imported: &mut ImportedJail, offences: &[&str]) {
        for offence in offences {
            if !imported.offences.iter().any(|known| known == offence) {
                imported.offences.push((*offence).to_owned());
            }
        }
    }

    /// Makes a grammar of these regular expressions.
    pub(super) fn convert(&self, jail: &Fail2banJail, filter: &FilterRegexes, texts: &mut JailTexts) {
        if jail.options.get("ignorecommand").is_some_and(|command| !command.trim().is_empty()) {
            texts.imported.notes.push(
                "its `ignorecommand` decides who is let be, and without it too many would be banned"
                    .to_owned(),
            );
            return;
        }
        let name = format!("f2b-{}", texts.imported.name);
        let origin = self.origin(jail, filter);
        if origin.programs.is_empty() {
            texts.imported.notes.push(
                "nothing says which program writes its lines (`journalmatch` with `SYSLOG_IDENTIFIER`, or `_daemon`): \
                 `banstream grammar new --program NAME` makes a grammar of lines"
                    .to_owned(),
            );
            return;
        }
        if filter.lines > 1 && filter.fail.iter().any(|regex| regex.contains("\\n")) {
            texts.imported.notes.push("its filter joins lines (`maxlines`)".to_owned());
        }
        let base = origin
            .is_file
            .then(|| own_files(jail).iter().find_map(|file| self.access_log_of(file)))
            .flatten();
        let mut converted = match base {
            Some(base) => access::grammar(&name, base, filter, &self.lists),
            None => library::grammar(&name, filter, &origin, &self.lists, &|text| {
                let made = Grammar::load(&name, &name, text, &self.lists);
                let (made, _) = made.map_err(|faults| library::first_error(&faults))?;
                Grammars::new(self.beside(made)).map(drop)
            }),
        };
        self.prove_together(&name, base, &mut converted);
        texts.imported.converted = converted.converted;
        texts.imported.refused.extend(converted.refused.iter().map(|one| RefusedLine {
            regex: one.regex.clone(),
            why: match &one.rule {
                Some(rule) => format!("the rule `{rule}` is refused: {}", one.why),
                None => one.why.clone(),
            },
        }));
        if converted.text.is_empty() {
            return;
        }
        if texts.imported.outcome == JailOutcome::NotConverted {
            texts.imported.outcome = JailOutcome::Converted;
        }
        if let Some((base, _)) = base {
            texts
                .imported
                .notes
                .push(format!("conditions on the access log of {base} (contrib/fail2ban.md says how)"));
        }
        if base.is_none()
            && filter.prefix.is_none()
            && filter.fail.iter().any(|regex| !regex.starts_with('^'))
        {
            texts.imported.notes.push(
                "a failregex without `^` also reads a line that begins with what somebody typed, and bans the address in that: \
                 begin it with `^`"
                    .to_owned(),
            );
        }
        texts.imported.notes.append(&mut converted.notes);
        for (tags, family, other) in [(["<IP4>", "<F-IP4/>"], 4, 6), (["<IP6>", "<F-IP6/>"], 6, 4)] {
            if filter.fail.iter().any(|regex| tags.iter().any(|tag| regex.contains(tag))) {
                texts.imported.notes.push(format!(
                    "counts addresses of IPv{other} too, where its failregex wants `<IP{family}>`"
                ));
            }
        }
        texts.imported.notes.extend(converted.trial.notes());
        let unread = converted.trial.unread_note();
        texts.tasks.extend(unread.map(|note| format!("`{}`: {note}", texts.imported.original)));
        texts.imported.trial = converted.trial;
        texts.imported.grammars.push(name.clone());
        self.count(&mut texts.imported, &[&converted.category]);
        match origin.is_file {
            true => {
                let files = own_files(jail).into_iter();
                texts.inputs.extend(files.map(|file| {
                    let program = self.program_of(&file);
                    (file, program)
                }));
            }
            false if origin.units.is_empty() && origin.users.is_empty() => texts.imported.notes.push(format!(
                "counts lines of {} only if root has written them: add `unit: NAME.service` to its grammar if the service runs as \
                 another user",
                origin.programs.join(" ")
            )),
            false => {}
        }
        texts.made.push((name, converted.text));
    }

    /// Lets the proof look at it together with the grammars that may read the same lines.
    fn prove_together(
        &self,
        name: &str,
        base: Option<(&'static str, &'static str)>,
        converted: &mut ConvertedFilter,
    ) {
        if converted.text.is_empty() {
            return;
        }
        let base = base.map(|(_, text)| text);
        let why = match Grammar::load_with(name, name, &converted.text, base, &self.lists) {
            Err(faults) => faults.first().map(|fault| fault.what.clone()).unwrap_or_default(),
            Ok((grammar, _)) => match Grammars::new(self.beside(grammar)) {
                Ok(_) => {
                    self.made.borrow_mut().push((name.to_owned(), converted.text.clone(), base));
                    return;
                }
                Err(conflict) => conflict,
            },
        };
        converted.text.clear();
        converted.converted = 0;
        converted.refused.push(library::RefusedRegex {
            regex: "all of it".to_owned(),
            why: format!("beside the grammars that read the same lines: {why}"),
            rule: None,
        });
    }

    /// A grammar with those that may read the same lines: those in force, and those that were made so far.
    fn beside(&self, grammar: Grammar) -> Vec<Grammar> {
        let programs = || grammar.programs().iter().map(|program| program.replace('*', "x"));
        let readers =
            programs().flat_map(|program| self.grammars.readers(program.as_bytes()).collect::<Vec<_>>());
        let names: BTreeSet<&str> = readers.filter_map(|id| Some(self.grammars.get(id)?.name())).collect();
        let others = names.into_iter().filter_map(|name| self.grammars.copy(name, &self.lists));
        let made = self.made.borrow();
        let made = made.iter().filter_map(|(name, text, base)| {
            let (made, _) = Grammar::load_with(name, name, text, *base, &self.lists).ok()?;
            let is_wide = |grammar: &Grammar| grammar.programs().iter().any(|program| program.contains('*'));
            let shares = is_wide(&made)
                || is_wide(&grammar)
                || grammar.programs().iter().any(|program| made.programs().contains(program));
            shares.then_some(made)
        });
        let mut all: Vec<Grammar> = others.chain(made).collect();
        all.push(grammar);
        all
    }
}

/// What a jail that bans for bans does that growing bans do not.
fn recidive(jail: &Fail2banJail) -> String {
    let option = |key: &str, usual: &str| jail.options.get(key).map_or(usual, |text| text.trim()).to_owned();
    let time = |key: &str| {
        let text = option(key, "10m");
        settings::span(&text).unwrap_or(text)
    };
    let ports = match settings::ports(jail, &mut Vec::new()).join(" ") {
        all if all.is_empty() => "all ports".to_owned(),
        some => some,
    };
    let (retries, findtime, bantime) = (option("maxretry", "5"), time("findtime"), time("bantime"));
    format!(
        "no counterpart: after {retries} bans of any jails in {findtime} it bans on {ports} for {bantime}; here the jail that counts \
         bans longer each time, on its own ports"
    )
}

/// Whether its "bans" let addresses in.
fn lets_in(jail: &Fail2banJail) -> bool {
    let blocks = |action: &NamedOptions| {
        let own = action.get("blocktype").or_else(|| jail.options.get("blocktype").map(String::as_str));
        own.is_none_or(|how| !matches!(how.to_uppercase().as_str(), "RETURN" | "ACCEPT"))
    };
    !jail.actions.is_empty() && !jail.actions.iter().any(blocks)
}

/// What the parameters of its filter change, which is more than a grammar of ours knows.
fn changed(jail: &Fail2banJail) -> Option<String> {
    let parameters = jail.filter.parameters().join(", ");
    let stock = jail.stock.as_ref()?;
    let gone = stock.fail.iter().filter(|regex| !jail.regexes.fail.contains(regex)).count();
    (gone > 0 && !parameters.is_empty()).then(|| {
        format!(
            "`{parameters}` changes {} of its filter, which are converted; what they match without it counts too",
            count(gone as u64, "failregex")
        )
    })
}

/// The name of a jail as it can be here, whatever it is called there: it begins with a letter or a digit.
pub(super) fn jail_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_start_matches(['-', '_']);
    match name {
        "" => "jail".to_owned(),
        name if [MANUAL, LIST, WIDE].contains(&name) => format!("{name}-jail"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::jail_name;

    #[test]
    fn any_name_becomes_one_that_a_jail_can_have() {
        for (name, want) in [
            ("sshd", "sshd"),
            ("My Jail", "My-Jail"),
            ("jail.with.dots", "jail-with-dots"),
            ("\u{fc}mlaut", "mlaut"),
            ("--x", "x"),
            ("\u{65e5}\u{672c}", "jail"),
            ("manual", "manual-jail"),
            (".list", "list-jail"),
        ] {
            assert_eq!(jail_name(name), want);
            assert!(crate::config::is_jail_name(want));
        }
    }
}
