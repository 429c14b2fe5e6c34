use proptest::prelude::*;

use super::whole::JournalPiece;
use super::*;
use crate::model::{Sender, Span};

/// 22 November 2026, 05:42:10 UTC, a Sunday in winter.
const NOW: Timestamp = Timestamp::from_secs(1_795_326_130);

/// Central Europe, without need of a time zone database.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// `TIME|PROGRAM[PID]|MESSAGE`, where the time is `now` if it is.
fn print(entry: &Entry<'_>, now: Timestamp) -> String {
    let time = match entry.time {
        time if time == now => "now".to_owned(),
        time => jiff::Timestamp::from_microsecond(time.as_micros()).unwrap().to_string(),
    };
    format!("{time}|{}[{}]|{}", entry.program.escape_ascii(), entry.pid, entry.message.escape_ascii())
}

/// Decodes a line in Berlin.
#[track_caller]
fn check(line: impl AsRef<[u8]>, want: &str) {
    let mut line = line.as_ref().to_vec();
    let mut decoder = Decoder::new(berlin());
    let got = decoder.decode(Format::Line, &mut line, NOW);
    assert_eq!(got.map_or_else(|e| e.reason().to_owned(), |entry| print(&entry, NOW)), want);
}

/// Decodes a line with this stamp at some time in Berlin.
#[track_caller]
fn check_time(now: &str, stamp: &str, want: &str) {
    let now = Timestamp::from_micros(now.parse::<jiff::Timestamp>().unwrap().as_microsecond());
    let mut line = format!("{stamp} sshd[1]: x").into_bytes();
    let entry = Decoder::new(berlin()).decode(Format::Line, &mut line, now).unwrap();
    assert_eq!(print(&entry, now), format!("{want}|sshd[1]|x"));
}

/// Decodes a journal entry with these fields.
#[track_caller]
fn check_journal(fields: &[&str], want: &str) {
    let mut record = Vec::new();
    journal::begin(&mut record, NOW);
    fields.iter().for_each(|field| journal::push(&mut record, field.as_bytes()));
    let mut decoder = Decoder::new(TimeZone::UTC).for_program(b"none");
    let entry = decoder.decode(Format::Journal, &mut record, NOW).unwrap();
    assert_eq!(print(&entry, NOW), want);
}

/// The host that a line names, before `sshd[1]`.
#[track_caller]
fn check_host(line: &str, want: &str) {
    let mut line = line.as_bytes().to_vec();
    let entry = Decoder::new(berlin()).decode(Format::Line, &mut line, NOW).unwrap();
    assert_eq!((entry.host.escape_ascii().to_string(), entry.pid), (want.to_owned(), 1));
}

#[test]
fn hosts() {
    check_host("Nov 22 05:42:09 web01 sshd[1]: x", "web01");
    check_host("<38>Nov 22 05:42:09 web01.example.org sshd[1]: x", "web01.example.org");
    check_host("Nov 22 05:42:09 2001:db8::1 sshd[1]: x", "2001:db8::1");
    check_host("Nov 22 05:42:09 <4.6> web01 sshd[1]: x", "web01");
    check_host("Nov 22 05:42:09 web01 auth.info sshd[1]: x", "web01");
    check_host("Nov 22 05:42:09 sshd[1]: x", "");
    check_host("2026-11-22T05:42:09+01:00 web01 sshd[1]: x web02 sshd[2]: y", "web01");
    check_host("2026-11-22T05:42:09+01:00 web01 sshd 1 - - x", "web01");
    check_host("2026-11-22T05:42:09+01:00 sshd[1]: web01 x", "");
    check_host("2026-11-22T04:42:09.579216Z auth.info: Nov 22 05:42:09 web01 sshd[1]: x", "web01");
    check_host("web01 sshd[1]: x", "web01");
    check_host("sshd[1]: x", "");
    check_host("<38>1 2026-11-22T05:42:09+01:00 web01 sshd 1 - - x", "web01");
    check_host("<38>1 - - sshd 1 - - x", "");
    check_host(r#"{"host":"web\u00301","program":"sshd","pid":"1","message":"x"}"#, "web01");
    check_host(r#"{"host":"","program":"sshd","pid":"1","message":"x"}"#, "");
    check_host(r#"{"program":"sshd","pid":"1","message":"x","host":"a","host":"b"}"#, "a");
}

#[test]
fn the_journal_says_which_host_wrote() {
    let mut record = Vec::new();
    journal::begin(&mut record, NOW);
    let fields = ["HOSTNAME=claimed", "_HOSTNAME=web01", "SYSLOG_IDENTIFIER=sshd", "MESSAGE=x"];
    for field in fields {
        journal::push(&mut record, field.as_bytes());
    }
    let mut decoder = Decoder::new(TimeZone::UTC);
    assert_eq!(decoder.decode(Format::Journal, &mut record, NOW).unwrap().host, b"web01");
}

/// What the decoder says of the sender.
fn sender(format: Format, mut record: Vec<u8>) -> String {
    let Sender { uid, exe, comm, unit, .. } =
        Decoder::new(TimeZone::UTC).decode(format, &mut record, NOW).unwrap().sender;
    let text = |text: Option<&[u8]>| text.map_or("-".to_owned(), |text| text.escape_ascii().to_string());
    let uid = uid.map_or("-".to_owned(), |uid| uid.to_string());
    format!("{uid} {} {} {}", text(exe), text(comm), text(unit))
}

/// Whether the line is one of an output.
fn prints(format: Format, mut record: Vec<u8>) -> bool {
    Decoder::new(TimeZone::UTC).decode(format, &mut record, NOW).unwrap().sender.prints
}

#[test]
fn what_was_printed_is_told_from_what_was_logged() {
    let json = |keys: &str| {
        let line = format!(r#"{{"program":"x","uid":"0",{keys}"message":"y"}}"#);
        prints(Format::Line, line.into_bytes())
    };
    assert!(json(r#""facility":"daemon","#) && json(r#""facility":"local7","input":"imfile","#));
    assert!(!json("") && !json(r#""facility":"authpriv","input":"imuxsock","#));
    assert!(!prints(Format::Line, b"Nov 22 05:42:09 web01 x[1]: y".to_vec()));
    let journal = |field: &str| {
        let mut piece = JournalPiece::default();
        journal::begin(&mut piece.record, NOW);
        for field in ["_UID=0", "SYSLOG_IDENTIFIER=x", field, "MESSAGE=y", "PRINTED=", field] {
            piece.take(field.as_bytes());
        }
        prints(Format::Journal, piece.record)
    };
    assert!(journal("_STREAM_ID=1") && journal("CONTAINER_ID=2") && journal("CONTAINER_ID_FULL=3"));
    assert!(!journal("_TRANSPORT=syslog"));
}

#[test]
fn traditional_headers() {
    let want = "2026-11-22T04:42:09Z|sshd[123]|Failed password";
    check("Nov 22 05:42:09 web01 sshd[123]: Failed password", want);
    check("<38>Nov 22 05:42:09 web01 sshd[123]: Failed password", want);
    check("<38>Nov 22 05:42:09 sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 sshd[123]: Failed password\n", want);
    check("Nov 22 05:42:09 web01 sshd[123]: Failed password\r\n", want);
    check("\u{feff}Nov 22 05:42:09 web01 sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 2001:db8::1 sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 <4.6> web01 sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 <auth.info> web01 sshd[123]: Failed password", want);
    check("<999>Nov 22 05:42:09 web01 sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 web01 auth.info sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 web01 auth|security:info sshd[123]: Failed password", want);
    check("Nov 22 05:42:09 web01 sshd[123] <Notice>: Failed password", want);
}

#[test]
fn tags() {
    let time = "2026-11-22T04:42:09Z";
    let check = |tag: &str, want: &str| {
        check(format!("Nov 22 05:42:09 web01 {tag} x: y"), &format!("{time}|{want}|x: y"));
        check(format!("2026-11-22T05:42:09+01:00 web01 {tag} x: y"), &format!("{time}|{want}|x: y"));
    };
    check("sshd[123]:", "sshd[123]");
    check("sshd:", "sshd[0]");
    check("vsftpd[2]", "vsftpd[2]");
    check("postfix/smtpd[1]:", "postfix/smtpd[1]");
    check("/usr/sbin/cron[7]:", "cron[7]");
    check("(systemd)[1]:", "(systemd)[1]");
    check("test-demo(pam_unix)[13709]:", "test-demo(pam_unix)[13709]");
    check("Lemonldap::NG[4]:", "Lemonldap::NG[4]");
    check("dovecot[auth]:", "dovecot[0]");
    check("sshd[4294967296]:", "sshd[0]");
}

#[test]
fn stamps_with_a_date() {
    let want = "2026-11-22T04:42:09.579216Z|sshd[123]|x";
    check("2026-11-22T05:42:09.579216+01:00 web01 sshd[123]: x", want);
    check("2026-11-22T05:42:09.579216+01:00 sshd[123]: x", want);
    check("<38>2026-11-22T05:42:09.579216+01:00 web01 sshd[123]: x", want);
    check("2026-11-22T04:42:09.579216Z web01 sshd[123]: x", want);
    check("2026-11-21T23:42:09.579216-0500 web01 sshd[123]: x", want);
    check("2026-11-22T05:42:09.5792169999 web01 sshd[123]: x", want);
    check("2026-11-22 05:42:09,579216 web01 sshd[123]: x", want);
    check("2026-11-22T04:42:09.579216Z auth.info: Nov 22 05:42:09 sshd[123]: x", want);
    check("2026-11-22T04:42:09.579216Z local7.info: sshd[123]:  x", want);
    check("2026-11-22 05:42:09,5 web01 sshd[123] x", "2026-11-22T04:42:09.5Z|sshd[123]|x");
}

#[test]
fn what_supervisors_stamp() {
    let zone = "2026-11-22T04:42:09.57921Z";
    check("2026-11-22_05:42:09.57921 Failed password", &format!("{zone}|[0]|Failed password"));
    check("2026-11-22T05:42:09.57921 error: PAM: x", &format!("{zone}|[0]|error: PAM: x"));
    check("2026-11-22T05:42:09.57921 auth.info: Nov 22 05:42:09 sshd[3]: x", &format!("{zone}|sshd[3]|x"));
    check("2026-11-22 05:42:09.579210123 Failed password", &format!("{zone}|[0]|Failed password"));
    check("2026-11-22 05:42:09.579210123 sshd[3]: x", &format!("{zone}|sshd[3]|x"));
    check("@400000006b0272ab22860b10 Failed password", &format!("{zone}|[0]|Failed password"));
    check("@400000006b027bab2285a0ag Failed", "now|[0]|@400000006b027bab2285a0ag Failed");
    check("2026-11-22 05:42:09.579216 Failed", "now|[0]|2026-11-22 05:42:09.579216 Failed");
}

#[test]
fn what_metalog_writes() {
    let time = "2026-11-22T04:42:09Z";
    check("Nov 22 05:42:09 [sshd] Invalid user", &format!("{time}|sshd[0]|Invalid user"));
    check("Nov 22 05:42:09 [sshd]: Invalid user", &format!("{time}|sshd[0]|Invalid user"));
    check("2026/11/22 05:42:09 [sshd] Invalid user", &format!("{time}|sshd[0]|Invalid user"));
    check("1795322529 [sshd] Invalid user", &format!("{time}|sshd[0]|Invalid user"));
    let mut decoder = Decoder::new(TimeZone::UTC).for_program(b"nginx");
    let mut line = b"2026/11/22 05:42:09 [error] 128#128: *3 open() failed".to_vec();
    let own = line.escape_ascii().to_string();
    let entry = decoder.decode(Format::Line, &mut line, NOW).unwrap();
    assert_eq!(print(&entry, NOW), format!("now|nginx[0]|{own}"));
}

#[test]
fn what_stands_between_header_and_message() {
    let check = |message: &str, want: &str| {
        check(
            format!("Nov 22 05:42:09 web01 sshd[1]: {message}"),
            &format!("2026-11-22T04:42:09Z|sshd[1]|{want}"),
        );
    };
    check("[ID 800047 auth.info] Failed password", "Failed password");
    check("kernel:[  970.699396]: Failed password", "Failed password");
    check("kernel: [12970.699398] Failed password", "Failed password");
    for message in ["[ID x auth.info] y", "[ID 1] y", "[x] y", "kernel: y", "kernel:[970.69]x"] {
        check(message, message);
    }
}

#[test]
fn structured_headers() {
    let want = "2026-11-22T04:42:09.003Z|sshd[123]|Failed password";
    check("<38>1 2026-11-22T04:42:09.003Z web01 sshd 123 - - Failed password", want);
    check("<38>1 2026-11-22T04:42:09.003Z web01 sshd 123 ID47 -  Failed password", want);
    check("<38>1 2026-11-22T04:42:09.003Z web01 sshd 123 - - \u{feff}Failed password", want);
    check("<38>1 2026-11-22T04:42:09.003Z web01 sshd 123 - [a@1 b=\"c\"][d@1] Failed password", want);
    check(r#"<38>1 2026-11-22T04:42:09.003Z - sshd 123 - [a@1 b="]\"] x\\"] Failed password"#, want);
    check("<38>1 - - - - - - x", "now|[0]|x");
    check("<38>1 - - - - - -", "now|[0]|");
    check("<38>1 - - sshd main - - x", "now|sshd[0]|x");
    check("2026-11-22T05:42:09.003+01:00 web01 sshd 123 - - Failed password", want);
    let own = "2026-11-22T05:42:09.003+01:00 GET /x 200 12 -1";
    check(own, &format!("now|[0]|{own}"));
    let open = r#"<38>1 - web01 sshd 123 - [a@1 b="c" Failed password"#;
    check(open, &format!("now|[0]|{}", open.escape_default()));
}

#[test]
fn without_a_stamp_the_tag_has_a_pid() {
    check("srv sshd[123]: Failed password", "now|sshd[123]|Failed password");
    check("sshd[123]: Failed password", "now|sshd[123]|Failed password");
    check("<38>sshd[123]: Failed password", "now|sshd[123]|Failed password");
}

#[test]
fn what_has_no_header_is_a_message() {
    for line in [
        "",
        " ",
        "error: PAM: Authentication failure for root from 192.0.2.1",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0",
        "Failed password for root from 192.0.2.1 port 5 ssh2",
        "127.0.1.1 (192.0.2.1[192.0.2.1]) - FTP session opened.",
        "192.0.2.1 - - [22/Nov/2026:05:40:57 +0000] \"GET / HTTP/1.1\" 200 253",
        "Sun Nov 22 05:42:09 2026 [pid 2] [alice] FAIL LOGIN: Client \"192.0.2.1\"",
        "Nov 22 05:42:09 web01 last message repeated 2 times",
        "Nov 22 05:42:09",
        "Nov 22 05:42:0x web01 sshd[1]: x",
        "Now 22 05:42:09 web01 sshd[1]: x",
        "2026-11-22 05:42:09,388 fail2ban.actions: NOTICE [sendmail] Ban 192.0.2.1",
        "2026-11-22T05:42:09Z [AUTH] WARN: Incorrect user name",
        "2026-11-22T05:42:09+01:00: authentication failure; rhost=192.0.2.1",
        "2026/11/22 05:42:09 error 128#128: *3 open() failed",
        "<38>",
        "<abc>x",
    ] {
        check(line, &format!("now|[0]|{}", line.escape_default()));
    }
    let mut decoder = Decoder::new(TimeZone::UTC).for_program(b"nginx");
    let mut line = b"192.0.2.1 - -\n".to_vec();
    let entry = decoder.decode(Format::Line, &mut line, NOW).unwrap();
    assert_eq!(print(&entry, NOW), "now|nginx[0]|192.0.2.1 - -");
}

#[test]
fn the_first_header_counts_and_the_message_is_any_bytes() {
    let at = "2026-11-22T04:42:09Z";
    check(
        "Nov 22 05:42:09 web01 sshd[1]: Nov 22 05:42:09 web01 nginx[2]: x",
        &format!("{at}|sshd[1]|Nov 22 05:42:09 web01 nginx[2]: x"),
    );
    check(b"Nov 22 05:42:09 web01 sshd[1]:  a\0b\xff\r", &format!(r"{at}|sshd[1]|a\x00b\xff"));
    check(b"Nov 22 05:42:09 w\xff01 ss\xffd[1]: x", &format!(r"{at}|ss\xffd[1]|x"));
    check("Nov 22 05:42:09 web01 sshd[1]:", &format!("{at}|sshd[1]|"));
    check(
        "Nov 22 05:42:09 web01 cron: auth.info: sshd[1]: x",
        &format!("{at}|cron[0]|auth.info: sshd[1]: x"),
    );
}

#[test]
fn a_date_without_year_is_the_latest_at_most_a_day_ahead() {
    check_time("2026-11-22T05:42:10Z", "Nov 22 06:42:09", "2026-11-22T05:42:09Z");
    check_time("2026-11-22T05:42:10Z", "Nov 23 06:42:10", "2026-11-23T05:42:10Z");
    check_time("2026-11-22T05:42:10Z", "Nov 23 06:43:00", "2025-11-23T05:43:00Z");
    check_time("2026-11-22T05:42:10Z", "Mar 14 06:42:09", "2026-03-14T05:42:09Z");
    check_time("2026-01-01T00:00:00Z", "Dec 31 23:59:59", "2025-12-31T22:59:59Z");
    check_time("2026-12-31T22:59:59Z", "Jan  1 00:00:01", "2026-12-31T23:00:01Z");
    check_time("2026-11-22T05:42:10Z", "Dec 31 23:59:59", "2025-12-31T22:59:59Z");
    check_time("2026-07-01T00:00:00Z", "Jul 1 00:00:00.25", "2026-06-30T22:00:00.25Z");
    check_time("2026-11-22T05:42:10Z", "Feb 29 12:00:00", "2024-02-29T11:00:00Z");
    check_time("2025-11-22T05:42:10Z", "Feb 29 12:00:00", "2024-02-29T11:00:00Z");
    check_time("1904-02-28T00:00:00Z", "Feb 29 12:00:00", "1896-02-29T11:00:00Z");
    check_time("1904-02-28T12:00:00Z", "Feb 29 12:00:00", "1904-02-29T11:00:00Z");
}

#[test]
fn no_date_without_a_year_is_in_the_future_or_older_than_need_be() {
    let day = Span::from_secs(24 * 60 * 60);
    for start in ["2026-11-22T05:42:10Z", "2024-02-29T23:30:00Z", "2027-03-28T00:59:59Z"] {
        let start: jiff::Timestamp = start.parse().unwrap();
        let now = Timestamp::from_secs(start.as_second());
        // Every stamp of a year, six hours and a bit apart.
        for step in 0..1461 {
            let then = start - jiff::SignedDuration::from_secs(step * 21_611);
            let stamp = berlin().to_datetime(then).strftime("%b %e %H:%M:%S");
            let mut line = format!("{stamp} sshd[1]: x").into_bytes();
            let time = Decoder::new(berlin()).decode(Format::Line, &mut line, now).unwrap().time;
            assert!(time <= now + day, "{stamp}");
            assert!(now.since(time) <= Span::from_secs(366 * 24 * 60 * 60), "{stamp}");
        }
    }
}

#[test]
fn an_impossible_time_is_the_time_of_arrival() {
    for stamp in [
        "Feb 30 12:00:00",
        "Nov 31 12:00:00",
        "Nov  0 12:00:00",
        "Nov 22 24:00:00",
        "Nov 22 12:60:00",
        "Nov 22 12:00:61",
        "Mar 29 02:30:00", // Skipped: the clock goes from 02:00 to 03:00.
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-11-22T12:00:00+99:00",
        "2026-03-29T02:30:00",
    ] {
        check_time("2026-11-22T05:42:10Z", stamp, "now");
    }
}

#[test]
fn a_leap_second_is_the_next_minutes_first() {
    check_time("2026-11-22T05:42:10Z", "Nov 22 06:41:60", "2026-11-22T05:42:00Z");
    check_time("2026-11-22T05:42:10Z", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z");
}

#[test]
fn of_an_hour_that_comes_twice_it_is_the_one_nearer_to_now() {
    check_time("2026-10-25T00:30:05Z", "Oct 25 02:30:00", "2026-10-25T00:30:00Z");
    check_time("2026-10-25T01:30:05Z", "Oct 25 02:30:00", "2026-10-25T01:30:00Z");
    check_time("2026-10-25T01:30:05Z", "2026-10-25T02:30:00", "2026-10-25T01:30:00Z");
}

#[test]
fn what_was_decoded_before_makes_no_difference() {
    // The hour that came twice was 28 days and four hours ago, and 28 days and five.
    let hours = [0, 24, 2400, 4344, 4392, 8736, 8759, 8760, 8784, 19200, -677, -676, -24, -25, 0];
    for stamp in
        ["Nov 22 05:42:09", "Oct 25 02:30:00", "Jan  1 00:00:01", "Feb 29 12:00:00", "Feb 30 12:00:00"]
    {
        let mut used = Decoder::new(berlin());
        for now in hours.map(|hours| Timestamp::from_secs(NOW.as_secs() + hours * 60 * 60)) {
            let mut line = format!("{stamp} sshd[1]: x").into_bytes();
            let want = Decoder::new(berlin()).decode(Format::Line, &mut line.clone(), now).unwrap().time;
            assert_eq!(used.decode(Format::Line, &mut line, now).unwrap().time, want, "{stamp} at {now:?}");
        }
    }
}

#[test]
fn objects_of_rsyslog() {
    let want = "2026-11-22T05:42:10.595141Z|sshd[208]|Invalid user x";
    check(
        r#"{"time":"2026-11-22T05:42:10.595141+00:00", "host":"victim", "facility":"auth", "severity":"info", "tag":"sshd[208]:", "program":"sshd", "pid":"208", "uid":"0", "exe":"\/usr\/sbin\/sshd", "message":" Invalid user x"}"#,
        want,
    );
    let order = r#"{ "message" :"Invalid user x" ,"pid": 208, "program":"sshd","time":"2026-11-22T05:42:10.595141Z" }"#;
    check(format!("{order}\r\n"), want);
    check(r#"{"program":"sshd","message":"x"}"#, "now|sshd[0]|x");
    check(r#"{"tag":"sshd[208]:","program":"","message":"x"}"#, "now|sshd[208]|x");
    check(r#"{"tag":"postfix\/smtpd[1]:","program":"postfix","message":"x"}"#, "now|postfix/smtpd[1]|x");
    check(r#"{"tag":"kernel","program":"kernel","message":"x"}"#, "now|kernel[0]|x");
    check(r#"{"tag":"sshd[208]:","pid":"209","message":"x"}"#, "now|sshd[209]|x");
    check(r#"{"program":"sshd","time":"yesterday","pid":"-1","message":""}"#, "now|sshd[0]|");
}

#[test]
fn other_keys_are_skipped_whatever_they_hold() {
    check(
        r#"{"a":{"message":"a}]","b":[1,{"c":"\"}"}]},"d":[],"e":null,"f":-1.5e3,"g":true,"program":"sshd","message":"x"}"#,
        "now|sshd[0]|x",
    );
    let deep = format!(r#"{{"a":{}{},"tag":"sshd:","message":"x"}}"#, "[".repeat(99_999), "]".repeat(99_999));
    check(deep, "now|sshd[0]|x");
}

#[test]
fn of_a_key_that_occurs_twice_the_first_counts() {
    check(r#"{"program":"sshd","program":"nginx","message":"x","message":"y"}"#, "now|sshd[0]|x");
}

#[test]
fn escapes() {
    let check = |text: &str, want: &str| {
        check(format!(r#"{{"tag":"a:","message":"{text}"}}"#), &format!("now|a[0]|{want}"));
    };
    check(r#"\"\\\/\b\f\n\r\t"#, r#"\"\\/\x08\x0c\n\r\t"#);
    check(r"caf\u00e9 \u20AC \ud83d\ude00!", r"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80!");
    check(r"\ud83d \ude00\ud83dx", r"\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbdx");
    check(r"\q \u12 \u00g0 \u", r"\\q \\u12 \\u00g0 \\u");
    check(r"\\n", r"\\n");
    check("caf\u{e9} #012", r"caf\xc3\xa9 #012");
}

#[test]
fn bytes_that_are_no_utf8_pass_through_json() {
    check(b"{\"tag\":\"sshd:\",\"message\":\"\xff\\/\x80\xc3\"}", r"now|sshd[0]|\xff/\x80\xc3");
}

#[test]
fn json_that_is_cut_short_is_counted_as_such() {
    let line = r#"{"tag":"sshd[1]:","a":[1,{"b":"\u00e9"}],"message":"x\n"}"#;
    check(line, r"now|sshd[1]|x\n");
    for length in 1..line.len() {
        check(&line[..length], "malformed_json");
    }
    check("{\"tag\":\"sshd:\",\"message\":\"x\"} and more", "malformed_json");
    check("{tag:sshd}", "malformed_json");
}

#[test]
fn an_object_of_another_kind_is_a_message() {
    for line in [
        r#"{"level":"error","ts":1795326130.5,"msg":"a\/b"}"#,
        r#"{"message":"x"}"#,
        r#"{"message":"x","tag":"access"}"#,
        r#"{"program":"sshd"}"#,
        "{}",
    ] {
        check(line, &format!("now|[0]|{}", line.escape_default()));
    }
}

#[test]
fn journal_entries() {
    let fields = ["MESSAGE=a=b", "SYSLOG_IDENTIFIER=sshd", "SYSLOG_PID=7", "_PID=8", "_COMM=sshd-session"];
    check_journal(&fields, "now|sshd[8]|a=b");
    check_journal(&fields[..3], "now|sshd[7]|a=b");
    check_journal(&["_COMM=sshd", "MESSAGE=x"], "now|sshd[0]|x");
    check_journal(&["MESSAGE=x", "MESSAGE=y", "_PID=1", "_PID=2"], "now|none[1]|x");
    check_journal(&["MESSAGE= a\nb\0c\n"], r"now|none[0]| a\nb\x00c\n");
    check_journal(&["PRIORITY=6", "MESSAGE"], "now|none[0]|");
    check_journal(&[], "now|none[0]|");
}

#[test]
fn a_journal_record_cut_short_is_counted_as_such() {
    let mut record = Vec::new();
    journal::begin(&mut record, NOW);
    let whole = record.len();
    journal::push(&mut record, b"MESSAGE=x");
    for length in (0..record.len()).filter(|length| *length != whole) {
        let got = Decoder::new(TimeZone::UTC).decode(Format::Journal, &mut record[..length], NOW);
        assert_eq!(got, Err(Malformed::Journal), "{length}");
    }
}

#[test]
fn the_reader_does_not_push_what_no_entry_is_made_of() {
    let is_pushed = |field: &str| {
        let mut piece = JournalPiece::default();
        piece.take(field.as_bytes());
        !piece.record.is_empty()
    };
    for field in ["MESSAGE=x", "SYSLOG_IDENTIFIER=sshd", "_UID=0", "_SYSTEMD_UNIT=ssh.service"] {
        assert!(is_pushed(field), "{field}");
    }
    for field in ["MESSAGE_ID=x", "PRIORITY=6", "_UIDX=0", "UID=0", "_SYSTEMD_USER_UNIT=a", "=MESSAGE", ""] {
        assert!(!is_pushed(field), "{field}");
    }
}

#[test]
fn a_message_as_long_as_a_limit_of_rsyslogs_may_be_cut() {
    let cut = |size: &str| {
        let mut record = format!(r#"{{"tag":"a:","message":"x","size":"{size}"}}"#).into_bytes();
        Decoder::new(TimeZone::UTC).decode(Format::Line, &mut record, NOW).unwrap().cut
    };
    for limit in ["8096", "1024", "2048", "8192", "65536", "131072"] {
        assert!(cut(limit), "{limit}");
    }
    for other in ["", "0", "8095", "8097", "131071", "x"] {
        assert!(!cut(other), "{other}");
    }
}

#[test]
fn who_vouches() {
    let mut record = Vec::new();
    journal::begin(&mut record, NOW);
    for field in ["_UID=1002", "_EXE=/usr/bin/logger", "_COMM=logger", "_SYSTEMD_UNIT=cron.service", "UID=0"]
    {
        journal::push(&mut record, field.as_bytes());
    }
    assert_eq!(sender(Format::Journal, record), "1002 /usr/bin/logger logger cron.service");
    let json = |text: &str| sender(Format::Line, format!(r#"{{"tag":"a:","message":"x"{text}}}"#).into());
    assert_eq!(
        json(r#","uid":"33","exe":"\/usr\/sbin\/nginx","comm":"nginx","unit":"a.service""#),
        "33 /usr/sbin/nginx nginx a.service"
    );
    assert_eq!(json(r#","uid":"","exe":"","comm":null"#), "- - - -");
    assert_eq!(sender(Format::Line, b"sshd[1]: uid=0".to_vec()), "- - - -");
}

/// A header in a form that is in use, often the same one, with a part of another now and then.
fn header() -> impl Strategy<Value = String> {
    let or = |usual: &'static str, other: &'static [&'static str]| prop_oneof![6 => Just(usual), 1 => proptest::sample::select(other)];
    let brief =
        or("Nov 22 05:42", &["Nov 22 05:43", "Nov  2 05:42", "Nov 2 05:42", "Feb 30 12:00", "Oct 25 02:30"]);
    let long = or(
        "2026-11-22T05:42",
        &["2026-11-22 05:42", "2026-11-22_05:42", "2026-02-30T05:42", "2026-10-25T02:30", "2026-11-22t05:42"],
    );
    let minute = prop_oneof![brief, long];
    let seconds = or(":09", &[":00", ":59", ":60", ":61", ":x9", ":9", ""]);
    let fraction = or(".579216", &["", ".5", ",579216", ".57921", ".579216123", ".", ".5792"]);
    let zone = or("+00:00", &["", "Z", "+0100", "-05:30", "+01:", "+99:99", " "]);
    let host = or(
        " web01 ",
        &[" ", " web02 ", " web01  ", " <auth.info> web01 ", " web01 auth.info ", " sshd[1]: ", ""],
    );
    let tag = or(
        "sshd[208]: ",
        &[
            "sshd[7]: ",
            "sshd: ",
            "sshd[208]:",
            "sshd[]: ",
            "sshd[0042]: ",
            "sshd[12345678901]: ",
            "a[b[1]: ",
            "a:b[1]: ",
            "[sshd] ",
            "a]b[1]: ",
            "-a[1]: ",
            "/usr/sbin/sshd[9]: ",
            "sshd[208] ",
            "sshd[208]:  ",
            "kernel: ",
            "[1]: ",
        ],
    );
    (minute, seconds, fraction, zone, host, tag).prop_map(|(minute, seconds, fraction, zone, host, tag)| {
        let is_brief = minute.starts_with(|first: char| first.is_alphabetic());
        let (fraction, zone) = if is_brief { ("", "") } else { (fraction, zone) };
        format!("{minute}{seconds}{fraction}{zone}{host}{tag}message")
    })
}

/// An object with mostly the same keys, whose values differ.
fn object() -> impl Strategy<Value = String> {
    let or = |usual: &'static str, other: &'static [&'static str]| prop_oneof![20 => Just(usual), 1 => proptest::sample::select(other)];
    let keys = or(
        "",
        &[
            "\"size\":\"8192\",",
            "\"x\":[1,{\"tag\":\"y\"}],",
            "\"pid\":7,",
            "\"pid\": \"7\",",
            "\"tag\":\"z[1]:\",",
        ],
    );
    let value = proptest::sample::select(
        &[
            "",
            "a",
            "sshd[208]:",
            "x\\\"y",
            "\\\\",
            "\\u00e9",
            "a message that is longer than sixteen bytes",
            "\"",
            "\\",
        ][..],
    );
    let end = or("\"}", &["\"}\n", "\" }", "\"", "\"}}", "\",}", "\",\"uid\":\"0\"}"]);
    (keys, value.clone(), value.clone(), value, end).prop_map(|(keys, host, tag, message, end)| {
        format!("{{{keys}\"host\":\"{host}\",\"tag\":\"{tag}\",\"message\":\"{message}{end}")
    })
}

proptest! {
    #[test]
    fn an_object_is_read_as_if_none_had_been_before(objects in proptest::collection::vec(object(), 40)) {
        let mut used = Decoder::new(berlin());
        for object in objects {
            let (mut line, mut same) = (object.clone().into_bytes(), object.into_bytes());
            let want = Decoder::new(berlin()).decode(Format::Line, &mut line, NOW);
            prop_assert_eq!(used.decode(Format::Line, &mut same, NOW), want);
        }
    }

    #[test]
    fn a_header_is_read_as_if_none_had_been_before(
        headers in proptest::collection::vec((header(), proptest::sample::select(&[0, 86_400, 31_536_000][..])), 40),
    ) {
        let mut used = Decoder::new(berlin());
        for (header, later) in headers {
            let now = Timestamp::from_secs(NOW.as_secs() + later);
            let (mut line, mut same) = (header.clone().into_bytes(), header.into_bytes());
            let want = Decoder::new(berlin()).decode(Format::Line, &mut line, now);
            prop_assert_eq!(used.decode(Format::Line, &mut same, now), want);
        }
    }

    #[test]
    fn any_bytes_are_a_line(mut line: Vec<u8>, now: i64) {
        let decoded = Decoder::new(berlin()).decode(Format::Line, &mut line, Timestamp::from_micros(now)).is_ok();
        prop_assert!(decoded || line.starts_with(b"{"), "a line was lost");
    }

    #[test]
    fn nearly_a_header_is_a_line(
        line in r"(<[0-9]{1,4}>)?(1 )?([A-Z][a-z]{2} [ 0-9]{2} |[0-9]{4}-[0-9]{2}-[0-9]{2}[T ])[0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]*)?(Z|[+-][0-9:]{2,5})? ([!-~]{1,6} ){0,6}(\[.{0,9}\])?.{0,9}",
        now: i64,
    ) {
        let mut line = line.into_bytes();
        prop_assert!(Decoder::new(berlin()).decode(Format::Line, &mut line, Timestamp::from_micros(now)).is_ok());
    }

    #[test]
    fn nearly_json_does_no_harm(
        line in r#"\{("(tag|message|program|pid)":("([a-z]|\\["\\/bfnrtuq]|\\u[0-9a-fA-F]{4}|\\ud[89abcdef][0-9a-f]{2}|é)*"|[0-9]+|\[\{|\]|null),?){0,4}\}?"#,
    ) {
        let _ = Decoder::new(berlin()).decode(Format::Line, &mut line.into_bytes(), NOW);
    }

    #[test]
    fn any_bytes_are_a_journal_record_or_none(mut record: Vec<u8>) {
        let _ = Decoder::new(berlin()).decode(Format::Journal, &mut record, NOW);
    }

    #[test]
    fn a_journal_field_comes_back(message: Vec<u8>, time: i64, pid: u32) {
        let mut record = Vec::new();
        journal::begin(&mut record, Timestamp::from_micros(time));
        journal::push(&mut record, &[b"MESSAGE=", &*message].concat());
        journal::push(&mut record, format!("_PID={pid}").as_bytes());
        let entry = Decoder::new(TimeZone::UTC).decode(Format::Journal, &mut record, NOW).unwrap();
        prop_assert_eq!((entry.time.as_micros(), entry.pid, entry.message), (time, pid, &*message));
    }

    #[test]
    fn a_json_string_means_what_it_means_to_serde(text: String) {
        let json = serde_json::to_string(&text).unwrap();
        let mut line = format!(r#"{{"tag":"a:","message":{json}}}"#).into_bytes();
        let entry = Decoder::new(TimeZone::UTC).decode(Format::Line, &mut line, NOW).unwrap();
        prop_assert_eq!(entry.message, text.trim_start_matches(' ').as_bytes());
    }

    #[test]
    fn an_escape_means_what_it_means_to_serde(
        text in r#"([a-z]|\\["\\/bfnrt]|\\u[0-9abcef][0-9a-fA-F]{3}|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9A-F]{2}){0,20}"#,
    ) {
        let want: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
        let mut line = format!(r#"{{"tag":"a:","message":"{text}"}}"#).into_bytes();
        let entry = Decoder::new(TimeZone::UTC).decode(Format::Line, &mut line, NOW).unwrap();
        prop_assert_eq!(entry.message, want.trim_start_matches(' ').as_bytes());
    }
}

#[test]
fn a_replay_believes_the_time_in_a_message() {
    let time = |line: &str| {
        let mut decoder = Decoder::new(TimeZone::UTC).with_times_in_messages();
        let mut record = line.as_bytes().to_vec();
        let now = Timestamp::from_secs(1_800_000_000);
        let entry = decoder.decode(Format::Line, &mut record, now).unwrap();
        decoder.time(&entry, now).as_secs()
    };
    assert_eq!(
        time(r#"192.0.2.1 - a [x] [22/Nov/2026:05:40:46 +0100] "GET / HTTP/1.1" 200 9"#),
        1_795_322_446
    );
    assert_eq!(time("2026/11/22 04:40:46 [error] 128#128: *4 open()"), 1_795_322_446);
    assert_eq!(time("192.0.2.1 - - [32/Nov/2026:05:40:46 +0100] x"), 1_800_000_000);
    assert_eq!(time("no time at all, but [ some [ brackets"), 1_800_000_000);
}

#[test]
fn a_message_that_was_counted_is_said_so_often() {
    let said = |message: &str| {
        let mut record = format!("<38>Nov 22 05:39:38 h sshd[7]: {message}").into_bytes();
        let mut decoder = Decoder::new(TimeZone::UTC);
        let entry = decoder.decode(Format::Line, &mut record, Timestamp::from_secs(1_800_000_000)).unwrap();
        (entry.times, String::from_utf8_lossy(entry.message).into_owned())
    };
    assert_eq!(said("message repeated 5 times: [ a [b] c]"), (5, "a [b] c".to_owned()));
    for plain in [
        "a",
        "message repeated 0 times: [ a]",
        "message repeated x times: [ a]",
        "message repeated 5 times: [ a",
    ] {
        assert_eq!(said(plain), (1, plain.to_owned()));
    }
}
