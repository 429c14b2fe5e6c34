//! Keys, under which one message names the address that others have.

use super::*;

const KEYS: &str = "program: p
key connection:
    conn=<key> from <peer> to <text>
    conn=<key> {from a socket|closed}
x by connection:
    conn=<key> failed{: <text>}?
login by connection:
    conn=<key> welcome <user>
y:
    flood of <ip>
other:
    conn=<num> asks <text>
";

/// What the grammar finds in a message.
#[track_caller]
fn finds(message: &str, want: &str) {
    assert_eq!(found(&several(&[KEYS]).unwrap(), "p", message), want);
}

#[test]
fn a_message_names_an_address_under_a_key_or_refers_to_it() {
    finds("conn=7 from 192.0.2.1:80 to x", "a key 7 is 192.0.2.1");
    finds("conn=7 from [2001:db8::1]:80 to conn=8 from 203.0.113.9 to x", "a key 7 is 2001:db8::1");
    finds("conn=7 closed", "a key 7 is -");
    finds("conn=7 from a socket", "a key 7 is -");
    finds("conn=7 failed", "a 6 key 7");
    finds("conn=7 failed: conn=8 failed", "a 6 key 7");
    finds("conn=7 welcome x", "a 8 key 7");
    finds("conn=7 asks x", "a harmless");
    finds("flood of 192.0.2.1", "a 10 192.0.2.1");
    // What a key is, is between two texts; and no longer than it may be.
    finds("conn= failed", "a harmless");
    finds("conn=a b failed", "a harmless");
    finds(&format!("conn={} failed", "7".repeat(64)), &format!("a 6 key {}", "7".repeat(64)));
    finds(&format!("conn={} failed", "7".repeat(65)), "a harmless");
}

#[test]
fn a_message_with_a_key_is_known_and_its_fields_are_shown() {
    let grammar = load(KEYS).unwrap();
    for message in ["conn=7 from 192.0.2.1 to 192.0.2.2", "conn=7 failed: 192.0.2.1"] {
        assert_eq!(grammar.unmatched_template(message.as_bytes()), None);
    }
    let message = b"conn=7 failed: x";
    let told = grammar.read(message).unwrap();
    assert_eq!((told.category(), told.address(), told.key(message)), ("x", None, Some(&b"7"[..])));
    let fields: Vec<_> = told.field_texts(message).iter().map(|field| (field.kind, field.from)).collect();
    assert_eq!(fields, [("key", 5), ("text", 15)]);
}

#[test]
fn a_shape_can_be_by_a_key() {
    let text = "program: p\nkey k:\n    <key> is <ip>\nshape s by k:\n    <key> says <code:num>\nx in s:\n    code is 49\nlogin in s:\n    code is 0\n";
    let grammars = several(&[text]).unwrap();
    assert_eq!(found(&grammars, "p", "a says 49"), "a 5 key a");
    assert_eq!(found(&grammars, "p", "a says 1"), "a harmless");
    let entry = entry("p", "a says 0", false);
    assert!(
        matches!(grammars.find(&entry), Outcome::Referring(told, ..) if told.category == CategoryId::LOGIN)
    );
}

#[test]
fn a_key_names_nobody_where_nobody_is_accountable() {
    let trusting = several(&[KEYS]).unwrap().trusting(["192.0.2.1".parse().unwrap()]);
    assert_eq!(found(&trusting, "p", "conn=7 from 192.0.2.1 to x"), "a key 7 is -");
    assert_eq!(found(&trusting, "p", "conn=7 from 192.0.2.2 to x"), "a key 7 is 192.0.2.2");
    for message in ["conn=7 from 192.0.2.1 to x", "conn=7 closed", "conn=7 failed"] {
        let sender = Sender { uid: Some(1000), ..Sender::default() };
        let forged = Entry { sender, ..entry("p", message, false) };
        assert!(matches!(several(&[KEYS]).unwrap().find(&forged), Outcome::Forged(_)), "{message}");
    }
}

/// The first fault of a grammar that begins so.
#[track_caller]
fn fault(rest: &str, place: &str, want: &str) {
    let fault = load(&format!("program: p\n{rest}")).map(drop).unwrap_err();
    let (at, what) = fault.lines().next().unwrap().split_once(": ").unwrap();
    assert_eq!((at, what), (format!("p.grammar:{place}").as_str(), want));
}

#[test]
fn faults_of_keys_point_at_the_place() {
    const KEY: &str = "key k:\n    <key> is <ip>\n";
    let nowhere = "a `<key>` can only stand below `key NAME:`, `HEADING by KEY:` or `shape NAME by KEY:`";
    fault("x by k:\n    <key> a\n", "2:1", "unknown key `k`; its section `key k:` must stand above");
    fault("shape s by k:\n    <key> a\n", "2:1", "unknown key `k`; its section `key k:` must stand above");
    fault(&format!("{KEY}{KEY}"), "4:1", "there is already a key `k`");
    fault("x:\n    <ip> <key>\n", "3:11", nowhere);
    fault("other:\n    a <key> b\n", "3:8", nowhere);
    fault("json j:\n    b = <ip>\n    a = <key>\n", "4:10", nowhere);
    fault(&format!("{KEY}x by k:\n    <text> <who:key> a\n"), "5:13", "a `<key>` cannot have a name");
    fault(&format!("{KEY}x by k:\n    failed\n"), "5:5", "the rule has no `<key>`");
    fault(&format!("{KEY}x by k:\n    <key> <key>\n"), "5:5", "a rule must have exactly one `<key>`");
    let what = "a rule by a key has no `<ip>`; the rules of the key have it";
    fault(&format!("{KEY}x by k:\n    <key> of <ip>\n"), "5:5", what);
    fault("key k:\n    <key> is <ip> or <ip>\n", "3:5", "a rule must have exactly one `<ip>`");
    let what = "a rule without an `<ip>` cannot have a `<forwarded>`";
    fault(&format!("{KEY}x by k:\n    <key> for \"<forwarded>\"\n"), "5:5", what);
}

#[test]
fn a_key_that_nothing_refers_to_is_doubtful() {
    let warns = |text: &str| -> Vec<String> {
        let faults = Grammar::load("p", "p", text, &Lists::shipped()).unwrap().1;
        faults.iter().filter(|f| f.what.contains("the key")).map(ToString::to_string).collect()
    };
    assert_eq!(warns(KEYS), [""; 0]);
    let unused = "program: p\nkey k:\n    <key> is <ip>\nx:\n    a <ip>\n";
    assert_eq!(warns(unused), ["p:2:1: warning: no category uses the key `k`\n    key k:\n    ^"]);
}

/// What an attacker can choose in a grammar with these lines, as far as the proof says.
#[track_caller]
fn chosen(lines: &str, want: &str) {
    let refusal = load(&format!("program: p\n{lines}")).map(drop).err().unwrap_or_default();
    let chosen = refusal.lines().next().and_then(|line| line.split_once("an attacker can choose the "));
    let chosen = chosen.map_or("", |(_, what)| what.split_once(':').unwrap().0);
    assert_eq!(chosen, want, "{refusal}");
}

#[test]
fn an_attacker_can_choose_neither_a_key_nor_whose_it_is() {
    const KEY: &str = "key k:\n    id <key> is <ip>\n";
    chosen(&format!("{KEY}x by k:\n    <text> of <key>: <num>\n"), "");
    chosen(&format!("{KEY}x by k:\n    <text> of <key>: <text>\n"), "key");
    // One rule reads a key and another none, or one of another kind.
    chosen(&format!("{KEY}x by k:\n    <key> failed <text>\ny by k:\n    <text> at <key>\n"), "key");
    chosen(
        &format!("{KEY}key l:\n    at <key> is <ip>\nx by k:\n    <key> failed\ny by l:\n    <key> failed\n"),
        "key",
    );
    chosen(
        &format!("{KEY}key l:\n    at <key> is <ip>\nx by k:\n    <key> failed\ny by l:\n    <key> gone\n"),
        "",
    );
    chosen(&format!("{KEY}x by k:\n    <key> failed\nother:\n    <num> <text>\n"), "key");
    chosen(&format!("{KEY}x by k:\n    <key> failed\nother:\n    <num> is <text>\n"), "");
    // What names an address is nothing else.
    chosen("key k:\n    <key> is <ip>\nx by k:\n    <key> is <text>\n", "address");
    chosen("key k:\n    <key> is <ip>\nx by k:\n    <key> failed\ny:\n    <word> is <ip>\n", "key");
    chosen(
        "key k:\n    <key> is <ip>, <text>\nx by k:\n    <key> failed\nother:\n    <word> is <text>, <ip>\n",
        "address",
    );
    // A name that looks like the line of another connection.
    chosen("key k:\n    <text> as <key> is <ip>\nx by k:\n    <key> failed\n", "");
    chosen("key k:\n    <key> is <ip>{ as <text>}?\nx by k:\n    <key> failed\n", "");
    chosen("key k:\n    <key> as <text> is <ip> or <text>\nx by k:\n    <key> failed\n", "address");
}

#[test]
fn the_counterexample_shows_both_keys() {
    refused(
        "program: p\nkey k:\n    id <key> is <ip>\nx by k:\n    <text> of <key>: <text>\n",
        "p.grammar:5:5: an attacker can choose the key: ` of a: of a: ` can be read as `a` (column 11) but also as `a` (column 5)\n\
         \x20       <text> of <key>: <text>\n\
         \x20       ^",
    );
}

#[test]
fn a_cut_message_has_the_key_and_the_address_of_the_whole() {
    let cut = |lines: &str, message: &str| {
        let grammars = several(&[&format!("program: p\n{lines}")]).unwrap();
        !matches!(grammars.find(&entry("p", message, true)), Outcome::Harmless(_))
    };
    const KEY: &str = "key k:\n    id <key> is <ip>\n";
    assert!(cut(&format!("{KEY}x by k:\n    by <key>: failed: <text>\n"), "by 7: failed: y"));
    // The rest of the key, or another key, may be missing.
    assert!(!cut(&format!("{KEY}x by k:\n    failed <key>\n"), "failed 7"));
    assert!(!cut(&format!("{KEY}x by k:\n    <text> of <key>: no\n"), "y of 7: no"));
    assert!(cut(&format!("{KEY}x by k:\n    <word> of <key>: no\n"), "y of 7: no"));
    // The rest may name another address for this key.
    let names = "key k:\n    id <key> is <word> at <ip>\nx by k:\n    id <key> is <num>\n";
    assert!(!cut(names, "id 7 is 5"));
    assert!(!cut(
        KEY.replace("is <ip>", "is <ip>.\nx by k:\n    <key> failed").as_str(),
        "id 7 is 192.0.2.1."
    ));
    assert!(cut(
        KEY.replace("is <ip>", "is <ip>,\nx by k:\n    <key> failed").as_str(),
        "id 7 is 192.0.2.1,"
    ));
}

#[test]
fn keys_of_grammars_of_one_program_are_proved_together() {
    let key = "program: p\nkey k:\n    id <key> is <ip>\nx by k:\n    <key> failed\n";
    let other = "program: p\nkey k:\n    at <key> is <ip>\nx by k:\n    <key> failed\n";
    let refusal = several(&[key, other]).unwrap_err();
    assert!(
        refusal.contains("an attacker can choose the key") && refusal.starts_with("b.grammar:5:5"),
        "{refusal}"
    );
    assert!(several(&[key, "program: p\nkey k:\n    at <key> is <ip>\nx by k:\n    <key> gone\n"]).is_ok());
    assert!(several(&[key, "program: p\nother:\n    <num> <text>\ny:\n    a <ip>\n"]).is_err());
    assert!(several(&[key, "program: q\nkey k:\n    at <key> is <ip>\nx by k:\n    <key> failed\n"]).is_ok());
}

#[test]
fn a_grammar_that_extends_another_has_its_keys() {
    let base = "program: p\nkey k:\n    id <key> is <ip>\nshape s by k:\n    <key> failed <code:num>\nx in s:\n    code is 1\n";
    let more = "extends: a\nkey l:\n    nr <key> is <ip>\ny by k:\n    <key> gave up\nz by l:\n    <key> left\ny in s:\n    code is 2\ntest:\n    -           id 7 is 192.0.2.1\n    192.0.2.1   7 gave up\n";
    let grammars = several(&[base, more]).unwrap();
    let key = |message: &str| match grammars.find(&entry("p", message, false)) {
        Outcome::Naming(.., place, _) | Outcome::Referring(.., place) => Some(place.id),
        _ => None,
    };
    assert_eq!(found(&grammars, "p", "7 failed 1"), "a 5 key 7");
    assert_eq!(found(&grammars, "p", "7 failed 2"), "b 9 key 7");
    assert_eq!(found(&grammars, "p", "7 gave up"), "b 5 key 7");
    let ids = ["id 7 is 192.0.2.1", "7 gave up", "7 failed 2", "nr 7 is 192.0.2.1", "7 left"].map(key);
    let [one, other] = [JoinId::new("a", "k"), JoinId::new("b", "l")].map(Some);
    assert_eq!(ids, [one, one, one, other, other]);
    // It is proved with the base all the same.
    assert!(several(&[base, "extends: a\ny:\n    <ip> failed <num>\n"]).is_err());
}

#[test]
fn tests_run_in_their_order() {
    let test = |tests: &str| {
        let fault = load(&format!("{KEYS}test:\n{tests}")).map(drop).err();
        fault.map_or(String::new(), |fault| {
            fault.lines().next().unwrap().split_once(": ").unwrap().1.to_owned()
        })
    };
    let opened = "    - conn=7 from 192.0.2.1 to x\n";
    assert_eq!(test(&format!("{opened}    192.0.2.1 conn=7 failed\n")), "");
    assert_eq!(test(&format!("{opened}    - conn=7 closed\n    - conn=7 failed\n")), "");
    let again = "    - conn=7 from 192.0.2.2 to x\n    192.0.2.2 conn=7 failed\n";
    assert_eq!(test(&format!("{opened}{again}")), "");
    let unnamed = "no test above this one names the address under its key";
    assert_eq!(test("    192.0.2.1 conn=7 failed\n"), unnamed);
    assert_eq!(test(&format!("    192.0.2.1 conn=7 failed\n{opened}")), unnamed);
    assert_eq!(test(&format!("{opened}    192.0.2.1 conn=8 failed\n")), unnamed);
    let other = "found `192.0.2.1` in this message, expected `192.0.2.2`";
    assert_eq!(test(&format!("{opened}    192.0.2.2 conn=7 failed\n")), other);
}

/// Random grammars with keys: where the proof accepts one, no filling moves the key or the address, every filling is found,
/// and no cut of one has another key or address.
#[test]
fn no_filling_of_a_sound_grammar_moves_the_key() {
    const PIECES: &[&str] =
        &["<num>", "<word>", "<text>", "<quoted>", "<not :>", ": ", "\"", " of ", "{ b}?", ", "];
    const STARTS: &[&str] = &["", "id ", "at ", "by ", "<text>"];
    let (mut dice, mut sound) = (Dice(11), 0);
    for _ in 0..8_000 {
        let mut rule = |fields: &[&str]| {
            let piece =
                |dice: &mut Dice| if dice.throw(2) == 0 { "" } else { PIECES[dice.throw(PIECES.len())] };
            let parts: Vec<String> =
                fields.iter().map(|field| [*field, piece(&mut dice), piece(&mut dice)].concat()).collect();
            STARTS[dice.throw(STARTS.len())].to_owned() + &parts.concat()
        };
        let text = format!(
            "program: p\nkey k:\n    {}\n    {}\nx by k:\n    {}\n    {}\nother:\n    {}\n",
            rule(&["<key>", " is <ip>"]),
            rule(&["<ip>", " to <key>"]),
            rule(&["<key>", " no"]),
            rule(&["of <key>"]),
            rule(&["other", " "]),
        );
        let Ok(grammar) = load(&text) else { continue };
        sound += 1;
        assert_eq!(spoofed(&text, 60), [""; 0], "{text}");
        let (rules, forms, without) = spelt(&text);
        assert_eq!(unfound(&rules, &without, 8), None, "{text}");
        for variant in forms.iter().cycle().take(40) {
            let message = fill(variant, "192.0.2.1", &forms, &without, &mut dice, 2);
            let end = dice.throw(message.len() + 1);
            let is_true = grammar.judge(&message[..end], true, |_, reading, spans, _, text| {
                is_true(variant, &grammar.compiled().variants[reading.pattern as usize], reading, spans, text)
            });
            assert_ne!(is_true, Some(false), "{text}: {}", String::from_utf8_lossy(&message[..end]));
        }
    }
    assert!(sound > 50, "{sound}");
}

#[test]
fn what_the_proof_refuses_moves_the_key() {
    let text =
        "program: p\nkey k:\n    <text> id <key> is <ip>, <text>\nx by k:\n    <text> of <key>: <text>\n";
    assert!(load(text).is_err());
    assert!(!spoofed(text, 500).is_empty());
}
