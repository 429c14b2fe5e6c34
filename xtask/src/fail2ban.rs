//! contrib/fail2ban.md, made of the table of fail2ban's words.

use std::fmt::Write as _;

use banstream::words::{
    self, COMMANDS, CommandWord, DAEMON_KEYS, FilterWord, JAIL_KEYS, KeyWord, OTHER_COMMANDS, VERBS,
};

const INTRODUCTION: &str = "\
# Coming from fail2ban

`cargo run --package xtask -- DIR` makes this file of the table that `banstream import fail2ban` uses.

Jails, `maxretry`, `findtime`, `bantime` and `ignoreip` keep their meaning. You no longer need most of `jail.local`: log
files, filters and actions need no setting. `banstream import fail2ban` does what can be done:

    banstream import fail2ban              # what would become of each jail and setting; nothing is written
    banstream import fail2ban --compare    # and do both find the same in the logs of each jail?
    banstream import fail2ban --write      # writes it, and takes over the bans with their ends and counts
    systemctl enable --now banstream
    banstream import fail2ban --switch     # stops fail2ban, once all its bans are in force here
    banstream import fail2ban --undo       # goes back

It reads fail2ban's files as fail2ban does (`jail.d`, `.local`, includes, `%(…)s`, `<…>`) and its database. Each jail that is on
is *ours* (a grammar of banstream stands for its filter), *converted* (its failregex became a grammar, which was proved), or *not
converted*, with the construct that stood in the way or the message that would have fooled the rule or shows how it differs. A jail
that fail2ban itself skips, since its filter or an action is missing, or with which it does not start (an unknown `%(…)s`, a
failregex without `<HOST>` or one that does not compile), is a task, and the others are taken over. So are a value that is not
one, such as `ten minutes` for `bantime`, commands of an action that a `.local` file changes, and a file that is not UTF-8, which
fail2ban leaves out. A jail whose name or table cannot be here does not stop the others. No regular expression runs in the daemon.

What a filter matches decides what stands for it, not its name. A filter is fail2ban's own if its file is that of version 1.0.2 or
1.1.0, or if it has half of the regular expressions of such a file or more, whatever it is called. Of any other filter `fail2ban-regex`
says which of the lines it matches with which banstream's grammars are tested. A grammar stands for it if both find the same; or if no
rule can be made of its failregex, and the grammar finds what the filter does and else little but further failed logins. The jail, its
log or its failregex must also name what the grammar reads. The notes of the jail say on how many lines both agree. Of the 91 jails of Debian 12's package, 81 are ours, 5 are converted, `recidive` is not needed, and 4 are not converted:
`apache-fakegooglebot` (needs DNS), `pass2allow-ftp` (lets addresses in), `perdition` (its filter names no program) and
`softethervpn` (a `.` for any character). It says what a human must do, with `--markdown` for a ticket and `--json` for programs. What it writes replaces what it wrote before.

`--switch` changes nothing unless the files are as `--write` (or `--shadow`) would write them now; so after a change of
`jail.local`, write again. A jail that is not converted, a failregex that is not, lines that only fail2ban counts, an `ignoreregex` that
a grammar of banstream does not know, and a converted jail that was not compared with its filter or differs from it are tasks
(\"needs you\"), and the exit status is 1. `--switch` names the jails without a counterpart and refuses; `--force` switches without
them. A second `--switch` changes nothing, and `--shadow` is refused until `--undo`. Without systemd, `--switch` refuses: `--write`,
then stop fail2ban yourself.

Rows of the database whose values are not as fail2ban writes them are left out and counted; so are `0.0.0.0`, `::`, multicast and
broadcast. Only regular files are read, of 1 MiB at most. A value may be 1 MiB long with all names filled in, all values
together 64 MiB. A failregex with more than 32,768 parts or 1,048,576 ways through its choices is not converted.

A file in which clients can write whole lines, such as nginx's error log with its decoded paths, is never read: one request would
frame a bystander. The jail gets a task that says how its lines come by syslog. Files that rsyslog itself writes are not read again,
since their lines come as messages. Parameters of a filter other than `mode` are filled in, and what they change is converted. If two
converted filters are unsound together, the second is left out, and the rest is written.

A regular expression is converted if it consists of text, alternatives, optional and repeated groups, character classes, `.*`,
`\\d+`, `\\S+`, `<HOST>` and fail2ban's other tags, `%(__prefix_line)s` and `prefregex`, and negative look-ahead of words before text that
varies. Look-behind, other look-ahead, flags such as `(?i)`, offences that span lines, and an `ignoreregex` of more than a text are not.
`\\s+` is one to five spaces, or one where there are more than two such places. `4\\d{2}` is `4<num>`. A group that repeats without an
end becomes free text behind the address, and is not converted before it. `.*` at the beginning may become a date and up to two
words; the jail's notes say so. The proof is about what a rule reads: a failregex without `^` also reads a line that
begins with what somebody typed, here as there, so begin it with `^`.

Each rule is then compared with its failregex, on some hundred lines that are made of both: each alternative, more and fewer
repetitions and spaces, dates in several places and none, ports and brackets behind the address, and in each field of the rule
what an attacker could type. The failregex runs for this only, within bounds. A rule that counts a line that the filter does not
match, finds an address that somebody typed, or misses a plain line is refused, with that line; what fools the filter and not
the rule is accepted. A failregex of which no line can be made is refused, too, such as `.*<HOST>`, which finds 2.0.2.1 in
`192.0.2.1`. Where a rule does not read some unusual lines, a note and a task name their share and an example. What only adds characters, such as `4<num>` for `4\\d{2}`, is a note. A
failregex that cannot be compared is said to be so. Read the grammars in `/etc/banstream/grammars/f2b-*.grammar`, and try them with `banstream replay`.

A filter for the access log of nginx, Apache or lighttpd becomes conditions on the fields of a line, in a grammar that `extends:`
theirs: `^<HOST> .*\"POST /xmlrpc\\.php.*\" 200` is `request starts \"POST /xmlrpc.php\" and status is \"200\"`. The comparisons ignore
case. A text behind `.*` is looked for in the request and the user agent, a path in the request only; in an `ignoreregex` in
the referer too; a number of three digits may also be the status. A `.` is a full stop in `wp-login.php` and `/.env`, which the notes
say, and any text elsewhere. A request counts in each jail whose filter finds it, and once in each.

## Do both find the same?

Where `fail2ban-regex` is installed, fail2ban itself is asked: what does the filter of each jail that is on, with all names filled
in, find in the last lines of the jail's own logs? banstream runs the engine of `replay` over the same lines, with the jail as it
would be written. The output has the lines that both count, those that only one of them counts, and those of which each holds
another address to account, with the reason and a few examples: no rule reads the line, it is in a category that the jail does not
count, its failregex was refused, it has a name in place of the address, banstream does not read the file. The state of each jail says
whether both agree, and `comparison` in the JSON. That takes 10 s at most, for all jails together; with
`--compare` it takes up to 60 s for each. Read are the last 20,000 lines of a jail, at most 4 MiB, from the files in its `logpath`, or
from the journal (`backend` is `systemd`) by its `journalmatch`.

On fail2ban's own sample lines, its filters (version 1.0.2) and ours agree on 425 lines. 61 more only fail2ban counts, and 54 only
banstream. On no line is it another address. `tests/system/fail2ban.rs` has the reasons.

## Side by side

To see both at work before the switch, write `--shadow` in place of `--write`:

    banstream import fail2ban --shadow     # writes the same, but banstream only observes; no bans are taken over
    systemctl enable --now banstream
    banstream import fail2ban --diff --since 2d
    banstream import fail2ban --switch     # lets banstream enforce, takes the bans over, and stops fail2ban

`--diff` compares the bans in fail2ban's database with those in the ledger: which offenders only one of the two has banned, by the
reason, with the lines that earned the ban; and who was first where both did. fail2ban's lines are given to our rules, ours to
fail2ban's filter. fail2ban forgets bans that are older than its `dbpurgeage`, which is a day if it is not set. If the switch fails,
banstream only observes again, and fail2ban goes on.

## By hand

It is this:

    # jail.local                          # /etc/banstream/banstream.d/local.toml
    [DEFAULT]
    ignoreip = 127.0.0.1/8 203.0.113.0/24 ignoreip = [\"127.0.0.0/8\", \"::1\", \"203.0.113.0/24\"]
    bantime  = 1h                         bantime = \"1h\"
    findtime = 10m                        findtime = \"10m\"

    [sshd]                                [jail.sshd]
    enabled = true
    port    = 2222                        ports = [\"2222/tcp\"]
    maxretry = 3                          maxretry = 3

    [nginx-http-auth]                     # jail.http-auth is there already
    enabled = true

Then stop fail2ban first (`systemctl disable --now fail2ban`): it removes its bans from the firewall when it stops.
";

const PROBES: &str = "
The paths that scanners request (`apache-botsearch`, `nginx-botsearch`) are in lists; a file such as
`/etc/banstream/grammars/probes.list` adds to them. Behind a proxy, `trusted-proxies` replaces a custom filter.

A jail `recidive` is not needed: bans grow. That it bans on all ports, for the bans of all jails together, has no counterpart; the
jail's notes have its numbers. Where `bantime.increment` is `false`, nothing stands for it, which is a task.
";

const FILTERS: &str = "
A category of a grammar names a kind of offence, and a jail counts the categories in its `offences`. A filter's `mode` is here
which of them these are; `mode` itself says whether a jail bans (`\"enforce\"`) or only reports what it would ban
(`\"observe\"`). Jails for most of these grammars exist from the start, with categories and numbers of their own:
[banstream.toml](banstream.toml) lists them. For instance, what `sshd` with `mode = aggressive` counts is in three jails by default,
`sshd`, `ssh-abuse` and `ssh-connect`. To count it in one, write below `[jail.sshd]`
`offences = [\"auth-failure\", \"preauth-abuse\", \"bad-request\"]`; then a monitor that checks sshd once a minute is banned
within five minutes.
";

const DIFFERS: &str = "
A filter that counts less than any category has conditions of its own: `import` writes a grammar `f2b-JAIL-GRAMMAR.grammar` that `extends:`
the one above. No jail counts what its filter leaves out on purpose, such as temporary answers of mail servers, which honest servers
get too. Where the two differ all the same, `import` says so for each jail:
";

const SCRIPTS: &str = "
Scripts and monitoring can keep calling `fail2ban-client`. Where fail2ban is removed, this link

    ln -s /usr/bin/banstream /usr/local/bin/fail2ban-client

makes banstream answer in its place, in fail2ban-client's form and with its exit status, 0 or 255. Without the link,
`banstream compat fail2ban-client …` does the same; `-h` lists the verbs.
";

/// The document.
pub(crate) fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let keys = |words: &[KeyWord]| -> Vec<[String; 2]> { words.iter().map(key).collect() };
    table(&mut text, "Keys of jails", ["fail2ban", "banstream"], keys(JAIL_KEYS));
    text += PROBES;
    text += "\n## Filters\n";
    text += FILTERS;
    rows(
        &mut text,
        ["filter", "mode", "grammars", "offences"],
        words::FILTERS.iter().flat_map(filter).collect(),
    );
    text += DIFFERS;
    let differs = words::DIFFERS.iter().map(|(name, how)| [format!("`{name}`"), (*how).to_owned()]);
    rows(&mut text, ["filter", "what is different"], differs.collect());
    let actions = words::ACTIONS.iter().map(|word| [format!("`{}`", word.name), word.becomes.to_owned()]);
    table(&mut text, "Actions", ["fail2ban", "banstream"], actions.collect());
    let services = words::SERVICES.iter().map(|(name, port)| [format!("`{name}`"), port.to_string()]);
    table(&mut text, "Names of services", ["`port` in fail2ban", "number"], services.collect());
    table(&mut text, "Keys of fail2ban.conf", ["fail2ban", "banstream"], keys(DAEMON_KEYS));
    let commands = COMMANDS.iter().map(command).chain(pairs(OTHER_COMMANDS));
    table(&mut text, "Commands", ["fail2ban", "banstream"], commands.collect());
    text += "\n## Scripts\n";
    text += SCRIPTS;
    rows(&mut text, ["verb", "what is different"], pairs(VERBS));
    text
}

fn pairs(words: &[(&str, &str)]) -> Vec<[String; 2]> {
    words.iter().map(|(theirs, ours)| [(*theirs).to_owned(), (*ours).to_owned()]).collect()
}

fn command(word: &CommandWord) -> [String; 2] {
    [format!("`fail2ban-client {}`", word.theirs.join("`, `")), word.ours.to_owned()]
}

fn key(word: &KeyWord) -> [String; 2] {
    let names: Vec<String> = word.keys.iter().map(|key| format!("`{key}`")).collect();
    let name = if word.shown.is_empty() { names.join(", ") } else { word.shown.to_owned() };
    let more = if word.more.is_empty() { String::new() } else { format!(". {}", word.more) };
    [name, format!("{}{more}", word.hint)]
}

/// A row for each mode of a filter that counts something else.
fn filter(word: &FilterWord) -> Vec<[String; 4]> {
    if word.counted.is_empty() {
        return vec![[format!("`{}`", word.name), String::new(), word.note.to_owned(), String::new()]];
    }
    let modes = word.modes.iter().map(|(mode, _)| *mode);
    let plain = word.counted.iter().any(|counted| !counted.offences.is_empty()).then_some("");
    let row = |mode: &str| {
        let bases: Vec<String> =
            words::conditions(word.name, mode).map(|conditions| format!("`{}`", conditions.base)).collect();
        if !bases.is_empty() {
            let own = format!("`{}`, by conditions", word.name);
            return [format!("`{}`", word.name), mode.to_owned(), bases.join(", "), own];
        }
        let counted = word.in_mode(mode);
        let grammars: Vec<String> = counted.iter().map(|(grammar, _)| format!("`{grammar}`")).collect();
        let mut offences = counted.first().map(|(_, offences)| offences.join(", ")).unwrap_or_default();
        if !word.note.is_empty() {
            offences = format!("{offences}; {}", word.note);
        }
        [format!("`{}`", word.name), mode.to_owned(), grammars.join(", "), offences]
    };
    plain.into_iter().chain(modes).map(row).collect()
}

fn table<const N: usize>(text: &mut String, title: &str, head: [&str; N], all: Vec<[String; N]>) {
    *text += &format!("\n## {title}\n");
    rows(text, head, all);
}

fn rows<const N: usize>(text: &mut String, head: [&str; N], all: Vec<[String; N]>) {
    // Writing to a string cannot fail.
    _ = write!(text, "\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in all {
        _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_the_table() {
        let kept =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/fail2ban.md")).unwrap();
        let message = "run `cargo run --package xtask -- target/generated`, and copy fail2ban.md to contrib";
        assert!(kept == document(), "{message}");
    }
}
