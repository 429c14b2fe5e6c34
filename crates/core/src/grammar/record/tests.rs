//! What shapes of records read.

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::RecordFormat;
use crate::grammar::condition;
use crate::grammar::fault::Faults;
use crate::grammar::source::{Rule, RuleGroup};
use crate::grammar::syntax;
use crate::grammar::tests::{Dice, fill, load};
use crate::grammar::variant::{self, Item, Variant, Whole};
use crate::grammar::{Grammar, Grammars, Lists, MissReason, RecordMiss, SHIPPED};

/// A shape of logins in JSON.
const LOGINS: &str = r"program: p
json logins:
    event.kind = <kind:text>
    client = <ip>
    client = [<ip>]:<num>
    user\.name = <user>
    msg = Failed login of <name:text>
    code = <code:num>
failed in logins:
    kind is LOGIN_ERROR and code is not 7
    name is root
    code is 401 403
";

fn grammar(text: &str) -> Grammar {
    load(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The address and the user that a grammar finds in a message.
#[track_caller]
fn check(text: &str, message: &str, want: &str) {
    let grammar = grammar(text);
    let found = grammar.read(message.as_bytes());
    let found = found.map(|found| {
        let user = found.user(message.as_bytes());
        let user = user.map(|user| String::from_utf8_lossy(&user).into_owned());
        [found.address().unwrap().to_string(), user.unwrap_or_default()].join(" ").trim_end().to_owned()
    });
    assert_eq!(found.as_deref().unwrap_or("-"), want, "{message}");
}

fn logins(message: &str, want: &str) {
    check(LOGINS, message, want);
}

#[test]
fn keys_stand_in_any_order() {
    logins(r#"{"client":"192.0.2.1","code":401}"#, "192.0.2.1");
    logins(r#"{"code":401,"client":"192.0.2.1","user.name":"a"}"#, "192.0.2.1 a");
    logins(" {\"code\":401,\"client\":\"192.0.2.1\"}", "-");
    logins("{ \"code\" : 401 ,\t\"client\": \"192.0.2.1\" } ", "192.0.2.1");
    logins(r#"{"code":401,"x":{"client":"203.0.113.9"},"y":["client"],"client":"192.0.2.1"}"#, "192.0.2.1");
    logins(r#"{"event":{"x":[],"kind":"login_error"},"code":9,"client":"192.0.2.1"}"#, "192.0.2.1");
    logins(r#"{"event":[{"kind":"login_error"}],"code":9,"client":"192.0.2.1"}"#, "-");
    logins(r#"{"msg":"Failed login of root","client":"[2001:db8::1]:80"}"#, "2001:db8::1");
}

#[test]
fn what_is_missing_meets_no_condition() {
    logins(r#"{"event":{"kind":"LOGIN_ERROR"},"client":"192.0.2.1"}"#, "-");
    logins(r#"{"event":{"kind":"LOGIN_ERROR"},"code":null,"client":"192.0.2.1"}"#, "-");
    logins(r#"{"event":{"kind":"LOGIN_ERROR"},"code":"x","client":"192.0.2.1"}"#, "-");
    logins(r#"{"event":{"kind":"LOGIN_ERROR"},"code":{},"client":"192.0.2.1"}"#, "-");
    logins(r#"{"event":{"kind":"LOGIN_ERROR"},"code":"8","client":"192.0.2.1"}"#, "192.0.2.1");
    logins(r#"{"code":401,"client":"host.example"}"#, "-");
    logins(r#"{"code":401}"#, "-");
}

#[test]
fn of_an_array_the_last_element_counts() {
    logins(r#"{"client":["203.0.113.9","192.0.2.1"],"code":[1,401]}"#, "192.0.2.1");
    logins(r#"{"client":["192.0.2.1",null,["203.0.113.9"],{"x":1}],"code":[401]}"#, "192.0.2.1");
    logins(r#"{"client":[],"code":401}"#, "-");
}

#[test]
fn strings_are_read_without_backslashes() {
    logins(
        r#"{"cod\u0065":401,"client":"192.0.2.\u0031","user.name":"a\"\\\u00e9"}"#,
        "192.0.2.1 a\"\\\u{e9}",
    );
    logins(r#"{"msg":"Failed login of \u0072oot","client":"192.0.2.1"}"#, "192.0.2.1");
    logins(
        r#"{"user.name":"x\",\"client\":\"203.0.113.9","code":401,"client":"192.0.2.1"}"#,
        "192.0.2.1 x\",\"client\":\"203.0.113.9",
    );
}

#[test]
fn what_is_no_sound_object_is_not_read() {
    let twice = r#"{"client":"203.0.113.9","code":401,"client":"192.0.2.1"}"#;
    for message in [
        twice,
        &twice.replacen("client", "cli\\u0065nt", 1),
        r#"{"event":{"kind":"x"},"event":1,"code":401,"client":"192.0.2.1"}"#,
        r#"{"code":401,"client":"192.0.2.1""#,
        r#"{"code":401,"client":"192.0.2.1"}}"#,
        r#"{"code":401,"client":"192.0.2.1"} x"#,
        r#"{"code":401,"client":"192.0.2.1",}"#,
        r#"{"code":401 "client":"192.0.2.1"}"#,
        r#"{"code":401,"client":"192.0.2.1","x":[}]}"#,
        r#"{"code":401,"client":"192.0.2.1","x":}"#,
        r#"{"code":401,"client":"192.0.2.1","x":"\"}"#,
        r#"["code",401]"#,
        "{",
        "{}",
        "",
    ] {
        logins(message, "-");
    }
    let deep = |depth: usize| {
        format!(r#"{{"code":401,"client":"192.0.2.1","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    logins(&deep(31), "192.0.2.1");
    logins(&deep(32), "-");
    logins(r#"{"x":{"client":1,"client":2},"code":401,"client":"192.0.2.1","y":1,"y":2}"#, "192.0.2.1");
}

/// A shape of Keycloak's events.
const EVENTS: &str = "program: p\nlogfmt events:\n    type = LOGIN_ERROR\n    ipAddress = <ip>\n    user = <user>\nfailed in events:\n    user is not x\n";

#[test]
fn logfmt_is_read_by_key() {
    let check = |message: &str, want: &str| check(EVENTS, message, want);
    check(
        r#"2026-11-23 WARN [org.keycloak.events] (executor-thread-1) type="LOGIN_ERROR", x="a b", ipAddress="192.0.2.1", user="a \"b""#,
        "192.0.2.1 a \"b",
    );
    check("type=LOGIN_ERROR user=a, ipAddress=192.0.2.1", "192.0.2.1 a");
    check("type=\"LOGIN_ERROR\",user=\"\",ipAddress=\"192.0.2.1\"", "192.0.2.1");
    check("type=LOGIN user=a ipAddress=192.0.2.1", "-");
    check("type=LOGIN_ERROR ipAddress=192.0.2.1", "-");
    check("type=LOGIN_ERROR user= ipAddress=192.0.2.1", "-");
    check("type=LOGIN_ERROR user=a ipAddress=192.0.2.1 ipAddress=192.0.2.1", "-");
    check(
        r#"type=LOGIN_ERROR user="a ipAddress=203.0.113.9" ipAddress=192.0.2.1"#,
        "192.0.2.1 a ipAddress=203.0.113.9",
    );
    check(r#"type=LOGIN_ERROR x="a\" ipAddress=203.0.113.9" user=b ipAddress=192.0.2.1"#, "192.0.2.1 b");
    check(r#"type=LOGIN_ERROR "x ipAddress=203.0.113.9" user=b ipAddress=192.0.2.1"#, "192.0.2.1 b");
    check("type=LOGIN_ERROR user=\"a ipAddress=192.0.2.1", "-");
    check(
        "type=LOGIN_ERROR user=a,ipAddress=203.0.113.9 ipAddress=192.0.2.1",
        "192.0.2.1 a,ipAddress=203.0.113.9",
    );
}

/// The first fault of these lines below a section, and of what follows it.
#[track_caller]
fn refused(text: &str, want: &str) {
    let faults = load(&format!("program: p\n{text}")).map(|_| ()).unwrap_err();
    assert!(faults.contains(want), "{faults}");
}

#[test]
fn what_could_give_two_addresses_is_refused() {
    refused("json a:\n    x = <text> from <ip> to <text>\n", "an attacker can choose the address");
    refused("json a:\n    x = <ip>\njson b:\n    z = <ip>\n", "in other keys, or otherwise");
    refused(
        "json a:\n    x = <ip>, <text>\njson b:\n    x = <text>, <ip>\n",
        "an attacker can choose the address",
    );
    refused(
        "json a:\n    x = <ip>\n    z = <ip>\njson b:\n    z = <ip>\n    x = <ip>\n",
        "in other keys, or otherwise",
    );
    refused("json a:\n    x = <user>\n", "no line of this shape has an `<ip>`");
    refused("json a:\n    x = {<ip>|none}\n", "or none of them");
    refused("json a:\n    <ip>\n", "a line of this shape is `KEY = RULE`");
    refused("json a:\n    x = <ip>\n    y = <forwarded>\n    z = <forwarded>\n", "only lines for one key");
    // A rule for messages that could be an object, and other forms that could be.
    refused("json a:\n    x = <ip>\nc:\n    <word> <ip> <text>\n", "an attacker can choose the address");
    refused("other:\n    <text> and <text>\njson a:\n    x = <ip>\n", "an attacker can choose the address");
    refused("logfmt a:\n    x = <ip>\nc:\n    by <ip> <text>\n", "an attacker can choose the address");
    refused("other:\n    hello <text>\nlogfmt a:\n    x = <ip>\n", "an attacker can choose the address");
    assert!(
        load("program: p\njson a:\n    x = <ip>\nlogfmt b:\n    y = <ip>\nother:\n    hello <num>\n").is_ok()
    );
    assert!(
        load("program: p\njson a:\n    x = <ip>\nc:\n    by <ip> <text>\nother:\n    hello <text>\n").is_ok()
    );
}

/// Why a message is not read.
#[track_caller]
fn missed(text: &str, message: &str, want: &str) {
    let grammar = grammar(text);
    let got = match grammar.miss_reason(message.as_bytes()) {
        MissReason::Record(RecordMiss { line, why, .. }) => format!("{line}: {why}"),
        other => format!("{other:?}"),
    };
    assert_eq!(got, want);
}

#[test]
fn a_record_that_is_not_read_says_why() {
    missed(LOGINS, r#"{"code":401}"#, "4: no key `client`");
    missed(LOGINS, r#"{"client":"x"}"#, "4: `client` holds `x`, which this line does not read");
    missed(LOGINS, r#"{"user.name":1,"user.name":1}"#, r"4: `user\.name` twice");
    missed(LOGINS, r#"{"client":"x""#, "4: the object is not closed");
    missed(LOGINS, r#"{"client":x!}"#, "4: malformed at column 12");
    missed(LOGINS, "no object", "Unlike");
    missed(
        EVENTS,
        "type=LOGIN ipAddress=192.0.2.1",
        "3: `type` holds `LOGIN`, which this line does not read",
    );
    missed(EVENTS, "x type=LOGIN_ERROR", "4: no key `ipAddress`");
    missed(EVENTS, "x y", "Unlike");
}

#[test]
fn a_field_shows_what_it_held_and_where() {
    let grammar = grammar(LOGINS);
    let message =
        br#"{"msg":"Failed login of \"\u0061","client":"[2001:db8::1]:80","user.name":"root","code":401}"#;
    let found = grammar.read(message).unwrap();
    let held = |held: &crate::grammar::FieldText<'_, '_>| {
        format!(
            "{} {}..{} {}",
            held.name.unwrap_or(held.kind),
            held.from,
            held.to,
            String::from_utf8_lossy(&held.text)
        )
    };
    let held: Vec<String> = found.field_texts(message).iter().map(held).collect();
    assert_eq!(
        held,
        ["ip 45..56 2001:db8::1", "num 58..60 80", "user 75..79 root", "name 24..32 \"a", "code 88..91 401"]
    );
    assert_eq!((found.line(), found.written()), (5, "client = [<ip>]:<num>"));
}

/// What stands in an object: strings, objects and what is written as it is.
enum Value {
    Text(Vec<u8>),
    Inside(Vec<(String, Value)>),
    Raw(&'static str),
}

/// Puts a value where its key leads.
fn put(object: &mut Vec<(String, Value)>, path: &[String], value: Value) {
    let (first, rest) = path.split_first().unwrap();
    if rest.is_empty() {
        return object.push((first.clone(), value));
    }
    if !object.iter().any(|(name, _)| name == first) {
        object.push((first.clone(), Value::Inside(Vec::new())));
    }
    let Some((_, Value::Inside(below))) = object.iter_mut().find(|(name, _)| name == first) else { return };
    put(below, rest, value);
}

/// A string as JSON may write it.
fn string(text: &[u8], dice: &mut Dice) -> Vec<u8> {
    let escape = |byte: u8, dice: &mut Dice| match byte {
        b'"' | b'\\' => vec![b'\\', byte],
        0..0x20 => format!("\\u{byte:04x}").into_bytes(),
        _ if byte < 0x80 && dice.throw(30) == 0 => format!("\\u{byte:04X}").into_bytes(),
        _ => vec![byte],
    };
    let inside: Vec<u8> = text.iter().flat_map(|byte| escape(*byte, dice)).collect();
    [b"\"", inside.as_slice(), b"\""].concat()
}

fn shuffle<T>(all: &mut [T], dice: &mut Dice) {
    for last in (1..all.len()).rev() {
        all.swap(last, dice.throw(last + 1));
    }
}

/// An object with its keys in any order, and spaces anywhere.
fn object(mut members: Vec<(String, Value)>, dice: &mut Dice) -> Vec<u8> {
    shuffle(&mut members, dice);
    let mut text = b"{".to_vec();
    for (nth, (name, value)) in members.into_iter().enumerate() {
        text.extend(if nth > 0 { &b","[..] } else { b"" });
        text.extend([&b""[..], b" ", b"\t\n"][dice.throw(3)]);
        text.extend(string(name.as_bytes(), dice));
        text.extend([&b":"[..], b": ", b" :"][dice.throw(3)]);
        match value {
            Value::Text(value) if dice.throw(8) == 0 => {
                text.extend(b"[\"203.0.113.9\",");
                text.extend(string(&value, dice));
                text.extend(b", {}]");
            }
            Value::Text(value) => text.extend(string(&value, dice)),
            Value::Inside(members) => text.extend(object(members, dice)),
            Value::Raw(value) => text.extend(value.as_bytes()),
        }
    }
    text.push(b'}');
    text
}

/// `key=value` in any order.
fn pairs(mut members: Vec<(String, Value)>, dice: &mut Dice) -> Vec<u8> {
    shuffle(&mut members, dice);
    let mut text = [&b""[..], b"WARN [x] (y z) ", b"level=warn, "][dice.throw(3)].to_vec();
    for (name, value) in members {
        let Value::Text(value) = value else { continue };
        let special = |byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | b'=' | b',' | b'\\' | 0..0x20);
        let value = match value.iter().any(special) || value.is_empty() || dice.throw(2) == 0 {
            true => string(&value, dice),
            false => value,
        };
        text.extend([name.as_bytes(), b"=", &value, [&b" "[..], b", "][dice.throw(2)]].concat());
    }
    text
}

/// A record that the shape of a group reads, about 192.0.2.1. Values of others are what strangers type.
fn filling(group: &RuleGroup, values: &[Variant], without: &[Vec<String>], dice: &mut Dice) -> Vec<u8> {
    let record = group.record.as_ref().unwrap();
    let (mut members, mut done, mut addressed) = (Vec::new(), Vec::new(), false);
    let mut lines: Vec<(&Rule, &Vec<String>)> = group.rules.iter().zip(&record.keys).collect();
    // Any of the lines for a key, but of the addresses the first counts.
    if dice.throw(2) == 0 {
        lines.reverse();
        lines.sort_by_key(|(_, key)| record.keys.iter().position(|known| known == *key));
    }
    for (rule, key) in lines {
        let own: Vec<&Variant> = values.iter().filter(|variant| variant.place == rule.place).collect();
        let variant = own[dice.throw(own.len())];
        let is_address = |(rule, other): (&Rule, &Vec<String>)| {
            other == key && values.iter().any(|value| value.place == rule.place && value.has_address())
        };
        if !variant.has_address() && group.rules.iter().zip(&record.keys).any(is_address) {
            continue; // another line for its key reads the address
        }
        let has_fields = variant.items.iter().any(|item| matches!(item, Item::Field(_)));
        if done.contains(&key) || has_fields && !variant.has_address() && dice.throw(6) == 0 {
            continue;
        }
        done.push(key);
        let address = if variant.has_address() && addressed { "203.0.113.9" } else { "192.0.2.1" };
        addressed |= variant.has_address();
        let mut value = fill(variant, address, values, without, dice, 2);
        // An address may be read in the same value by another line for its key, as in the whole of a message.
        if !has_fields {
            value = fill(variant, address, values, without, dice, 0);
        }
        put(&mut members, key, Value::Text(value));
    }
    let hostile = [
        r#"{"client":"203.0.113.9","request":{"remote_ip":"203.0.113.9"},"ip":["203.0.113.9"]}"#,
        r#"[{"client":"203.0.113.9"},"203.0.113.9",["x"],-1.5e+3,true]"#,
        "null",
        "17",
        r#""\\\",\"client\":\"203.0.113.9""#,
    ];
    for nth in 0..dice.throw(4) {
        members.push((format!("other-{nth}"), Value::Raw(hostile[dice.throw(hostile.len())])));
        let lie = fill(&values[dice.throw(values.len())], "203.0.113.9", values, without, dice, 1);
        members.push((format!("more-{nth}"), Value::Text(lie)));
    }
    match record.format {
        RecordFormat::Json => object(members, dice),
        RecordFormat::Logfmt => pairs(members, dice),
    }
}

/// Whatever the values are, and in whatever order keys stand, a record is read with its own address; cut, it is not read.
#[track_caller]
fn no_filling_moves_the_address(name: &str, text: &str, times: usize) -> usize {
    let lists = Lists::shipped();
    let (grammar, _) = Grammar::load(name, name, text, &lists).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut faults = Faults::new("", text);
    let source = syntax::parse(text, None, &mut faults);
    let (mut dice, mut read) = (Dice(14), 0);
    for (number, group) in (0..).zip(&source.groups).filter(|(_, group)| group.record.is_some()) {
        let (mut values, mut without) = (Vec::new(), Vec::new());
        let names = variant::spell_out(&group.rules, number, Whole::Value, &mut values, &mut faults);
        condition::narrow(group, &names, &mut values, &mut without);
        for _ in 0..times {
            let message = filling(group, &values, &without, &mut dice);
            let shown = String::from_utf8_lossy(&message);
            let mut found = false;
            let trimmed = message.trim_ascii_end();
            grammar.compiled().matcher.read(trimmed, None, |reading, _, _| {
                found |= reading.group == number;
                assert_eq!(reading.address.to_string(), "192.0.2.1", "{name}: {shown}");
                None::<()>
            });
            assert!(found, "{name}: {shown}");
            let end = dice.throw(message.len());
            assert!(grammar.judge(&message[..end], true, |_, _, _, _, _| ()).is_none(), "{name}: {shown}");
            if message[0] == b'{' {
                assert!(
                    grammar.readings(&message[..end.min(trimmed.len() - 1)]).is_empty(),
                    "{name}: {shown}"
                );
            }
            if let Some(found) = grammar.read(&message) {
                let fields = found.field_texts(&message);
                assert!(fields.iter().any(|field| &*field.text == b"192.0.2.1"), "{name}: {shown}");
                assert!(fields.iter().all(|field| message.get(field.from..field.to).is_some()));
            }
            read += 1;
        }
    }
    read
}

#[test]
fn no_filling_of_a_record_moves_the_address() {
    for text in [LOGINS, EVENTS] {
        assert!(no_filling_moves_the_address("p", text, 3000) > 0);
    }
    let all: usize =
        SHIPPED.par_iter().map(|(name, text)| no_filling_moves_the_address(name, text, 500)).sum();
    assert!(all > 0);
}

#[test]
fn two_grammars_of_a_program_look_in_the_same_keys() {
    let both = |one: &str, other: &str| {
        let load =
            |rest: &str| load(&format!("program: p\n{rest}")).unwrap_or_else(|faults| panic!("{faults}"));
        Grammars::new(vec![load(one), load(other)]).map(|_| ()).map_err(|error| error.contains("other keys"))
    };
    assert_eq!(both("json a:\n    x = <ip>\n", "json b:\n    x = <ip>\n    y = <user>\n"), Ok(()));
    assert_eq!(both("json a:\n    x = <ip>\n", "logfmt b:\n    y = <ip>\n"), Ok(()));
    assert_eq!(both("json a:\n    x = <ip>\n", "json b:\n    y = <ip>\n"), Err(true));
    assert_eq!(both("json a:\n    x = <ip>\n", "json b:\n    x = at <ip>\n"), Err(true));
    assert_eq!(both("json a:\n    x = <ip>\n", "c:\n    by <ip> <text>\n"), Ok(()));
    assert_eq!(both("json a:\n    x = <ip>\n", "c:\n    <word> <ip> <text>\n"), Err(false));
}
