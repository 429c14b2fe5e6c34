//! What becomes of a jail: a grammar of ours, or one made of its filter.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use glob::Pattern;

use super::access;
use super::daemons;
use super::library::{self, ConvertedFilter, LineOrigin};
use super::options::NamedOptions;
use super::plan::{ImportedJail, JailOutcome, RefusedLine, list};
use super::read::{Fail2banJail, FilterRegexes};
use super::settings;
use crate::detect::{LIST, MANUAL, WIDE, Watch};
use crate::grammar::{Grammar, Grammars, Lists, SHIPPED};
use crate::tools::setup::SYSLOG_FILES;
use crate::words;

/// A jail as it is here.
#[derive(Default)]
pub(super) struct JailTexts {
    pub(super) imported: ImportedJail,
    /// Its table; empty if there is none.
    pub(super) settings: String,
    /// The name and the text of the grammar that was made.
    pub(super) grammar: Option<(String, String)>,
    /// The files that rsyslog is to read, with the programs whose lines they have.
    pub(super) inputs: Vec<(String, String)>,
    /// What only a human can do.
    pub(super) tasks: Vec<String>,
}

/// Makes jails.
pub(super) struct JailMaker<'g> {
    grammars: &'g Grammars,
    /// The jails that are there, with what they watch.
    jails: &'g [(String, Vec<Watch>)],
    lists: Lists,
    resolve: &'g dyn Fn(&str) -> Vec<IpAddr>,
    in_journal: &'g dyn Fn(&[String]) -> bool,
}

impl<'g> JailMaker<'g> {
    pub(super) fn new(
        grammars: &'g Grammars,
        jails: &'g [(String, Vec<Watch>)],
        resolve: &'g dyn Fn(&str) -> Vec<IpAddr>,
        in_journal: &'g dyn Fn(&[String]) -> bool,
    ) -> Self {
        Self { grammars, jails, lists: Lists::shipped(), resolve, in_journal }
    }

    /// What becomes of a jail.
    pub(super) fn jail(&self, jail: &Fail2banJail) -> JailTexts {
        let place = jail.places.get("enabled").cloned().unwrap_or_default();
        let imported = ImportedJail {
            name: jail_name(&jail.name),
            original: jail.name.clone(),
            lets_in: lets_in(jail),
            place,
            filter: jail.filter.name.clone(),
            ..ImportedJail::default()
        };
        let mut texts = JailTexts { imported, ..JailTexts::default() };
        if jail.filter.name == "recidive" {
            texts.imported.outcome = JailOutcome::NotNeeded;
            texts.imported.notes.push("bans grow: the n-th lasts longer by itself".to_owned());
            return texts;
        }
        if texts.imported.lets_in {
            texts.imported.notes.push(
                "it lets addresses in instead of banning them; `banstream allow` does that by hand"
                    .to_owned(),
            );
            return texts;
        }
        let mode = jail.filter.get("mode").unwrap_or("");
        let (extra, is_stock) = own_regexes(jail);
        let word = words::filter(&jail.filter.name).filter(|word| is_stock && !word.counted.is_empty());
        if let Some(word) = word {
            texts.imported.outcome = JailOutcome::Ours;
            for (grammar, offences) in word.in_mode(mode) {
                texts.imported.grammars.push(grammar.to_owned());
                self.count(&mut texts.imported, &offences);
            }
            self.watch_files(jail, &mut texts.imported);
            self.logs(jail, &mut texts);
            if !extra.fail.is_empty() {
                self.convert(jail, &extra, &mut texts);
            }
        } else if jail.regexes.fail.is_empty() {
            texts.imported.notes.push("it has no `failregex`; `banstream ban` bans by hand".to_owned());
        } else {
            self.convert(jail, &jail.regexes, &mut texts);
            if texts.imported.converted == 0 {
                self.by_name(jail, &mut texts);
                if jail.regexes.fail.iter().any(|regex| regex.contains("\\{") && regex.contains("\":")) {
                    let note = "its lines are JSON, which a grammar reads by key: `banstream grammar new` makes one of them";
                    texts.imported.notes.push(note.to_owned());
                }
            }
            if let Some(word) = words::filter(&jail.filter.name)
                .filter(|word| !word.note.is_empty() && texts.grammar.is_none())
            {
                texts.imported.notes.push(word.note.to_owned());
            }
        }
        // A jail of ours of that name counts something else, and goes on.
        let is_taken = self.jails.iter().any(|(name, _)| *name == texts.imported.name);
        if texts.imported.outcome == JailOutcome::Converted && is_taken {
            texts.imported.name = format!("f2b-{}", texts.imported.name);
            texts
                .imported
                .notes
                .push(format!("called `{}` here, beside a jail of banstream", texts.imported.name));
        }
        texts.imported.ports = settings::ports(jail, &mut texts.imported.notes);
        if !texts.imported.grammars.is_empty() {
            texts.settings = self.table(jail, &mut texts);
        }
        texts
    }

    fn count(&self, imported: &mut ImportedJail, offences: &[&str]) {
        for offence in offences {
            if !imported.offences.iter().any(|known| known == offence) {
                imported.offences.push((*offence).to_owned());
            }
        }
    }

    /// Makes a grammar of these regular expressions.
    fn convert(&self, jail: &Fail2banJail, filter: &FilterRegexes, texts: &mut JailTexts) {
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
            None => library::grammar(&name, filter, &origin, &self.lists),
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
            texts.imported.notes.push(format!(
                "conditions on the access log of {base} (contrib/fail2ban.md says how); a request that several filters find \
                 counts in the first of them"
            ));
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
        texts.grammar = Some((name, converted.text));
    }

    /// Lets the proof look at it together with the grammars that may read the same lines.
    fn prove_together(&self, name: &str, base: Option<(&str, &str)>, converted: &mut ConvertedFilter) {
        if converted.text.is_empty() {
            return;
        }
        let loaded = Grammar::load_with(name, name, &converted.text, base.map(|(_, text)| text), &self.lists);
        let why = match loaded {
            Err(faults) => faults.first().map(|fault| fault.what.clone()).unwrap_or_default(),
            Ok((grammar, _)) => {
                let programs = grammar.programs().iter().map(|program| program.replace('*', "x"));
                let readers = programs
                    .flat_map(|program| self.grammars.readers(program.as_bytes()).collect::<Vec<_>>());
                let names: BTreeSet<&str> =
                    readers.filter_map(|id| Some(self.grammars.get(id)?.name())).collect();
                let others = names.into_iter().filter_map(|name| Grammar::shipped(name, &self.lists).ok());
                match Grammars::new(others.chain([grammar]).collect()) {
                    Ok(_) => return,
                    Err(conflict) => conflict,
                }
            }
        };
        converted.text.clear();
        converted.converted = 0;
        converted.refused.push(library::RefusedRegex {
            regex: "all of it".to_owned(),
            why: format!("beside the grammars that read the same lines: {why}"),
            rule: None,
        });
    }

    /// A grammar of ours that is called as the filter, where nothing could be made of that.
    fn by_name(&self, jail: &Fail2banJail, texts: &mut JailTexts) {
        let name = jail.filter.name.to_lowercase();
        let stem = ["-auth", "-login", "-hard", "-soft", "-admin", "-docker"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(&name);
        let Some(grammar) =
            self.grammars.iter().find(|grammar| grammar.name() == name || grammar.name() == stem)
        else {
            return;
        };
        if !grammar.categories().iter().any(|category| category == "auth-failure") {
            return;
        }
        texts.imported.outcome = JailOutcome::Ours;
        texts.imported.grammars.push(grammar.name().to_owned());
        self.count(&mut texts.imported, &["auth-failure"]);
        texts.imported.notes.push(format!(
            "the grammar `{}` of banstream stands for your filter, which could not be converted; try it with `banstream replay`",
            grammar.name()
        ));
        self.logs(jail, texts);
    }

    /// Whose lines the filter reads.
    fn origin(&self, jail: &Fail2banJail, filter: &FilterRegexes) -> LineOrigin {
        let is_journal = jail.options.get("backend").is_some_and(|backend| backend.starts_with("systemd"));
        let files = own_files(jail);
        let is_file = !is_journal && !files.is_empty();
        let (mut units, mut users) = (Vec::new(), Vec::new());
        let mut programs = if is_file { Vec::new() } else { daemons::named(&filter.daemon) };
        for terms in filter.journal.iter().flat_map(|line| line.split([' ', '+'])) {
            let Some((key, value)) = terms.trim_matches(['"', '\'']).split_once('=') else { continue };
            match key {
                "SYSLOG_IDENTIFIER" | "_COMM" if !is_file => programs.push(value.to_owned()),
                "_SYSTEMD_UNIT" if !is_file => units.push(value.to_owned()),
                _ => {}
            }
        }
        if is_file {
            programs.extend(files.iter().map(|file| self.program_of(file)));
        }
        programs.sort();
        programs.dedup();
        // Who may write a program's lines is known where a grammar of ours reads them.
        for program in &programs {
            let program = program.replace('*', "x");
            let readers = self.grammars.readers(program.as_bytes());
            let mut shipped =
                readers.filter_map(|id| self.grammars.get(id)).filter(|grammar| !grammar.reads_all());
            if let Some(grammar) = shipped.next() {
                units.extend_from_slice(grammar.units());
                users.extend_from_slice(grammar.users());
            }
        }
        for names in [&mut units, &mut users] {
            names.sort();
            names.dedup();
        }
        LineOrigin { programs, units, users, is_file }
    }

    /// The program under whose name the lines of a file are read. All jails that read a file share it: rsyslog gives a file to
    /// one input only.
    fn program_of(&self, file: &str) -> String {
        self.server_of(file).unwrap_or_else(|| {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            let path = file.strip_prefix("/var/log").unwrap_or(file).trim_start_matches('/');
            let path: String = path.trim_end_matches(".log").chars().map(plain).collect();
            format!("f2b-{}", path.trim_matches('-'))
        })
    }

    /// The shipped grammar that reads a file.
    fn grammar_of(&self, file: &str) -> Option<&'g Grammar> {
        self.grammars.iter().find(|grammar| grammar.logs().iter().any(|log| covers(log, file)))
    }

    /// The name and the text of the grammar that reads a file, if that is an access log.
    fn access_log_of(&self, file: &str) -> Option<(&'static str, &'static str)> {
        let name = self.grammar_of(file)?.name();
        let has_shape = |text: &str| {
            text.contains("\nshape access:\n") && text.contains("\"<request:quoted>\" <status:num>")
        };
        SHIPPED.iter().find(|(known, text)| *known == name && has_shape(text)).copied()
    }

    /// The program whose lines stand in a file, by our grammars.
    fn server_of(&self, file: &str) -> Option<String> {
        let grammar = self.grammar_of(file)?;
        grammar.programs().iter().find(|program| !program.contains('*')).cloned()
    }

    /// Lets the jail watch the grammars that read its files, where it watches another server's by its filter.
    fn watch_files(&self, jail: &Fail2banJail, imported: &mut ImportedJail) {
        for grammar in own_files(jail).iter().filter_map(|file| self.grammar_of(file)) {
            let counts = |offence: &String| grammar.categories().contains(offence);
            if !imported.grammars.iter().any(|name| name == grammar.name())
                && imported.offences.iter().any(counts)
            {
                imported.grammars.push(grammar.name().to_owned());
            }
        }
    }

    /// What rsyslog is to read for the jail.
    fn logs(&self, jail: &Fail2banJail, texts: &mut JailTexts) {
        let files = own_files(jail);
        if jail.options.get("backend").is_some_and(|backend| backend.starts_with("systemd"))
            || files.is_empty()
        {
            return;
        }
        for grammar in texts
            .imported
            .grammars
            .iter()
            .filter_map(|name| self.grammars.iter().find(|known| known.name() == *name))
        {
            let Some(program) = grammar.programs().iter().find(|program| !program.contains('*')) else {
                continue;
            };
            let logs: Vec<&String> = grammar.logs().iter().filter(|log| *log != "journal").collect();
            let known: Vec<String> =
                files.iter().filter(|file| logs.iter().any(|log| covers(log, file))).cloned().collect();
            let in_journal =
                grammar.logs().iter().any(|log| log == "journal") && (self.in_journal)(grammar.programs());
            match (known.is_empty(), in_journal, logs.is_empty()) {
                (false, ..) => texts.inputs.extend(known.into_iter().map(|file| (file, program.clone()))),
                (true, true, _) => texts
                    .imported
                    .notes
                    .push(format!("its lines come from the journal, not from {}", files.join(", "))),
                // Another log of the same server, such as its error log.
                (true, false, false)
                    if files.iter().any(|file| logs.iter().any(|log| folder(log) == folder(file))) =>
                {
                    let logs: Vec<String> = logs
                        .iter()
                        .filter(|log| !SYSLOG_FILES.contains(&log.as_str()))
                        .map(|log| (*log).clone())
                        .collect();
                    texts.imported.notes.push(format!("reads {}, not {}", logs.join(", "), files.join(", ")));
                    texts.inputs.extend(logs.into_iter().map(|log| (log, program.clone())));
                }
                (true, false, _) => texts.inputs.extend(files.iter().map(|file| {
                    // One that another server writes is read under its name.
                    (file.clone(), self.server_of(file).unwrap_or_else(|| program.clone()))
                })),
            }
        }
    }

    /// The jail's table.
    fn table(&self, jail: &Fail2banJail, texts: &mut JailTexts) -> String {
        let imported = &mut texts.imported;
        // A jail of that name that is there watches more than fail2ban's.
        let known = self.jails.iter().find(|(name, _)| *name == imported.name);
        for watch in known.into_iter().flat_map(|(_, watches)| watches) {
            let counts = imported.offences.iter().any(|offence| watch.categories.contains(offence));
            if counts && !imported.grammars.contains(&watch.grammar) {
                imported.grammars.push(watch.grammar.clone());
            }
        }
        let mut text = format!(
            "\n# {}, with the filter {}\n[jail.{}]\nenabled = true\n",
            imported.place, imported.filter, imported.name
        );
        text +=
            &format!("grammars = {}\noffences = {}\n", list(&imported.grammars), list(&imported.offences));
        if let Some(retries) = jail.options.get("maxretry") {
            match retries.trim().parse::<u32>() {
                Ok(retries @ 1..=255) => text += &format!("maxretry = {retries}\n"),
                Ok(retries) if retries > 255 => {
                    text += "maxretry = 255\n";
                    imported
                        .notes
                        .push(format!("maxretry = {retries} is 255 here, the most that is counted"));
                }
                _ => imported
                    .notes
                    .push(format!("maxretry = {retries} is not a number of offences; the default counts")),
            }
        }
        for key in ["findtime", "bantime"] {
            let Some(value) = jail.options.get(key) else { continue };
            match settings::span(value) {
                Some(span) if key == "bantime" || span != "forever" && span != "0s" => {
                    text += &format!("{key} = \"{span}\"\n")
                }
                _ => imported.notes.push(format!("{key} = {value} is not a time here; the default counts")),
            }
        }
        if !jail.actions.is_empty() && !jail.actions.iter().any(settings::bans) {
            text += "mode = \"observe\"\n";
            imported.notes.push("only observes: none of its actions bans".to_owned());
        }
        // Even none: a jail of ours of that name may have some.
        text += &format!("ports = {}\n", list(&imported.ports));
        let own = jail.options.get("ignoreip").filter(|_| jail.own.contains("ignoreip"));
        if let Some(ignored) = own.filter(|text| !text.trim().is_empty()) {
            let hosts = settings::ignored(ignored, self.resolve);
            text += &format!("ignoreip = {}\n", list(&hosts.offenders));
            texts.tasks.extend(hosts.unknown.iter().map(|word| {
                format!(
                    "`{word}` in ignoreip of `{}` is neither an address nor a prefix nor a name: it exempts nobody",
                    jail.name
                )
            }));
            texts.tasks.extend(hosts.names.into_iter().map(|(name, found)| {
                let now = if found.is_empty() { "none".to_owned() } else { found.join(" ") };
                format!(
                    "`{name}` in ignoreip of `{}`: only the addresses that it has now are exempt: {now}",
                    jail.name
                )
            }));
        }
        let own: Vec<&str> =
            jail.own.iter().filter(|key| key.starts_with("bantime.")).map(String::as_str).collect();
        if !own.is_empty() {
            texts.tasks.push(format!(
                "`{}` of `{}`: bans of all jails grow alike here, by `[growth]`",
                own.join("`, `"),
                jail.name
            ));
        }
        if jail.options.get("ignorecommand").is_some_and(|command| !command.trim().is_empty()) {
            imported.notes.push("its ignorecommand has no counterpart".to_owned());
            texts.tasks.push(format!(
                "`{}` exempts addresses by a command, which banstream does not run: `banstream allow`, or `ignoreip`",
                jail.name
            ));
        }
        text
    }
}

/// Whether its "bans" let addresses in.
fn lets_in(jail: &Fail2banJail) -> bool {
    let blocks = |action: &NamedOptions| {
        let own = action.get("blocktype").or_else(|| jail.options.get("blocktype").map(String::as_str));
        own.is_none_or(|how| !matches!(how.to_uppercase().as_str(), "RETURN" | "ACCEPT"))
    };
    !jail.actions.is_empty() && !jail.actions.iter().any(blocks)
}

/// The regular expressions that somebody has added to the package's own, and whether all of those are still there.
fn own_regexes(jail: &Fail2banJail) -> (FilterRegexes, bool) {
    let Some(stock) = &jail.stock else { return (FilterRegexes::default(), false) };
    let has = |regexes: &FilterRegexes, regex: &String| regexes.fail.contains(regex);
    let is_stock = stock.fail.iter().any(|regex| has(&jail.regexes, regex));
    let fail = jail.regexes.fail.iter().filter(|regex| !has(stock, regex)).cloned().collect();
    (FilterRegexes { fail, ..jail.regexes.clone() }, is_stock)
}

/// The log files of a jail that no log daemon writes, which may hold `*`.
fn own_files(jail: &Fail2banJail) -> Vec<String> {
    let is_own = |path: &&str| !SYSLOG_FILES.contains(path) && !path.contains(['"', ' ']);
    log_paths(jail).filter(is_own).map(str::to_owned).collect()
}

/// The log files of a jail, which may hold `*`.
pub(super) fn log_paths(jail: &Fail2banJail) -> impl Iterator<Item = &str> {
    let text = jail.options.get("logpath").map(String::as_str).unwrap_or_default();
    let paths =
        text.lines().map(|line| line.trim().trim_end_matches(" tail").trim_end_matches(" head").trim());
    paths.filter(|path| path.starts_with('/'))
}

/// The folder of a file.
fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether files of one pattern are files of another.
pub(super) fn covers(log: &str, file: &str) -> bool {
    log == file || Pattern::new(log).is_ok_and(|pattern| pattern.matches(&file.replace('*', "x")))
}

/// The name of a jail as it can be here.
pub(super) fn jail_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    if [MANUAL, LIST, WIDE].contains(&&*name) { format!("{name}-jail") } else { name }
}
