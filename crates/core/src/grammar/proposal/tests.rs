use super::*;
use crate::entry::{Decoder, Format};
use crate::model::Timestamp;

/// The rules and comments proposed for these lines, which load.
#[track_caller]
fn check(lines: &str, want: &[&str]) -> Proposal {
    let proposal = propose("app", lines.lines().map(str::as_bytes));
    let text = proposal.text.clone().unwrap_or_default();
    let rules = text.split("auth-failure:\n").nth(1).and_then(|rest| rest.split("\n\ntest:").next());
    let rules: Vec<&str> = rules.unwrap_or_default().lines().map(str::trim).collect();
    assert_eq!(rules, want, "{text}");
    if proposal.refused == 0 && !want.is_empty() {
        Grammar::load("app", "app.grammar", &text, &Lists::shipped()).unwrap();
    }
    proposal
}

#[test]
fn lines_of_one_shape_are_one_rule() {
    check(
        "login failed for alice from 192.0.2.1 port 22\n\
         login failed for bob from 2001:db8::1 port 4711\n\
         login failed for bob from 2001:db8::1 port 4711\n\
         session opened\n\
         connection of 192.0.2.1 refused",
        &[
            "# 3 lines",
            "login failed for <user> from <ip> port <num>",
            "# 1 line",
            "connection of <ip> refused",
        ],
    );
}

#[test]
fn the_address_of_the_client_is_taken() {
    check(
        "denied 10.0.0.1:22 from 192.0.2.1",
        &[
            "# 1 line; of 2 addresses, this uses the one after `from`; generalised: check <word>",
            "denied <word> from <ip>",
        ],
    );
    check(
        "flow 192.0.2.1:4711 -> 10.0.0.1:22",
        &[
            "# 1 line; of 2 addresses, this uses number 1: is it the right one?; generalised: check <word>",
            "flow <peer> -> <word>",
        ],
    );
    check(
        "no match, rhost=192.0.2.1 server=10.0.0.1",
        &[
            "# 1 line; of 2 addresses, this uses the one after `rhost`; generalised: check <word>",
            "no match, rhost=<ip> server=<word>",
        ],
    );
}

#[test]
fn what_is_refused_becomes_stricter() {
    check(
        "user alice from 192.0.2.1 as 'guest'\nuser bob from 192.0.2.2 as 'x y'",
        &["# 2 lines", "user <user> from <ip> as '<user:not '>'"],
    );
}

#[test]
fn what_no_rule_can_hold_is_counted() {
    let proposal = check("session opened\n\u{1b}[0m from 192.0.2.1\n", &[]);
    assert_eq!(proposal, Proposal { without_address: 1, unwritable: 1, ..Proposal::default() });
}

#[test]
fn what_all_lines_share_is_text() {
    check(
        "Username or password is incorrect, IP: 192.0.2.1\nUsername or password is incorrect, IP: 192.0.2.2",
        &["# 2 lines", "Username or password is incorrect, IP: <ip>"],
    );
}

#[test]
fn the_address_of_the_server_is_never_taken() {
    check("no route to 192.0.2.1, invalid", &[]);
    check(
        "request from '<sip:1@192.0.2.9>' invalid (192.0.2.1:5060)",
        &["# 1 line; generalised: check <text>", "request from '<text>' invalid (<peer>)"],
    );
    check(
        "invalid user, LocalAddress=192.0.2.9 peer=192.0.2.1",
        &[
            "# 1 line; of 2 addresses, this uses the one after `peer`; generalised: check <word>",
            "invalid user, LocalAddress=<word> peer=<ip>",
        ],
    );
}

#[test]
fn lines_without_a_failure_become_tests() {
    let proposal = check(
        "login of bob failed from 192.0.2.1\nlogin of bob was done from 192.0.2.2",
        &[
            "# 1 line; generalised: check <user>",
            "login of <user> failed from <ip>",
            "# 1 line without a word of failure, so no rule",
            "# login of <user> was done from <ip>",
        ],
    );
    assert_eq!(proposal.harmless, 1);
    let text = proposal.text.unwrap();
    assert!(text.ends_with("    -               login of bob was done from 192.0.2.2\n"), "{text}");
}

/// The messages of a log, without their headers.
fn messages(log: &str) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(jiff::tz::TimeZone::UTC);
    let mut message = |line: &str| {
        let mut line = line.as_bytes().to_vec();
        decoder.decode(Format::Line, &mut line, Timestamp::from_secs(0)).unwrap().message.to_vec()
    };
    log.lines().map(&mut message).collect()
}

/// Proposes a grammar from a log of ten lines, of which these are not offences. It must read each of the others with
/// its address, and these other lines with theirs.
#[track_caller]
fn proposes(log: &str, harmless: &[usize], others: &[(&str, &str)]) {
    let messages = messages(log);
    assert_eq!(messages.len(), 10);
    let proposal = propose("app", messages.iter().map(Vec::as_slice));
    let text = proposal.text.clone().unwrap();
    assert_eq!((proposal.refused, proposal.unread, &proposal.main_refused), (0, 0, &None), "{text}");
    let (grammar, _) = Grammar::load("app", "app.grammar", &text, &Lists::shipped()).unwrap();
    for (number, message) in (1..).zip(&messages) {
        let found = grammar.read(message).and_then(|found| found.address());
        let shown = String::from_utf8_lossy(message);
        assert_eq!(found.is_none(), harmless.contains(&number), "line {number}: {shown}\n{text}");
        // The fixtures name offenders by these.
        let ours = |address: &IpAddr| {
            let address = address.to_string();
            ["198.51.100.", "203.0.113.9", "2001:db8::7"].iter().any(|known| address.starts_with(known))
        };
        assert!(found.is_none_or(|address| ours(&address)), "line {number}: {shown}\n{text}");
    }
    for (address, message) in others {
        let found = grammar
            .read(message.as_bytes())
            .and_then(|found| found.address())
            .map(|address| address.to_string());
        assert_eq!(found.as_deref().unwrap_or("-"), *address, "{message}\n{text}");
    }
}

#[test]
fn ten_lines_of_vaultwarden_make_a_grammar() {
    let failed = "[vaultwarden::api::identity][ERROR] Username or password is incorrect. Try again. IP:";
    proposes(
        include_str!("../../../../../tests/samples/new/vaultwarden.log"),
        &[8, 9],
        &[
            ("2001:db8::9", &format!("[2027-01-02 03:04:05.678]{failed} 2001:db8::9. Username: Eve Smith.")),
            (
                "192.0.2.9",
                &format!(
                    "[2027-01-02 03:04:05.678]{failed} 192.0.2.9. Username: x. IP: 192.0.2.66. Username: y."
                ),
            ),
            (
                "192.0.2.9",
                "[2027-01-02 03:04:05.678][vaultwarden::api::admin][ERROR] Invalid admin token. IP: 192.0.2.9",
            ),
            (
                "192.0.2.9",
                "[2027-01-02 03:04:05.678][vaultwarden::api::core::two_factor::authenticator][ERROR] Invalid TOTP code! Server time: 2027-01-02 03:04:05 UTC IP: 192.0.2.9",
            ),
            (
                "-",
                "[2027-01-02 03:04:05.678][vaultwarden::api::identity][INFO] User eve@example.org logged in successfully. IP: 192.0.2.9",
            ),
        ],
    );
}

#[test]
fn ten_lines_of_gitea_or_forgejo_make_a_grammar() {
    let failed =
        "2027/01/02 03:04:05 ...ers/web/auth/auth.go:317:SignInPost() [I] Failed authentication attempt for";
    proposes(
        include_str!("../../../../../tests/samples/new/gitea.log"),
        &[7, 8, 9, 10],
        &[
            (
                "192.0.2.9",
                &format!("{failed} eve from 192.0.2.9:1: user does not exist [uid: 0, name: eve, keyid: 0]"),
            ),
            (
                "2001:db8::9",
                &format!(
                    "{failed} eve from [2001:db8::9]:1: user does not exist [uid: 0, name: eve, keyid: 0]"
                ),
            ),
            (
                "192.0.2.9",
                &format!(
                    "{failed} Eve S from 192.0.2.9:1: user does not exist [uid: 0, name: Eve S, keyid: 0]"
                ),
            ),
            (
                "192.0.2.9",
                &format!(
                    "{failed} x from 192.0.2.66:1: y from 192.0.2.9:1: user's password is invalid [uid: 9, name: eve]"
                ),
            ),
            (
                "192.0.2.9",
                "2027/01/02 03:04:05 ...ices/auth/basic.go:101:Verify() [I] Failed authentication attempt from 192.0.2.9:1",
            ),
            (
                "-",
                "2027/01/02 03:04:05 ...eb/routing/logger.go:102:func1() [I] router: completed GET /explore for 192.0.2.9:1, 200 OK in 1.2ms @ a/b.go:1(x.Y)",
            ),
        ],
    );
    let failed =
        "2027/01/02 03:04:05 .../web/auth/auth.go:320:SignInPost() [W] Failed authentication attempt for";
    proposes(
        include_str!("../../../../../tests/samples/new/forgejo.log"),
        &[6, 7, 8],
        &[
            (
                "192.0.2.9",
                &format!("{failed} Eve S from 192.0.2.9:1: user does not exist [uid: 0, name: eve]"),
            ),
            (
                "2001:db8::9",
                &format!("{failed} eve from [2001:db8::9]:1: user does not exist [uid: 0, name: eve]"),
            ),
            (
                "192.0.2.9",
                "2027/01/02 03:04:05 modules/ssh/ssh.go:210:publicKeyHandler() [W] Failed authentication attempt from 192.0.2.9:1",
            ),
        ],
    );
}

#[test]
fn ten_lines_of_wordpress_make_a_grammar() {
    proposes(
        include_str!("../../../../../tests/samples/new/wordpress.log"),
        &[8, 9],
        &[
            ("192.0.2.9", "Authentication failure for Eve Smith from 192.0.2.9"),
            ("2001:db8::9", "Authentication attempt for unknown user x from 192.0.2.66 from 2001:db8::9"),
            ("192.0.2.9", "XML-RPC authentication failure for eve from 192.0.2.9"),
            ("192.0.2.9", "Blocked authentication attempt for eve from 192.0.2.9"),
            ("192.0.2.9", "Blocked user enumeration attempt from 192.0.2.9"),
            ("-", "Accepted password for eve from 192.0.2.9"),
        ],
    );
}

#[test]
fn ten_lines_of_nginx_proxy_manager_make_a_grammar() {
    let line = |status: &str, path: &str, client: &str| {
        format!(
            "[02/Jan/2027:03:04:05 +0000] - {status} {status} - PUT http a.b.example \"{path}\" [Client {client}] [Length 9] [Gzip 1.1] [Sent-to 10.0.0.9] \"x\" \"-\""
        )
    };
    proposes(
        include_str!("../../../../../tests/samples/new/nginx-proxy-manager.log"),
        &[5, 6, 7, 9, 10],
        &[
            ("192.0.2.9", &line("401", "/api/tokens", "192.0.2.9")),
            ("2001:db8::9", &line("403", "/a b?\\x22] [Client 192.0.2.66]", "2001:db8::9")),
            ("-", &line("200", "/api/tokens", "192.0.2.9")),
            ("-", &line("404", "/ 401 - GET", "192.0.2.9")),
        ],
    );
}

#[test]
fn ten_lines_of_asterisk_make_a_grammar() {
    let sip = "[2027-01-02 03:04:05] NOTICE[77] chan_sip.c: Registration from";
    let security = |event: &str, remote: &str| {
        format!(
            "[2027-01-02 03:04:05] SECURITY[7] res_security_log.c: SecurityEvent=\"{event}\",EventTV=\"2027-01-02T03:04:05.1+0000\",Severity=\"Error\",Service=\"PJSIP\",EventVersion=\"2\",AccountID=\"eve\",SessionID=\"x\",LocalAddress=\"IPV4/TCP/203.0.113.1/5061\",RemoteAddress=\"{remote}\",Challenge=\"\""
        )
    };
    proposes(
        include_str!("../../../../../tests/samples/new/asterisk.log"),
        &[9, 10],
        &[
            (
                "192.0.2.9",
                &format!(
                    "{sip} '\"Eve S\" <sip:9@198.51.100.1:5060>' failed for '192.0.2.9:5060' - Wrong password"
                ),
            ),
            (
                "192.0.2.9",
                &format!(
                    "{sip} '\"x' failed for '192.0.2.66:1' - Wrong password\" <sip:9@198.51.100.1>' failed for '192.0.2.9:5060' - Wrong password"
                ),
            ),
            (
                "2001:db8::9",
                &format!(
                    "{sip} '<sip:9@198.51.100.1>' failed for '[2001:db8::9]:5060' - No matching peer found"
                ),
            ),
            (
                "192.0.2.9",
                "[2027-01-02 03:04:05] NOTICE[7] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from '\"e\" <sip:e@198.51.100.1>' failed for '192.0.2.9:5060' (callid: zz) - No matching endpoint found",
            ),
            (
                "192.0.2.9",
                "[2027-01-02 03:04:05] NOTICE[7][C-00000abc] chan_sip.c: Call from '' (192.0.2.9:5060) to extension '0011 22' rejected because extension not found in context 'default'.",
            ),
            ("2001:db8::9", &security("InvalidPassword", "IPV6/TCP/2001:db8::9/5061")),
            ("-", &security("SuccessfulAuth", "IPV4/UDP/192.0.2.9/5061")),
        ],
    );
}

#[test]
fn ten_lines_of_postfix_make_a_grammar() {
    proposes(
        include_str!("../../../../../tests/samples/new/postfix.log"),
        &[1, 3, 8, 9, 10],
        &[
            (
                "192.0.2.9",
                "warning: mail.evil.example[192.0.2.9]: SASL LOGIN authentication failed: UGFzc3dvcmQ6",
            ),
            (
                "2001:db8::9",
                "warning: unknown[2001:db8::9]: SASL CRAM-MD5 authentication failed: authentication failure, sasl_username=x[192.0.2.66]: y",
            ),
            (
                "192.0.2.9",
                "warning: unknown[192.0.2.9]: SASL PLAIN authentication failed: Connection lost to authentication server",
            ),
            ("-", "connect from unknown[192.0.2.9]"),
            ("-", "disconnect from unknown[192.0.2.9] ehlo=1 auth=1 quit=1 commands=3"),
        ],
    );
}

#[test]
fn ten_lines_of_dovecot_make_a_grammar() {
    let failed = "imap-login: Disconnected: Connection closed (auth failed, 9 attempts in 9 secs):";
    proposes(
        include_str!("../../../../../tests/samples/new/dovecot.log"),
        &[8, 9, 10],
        &[
            (
                "192.0.2.9",
                &format!(
                    "{failed} user=<Eve S>, method=LOGIN, rip=192.0.2.9, lip=203.0.113.1, TLS, session=<abc>"
                ),
            ),
            (
                "2001:db8::9",
                &format!(
                    "{failed} user=<x>, method=PLAIN, rip=192.0.2.66, lip=1.1.1.1, session=<y>, method=PLAIN, rip=2001:db8::9, lip=::1, session=<abc>"
                ),
            ),
            (
                "192.0.2.9",
                "auth: passwd-file(Eve S,192.0.2.9): unknown user (SHA1 of given password: 0a0a0a)",
            ),
            (
                "192.0.2.9",
                "auth-worker(9): sql(a,192.0.2.66): Password mismatch x,192.0.2.9): Password mismatch",
            ),
            (
                "-",
                "imap-login: Login: user=<eve>, method=PLAIN, rip=192.0.2.9, lip=203.0.113.1, mpid=9, TLS, session=<abc>",
            ),
        ],
    );
}

#[test]
fn ten_lines_of_home_assistant_make_a_grammar() {
    let failed = "2027-01-02 03:04:05.678 WARNING (MainThread) [homeassistant.components.http.ban] Login attempt or request with invalid authentication from";
    proposes(
        include_str!("../../../../../tests/samples/new/home-assistant.log"),
        &[7, 8],
        &[
            ("192.0.2.9", &format!("{failed} evil.example (192.0.2.9). Requested URL: '/auth'. (x)")),
            (
                "2001:db8::9",
                &format!(
                    "{failed} 2001:db8::9 (2001:db8::9). Requested URL: '/ (192.0.2.66). Requested URL: '/'. (a (192.0.2.66). b)"
                ),
            ),
            (
                "192.0.2.9",
                "2027-01-02 03:04:05.678 WARNING (MainThread) [homeassistant.components.http.ban] Banned IP 192.0.2.9 for too many login attempts",
            ),
            (
                "-",
                "2027-01-02 03:04:05.678 INFO (MainThread) [homeassistant.components.mobile_app] Device connected from 192.0.2.9",
            ),
        ],
    );
}

#[test]
fn ten_lines_of_nextcloud_make_a_grammar() {
    let line = |address: &str, message: &str| {
        format!(
            "{{\"reqId\":\"x\",\"level\":2,\"new\":{{\"a\":[1]}},\"message\":\"{message}\",\"time\":\"2027-01-02T03:04:05+00:00\",\"remoteAddr\":\"{address}\",\"user\":\"--\"}}"
        )
    };
    proposes(
        include_str!("../../../../../tests/samples/new/nextcloud.log"),
        &[6, 7, 8],
        &[
            ("192.0.2.9", &line("192.0.2.9", "Login failed: Eve S (Remote IP: 192.0.2.9)")),
            (
                "2001:db8::9",
                &line(
                    "2001:db8::9",
                    "Login failed: x\\\",\\\"remoteAddr\\\":\\\"192.0.2.66 (Remote IP: 2001:db8::9)",
                ),
            ),
            ("-", &line("192.0.2.9", "Login successful: eve")),
            ("-", &line("192.0.2.9", "x Login failed: eve")),
        ],
    );
}

#[test]
fn lines_of_keys_make_a_shape() {
    let shape = |lines: &str, want: &str| {
        let proposal = propose("app", lines.lines().map(str::as_bytes));
        let text = proposal.text.unwrap();
        let shape = text.split("program: app\n\n").nth(1).and_then(|rest| rest.split("\n\ntest:").next());
        assert_eq!(shape, Some(want), "{text}");
    };
    shape(
        "t=2026-11-23T21:04:11Z level=warn msg=\"Invalid password\" user=bob remote=192.0.2.1:4711\n\
         t=2026-11-23T21:04:12Z level=info msg=\"Logged in\" user=eve remote=192.0.2.2:4712",
        "logfmt events:\n    # 2 lines\n    remote = <peer>\n    msg = <msg:text>\n    user = <user>\n\n\
         auth-failure in events:\n    # 1 line\n    msg is \"Invalid password\"",
    );
    shape(
        "{\"request\":{\"remote_ip\":\"192.0.2.1\",\"method\":\"GET\",\"uri\":\"/\"},\"status\":401}\n\
         {\"request\":{\"remote_ip\":\"192.0.2.2\",\"method\":\"GET\",\"uri\":\"/\"},\"status\":200}",
        "json events:\n    # 2 lines\n    request.remote_ip = <ip>\n    status = <status:num>\n\n\
         auth-failure in events:\n    status is 401",
    );
}

#[test]
fn ten_lines_of_immich_make_a_grammar() {
    let line = |said: &str| format!("[Nest] 12  - 01/02/2027, 10:04:05 AM    {said}");
    proposes(
        include_str!("../../../../../tests/samples/new/immich.log"),
        &[5, 6, 7, 8],
        &[
            (
                "192.0.2.9",
                &line(
                    "WARN [Api:AuthService~abcdefgh] Failed login attempt for user eve from ip address 192.0.2.9",
                ),
            ),
            (
                "2001:db8::9",
                &line(
                    "WARN [Api:AuthService~1] Failed login attempt for user x from ip address 192.0.2.66 from ip address 2001:db8::9",
                ),
            ),
            (
                "-",
                &line(
                    " LOG [Api:AuthService~abcdefgh] User eve@example.org logged in from ip address 192.0.2.9",
                ),
            ),
        ],
    );
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(256))]

    #[test]
    fn whatever_the_lines_are_the_proposal_loads(
        lines in proptest::collection::vec(proptest::collection::vec(0..PIECES.len(), 1..14), 1..6)
    ) {
        let lines: Vec<String> =
            lines.iter().map(|line| line.iter().filter_map(|piece| PIECES.get(*piece)).copied().collect()).collect();
        let proposal = propose("app", lines.iter().map(String::as_bytes));
        if proposal.rules > 0 {
            let text = proposal.text.unwrap_or_default();
            let faults = Grammar::load("app", "app", &text, &Lists::shipped()).map_err(|faults| faults.iter().map(ToString::to_string).collect::<String>());
            proptest::prop_assert!(faults.is_ok(), "{}\n{text}", faults.unwrap_err());
        }
    }
}

const PIECES: &[&str] = &[
    " ",
    " ",
    " ",
    "user ",
    "for ",
    " from ",
    "msg=",
    "\"",
    "'",
    "192.0.2.1",
    "::1",
    "2001:db8::1",
    "10.0.0.1",
    "\u{e9}",
    "[",
    "]",
    ":",
    "\\",
    "<ip>",
    "{",
    "|",
    "}",
    "#",
    "=",
    "5",
    "x9abcdefgh",
    "12:30:45",
    ".",
    ",",
    "%",
    "bob",
    "port 22",
    "test:",
    "a=b",
    "-",
];
