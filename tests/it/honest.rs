//! Who is not to be banned by the configuration as it comes: those who merely look whether ssh answers, and visitors of
//! web servers. And that this lets nobody attack.

use std::fmt::Write;
use std::process::Command;

use jiff::ToSpan;

const HOUR: u32 = 3600;

/// Replays these lines of `program` by one process every so many seconds for that long; the jails that ban somebody,
/// and on which ports.
#[track_caller]
fn check(program: &str, lines: &[&str], every: u32, seconds: u32, want: &[&str]) {
    let start: jiff::Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
    let mut log = String::new();
    for second in (0..seconds).step_by(every as usize) {
        let time = start + i64::from(second).seconds();
        for line in lines {
            writeln!(log, "{time} host {program}[{}]: {line}", 1000 + second).unwrap();
        }
    }
    assert_eq!(bans(&log), want, "{lines:?} every {every} s");
}

/// What the configuration as it comes makes of a log: the jails that ban somebody, and on which ports.
fn bans(log: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name, text| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let output = Command::new(env!("CARGO_BIN_EXE_banstream"))
        .args(["replay", "--json", "--config"])
        .args([file("banstream.toml", "grammar-directory = '/nonexistent'\n"), file("log", log)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut bans: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["jail"].is_string())
        .map(|ban| format!("{} {}", ban["jail"].as_str().unwrap(), ban["ports"]))
        .collect();
    bans.dedup();
    bans
}

#[test]
fn a_monitor_of_ssh_is_not_banned() {
    check("sshd-session", &["Connection closed by 192.0.2.6 port 47110 [preauth]"], 60, 24 * HOUR, &[]);
    let farewell = [
        "Received disconnect from 192.0.2.6 port 47110:11: Bye Bye [preauth]",
        "Disconnected from 192.0.2.6 port 47110 [preauth]",
    ];
    check("sshd", &farewell, 5, HOUR, &[]);
}

#[test]
fn a_load_balancer_before_ssh_is_not_banned() {
    check("sshd", &["Connection reset by 192.0.2.6 port 47110"], 2, HOUR, &[]);
    check("sshd", &["Connection closed by 2001:db8::6 port 47110"], 1, HOUR, &[]);
    check("sshd", &["Did not receive identification string from 192.0.2.6 port 47110"], 2, HOUR, &[]);
    check("dropbear", &["Exit before auth from <192.0.2.6:47110>: Exited normally"], 2, HOUR, &[]);
}

#[test]
fn an_ssh_keyscan_now_and_then_is_not_banned() {
    let refused = "Unable to negotiate with 192.0.2.7 port 4002: no matching host key type found. Their offer: \
                   sk-ssh-ed25519@openssh.com [preauth]";
    check("sshd", &[refused], 60, 24 * HOUR, &[]);
}

#[test]
fn whoever_abuses_ssh_is_shut_out_of_ssh_for_a_while() {
    let only_ssh = |jail: &str| format!("{jail} [\"22/tcp\"]");
    for line in [
        "Unable to negotiate with 192.0.2.8 port 4002: no matching cipher found. Their offer: x [preauth]",
        "ssh_dispatch_run_fatal: Connection from 192.0.2.8 port 4002: message authentication code incorrect [preauth]",
        "drop connection #0 from [192.0.2.8]:4711 on [203.0.113.1]:22 penalty: exceeded LoginGraceTime",
        "Bad protocol version identification 'GET / HTTP/1.1' from 192.0.2.8 port 4002",
    ] {
        check("sshd", &[line], 10, 300, &[&only_ssh("ssh-abuse")]);
    }
}

#[test]
fn whoever_guesses_passwords_is_shut_out_of_everything() {
    check("sshd", &["Failed password for root from 192.0.2.9 port 4002 ssh2"], 60, 300, &["sshd []"]);
}

/// Replays these requests, one a second, as `program` logs them: `USER "REQUEST" STATUS "REFERER" "AGENT"`.
#[track_caller]
fn web(requests: &[&str], want: &[&str]) {
    for program in ["nginx", "apache2"] {
        let log: String = (0..)
            .zip(requests)
            .map(|(second, request)| {
                let (user, rest) = request.split_once(' ').unwrap();
                format!(
                    "2026-11-28T00:00:{second:02}+00:00 host {program}[7]: 192.0.2.1 - {user} \
                     [28/Nov/2026:00:00:{second:02} +0000] {rest}\n"
                )
            })
            .collect();
        assert_eq!(bans(&log), want, "{program}: {requests:?}");
    }
}

#[test]
fn a_client_that_has_logged_in_may_ask_for_anything() {
    web(
        &[
            r#"alice "PROPFIND /dav/alice/.DS_Store HTTP/1.1" 404 153 "-" "WebDAVFS/3.0.0""#,
            r#"alice "PUT /dav/alice/a/.git/index HTTP/1.1" 201 153 "-" "x""#,
            r#"alice "GET /dav/alice/b/.ssh/known_hosts HTTP/1.1" 404 153 "-" "x""#,
            r#"alice "GET /dav/alice/c/.env HTTP/1.1" 404 153 "-" "x""#,
        ],
        &[],
    );
}

#[test]
fn a_reader_a_page_with_holes_and_an_old_session_are_no_scans() {
    let forge = |path: &str| format!(r#"- "GET /alice/x/src/branch/main/{path} HTTP/2.0" 200 9 "-" "x""#);
    let forge =
        [".gitignore", ".github/workflows/ci.yml", ".env.example", ".git", ".vscode/x", ".env"].map(forge);
    web(&forge.each_ref().map(String::as_str), &[]);
    web(
        &[
            r#"- "GET /wp-content/uploads/a.jpg HTTP/2.0" 404 9 "-" "x""#,
            r#"- "GET /wp-admin/b.css HTTP/2.0" 404 9 "https://a.example/" "x""#,
            r#"- "GET /wp-login.php HTTP/2.0" 404 9 "https://a.example/" "x""#,
            r#"- "GET /old/page.aspx HTTP/2.0" 404 9 "-" "x""#,
            r#"- "GET /static/config.json HTTP/2.0" 404 9 "-" "x""#,
        ],
        &[],
    );
    web(
        &[
            r#"- "GET /System/Configuration HTTP/2.0" 401 9 "-" "x""#,
            r#"- "GET /api/admin/settings HTTP/2.0" 403 9 "-" "x""#,
            r#"- "POST /api/items HTTP/2.0" 401 9 "-" "x""#,
            r#"- "POST /api/token HTTP/2.0" 401 9 "-" "x""#,
            r#"- "PUT /api/items/1 HTTP/2.0" 401 9 "-" "x""#,
            r#"- "GET /admin/users HTTP/2.0" 401 9 "-" "x""#,
        ],
        &[],
    );
}

#[test]
fn one_wrong_link_is_one_name_however_often_it_is_followed() {
    let wrong = r#"- "GET /.env?x HTTP/2.0" 404 9 "-" "x""#;
    web(&[wrong; 9], &[]);
}

#[test]
fn no_page_gets_its_viewers_banned_nor_who_follows_its_links() {
    web(
        &[
            r#"- "GET /.env HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET /.git/x HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET /?../../etc/passwd HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET /phpmyadmin/ HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET /?${jndi:ldap://x} HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET /;wget0 HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET /;wget1 HTTP/2.0" 404 9 "https://evil.example/" "x""#,
            r#"- "GET / HTTP/2.0" 200 9 "https://evil.example/?;wget" "x""#,
            r#"- "GET / HTTP/2.0" 200 9 "https://evil.example/?;wget" "x""#,
        ],
        &[],
    );
    let links =
        ["a", "b", "c", "d"].map(|name| format!(r#"- "GET /?{name}=/.env HTTP/1.1" 404 9 "-" "bot""#));
    web(&links.each_ref().map(String::as_str), &[]);
}

#[test]
fn a_page_with_many_foreign_pictures_is_no_flood() {
    let picture = r#"- "GET /a.png HTTP/2.0" 404 9 "https://evil.example/" "x""#;
    web(&[picture; 59], &[]);
    web(&[&picture.replace("https://evil.example/", "-")[..]; 60], &["http-flood []"]);
}

#[test]
fn many_calls_of_xml_rpc_are_guesses() {
    let call = r#"- "POST /xmlrpc.php HTTP/1.1" 200 403 "-" "x""#;
    web(&[call; 59], &[]);
    web(&[call; 60], &["http-flood []"]);
}

#[test]
fn a_client_of_webdav_that_asks_for_what_is_missing_is_no_flood() {
    for method in ["PROPFIND", "HEAD", "LOCK"] {
        let missing = format!(r#"alice "{method} /dav/alice/x HTTP/1.1" 404 9 "-" "davfs2/1.6.1""#);
        web(&[&missing[..]; 60], &[]);
    }
}

#[test]
fn what_lies_below_one_name_is_one_thing() {
    let users =
        ["0", "1", "2", "3"].map(|n| format!(r#"- "GET /admin/realms/r/users/{n} HTTP/1.1" 404 9 "-" "x""#));
    web(&users.each_ref().map(String::as_str), &[]);
    web(
        &[
            r#"- "POST /api/bloginfo HTTP/1.1" 401 9 "-" "x""#,
            r#"- "POST /api/assigning/1 HTTP/1.1" 401 9 "-" "x""#,
            r#"- "POST /api/items?next=/login HTTP/1.1" 401 9 "-" "x""#,
            r#"- "POST /api/bloginfo HTTP/1.1" 401 9 "-" "x""#,
            r#"- "POST /api/bloginfo HTTP/1.1" 401 9 "-" "x""#,
        ],
        &[],
    );
}

#[test]
fn who_looks_for_a_webmail_is_no_scanner() {
    let typed = ["/webmail", "/roundcube/", "/owa"];
    let typed = typed.map(|path| format!(r#"- "GET {path} HTTP/2.0" 404 9 "-" "Mozilla/5.0""#));
    web(&typed.each_ref().map(String::as_str), &[]);
}

#[test]
fn who_asks_for_three_names_and_is_gone_is_a_scanner() {
    web(
        &[
            r#"- "GET /wp-login.php HTTP/1.1" 404 9 "-" "Mozilla/5.0""#,
            r#"- "GET /admin.php HTTP/1.1" 404 9 "-" "Mozilla/5.0""#,
            r#"- "GET /administrator/ HTTP/1.1" 404 9 "-" "Mozilla/5.0""#,
        ],
        &["http-probe []"],
    );
    web(&[r#"- "GET / HTTP/1.1" 200 9 "-" "${jndi:ldap://203.0.113.9/a}""#; 3], &["http-exploit []"]);
}

/// What a client of a program can have it write by a line break in a name, and the attempts at ssh that are then counted.
#[test]
fn a_line_that_a_client_wrote_bans_nobody_and_protects_nobody() {
    for (program, line) in [
        ("gitea", "Failed authentication attempt for alice from 192.0.2.1"),
        ("vaultwarden", "Invalid admin token. IP: 192.0.2.1"),
        (
            "uptime-kuma",
            "2026-11-28T00:00:00Z [AUTH] WARN: Incorrect username or password for user a. IP=192.0.2.1",
        ),
        ("uptime-kuma", "2026-11-28T00:00:00Z [AUTH] INFO: Successfully logged in user a. IP=192.0.2.1"),
        ("jellyfin", "[00:00:00] [INF] Authentication request for x has been denied (IP: 192.0.2.1)."),
        ("paperless", "Login failed for user `a` from IP `192.0.2.1`."),
        (
            "odoo",
            "2026-11-28 00:00:00,000 1 INFO odoo odoo.http: Login failed for db:odoo login:a from 192.0.2.1",
        ),
        (
            "odoo",
            "2026-11-28 00:00:00,000 1 INFO odoo odoo.http: Login successful for db:odoo login:a from 192.0.2.1",
        ),
        ("sonarr", "[Warn] Auth: Auth-Failure ip 192.0.2.1 username 'a'"),
        (
            "murmurd",
            "<W>2026-11-28 00:00:00.000 1 => <4:a(-1)> Rejected connection from 192.0.2.1:1: Invalid server password",
        ),
        (
            "guacamole",
            "00:00:00.000 [x] WARN  o.a.g.A - Authentication attempt from 192.0.2.1 for user \"a\" failed.",
        ),
        (
            "apache2",
            "192.0.2.1 - x [28/Nov/2026:00:00:00 +0000] \"GET /index.php HTTP/1.1\" 200 153 \"-\" \"curl\"",
        ),
        (
            "nginx",
            "192.0.2.1 - x [28/Nov/2026:00:00:00 +0000] \"PROPFIND /healthz HTTP/1.1\" 204 0 \"-\" \"curl\"",
        ),
        ("vsftpd", "[ftp] OK LOGIN: Client \"192.0.2.1\""),
    ] {
        check(program, &[line], 60, 20 * 60, &[]);
        let attempt =
            "2026-11-28T00:01:00Z host sshd[9]: Failed password for root from 192.0.2.1 port 4002 ssh2\n";
        let log = format!("2026-11-28T00:00:00Z host {program}[7]: {line}\n{}", attempt.repeat(8));
        assert_eq!(bans(&log), ["sshd []"], "{line}");
    }
}

/// Three wrong passwords ban nobody, however many lines report each.
#[test]
fn an_attempt_counts_once_whatever_reports_it() {
    let check = |program: &str, lines: &[&str]| check(program, lines, 20, 60, &[]);
    let pam = |module: &str, service: &str| {
        format!(
            "{module}({service}:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser= rhost=192.0.2.1 user=alice"
        )
    };
    for (program, service) in [("vsftpd", "vsftpd"), ("cockpit-session", "cockpit"), ("squid", "squid")] {
        check(program, &[&pam("pam_unix", service), &pam("pam_sss", service)]);
    }
    check(
        "xrdp-sesman",
        &["[INFO ] AUTHFAIL: user=alice ip=192.0.2.1 time=1795412738", &pam("pam_unix", "xrdp-sesman")],
    );
    check("ftpd", &["FTP LOGIN FAILED FROM 192.0.2.1", "FTP LOGIN FAILED FROM 192.0.2.1, alice"]);
    check(
        "nextcloud",
        &[
            r#"{"level":2,"remoteAddr":"192.0.2.1","message":"Login failed: alice (Remote IP: 192.0.2.1)"}"#,
            r#"{"level":1,"remoteAddr":"192.0.2.1","message":"Bruteforce attempt from \"192.0.2.1\" detected for action \"login\"."}"#,
        ],
    );
    check(
        "grafana",
        &[
            r#"{"error":"invalid username or password","msg":"Invalid username or password","remote_addr":"192.0.2.1","uname":""}"#,
            r#"{"msg":"Request Completed","method":"POST","path":"/login","status":401,"remote_addr":"192.0.2.1","uname":""}"#,
        ],
    );
}

#[test]
fn who_did_nothing_but_meet_an_old_token_a_notice_or_a_second_module_is_not_banned() {
    let success = "pam_sss(vsftpd:auth): authentication success; logname= uid=0 euid=0 tty=ftp ruser=alice rhost=192.0.2.1 user=alice";
    let unix = "pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=alice rhost=192.0.2.1  user=alice";
    check("vsftpd", &[unix, success], 10, 300, &[]);
    let token = r#"{"msg":"handled request","request":{"client_ip":"192.0.2.1","method":"GET","uri":"/api/items/0","headers":{"Authorization":["REDACTED"],"Referer":["https://app.example/"]}},"status":401,"resp_headers":{}}"#;
    check("caddy", &[token], 10, 300, &[]);
    let asked = r#"{"msg":"handled request","request":{"client_ip":"192.0.2.1","method":"PROPFIND","uri":"/dav/","headers":{"User-Agent":["x"]}},"status":401,"resp_headers":{"Www-Authenticate":["Digest realm=\"x\""]}}"#;
    check("caddy", &[asked; 3], 1, 100, &[]);
    let step = r#"{"msg":"handled request","request":{"client_ip":"192.0.2.1","method":"GET","uri":"/","headers":{"Authorization":["REDACTED"]}},"status":401,"resp_headers":{"Www-Authenticate":["NTLM TlRMTVNTUAACAAAA"]}}"#;
    check("caddy", &[step], 1, 100, &[]);
    let asked = r#"192.0.2.1:4711 [22/Nov/2026:05:45:11.608] http http/<NOSRV> -1/-1/-1/-1/0 401 248 - - PR-- 1/1/0/0/0 0/0 "GET / HTTP/1.1""#;
    check("haproxy", &[asked], 1, 100, &[]);
    let notice = "[proxy_fcgi:error] [pid 8:tid 1] [client 192.0.2.1:23006] AH01071: Got error 'PHP message: PHP Deprecated:  x', referer: https://www.example/";
    check("apache2", &[notice], 1, 100, &[]);
    let picture = "[error] [client 192.0.2.1] File does not exist: /var/www/1.png, referer: http://www.example/gallery.html";
    check("apache2", &[picture], 1, 100, &[]);
    let tablet = "2026-11-28 00:00:00.000 WARNING (MainThread) [homeassistant.components.http.ban] Login attempt or request with invalid authentication from tablet.lan (192.0.2.1). Requested URL: '/api/websocket'. (x)";
    check("home-assistant", &[tablet], 10, 300, &[]);
    let expired = "192.0.2.1:40000 VERIFY ERROR: depth=0, error=certificate has expired: CN=alice, serial=1";
    check("openvpn", &[expired], 5, 300, &[]);
}
