//! The table of a jail, with its settings as they are here.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use super::jails::{JailMaker, JailTexts};
use super::plan::list;
use super::read::Fail2banJail;
use super::settings;

impl JailMaker<'_> {
    /// The jail's table.
    pub(super) fn table(&self, jail: &Fail2banJail, texts: &mut JailTexts) -> String {
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
        let mut observes = String::new();
        if let Some(retries) = jail.options.get("maxretry") {
            match retries.trim().parse::<u32>() {
                Ok(retries @ 1..=255) => text += &format!("maxretry = {retries}\n"),
                Ok(retries) if retries > 255 => {
                    text += "maxretry = 255\n";
                    observes = format!("banstream counts up to 255, and its `maxretry` is {retries}");
                    texts.tasks.push(format!(
                        "`{}` only observes, since it counts up to 255 instead of {retries}: choose other values of `maxretry` and \
                         `findtime`, and delete `mode`",
                        jail.name
                    ));
                }
                Ok(_) => {
                    text += "maxretry = 1\n";
                    texts.tasks.push(not_here(jail, "maxretry", "is less than one offence; 1 counts here"));
                }
                _ => texts.tasks.push(not_here(jail, "maxretry", "is not a number; the default counts here")),
            }
        }
        for key in ["findtime", "bantime"] {
            let Some(value) = jail.options.get(key) else { continue };
            match settings::span(value) {
                Some(span) if key == "bantime" && span == "0s" => {
                    observes = "its `bantime` is 0".to_owned();
                }
                Some(span) if key == "bantime" || span != "forever" && span != "0s" => {
                    text += &format!("{key} = \"{span}\"\n")
                }
                _ => texts.tasks.push(not_here(jail, key, "is not a time; the default counts here")),
            }
        }
        let elsewhere = jail.actions.iter().find(|action| settings::bans_elsewhere(action));
        if jail.options.contains_key("action") && !jail.actions.iter().any(settings::bans) {
            match elsewhere {
                Some(action) => imported.notes.push(format!(
                    "its action `{}` bans elsewhere; here the kernel bans, too, on all ports",
                    action.name
                )),
                None => observes = "none of its actions bans".to_owned(),
            }
        }
        if !observes.is_empty() {
            let told = jail.actions.iter().find(|action| settings::is_told(action));
            texts.tasks.extend(told.map(|action| {
                format!(
                    "`{}` only observes ({observes}), so its action `{}` gets no bans: delete `mode` from \
                     `[jail.{}]` if it is to ban",
                    jail.name, action.name, imported.name
                )
            }));
            text += "mode = \"observe\"\n";
            imported.notes.push(format!("only observes: {observes}"));
        }
        imported.notes.extend(settings::without_counterpart(jail));
        // Even none: a jail of ours of that name may have some.
        text += &format!("ports = {}\n", list(&imported.ports));
        let own = jail.options.get("ignoreip").filter(|_| jail.own.contains("ignoreip"));
        let own = own.map_or("", String::as_str).trim();
        let is_lost = |word: &str| !own.split([',', ' ', '\t', '\n']).any(|kept| kept == word);
        if !own.is_empty()
            && self.ignored.split([',', ' ', '\t', '\n']).any(|word| !word.is_empty() && is_lost(word))
        {
            imported.notes.push(
                "its `ignoreip` counts beside that of `[DEFAULT]` here; in fail2ban it is in its place"
                    .to_owned(),
            );
        }
        if !own.is_empty() || !texts.exempt.is_empty() {
            let hosts = settings::ignored(&format!("{own} {}", texts.exempt.join(" ")), self.resolve);
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

/// What is wrong with the value of a setting of a jail, as a task.
fn not_here(jail: &Fail2banJail, key: &str, what: &str) -> String {
    let of = |all: &BTreeMap<String, String>| all.get(key).cloned().unwrap_or_default();
    format!("`{}`: {}: `{key} = {}` {what}", jail.name, of(&jail.places), of(&jail.options).trim())
}
