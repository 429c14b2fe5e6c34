//! What the facts about the kernel's sets, tables and rules mean.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write;

use super::facts::{Chain, IpsetFacts, NftablesFacts, SavedFirewall, SetFacts, Unloadable};
use super::findings::Findings;
use crate::kernel::TableSet;
use crate::model::count;

const RESTART: &str = "a running daemon repairs this within seconds; otherwise start it, or look at its log";

impl Findings {
    pub(super) fn nftables(&mut self, facts: &NftablesFacts, is_running: bool) {
        let name = &facts.name;
        let table = match &facts.table {
            Ok(Some(table)) => table,
            Ok(None) => {
                let what = format!("the table `inet {name}` is missing, so bans are not enforced");
                return self.wrong("nftables-table-missing", what, RESTART);
            }
            Err(why) => {
                return self.wrong(
                    "no-nftables",
                    format!("cannot look at the kernel's tables: {why}"),
                    "load the kernel's module nf_tables, or give this container the right to use it",
                );
            }
        };
        let before = self.problems();
        if !table.is_hooked {
            let what = format!("no chain of the table `inet {name}` sees packets as they arrive");
            self.wrong("chain-missing", what, RESTART);
        }
        for TableSet { name: set, elements, capacity, has_rule } in &table.sets {
            if !has_rule {
                let what = format!("no rule of the table `inet {name}` looks into its set `{set}`");
                self.wrong("rule-missing", what, RESTART);
            } else if elements.is_some_and(|elements| elements >= *capacity) {
                self.full(set, *capacity);
            }
        }
        if !facts.lacking.is_empty() {
            let (lacking, all) = (facts.lacking.join(", "), count(facts.looked_up as u64, "ban"));
            let what =
                format!("of {all} that were looked up, these are not in the table `inet {name}`: {lacking}");
            self.wrong("bans-missing", what, RESTART);
        }
        let holders = match facts.holders.as_slice() {
            [] => "a process that cannot be seen from here".to_owned(),
            holders => holders.join(", "),
        };
        let belongs = format!("the table `inet {name}` belongs to {holders}");
        match table.owner {
            Some(_) if is_running && facts.is_daemons == Some(false) => self.wrong(
                "table-of-another",
                format!("{belongs}, and not to the daemon, so the daemon cannot change it"),
                "stop that program, or choose another name (`set` in [enforce])",
            ),
            Some(_) => {}
            None if !facts.is_to_be_owned => self.note(
                "table-unowned",
                format!("other programs can change the table `inet {name}`: `owned` is false in [enforce]"),
                "nothing, if that is meant; the daemon restores what they change",
            ),
            None if !facts.can_be_owned => self.note(
                "table-unowned",
                format!("other programs can change the table `inet {name}`: the kernel is older than 6.9"),
                "nothing; the daemon restores what they change",
            ),
            None if !is_running => self.note(
                "table-unowned",
                format!("other programs can remove the table `inet {name}` until the daemon starts"),
                "start it; under systemd 254 or later, systemd keeps the table's socket over a stop",
            ),
            None => self.doubtful(
                "table-unowned",
                format!("other programs can change the table `inet {name}`, which the daemon does not own"),
                "restart the daemon",
            ),
        }
        if self.problems() > before {
            return;
        }
        if table.owner.is_some() {
            self.ok("table", format!("{belongs}, so nobody else can change it"));
        }
        let sets = table.sets.iter().map(|TableSet { name, elements, capacity, .. }| match elements {
            Some(elements) => format!("`{name}` {elements} of {capacity}"),
            None => format!("`{name}`"),
        });
        let sets: Vec<String> = sets.collect();
        let what = format!(
            "the table sees packets before all others, and has a rule for each set: {}",
            sets.join(", ")
        );
        self.ok("rule", what);
        if facts.looked_up > 0 {
            let what = format!("the kernel has all bans that were looked up: {}", facts.looked_up);
            self.ok("bans", what);
        }
    }

    fn full(&mut self, set: &str, elements: u32) {
        self.wrong(
            "set-full",
            format!("the set `{set}` is full ({elements} elements), so new bans are not enforced"),
            "raise `max-elements` in [enforce], or ban prefixes ([widen])",
        );
    }

    pub(super) fn sets(&mut self, facts: &IpsetFacts) {
        let sets = match &facts.sets {
            Ok(sets) => sets,
            Err(why) => {
                let what = format!("cannot list the kernel's sets: {why}");
                return self.wrong(
                    "no-ipset",
                    what,
                    "load the kernel's ipset modules, or give this container the right to use them",
                );
            }
        };
        let before = self.problems();
        for SetFacts { name, filled, linked, found } in sets {
            match *filled {
                None => self.wrong("set-missing", format!("the set `{name}` is missing"), RESTART),
                Some((elements, capacity)) if elements >= capacity => self.full(name, elements),
                Some(_) if !linked => self.wrong(
                    "set-unlinked",
                    format!("the rule does not use the set `{name}`: it is not a member of the list"),
                    RESTART,
                ),
                Some(_) => match found {
                    Ok(true) => {}
                    Ok(false) => self.wrong(
                        "probe-lost",
                        format!("the set `{name}` accepted a test element, but does not contain it"),
                        "another program empties or replaces the set; look for `ipset` in its scripts",
                    ),
                    Err(why) => self.wrong(
                        "probe-refused",
                        format!("the set `{name}` refuses a test element: {why}"),
                        "find the other user of this set, or choose another name (`set` in [enforce])",
                    ),
                },
            }
        }
        if self.problems() == before && !sets.is_empty() {
            let filled = sets.iter().map(|SetFacts { name, filled, .. }| {
                let (elements, capacity) = filled.unwrap_or_default();
                format!("`{name}` {elements} of {capacity}")
            });
            let filled: Vec<String> = filled.collect();
            self.ok("sets", format!("the sets take elements and keep them: {}", filled.join(", ")));
        }
    }

    /// Says where the rule is first.
    pub(super) fn first(&mut self, chains: &[Chain], has_ipv6: bool) {
        let mut names: Vec<&str> = chains.iter().map(|chain| chain.name.as_str()).collect();
        names.dedup();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let first = chains.iter().filter(|chain| chain.name == name && chain.listing.place() == Some(0));
            let first: Vec<String> = first.map(|chain| chain.family.to_string()).collect();
            if !first.is_empty() {
                let without = if has_ipv6 { "" } else { "; this host has no IPv6" };
                self.ok("rule", format!("the rule is first in `{name}` ({}){without}", first.join(", ")));
            }
        }
    }

    pub(super) fn saved(&mut self, SavedFirewall { path, loads }: &SavedFirewall) {
        match loads {
            Ok(()) => self.ok(
                "saved-firewall",
                format!("`{path}` has the rule, and its sets are created before it is loaded at boot"),
            ),
            Err(Unloadable::NoSets) => self.wrong(
                "saved-without-sets",
                format!(
                    "`{path}` has the rule, but nothing creates its sets before it is loaded at boot: then none of its \
                     rules is loaded"
                ),
                "systemctl enable banstream-sets.service (contrib/systemd), or take the rule out of the file",
            ),
            Err(Unloadable::Owned) => self.wrong(
                "saved-table",
                format!("`{path}` has the table of the daemon: while the daemon runs, nothing of the file can be loaded"),
                "take that table out of the file; save your own tables only (`nft list table inet filter`)",
            ),
            Err(Unloadable::Foreign) => self.wrong(
                "saved-unreadable",
                format!("`{path}` has rules of iptables-nft (`xt match`), which `nft` does not read: it does not load at boot"),
                "take `table ip raw` and `table ip6 raw` out of the file; save your own tables only \
                 (`nft list table inet filter`)",
            ),
        }
    }

    pub(super) fn chain(&mut self, chain: &Chain) {
        let Chain { family, name, listing, others } = chain;
        let program = &listing.program;
        match &listing.rules {
            Ok(_) => {}
            Err(why) if why.contains("Table does not exist") => {
                let table = name.split(' ').next().unwrap_or_default();
                return self.wrong(
                    "table-missing",
                    format!(
                        "the kernel has no table `{table}` for {family}, so its bans are not enforced: {why}"
                    ),
                    "modprobe iptable_raw ip6table_raw (a container uses the modules of its host), or set \
                     `table = \"mangle\"` in [enforce]",
                );
            }
            Err(why) => {
                let what =
                    format!("`{program}` cannot list `{name}`, so {family} bans may not be enforced: {why}");
                return self.wrong(
                    "rules-unknown",
                    what,
                    "install iptables, or name the program in [enforce]",
                );
            }
        }
        let elsewhere = others.iter().find(|other| other.place().is_some());
        match (listing.place(), elsewhere) {
            (None, None) => self.wrong(
                "rule-missing",
                format!("`{name}` has no rule for {family}, so its bans are not enforced"),
                RESTART,
            ),
            (None, Some(other)) => self.wrong(
                "rule-in-other-variant",
                format!(
                    "the rule for {family} is in `{}`, but `{program}` is another variant now",
                    other.program
                ),
                "set `iptables` and `ip6tables` in [enforce] to the variant of this host's other rules",
            ),
            (Some(_), Some(other)) => self.doubtful(
                "rule-in-both-variants",
                format!("the rule for {family} is both in `{program}` and in `{}`", other.program),
                "remove the unused one; otherwise it stays after the daemon stops",
            ),
            (Some(0), None) => {}
            (Some(place), None) => {
                let (precede, rules_before) =
                    (if place == 1 { "precedes" } else { "precede" }, count(place as u64, "rule"));
                let mut what = format!(
                    "{rules_before} in `{name}` ({family}) {precede} ours and may accept banned addresses:"
                );
                for (rule, _) in listing.others().take(place.min(3)) {
                    let _ = write!(what, " `{rule}`");
                }
                self.wrong(
                    "rule-displaced",
                    what,
                    "start the program that adds them before banstream, or let it append its rules",
                );
            }
        }
    }

    /// Says which modules are missing, where sets or rules do not work.
    pub(super) fn modules(&mut self, modules: &[&str]) {
        let may_lack_one = [
            "no-ipset",
            "no-nftables",
            "set-missing",
            "probe-refused",
            "rules-unknown",
            "rule-missing",
            "table-missing",
        ];
        if self.has(&may_lack_one) && !modules.is_empty() {
            let modules = modules.join(" ");
            self.wrong(
                "module-missing",
                format!("kernel modules are neither loaded nor on disk: {modules}"),
                &format!(
                    "modprobe -a {modules}; if that fails, install the kernel's modules, or reboot after an update \
                     of the kernel. A container uses the modules of its host: load them there"
                ),
            );
        }
    }
}
