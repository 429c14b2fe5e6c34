use clap::CommandFactory;

use super::*;
use crate::control::BanSort;
use crate::model::{BanOrigin, Timestamp};

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[track_caller]
fn check(line: &str, want: Action) {
    let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string());
    assert_eq!(cli, Ok(Cli { action: want }));
}

fn remote() -> SocketArgs {
    SocketArgs { socket: "/run/banstream/control.sock".into(), json: false }
}

#[test]
fn a_command_line_says_what_to_do() {
    let files = ConfigArgs::default();
    let config = ConfigArgs { config: Some("/c".into()) };
    check("banstream run", Action::Run { files: files.clone(), dry_run: false, stdin: false });
    check(
        "banstream run --dry-run --config /c",
        Action::Run { files: config.clone(), dry_run: true, stdin: false },
    );
    let socket: PathBuf = "/run/banstream/ingest.sock".into();
    check("banstream omprog", Action::Omprog { socket, confirm: false, transactions: false });
    check(
        "banstream omprog --socket /s --confirm --transactions",
        Action::Omprog { socket: "/s".into(), confirm: true, transactions: true },
    );
    check(
        "banstream setup --undo --dry-run --json",
        Action::Setup {
            files: files.clone(),
            write: false,
            undo: true,
            dry_run: true,
            server_settings: false,
            json: true,
        },
    );
    check("banstream disable --config /c", Action::Disable { files: config.clone() });
    check("banstream check a b", Action::Check { paths: vec!["a".into(), "b".into()] });
    let program = Some("sshd".to_owned());
    check(
        "banstream explain --json --program sshd",
        Action::Explain { files: files.clone(), json: true, program },
    );
    let replay = |files, logs: &[&str], journal| {
        let logs = logs.iter().map(PathBuf::from).collect();
        Action::Replay { files, json: false, program: None, against: None, logs, journal }
    };
    check("banstream replay", replay(files.clone(), &["-"], JournalArgs::default()));
    check("banstream replay --config /c f g", replay(config, &["f", "g"], JournalArgs::default()));
    let journal = JournalArgs {
        journal: true,
        directory: Some("/j".into()),
        since: Some(When::Ago(Span::from_secs(30 * 86_400))),
        until: Some(When::At(Timestamp::from_secs(1_795_509_000))),
    };
    check(
        "banstream replay --journal --directory /j --since 30d --until 2026-11-24T08:30:00Z",
        replay(files, &["-"], journal),
    );
    let (since, until) = (When::Ago(Span::from_secs(7 * 86_400)), When::Ago(Span::ZERO));
    let files = ConfigArgs::default();
    check(
        "banstream report --html",
        Action::Report { files: files.clone(), since, until, json: false, html: true },
    );
    let (since, until) = (When::Ago(Span::from_secs(43_200)), When::At(Timestamp::from_secs(1_795_392_000)));
    check(
        "banstream report --since 12h --until 2026-11-23T00:00:00Z --json",
        Action::Report { files, since, until, json: true, html: false },
    );
    let args = LogArgs { follow: true, lines: Some(5), jail: Some("sshd".to_owned()), ..LogArgs::default() };
    check("banstream log -f -n 5 --jail sshd", Action::Log { args });
    let words = ["-s", "/s", "set", "sshd", "unbanip", "--report-absent", "::1"].map(str::to_owned);
    check(
        "banstream compat fail2ban-client -s /s set sshd unbanip --report-absent ::1",
        Action::Compat(Compat::Fail2banClient { words: words.into() }),
    );
    let program = "myapp".to_owned();
    check(
        "banstream grammar new --program myapp",
        Action::Grammar(GrammarCommand::New { programs: vec![program], output: None, force: false }),
    );
    let asked = SocketArgs { socket: "/s".into(), json: true };
    check("banstream status --socket /s --json", Action::Client(ClientCommand::Status { remote: asked }));
    let day = Some(BanLength(Some(Span::from_secs(86_400))));
    let ban = ClientCommand::Ban {
        remote: remote(),
        addresses: vec!["192.0.2.0/24".parse().unwrap()],
        from: None,
        length: day,
        reason: "scan".to_owned(),
        force: true,
    };
    check("banstream ban 192.0.2.9/24 --for 1d --reason scan --force", Action::Client(ban));
    let unban = |address: Option<&str>, inside, jail: Option<&str>, all| {
        let addresses =
            address.iter().flat_map(|line| line.split(' ')).map(|address| address.parse().unwrap());
        let (addresses, jail) = (addresses.collect(), jail.map(str::to_owned));
        Action::Client(ClientCommand::Unban { remote: remote(), addresses, from: None, inside, jail, all })
    };
    check("banstream unban --jail list", unban(None, false, Some("list"), false));
    check("banstream unban ::1 --jail sshd", unban(Some("::1"), false, Some("sshd"), false));
    let list = |length, reason: &str, write| {
        let (file, files, reason) = ("-".into(), ConfigArgs::default(), reason.to_owned());
        let (skip_wrong, json) = (false, false);
        Action::Import(ImportCommand::List { file, files, write, length, reason, skip_wrong, json })
    };
    check("banstream import list -", list(BanLength(Some(Span::from_secs(7 * 86_400))), "", false));
    check("banstream import list --write --for forever --reason x -", list(BanLength(None), "x", true));
    let bans = |args| Action::Client(ClientCommand::Bans { remote: remote(), args });
    let args = BansArgs { last: Some(20), ..BansArgs::default() };
    check("banstream bans --last 20", bans(args));
    let args = BansArgs {
        inside: Some("192.0.2.0/24".parse().unwrap()),
        kind: Some(BanOrigin::Auto),
        sort: Some(BanSort::Times),
        ..BansArgs::default()
    };
    check("banstream bans --in 192.0.2.0/24 --sort times --kind auto", bans(args));
    let notify = ClientCommand::Notify { remote: remote(), receiver: Some("ops".to_owned()) };
    check("banstream notify ops", Action::Client(notify));
    check("banstream unban ::1", unban(Some("::1"), false, None, false));
    check("banstream unban ::1 192.0.2.1", unban(Some("::1 192.0.2.1"), false, None, false));
    check("banstream unban ::/64 --inside", unban(Some("::/64"), true, None, false));
    check("banstream unban --all", unban(None, false, None, true));
    let offender = "192.0.2.1".parse().unwrap();
    check(
        "banstream why 192.0.2.1",
        Action::Client(ClientCommand::Why { remote: remote(), offender, verbose: false }),
    );
    let allow = |address: Option<&str>, length, comment: &str, remove: Option<&str>| {
        let parse = |text: &str| text.parse().unwrap();
        let (addresses, remove) = (address.map(parse).into_iter().collect(), remove.map(parse));
        Action::Client(ClientCommand::Allow {
            remote: remote(),
            addresses,
            from: None,
            length,
            comment: comment.to_owned(),
            force: false,
            remove,
        })
    };
    check("banstream allow", allow(None, None, "", None));
    let hours = Some(BanLength(Some(Span::from_secs(28_800))));
    check("banstream allow ::1 --for 8h --comment x", allow(Some("::1"), hours, "x", None));
    check("banstream allow --remove ::1", allow(None, None, "", Some("::1")));
    let web = |listen: &str, allow_changes| {
        let (socket, listen) = (client::SOCKET.into(), listen.parse().unwrap());
        Action::Web { socket, listen, allow_changes }
    };
    check("banstream web", web("127.0.0.1:9847", false));
    check("banstream web --allow-changes --listen [::1]:80", web("[::1]:80", true));
}

#[test]
fn a_time_that_is_none_is_told_what_to_write() {
    for (time, want) in [
        ("-1", "write `forever` for what has no end"),
        ("0", "a time must be longer than 0"),
        ("0s", "a time must be longer than 0"),
        ("never", "write a time such as `10m`, `1h 30m`, `2d`, a number of seconds, or `forever`"),
    ] {
        for line in ["ban ::1 --for", "allow ::1 --for", "import list f --for"] {
            let line = format!("banstream {line} {time}");
            let error = Cli::try_parse_from(line.split(' ')).expect_err(&line).to_string();
            assert!(error.contains(want), "{line}: {error}");
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for line in [
        "",
        "reload --keep --confirm 1m",
        "report --json --html",
        "setup --write --undo",
        "report --since yesterday",
        "allow --for 1h",
        "allow --remove ::1 ::1",
        "allow --comment x",
        "allow --force",
        "allow --force --remove ::1",
        "undo --list --force",
        "grammar",
        "unban",
        "unban --all ::1",
        "unban --all --jail list",
        "unban --all --inside",
        "unban --from f --inside",
        "unban --from f ::1",
        "ban --from f ::1",
        "allow --from f ::1",
        "allow --from f --remove ::1",
        "unban --jail a/b",
        "log --jail a/b",
        "bans --jail fleet:",
        "bans --jail fleet:a.b",
        "bans --jail other:web1",
        "log x",
        "import list",
        "import list --for 0 f",
        "replay --journal f",
        "replay --since 1d",
        "replay --since 1d f",
        "replay --until 1d f",
        "replay --directory d f",
        "import fail2ban --since 2d --write",
        "import fail2ban --force --write",
        "replay --journal --since yesterday",
        "top --interval 0.5s",
        "top --interval 1ms",
        "web --listen 0.0.0.0:9847",
        "web --listen 192.0.2.1:9847",
        "web --listen [::]:9847",
        "web --listen localhost:9847",
        "web --listen 9847",
        "bans --last -1",
        "bans --sort size",
        "bans --kind x",
        "bans --last 1 --limit 2",
        "bans --export --json",
        "ban",
        "ban x",
        "ban ::1 --for 0",
        "ban ::1 --for never",
    ] {
        let line = format!("banstream {line}");
        assert!(Cli::try_parse_from(line.trim().split(' ')).is_err(), "{line}");
    }
}
