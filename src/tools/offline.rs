//! Commands without a daemon: faults in files, what grammars find in lines, and who would have been banned.
//!
//! They run the daemon's own decoders, grammars and detector, so the result is what the daemon would do. They change
//! neither kernel nor ledger.

mod compare;
mod new;
mod replay;
mod unread;

use std::cmp::Reverse;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::config::Setting;
use crate::config::load::{CONFIG, LoadError, Loaded};
use crate::control::{Command, FieldWhy, ReloadPreview, Status, client};
use crate::engine::Joins;
use crate::entry::{Decoder, Format};
use crate::grammar::{Closest, Fault, Found, Grammar, Grammars, Lists, MissReason, RecordMiss};
use crate::input::{self, stdin};
use crate::kernel;
use crate::model::{Entry, GrammarId, Timestamp};
use crate::model::{count, plain};
use crate::tools::geoip::GeoIp;

pub use compare::Difference;
pub use new::NewGrammar;
pub use replay::{Logs, Replay, ReplayedBan, Summary};
pub use unread::UnreadProgram;

/// How many faults of one file are printed.
const MOST_FAULTS: usize = 100;

/// Checks grammars (`*.grammar`), lists (`*.list`) and configurations (`*.toml`), or with no path what is installed;
/// prints every fault. Whether there was none.
///
/// # Errors
///
/// A file cannot be read.
pub fn check(paths: &[PathBuf], mut output: impl Write) -> anyhow::Result<bool> {
    let mut sound = true;
    let mut print =
        |lines: &[String]| ended_well(lines.iter().try_for_each(|line| writeln!(output, "{line}")));
    if paths.is_empty() {
        match crate::config::load::load(None).and_then(to_run) {
            Ok(loaded) => {
                print(&warnings(&loaded))?;
                let Loaded { config, grammars, files, own, .. } = loaded;
                let read = files.paths().chain(own.keys().map(PathBuf::as_path));
                let read: Vec<String> = read.map(|path| path.display().to_string()).collect();
                let read = if read.is_empty() {
                    "no file: the defaults are in force".to_owned()
                } else {
                    read.join(" ")
                };
                print(&[format!("read {read}")])?;
                // What is checked need not be what a daemon runs with.
                let daemon = status(&client::socket_of(&config));
                let files: Vec<PathBuf> = files.paths().map(Path::to_owned).collect();
                print(&Vec::from_iter(daemon.and_then(|of| others(&files, &of.config))))?;
                let names: Vec<&str> = grammars.iter().map(Grammar::name).collect();
                let jails = count(config.detection.jails.len() as u64, "jail");
                let grammars = count(names.len() as u64, "grammar");
                print(&[format!("{jails}, {grammars} proved and tested: {}", names.join(" "))])?;
                print(&Vec::from_iter(reload_preview(Path::new(CONFIG), &client::socket_of(&config))))?;
            }
            Err(LoadError::Faulty(faults)) => {
                print(&[faults])?;
                sound = false;
            }
            Err(LoadError::Unreadable(error)) => return Err(error),
        }
    }
    let is_own = |path: &&PathBuf| path.extension().is_some_and(|end| end == "grammar" || end == "list");
    let beside = paths.iter().filter(is_own).map(|path| Ok((path.as_path(), read_text(path)?)));
    let beside: Vec<(&Path, String)> = beside.collect::<anyhow::Result<_>>()?;
    for path in paths {
        let (mut with, mut preview) = (Vec::new(), None);
        let (shown, text) = (path.display().to_string(), read_text(path)?);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let shows = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect();
        let (warnings, mut faults): (Vec<String>, Vec<String>) =
            match path.extension().and_then(|extension| extension.to_str()) {
                // With the drop-ins beside it, as a daemon reads it.
                Some("toml") => match crate::config::load::with(
                    Some(path),
                    beside.iter().map(|(path, text)| (*path, Some(text.as_str()))),
                )
                .and_then(to_run)
                {
                    Ok(loaded) => {
                        let read = loaded.files.paths().filter(|file| file != path);
                        let read = read.chain(loaded.own.keys().map(PathBuf::as_path));
                        with.extend(read.map(|path| path.display().to_string()));
                        preview = reload_preview(path, &client::socket_of(&loaded.config));
                        (warnings(&loaded), Vec::new())
                    }
                    Err(LoadError::Faulty(faults)) => (Vec::new(), vec![faults]),
                    Err(LoadError::Unreadable(error)) => return Err(error),
                },
                _ if crate::words::is_fail2ban_file(&text) => {
                    (Vec::new(), vec![format!("{shown}:1:1: {}", crate::config::IS_FAIL2BAN)])
                }
                Some("list") => (shows(Lists::shipped().add(&name, &shown, &text)), Vec::new()),
                end if end != Some("grammar") => {
                    let what = "the name does not say what it is; end it in `.grammar`, `.list` or `.toml`";
                    (Vec::new(), vec![format!("{shown}:1:1: {what}")])
                }
                _ => {
                    // A grammar may count on the lists that lie beside it.
                    let (lists, _) =
                        crate::config::load::lists(Path::new(".").join(path).parent().unwrap_or(path))?;
                    let folder = Path::new(".").join(path);
                    let folder = folder.parent().unwrap_or(path);
                    match crate::config::load::grammar(&name, &shown, &text, folder, &lists) {
                        Ok(warnings) => (shows(warnings), Vec::new()),
                        Err(faults) => (Vec::new(), faults),
                    }
                }
            };
        sound &= faults.is_empty();
        let more = faults.len().saturating_sub(MOST_FAULTS);
        if more > 0 {
            faults.truncate(MOST_FAULTS);
            faults.push(format!("{shown}: and {} more", count(more as u64, "fault")));
        }
        if faults.is_empty() {
            let with = if with.is_empty() { String::new() } else { format!(", with {}", with.join(" ")) };
            faults.push(format!("{shown}: sound{with}"));
            faults.extend(preview);
        }
        print(&[warnings, faults].concat())?;
    }
    Ok(sound)
}

/// What is doubtful in a configuration, with the files that the daemon does not read.
fn warnings(loaded: &Loaded) -> Vec<String> {
    let place = loaded.written.iter().find(|setting| setting.table.is_empty() && setting.key == "geoip");
    let place =
        place.and_then(|setting| Some(format!("{}:{}: ", setting.file.as_ref()?.display(), setting.line?)));
    let place = place.unwrap_or_default();
    let faults = GeoIp::open(&loaded.config.geoip).faults().into_iter();
    let faults =
        faults.map(|fault| format!("{place}warning: `geoip`: {fault}; countries or networks are missing"));
    loaded.warnings.iter().cloned().chain(faults).collect()
}

/// The configuration, unless iptables would refuse its rule, and so a start or a reload would fail.
fn with_rule(loaded: Loaded) -> Result<Loaded, LoadError> {
    let Some((key, fault)) = loaded.config.enforce.as_ref().and_then(kernel::rule_fault) else {
        return Ok(loaded);
    };
    let is_it = |of: &&Setting| of.table == "enforce" && of.key == key;
    let place = loaded.written.iter().find(is_it);
    // What nobody wrote, nobody can mend here.
    match place.and_then(|setting| Some((setting.file.as_ref()?.display(), setting.line?))) {
        Some((file, line)) => Err(LoadError::Faulty(format!("{file}:{line}: `{key}`: {fault}"))),
        None => Ok(loaded),
    }
}

/// The configuration, if a daemon can run here with all of it.
fn to_run(loaded: Loaded) -> Result<Loaded, LoadError> {
    loaded.to_run().and_then(Loaded::with_groups).and_then(with_rule)
}

/// What a daemon at `socket` would change if it read this configuration, its own, again.
fn reload_preview(config: &Path, socket: &Path) -> Option<String> {
    let answer = client::send(socket, &Command::ReloadPreview).ok().filter(|answer| answer.done)?;
    let preview = serde_json::from_str::<ReloadPreview>(&answer.body).ok()?;
    (preview.config == config.canonicalize().ok()?).then(|| preview.to_string())
}

/// Prints the settings that are in force, as a configuration with the origin of each, or as JSON.
///
/// # Errors
///
/// The configuration cannot be loaded, or not be printed.
pub fn show_configuration(config: Option<&Path>, json: bool, mut output: impl Write) -> anyhow::Result<()> {
    let Loaded { written: settings, files, config, .. } = crate::config::load::load(config)?;
    let mut text = String::new();
    if json {
        text = serde_json::to_string(&settings)? + "\n";
    } else {
        let files: Vec<PathBuf> = files.paths().map(Path::to_owned).collect();
        text += &format!("# read from {}\n", named(&files));
        let daemon = status(&client::socket_of(&config));
        text.extend(daemon.and_then(|of| others(&files, &of.config)).map(|note| format!("# {note}\n")));
        let mut table = "";
        for Setting { table: name, key, value, file, line, inherited } in &settings {
            if name != table {
                text += &format!("\n[{name}]\n");
                table = name;
            }
            let inherited = if *inherited { "inherited, " } else { "" };
            let origin = file.as_ref().zip(*line).map(|(file, line)| format!("{}:{line}", file.display()));
            let origin = origin.unwrap_or_else(|| "default".to_owned());
            text += &format!("{key} = {value}  # {inherited}{origin}\n");
        }
    }
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(())
}

/// What the daemon at `socket` says of itself, if one answers us.
fn status(socket: &Path) -> Option<Status> {
    let answer = client::send(socket, &Command::Status).ok().filter(|answer| answer.done)?;
    serde_json::from_str(&answer.body).ok()
}

/// These files, for people.
fn named(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|path| plain(path.display().to_string())).collect();
    if names.is_empty() { "no file: the defaults are in force".to_owned() } else { names.join(", ") }
}

/// What to know where a daemon has read other files than these.
fn others(files: &[PathBuf], daemons: &[PathBuf]) -> Option<String> {
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    if files.iter().map(real).eq(daemons.iter().map(real)) {
        return None;
    }
    let main =
        daemons.first().filter(|path| path.parent().and_then(Path::extension).is_none_or(|end| end != "d"));
    let show = main.map_or_else(String::new, |main| {
        format!("; see `banstream config show --config {}`", plain(main.display().to_string()))
    });
    Some(format!("the daemon that runs has read {}{show}", named(daemons)))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// What `explain` says of a line.
#[derive(Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation<'a> {
    /// Its number, from 1 on.
    line: u64,
    /// Whether it is an offence.
    #[serde(rename = "match")]
    matches: bool,
    /// The offender's address.
    ip: Option<String>,
    /// The grammar that reads the program's lines.
    grammar: Option<&'a str>,
    /// The offence's name.
    offence: Option<&'a str>,
    /// The user name in it.
    user: Option<String>,
    /// The address of a login, which is not an offence.
    login: Option<String>,
    /// The line of the grammar's file where the rule stands.
    rule: Option<u32>,
    /// That line.
    written: Option<&'a str>,
    /// The text in the rule's fields: names or kinds, byte offsets in the message, and text.
    fields: Vec<FieldWhy>,
    /// Whether the daemon would ignore the line, because of its sender.
    forged: bool,
    /// Why this is not an offence.
    why: Option<String>,
    /// The closest rule, if none matches.
    closest: Option<ClosestRule<'a>>,
    /// The conditions of a shape that do not hold.
    unmet: Vec<FailedCondition<'a>>,
}

/// The closest rule, where it stops as a byte offset in the message, and what it wants there, as `explain` says it.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct ClosestRule<'a> {
    /// The line of the grammar's file where it stands.
    rule: u32,
    /// That line.
    written: &'a str,
    /// Where in the message it stops, in bytes.
    stopped: usize,
    /// What it expects there.
    expected: Vec<String>,
}

/// A condition that does not hold, as `explain` says it.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct FailedCondition<'a> {
    /// The offence that it would be.
    offence: &'a str,
    /// The line of the grammar's file where it stands.
    rule: u32,
    /// That line.
    written: &'a str,
    /// The field that contradicts it.
    field: &'a str,
    /// The text in it.
    holds: Option<String>,
}

/// Tells for each line of `input` whether it is an offence; `program` is whose message a line is that does not say,
/// and `now` the time of a line without one. The address that a line names under a key is known from there on.
///
/// # Errors
///
/// The input cannot be read or the output not written.
pub fn explain(
    loaded: &Loaded,
    program: Option<&str>,
    json: bool,
    now: Timestamp,
    input: impl Read,
    output: impl Write,
) -> anyhow::Result<()> {
    warn_of(loaded, program);
    let (mut output, mut decoder, mut number) = (BufWriter::new(output), decoder(program), 0);
    let (mut written, mut joins) = (Ok(()), Joins::default());
    stdin::read(input, |records, _| {
        for original in records.iter() {
            number += 1;
            let mut line = original.to_vec();
            let entry = decoder.decode(Format::Line, &mut line, now).ok();
            let explanation = explanation(number, &loaded.grammars, &mut joins, entry.as_ref(), program);
            written = match json {
                true => to_json(&mut output, &explanation),
                false => print_explanation(&explanation, original, &mut output),
            };
            if written.is_err() {
                return ControlFlow::Break(());
            }
        }
        // Somebody may be typing.
        written = output.flush();
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .context("cannot read stdin")?;
    ended_well(written).map(drop)
}

/// Tells that no line without a header will be read, if nobody reads this program's.
fn warn_of(loaded: &Loaded, program: Option<&str>) {
    if let Some(program) =
        program.filter(|program| loaded.grammars.readers(program.as_bytes()).next().is_none())
    {
        warn(format_args!(
            "warning: no grammar reads lines of `{program}`; all grammars are tried on lines without a header"
        ));
    }
}

fn to_json(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *output, value)?;
    writeln!(output)
}

/// The grammars to try on an entry: those of its own program, or else of the program that was named; all of them where a
/// bare message could be of any program. Whether it is all of them.
fn candidates(grammars: &Grammars, entry: &Entry<'_>, program: Option<&str>) -> (Vec<GrammarId>, bool) {
    let of = |program: &[u8]| grammars.readers(program).collect::<Vec<_>>();
    let own = of(entry.program);
    let named = || program.map(|program| of(program.as_bytes())).unwrap_or_default();
    let known = if is_of_one_program(grammars, &own) { own } else { [named(), own].concat() };
    match is_of_one_program(grammars, &known) || (program.is_none() && !entry.program.is_empty()) {
        true => (known, false),
        false => (grammars.ids().collect(), true),
    }
}

/// Whether one of these is for a program, and not for all.
fn is_of_one_program(grammars: &Grammars, ids: &[GrammarId]) -> bool {
    ids.iter().filter_map(|id| grammars.get(*id)).any(|grammar| !grammar.reads_all())
}

fn explanation<'g>(
    line: u64,
    grammars: &'g Grammars,
    joins: &mut Joins,
    entry: Option<&Entry<'_>>,
    program: Option<&str>,
) -> Explanation<'g> {
    let mut explanation = Explanation { line, ..Explanation::default() };
    let Some(entry) = entry else {
        explanation.why = Some("invalid JSON".to_owned());
        return explanation;
    };
    let (ids, all) = candidates(grammars, entry, program);
    let tried = || ids.iter().filter_map(|id| Some((*id, grammars.get(*id)?)));
    let found = |(id, grammar)| grammars.read(id, entry.message).map(|found| (grammar, found));
    let login = |(_, found): &(_, Found<'_>)| found.is_login();
    let read = tried().filter_map(found).min_by_key(login);
    let proxy = || tried().find_map(|(_, grammar)| Some((grammar, grammar.read(entry.message)?.address()?)));
    if let Some((grammar, found)) = read {
        explanation.grammar = Some(grammar.name());
        explain_match(&mut explanation, grammar, joins, entry, &found);
    } else if let Some((grammar, proxy)) = proxy() {
        explanation.grammar = Some(grammar.name());
        let why = format!("`{proxy}` is a trusted proxy, and the line does not name its client");
        explanation.why = Some(why);
    } else if let Some((_, grammar)) =
        tried().min_by_key(|(_, grammar)| Reverse(closeness(grammar, entry.message, all)))
    {
        if !all || closeness(grammar, entry.message, all) > 0 {
            explanation.grammar = Some(grammar.name());
            explain_miss(&mut explanation, grammar, entry.message);
        }
        if explanation.closest.is_none() && explanation.unmet.is_empty() {
            let of_all =
                if all { Some("no rule of any grammar begins like this line".to_owned()) } else { None };
            let of_nobody = (!is_of_one_program(grammars, &ids))
                .then(|| format!("no grammar reads lines of `{}`", plain(entry.program)));
            if let Some(why) = of_all.or(of_nobody) {
                (explanation.grammar, explanation.why) = (None, Some(why));
            }
        }
    } else {
        explanation.why = Some(format!("no grammar reads lines of `{}`", plain(entry.program)));
    }
    explanation
}

/// How near a grammar comes to reading a message, of `all` or of those for its program. Of several that come as near, the first is meant.
fn closeness(grammar: &Grammar, message: &[u8], all: bool) -> usize {
    match grammar.miss_reason(message) {
        MissReason::Unmet(_) => usize::MAX,
        // A rule that begins with a field fits the beginning of any line.
        MissReason::Unread(closest) if all && begins_with_field(closest.written) => 0,
        MissReason::Unread(closest) => closest.at + 1,
        MissReason::Record(_) => 1,
        MissReason::Unlike => 0,
    }
}

/// Whether what a rule begins with may be a field, such as in `{[<user>]|<user:word>} LOGIN`.
fn begins_with_field(rule: &str) -> bool {
    let Some(inside) = rule.strip_prefix('{') else { return rule.starts_with('<') };
    let (mut depth, mut from, mut any, mut may_miss) = (1_usize, 0, false, false);
    for (at, c) in inside.char_indices() {
        depth = match c {
            '{' => depth + 1,
            '}' => depth - 1,
            _ => depth,
        };
        if depth == 0 || (depth == 1 && c == '|') {
            let way = inside.get(from..at).unwrap_or_default();
            any |= begins_with_field(way);
            may_miss |= way.is_empty();
            from = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    let rest = inside.get(from..).unwrap_or_default();
    let behind = if may_miss { Some(rest) } else { rest.strip_prefix('?') };
    any || behind.is_some_and(begins_with_field)
}

fn explain_match<'g>(
    of: &mut Explanation<'g>,
    grammar: &Grammar,
    joins: &mut Joins,
    entry: &Entry<'_>,
    found: &Found<'g>,
) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let key = found.join_key(entry);
    let shown = || plain(found.key(entry.message).unwrap_or_default());
    let address = match key {
        Some(key) if !found.is_naming() => joins.address(&key, entry.time),
        _ => found.address(),
    };
    match address {
        Some(address) if found.is_naming() => {
            of.why = Some(format!("names {address} for the lines with the key `{}`", shown()));
        }
        None if found.is_naming() => of.why = Some(format!("ends the key `{}`", shown())),
        None => of.why = Some(format!("its address is in another line with the key `{}`", shown())),
        Some(address) if found.is_login() => {
            of.why = Some(format!("a login, which exempts {address} from bans for a while"));
            of.login = Some(address.to_string());
        }
        Some(address) => {
            of.matches = true;
            of.ip = Some(address.to_string());
            of.offence = Some(found.category());
        }
    }
    of.user = found.user(entry.message).as_deref().map(text);
    of.rule = Some(found.line());
    of.written = Some(found.written());
    of.fields = found.field_texts(entry.message).into_iter().map(FieldWhy::from).collect();
    of.forged = grammar.contradicts(&entry.sender);
    if of.forged {
        let who = entry
            .sender
            .exe
            .or(entry.sender.comm)
            .map_or_else(String::new, |name| format!(", `{}`", plain(name)));
        let uid = entry.sender.uid.unwrap_or_default();
        of.why = Some(format!("forged: written by uid {uid}{who}; not counted"));
    } else if let Some(key) = key.filter(|_| found.is_naming()) {
        joins.name(key, address, entry.time);
    }
}

fn explain_miss<'g>(of: &mut Explanation<'g>, grammar: &'g Grammar, message: &[u8]) {
    let name = grammar.name();
    match grammar.miss_reason(message) {
        MissReason::Unlike => of.why = Some(format!("no rule of {name}.grammar begins like this line")),
        MissReason::Unmet(unmet) => {
            of.why = Some(format!("a shape of {name}.grammar reads this line, but no condition holds"));
            of.unmet = unmet
                .into_iter()
                .map(|unmet| FailedCondition {
                    offence: unmet.category,
                    rule: unmet.line,
                    written: unmet.written,
                    field: unmet.field,
                    holds: unmet.holds.map(|text| String::from_utf8_lossy(&text).into_owned()),
                })
                .collect();
        }
        MissReason::Record(RecordMiss { line, written, why }) => {
            of.why = Some(why);
            of.closest = Some(ClosestRule { rule: line, written, stopped: 0, expected: Vec::new() });
        }
        MissReason::Unread(Closest { line, written, at, expected }) => {
            let rest = plain(message.get(at..).unwrap_or_default());
            let found = match rest.char_indices().nth(40) {
                _ if rest.is_empty() => "the end of the message".to_owned(),
                Some((cut, _)) => format!("`{}...`", rest.get(..cut).unwrap_or_default()),
                None => format!("`{rest}`"),
            };
            let wants = expected.join(" or ");
            of.why =
                Some(format!("stopped at column {} of the message: expected {wants}, found {found}", at + 1));
            of.closest = Some(ClosestRule { rule: line, written, stopped: at, expected });
        }
    }
}

/// What `explain` says of a line, for people.
fn print_explanation(of: &Explanation<'_>, original: &[u8], output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "{}", plain(original))?;
    let rule = |line: u32| format!("{}.grammar:{line}", of.grammar.unwrap_or_default());
    let user = of.user.as_ref().map_or_else(String::new, |user| format!(" as `{}`", plain(user.as_bytes())));
    match (&of.ip, &of.why) {
        (Some(ip), _) => {
            let (offence, line) = (of.offence.unwrap_or_default(), rule(of.rule.unwrap_or_default()));
            writeln!(output, "    {ip}{user}: {offence} ({line})")?;
            writeln!(output, "        {}", of.written.unwrap_or_default())?;
        }
        (None, why) => writeln!(output, "    no offence: {}", why.as_deref().unwrap_or_default())?,
    }
    for field in &of.fields {
        writeln!(output, "        {field}")?;
    }
    for FailedCondition { offence, rule: line, written, field, holds } in &of.unmet {
        let holds =
            holds.as_ref().map_or("is missing".to_owned(), |text| format!("is `{}`", plain(text.as_bytes())));
        writeln!(output, "        {offence} ({}): {written}: `{field}` {holds}", rule(*line))?;
    }
    if let Some(ClosestRule { rule: line, written, .. }) = of.closest {
        writeln!(output, "        closest: {} {written}", rule(line))?;
    }
    match &of.why {
        Some(why) if of.forged => writeln!(output, "        {why}"),
        _ => Ok(()),
    }
}

/// Whether somebody still reads what we write.
pub(crate) fn ended_well(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to stdout"),
    }
}

/// Prints to stderr. It is not an error if nobody reads it.
pub fn warn(what: impl Display) {
    drop(writeln!(io::stderr(), "{what}"));
}

fn decoder(program: Option<&str>) -> Decoder<'_> {
    let decoder = Decoder::new(input::zone());
    match program {
        Some(program) => decoder.for_program(program.as_bytes()),
        None => decoder,
    }
}
