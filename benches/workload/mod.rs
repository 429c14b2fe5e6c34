//! Lines of logs, the same ones each time. Attacks come from 20,000 addresses.

#![allow(dead_code)]

/// A linear congruential generator (Knuth's MMIX): the same throws every time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn attacker(&mut self) -> String {
        let number = self.throw(20_000);
        if number.is_multiple_of(50) {
            format!("2001:db8:{number:x}::1")
        } else {
            format!("198.18.{}.{}", number / 256, number % 256)
        }
    }
}

/// 30 % of the lines report attacks.
pub(super) fn auth(dice: &mut Dice, second: usize) -> String {
    let kind = dice.throw(100);
    auth_line(dice, second, kind)
}

/// The others of them.
pub(super) fn quiet(dice: &mut Dice, second: usize) -> String {
    let kind = 30 + dice.throw(70);
    auth_line(dice, second, kind)
}

fn auth_line(dice: &mut Dice, second: usize, kind: usize) -> String {
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (pid, port, who) = (dice.throw(4_000_000) + 300, dice.throw(60_000) + 1024, dice.attacker());
    let text = match kind {
        0..10 => format!("sshd[{pid}]: Failed password for root from {who} port {port} ssh2"),
        10..16 => format!("sshd[{pid}]: Invalid user oracle from {who} port {port}"),
        16..22 => format!("sshd[{pid}]: Failed password for invalid user oracle from {who} port {port} ssh2"),
        22..26 => {
            format!("sshd[{pid}]: Connection closed by authenticating user root {who} port {port} [preauth]")
        }
        26..30 => format!("sshd[{pid}]: Disconnected from invalid user oracle {who} port {port} [preauth]"),
        30..45 => format!(
            "sshd[{pid}]: Accepted publickey for alice from 10.0.{}.7 port {port} ssh2: ED25519 SHA256:abc",
            dice.throw(256)
        ),
        45..60 => {
            format!("sshd[{pid}]: pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)")
        }
        60..85 => format!("CRON[{pid}]: pam_unix(cron:session): session closed for user root"),
        _ => format!("systemd-logind[512]: New session {pid} of user alice."),
    };
    format!("Nov 21 {hour:02}:{minute:02}:{second:02} web01 {text}")
}

/// 5 % of the requests are attacks.
pub(super) fn access(dice: &mut Dice, second: usize) -> String {
    let time = format!("21/Nov/2026:{:02}:{:02}:{:02} +0000", second / 3600, second / 60 % 60, second % 60);
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let (who, size) = (dice.attacker(), dice.throw(60_000) + 150);
    match dice.throw(100) {
        0..3 => format!("{who} - - [{time}] \"GET /.env HTTP/1.1\" 404 153 \"-\" \"{agent}\""),
        3..4 => format!("{who} - admin [{time}] \"GET /private/ HTTP/1.1\" 401 188 \"-\" \"{agent}\""),
        4..5 => {
            format!("{who} - - [{time}] \"GET /phpmyadmin/index.php HTTP/1.1\" 404 153 \"-\" \"{agent}\"")
        }
        page => format!(
            "10.1.{page}.9 - - [{time}] \"GET /blog/{page} HTTP/1.1\" 200 {size} \"https://a.example/\" \"{agent}\""
        ),
    }
}

/// Half of the logins fail.
pub(super) fn ftp(dice: &mut Dice, second: usize) -> String {
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (pid, who) = (dice.throw(4_000_000) + 300, dice.attacker());
    let text = match dice.throw(100) {
        0..20 => format!("vsftpd[{pid}]: [anna] FAIL LOGIN: Client \"{who}\""),
        20..40 => {
            format!("proftpd[{pid}]: 127.0.0.1 ({who}[{who}]) - USER anna (Login failed): Incorrect password")
        }
        40..50 => format!("pure-ftpd: (?@{who}) [WARNING] Authentication failed for user [anna]"),
        50..70 => format!("vsftpd[{pid}]: [anna] OK LOGIN: Client \"10.0.0.7\""),
        70..85 => format!("proftpd[{pid}]: 127.0.0.1 (10.0.0.7[10.0.0.7]) - FTP session opened."),
        _ => "pure-ftpd: (anna@10.0.0.7) [NOTICE] /home/anna//a.txt downloaded  (1024 bytes, 4.33KB/sec)"
            .to_owned(),
    };
    format!("Nov 21 {hour:02}:{minute:02}:{second:02} web01 {text}")
}

/// As rsyslog's template of banstream writes a line of `auth` or the others.
pub(super) fn json(line: &str) -> String {
    let mut words = line.splitn(5, ' ');
    let [_, _, time, host, rest] = [(); 5].map(|()| words.next().unwrap_or_default());
    let (tag, message) = rest.split_once(' ').unwrap_or_default();
    let program = tag.split(['[', ':']).next().unwrap_or_default();
    let message = message.replace('"', "\\\"");
    format!(
        r#"{{"time":"2026-11-21T{time}+00:00","host":"{host}","facility":"auth","severity":"info","tag":"{tag}","program":"{program}","pid":"","uid":"0","exe":"","comm":"","unit":"","size":"","message":" {message}"}}"#
    )
}
