//! What the language reads, refuses and finds.

mod joins;

use std::net::Ipv4Addr;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::matcher::Matcher;
use super::matcher::reference::Reference;
use super::variant::Whole;
use super::*;
use crate::model::GrammarId;

/// A grammar with these lines below a category.
fn grammar(rules: &str) -> Result<Grammar, String> {
    let text =
        format!("program: p\nx:\n{}", rules.lines().map(|rule| format!("    {rule}\n")).collect::<String>());
    load(&text)
}

pub(super) fn load(text: &str) -> Result<Grammar, String> {
    Grammar::load("p", "p.grammar", text, &Lists::shipped()).map(|(grammar, _)| grammar).map_err(|faults| {
        faults
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    })
}

/// The address that the rules find in a message.
#[track_caller]
fn check(rules: &str, message: &str, want: &str) {
    let grammar = grammar(rules).unwrap_or_else(|faults| panic!("{faults}"));
    let found = grammar.read(message.as_bytes());
    assert_eq!(found.and_then(|found| found.address()).map_or("-".to_owned(), |a| a.to_string()), want);
}

/// The first fault of a grammar, whole.
#[track_caller]
fn refused(text: &str, want: &str) {
    assert_eq!(load(text).map(|_| ()), Err(want.to_owned()));
}

const FAILED: &str = "Failed {password|none} for {invalid user }?<user> from <ip> port <num>{ ssh2}?";

#[test]
fn a_rule_is_the_whole_message() {
    check(FAILED, "Failed password for root from 192.0.2.1 port 22 ssh2", "192.0.2.1");
    check(FAILED, "Failed none for invalid user x y from 2001:db8::1 port 22", "2001:db8::1");
    check(FAILED, "Failed password for root from 192.0.2.1 port 22 ssh2 and more", "-");
    check(FAILED, " Failed password for root from 192.0.2.1 port 22", "-");
    check(FAILED, "Failed password for root from 192.0.2.1 port 22  ", "192.0.2.1");
    check(FAILED, "Failed password for  from 192.0.2.1 port 22", "192.0.2.1");
    check(FAILED, "Failed password for root from 192.0.2.256 port 22", "-");
    check(FAILED, "Failed password for root from 192.0.2.01 port 22", "-");
    check(FAILED, "Failed password for root from ::ffff:192.0.2.1 port 22", "192.0.2.1");
    check(FAILED, "Failed password for root from fe80::1%eth0 port 22", "fe80::1");
}

#[test]
fn a_name_cannot_stand_for_the_address() {
    let message = "Failed password for invalid user x from 10.1.1.2 port 5 ssh2 from 127.0.0.1 port 58 ssh2";
    check(FAILED, message, "127.0.0.1");
    check(FAILED, "Failed password for from 10.1.1.2 port 5 from 127.0.0.1 port 58", "127.0.0.1");
}

#[test]
fn a_field_ends_where_the_next_character_stands() {
    check("[client <ip>:<num>] <text>", "[client 2001:db8::5:41234] x", "2001:db8::5");
    check("[client <ip>:<num>] <text>", "[client 192.0.2.1:41234] x", "192.0.2.1");
    check("gone: <ip>.", "gone: 192.0.2.1.", "192.0.2.1");
    check("<word> (<word>[<ip>]) - <text>", "h (a.example[192.0.2.1]) - USER x: no", "192.0.2.1");
    check("<ip> \"<quoted>\" <num>", r#"192.0.2.1 "a \" b\\" 200"#, "192.0.2.1");
    check("<ip> \"<quoted>\" <num>", r#"192.0.2.1 "a \" 200"#, "-");
    check("user=<word> ip=<ip>", "user=a b ip=192.0.2.1", "-");
}

#[test]
fn free_text_stands_anywhere_it_cannot_lie() {
    check(
        "[<user>] FAIL LOGIN: Client \"<ip>\"",
        "[a] FAIL LOGIN: Client \"10.0.0.1\"] FAIL LOGIN: Client \"192.0.2.1\"",
        "192.0.2.1",
    );
    check("a <ip> <text> b <text> c", "a 192.0.2.1 b b  b c b c", "192.0.2.1");
    check("a <ip> <text> b <text> c", "a 192.0.2.1 b b  c b", "-");
    check("<text> from <ip>", " from  from 192.0.2.1", "192.0.2.1");
}

#[test]
fn rules_that_begin_alike_are_told_apart() {
    let rules = "abc <ip>\nabcd <ip>\nabc x<ip>\nab<word> <ip>\n<word> <word> <ip>";
    for message in ["abc 192.0.2.1", "abcd 192.0.2.1", "abc x192.0.2.1", "abx 192.0.2.1", "q r 192.0.2.1"] {
        check(rules, message, "192.0.2.1");
    }
    check(rules, "abcde", "-");
    check(rules, "", "-");
}

#[test]
fn a_backslash_makes_plain() {
    check(r"\{\<x\>\|\\\} <ip>", r"{<x>|\} 192.0.2.1", "192.0.2.1");
}

const ACCESS: &str = r#"
program: p
list probes:
    /.env
    /.git/
shape access:
    <ip> <user> [<word> <word>] "<request:quoted>" <status:num> <num>{ "<agent:quoted>"}?
auth-failure in access:
    status is 401 407
probe in access:
    request has @probes
    status is not 200 and request ends ".php HTTP/1.1"
bot in access:
    agent starts zgrab "evil bot"
"#;

/// The category that a request falls under.
#[track_caller]
fn category(request: &str, want: &str) {
    let grammar = load(ACCESS).unwrap_or_else(|faults| panic!("{faults}"));
    let message = format!("192.0.2.1 - [22/Nov/2026:05:40:46 +0000] {request}");
    assert_eq!(grammar.read(message.as_bytes()).map_or("-", |found| found.category()), want);
}

#[test]
fn conditions_choose_the_category() {
    category(r#""GET / HTTP/1.1" 200 5"#, "-");
    category(r#""GET / HTTP/1.1" 401 5"#, "auth-failure");
    category(r#""GET /.env HTTP/1.1" 401 5"#, "auth-failure");
    category(r#""GET /a/.ENV HTTP/1.1" 200 5"#, "probe");
    category(r#""GET /x.php HTTP/1.1" 404 5"#, "probe");
    category(r#""GET /x.php HTTP/1.1" 200 5"#, "-");
    category(r#""GET / HTTP/1.1" 200 5 "Zgrab/0.x""#, "bot");
    category(r#""GET / HTTP/1.1" 200 5 "Evil Bot 2""#, "bot");
    category(r#""GET / HTTP/1.1" 200 5 "no evil bot""#, "-");
}

/// The words of the list `probes` that are new or gone with this file, and what is doubtful in it.
#[track_caller]
fn list(file: &str, want: (&[&str], &[&str], &str)) {
    let before = Lists::shipped();
    let mut after = before.clone();
    let faults: Vec<String> = after.add("probes", "probes.list", file).iter().map(Fault::to_string).collect();
    let (before, after) = (before.get("probes").unwrap(), after.get("probes").unwrap());
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|word| !those.contains(word)).cloned().collect()
    };
    assert_eq!((only(after, before), only(before, after), faults.join("\n")), {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        (owned(want.0), owned(want.1), want.2.to_owned())
    });
}

#[test]
fn a_list_is_added_to_and_taken_from() {
    list("# ours\n/trap/\n  /a b  \n\n.env\n", (&["/trap/", "/a b"], &[], ""));
    list("not  /.ENV\n/trap/\nnot /trap/\n", (&[], &[".env"], ""));
    let fault = "probes.list:2:3: warning: the list `probes` has no `/x` to remove\n      not /x\n      ^";
    list("/y\n  not /x\n", (&["/y"], &[], fault));
}

#[test]
fn a_grammar_means_its_own_list_before_the_shared_one() {
    let text = |list: &str| {
        format!("program: p\n{list}shape s:\n    <ip> <path:text>\nx in s:\n    path has @probes\n")
    };
    let reads = |list: &str, path: &str| {
        load(&text(list)).unwrap().read(format!("192.0.2.1 {path}").as_bytes()).is_some()
    };
    assert!(reads("", "/.env"));
    assert!(!reads("list probes:\n    /mine\n", "/.env"));
    assert!(reads("list probes:\n    /mine\n", "/mine"));
    let unknown = load(&text("").replace("@probes", "@nothing")).map(|_| ()).unwrap_err();
    assert!(unknown.contains("there is no `list nothing:` and no file `nothing.list`"), "{unknown}");
}

#[test]
fn free_text_on_both_sides_is_refused() {
    refused(
        "program: p\nx:\n    login <user> from <ip> as <text>\n",
        "p.grammar:3:5: an attacker can choose the address: `login  from :: as from :: as ` can be read as `::` (column 24) but also as `::` (column 13)\n\
         \x20       login <user> from <ip> as <text>\n\
         \x20       ^",
    );
}

#[test]
fn two_rules_with_different_addresses_are_refused() {
    let error = grammar("login <ip> by <word>\nlogin <word> by <ip>").map(|_| ()).unwrap_err();
    assert_eq!(
        error,
        "p.grammar:4:5: an attacker can choose the address: `login :: by ::` can be read as `::` (column 13) here, but in line 3 as `::` (column 7)\n        login <word> by <ip>\n        ^"
    );
}

#[test]
fn ambiguity_inside_one_rule_is_refused() {
    assert!(grammar("[client <ip>{:<num>}?] <text>").is_err());
    assert!(grammar("<text>{ <ip>|x}").is_err());
    assert!(grammar("<user> from <ip> <text>").is_err());
    assert!(grammar("x <quoted>").is_err());
}

#[test]
fn who_is_forwarded_for_cannot_be_chosen_either() {
    refused(
        "program: p\nx:\n    <ip> for <forwarded>;{ <text>}?\n    <ip> for <text>.\n",
        "p.grammar:4:5: an attacker can choose the forwarded header: `:: for a; .` can be read as none here, but in line 3 as `a` (column 8)\n\
         \x20       <ip> for <text>.\n\
         \x20       ^",
    );
    assert!(grammar("<ip> <text> for \"<forwarded>\"{ <text>}?").is_err());
    for rules in
        ["<ip> <forwarded>", "<ip> <forwarded>, <forwarded>;", "<ip> <rest> x", "<ip> <text> x <unquoted> y"]
    {
        assert!(grammar(rules).is_err(), "{rules}");
    }
}

#[test]
fn what_is_unquoted_ends_before_a_quote() {
    let rule = "<ip> <unquoted> [<word>] \"<quoted>\" <rest>";
    check(rule, r#"192.0.2.1 a [b] [c] "x [d] \"y" z"#, "192.0.2.1");
    check(rule, r#"192.0.2.1  [c] "x" "z"#, "-");
    check(rule, r#"192.0.2.1 a" [b] "x" z"#, "-");
    check(rule, r#"192.0.2.1 a\" [b] "x" z"#, "192.0.2.1");
    check("<ip> <unquoted>", r#"192.0.2.1 a"b"#, "-");
    check("<ip> <unquoted>", r#"192.0.2.1 a\"b\"#, "192.0.2.1");
    check("<ip> \"<quoted>", r#"192.0.2.1 "a \" b\"#, "192.0.2.1");
    check("<ip> \"<quoted>", r#"192.0.2.1 "a" b"#, "-");
}

#[test]
fn faults_point_at_the_place() {
    refused(
        "program: p\nx:\n    Login of <user> from <iq>\n",
        "p.grammar:3:27: unknown field `iq`; fields are ip, peer, key, user, text, word, num, time, host, quoted, unquoted, rest, forwarded and `not` with characters\n\
         \x20       Login of <user> from <iq>\n\
         \x20                             ^",
    );
}

#[test]
fn shipped_grammars_are_sound_and_every_rule_has_a_test() {
    let grammars = SHIPPED.iter().map(|(name, text)| {
        let (grammar, warnings) =
            Grammar::load(name, name, text, &Lists::shipped()).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(warnings, [], "{name}");
        grammar
    });
    assert_eq!(Grammars::new(grammars.collect()).map(drop), Ok(()));
}

/// The grammars of these texts, named `a`, `b` and so on.
fn several(texts: &[&str]) -> Result<Grammars, String> {
    let load = |(name, text): (u8, &&str)| {
        let name = char::from(name).to_string();
        let base = Grammar::base_of(text).and(texts.first()).copied();
        Grammar::load_with(&name, &format!("{name}.grammar"), text, base, &Lists::shipped())
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .0
    };
    Grammars::new((b'a'..).zip(texts).map(load).collect())
}

fn entry<'a>(program: &'a str, message: &'a str, cut: bool) -> Entry<'a> {
    Entry {
        time: crate::model::Timestamp::default(),
        host: b"",
        program: program.as_bytes(),
        pid: 0,
        sender: Sender::default(),
        message: message.as_bytes(),
        times: 1,
        cut,
        goes_on: false,
    }
}

/// The key at a place in an entry.
fn shown(entry: &Entry<'_>, place: KeyPlace) -> String {
    format!("key {}", String::from_utf8_lossy(place.of(entry.message).unwrap()))
}

/// What they find in a program's message: the grammar, the category and the address.
fn found(grammars: &Grammars, program: &str, message: &str) -> String {
    let entry = entry(program, message, false);
    let told = |id| grammars.get(id).unwrap().name().to_owned();
    match grammars.find(&entry) {
        Outcome::Offence(offence, rule) => format!("{} {rule} {}", told(offence.grammar), offence.address),
        Outcome::Login(login) => format!("{} login {}", told(login.grammar), login.address),
        Outcome::Naming(id, place, address) => {
            let (key, address) = (shown(&entry, place), address.map_or("-".to_owned(), |a| a.to_string()));
            format!("{} {key} is {address}", told(id))
        }
        Outcome::Referring(offence, rule, place) => {
            format!("{} {rule} {}", told(offence.grammar), shown(&entry, place))
        }
        Outcome::Harmless(id) => format!("{} harmless", told(id)),
        Outcome::Forged(id) => format!("{} forged", told(id)),
        Outcome::Ignored => "ignored".to_owned(),
    }
}

#[test]
fn several_grammars_read_one_program() {
    let pam = "program: *\nx:\n    pam_unix(p:auth): rhost=<ip> user=<text>\n";
    let grammars = several(&[
        "program: p\nx:\n    failed <ip>\nlogin:\n    welcome <ip>\n",
        pam,
        "program: p\nx:\n    welcome <ip> again\n",
        "program: w(*)\nx:\n    failed for <ip>\n",
    ])
    .unwrap();
    let check = |program, message, want| assert_eq!(found(&grammars, program, message), want);
    check("p", "failed 192.0.2.1", "a 3 192.0.2.1");
    check("p", "welcome 192.0.2.1", "a login 192.0.2.1");
    check("p", "welcome 192.0.2.1 again", "c 3 192.0.2.1");
    check("p", "pam_unix(p:auth): rhost=192.0.2.1 user=x", "b 3 192.0.2.1");
    check("q", "pam_unix(p:auth): rhost=192.0.2.1 user=x", "b 3 192.0.2.1");
    check("p", "hello", "a harmless");
    check("q", "hello", "ignored");
    check("w(www.example.org)", "failed for 192.0.2.1", "d 3 192.0.2.1");
    check("w(www.example.org)", "hello", "d harmless");
    check("w", "failed for 192.0.2.1", "ignored");
    check("banstream", "pam_unix(p:auth): rhost=192.0.2.1 user=x", "ignored");
}

#[test]
fn grammars_of_one_program_are_proved_together() {
    let refused = |texts: &[&str], want: &str| assert_eq!(several(texts).unwrap_err(), want);
    let after = "program: p\nx:\n    login of <text> from <ip>\n";
    let both = "b.grammar:3:5: an attacker can choose the address: `login of :: from ::` can be read as `::` (column 10) here, but by a.grammar:3:5 as `::` (column 18)";
    refused(&[after, "program: p\nx:\n    login of <ip> from <text>\n"], both);
    refused(&[after, "program: q *\nx:\n    login of <ip> from <text>\n"], both);
    refused(
        &[
            "program: p-*\nx:\n    login of <text> from <ip>\n",
            "program: *-q\nx:\n    login of <ip> from <text>\n",
        ],
        both,
    );
    // A form of one that a rule of the other would misread.
    let other = "program: p\nx:\n    failed <ip>\nother:\n    login of <ip> from <text>\n";
    assert!(several(&[after, other]).unwrap_err().contains("an attacker can choose the address"));
    assert!(several(&[after, "program: q\nx:\n    login of <ip> from <text>\n"]).is_ok());
    assert!(several(&[after, "program: p\nx:\n    logout of <ip> from <text>\n"]).is_ok());
}

#[test]
fn the_header_of_a_shipped_grammar_is_that_of_the_whole() {
    let header = |source: &source::Source| {
        let forgeable = source.forgeable.as_ref().map(|log| (log.files.clone(), log.line));
        let keys: Vec<_> = source.keys.iter().map(|key| (key.name.clone(), key.is_inherited)).collect();
        let source::Source {
            service,
            logs,
            tested,
            extends,
            programs,
            units,
            users,
            session,
            categories,
            ..
        } = source;
        format!(
            "{:?}",
            (service, logs, tested, extends, programs, units, users, session, categories, forgeable, keys)
        )
    };
    for (name, _) in SHIPPED {
        let grammar = Grammar::shipped(name, &Lists::shipped()).unwrap();
        assert_eq!(header(&grammar.source), header(grammar.whole()), "{name}");
        assert!(grammar.source.tests.is_empty() && grammar.tests().next().is_some(), "{name}");
    }
}

#[test]
fn shipped_grammars_are_proved_before_they_are_used() {
    let load = || {
        Grammars::new(
            SHIPPED.iter().map(|(name, _)| Grammar::shipped(name, &Lists::shipped()).unwrap()).collect(),
        )
    };
    let grammars = load().unwrap();
    let proved = || {
        let is_proved = |grammar: &&Grammar| grammar.is_sound.get() == Some(&true);
        grammars.iter().filter(is_proved).map(Grammar::name).collect::<Vec<_>>()
    };
    assert!(proved().is_empty());
    assert!(
        found(&grammars, "sshd", "Failed password for root from 192.0.2.1 port 22 ssh2").starts_with("sshd ")
    );
    assert!(proved().contains(&"sshd") && !proved().contains(&"nginx"));
    // Trusted, so that the proof itself waits for a cut message.
    let knows_cuts = || {
        let sshd = grammars.iter().find(|grammar| grammar.name() == "sshd").unwrap();
        sshd.proof.get().is_some()
    };
    assert!(!knows_cuts());
    let cut = entry("sshd", "Failed password for root from 192.0.2.1 port 22 ssh2", true);
    assert!(matches!(grammars.find(&cut), Outcome::Offence(..)) && knows_cuts());
    // A cut message is read as by one that was proved when it was loaded.
    assert!(matches!(
        grammars.find(&entry("vsftpd", "[x] FAIL LOGIN: Client \"192.0.2.1\", \"", true)),
        Outcome::Harmless(_)
    ));
}

#[test]
fn a_shipped_grammar_that_is_not_listed_as_proved_is_proved_before_it_is_used() {
    let shipped = |(name, text): (u8, &&'static str)| {
        let name = char::from(name).to_string();
        let source = syntax::header(text, None, &mut Faults::new(&name, text));
        Grammar { is_shipped: true, ..Grammar::of(&name, &name, (*text).into(), source, &Lists::shipped()) }
    };
    let read = |texts: &[&'static str]| {
        let grammars = Grammars::new((b'a'..).zip(texts).map(shipped).collect()).unwrap();
        found(&grammars, "p", "login of 192.0.2.1 from 192.0.2.2")
    };
    let after = "program: p\nx:\n    login of <text> from <ip>\n";
    assert_eq!(read(&[after]), "a 3 192.0.2.2");
    assert_eq!(read(&[after, "program: p\nx:\n    logout of <ip> from <text>\n"]), "a 3 192.0.2.2");
    assert_eq!(read(&[after, "program: p\nx:\n    login of <ip> from <text>\n"]), "ignored");
    assert_eq!(read(&["program: p\nx:\n    login of <ip> from <text>\n    <text> from <ip>\n"]), "ignored");
}

#[test]
fn a_cut_message_is_read_only_where_no_grammar_of_its_program_is_misled() {
    let short = "program: p\nx:\n    try <ip> b\n";
    let read = |texts: &[&str]| {
        let entry = entry("p", "try 192.0.2.1 b", true);
        matches!(several(texts).unwrap().find(&entry), Outcome::Offence(..))
    };
    assert!(read(&[short]));
    // The beginning of a message that names another address.
    assert!(!read(&[short, "program: p\nx:\n    try <word> by <ip>\n"]));
}

#[test]
fn a_grammar_extends_another() {
    let base = "program: p\nunit: p.service\nsession: address\nshape log:\n    <ip> <status:num> <text>\nx in log:\n    status is 500\n";
    let grammars = several(&[base, "extends: a\ny in log:\n    status is 404\ny:\n    gone <ip>\n"]).unwrap();
    assert_eq!(found(&grammars, "p", "192.0.2.1 500 x"), "a 5 192.0.2.1");
    assert_eq!(found(&grammars, "p", "192.0.2.1 404 x"), "b 3 192.0.2.1");
    assert_eq!(found(&grammars, "p", "gone 192.0.2.1"), "b 5 192.0.2.1");
    // What both find is the extension's.
    let both = several(&[base, "extends: a\ny in log:\n    status starts 5\n"]).unwrap();
    assert_eq!(found(&both, "p", "192.0.2.1 500 x"), "b 3 192.0.2.1");
    let extension = grammars.iter().nth(1).unwrap();
    assert_eq!(
        (extension.extends(), extension.programs(), extension.units()),
        (Some("a"), &["p".to_owned()][..], &["p.service".to_owned()][..])
    );
    let alone = Grammar::load("b", "b.grammar", "extends: a\ny:\n    gone <ip>\n", &Lists::shipped());
    assert!(alone.unwrap_err().iter().any(|fault| fault.what == "there is no grammar `a` to extend"));
}

#[test]
fn a_grammar_for_all_programs_begins_with_text() {
    refused(
        "program: *\nx:\n    <text> of <ip>\n",
        "p.grammar:3:5: in a grammar with `program: *` each rule begins with at least 5 bytes of text\n\
         \x20       <text> of <ip>\n\
         \x20       ^",
    );
}

/// Whether a sender with these may write for a server of which the grammar says this, where www-data has the id 33.
#[track_caller]
fn is_believed(server: &str, sender: Sender<'_>, want: bool) {
    let text = format!("program: sshd\n{server}\nx:\n    a <ip>\n");
    let grammars = Grammars::new(vec![load(&text).unwrap_or_else(|faults| panic!("{faults}"))]).unwrap();
    let grammars = grammars.with_users(&[("root".to_owned(), 0), ("www-data".to_owned(), 33)]);
    assert_eq!(!grammars.get(GrammarId(0)).unwrap().contradicts(&sender), want, "{sender:?}");
}

#[test]
fn root_and_the_grammars_units_and_users_are_believed() {
    const SSHD: &str = "unit: ssh.service ssh@*.service";
    const NGINX: &str = "unit: nginx.service\nuser: nginx www-data http";
    let uid = |uid| Sender { uid: Some(uid), ..Sender::default() };
    let inside = |sender, unit: &'static str| Sender { unit: Some(unit.as_bytes()), ..sender };
    let called = |sender, exe: &'static str| Sender {
        exe: Some(exe.as_bytes()),
        comm: exe.rsplit('/').next().map(str::as_bytes),
        ..sender
    };
    is_believed(SSHD, Sender::default(), true);
    is_believed(SSHD, called(uid(0), "/usr/bin/logger"), true);
    is_believed(SSHD, inside(uid(0), "cron.service"), true);
    is_believed(SSHD, inside(uid(101), "ssh.service"), true);
    is_believed(SSHD, inside(uid(101), "ssh@7-192.0.2.1:22.service"), true);
    // The name of a process or file proves nothing, and neither does its absence.
    for uid in [uid(1), uid(33), uid(999), uid(1000), uid(60_001), uid(65_534), uid(100_000)] {
        for server in [SSHD, "", "user: nobody-here"] {
            is_believed(server, uid, false);
            is_believed(server, called(uid, "/usr/sbin/sshd"), false);
            is_believed(server, called(uid, "/tmp/sshd"), false);
            is_believed(server, inside(uid, "session-1.scope"), false);
        }
    }
    is_believed(NGINX, uid(33), true);
    is_believed(NGINX, called(uid(33), "/tmp/nginx"), true);
    is_believed(NGINX, uid(34), false);
    is_believed(NGINX, inside(uid(34), "nginx.service"), true);
    // An id of another host says nothing about its user; the unit does.
    let remote = Sender { is_remote: true, ..uid(33) };
    is_believed(NGINX, remote, false);
    is_believed(NGINX, inside(remote, "nginx.service"), true);
    // Where sessions have no scope of their own, people are in the unit of a server that is root itself.
    for person in [uid(1000), uid(60_000), uid(65_536), uid(u32::MAX)] {
        is_believed(SSHD, inside(person, "ssh.service"), false);
        is_believed(NGINX, inside(person, "nginx.service"), true);
    }
    is_believed(SSHD, inside(uid(61_184), "ssh.service"), true);
}

/// Fills the rules and other forms of a grammar in turn with what an attacker would type, so many times, and reads the
/// result by the same rules with no proof in between; the messages in which another address was found than the true one.
fn spoofed(text: &str, times: usize) -> Vec<String> {
    let (rules, forms, without) = spelt(text);
    let (matcher, mut dice) = (Matcher::new(&rules), Dice(2_026));
    let mut spoofed = Vec::new();
    for variant in forms.iter().cycle().take(times.max(forms.len())) {
        let message = fill(variant, "192.0.2.1", &forms, &without, &mut dice, 2);
        matcher.read(&message, None, |reading, spans, _| {
            let rule = &rules[reading.pattern as usize];
            let forwarded = reading.forwarded.map(|(from, to)| &message[from..to]);
            let truth = variant.forwards().then_some(b"by 192.0.2.1".as_slice());
            if !excluded(rule, &without, &message, spans)
                && (!is_true(variant, rule, reading, spans, &message) || forwarded != truth)
            {
                spoofed.push(String::from_utf8_lossy(&message).into_owned());
            }
            None::<()>
        });
    }
    spoofed
}

/// Whether a rule reads a message of this form, or a beginning of it, with the address and the key that it has.
fn is_true(
    form: &Variant,
    rule: &Variant,
    reading: matcher::Reading,
    spans: &matcher::Spans,
    message: &[u8],
) -> bool {
    let address = if form.has_address() { Ipv4Addr::new(192, 0, 2, 1) } else { Ipv4Addr::UNSPECIFIED };
    let key = rule.key_slot().and_then(|slot| spans.get(slot.into()));
    let key = key.map(|(from, to)| &message[from as usize..to as usize]);
    reading.address == address && key == form.key_slot().map(|_| b"77".as_slice())
}

/// Whether a field holds what it never does, so that no condition holds.
fn excluded(rule: &Variant, without: &[Vec<String>], message: &[u8], spans: &matcher::Spans) -> bool {
    let excludes = |item: &variant::Item| {
        let variant::Item::Field(field) = item else { return false };
        let Some((from, to)) = spans.get(field.slot.into()) else { return false };
        holds_one(without, field, &message[from as usize..to as usize])
    };
    rule.items.iter().any(excludes)
}

/// Whether a text holds one of those that a field never holds.
fn holds_one(without: &[Vec<String>], field: &variant::Field, text: &[u8]) -> bool {
    let held = String::from_utf8_lossy(text).to_ascii_lowercase();
    let words = without.get(usize::from(field.without).wrapping_sub(1));
    words.is_some_and(|words| words.iter().any(|word| held.contains(&word.to_ascii_lowercase())))
}

/// The rules of a grammar, spelt out; these with its other forms behind; and what fields never hold.
fn spelt(text: &str) -> (Vec<Variant>, Vec<Variant>, Vec<Vec<String>>) {
    let mut faults = Faults::new("", text);
    let source = syntax::parse(text, None, &mut faults);
    let (mut rules, mut without) = (Vec::new(), Vec::new());
    for (number, group) in (0..).zip(&source.groups) {
        if group.record.is_some() {
            continue;
        }
        let first = rules.len();
        let names = variant::spell_out(&group.rules, number, group.whole(), &mut rules, &mut faults);
        condition::narrow(group, &names, &mut rules[first..], &mut without);
    }
    let mut forms = rules.clone();
    variant::spell_out(&source.others, variant::OTHER, Whole::Other, &mut forms, &mut faults);
    forms.extend(rules.iter().filter_map(Variant::without_promises));
    assert!(!faults.has_errors());
    (rules, forms, without)
}

/// A linear congruential generator (Knuth's MMIX): the same throws every time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A message of this shape about `address`. Where a stranger can type stand whole messages of any rule about somebody
/// else, pieces of them, and what breaks parsers.
pub(super) fn fill(
    variant: &variant::Variant,
    address: &str,
    all: &[variant::Variant],
    without: &[Vec<String>],
    dice: &mut Dice,
    depth: u32,
) -> Vec<u8> {
    let mut message = Vec::new();
    for item in &variant.items {
        match item {
            variant::Item::Text(text) => message.extend(text),
            variant::Item::Field(field) => {
                let mut typed = match field.kind {
                    source::FieldKind::Ip | source::FieldKind::Ipv4 => address.as_bytes().to_vec(),
                    // The server's own, but for what a lie says.
                    source::FieldKind::Key(_) => {
                        if address == "203.0.113.9" { b"99" } else { b"77" }.to_vec()
                    }
                    source::FieldKind::Host => b"www.example".to_vec(),
                    source::FieldKind::Forwarded => format!("by {address}").into_bytes(),
                    source::FieldKind::Time => stamp(dice),
                    source::FieldKind::Num => dice.throw(100_000).to_string().into_bytes(),
                    _ if depth > 0 && dice.throw(3) > 0 => {
                        let mut lie =
                            fill(&all[dice.throw(all.len())], "203.0.113.9", all, without, dice, depth - 1);
                        let (from, to) = (dice.throw(lie.len() + 1), dice.throw(lie.len() + 1));
                        if dice.throw(2) == 0 { lie } else { lie.drain(from.min(to)..from.max(to)).collect() }
                    }
                    _ => [
                        &b""[..],
                        b"x",
                        b" ",
                        b"\"",
                        b"\\",
                        b"203.0.113.9",
                        b" from 203.0.113.9 port 22 ssh2",
                        b"\xff\0",
                    ][dice.throw(8)]
                    .to_vec(),
                };
                // What the server itself sees to: a word is one, what is quoted is escaped, and the rest has its place.
                match field.kind {
                    source::FieldKind::Word => {
                        typed.retain(|byte| *byte != b' ' && Some(*byte) != field.stop);
                        typed.push(if field.stop == Some(b'x') { b'y' } else { b'x' });
                    }
                    source::FieldKind::Without(set) => {
                        typed.retain(|byte| !set.holds(*byte) && Some(*byte) != field.stop);
                        if field.stop.is_none() {
                            typed.push((b'w'..=b'z').find(|byte| !set.holds(*byte)).unwrap_or(b'-'));
                        }
                    }
                    source::FieldKind::Rest => typed.insert(0, b'x'),
                    // Spaces at the end of a message do not count, so it does not end in one.
                    source::FieldKind::Free if field.stop.is_none() => typed.push(b'x'),
                    source::FieldKind::Quoted | source::FieldKind::Unquoted => {
                        let escape = |byte: u8| {
                            if byte == b'"' || byte == b'\\' { vec![b'\\', byte] } else { vec![byte] }
                        };
                        typed = typed.into_iter().flat_map(escape).collect();
                        if field.stop.is_none() {
                            typed.push(b'x');
                        }
                    }
                    _ => {}
                }
                if holds_one(without, field, &typed) {
                    typed = b"x".to_vec();
                }
                message.extend(typed);
            }
        }
    }
    message.truncate(message.trim_ascii_end().len());
    message
}

/// A stamp, perhaps with a fraction and a zone.
fn stamp(dice: &mut Dice) -> Vec<u8> {
    let mut stamp = time::STAMPS[dice.throw(time::STAMPS.len())].to_owned();
    if dice.throw(2) == 0 {
        stamp.push(char::from(time::POINTS[dice.throw(time::POINTS.len())]));
        stamp += &"123456789"[..1 + dice.throw(time::DIGITS)];
    }
    if dice.throw(2) == 0 {
        stamp += [" ", ""][dice.throw(2)];
        stamp += time::ZONES[dice.throw(time::ZONES.len())];
    }
    stamp.into_bytes()
}

/// Messages a grammar: a moment's worth.
const FILLINGS: usize = 500;

#[test]
fn no_grammar_reads_what_we_say_ourselves() {
    let text = "program: p banstream\nx:\n    a <ip>\n";
    assert!(load(text).unwrap_err().contains("no grammar may read its lines"));
    let programs =
        SHIPPED.iter().flat_map(|(_, text)| text.lines().filter(|line| line.starts_with("program:")));
    assert!(
        programs.clone().count() >= SHIPPED.len()
            && programs.into_iter().all(|line| !line.contains("banstream"))
    );
}

#[test]
fn no_filling_of_a_shipped_rule_moves_the_address() {
    no_filling_moves_the_address(FILLINGS);
}

#[test]
#[ignore = "slow; `.ci/run` runs it"]
fn no_filling_of_many_moves_the_address() {
    no_filling_moves_the_address(25 * FILLINGS);
}

#[track_caller]
fn no_filling_moves_the_address(fillings: usize) {
    SHIPPED.par_iter().for_each(|(name, text)| {
        let spoofed = spoofed(text, fillings);
        assert!(spoofed.is_empty(), "{name}: {} messages, the first is `{}`", spoofed.len(), spoofed[0]);
    });
}

/// Fills each rule by itself; the first message that it does not find.
fn unfound(rules: &[Variant], without: &[Vec<String>], times: usize) -> Option<String> {
    let (mut dice, addresses) =
        (Dice(28), ["192.0.2.1", "2001:db8::1", "::", "1:2:3:4:5:6:7:8", "fe80::1%eth0.1"]);
    rules.iter().find_map(|rule| {
        let matcher = Matcher::new(std::slice::from_ref(rule));
        (0..times).find_map(|_| {
            let is_v4 = |item: &variant::Item| matches!(item, variant::Item::Field(field) if field.kind == source::FieldKind::Ipv4);
            let address = addresses[if rule.items.iter().any(is_v4) { 0 } else { dice.throw(addresses.len()) }];
            let message = fill(rule, address, rules, without, &mut dice, 1);
            let found = matcher.read(&message, None, |reading, spans, _| {
                let held = rule.has_address().then_some(reading.address);
                Some((!excluded(rule, without, &message, spans)).then_some(held))
            });
            let found = match found {
                Some(None) => return None,
                found => found.flatten(),
            };
            (found != Some(matcher::address(address.as_bytes()).filter(|_| rule.has_address())))
                .then(|| format!("{:?} in `{}`: {found:?}", rule.items, String::from_utf8_lossy(&message)))
        })
    })
}

/// [`Grammar::has_field`] goes by that.
#[test]
fn what_a_shipped_grammar_calls_a_field_of_a_kind_is_one() {
    let names = |text: String| -> Vec<String> {
        let names = text.split('<').filter_map(|behind| {
            let (name, kind) = behind.split_once('>')?.0.split_once(':')?;
            ["quoted", "text", "word", "num"].contains(&kind).then(|| name.to_owned())
        });
        names.collect()
    };
    let mut found = 0;
    for (name, _) in SHIPPED {
        let grammar = Grammar::shipped(name, &Lists::shipped()).unwrap();
        for field in names(String::from_utf8_lossy(grammar.first_sections()).into_owned()) {
            assert!(grammar.whole().has_field(&field), "{name}: {field}");
            found += 1;
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn every_filling_of_a_shipped_rule_is_found() {
    SHIPPED.par_iter().for_each(|(name, text)| {
        let (rules, _, without) = spelt(text);
        assert_eq!(unfound(&rules, &without, 1 + FILLINGS / 100), None, "{name}");
    });
}

/// What random rules are made of.
const PIECES: &[&str] = &[
    "<ip>",
    "<peer>",
    "<host>",
    "<num>",
    "<word>",
    "<text>",
    "<quoted>",
    "<unquoted>",
    "<rest>",
    "<time>",
    "<not \\ x,>",
    "<not :>",
    " ",
    ":",
    ": ",
    ".",
    "[",
    "]",
    "]:",
    "\"",
    "a",
    "-",
    " from ",
    "%",
    ",",
];

/// How many fillings of rules they read.
fn filled(rules: &[Variant], times: usize, dice: &mut Dice) -> usize {
    let (matcher, reference) = (Matcher::new(rules), Reference::new(rules));
    // To read a message apart takes as long as there are rules: of thousands, some are filled.
    let messages = (0..times).flat_map(|_| rules.iter().step_by(1 + rules.len() / 256));
    let read = messages.filter(|rule| {
        let message = fill(rule, ["192.0.2.1", "2001:db8::1"][dice.throw(2)], rules, &[], dice, 1);
        reference.compare(&matcher, &message)
    });
    read.count()
}

/// What a stranger could make of a line: some of its bytes are others, are gone or stand twice.
fn mutated(line: &[u8], dice: &mut Dice) -> Vec<u8> {
    const BYTES: &[u8] = b" \"\\:.,;[]()<>-_/%@'=|#0159afz{}~\x00\x7f\x80\xff\t";
    let mut line = line.to_vec();
    for _ in 0..1 + dice.throw(4) {
        let (from, to) = (dice.throw(line.len() + 1), dice.throw(line.len() + 1));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 20));
        let piece = line[from..to].to_vec();
        match dice.throw(5) {
            0 => line.insert(from, BYTES[dice.throw(BYTES.len())]),
            1 => drop(line.splice(to..to, piece)),
            2 => drop(line.drain(from..to)),
            3 => line.truncate(to),
            _ => line.iter_mut().skip(from).take(1).for_each(|byte| *byte = BYTES[dice.throw(BYTES.len())]),
        }
    }
    line
}

/// The compiled matcher reads what each rule reads by itself, byte by byte, and of the conditions the first holds that
/// nothing contradicts.
#[test]
fn whatever_the_message_the_matcher_reads_what_its_reference_reads() {
    SHIPPED.par_iter().for_each(|(name, text)| {
        let (grammar, _) = Grammar::load(name, name, text, &Lists::shipped()).unwrap();
        let mut dice = Dice(name.len() as u64);
        let lines: Vec<&[u8]> = grammar.tests().map(|(message, _)| message.as_bytes()).collect();
        for line in &lines {
            grammar.compare(line);
            (0..FILLINGS / 50).for_each(|_| grammar.compare(&mutated(line, &mut dice)));
        }
        for _ in 0..FILLINGS / 5 {
            // Two lines that are one, and any bytes.
            let [one, other] = [0; 2].map(|_| lines[dice.throw(lines.len())]);
            let at = dice.throw(one.len().min(other.len()) + 1);
            grammar.compare(&[&one[..at], &other[at..]].concat());
            let bytes: Vec<u8> = (0..dice.throw(40)).map(|_| dice.throw(256) as u8).collect();
            grammar.compare(&bytes);
        }
    });
}

#[test]
fn a_line_that_means_nothing_is_read_no_further() {
    let lists = Lists::shipped();
    for name in ["nginx", "apache"] {
        let grammar = Grammar::shipped(name, &lists).unwrap();
        let may_mean = |request: &str, status: u16, agent: &str| {
            let line = format!(
                r#"192.0.2.1 - - [22/Nov/2026:05:42:09 +0000] "{request}" {status} 17713 "https://a.example/" "{agent}""#
            );
            grammar.compiled().may_mean(line.as_bytes())
        };
        let check = |request: &str, status, want| {
            let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
            assert_eq!(may_mean(request, status, agent), want, "{name}: {request} {status}");
        };
        check("GET / HTTP/1.1", 200, false);
        check("GET /blog/?page=2 HTTP/2.0", 304, false);
        check("POST /comments HTTP/1.1", 302, false);
        check("GET /blog HTTP/1.1", 404, true);
        check("GET /.env HTTP/1.1", 200, true);
        check("GET /x/.ENV HTTP/1.1", 200, true);
        check("GET /x/.%65nv HTTP/1.1", 200, true);
        check("POST /blog/wp-login.php HTTP/1.1", 200, true);
        assert!(may_mean("GET / HTTP/1.1", 200, "sqlmap/1.7"));
        assert!(may_mean("GET / HTTP/1.1", 200, "Mozilla/5.0 (compatible; Nmap Scripting Engine)"));
        assert!(may_mean("GET / HTTP/1.1", 200, "() { :; }; x"));
    }
    let text = "program: p\nshape s:\n    <ip> <user>\nx in s:\n    user has abc\n";
    let grammar = load(text).unwrap();
    assert!(grammar.compiled().may_mean(b"192.0.2.1 ab"), "three bytes are not looked for");
    let grammar = load(&text.replace("abc", "abcd efgh")).unwrap();
    let may_mean = |text: &str| grammar.compiled().may_mean(format!("192.0.2.1 {text}").as_bytes());
    for front in 1..20 {
        let front = "x".repeat(front);
        assert!(may_mean(&format!("{front}abCd")) && may_mean(&format!("{front}EFGH{front}")));
        assert!(!may_mean(&format!("{front}ab{front}cd{front}ef")));
    }
}

#[test]
fn what_rules_have_in_common_changes_no_reading() {
    // Each rule in a group of its own, so that fields of several rules have one slot.
    let groups = |rules: &[&str]| {
        let mut variants = Vec::new();
        for (group, rule) in (0..).zip(rules) {
            let text = format!("program: p\nx:\n    {rule}\n");
            let mut faults = Faults::new("", &text);
            let source = syntax::parse(&text, None, &mut faults);
            let (mut spelt, rules) =
                (Vec::new(), source.groups.first().map_or(&[][..], |group| &group.rules));
            variant::spell_out(rules, group, Whole::Message, &mut spelt, &mut faults);
            if !faults.has_errors() {
                variants.append(&mut spelt);
            }
        }
        variants
    };
    // The second takes a part of what the first took, and fails; the third begins as the first.
    let between = groups(&["<word> x <ip>", "<ip>:<num>", "<word> y <ip>"]);
    assert!(Reference::new(&between).compare(&Matcher::new(&between), b"192.0.2.1:z y 2001:db8::1"));
    SHIPPED.par_iter().for_each(|(name, text)| {
        let (rules, ..) = spelt(text);
        assert!(rules.is_empty() || filled(&rules, 1, &mut Dice(5)) > 0, "{name}");
    });
    let (mut dice, mut read) = (Dice(6), 0);
    for _ in 0..FILLINGS {
        let pieces = |most: usize, dice: &mut Dice| -> String {
            (0..1 + dice.throw(most)).map(|_| PIECES[dice.throw(PIECES.len())]).collect()
        };
        // Rules that begin alike, with others between them.
        let begins = [pieces(4, &mut dice), pieces(4, &mut dice)];
        let rules: Vec<String> =
            (0..6).map(|_| begins[dice.throw(2)].clone() + &pieces(3, &mut dice)).collect();
        read += filled(&groups(&rules.iter().map(String::as_str).collect::<Vec<_>>()), 4, &mut dice);
    }
    assert!(read > FILLINGS / 10, "only {read} messages");
}

/// What the proof accepts, the matcher finds: of any rule, not only of those that somebody wrote.
#[test]
fn every_filling_of_a_sound_rule_is_found() {
    let (mut dice, mut sound) = (Dice(11), 0);
    for _ in 0..FILLINGS {
        let rule: String = (0..2 + dice.throw(6)).map(|_| PIECES[dice.throw(PIECES.len())]).collect();
        if grammar(&rule).is_ok() {
            sound += 1;
            let (rules, ..) = spelt(&format!("program: p\nx:\n    {rule}\n"));
            assert_eq!(unfound(&rules, &[], 20), None, "{rule}");
        }
    }
    assert!(sound > FILLINGS / 50, "{sound} sound rules");
}

#[test]
fn without_the_proof_such_fillings_are_found() {
    for rule in [
        "login <user> from <ip> as <text>",
        "a <text> by <word> at <ip>{ of <text>}?",
        "a <ip> <text> for \"<forwarded>\"{ <text>}?",
    ] {
        assert!(grammar(rule).is_err());
        assert!(
            !spoofed(&format!("program: p\nx:\n    {rule}\n    login <user> by <ip>\n"), 30_000).is_empty(),
            "{rule}"
        );
    }
}

/// Where the closest rule stops: its line, the column, and what it wants there.
#[track_caller]
fn stops(rules: &str, message: &str, want: &str) {
    let grammar = grammar(rules).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(grammar.read(message.as_bytes()).is_none());
    let got = match grammar.miss_reason(message.as_bytes()) {
        MissReason::Unread(Closest { line, at, expected, .. }) => {
            format!("{}:{}: {}", line - 2, at + 1, expected.join(" or "))
        }
        other => format!("{other:?}"),
    };
    assert_eq!(got, want);
}

#[test]
fn the_closest_rule_says_where_it_stops() {
    let rules =
        &format!("{FAILED}\nConnection {{closed|reset}} by <ip>\n<text> for <user> from <ip>, <num> times");
    stops(rules, "Failed password for root to 192.0.2.1 port 22", "1:21: `invalid user ` or ` from ` later");
    stops(rules, "Failed passwd for root from 192.0.2.1 port 22", "3:38: `, `");
    stops(rules, "Failed password for root from host.example port 22", "1:31: <ip>");
    stops(rules, "Failed password for root from 192.0.2.256 port 22", "1:31: <ip>");
    stops(rules, "Failed password for root from 192.0.2.1 port 22 ssh3", "1:49: `ssh2`");
    stops(rules, "Connection lost by 192.0.2.1", "2:12: `closed by ` or `reset by `");
    stops(rules, "Connection resumed by 192.0.2.1", "2:12: `reset by ` or `closed by `");
    stops(rules, "x for y from 192.0.2.1, many times", "3:25: <num>");
    stops(rules, "Session opened", "Unlike");
}

#[test]
fn a_condition_that_does_not_hold_names_the_field() {
    let grammar = load(ACCESS).unwrap_or_else(|faults| panic!("{faults}"));
    let message = br#"192.0.2.1 - [22/Nov/2026:05:40:46 +0000] "GET / HTTP/1.1" 200 5"#;
    let MissReason::Unmet(unmet) = grammar.miss_reason(message) else { panic!("the shape reads it") };
    let shown: Vec<String> = unmet
        .iter()
        .map(|Unmet { category, line, written, field, holds }| {
            let holds = holds.as_deref().map_or("nothing".into(), String::from_utf8_lossy);
            format!("{category}:{line}: {written}: {field} holds {holds}")
        })
        .collect();
    let want = [
        "auth-failure:9: status is 401 407: status holds 200",
        "probe:11: request has @probes: request holds GET / HTTP/1.1",
        "probe:12: status is not 200 and request ends \".php HTTP/1.1\": status holds 200",
        "bot:14: agent starts zgrab \"evil bot\": agent holds nothing",
    ];
    assert_eq!(shown, want);
}

#[test]
fn a_match_shows_what_each_field_held() {
    let grammar = grammar(FAILED).unwrap();
    let message = b"Failed password for invalid user a b from 192.0.2.1 port 22";
    let found = grammar.read(message).unwrap();
    let held = |h: &FieldText<'_, '_>| {
        format!("{:?} {} {}..{} {}", h.name, h.kind, h.from, h.to, String::from_utf8_lossy(&h.text))
    };
    let held: Vec<String> = found.field_texts(message).iter().map(held).collect();
    assert_eq!(held, ["Some(\"user\") text 33..36 a b", "None ip 42..51 192.0.2.1", "None num 57..59 22"]);
    assert_eq!(found.written(), FAILED);
}

/// The template of a message that these rules and tests do not know.
#[track_caller]
fn strange(message: &str, want: Option<&str>) {
    let tests = "test:\n    - Accepted password for git from 192.0.2.1 via east\n";
    let grammar = load(&format!("program: p\nx:\n    {FAILED}\n    gone by <ip>\n{tests}")).unwrap();
    assert_eq!(grammar.unmatched_template(message.as_bytes()).as_deref(), want);
}

#[test]
fn a_message_that_no_rule_knows_is_told_by_its_template() {
    strange("Login failure for bob from 192.0.2.1", Some("Login failure for <user> from <ip>"));
    strange(
        "Failed passkey for bob from 192.0.2.1 port 22",
        Some("Failed passkey for <user> from <ip> port <num>"),
    );
    strange("Failed password for bob from 192.0.2.1 port 22", None);
    strange("Login failure for bob", None);
    // A word of the rules makes a difference; any other is taken for what varies.
    strange("Accepted password for bob from 192.0.2.9 via west", None);
    strange(
        "Accepted none for bob from 192.0.2.9 via east",
        Some("Accepted none for <user> from <ip> via east"),
    );
    strange(&format!("{} 192.0.2.1", "x".repeat(600)), None);
}

/// What becomes of a message that anybody may have written, and of the same from `uid`.
#[track_caller]
fn login(text: &str, message: &str, uid: u32, want: [&str; 2]) {
    let grammars = Grammars::new(vec![load(text).unwrap_or_else(|faults| panic!("{faults}"))]).unwrap();
    let outcome = |uid| {
        let sender = Sender { uid, ..Sender::default() };
        let entry = Entry { sender, ..entry("p", message, false) };
        match grammars.find(&entry) {
            Outcome::Ignored | Outcome::Harmless(_) | Outcome::Naming(..) => "nothing",
            Outcome::Forged(..) => "forged",
            Outcome::Offence(..) | Outcome::Referring(..) => "offence",
            Outcome::Login(..) => "login",
        }
    };
    assert_eq!([outcome(None), outcome(Some(uid))], want);
}

#[test]
fn a_grammar_for_all_programs_believes_no_output() {
    // How many of the grammars for these programs find an offence in the line of one that is called `p`.
    let find = |programs: &[&str], prints| {
        let grammar = |program: &&str| load(&format!("program: {program}\nx:\n    Failed from <ip>\n"));
        let all: Result<Vec<_>, _> = programs.iter().map(grammar).collect();
        let grammars = Grammars::new(all.unwrap_or_else(|faults| panic!("{faults}"))).unwrap();
        let sender = Sender { uid: Some(0), prints, ..Sender::default() };
        let entry = Entry { sender, ..entry("p", "Failed from 192.0.2.1", false) };
        match grammars.find(&entry) {
            Outcome::Offence(first, _) => 1 + grammars.further(&entry, first.grammar).count(),
            _ => 0,
        }
    };
    assert_eq!([find(&["p"], false), find(&["p"], true)], [1, 1]);
    assert_eq!([find(&["*"], false), find(&["*"], true)], [1, 0]);
    assert_eq!([find(&["p", "*"], false), find(&["p", "*"], true)], [2, 1]);
}

#[test]
fn a_login_is_no_offence_and_cannot_be_forged() {
    let text = "program: p\nlogin:\n    Accepted <text> from <ip>\nx:\n    Failed <text> from <ip>\n";
    assert_eq!(load(text).unwrap().categories(), ["x"]);
    login(text, "Accepted alice from 192.0.2.1", 1000, ["login", "forged"]);
    login(text, "Accepted alice from 192.0.2.1", 0, ["login", "login"]);
    login(text, "Failed alice from 192.0.2.1", 1000, ["offence", "forged"]);
    refused(
        "program: p\nlogin:\n    <text> from <ip>\nx:\n    <ip> failed <text>\n",
        "p.grammar:5:5: an attacker can choose the address: `:: failed from ::` can be read as `::` (column 1) here, but in line 3 as `::` (column 16)\n        <ip> failed <text>\n        ^",
    );
}

#[test]
fn what_could_be_a_failure_is_no_login() {
    let rules = "program: p\nlogin:\n    <user> in from <ip>\nx:\n    Failed <user> from <ip>\n";
    login(rules, "alice in from 192.0.2.1", 0, ["login", "login"]);
    login(rules, "Failed x in from 192.0.2.1", 0, ["offence", "offence"]);
    let shape = "program: p\nshape s:\n    <what:text> from <ip>\nlogin in s:\n    what has accepted\nx in s:\n    what has failed\n";
    login(shape, "accepted from 192.0.2.1", 0, ["login", "login"]);
    login(shape, "failed for accepted from 192.0.2.1", 0, ["offence", "offence"]);
}

#[test]
fn an_address_may_have_a_port() {
    for (message, want) in [
        ("from 192.0.2.1: EOF", "192.0.2.1"),
        ("from 192.0.2.1:4711: EOF", "192.0.2.1"),
        ("from 2001:db8::1:4711: EOF", "2001:db8::1:4711"),
        ("from [2001:db8::1]:4711: EOF", "2001:db8::1"),
        ("from [2001:db8::1]: EOF", "2001:db8::1"),
        ("from 192.0.2.1:4711:1: EOF", "-"),
    ] {
        check("from <peer>: EOF", message, want);
    }
    check("from <ip>:<num>: EOF", "from 192.0.2.1:4711: EOF", "192.0.2.1");
    check("from <ip>:<num>: EOF", "from 2001:db8::1:4711: EOF", "2001:db8::1");
    check("from <ip>:<num>:<num>", "from 192.0.2.1:1:2", "192.0.2.1");
    check("gone: <ip>.", "gone: fe80::1%eth0.100.", "fe80::1");
}

#[test]
fn a_host_is_a_name_and_no_address() {
    for (host, want) in [
        ("www.example", "192.0.2.1"),
        ("www.example:443", "192.0.2.1"),
        ("_", "192.0.2.1"),
        ("abc.de", "192.0.2.1"),
        ("203.0.113.9", "-"),
        ("203.0.113.9:80", "-"),
        ("2001:db8::1", "-"),
        ("fe80::a", "-"),
        ("", "-"),
    ] {
        check("<host> <ip> x", &format!("{host} 192.0.2.1 x"), want);
    }
}

#[test]
fn a_rule_that_reads_another_form_of_message_is_refused() {
    let text = |rule: &str| {
        format!(
            "program: p\nother:\n    [<user>] OK DELETE: Client \"<ip>\", \"<text>\"\n    hello <text>\n{rule}"
        )
    };
    let refusal = load(&text("x:\n    [<user>] FAIL LOGIN: Client \"<ip>\"\n")).unwrap_err();
    assert!(
        refusal.contains("an attacker can choose the address") && refusal.contains("in line 3"),
        "{refusal}"
    );
    let refusal = load(&text("x:\n    {hello|bye} <text> at <ip>\n")).unwrap_err();
    assert!(refusal.contains("but in line 4 as none"), "{refusal}");
    // A word that every case excludes counts in the proof.
    let shape = "shape attempt:\n    [<user>] FAIL LOGIN: Client \"<ip>\"\n";
    let cases = |more: &str| {
        text(&format!(
            "{shape}x in attempt:\n    user has not \"DELETE: Client \" and user is not a\n    user {more}\n"
        ))
    };
    assert!(load(&cases("has not \"DELETE: Client \" \"Y\"")).is_ok());
    assert!(load(&cases("has not Y")).is_err());
    assert!(load(&cases("is z")).is_err());
}

#[test]
fn what_conditions_exclude_is_a_message_all_the_same() {
    let text = |rule: &str, word: &str| {
        format!("program: p\nshape attempt:\n    {rule}\nx in attempt:\n    user has not \"{word}\"\n")
    };
    let rule = "user '<user:text>' failed for '<ip>' as <text>";
    // `x' failed for ' failed for '192.0.2.1' as …`: the quotation mark that both readings share is in neither name.
    let refusal = load(&text(rule, "' failed for '")).unwrap_err();
    assert!(refusal.contains("an attacker can choose the address"), "{refusal}");
    assert!(load(&text(&rule.replace("<text>", "<num>"), " failed for '")).is_ok());
    // So it is in the values of a record.
    let json = "program: p\njson s:\n    msg = <user> failed for '<ip>'{ (id <rest:text>| again}\nx in s:\n    user has not \"failed for\"\n";
    assert!(load(json).unwrap_err().contains("an attacker can choose the address"));
    // Of a name that stands twice, a condition sees one.
    let twice = "fail <user> from <ip> as <user>\n    fail <user> from <ip> via <user>";
    assert!(load(&text(twice, "from ")).is_err());
    // What a word may hold but for the excluded is read, wherever that might have begun.
    let word = text("<user:word> from <ip> to <text>", "yy");
    assert!(load(&word).is_ok());
    let other = "y:\n    x <text> from <ip>\n";
    assert!(load(&(word + other)).is_err());
}

#[test]
fn an_author_is_warned_of_a_case_that_no_line_can_meet() {
    let warned = |case: &str| {
        let text = format!(
            "program: p\nshape s:\n    {{<user:word>|<user:not ,>,<user:not ,>}} <ip> <code:num>\nx in s:\n    {case}\n"
        );
        let faults = Grammar::load("p", "p", &text, &Lists::shipped()).unwrap().1;
        faults.iter().any(|fault| fault.what.starts_with("this never holds: ") && fault.place.line == 5)
    };
    assert!(warned("code is ok 5x"));
    assert!(!warned("code is ok 5"));
    assert!(warned("user has \"a b, c\""));
    assert!(!warned("user has \"a b\" x,y"));
    assert!(!warned("user has not \"a b, c\" and code is not x"));
    assert!(warned("user is root and code starts x"));
}

/// The address that a rule finds in a message whose end is missing.
#[track_caller]
fn cut(rules: &str, message: &str, want: &str) {
    let grammar = grammar(rules).unwrap_or_else(|faults| panic!("{faults}"));
    let found = grammar.judge(message.as_bytes(), true, |_, reading, _, _, _| reading.address);
    assert_eq!(found.map_or("-".to_owned(), |address| address.to_string()), want);
}

#[test]
fn a_message_that_is_cut_is_read_only_where_its_end_cannot_change_it() {
    cut("for <user> from <ip> port <num>", "for a from 203.0.113.9 port 22", "-");
    cut("for <user:word> from <ip> port <num>", "for a from 192.0.2.1 port 22", "192.0.2.1");
    // The rest of the address may be missing.
    cut("for <user:word> from <ip>", "for a from 192.0.2.1", "-");
    cut("<ip> - <text>", "192.0.2.1 - a from", "192.0.2.1");
    // What another rule, or another form of message, would read with its end.
    cut("a <word> <ip>{ <word>}?\na <word> <ip> <word> at <word>", "a b 192.0.2.1 c", "192.0.2.1");
    let other = "program: p\nother:\n    a <word> <word> at <ip>\nx:\n    a <ip> <word>\n";
    let grammar = load(other).unwrap();
    assert!(grammar.judge(b"a 203.0.113.9 c", true, |_, reading, _, _, _| reading.address).is_none());
    assert!(grammar.judge(b"a 203.0.113.9 c", false, |_, reading, _, _, _| reading.address).is_some());
}

/// No cut of any message that strangers fill yields an address that the whole message does not.
#[test]
fn no_cut_of_a_filling_moves_the_address() {
    SHIPPED.par_iter().for_each(|(name, text)| {
        let (grammar, _) = Grammar::load(name, name, text, &Lists::shipped()).unwrap();
        let (_, forms, without) = spelt(text);
        let mut dice = Dice(5);
        for variant in forms.iter().cycle().take(FILLINGS / 4) {
            let message = fill(variant, "192.0.2.1", &forms, &without, &mut dice, 2);
            let end = dice.throw(message.len() + 1);
            let is_true = grammar.judge(&message[..end], true, |_, reading, spans, _, text| {
                is_true(variant, &grammar.compiled().variants[reading.pattern as usize], reading, spans, text)
            });
            assert_ne!(is_true, Some(false), "{name}: {}", String::from_utf8_lossy(&message[..end]));
        }
    });
}

#[test]
fn a_path_names_whole_segments() {
    let text = concat!(
        "program: p\nshape access:\n    <ip> \"<request:quoted>\" <num>{ \"<referer:quoted>\"}?\n",
        "x in access:\n    request.path names .git /admin b/c and request.method is GET and referer is -\n"
    );
    let grammar = load(text).unwrap();
    let check = |request: &str, rest: &str, want: bool| {
        let message = format!("192.0.2.1 \"{request}\" 404{rest}");
        assert_eq!(grammar.read(message.as_bytes()).is_some(), want, "{message}");
    };
    for request in
        ["GET /.git HTTP/1.1", "GET /a/.GIT/config?x", "GET /admin HTTP/1.1", "GET /admin/x", "GET /a/b/c#d"]
    {
        check(request, "", true);
    }
    for request in
        ["GET /.gitignore", "GET /a.git", "GET /x/admin", "GET /?/.git", "GET /administrator", "PUT /.git"]
    {
        check(request, "", false);
    }
    check("GET /.git", " \"-\"", true);
    check("GET /.git", " \"https://a.example/\"", false);
    assert!(load(&text.replace(".path", ".port")).unwrap_err().contains("`port` is not a part of a request"));
    // Of what was cut off nobody knows whether it was there.
    assert!(grammar.judge(b"192.0.2.1 \"GET /.git\" 404", true, |_, _, _, _, _| ()).is_none());
}

/// No cut of a line that a server wrote, at any byte, yields an address that the whole line does not.
#[test]
fn no_cut_of_a_test_line_moves_the_address() {
    SHIPPED.par_iter().for_each(|(name, text)| {
        let (grammar, _) = Grammar::load(name, name, text, &Lists::shipped()).unwrap();
        for test in syntax::parse(text, None, &mut Faults::new("", text)).tests {
            let message = test.message.as_bytes();
            let whole = grammar.readings(message).first().map(|whole| (whole.address, whole.key));
            for end in 0..message.len() {
                let found = grammar.judge(&message[..end], true, |_, reading, spans, _, _| {
                    (reading.address, grammar.key(&reading, spans).map(|(place, _)| place))
                });
                assert!(
                    found.is_none() || found == whole,
                    "{name}: {}",
                    String::from_utf8_lossy(&message[..end])
                );
            }
        }
    });
}

#[test]
fn a_rule_without_a_test_is_warned_of_once() {
    let nginx = SHIPPED.iter().find(|(name, _)| *name == "nginx").unwrap().1;
    let text = "extends: nginx\nmine in access:\n    status is 418\n";
    let (_, faults) = Grammar::load_with("x", "x", text, Some(nginx), &Lists::shipped()).unwrap();
    let warnings: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
    assert_eq!(warnings, ["no test uses this rule"]);
}

#[test]
fn an_author_is_warned_of_what_the_proof_cannot_know() {
    let warns = |rules: &str| -> Vec<String> {
        let text = format!("program: p\n{rules}\n");
        let faults = Grammar::load("p", "p", &text, &Lists::shipped()).unwrap().1;
        let about = |fault: &Fault| fault.what.split([';', ',']).next().unwrap().to_owned();
        faults.iter().map(about).filter(|what| what != "no test uses this rule").collect()
    };
    let (text, port) = (
        "a stranger's text stands before `<ip>`",
        "many programs write an IPv6 address with a port in brackets",
    );
    assert_eq!(warns("x:\n    [<user>] FAIL: <ip>"), [text]);
    assert_eq!(warns("other:\n    hello <text>\nx:\n    [<text>] FAILED: <ip>"), [""; 0]);
    assert_eq!(warns("x:\n    Failed login of <user> from <ip>"), [""; 0]);
    assert_eq!(warns("x:\n    Failed login from <ip>:<num>"), [port]);
    assert_eq!(warns("x:\n    Failed login from {<ip>|[<ip>]}:<num>"), [""; 0]);
    assert_eq!(warns("x:\n    Failed login from <peer>"), [""; 0]);
}
